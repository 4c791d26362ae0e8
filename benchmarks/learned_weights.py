"""Learned weights on real text, whole: rate eight English sources, train the proxies, and say what they teach.

There is no peer to run: no public code does this. The controls are inside: equal weights and random documents on the
same seeds. The classifier and the importance targets are made from sources that are also measured on (as a lab would
make them from text it calls good), so the question is how to weigh such scores, not whether they were independent.
Settings are `benchmarks/weigh/*.yaml`; what comes out is `WORKSPACE/weigh/report.html`. About an hour on two cores.

Run it:  python -m benchmarks.learned_weights CORPUS WORKSPACE       CORPUS holds web_en.jsonl.gz and the others
"""

import subprocess
import sys
from pathlib import Path

SOURCES = ("web_en", "gov_en", "docs_en", "imdb", "enwiki", "openstax", "books_en", "peps")
SETTINGS = Path(__file__).parent / "weigh"


def inputs(corpus: Path) -> list[str]:
    """The sources as `gradatim rate` takes them, with what is known of each document kept in its meta."""
    kept = "fields: {meta: [tier, meta.ptype]}"
    return [f"{name}={{kind: jsonl, path: {corpus / name}.jsonl.gz, {kept}}}" for name in SOURCES]


def main() -> None:
    """Rate and weigh; every step that is done already is skipped."""
    corpus, workspace = Path(sys.argv[1]).resolve(), sys.argv[2]
    gradatim = str(Path(sys.executable).with_name("gradatim"))
    for command in (
        ["rate", *inputs(corpus), "--raters", str(SETTINGS / "raters.yaml")],
        ["weigh", "documents", "-s", str(SETTINGS / "weigh.yaml")],
    ):
        subprocess.run([gradatim, *command, "-w", workspace], check=True)


if __name__ == "__main__":
    main()
