"""A curriculum whose unit is the packed sequence: sequences are arranged by a policy, each kept whole.

Sorting documents and packing them puts several scores into one sequence; packing first and sorting the sequences
by their mean score does not. A sequence stands before the policy as one visit: its score is the token-weighted mean
(`score`), its source the one that most of its tokens come from, its phase that of its first token, its length the
tokens it holds. Phases keep their sequence; the policy arranges within each.

How it is used: `write_pack(folder, order, config, name=name, sequences=arranged_sequences(order, packed, policy))`.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curriculum.arrange import stream
from curriculum.arrangement import Engine
from curriculum.duckdb_engine import DuckDBEngine
from curriculum.order import Order, codes_and_names, encode_names
from curriculum.packing import Packed, sequence_scores
from curriculum.policies.base import OrderPolicy
from curriculum.visits import VISIT_SCHEMA, place_digests

Ints = npt.NDArray[np.int64]


def arranged_sequences(order: Order, packed: Packed, policy: OrderPolicy, engine: Engine | None = None) -> Ints:
    """The sequences of a pack in a policy's order: their numbers, shape (n_sequences,), as `Packed.take` reads them.

    A policy that orders by the order's own score names it `score`. Raises OrderError where the sequences cannot be
    arranged so, as `curriculum.arrange.stream`.
    """
    phases, table = _sequences(order, packed)
    batches = stream(table, policy, phases=phases if len(phases) > 1 else (), engine=engine or DuckDBEngine())
    return np.concatenate([batch["start"].to_numpy() for batch in batches])


def _sequences(order: Order, packed: Packed) -> tuple[list[str], pa.Table]:
    """Phases in reading order, and a row a sequence: VISIT_SCHEMA and `score`, numbered by `start`."""
    visits = order.table(["shard", "doc", "start", "source", "phase", "visit", "score"])
    n, first = packed.n_sequences, packed.visit[packed.first[:-1]]
    lengths = np.add.reduceat(packed.length, packed.first[:-1])
    place = visits["start"].to_numpy()[first] + packed.offset[packed.first[:-1]]
    digest = place_digests(visits["shard"].to_numpy()[first], place, visits["visit"].to_numpy()[first])
    phase, phase_names = codes_and_names(visits["phase"])
    source = encode_names(pa.DictionaryArray.from_arrays(*_main_source(visits["source"], packed)))
    zeros, no = np.zeros(n, np.int32), np.zeros(n, np.bool_)
    made = {
        "digest": digest, "shard": zeros, "doc": np.arange(n, dtype=np.int32), "start": np.arange(n, dtype=np.int64),
        "length": lengths.astype(np.int32), "source": source, "component": source, "visit": zeros,
        "phase": encode_names(pa.DictionaryArray.from_arrays(phase[first], phase_names)),
        "rephrased": no, "inherited": no,
    }  # fmt: skip
    table = pa.table({name: made[name] for name in VISIT_SCHEMA.names}, schema=VISIT_SCHEMA)
    begins = [int(np.argmax(phase == code)) for code in range(len(phase_names))]
    in_order = [phase_names[code] for code in np.argsort(begins, kind="stable").tolist()]
    return in_order, table.append_column("score", sequence_scores(packed, visits["score"]))


def _main_source(sources: pa.ChunkedArray, packed: Packed) -> tuple[pa.Array, list[str]]:
    """For each sequence the source with most tokens in it, the first by name where two have as many."""
    codes, names = codes_and_names(sources)
    best, most = np.zeros(packed.n_sequences, np.int32), np.zeros(packed.n_sequences)
    sequence = packed.sequence_of_piece()
    for code in range(len(names)):
        held = np.bincount(sequence, np.where(codes[packed.visit] == code, packed.length, 0), packed.n_sequences)
        best, most = np.where(held > most, code, best).astype(np.int32), np.maximum(held, most)
    return pa.array(best), names
