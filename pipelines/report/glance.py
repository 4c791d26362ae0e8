"""At a glance: the few numbers a reader wants first, and the sentence that keeps them honest."""

from typing import Any

from pipelines.report.quantities import count, tokens
from pipelines.report.rephrasings import rephrased_documents
from pipelines.report.runs import RunFacts, heldout_sets
from pipelines.report.workspace import Section, Workspace


def section(workspace: Workspace, runs: list[RunFacts]) -> Section:
    """Cards for what exists; absent steps have no card."""
    cards = [*_document_cards(workspace), *_token_cards(workspace)]
    sets = heldout_sets(workspace, runs)
    losses = _losses(runs, sets[0][0]) if sets else []
    if not cards and not losses:
        return Section("glance", "At a glance", absent="Nothing is finished yet.")
    facts = {
        "cards": cards,
        "losses": losses,
        "heldout": sets[0][0] if sets else "",
        "several": len(losses) > 1,
        "sets": len(sets),
    }
    return Section("glance", "At a glance", "glance.html", facts)


def _document_cards(workspace: Workspace) -> list[dict[str, str]]:
    cards = []
    documents, clean = workspace.get("documents"), workspace.get("clean") or workspace.get("filtered")
    if documents:
        cards.append({"value": count(documents.manifest.totals["records_in"]), "label": "pages in", "key": "funnel"})
    if clean:
        cards.append({"value": count(clean.manifest.totals["kept"]), "label": "documents kept", "key": "funnel"})
    rephrased = workspace.get("rephrased")
    if rephrased:
        made = count(rephrased_documents(rephrased))
        cards.append({"value": made, "label": "documents rephrased", "key": "rephrasings"})
    return cards


def _token_cards(workspace: Workspace) -> list[dict[str, str]]:
    cards = []
    made, mixture = workspace.get("tokens"), workspace.get("mixture")
    if made:
        total = made.manifest.totals.get("tokens", 0)
        cards.append({"value": _amount(total), "label": "tokens of text", "key": "mixture"})
    if mixture and "tokens" in mixture.manifest.totals:
        total = mixture.manifest.totals["tokens"]
        cards.append({"value": _amount(total), "label": "tokens in the mixture", "key": "mixture"})
    return cards


def _amount(total: int) -> str:
    return tokens(total).removesuffix(" tokens")


def _losses(runs: list[RunFacts], heldout: str) -> list[dict[str, Any]]:
    return [
        {
            "arm": run.arm,
            "nats": f"{run.final(heldout)['nats_per_token']:.3f}",
            "bits": f"{run.final(heldout)['bits_per_byte']:.3f}",
            "weights": run.ends_with(heldout),
        }
        for run in runs
    ]
