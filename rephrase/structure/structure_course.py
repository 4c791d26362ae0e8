"""The course of the style `structure`: ask for a document's mind map, then write each leaf of it after the map.

A document longer than `limits.chunk` is mapped section by section, and a second kind of question arranges the sections'
scopes, in turns where there are many. Where no valid map comes, the title, or else the first words, is the only aspect.
What is made is the document itself, whole and in its order, with what the model found about its structure between the
pieces; so the gates that compare wordings have nothing to say, and the style switches them off (arXiv 2407.16724).
"""

import collections.abc
import dataclasses
from collections.abc import Iterator, Sequence

from rephrase.attempts import Attempt
from rephrase.chunking import Chunk, sentences
from rephrase.course import Ask, Bench, Course, Made, Source
from rephrase.gates.judging import Passage, Verdict, judge
from rephrase.generator import Answer, Generation
from rephrase.plain_course import chunk_document
from rephrase.structure.asking_maps import Numbered, Rounds, ask_maps
from rephrase.structure.mindmap import MAX_NAME, Leaf, MindMap, as_aspect, grafted, leaves, levels, shifted, single
from rephrase.structure.rendering import outline, path_name, rendered
from rephrase.structure.settings import StructureSteps
from rephrase.style import Style

TITLE_WORDS = 10
MAX_OUTLINE_LINES = 200
_Merging = collections.abc.Generator[list[Ask], list[Answer], MindMap]


def structure_course(source: Source, style: Style, bench: Bench) -> Course:
    """Sections, their maps, one map over them, and the leaves in order, each after its map.

    A document is given up for this run, its sections rejected with the reason, when a question about it stays without
    an answer that another run may have. Raises ConfigError as `chunk_document` does.
    """
    steps = StructureSteps.model_validate(style.steps)
    chunks, drops = chunk_document(source.text, style, bench.generator)
    if not chunks:
        return Made((), tuple(drops))
    units = [_units(source.text, chunk) for chunk in chunks]
    sections = [
        Numbered([source.text[unit.start : unit.end].strip() for unit in inside], chunk, index, "mindmap", fewest=2)
        for index, (chunk, inside) in enumerate(zip(chunks, units, strict=True))
    ]
    yield from ask_maps([section for section in sections if len(section.items) > 1], style, steps, bench)
    merges: list[Numbered] = []
    if not any(section.lost for section in sections):
        mindmap = yield from _merged(_section_maps(source, sections), merges, source, style, steps, bench)
    attempts = [attempt for asked in (*sections, *merges) for attempt in asked.attempts]
    if lost := next((asked.lost for asked in (*sections, *merges) if asked.lost), None):
        gone = [Attempt(chunk, index, lost, Verdict("", {}, lost.reason)) for index, chunk in enumerate(chunks)]
        return Made((*attempts, *gone), tuple(drops))
    flat = [unit for inside in units for unit in inside]
    written = _written(list(leaves(mindmap)), flat, mindmap, source, style, steps, bench)
    valid = all(asked.mindmap for asked in (*sections, *merges) if len(asked.items) > 1)
    return Made((*attempts, *written), tuple(drops), _meta(mindmap, source, valid=valid))


def _units(text: str, chunk: Chunk) -> list[Chunk]:
    """The sentences of a chunk that is not blank; together they are the chunk, and none of them is blank."""
    units: list[Chunk] = []
    start = chunk.start
    for end in (chunk.start + offset for offset in sentences(text[chunk.start : chunk.end])):
        if text[start:end].strip():
            units.append(Chunk(start, end, chunk.hard_split))
            start = end
    units[-1] = Chunk(units[-1].start, chunk.end, chunk.hard_split)
    return units


def _section_maps(source: Source, sections: Sequence[Numbered]) -> list[MindMap]:
    """One map a section, its ranges counted over the whole document; the title or first words where there is none."""
    maps, at = [], 0
    for index, section in enumerate(sections):
        words = " ".join(" ".join(section.items).split()[:TITLE_WORDS])
        title = " ".join(source.meta.get("title", "").split()) if index == 0 else ""
        name = (title or words)[:MAX_NAME].strip()
        maps.append(shifted(section.mindmap or single(name, len(section.items)), at))
        at += len(section.items)
    return maps


def _merged(
    maps: list[MindMap], asked: list[Numbered], source: Source, style: Style, steps: StructureSteps, bench: Bench
) -> _Merging:
    """One map over all sections, bottom-up: each turn arranges runs of neighbours, until one map is left."""
    merging = style.model_copy(update={"template": steps.merge_template})
    while len(maps) > 1:
        runs = [maps[at : at + steps.merge_at_once] for at in range(0, len(maps), steps.merge_at_once)]
        whole = Chunk(0, len(source.text))
        turn = [
            Numbered([one.scope for one in run], whole, len(asked) + i, "merge", fewest=1) for i, run in enumerate(runs)
        ]
        asked += turn
        yield from _ask_turn(turn, merging, steps, bench)
        maps = [
            run[0] if len(run) == 1 else grafted(one.mindmap, run) if one.mindmap else _side_by_side(run)
            for one, run in zip(turn, runs, strict=True)
        ]
    return maps[0]


def _ask_turn(turn: list[Numbered], style: Style, steps: StructureSteps, bench: Bench) -> Rounds:
    yield from ask_maps([one for one in turn if len(one.items) > 1], style, steps, bench)


def _side_by_side(run: Sequence[MindMap]) -> MindMap:
    """The maps of a run under the scope of its first, where the model arranged nothing."""
    return MindMap(run[0].scope, tuple(as_aspect(one) for one in run))


def _written(
    found: list[Leaf], units: list[Chunk], mindmap: MindMap, source: Source, style: Style, steps: StructureSteps,
    bench: Bench,
) -> Iterator[Attempt]:  # fmt: skip
    """An attempt a leaf, in order. Nothing was asked for it, so its answer has no tokens."""
    count = bench.generator.count_tokens
    english = (style.language or source.lang or "en").lower().startswith("en")
    for index, leaf in enumerate(found):
        first, last = units[leaf.first - 1], units[leaf.last - 1]
        chunk = Chunk(first.start, last.end, first.hard_split or last.hard_split)
        body = source.text[chunk.start : chunk.end].strip()
        text = rendered(
            body, leaf, mindmap, key=f"{source.id}/{chunk.start}/{bench.rollout}", seed=bench.seed, english=english,
            share=steps.prefix_share, count_tokens=count,
        )  # fmt: skip
        made = Generation(text, "stop", 0, 0)
        verdict = judge(made, Passage(body, source.lang, count), style, bench.instruments)
        yield Attempt(chunk, index, made, dataclasses.replace(verdict, text=text))


def _meta(mindmap: MindMap, source: Source, *, valid: bool) -> dict[str, str]:
    above = source.meta.get("taxonomy_path", "")
    return {
        "taxonomy_path": "/".join(filter(None, [above, path_name((mindmap.scope,))])),
        "mindmap": outline(mindmap, MAX_OUTLINE_LINES),
        "n_levels": str(levels(mindmap)),
        "valid": "true" if valid else "false",
    }
