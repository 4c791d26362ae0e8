"""The parts of a bundle: orders and tokens that read as the originals do, stand-ins that do what their packages do."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import ArtifactError, ConfigError
from curriculum.order import Order
from pipelines.experiments.arms import arms_of, runs_of
from pipelines.experiments.bundle_arrays import PackedOrder, Spans, gathered, packed, spans_of, unpacked
from pipelines.experiments.bundle_code import RUNTIME, code_files, code_modules, imports_of, source_of
from pipelines.experiments.reading import write_run_order
from pipelines.experiments.study import load_study
from tests.pipelines.experiments import lean_python
from tests.pipelines.experiments.small_study import run_of, small_study
from trainer_hooks.plan import Plan
from trainer_hooks.resolution import resolve

whole = st.integers(0, 2**34)


@given(st.lists(whole, max_size=200), st.booleans())
def test_numbers_come_back(values, planes):
    found = unpacked(packed(np.array(values, np.int64), planes=planes))
    assert found.tolist() == values


def test_other_bytes_are_no_array():
    for data in (b"", b"{}\n", b"not json\nxyz", packed(np.arange(9))[:-5]):
        with pytest.raises(ArtifactError, match="not an array of a bundle"):
            unpacked(data)


spans = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), min_size=1, max_size=30)


@given(st.lists(spans, min_size=1, max_size=3), st.data())
def test_packed_orders_read_the_tokens_of_their_visits(orders, data):
    shards = [np.arange(40, dtype=np.uint16), np.arange(100, 200, dtype=np.uint16)]
    line = np.concatenate(shards)
    asked = []
    for order in orders:  # no visit reaches into another shard
        rows = [(start, min(length, (40 if start < 40 else 140) - start)) for start, length in order]
        asked.append(Spans(*(np.array(column, np.int64) for column in zip(*rows, strict=True))))
    found, numbers = spans_of(asked)
    tokens, pieces = gathered(found, shards)
    visited = {at for one in asked for s, n in zip(one.start, one.length, strict=True) for at in range(s, s + n)}
    assert len(tokens) == len(visited)
    for one, number in zip(asked, numbers, strict=True):
        stream = np.concatenate([line[s : s + n] for s, n in zip(one.start, one.length, strict=True)])
        order = PackedOrder(pieces, number, "order")
        assert order.n_tokens == len(stream)
        a = data.draw(st.integers(0, len(stream) - 1))
        b = data.draw(st.integers(a + 1, len(stream)))
        assert order.read(a, b, [tokens]).tolist() == stream[a:b].tolist()


def test_a_packed_order_answers_as_the_order_does(study_data, tmp_path):
    order = write_run_order(study_data, run_of(small_study(), "ascending.constant"), tmp_path / "order")
    table = Order.open(tmp_path / "order").table(["shard", "start", "length"])
    arrays = study_data.token_arrays()
    shard, start, length = (table[name].to_numpy().astype(np.int64) for name in ("shard", "start", "length"))
    found, (numbers,) = spans_of([Spans(np.cumsum([0, *map(len, arrays)])[shard] + start, length)])
    tokens, pieces = gathered(found, arrays)
    ours = PackedOrder(pieces, numbers, order.fingerprint)
    assert (ours.n_tokens, ours.fingerprint) == (order.n_tokens, order.fingerprint)
    for a, b in ((0, 1), (0, order.n_tokens), (63, 640), (order.n_tokens - 1, order.n_tokens)):
        assert ours.read(a, b, [tokens]).tolist() == order.read(a, b, arrays).tolist()
        assert ours.visits_between(a, b) == order.visits_between(a, b)
        assert ours.visit_numbers(a, b).tolist() == order.visit_numbers(a, b).tolist()
    for a, b in ((-1, 1), (5, 5), (0, order.n_tokens + 1)):
        with pytest.raises(ConfigError, match="has no tokens"):
            ours.visits_between(a, b)
    with pytest.raises(ConfigError, match="no table of visits"):
        ours.visits(0, 1)


def test_code_is_ours_as_it_is_and_asks_for_nothing_that_is_not_there():
    files = code_files()
    assert {"trainer_hooks/trainer.py", "trainer_hooks/optimizers/muon.py", "stand_ins/pydantic.py"} <= set(files)
    assert files["trainer_hooks/trainer.py"] == source_of("trainer_hooks.trainer").read_bytes()
    assert "curriculum/order.py" not in files  # which reads Parquet
    import sys

    for module in code_modules(frozenset(sys.stdlib_module_names)):
        tops = {name.split(".")[0] for name, at_top in imports_of(module) if at_top} - sys.stdlib_module_names
        assert tops <= {"torch", "numpy", "pydantic", "xxhash", "safetensors", "yaml", "corpus", "mixtures",
                        "trainer_hooks", "pipelines"}, module  # fmt: skip


PROBE = """
import json, sys
from pathlib import Path
folder = Path(sys.argv[1])
sys.path[:0] = [str(folder / "code" / "stand_ins"), str(folder / "code")]
import safetensors, safetensors.torch, torch, yaml
from trainer_hooks.plan import Plan
from trainer_hooks.resolution import resolve
for absent in ("pyarrow", "pydantic_core", "numba", "yaml._yaml"):
    try:
        __import__(absent)
    except ImportError:
        continue
    raise SystemExit(f"{absent} is here")
plans = json.loads((folder / "plans.json").read_text())
made = [Plan.model_validate(plan) for plan in plans]
dumps = [[plan.model_dump(mode="json"), resolve(plan).model_dump(mode="json")] for plan in made]
(folder / "dumped.json").write_text(json.dumps(dumps))
(folder / "dumped.yaml").write_text(yaml.safe_dump(dumps[0], sort_keys=False))
with safetensors.safe_open(folder / "given.safetensors", framework="pt") as file:
    tensors = {name: file.get_tensor(name) for name in file.keys()}
    (folder / "written.safetensors").write_bytes(safetensors.torch.save(tensors, metadata=file.metadata()))
try:
    safetensors.safe_open(folder / "cut.safetensors")
except safetensors.SafetensorError:
    print("a cut file is refused")
"""


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """What the stand-ins make of every bundled study's plans, and of a file of tensors, in a lean Python."""
    folder = tmp_path_factory.mktemp("probe")
    for name, content in code_files().items():
        path = folder / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "plans.json").write_text(json.dumps([plan.model_dump(mode="json") for plan in all_plans()]))
    torch.manual_seed(0)
    tensors = {
        "b": torch.randn(3, 5), "a": torch.randn(4).bfloat16(), "long": torch.arange(7), "c": torch.randn(2).double(),
        "flag": torch.tensor([True, False]), "one": torch.tensor(2.0), "none": torch.empty(0, 4), "ä": torch.ones(1),
    }  # fmt: skip
    data = safetensors.torch.save(tensors, metadata={"format": "pt"})
    (folder / "given.safetensors").write_bytes(data)
    (folder / "cut.safetensors").write_bytes(data[:-3])
    (folder / "probe.py").write_text(PROBE)
    site = lean_python.site_of_torch(folder / "site")
    return folder, lean_python.run(site, folder / "probe.py", str(folder))


def all_plans() -> list[Plan]:
    """The plans of all bundled studies at all sizes, without repetitions."""
    found = {}
    for path in sorted((RUNTIME.parent / "studies").glob("*.yaml")):
        study = load_study(path.stem)
        for size in study.sizes:
            for run in runs_of(study, arms_of(study, size)):
                plan = run.arm.settings.plan
                found.setdefault(json.dumps(plan.model_dump(mode="json")), plan)
    return list(found.values())


def test_settings_of_all_studies_are_the_same_with_the_stand_in(probed):
    expected = [[plan.model_dump(mode="json"), resolve(plan).model_dump(mode="json")] for plan in all_plans()]
    assert len(expected) > 20
    assert json.loads((probed[0] / "dumped.json").read_text()) == expected


def test_what_the_stand_in_for_yaml_writes_is_yaml(probed):
    import yaml

    first = all_plans()[0]
    written = yaml.safe_load((probed[0] / "dumped.yaml").read_text())
    assert Plan.model_validate(written[0]) == first


def test_safetensors_files_have_the_same_bytes(probed):
    folder: Path = probed[0]
    assert (folder / "written.safetensors").read_bytes() == (folder / "given.safetensors").read_bytes()
    assert "a cut file is refused" in probed[1]


def _stand_in(name: str):
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"stand_in_{name}", RUNTIME / "stand_ins" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OURS = _stand_in("xxhash")


@pytest.mark.parametrize("size", [*range(260), 1023, 1024, 1025, 1087, 1088, 2048, 2049, 300_000, 2 * 1024 * 256 + 1])
def test_xxh3_is_the_library_s(size):
    data = np.random.default_rng(size).bytes(size)
    assert OURS.xxh3_64_hexdigest(data) == xxhash.xxh3_64_hexdigest(data)
    if size <= 240:
        for seed in (1, 2**40 + 7, 2**64 - 1):
            assert OURS.xxh3_64_intdigest(data, seed) == xxhash.xxh3_64_intdigest(data, seed)


@given(st.lists(st.binary(max_size=3_000), max_size=12))
def test_xxh3_may_be_fed_in_pieces(pieces):
    ours, theirs = OURS.xxh3_64(), xxhash.xxh3_64()
    for piece in pieces:
        ours.update(piece)
        theirs.update(piece)
        assert ours.hexdigest() == theirs.hexdigest()
