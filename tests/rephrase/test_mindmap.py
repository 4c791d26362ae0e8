"""A mind map is accepted exactly when its first level covers every sentence once; a hostile answer costs nothing."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rephrase.structure.faults import MapFault
from rephrase.structure.mindmap import (
    Aspect,
    Leaf,
    MindMap,
    checked,
    grafted,
    leaves,
    levels,
    read_map,
    shifted,
    single,
)
from rephrase.structure.rendering import MAP_WORDINGS, PATH_WORDINGS, outline, path_name, rendered
from rephrase.structure.safe_yaml import MAX_CHARACTERS, read_yaml


def a_map(*rows: str) -> str:
    return "\n".join(["scope: ships", "aspects:", *rows])


def spans(mindmap: MindMap) -> list[tuple[str, int, int]]:
    return [(aspect.name, aspect.first, aspect.last) for aspect in mindmap.aspects]


GOLDEN = """scope: the steam engine
aspects:
- name: early pumps
  range: [1, 3]
- name: engines that turn wheels
  range: [1, 99]
  aspects:
  - name: the crank
    range: 4-6
  - name: the governor
    range: [7, 9]
"""


def test_golden_map():
    found = checked(read_map(GOLDEN), 9)
    crank, governor = Aspect("the crank", 4, 6), Aspect("the governor", 7, 9)
    wheels = Aspect("engines that turn wheels", 4, 9, (crank, governor))
    assert found == MindMap("the steam engine", (Aspect("early pumps", 1, 3), wheels))
    assert checked(read_map(f"Here it is:\n```yaml\n{GOLDEN}```\nDone."), 9) == found
    assert levels(found) == 2
    assert [(leaf.first, leaf.last, path_name(leaf.path)) for leaf in leaves(found)] == [
        (1, 3, "the steam engine/early pumps"),
        (4, 6, "the steam engine/engines that turn wheels/the crank"),
        (7, 9, "the steam engine/engines that turn wheels/the governor"),
    ]
    assert outline(found) == (
        "the steam engine\n- early pumps\n- engines that turn wheels\n  - the crank\n  - the governor"
    )


@pytest.mark.parametrize(
    ("ranges", "fault"),
    [
        ([(1, 3), (4, 7), (8, 9)], None),
        ([(1, 9)], None),
        ([(1, 1), (2, 2), (3, 9)], None),
        ([(1, 3), (5, 9)], "gap"),
        ([(1, 4), (4, 9)], "overlap"),
        ([(1, 9), (4, 9)], "overlap"),
        ([(4, 9), (1, 3)], "start"),
        ([(2, 9)], "start"),
        ([(1, 3), (4, 8)], "end"),
        ([(1, 3), (4, 10)], "end"),
    ],
)
def test_the_first_level_is_contiguous_from_the_first_sentence_to_the_last(ranges, fault):
    found = read_map(a_map(*(f"- {{name: part {i}, range: [{a}, {b}]}}" for i, (a, b) in enumerate(ranges))))
    if fault is None:
        assert [(aspect.first, aspect.last) for aspect in checked(found, 9).aspects] == ranges
    else:
        with pytest.raises(MapFault) as error:
            checked(found, 9)
        assert error.value.fault == fault


@pytest.mark.parametrize("name", ["References", "See also", "External links and further reading", "Bibliography"])
def test_trailing_references_reach_to_the_end(name):
    rows = ["- {name: hulls, range: [1, 5]}", f"- {{name: {name}, range: [6, 7]}}"]
    assert spans(checked(read_map(a_map(*rows)), 12))[-1] == (name, 6, 12)
    for n, other in ((6, name), (12, "Sails")):  # never shortened, and nothing else is stretched
        with pytest.raises(MapFault, match="end"):
            checked(read_map(a_map(rows[0], f"- {{name: {other}, range: [6, 7]}}")), n)
    first = a_map(f"- {{name: {name}, range: [1, 2]}}", "- {name: hulls, range: [5, 9]}")
    with pytest.raises(MapFault, match="gap"):
        checked(read_map(first), 9)


def test_parts_of_one_sentence_are_removed_and_their_sentences_stay():
    text = a_map(
        "- name: hulls",
        "  aspects:",
        "  - {name: wood, range: [1, 2]}",
        "  - {name: iron, range: [3, 3]}",
        "  - {name: steel, range: [4, 6]}",
        "- {name: sails, range: [7, 7]}",
    )
    found = checked(read_map(text), 7)
    assert found.aspects[0].parts == (Aspect("wood", 1, 2), Aspect("steel", 4, 6))
    assert spans(found)[1] == ("sails", 7, 7)  # the first level may have one sentence
    assert [(leaf.first, leaf.last, leaf.path[-1]) for leaf in leaves(found)] == [
        (1, 2, "wood"), (3, 3, "hulls"), (4, 6, "steel"), (7, 7, "sails"),
    ]  # fmt: skip
    assert len(checked(read_map(text), 7, fewest=1).aspects[0].parts) == 3


def test_a_parent_has_the_range_of_its_parts():
    text = a_map(
        "- name: hulls",
        "  range: [1, 9]",
        "  aspects:",
        *(f"  - {{name: p{i}, range: [{2 * i + 1}, {2 * i + 2}]}}" for i in range(3)),
    )
    assert spans(checked(read_map(text), 6)) == [("hulls", 1, 6)]
    with pytest.raises(MapFault, match="end"):
        checked(read_map(text), 9)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("", "shape"),
        ("I am sorry, I cannot do that.", "shape"),
        ("scope: ships", "shape"),
        ("scope: ships\naspects: []", "shape"),
        ("scope: ships\naspects: {name: hulls}", "shape"),
        ("scope: ships\naspects: [hulls]", "shape"),
        ("aspects:\n- {name: hulls, range: [1, 2]}", "name"),
        (a_map("- {range: [1, 2]}"), "name"),
        (a_map(f"- {{name: {'x' * 161}, range: [1, 2]}}"), "name"),
        (a_map('- {name: "a\\ab", range: [1, 2]}'), "name"),
        (a_map("- {name: hulls}"), "range"),
        (a_map("- {name: hulls, range: [2, 1]}"), "range"),
        (a_map("- {name: hulls, range: [0, 1]}"), "range"),
        (a_map("- {name: hulls, range: [1, 2, 3]}"), "range"),
        (a_map("- {name: hulls, range: all}"), "range"),
        (a_map("- {name: hulls, range: {start: 1}}"), "range"),
        (a_map("- {name: hulls, range: -1}"), "range"),
        (a_map(f"- {{name: hulls, range: [1, {'9' * 9000}]}}"), "range"),
        (a_map("- name: a", "  aspects:", "  - {name: b, range: [1, 4]}", "  - {name: c, range: [4, 6]}"), "overlap"),
        (a_map("- name: a", "  aspects: none"), "shape"),
        (a_map(*(f"{'  ' * i}- name: a\n{'  ' * i}  aspects:" for i in range(8))), "shape"),
    ],
)  # fmt: skip
def test_what_is_no_map_is_named(answer, fault):
    with pytest.raises(MapFault) as error:
        read_map(answer)
    assert error.value.fault == fault


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
HOSTILE = {
    "aliases that multiply": LAUGHS,
    "an anchor": "scope: &s ships\naspects: []",
    "itself": "&a [*a]",
    "a tag": "scope: !!python/object/apply:os.system [echo]",
    "a private tag": "scope: !x ships",
    "brackets": "[" * 15_000,
    "braces": "{a: " * 4_000,
    "dashes": "- " * 9_000,
    "indents": "\n".join(" " * i + "a:" for i in range(150)),
    "size": "scope: " + "x" * 5_000_000,
    "nodes": "aspects: [" + "a," * 5_000 + "]",
    "a fence without end": "```\n" + "a: b\n" * 1_000_000,
    "bad escape": 'scope: "\\UFFFFFFFF"',
    "bad version": "%YAML 1." + "1" * 9_000 + "\n---\na: b",
    "merge key": "scope: {<<: *x}",
    "control characters": "scope: \x00\x07",
    "half a character": "scope: \ud800",
    "key that is a list": "? [a]\n: b",
    "two documents": "a: b\n---\nc: d",
    "tabs": "scope:\n\t- x",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_ends_at_once(name):
    start = time.process_time()
    with pytest.raises(MapFault) as error:
        read_yaml(HOSTILE[name])
    assert error.value.fault == "yaml"
    assert time.process_time() - start < 2


def test_scalars_stay_text():
    wild = "scope: 2024-02-31\naspects:\n- {name: 1:30:00, range: [1, 2]}\n- {name: yes, range: '3 to 4'}"
    assert checked(read_map(wild), 4) == MindMap("2024-02-31", (Aspect("1:30:00", 1, 2), Aspect("yes", 3, 4)))
    assert len(read_yaml("a: " + "b" * (MAX_CHARACTERS - 3))["a"]) == MAX_CHARACTERS - 3


@given(
    st.text(max_size=400) | st.lists(st.sampled_from(list("-:[]{}&*!|>'\"#%@`, \nab12?")), max_size=120).map("".join)
)
def test_any_text_is_a_map_or_a_fault(text):
    try:
        found = read_map(text)
    except MapFault:
        return
    assert found.aspects


@st.composite
def trees(draw, first=1, level=1):
    """Aspects that cover sentences without a gap, as text and as values."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(["hull", "sail", "mast", "keel"]))
        if level < 3 and draw(st.booleans()):
            parts = draw(trees(first, level + 1))
            found.append(Aspect(name, first, parts[-1].last, parts))
        else:
            found.append(Aspect(name, first, first + draw(st.integers(0, 3))))
        first = found[-1].last + 1
    return tuple(found)


def written(aspects, depth=0) -> str:
    pad = "  " * depth
    rows = []
    for aspect in aspects:
        rows.append(f"{pad}- name: {aspect.name}\n{pad}  range: [{aspect.first}, {aspect.last}]\n")
        rows.append(f"{pad}  aspects:\n{written(aspect.parts, depth + 1)}" if aspect.parts else "")
    return "".join(rows)


@given(trees())
def test_a_contiguous_tree_is_accepted_and_its_leaves_cover_the_text_once(aspects):
    n = aspects[-1].last
    found = checked(read_map(f"scope: ships\naspects:\n{written(aspects)}"), n)
    covered = list(leaves(found))
    assert covered[0].first == 1
    assert covered[-1].last == n
    assert all(after.first == before.last + 1 for before, after in pairwise(covered))
    assert all(leaf.path[0] == "ships" and len(leaf.path) <= 1 + levels(found) for leaf in covered)
    for wrong in (n - 1, n + 1):
        with pytest.raises(MapFault, match="end"):
            checked(read_map(f"scope: ships\naspects:\n{written(aspects)}"), wrong)


def test_a_map_over_sections_takes_the_sections_maps_in():
    sections = [
        MindMap("wood", (Aspect("oak", 1, 2), Aspect("fir", 3, 4))),
        single("iron", 3),
        MindMap("cloth", (Aspect("flax", 1, 2),)),
    ]
    placed = [shifted(one, by) for one, by in zip(sections, (0, 4, 7), strict=True)]
    over = checked(MindMap("ships", (Aspect("hulls", 1, 2), Aspect("sails", 3, 3))), 3, fewest=1)
    whole = grafted(over, placed)
    hulls = (Aspect("wood", 1, 4, (Aspect("oak", 1, 2), Aspect("fir", 3, 4))), Aspect("iron", 5, 7))
    assert whole == MindMap("ships", (Aspect("hulls", 1, 7, hulls), Aspect("sails", 8, 9)))
    assert [(leaf.first, leaf.last) for leaf in leaves(whole)] == [(1, 2), (3, 4), (5, 7), (8, 9)]
    deep = MindMap("ships", (Aspect("all", 1, 3, (Aspect("hull", 1, 2),)),))
    assert [part.name for part in grafted(deep, placed).aspects[0].parts] == ["hull", "cloth"]
    assert [leaf.path for leaf in leaves(single("a title", 4))] == [("a title",)]


BODY = " ".join(f"word{i}" for i in range(400))
SHIPS = MindMap("ships", (Aspect("hulls", 1, 4, (Aspect("wood", 1, 2), Aspect("iron", 3, 4))), Aspect("sails", 5, 6)))
IRON = Leaf(3, 4, ("ships", "hulls", "iron"))


def n_words_of(text: str) -> int:
    return len(text.split())


def prefix_of(text: str, body: str) -> str:
    assert text.endswith(body)
    return text.removesuffix(body).strip()


@pytest.mark.parametrize("n_words", [0, 1, 5, 20, 60, 150, 400])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.15, 0.5])
def test_the_prefix_keeps_to_its_share_and_the_text_is_whole(n_words, share):
    body = " ".join(BODY.split()[:n_words])
    for i in range(40):
        text = rendered(
            body, IRON, SHIPS, key=f"d/{i}", seed=1, english=i % 2 == 0, share=share, count_tokens=n_words_of
        )  # fmt: skip
        prefix = prefix_of(text, body)
        assert len(prefix.split()) <= share * len(text.split())


def test_a_short_leaf_gets_less_of_the_map_and_a_long_one_all_of_it():
    def prefixes(n_words):
        body = " ".join(BODY.split()[:n_words])
        options = {"seed": 0, "english": True, "share": 0.15, "count_tokens": n_words_of}
        return {prefix_of(rendered(body, IRON, SHIPS, key=f"{i}", **options), body) for i in range(300)}

    whole = prefixes(400)
    assert len(whole) == len(MAP_WORDINGS)
    assert all("- hulls\n  - wood\n  - iron\n- sails" in prefix and "iron" in prefix for prefix in whole)
    paths = prefixes(50)
    assert "ships > hulls > iron" in paths
    assert 1 < len(paths) <= len(PATH_WORDINGS)
    assert prefixes(6) == {"iron"}
    assert prefixes(2) == {""}


def test_a_text_is_not_announced_by_its_own_first_words():
    options = {"key": "a", "seed": 0, "english": True, "share": 0.5, "count_tokens": n_words_of}
    name = " ".join(BODY.split()[:5])
    assert rendered(BODY.replace("word1 ", "word1\n"), Leaf(1, 9, (name,)), single(name, 9), **options) == BODY.replace(
        "word1 ", "word1\n"
    )
    assert rendered(BODY, Leaf(1, 9, ("ships",)), single("ships", 9), **options) != BODY


def test_the_wording_depends_on_seed_and_key_alone():
    def one(key, seed):
        return rendered(BODY, IRON, SHIPS, key=key, seed=seed, english=True, share=0.15, count_tokens=len)

    assert one("a", 0) == one("a", 0)
    assert len({one("a", seed) for seed in range(30)}) > 5
    bare = rendered(BODY, IRON, SHIPS, key="a", seed=0, english=False, share=0.3, count_tokens=len)
    assert prefix_of(bare, BODY) == "- hulls\n  - wood\n  - iron\n- sails\n\nships > hulls > iron"


def test_a_long_outline_says_what_it_leaves_out():
    assert outline(SHIPS, 5) == outline(SHIPS)
    assert outline(SHIPS, 3) == "ships\n- hulls\n... (3 more)"


def test_a_slash_in_a_name_is_no_border_of_a_path():
    assert path_name(("TCP/IP", "a / b")) == "TCP-IP/a - b"
