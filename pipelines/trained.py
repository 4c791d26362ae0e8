"""What a complete training leaves in its folder beside checkpoints and averages: an exported model and its losses."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus.shards import write_text
from corpus.tokenizer import END_OF_TEXT
from trainer_hooks.model_config import ModelConfig

if TYPE_CHECKING:
    from trainer_hooks.trainer import RunResult

RESULT, EXPORT = "result.json", "export"


def leave(result: "RunResult", model: ModelConfig, tokenizer: Path, folder: Path) -> dict[str, Any]:
    """Export the weights that the plan ends with, write result.json, and return the totals for a manifest."""
    from trainer_hooks.export import export_run

    export_run(result, model, tokenizer, folder / EXPORT, eos=END_OF_TEXT)
    losses = {source: {kind: asdict(loss) for kind, loss in kinds.items()} for source, kinds in result.losses.items()}
    totals = {"steps": result.steps, "tokens": result.tokens, "parameters": result.parameters}
    write_text(folder / RESULT, json.dumps({**totals, "losses": losses}, indent=1, sort_keys=True) + "\n")
    return totals
