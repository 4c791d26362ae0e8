"""The page of a study: its question, the answer in one sentence, and all that the answer rests on.

One self-contained file out of the study's findings and settings; it holds no text of documents. A section without
data does not appear, and findings without controls, n and ranges are refused.

    write_study_page(folder, findings, study)       writes folder/page.html
"""

from pathlib import Path

from corpus.shards import write_text
from corpus.version import VERSION
from pipelines.experiments.analysis.findings import Findings
from pipelines.experiments.study import Study
from pipelines.report import making
from pipelines.report.experiment_answer import contrasts_section, lead, noise_section
from pipelines.report.experiment_arms import arms_section
from pipelines.report.experiment_checks import check_reportable
from pipelines.report.experiment_continual import continual_section
from pipelines.report.experiment_curves import curves_section
from pipelines.report.experiment_effects import effects_section
from pipelines.report.experiment_items import items_section
from pipelines.report.experiment_making import cost_section, lost_section, making_section, untested_section
from pipelines.report.experiment_parts import sources_section, tenths_section
from pipelines.report.experiment_rates import gap_section, mass_section
from pipelines.report.experiment_targets import targets_section
from pipelines.report.page import page
from pipelines.report.workspace import Section

PAGE = "page.html"


def write_study_page(folder: Path, findings: Findings, study: Study) -> Path:
    """Write `page.html` in a folder, atomically, and return its path.

    Raises ArtifactError for findings that lack a control, an n, a range or an interval.
    """
    write_text(folder / PAGE, render_study(findings, study))
    return folder / PAGE


def render_study(findings: Findings, study: Study) -> str:
    """The page as text; equal findings and settings give equal bytes. Raises as `write_study_page`."""
    check_reportable(findings)
    footer = making.footer_of([], findings.provenance.fingerprint or "not known", "Data")
    footer["made_by"] = [findings.provenance.version or VERSION]
    kicker = f"Study {findings.study}, size {findings.size}"
    return page(findings.title, study_sections(findings, study), kicker=kicker, lead=lead(findings), footer=footer)


def study_sections(findings: Findings, study: Study) -> list[Section]:
    """The sections that there is something to show in, in reading order."""
    sections = [
        contrasts_section(findings),
        lost_section(findings),
        arms_section(findings),
        noise_section(findings),
        gap_section(findings),
        mass_section(findings),
        curves_section(findings),
        continual_section(findings, study),
        sources_section(findings),
        tenths_section(findings),
        effects_section(findings),
        targets_section(findings),
        items_section(findings),
        untested_section(findings),
        cost_section(findings),
        making_section(findings, study),
    ]
    return [section for section in sections if section is not None]
