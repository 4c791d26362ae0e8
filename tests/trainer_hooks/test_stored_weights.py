"""Weights read by name from every layout they are found in, whole, and refused where they are not."""

import json

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

from corpus.errors import ArtifactError, ConfigError
from trainer_hooks.checkpoints import STATE
from trainer_hooks.stored_weights import TensorFacts, open_weights, read_weights
from trainer_hooks.tensor_file import write_tensor_file

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "model.b.weight": torch.randn(5, 3, generator=generator),
        "model.a.weight": torch.randn(7, generator=generator).to(torch.bfloat16),
        "steps": torch.tensor(3),
        "empty": torch.zeros(0, 2),
    }


def assert_equal(found, expected):
    assert list(found) == sorted(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def checkpoint(folder, model, rest=None):
    """A folder as `checkpoints` writes it: torch's safetensors writer, model and optimizer in files of their own."""
    named = {f"model|{name}": value for name, value in model.items()}
    rest = {"optimizer|model.b.weight|step": torch.tensor(1.0)} if rest is None else rest
    files = dict.fromkeys(named, 1) | dict.fromkeys(rest, 2)
    writer = HuggingFaceStorageWriter(str(folder), fqn_to_index_mapping=files, save_distributed=True)
    dcp.save(named | rest, storage_writer=writer, no_dist=True)
    (folder / STATE).write_text(json.dumps({"tokens": 100}))
    return folder


def in_parts(folder, value):
    """The same tensor as two ranks leave it: rows 0 to 2 and 2 to 5, in files of their own."""
    folder.mkdir()
    for rank, (begin, end) in enumerate(((0, 2), (2, 5)), start=1):
        place = {"DCP_SHARDING_INFO": json.dumps({"w": {"saved_offsets": [begin, 0]}})}
        name = f"shard-{rank:05d}-model-00001-of-00001.safetensors"
        save_file({"w": value[begin:end].contiguous()}, folder / name, place)
    return folder


def test_files_and_exports(tmp_path):
    own = tensors()
    save_file(own, tmp_path / "one.safetensors")
    assert_equal(read_weights(tmp_path / "one.safetensors"), own)
    assert_equal(read_weights(tmp_path), own)
    shards = tmp_path / "sharded"
    shards.mkdir()
    names, half = {}, sorted(own)[:2]
    for number, some in enumerate((half, [name for name in own if name not in half])):
        save_file({name: own[name] for name in some}, shards / f"model-{number}.safetensors")
        names |= dict.fromkeys(some, f"model-{number}.safetensors")
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    save_file({"other": torch.zeros(1)}, shards / "not-in-the-index.safetensors")
    assert_equal(read_weights(shards), own)
    (shards / "model-1.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"model-1\.safetensors"):
        read_weights(shards)


def test_a_checkpoint_gives_the_model_alone(tmp_path):
    own = tensors()
    folder = checkpoint(tmp_path / "step-00000010", own)
    with open_weights(folder) as weights:
        assert_equal(dict(weights), own)
        assert weights.facts["model.b.weight"] == TensorFacts((5, 3), torch.float32)
        assert [file.name for file in weights.files] == ["shard-00001-model-00001-of-00002.safetensors"]
        with pytest.raises(KeyError):
            weights["optimizer|model.b.weight|step"]
    assert list(read_weights(folder, prefix="optimizer|")) == ["model.b.weight|step"]
    (folder / STATE).unlink()
    with pytest.raises(ArtifactError, match="not finished"):
        read_weights(folder)


def test_parts_make_up_the_whole(tmp_path):
    value = torch.arange(15.0).reshape(5, 3)
    folder = in_parts(tmp_path / "parts", value)
    assert torch.equal(read_weights(folder)["w"], value)
    (folder / "shard-00001-model-00001-of-00001.safetensors").unlink()
    with pytest.raises(ArtifactError, match="do not make up"):
        read_weights(folder)


def test_a_pickle_is_read_only_when_trusted(tmp_path):
    own = {name: value for name, value in tensors().items() if value.numel()}
    dcp.save({"model": own, "epoch": 3}, checkpoint_id=str(tmp_path), no_dist=True)
    with pytest.raises(ConfigError, match="pickle"):
        open_weights(tmp_path, prefix="model.")
    assert_equal(read_weights(tmp_path, prefix="model.", trust_dcp=True), own)


def test_what_holds_no_weights_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="no weights"):
        read_weights(tmp_path)
    with pytest.raises(ArtifactError, match="no such file"):
        read_weights(tmp_path / "absent")
    save_file(tensors(), tmp_path / "model.safetensors")
    with pytest.raises(ArtifactError, match="begins with 'x'"):
        read_weights(tmp_path, prefix="x")
    save_file(tensors(), tmp_path / "twice.safetensors")
    with pytest.raises(ArtifactError, match="do not make up"):
        read_weights(tmp_path)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:-20])
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_weights(tmp_path / "cut.safetensors")


def test_a_file_written_tensor_by_tensor_is_a_safetensors_file(tmp_path):
    """In any order, with a cast, and aligned: what the library reads is what was given."""
    own = tensors()
    facts = {name: (tuple(value.shape), value.dtype) for name, value in own.items()}
    facts["model.b.weight"] = ((5, 3), torch.float16)
    write_tensor_file(tmp_path / "out.safetensors", facts, ((name, own[name]) for name in sorted(own, reverse=True)))
    found = load_file(tmp_path / "out.safetensors")
    own["model.b.weight"] = own["model.b.weight"].half()
    assert_equal({name: found[name] for name in sorted(found)}, own)
    save_file(own, tmp_path / "library.safetensors", {"format": "pt"})
    assert (tmp_path / "out.safetensors").read_bytes() == (tmp_path / "library.safetensors").read_bytes()
