"""The audit of a set of rephrasings: what was asked, what came back, what the gates made of it, and what to read.

One page beside the artifact, self-contained as every page of the report: text of documents and of the model is escaped,
and nothing is loaded or run. Its size is bounded by the number of samples, not by the number of attempts.

Run it:  gradatim audit -w workspace
"""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from corpus.artifacts import Artifact
from corpus.errors import ArtifactError
from corpus.fingerprints import fingerprint
from corpus.shards import write_text
from pipelines.report import (
    making,
    rephrasing_change,
    rephrasing_cost,
    rephrasing_diversity,
    rephrasing_gates,
    rephrasing_samples,
    rephrasing_scores,
)
from pipelines.report.data_card import data_card
from pipelines.report.page import page
from pipelines.report.rephrasing_attempts import Attempts, read_attempts
from pipelines.report.rephrasing_diversity import StyleDiversity
from pipelines.report.workspace import Section, Workspace, manifest_link, table_of
from rephrase.diversity import Similarity

AUDITS = "audits"
PAGE = "audit.html"
CARD = "data-card.md"


@dataclass(frozen=True)
class Audit:
    """What is known of a rephrased artifact: its attempts (null where nothing was sent), outcomes, and diversity."""

    artifact: Artifact
    attempts: Attempts | None
    outcomes: pa.Table | None
    measured: list[StyleDiversity]

    @property
    def made(self) -> int:
        """Documents in the artifact."""
        return sum(part.rows or 0 for part in self.artifact.manifest.parts if "/" not in part.file)

    @property
    def finding(self) -> str:
        """The audit in a sentence or two."""
        if self.attempts is None:
            return "No document was sent to the model."
        tried = self.outcomes.num_rows if self.outcomes else int(self.artifact.manifest.totals.get("records_in", 0))
        alarms = [item.style for item in self.measured if item.level in ("note", "stop")]
        text = rephrasing_gates.finding(self.attempts, self.made, tried)
        return text + (f" Outputs resemble each other more than they should in {', '.join(alarms)}." if alarms else "")


def read_audit(artifact: Artifact, similarity: Similarity | None = None) -> Audit:
    """Read attempts and outcomes, and measure diversity. `similarity`: cosines of embeddings for pairs of texts.

    Raises ArtifactError for an artifact that is no set of rephrasings, or that is damaged.
    """
    if artifact.manifest.kind != "documents" or not any(
        p.file.startswith("attempts/") for p in artifact.manifest.parts
    ):
        raise ArtifactError(
            f"{artifact.name} holds no rephrasings",
            expected="documents with the record of their attempts, as `gradatim rephrase` writes them",
            found=f"an artifact of {artifact.manifest.kind} without attempts/",
            where=str(artifact.folder),
        )
    attempts = read_attempts(artifact)
    measured = rephrasing_diversity.measure(attempts, similarity) if attempts else []
    return Audit(artifact, attempts, table_of(artifact, folder="outcomes"), measured)


def audit_folder(root: Path, artifact: Artifact) -> Path:
    """Where the audit of an artifact lies: beside it, since an artifact holds nothing its manifest does not name."""
    return root / AUDITS / artifact.name


def write_audit(
    workspace: Workspace, audit: Audit, *, price: float | None = None, texts: bool = True
) -> tuple[Path, Path]:
    """Write the page and the data card of an audit, atomically, and return their paths.

    `price`: what an hour of the machine costs, for the price of a million kept tokens. `texts`: whether passages are
    shown; a page without them can go where the documents themselves may not.
    """
    folder = audit_folder(workspace.root, audit.artifact)
    write_text(folder / PAGE, render(workspace, audit, price, texts=texts))
    write_text(folder / CARD, data_card(audit.artifact, audit.attempts, audit.outcomes, audit.measured))
    return folder / PAGE, folder / CARD


def render(workspace: Workspace, audit: Audit, price: float | None = None, *, texts: bool = True) -> str:
    """The page as text."""
    footer = making.footer_of([audit.artifact], fingerprint(audit.artifact.ref), "Artifact")
    title, kicker = f"Audit of {audit.artifact.name}", "What the model did to the text"
    return page(title, _sections(workspace, audit, price, texts), kicker=kicker, lead=audit.finding, footer=footer)


def _sections(workspace: Workspace, audit: Audit, price: float | None, texts: bool) -> list[Section]:
    attempts, artifact = audit.attempts, audit.artifact
    if attempts is None:
        return [Section("gates", "What the gates let through", absent="No chunk of a document was sent to the model.")]
    up = "../" * (1 + len(Path(artifact.name).parts))
    links = [("the data card", CARD), (f"the manifest of {artifact.name}", f"{up}{manifest_link(artifact)}")]
    return [
        rephrasing_gates.section(attempts, audit.outcomes, links),
        rephrasing_diversity.section(audit.measured if texts else [one.without_examples() for one in audit.measured]),
        rephrasing_change.section(attempts),
        rephrasing_scores.buckets_section(workspace, artifact, attempts),
        rephrasing_scores.change_section(workspace, artifact),
        rephrasing_cost.section(rephrasing_cost.cost_of(workspace, artifact, attempts), attempts, price),
        rephrasing_samples.section(attempts)
        if texts
        else Section("samples", "Sources and outputs", absent="Passages were left out of this page (--no-texts)."),
    ]
