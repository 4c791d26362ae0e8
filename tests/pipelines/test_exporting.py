"""What is exported is read back by the libraries' own readers: the same tokens, order and documents."""

import importlib
import importlib.util
import json
import sys
import types
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from corpus.artifacts import MANIFEST, Artifact, InputRef, begin, describe_part, finish
from corpus.errors import ArtifactError, ConfigError
from corpus.tokens import write_token_shard
from curriculum.order import Order, write_order
from curriculum.order_shards import open_shards
from curriculum.packed import Pack, PackedOrder, write_pack
from curriculum.packing import PackConfig, PackingError
from pipelines.commands.export import export_command, pack_command
from pipelines.commands.workshop import RuntimeOptions
from pipelines.export import stream as stream_module
from pipelines.export.exporting import export
from pipelines.export.settings import ExportSettings
from pipelines.export.stream import TokenStream
from tests.curriculum.making import docs_table
from tests.curriculum.ordering import order_table, token_arrays, written_order

LENGTHS = [5, 3, 8, 2, 6, 4, 1, 7, 25, 300, 12]
T = 13
PADDING = 65_000
DTYPES = pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
PACKS = pytest.mark.parametrize("packed", [False, True], ids=["documents", "packed"])


class Case:
    """An order, its tokens, what the exported stream must be, and where its documents must end."""

    def __init__(self, folder, dtype=np.uint16, packed=False, lengths=LENGTHS):
        self.order, self.arrays = written_order(folder / "order", lengths), token_arrays(lengths, dtype)
        rows = self.order.table().to_pylist()
        whole = [self.arrays[v["shard"]][v["start"] : v["start"] + v["length"]] for v in rows]
        self.pack, self.units, self.segments = None, whole, lengths
        if packed:
            write_pack(folder / "pack", self.order, PackConfig(sequence_tokens=T, window=4), name="packs/a")
            self.pack = Pack.open(folder / "pack")
            read = PackedOrder(self.order, self.pack, PADDING)
            self.units = [read.sequence(i, self.arrays) for i in range(read.n_sequences)]
            borders = [read.packed.boundaries(i) for i in range(read.n_sequences)]
            self.segments = np.concatenate([np.diff(each) for each in borders]).tolist()
        self.stream = np.concatenate(self.units)

    def export(self, folder, format, **more):
        asked = ExportSettings(format=format, padding_id=PADDING if self.pack else None, **more)
        return export(self.order, self.arrays, folder, asked, name=f"exports/a.{format}", pack=self.pack)


def bare_package(monkeypatch, name):
    """A package whose modules can be imported one by one, without its __init__ and all that this asks for."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        pytest.skip(f"{name} is not installed")
    package = types.ModuleType(name)
    package.__path__, package.__spec__ = list(spec.submodule_search_locations), spec
    monkeypatch.setitem(sys.modules, name, package)


@pytest.fixture
def indexed_dataset(monkeypatch):
    pytest.importorskip("megatron", reason="megatron-core is not installed")
    bare_package(monkeypatch, "megatron.core")  # its __init__ wants every kind of parallelism
    importlib.import_module("megatron.core.parallel_state")  # first, for it and the next import each other
    return importlib.import_module("megatron.core.datasets.indexed_dataset").IndexedDataset


@pytest.fixture
def streaming(monkeypatch):
    bare_package(monkeypatch, "streaming")  # its __init__ wants torchvision, for the pictures it can stream
    return importlib.import_module("streaming.base")


# ---- the libraries' readers


@DTYPES
@PACKS
@pytest.mark.parametrize("most", [None, 320])
def test_megatron_reads_it(tmp_path, indexed_dataset, dtype, packed, most):
    case = Case(tmp_path, dtype, packed)
    case.export(tmp_path / "out", "megatron", max_tokens_per_file=most)
    paths = sorted((tmp_path / "out").glob("*.bin"))
    assert len(paths) == (1 if most is None else 2)
    tokens, lengths, units = [], [], []
    for path in paths:
        read = indexed_dataset(str(path.with_suffix("")))
        tokens += [read[i].copy() for i in range(len(read))]  # its memory map closes with it
        lengths += read.sequence_lengths.tolist()
        borders = read.document_indices
        assert borders[0] == 0
        assert borders[-1] == len(read)
        units += [int(read.sequence_lengths[a:b].sum()) for a, b in pairwise(borders.tolist())]
        assert tokens[-1].dtype == (np.uint16 if dtype is np.uint16 else np.int32)
    np.testing.assert_array_equal(np.concatenate(tokens), case.stream)
    assert lengths == case.segments
    assert units == [len(unit) for unit in case.units]


@DTYPES
@PACKS
def test_datatrove_reads_it(tmp_path, dtype, packed):
    dataset = pytest.importorskip("datatrove.utils.dataset")
    case, size = Case(tmp_path, dtype, packed), np.dtype(dtype).itemsize
    case.export(tmp_path / "out", "datatrove", max_tokens_per_file=320, tokenizer="gpt2")
    read = dataset.DatatroveFolderDataset(
        str(tmp_path / "out"), seq_len=T - 1, token_size=size, return_positions=True, shuffle=False
    )
    files = sorted((tmp_path / "out").glob("*.ds"))
    assert len(files) == 2
    held = [path.stat().st_size // size for path in files]
    whole = np.split(case.stream, np.cumsum(held)[:-1])
    windows = [part[: len(part) // T * T].reshape(-1, T) for part in whole]
    got = [read[i] for i in range(len(read))]
    np.testing.assert_array_equal(np.stack([row["input_ids"].numpy() for row in got]), np.concatenate(windows))
    if packed:  # each window is one packed sequence, and positions begin anew in each document
        positions = [case.pack.packed.position_ids(i) for i in range(len(case.units))]
        np.testing.assert_array_equal(np.stack([row["positions"].numpy() for row in got]), np.stack(positions))


@DTYPES
@PACKS
def test_datatrove_merges_its_documents(tmp_path, dtype, packed):
    merger = pytest.importorskip("datatrove.pipeline.tokens.merger")
    case = Case(tmp_path, dtype, packed)
    made = case.export(tmp_path / "out", "datatrove", max_tokens_per_file=320, tokenizer="gpt2")
    step = merger.DocumentTokenizerMerger(
        str(tmp_path / "out"), str(tmp_path / "merged"), "all", shuffle=False, progress=False
    )
    step.run()
    np.testing.assert_array_equal(np.fromfile(tmp_path / "merged" / "000_all.ds", dtype), case.stream)
    ends = merger.load_doc_ends((tmp_path / "merged" / "000_all.ds.index").open("rb"))
    assert np.diff(ends, prepend=0).tolist() == case.segments
    about = (tmp_path / "out" / "train-00000.ds.metadata").read_text().splitlines()
    assert about[0] == f"gpt2|{np.dtype(dtype).itemsize}"
    assert [part.file for part in made.manifest.parts][:3] == [
        "train-00000.ds", "train-00000.ds.index", "train-00000.ds.metadata",
    ]  # fmt: skip


@DTYPES
@PACKS
def test_mosaic_streaming_reads_it(tmp_path, streaming, dtype, packed):
    case = Case(tmp_path, dtype, packed)
    case.export(tmp_path / "out", "mosaic", max_tokens_per_file=320)
    assert len(list((tmp_path / "out").glob("shard.*.mds"))) == 2
    read = streaming.LocalDataset(str(tmp_path / "out"))
    assert len(read) == len(case.units)
    for number, unit in enumerate(case.units):
        sample = read[number]
        assert sample["tokens"].dtype == dtype
        np.testing.assert_array_equal(sample["tokens"], unit)
        if packed:
            assert sample["boundaries"].dtype == np.int32
            np.testing.assert_array_equal(sample["boundaries"], case.pack.packed.boundaries(number))


def test_mosaic_streaming_trains_in_order(tmp_path, streaming):
    case = Case(tmp_path, packed=True)
    case.export(tmp_path / "out", "mosaic", max_tokens_per_file=100)
    read = streaming.StreamingDataset(local=str(tmp_path / "out"), shuffle=False, batch_size=4, num_canonical_nodes=1)
    try:
        got = [sample["tokens"] for sample in read]
    finally:
        del read
    np.testing.assert_array_equal(np.concatenate(got), case.stream)


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_mosaic_deals_each_global_batch_from_the_next_run_of_samples(streaming, nodes, ranks):
    """What the module says of their sampler: (nodes, ranks, workers, batches, samples) for 64 samples, 2 a device."""
    deal = importlib.import_module("streaming.base.partition").get_partitions
    dealt = deal("relaxed", 64, 1, nodes, ranks, 1, 2)[:, :, 0]
    size = 2 * nodes * ranks
    for step in range(64 // size):
        assert sorted(dealt[:, :, step].ravel()) == list(range(step * size, (step + 1) * size))


def test_mosaic_bytes_equal_their_own_writer(tmp_path, streaming):
    case = Case(tmp_path, np.uint32, lengths=[*LENGTHS, 70_000, 255, 256, 65_535, 65_536])
    case.export(tmp_path / "out", "mosaic")
    columns = {"tokens": "ndarray:uint32"}
    with streaming.MDSWriter(columns=columns, out=str(tmp_path / "theirs"), size_limit=None) as writer:
        for unit in case.units:
            writer.write({"tokens": unit})
    for name in ("shard.00000.mds", "index.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes(), name


# ---- the formats that are read by scripts


@DTYPES
@PACKS
def test_llmc_files_hold_a_header_and_the_tokens(tmp_path, dtype, packed):
    case = Case(tmp_path, dtype, packed)
    case.export(tmp_path / "out", "llmc", max_tokens_per_file=320)
    parts = []
    for path in sorted((tmp_path / "out").glob("train_*.bin")):
        header = np.fromfile(path, np.int32, 256)
        assert header[:2].tolist() == ([20240520, 1] if dtype is np.uint16 else [20240801, 7])
        assert not header[3:].any()
        parts.append(np.fromfile(path, dtype, offset=1024))
        assert header[2] == len(parts[-1])
    assert len(parts) == 2
    np.testing.assert_array_equal(np.concatenate(parts), case.stream)


@PACKS
def test_nanogpt_is_the_tokens_alone(tmp_path, packed):
    case = Case(tmp_path, packed=packed)
    case.export(tmp_path / "out", "nanogpt", stem="val")
    np.testing.assert_array_equal(np.memmap(tmp_path / "out" / "val.bin", np.uint16, "r"), case.stream)


def test_nanogpt_refuses_what_it_does_not_read(tmp_path):
    with pytest.raises(ConfigError, match="uint16 ids only"):
        Case(tmp_path, np.uint32).export(tmp_path / "out", "nanogpt")
    with pytest.raises(ConfigError, match="one file"):
        Case(tmp_path).export(tmp_path / "out", "nanogpt", max_tokens_per_file=1000)
    assert not (tmp_path / "out" / MANIFEST).exists()


def test_megatron_refuses_ids_that_int32_does_not_hold(tmp_path):
    case = Case(tmp_path, np.uint32)
    case.arrays[0][:] = 2**31
    with pytest.raises(ConfigError, match=r"found\s+2,147,483,648"):
        case.export(tmp_path / "out", "megatron")


# ---- files, slices, manifests


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    most=st.integers(40, 200),
    size=st.integers(1, 50),
    packed=st.booleans(),
)
def test_files_end_with_units_and_hold_all_of_them(tmp_path_factory, lengths, most, size, packed):
    case = Case(tmp_path_factory.mktemp("files"), packed=packed, lengths=lengths)
    source = PackedOrder(case.order, case.pack, PADDING) if packed else case.order
    stream = TokenStream(source, case.arrays)
    spans = list(stream.spans(most))
    assert [span.number for span in spans] == list(range(len(spans)))
    assert [span.tokens for span in spans] == list(
        zip([0, *(s.tokens[1] for s in spans[:-1])], [s.tokens[1] for s in spans], strict=True)
    )
    assert spans[-1].tokens[1] == len(case.stream) == stream.n_tokens
    assert np.concatenate([span.units for span in spans]).tolist() == [len(unit) for unit in case.units]
    assert np.concatenate([span.segments for span in spans]).tolist() == list(case.segments)
    for span, after in zip(spans, [*spans[1:], None], strict=True):
        assert span.n_tokens == span.units.sum() == span.segments.sum() <= most
        assert after is None or span.n_tokens + after.units[0] > most  # a file is as full as it may be
        assert span.segments_of_unit.sum() == len(span.segments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_module, "SLICE_TOKENS", size)
        slices = list(stream.slices(0, stream.n_tokens))
    assert max(map(len, slices)) <= size
    np.testing.assert_array_equal(np.concatenate(slices), case.stream)


@pytest.mark.parametrize("format", ["megatron", "datatrove", "llmc", "mosaic"])
def test_bytes_do_not_depend_on_how_much_is_read_at_once(tmp_path, monkeypatch, format):
    case = Case(tmp_path, packed=True)
    case.export(tmp_path / "a", format)
    monkeypatch.setattr("pipelines.export.stream.SLICE_TOKENS", 7)
    monkeypatch.setattr("pipelines.export.mosaic.SLICE_TOKENS", 7)
    case.export(tmp_path / "b", format)
    for path in (tmp_path / "a").iterdir():
        assert (tmp_path / "b" / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_export_says_what_it_is_and_is_kept(tmp_path):
    case = Case(tmp_path, packed=True)
    made = case.export(tmp_path / "out", "megatron")
    assert made.manifest.kind == "export"
    assert made.manifest.inputs == (case.order.artifact.ref, case.pack.artifact.ref)
    units, tokens = len(case.units), len(case.stream)
    assert made.manifest.totals == {
        "tokens": tokens, "documents": len(LENGTHS), "dtype": "uint16", "sequences": units,
        "padding_tokens": tokens - sum(LENGTHS),
    }  # fmt: skip
    assert made.differences() == []
    written = (tmp_path / "out" / "train-00000.bin").stat().st_mtime_ns
    case.export(tmp_path / "out", "megatron")
    assert (tmp_path / "out" / "train-00000.bin").stat().st_mtime_ns == written
    case.export(tmp_path / "out", "megatron", stem="other")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        MANIFEST, "other-00000.bin", "other-00000.idx",
    ]  # fmt: skip


def test_an_interrupted_export_goes_on(tmp_path, monkeypatch):
    case = Case(tmp_path)
    want = case.export(tmp_path / "whole", "llmc", max_tokens_per_file=320)
    read = Order.read

    def interrupted(self, a, b, arrays):
        if a:
            raise KeyboardInterrupt
        return read(self, a, b, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(Order, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            case.export(tmp_path / "out", "llmc", max_tokens_per_file=320)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["_building.json", "train_000000.bin"]
    kept = (tmp_path / "out" / "train_000000.bin").stat().st_mtime_ns
    again = case.export(tmp_path / "out", "llmc", max_tokens_per_file=320)
    assert again.manifest == want.manifest
    assert (tmp_path / "out" / "train_000000.bin").stat().st_mtime_ns == kept


def test_folders_that_hold_something_else_are_left_alone(tmp_path):
    case = Case(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years")
    with pytest.raises(ConfigError, match="not empty"):
        case.export(tmp_path / "home", "llmc")
    with pytest.raises(ConfigError, match="kind order"):
        case.export(tmp_path / "order", "llmc")
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years"
    assert case.order.artifact.differences() == []


def test_what_cannot_be_exported(tmp_path):
    case = Case(tmp_path, packed=True)
    for format in ("megatron", "mosaic"):
        with pytest.raises(ConfigError, match="max_tokens_per_file of 13"):
            case.export(tmp_path / "out", format, max_tokens_per_file=12)
    with pytest.raises(ConfigError, match="max_tokens_per_file of 300"):
        Case(tmp_path).export(tmp_path / "out", "megatron", max_tokens_per_file=299)
    with pytest.raises(PackingError, match="padding_id"):
        export(case.order, case.arrays, tmp_path / "out", ExportSettings(format="llmc"), name="a", pack=case.pack)
    with pytest.raises(ArtifactError, match="2 arrays"):
        export(case.order, case.arrays[:1], tmp_path / "out", ExportSettings(format="llmc"), name="a")
    mixed = [case.arrays[0], case.arrays[1].astype(np.uint32)]
    with pytest.raises(ArtifactError, match="uint16, uint32"):
        export(case.order, mixed, tmp_path / "out", ExportSettings(format="llmc"), name="a")
    with pytest.raises(ArtifactError, match="does not fit the token shards"):
        export(case.order, [a[:9] for a in case.arrays], tmp_path / "out", ExportSettings(format="llmc"), name="a")
    other = written_order(tmp_path / "other", [*LENGTHS, 1])
    with pytest.raises(ArtifactError, match="does not belong to"):
        export(other, case.arrays, tmp_path / "out", ExportSettings(format="llmc"), name="a", pack=case.pack)
    for wrong in ({"format": "parquet"}, {"format": "llmc", "stem": "../up"}, {"format": "llmc", "padding_id": -1}):
        with pytest.raises(ValidationError):
            ExportSettings(**wrong)


# ---- the commands


def workspace_with_an_order(folder, fingerprint="1" * 16):
    """Tokens of two shards and an order of all their documents, as a recipe leaves them."""
    tokens = folder / "tokens" / "web"
    begin(tokens, fingerprint)
    names = ["tokens/web/web-00000.npy", "tokens/web/web-00001.npy"]
    for name in names:
        ids = np.arange(sum(LENGTHS), dtype=np.uint16)
        write_token_shard(folder / name, ids, docs_table(LENGTHS, name))
    parts = [describe_part(tokens, path) for path in sorted(tokens.glob("*.*")) if path.name[0] != "_"]
    made = {"kind": "tokens", "name": "tokens/web", "config": {}, "inputs": [], "totals": {}}
    finish(tokens, fingerprint=fingerprint, parts=parts, **made)
    table = order_table(LENGTHS, [float(n) for n in LENGTHS])
    starts = np.concatenate([[0], np.cumsum(LENGTHS)[:-1]])
    table = table.set_column(2, table.schema.field("start"), [starts])
    fixed = {"name": "orders/a", "fingerprint": "2" * 16, "config": {}, "shards": names}
    write_order(folder / "orders" / "a", table, inputs=[InputRef(name="tokens/web", fingerprint="1" * 16)], **fixed)


def test_the_commands_pack_and_export_an_order(tmp_path, capsys):
    workspace_with_an_order(tmp_path)
    options = {
        "packer": "windowed",
        "sequence_tokens": "13",
        "window": 4,
    }
    pack_command("orders/a", tmp_path, options, RuntimeOptions(workers=1))
    said = capsys.readouterr().out
    pack = Pack.open(tmp_path / "packs" / "a")
    assert f"{pack.packed.n_sequences} sequences of 13 tokens, {pack.artifact.manifest.totals['fill']:.2%} full" in said
    assert "0 tokens are cropped" in said
    assert "rank correlation" in said
    asked = {"format": "llmc", "max_tokens_per_file": "1K", "padding_id": 0, "stem": None}
    export_command("orders/a", tmp_path, asked, pack="packs/a")
    assert "train_*.bin" in capsys.readouterr().out
    got = np.fromfile(tmp_path / "exports" / "a.llmc" / "train_000000.bin", np.uint16, offset=1024)
    order = Order.open(tmp_path / "orders" / "a")
    read = PackedOrder(order, pack, 0)
    np.testing.assert_array_equal(got, read.read(0, read.n_tokens - 1, open_shards(order, tmp_path)))
    export_command("orders/a", tmp_path, {"format": "datatrove", "padding_id": 0}, pack="packs/a")
    assert "seq_len" not in (said := capsys.readouterr().out)
    assert "a.datatrove', 12, token_size=2)" in said  # it reads windows of one token more
    for format in ("megatron", "datatrove", "mosaic", "nanogpt"):
        export_command("orders/a", tmp_path, {"format": format}, to=tmp_path / "out" / format)
        assert str(tmp_path / "out" / format) in capsys.readouterr().out.replace("\n", "")
        assert Artifact(tmp_path / "out" / format).differences() == []
    assert json.loads((tmp_path / "out" / "mosaic" / "index.json").read_text())["shards"][0]["samples"] == len(LENGTHS)


def test_an_order_whose_tokens_changed_since_is_refused(tmp_path):
    workspace_with_an_order(tmp_path, fingerprint="9" * 16)
    with pytest.raises(ArtifactError, match="not the one that orders/a was made from"):
        export_command("orders/a", tmp_path, {"format": "llmc"})
    assert not (tmp_path / "exports").exists()


def test_commands_name_what_is_wrong(tmp_path):
    workspace_with_an_order(tmp_path)
    with pytest.raises(ArtifactError, match="orders/b"):
        export_command("orders/b", tmp_path, {"format": "llmc"})
    with pytest.raises(ArtifactError, match="is not an order"):
        export_command("tokens/web", tmp_path, {"format": "llmc"})
    with pytest.raises(ConfigError, match="format"):
        export_command("orders/a", tmp_path, {"format": "tar"})
    with pytest.raises(ConfigError, match="sequence_tokens"):
        pack_command("orders/a", tmp_path, {"sequence_tokens": 0}, RuntimeOptions(workers=1))
    with pytest.raises(ConfigError, match="as the order it is from"):
        pack_command("orders/a", tmp_path, {"sequence_tokens": 8}, RuntimeOptions(workers=1), name="orders/a")
