"""Weights files: exact round trips, and every way a file can be wrong named in its error."""

import json

import pytest

from corpus.errors import ConfigError
from raters.weights_file import Evidence, WeightsFile, read_weights, write_weights

GOOD = {
    "scores": ["education", "length"],
    "weights": [0.7, 0.3],
    "directions": {"length": "middle"},
    "evidence": {"summary": "ridge on 64 proxies: not distinguishable from equal weights", "measured": {"rho": 0.1}},
}


def test_a_file_round_trips_and_its_checksum_is_that_of_its_content(tmp_path):
    weights = WeightsFile(
        scores=("a", "b"), weights=(1, 0), evidence=Evidence(summary="by hand", measured={"n": [1, None, {"x": 0.5}]})
    )
    write_weights(tmp_path / "w.json", weights)
    assert read_weights(tmp_path / "w.json") == weights
    (tmp_path / "w.json").write_text(json.dumps(json.loads((tmp_path / "w.json").read_text()), sort_keys=True))
    assert read_weights(tmp_path / "w.json").checksum == weights.checksum
    assert weights.model_copy(update={"weights": (0.5, 0.5)}).checksum != weights.checksum


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": [0.7]}, "1 weights for 2 scores"),
        ({"weights": [0.7, 0.2, 0.1]}, "3 weights for 2 scores"),
        ({"scores": ["education", "education"]}, "'education' is named 2 times"),
        ({"weights": [0.7, -0.3]}, "weights.1.*greater than or equal to 0"),
        ({"weights": [0.7, float("nan")]}, "weights.1.*(finite|greater)"),
        ({"weights": [0.7, float("inf")]}, "weights.1.*finite"),
        ({"weights": [0, 0]}, "no weight is above 0"),
        ({"directions": {"lenght": "low"}}, "'lenght'.*did you mean 'length'"),
        ({"directions": {"length": "up"}}, "directions.length"),
        ({"normalizer": "quantile"}, "did you mean 'normaliser'"),
        ({"evidence": None}, "evidence"),
        ({"format": 2}, "format"),
    ],
)
def test_each_fault_is_named(tmp_path, change, message):
    (tmp_path / "w.json").write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(ConfigError, match=message) as raised:
        read_weights(tmp_path / "w.json")
    assert "w.json" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not a weights file"), ("[1, 2]", "not a weights file(.|\n)*list"), ('{"a": 1}', "found    keys a"),
     ('{"weights": [1], "weights": [2]}', "'weights' is written twice")],
)  # fmt: skip
def test_what_is_no_weights_file_is_refused(tmp_path, text, message):
    (tmp_path / "w.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_weights(tmp_path / "w.json")
    with pytest.raises(ConfigError, match="no weights file here"):
        read_weights(tmp_path / "none.json")
