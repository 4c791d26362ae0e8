"""Every average from one run: ascending quality at a constant rate, beside shuffled controls, on real text.

Three arms read the same eight million tokens once, in a 1.4-million-parameter model: ascending by a classifier of
reference text, at a constant rate, with nine averages; shuffled, with a decay to 1/300; shuffled, at the constant rate,
with the same averages. One seed an arm: the table shows what a run gives, not which is better.

Run it:  python -m benchmarks.averages CORPUS WORKSPACE         (CORPUS holds web_en.jsonl.gz and the other sources)
"""

import argparse
import json
import sys
from pathlib import Path

from pipelines.commands.run import run_command
from pipelines.plan_subjects import plan_subjects
from trainer_hooks.plan_order_checks import masses

RECIPE = Path(__file__).parent / "training/averages.yaml"
SOURCES = {"web": "web_en", "gov": "gov_en", "docs": "docs_en", "enwiki": "enwiki", "openstax": "openstax"}


def main() -> None:
    """Run the recipe, or go on where it stopped, and print the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("workspace", type=Path)
    options = parser.parse_args()
    corpus = options.corpus.resolve()
    paths = tuple(f"inputs.{name}.path={corpus / f'{file}.jsonl.gz'}" for name, file in SOURCES.items())
    run_command(RECIPE, options.workspace, runtime="local", workers=None, master=None, overrides=paths, strict=False)
    print_losses(options.workspace)
    print_masses(options.workspace, paths)


def print_losses(workspace: Path) -> None:
    """Held-out bits per byte of each arm's weights, by source; lower is better."""
    results = {
        path.parent.name: json.loads(path.read_text())["losses"] for path in workspace.glob("runs/*/result.json")
    }
    sources = sorted(next(iter(results.values())))
    print("held-out bits per byte, lower is better")
    print(f"  {'arm':<18} {'weights':<14} " + " ".join(f"{name:>9}" for name in sources))
    for arm, losses in sorted(results.items()):
        for weights in losses[sources[0]]:
            row = " ".join(f"{losses[name][weights]['bits_per_byte']:>9.4f}" for name in sources)
            print(f"  {arm:<18} {weights:<14} {row}")


def print_masses(workspace: Path, paths: tuple[str, ...]) -> None:
    """The share of the learning rate's mass that each tenth of the data by quality receives, per cent, lowest first."""
    print("learning-rate mass by tenth of the data, per cent, lowest quality first; a shuffle gives each 10")
    for subject in plan_subjects([RECIPE], workspace, paths):
        if subject.data is None:
            sys.exit(f"{subject.name} has no order: {subject.absent}")
        for weights, shares in masses(subject.resolved, subject.data).items():
            print(f"  {subject.name:<18} {weights:<14} " + " ".join(f"{100 * share:>5.2f}" for share in shares))


if __name__ == "__main__":
    main()
