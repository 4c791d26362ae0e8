"""Orders in a workspace: the visits of a mixture, or every document of token shards once, arranged by a policy.

How it is used: `order_of_visits(...)` for a mixture; `order_of_tokens(shop, "orders/climb", tokens, policy)`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus.artifacts import Artifact, InputRef
from corpus.shards import TableForm, TableWriter, atomic_path, read_schema, read_table
from curriculum.arrange import stream
from curriculum.arrangement import Visits
from curriculum.order import ROW_GROUP_VISITS, encode_names, write_order_files
from curriculum.policies.base import OrderPolicy
from curriculum.policies.length_cycles import LengthCycles
from curriculum.power_pieces import cut_to_powers
from curriculum.visits import VISIT_SCHEMA
from pipelines.build import Workshop
from pipelines.candidates import candidate_table, scores_of, shard_names
from pipelines.phase_orders import score_columns_of
from pipelines.token_source import TokenSource

VISITS = "visits.parquet"
_FORM = TableForm(rows=ROW_GROUP_VISITS)


def order_of_visits(
    shop: Workshop,
    name: str,
    mixture: Artifact,
    policies: Mapping[str, OrderPolicy],
    phases: Sequence[str],
    sources: Sequence[TokenSource],
) -> Artifact:
    """Write the order of a mixture's visits: each phase by its policy, one after the other.

    Args:
        phases: in the order they are read.
        sources: the token shards that the mixture was drawn from, as it counts them.

    A score that the visits do not hold is looked up beside their documents, so another order does not draw again.

    Raises: OrderError where the visits cannot be arranged so; ConfigError for a score that no document has.
    """
    held = read_schema(mixture.files()[0]).names
    asked = [column for policy in policies.values() for column in score_columns_of(policy) if column not in held]
    scores = scores_of(sources, {column: (column,) for column in asked})
    shards = shard_names(sources)

    def make(folder: Path) -> dict[str, Any]:
        visits: Visits = mixture.files()
        if asked or any(_pieces(policy) for policy in policies.values()):
            visits = pa.concat_tables(read_table(path) for path in mixture.files()).unify_dictionaries()
            visits = in_pieces(_scored(visits, candidate_table(sources, scores), asked), policies)
        ordered = stream(visits, policies, phases=phases, engine=shop.order_engine())
        return write_order_files(folder, ordered, name=name, shards=shards)

    config = {**_policy_config(policies, phases), "shards": shards}
    inputs: list[Artifact | InputRef] = [mixture, *(source.tokens for source in sources), *scores.inputs]
    return shop.build_here(name, "order", config=config, inputs=inputs, make=make)


def _scored(visits: pa.Table, candidates: pa.Table, names: Sequence[str]) -> pa.Table:
    """The visits with scores of their documents."""
    import polars as pl

    documents = pl.DataFrame(candidates.select(["shard", "doc", *dict.fromkeys(names)]))
    places = pl.DataFrame(visits.select(["shard", "doc"]))
    found = places.join(documents, on=["shard", "doc"], how="left", maintain_order="left").to_arrow()
    for name in dict.fromkeys(names):
        visits = visits.append_column(name, found[name])
    return visits


def order_of_tokens(shop: Workshop, name: str, tokens: Artifact, policy: OrderPolicy) -> Artifact:
    """Write the order of an artifact of tokens: every document once. Raises ConfigError and OrderError."""
    sources = [TokenSource.of(tokens)]
    scores = scores_of(sources, {column: (column,) for column in score_columns_of(policy)})
    inputs: list[Artifact | InputRef] = [tokens, *scores.inputs]

    def make(folder: Path) -> dict[str, Any]:
        visits = in_pieces(each_once(candidate_table(sources, scores)), {"": policy})
        return write_order_files(
            folder, stream(visits, policy, engine=shop.order_engine()), name=name, shards=shard_names(sources)
        )

    config = {"policy": policy.model_dump(mode="json"), "shards": shard_names(sources)}
    return shop.build_here(name, "order", config=config, inputs=inputs, make=make)


def each_once(candidates: pa.Table) -> pa.Table:
    """Visits of every candidate once, in one phase without a name."""
    n = candidates.num_rows
    made = {
        "component": candidates["source"], "phase": encode_names(pa.array([""] * n, pa.string())),
        "visit": pa.array(np.zeros(n, np.int32)),
    }  # fmt: skip
    for field in VISIT_SCHEMA:
        if field.name in made:
            candidates = candidates.append_column(field, made[field.name])
    return candidates


def in_pieces(visits: pa.Table, policies: Mapping[str, OrderPolicy]) -> pa.Table:
    """The visits, those of phases whose policy asks for pieces cut into powers of two."""
    parts = []
    for phase, policy in policies.items():
        part = visits.filter(pc.equal(visits["phase"].cast(pa.string()), phase))
        if cut := _pieces(policy):
            part = cut_to_powers(part, shortest=cut[0], longest=cut[1])
        parts.append(part)
    return pa.concat_tables(parts)


def _pieces(policy: OrderPolicy) -> tuple[int, int] | None:
    return policy.pieces if isinstance(policy, LengthCycles) else None


def write_visits(path: Path, visits: pa.Table) -> dict[str, int]:
    """Write a table of visits; returns the totals."""
    with atomic_path(path) as temporary, TableWriter(temporary, visits.schema, _FORM) as writer:
        for batch in visits.to_batches(max_chunksize=ROW_GROUP_VISITS):
            writer.write(batch)
    return {"visits": visits.num_rows, "tokens": int(visits["length"].to_numpy().sum(dtype=np.int64))}


def _policy_config(policies: Mapping[str, OrderPolicy], phases: Sequence[str]) -> dict[str, Any]:
    """What an order's manifest says of its policy: one where all phases have the same, else one for each phase."""
    dumped = {phase: policies[phase].model_dump(mode="json") for phase in phases}
    one = next(iter(dumped.values()))
    return {"policy": one if all(policy == one for policy in dumped.values()) else dumped}
