"""Visits with every column that a policy may read, a strategy for them, and one for policies of every kind."""

from typing import get_args

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from pydantic import TypeAdapter

from curriculum.kinds import OnePhase, Policy
from curriculum.order import encode_names
from curriculum.policies.base import MergedPolicy, OrderPolicy
from curriculum.visits import VISIT_SCHEMA

POLICY = TypeAdapter(Policy)
KINDS: dict[str, type[OrderPolicy]] = {
    kind.model_fields["kind"].default: kind
    for kind in (*get_args(get_args(OnePhase)[0]), get_args(get_args(Policy)[0])[-1])
}
_LABELLED = {"by": ["level", "edu"], "subject": "topic"}
# What each kind needs beyond its defaults; every other kind needs `by`.
REQUIRED = {
    "shuffled": {}, "mixed": {}, "length_cycles": {}, "taxonomy_dfs": {},
    "banded": {"by": "edu", "bands": 3}, "curriculum_warmup": {"by": "edu", "tokens": 0.3},
    "gauss_key": {"by": "edu", "sigma": 0.1}, "gumbel_key": {"by": "edu", "scale": 0.1},
    "interleave": _LABELLED, "interleave_proportional": _LABELLED, "spiral": _LABELLED, "blocking": _LABELLED,
    "two_phase": {"by": "edu", "last_tokens": 0.3},
}  # fmt: skip


def policy_of(kind, **settings):
    """A policy of a kind, with what the kind needs."""
    return POLICY.validate_python({"kind": kind, **REQUIRED.get(kind, {"by": "edu"}), **settings})


def visits_table(n, *, seed=0, lengths=None, twice=True, scores=None, **columns):
    """Visits of n documents in three sources with scores (many ties), levels, topics, paths and places.

    With `twice`, every third document is visited again, so that equal documents meet. `scores`, `lengths` and further
    columns are given by document, and then every document is visited once.
    """
    rng = np.random.default_rng(seed)
    again = np.arange(0, n, 3) if twice and scores is None and not columns else np.arange(0)
    doc = np.r_[np.arange(n), again]
    visit = np.r_[np.zeros(n, np.int32), np.ones(len(again), np.int32)].astype(np.int32)
    length = rng.integers(1, 50, n) if lengths is None else np.asarray(lengths)
    edu = rng.integers(0, 6, n) if scores is None else np.asarray(scores)
    topics, paths = ["law", "maths", "music"], ["a", "a/x", "a/y", "b/x", "b/x/q", "c"]
    made = {
        "digest": rng.integers(-(2**63), 2**63, n)[doc], "shard": (doc % 2).astype(np.int32),
        "doc": (doc // 2).astype(np.int32), "start": (np.cumsum(length) - length)[doc],
        "length": length[doc].astype(np.int32), "rephrased": np.zeros(len(doc), bool),
        "inherited": np.zeros(len(doc), bool), "visit": visit,
        "source": _names([["web", "code", "books"][i] for i in rng.integers(0, 3, n)], doc),
        "component": _names(["all"] * n, doc), "phase": _names([""] * n, doc),
    }  # fmt: skip
    made = {**made, **{name: value for name, value in columns.items() if name in VISIT_SCHEMA.names}}
    table = pa.table({name: made[name] for name in VISIT_SCHEMA.names}, schema=VISIT_SCHEMA)
    extra = {
        "edu": pa.array(edu[doc].astype(np.float32)), "level": pa.array(rng.integers(0, 3, n)[doc].astype(np.int8)),
        "topic": pa.array([topics[i] for i in rng.integers(0, 3, n)[doc]]),
        "taxonomy_path": pa.array([paths[i] for i in rng.integers(0, 6, n)[doc]]),
        "place": pa.array(rng.random(n)[doc]),
    }  # fmt: skip
    extra = {**extra, **{name: value for name, value in columns.items() if name not in VISIT_SCHEMA.names}}
    for name, value in extra.items():
        table = table.append_column(name, value if isinstance(value, pa.Array) else pa.array(value))
    return table


def _names(values, rows):
    return encode_names(pa.array([values[row] for row in rows.tolist()], pa.string()))


@st.composite
def policies(draw, kinds=tuple(KINDS)):
    """A policy of any kind, its own settings drawn where they change the arrangement."""
    kind = draw(st.sampled_from(kinds))
    settings = {"seed": draw(st.integers(0, 2**64)), **draw(_own_settings(kind))}
    if draw(st.booleans()):
        settings["jitter"] = draw(st.integers(1, 20))
    if draw(st.booleans()):
        settings["noise"] = {"kind": draw(st.sampled_from(["gauss", "gumbel"])), "scale": draw(st.floats(0.001, 1))}
    if issubclass(KINDS[kind], MergedPolicy):
        settings["unit"] = draw(st.sampled_from(["tokens", "documents"]))
        settings["within"] = "source" if kind == "interleaved" else draw(st.sampled_from([None, "source"]))
        if "ascending" in KINDS[kind].model_fields:
            settings["ascending"] = draw(st.booleans())
    return policy_of(kind, **settings)


def _own_settings(kind):
    share = st.floats(0.01, 0.5)
    one_of = st.sampled_from
    own = {
        "folding": {"folds": st.integers(2, 6)}, "zigzag": {"folds": one_of([3, 5])},
        "banded": {"bands": st.integers(2, 30)},
        "segment": {"front": share, "back": share}, "spiral": {"passes": st.integers(2, 6)},
        "stair": {"pieces": st.integers(2, 3), "radius": st.floats(0.01, 0.1), "folds": st.integers(2, 4)},
        "saw": {"pieces": st.integers(2, 3), "radius": st.floats(0.01, 0.1), "folds": st.integers(2, 4)},
        "paced": {"pacing": one_of(["linear", "root2", "root3"]), "initial": share},
        "curriculum_warmup": {"tokens": share}, "gauss_key": {"sigma": share}, "gumbel_key": {"scale": share},
        "token_gumbel": {"temperature": st.floats(0.5, 2)},
        "length_cycles": {"schedule": one_of(["natural", "growing", "cycles"])},
        "two_phase": {
            "last_tokens": share,
            "first": one_of([policy_of("paced", jitter=3), policy_of("shuffled", seed=5)]),
            "last": one_of([policy_of("folding", noise={"scale": 0.1}), policy_of("taxonomy_dfs")]),
        },
    }  # fmt: skip
    return st.fixed_dictionaries(own.get(kind, {}))
