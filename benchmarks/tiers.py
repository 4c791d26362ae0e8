"""Do scores move the right way on text whose level is known? Rank correlation of every score with the source's tier.

The tier is a person's judgement of a whole source (textbooks and encyclopedia high, film reviews in the middle, the raw
web mixed), so it is coarse: a score may be right about documents and still correlate little. Every source has the same
number of documents in it, drawn by their ids, so that no large one decides. The second column asks an easier question:
the chance that a textbook chapter scores above a log-in or sign-up page (0.5 is chance). Scores are turned so that
higher is better; those that are best in the middle are turned about their median.

Run it:  python -m benchmarks.tiers WORKSPACE      whose documents have `tier` and `meta.ptype` in their meta:
         gradatim rate 'web={kind: jsonl, path: web.jsonl.gz, fields: {meta: [tier, meta.ptype]}}' ... -w WORKSPACE
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from corpus.artifacts import Artifact, artifacts_in
from corpus.keyed_random import keyed_hashes
from corpus.rank_correlation import spearman
from corpus.scores import scores_of
from corpus.shards import read_schema, read_table
from raters.fasttext_evaluation import auc
from raters.normalise import Floats, aligned, fit

LEVELS = {"mixed": 0, "mid": 1, "mixed-pro": 1, "mid-high": 2, "formal": 2, "high": 3, "edu-high": 3,
          "technical-high": 3, "literary-high": 3}  # fmt: skip
TEXTBOOKS, FORMS = "openstax", "form"


def known_levels(documents: Artifact) -> tuple[Floats, np.ndarray, np.ndarray, np.ndarray]:
    """Of each document: its level (NaN: none given), whether it is in the sample, a textbook's, a form."""
    levels, sources, ids, textbooks, forms = [], [], [], [], []
    for path in documents.files():
        table = read_table(path, ["id", "source", "meta"])
        sources += table["source"].to_pylist()
        ids += table["id"].to_pylist()
        for source, meta in zip(table["source"].to_pylist(), table["meta"].to_pylist(), strict=True):
            facts = {entry["key"]: entry["value"] for entry in meta or ()}
            levels.append(LEVELS.get(facts.get("tier", ""), np.nan))
            textbooks.append(source == TEXTBOOKS)
            forms.append(facts.get("meta.ptype") == FORMS)
    return np.array(levels, np.float64), balanced(np.array(sources), ids), np.array(textbooks), np.array(forms)


def balanced(sources: np.ndarray, ids: list[str]) -> np.ndarray:
    """Mark as many documents of every source as the smallest one has, those with the lowest hashes of their ids."""
    hashes = keyed_hashes(0, ids)
    names, counts = np.unique(sources, return_counts=True)
    taken = np.zeros(len(ids), np.bool_)
    for name in names:
        rows = np.flatnonzero(sources == name)
        taken[rows[np.argsort(hashes[rows])[: counts.min()]]] = True
    return taken


def main() -> None:
    """Print a table of all scores of a workspace."""
    root = Path(sys.argv[1])
    documents = Artifact(root / "documents")
    levels, sample, textbooks, forms = known_levels(documents)
    print(f"{len(levels):,} documents, {np.isfinite(levels).sum():,} with a tier, {sample.sum():,} in the sample; "
          f"{textbooks.sum():,} textbook chapters, {forms.sum():,} forms")  # fmt: skip
    print(f"{'score':<48} {'scored':>8} {'better':<7} {'Spearman':>9} {'AUC':>6}")
    for artifact in artifacts_in(root):
        if artifact.manifest.kind != "scores" or documents.ref not in artifact.manifest.inputs:
            continue
        table = pa.concat_tables([read_table(path) for path in artifact.files()])
        for score in scores_of(read_schema(artifact.files()[0])):
            raw = table[score.name].to_numpy().astype(np.float64)
            turned = aligned(fit(raw, "quantile", score.name).apply(raw), score.better)
            known = np.isfinite(turned) & np.isfinite(levels) & sample
            found = spearman(turned[known], levels[known])
            rank = np.nan if found is None else found
            here = np.isfinite(turned)
            above = auc(turned[here & textbooks], turned[here & forms]) if (here & forms).any() else np.nan
            print(f"{score.name:<48} {here.sum():>8,} {score.better:<7} {rank:>9.3f} {above:>6.3f}")


if __name__ == "__main__":
    main()
