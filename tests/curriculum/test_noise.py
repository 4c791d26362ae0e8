"""Noise by table: the values every machine must have, their distribution, and exact fractions in SQL."""

from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from curriculum.duckdb_engine import DuckDBEngine
from curriculum.exact import double, floor_div, fraction, half_even
from curriculum.noise import noise_table
from tests.curriculum.making import properties

few = properties.__class__(parent=properties, max_examples=20)


@pytest.mark.parametrize(("kind", "checksum"), [("gauss", "188bb9f45cbd7abc"), ("gumbel", "91909d69f30c2795")])
def test_the_table_is_the_same_everywhere(kind, checksum):
    values = noise_table(kind, "z")["z"].to_numpy()
    assert (np.diff(values) >= 0).all()
    middle = (np.arange(2**16) + 0.5) / 2**16
    exact = np.array([NormalDist().inv_cdf(u) for u in middle]) if kind == "gauss" else -np.log(-np.log(middle))
    assert np.abs((exact * 1e6) % 1 - 0.5).min() > 1e-7  # far more than a logarithm differs between machines
    assert xxhash.xxh3_64_hexdigest(values.astype("<i8").tobytes()) == checksum


def test_the_tables_have_their_distributions():
    z, g = (noise_table(kind, "z")["z"].to_numpy() / 1e6 for kind in ("gauss", "gumbel"))
    assert z.mean() == pytest.approx(0, abs=1e-6)
    assert z.std() == pytest.approx(1, abs=1e-3)
    assert np.mean(z < 1.959964) == pytest.approx(0.975, abs=1e-4)
    assert g.mean() == pytest.approx(np.euler_gamma, abs=1e-3)
    assert g.var() == pytest.approx(np.pi**2 / 6, abs=5e-3)


@few
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=20), st.integers(1, 10**6))
def test_sql_rounds_as_python_does(values, denominator):
    values = [*values, denominator // 2, 3 * denominator // 2, 5 * (denominator // 2)]
    sql = f"SELECT {half_even('x', denominator)} AS even, {floor_div('x', denominator)} AS low FROM visits"
    got = DuckDBEngine(threads=1).query(sql, pa.table({"x": pa.array(values, pa.int64())}))
    assert got["even"].to_pylist() == [round(Fraction(x, denominator)) for x in values]
    assert got["low"].to_pylist() == [x // denominator for x in values]


@few
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
def test_sql_reads_every_bit_of_a_float(values):
    shown = ", ".join(f"{double(value)} AS c{i}" for i, value in enumerate(values))
    got = DuckDBEngine(threads=1).query(f"SELECT {shown} FROM visits", pa.table({"x": [1]}))
    assert [column[0].as_py() for column in got.columns] == values


def test_shares_are_what_their_decimals_say():
    assert fraction(0.29) * 100 == 29
    assert fraction(0.225) * 20 == Fraction(9, 2)
    assert fraction(1 / 3) == Fraction(1, 3)
    assert fraction(1e-6) == Fraction(1, 10**6)
