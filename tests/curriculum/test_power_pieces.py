"""Documents cut into powers of two: no token lost, none moved, every piece of the right length."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import ConfigError
from curriculum.arrange import arrange
from curriculum.power_pieces import cut_to_powers
from tests.curriculum.making import properties
from tests.curriculum.policy_cases import policy_of, visits_table


def test_golden_binary_length():
    pieces = cut_to_powers(visits_table(1, scores=[0], lengths=[700]))
    assert pieces["length"].to_pylist() == [512, 128, 32, 16, 8, 4]
    assert pieces["start"].to_pylist() == [0, 512, 640, 672, 688, 696]
    short = cut_to_powers(visits_table(1, scores=[0], lengths=[700]), shortest=64, longest=256)
    assert short["length"].to_pylist() == [256, 256, 128, 60]


@properties
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=30), st.integers(0, 6), st.integers(0, 6))
def test_every_token_stays_where_it_is(lengths, low, more):
    shortest, longest = 2**low, 2 ** (low + more)
    visits = visits_table(len(lengths), scores=np.zeros(len(lengths)), lengths=lengths)
    pieces = cut_to_powers(visits, shortest=shortest, longest=longest)
    assert pieces.schema.equals(visits.schema)
    start, length = (pieces[name].to_numpy().astype(int) for name in ("start", "length"))
    assert np.array_equal(start[1:], (start + length)[:-1])  # the documents follow each other in this table
    assert start[0] + length.sum() == sum(lengths)
    powers = {2**j for j in range(low, low + more + 1)}
    rest = length[~np.isin(length, list(powers))]
    assert (rest < shortest).all()
    assert len(rest) <= len(lengths)


def test_pieces_can_be_arranged():
    pieces = cut_to_powers(visits_table(50, seed=2))
    order = arrange(pieces, policy_of("length_cycles", schedule="growing"))
    assert order.num_rows == pieces.num_rows
    assert order["length"].to_pylist() == sorted(pieces["length"].to_pylist())


@pytest.mark.parametrize("ends", [(3, 8), (8, 4), (0, 8), (1, 100)])
def test_lengths_that_are_no_powers(ends):
    with pytest.raises(ConfigError, match=rf"powers of two(.|\n)*shortest {ends[0]}, longest {ends[1]}"):
        cut_to_powers(visits_table(1), shortest=ends[0], longest=ends[1])
