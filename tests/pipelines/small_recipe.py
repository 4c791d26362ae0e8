"""A recipe small enough for tests: sixty bundled pages, every stage but the language model and training."""

import subprocess
import sys
from pathlib import Path

import yaml

from pipelines.build import Workshop
from pipelines.flow import Flow
from pipelines.recipe import DEMO, load_recipe
from pipelines.runtime import Runtime

PAGES_OF = {"web": 90, "old": 20}


def write_recipe(folder: Path, **changes: object) -> Path:
    """Write a recipe and its input beside it; `changes` replace top-level keys. Returns the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in PAGES_OF.items():
        records = (DEMO.parent / f"{name}.warc.gz").read_bytes().split(b"\x1f\x8b\x08")
        (folder / f"{name}.warc.gz").write_bytes(b"\x1f\x8b\x08".join(records[: count + 2]))
    recipe = {
        "name": "small",
        "seed": 3,
        "inputs": {
            "web": {"kind": "warc", "path": "web.warc.gz", "languages": ["en"]},
            "old": {"kind": "warc", "path": "old.warc.gz", "languages": ["de"]},
        },
        "shard_documents": 20,
        "stages": [{"filter": "fineweb", "sources": ["web"]}],
        "heldout": "10%",
        "tokenizer": {"vocabulary": 400},
        "mixture": {"sources": {"web": "80%", "old": "20%"}, "tokens": "40K"},
        **changes,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in recipe.items() if value is not None}, sort_keys=False))
    return path


def training(tokens: str = "16K") -> dict[str, object]:
    """A training section that takes seconds."""
    plan = {"tokens": tokens, "sequence_length": 64, "batch_sequences": 8, "peak_lr": 3e-3, "threads": 1}
    phases = [{"warmup": "10%"}, {"stable": "60%"}, {"decay": "30%", "to": "1/3", "shape": "1-sqrt"}]
    shape = {"hidden": 32, "layers": 1, "heads": 1, "head_size": 32, "intermediate": 64}
    up = {"kind": "interleaved", "by": "composite"}
    average = {"kind": "ema", "last": 3, "window": "30%"}
    return {
        "model": shape,
        "arms": {"ascending": {"order": up, "plan": {**plan, "phases": phases, "average": average}}},
    }


def run(recipe: Path, root: Path, runtime: Runtime) -> Workshop:
    """Run a recipe in this process."""
    shop = Workshop(root, runtime)
    try:
        Flow(load_recipe(recipe), shop, recipe).run()
    finally:
        runtime.close()
    return shop


def gradatim(*arguments: object, cwd: Path | None = None, timeout: int = 300) -> subprocess.CompletedProcess[str]:
    """Run the installed command as a user does."""
    command = [str(Path(sys.executable).with_name("gradatim")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=cwd, check=False)
