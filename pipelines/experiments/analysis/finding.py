"""From the runs' results to what the study found: checked, compared, and said in one sentence. Nothing is trained.

    findings = findings_of(study, "hour", arms_of(study, "hour"), results_in(runs), documents)
    write_findings(findings, folder / FILE)

The same results give the same findings, in whatever order they come.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.experiments.analysis.answers import notes, sentence
from pipelines.experiments.analysis.checked import Runs, checked_runs
from pipelines.experiments.analysis.differences import Pair, compare, pairs_of, with_holm
from pipelines.experiments.analysis.documents import DocumentLosses, by_document, document_losses
from pipelines.experiments.analysis.effects import interactions, main_effects
from pipelines.experiments.analysis.findings import ByDocument, ContrastFinding, Findings, Provenance
from pipelines.experiments.analysis.forgetting import continual
from pipelines.experiments.analysis.questions import accuracies, item_flips
from pipelines.experiments.analysis.tables import arm_finding, gap_points, noise_floor, rate_masses
from pipelines.experiments.analysis.targets import profile, time_to_target
from pipelines.experiments.arms import Arm
from pipelines.experiments.results import RunResult
from pipelines.experiments.study import Study


def findings_of(
    study: Study, size: str, arms: Mapping[str, Arm], results: Mapping[str, RunResult], documents: Mapping[str, Path],
    *, identities: Mapping[str, str] | None = None, provenance: Provenance | None = None,
) -> Findings:  # fmt: skip
    """What a study found at a size.

    Args:
        arms: all arms of the size (`arms_of`).
        results: by run id, those of members and teachers too; runs that are not there are missing.
        documents: the table of each run's losses by document, by run id; some or all may be missing.
        identities: the fingerprint that each result must have, by run id; none: not checked.
        provenance: what was measured on what, shown as it is.

    Raises ArtifactError for results of another study, version or fingerprint, or that read or were measured on other
    documents than the rest; ConfigError for a target that no held-out set has, or an arm without its control.
    """
    runs = checked_runs(study, size, arms, results, identities)
    by_name = document_losses(runs, documents)

    def bootstrap(pair: Pair, seeds: Sequence[int]) -> ByDocument | None:
        return by_document(runs, by_name, pair, seeds)

    pairs = pairs_of(runs)
    table = with_holm([compare(runs, pair, kind, bootstrap) for pair, kind in pairs])
    main = next(iter(study.contrasts.values()))
    contrasts = [_contrast(runs, name, by_name) for name in study.contrasts]
    return Findings(
        study=study.name, size=size, title=study.title, question=study.question,
        answer=contrasts[0].sentence, reading=sentence(runs, main, contrasts[0].comparison)[0],
        source=study.source, expected=study.expected, untested=study.untested,
        target=runs.target, sets=runs.sets, weights=runs.weights,
        planned=sum(len(arm.seeds) for arm in arms.values()), lost=runs.lost,
        arms=tuple(arm_finding(runs, arm, by_name) for arm in arms.values()), contrasts=tuple(contrasts),
        comparisons=table, compared=sum(row.target.p is not None for row in table),
        noise=noise_floor(runs, main.against, main.against_weights, table),
        effects=tuple(main_effects(runs)), interactions=tuple(interactions(runs)), gaps=tuple(gap_points(runs, table)),
        times=tuple(time for pair, _ in pairs if (time := time_to_target(runs, pair)) is not None),
        profile=tuple(profile(runs, main.against, main.against_weights)), continual=tuple(continual(runs)),
        items=tuple(accuracies(runs)), flips=tuple(item_flips(runs)), rate_mass=tuple(rate_masses(runs)),
        notes=tuple(notes(runs, table)), provenance=provenance or Provenance(),
    )  # fmt: skip


def _contrast(runs: Runs, name: str, documents: DocumentLosses | None) -> ContrastFinding:
    asked, found = runs.study.contrasts[name], None
    if asked.arm in runs.arms and asked.against in runs.arms:
        pair = asked.arm, asked.weights, asked.against, asked.against_weights
        found = compare(runs, pair, "contrast", lambda pair, seeds: by_document(runs, documents, pair, seeds))
    return ContrastFinding(name=name, claim=asked.claim, comparison=found, sentence=sentence(runs, asked, found)[1])
