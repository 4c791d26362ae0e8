"""`gradatim evaluate`: held-out loss and questions, for each set of weights of a model."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from corpus.artifacts import Artifact
from corpus.errors import ArtifactError, ConfigError
from corpus.fingerprints import file_checksum
from corpus.shards import write_text
from pipelines.commands.evaluation_tables import Result, print_results
from pipelines.commands.inspect import open_by_name
from pipelines.heldout_sets import heldout_sets
from trainer_hooks.determinism import matmul_dtype
from trainer_hooks.evals.answers import write_answers
from trainer_hooks.evals.choices import Answers, answer, chance_table, summarise
from trainer_hooks.evals.item_files import ItemFile, read_items
from trainer_hooks.evals.subjects import Subject, names_of_weights, open_subject, together
from trainer_hooks.evaluation import HeldOut, Loss, evaluate

TOGETHER = "together"


@dataclass(frozen=True)
class Asked:
    """How models are asked, in both commands."""

    tokenizer: Path | None
    context: int | None
    neutral: str | None
    batch_tokens: int
    precision: str
    device: str | None
    strict: bool

    @property
    def on(self) -> torch.device:
        """The device asked for, else a GPU where there is one."""
        return torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Of matrix products. Raises ConfigError for a precision that is none."""
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ConfigError(f"there is no precision {self.precision!r}", expected="auto, fp32 or bf16")
        return matmul_dtype(self.precision, self.on)  # type: ignore[arg-type]

    def answers(self, subject: Subject, items: ItemFile) -> Answers:
        """A model's answers."""
        likelihoods = subject.likelihoods(self.tokenizer, self.context, self.batch_tokens, self.dtype)
        return answer(likelihoods, items.items, self.neutral)


def evaluate_command(
    model: Path,
    files: Sequence[Path],
    asked: Asked,
    *,
    workspace: Path,
    held_out: str | None,
    weights: str,
    output: Path | None,
    chance: str,
    sequence_length: int | None,
    as_json: bool,
    others: Sequence[Path] = (),
) -> None:
    """Evaluate each set of weights, print the scores, and write the answers where a folder is named.

    With `others`, each of them is evaluated too, and all models read as one, under the name `together`.
    """
    if not files and held_out is None:
        raise ConfigError("there is nothing to evaluate on", fix="name files of questions, or --held-out ARTIFACT")
    table = chance_table(chance)
    items = read_all(files, asked.strict)
    sets = heldout_sets(_shards(workspace, held_out)) if held_out else {}
    results: dict[str, Result] = {}
    for name, subject in _subjects(model, weights, others, asked.on):
        losses = _losses(subject, sets, asked, sequence_length)
        found = asked.answers(subject, items) if items.items else Answers((), ())
        results[name] = Result(losses, summarise(found.answers, table), found.too_long)
        if output and found.answers:
            write_answers(output / f"{name.strip('/').replace('/', '-')}.jsonl", found.answers)
    data = {
        "model": str(model),
        "precision": str(asked.dtype).removeprefix("torch."),
        "questions": {path.name: file_checksum(path) for path in files},
        "unusable_lines": items.problems,
        "weights": {name: asdict(result) for name, result in results.items()},
    }
    text = json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    if output:
        write_text(output / "evaluation.json", text)
    if as_json:
        sys.stdout.write(text)
    else:
        print_results(results, items, output)


def _subjects(model: Path, weights: str, others: Sequence[Path], device: torch.device) -> Iterator[tuple[str, Subject]]:
    """What is evaluated, by the name of its row; one model at a time is in memory, and with `others` all of them."""
    if not others:
        yield from ((name, open_subject(model, name, device)) for name in names_of_weights(model, weights))
        return
    members = {str(path): open_subject(path, None, device) for path in (model, *others)}
    if len(members) <= len(others):
        raise ConfigError("a model is named twice", found=", ".join(map(str, (model, *others))))
    yield from members.items()
    yield TOGETHER, together(list(members.values()))


def read_all(files: Sequence[Path], strict: bool) -> ItemFile:
    """The questions of several files as one. Raises ConfigError where two files hold a question of one name."""
    whole, seen = ItemFile(), set[tuple[str, str]]()
    for path in files:
        found = read_items(path, strict)
        twice = next((item for item in found.items if (item.task, item.name) in seen), None)
        if twice:
            raise ConfigError(
                f"question {twice.name!r} of {twice.task} is in two files",
                where=str(path),
                fix="a task is named after its file: give files other names",
            )
        seen |= {(item.task, item.name) for item in found.items}
        whole.items += found.items
        whole.problems += found.problems
    return whole


def _shards(workspace: Path, name: str) -> list[Path]:
    folder = Path(name)
    artifact = open_by_name(workspace, name) if not folder.is_dir() else Artifact(folder)
    shards = list(artifact.files(".npy"))
    if not shards:
        raise ArtifactError(f"{name} holds no tokens", expected="an artifact of token shards")
    return shards


def _losses(
    subject: Subject, sets: Mapping[str, HeldOut], asked: Asked, sequence_length: int | None
) -> dict[str, Loss]:
    length = sequence_length or subject.trained_length or subject.context
    found = {}
    for source, heldout in sets.items():
        largest = int(heldout.tokens.max())
        if largest >= subject.vocabulary:
            raise ConfigError(
                f"the held-out tokens of {source} are of another tokenizer",
                expected=f"ids below {subject.vocabulary:,}, the model's vocabulary",
                found=f"id {largest:,}",
            )
        batch = max(1, asked.batch_tokens // length)
        found[source] = evaluate(subject.model, heldout, length, batch, asked.dtype)
    return found
