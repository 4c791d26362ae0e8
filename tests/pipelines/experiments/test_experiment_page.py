"""The page of a study and its print: every number is the findings', nothing is shown without control, n and range."""

import re
from io import StringIO
from itertools import pairwise

import pytest
from rich.console import Console

from corpus.errors import ArtifactError
from pipelines.experiments.analysis.findings import TARGET
from pipelines.experiments.study import load_study
from pipelines.report.experiment import render_study, study_sections, write_study_page
from pipelines.report.experiment_lines import _apart
from pipelines.report.experiment_numbers import difference, loss, outcome, ranged, seed_gains
from pipelines.report.experiment_rates import place
from pipelines.report.experiment_strips import Scale, Spread, axis, strip
from pipelines.report.experiment_terminal import print_findings
from tests.pipelines.experiments.made_results import made_study
from tests.pipelines.experiments.simulated_study import simulate
from tests.pipelines.page_reader import Page

LOST = "ascending.wsd_300.s1"


@pytest.fixture(scope="module")
def study():
    return made_study(seeds=3)


@pytest.fixture(scope="module")
def findings(study, tmp_path_factory):
    return simulate(study, "minutes", tmp_path_factory.mktemp("runs"), lost=(LOST,), items=("arc.jsonl",))


@pytest.fixture(scope="module")
def html(findings, study):
    return render_study(findings, study)


@pytest.fixture(scope="module")
def shown(html):
    return Page(html)


def keys(findings, study):
    return [section.key for section in study_sections(findings, study)]


def rows(page_html, section):
    """The cells of each table row of a section, as text."""
    part = page_html.split(f'<section id="{section}">')[1].split("</section>")[0]
    return [[" ".join(Page(cell).text.split()) for cell in re.findall(r"<td.*?</td>", row, re.S)]
            for row in re.findall(r"<tr>.*?</tr>", part, re.S) if "<td" in row]  # fmt: skip


def printed(findings, width=100):
    """What `print_findings` prints."""
    out = StringIO()
    print_findings(Console(width=width, file=out), findings)
    return out.getvalue()


# ---- what stands at the top


def test_question_and_answer_come_first_in_one_sentence_each(shown, findings):
    body = shown.text.split("size minutes")[1]
    at = [body.index(text) for text in (findings.title, findings.question, findings.answer, "What was asked")]
    assert at == sorted(at)


def test_the_page_is_whole_and_loads_nothing(html, shown):
    assert not shown.open
    assert not [tag for tag, _ in shown.tags if tag in ("script", "iframe", "img", "link", "object", "embed")]
    assert all(link.startswith("#") for link in shown.attributes("href"))
    assert "http-equiv" in html
    assert "default-src 'none'" in html
    identifiers = shown.attributes("id")
    assert len(identifiers) == len(set(identifiers))


def test_equal_findings_give_equal_bytes(html, findings, study, tmp_path):
    path = write_study_page(tmp_path, findings, study)
    assert path == tmp_path / "page.html"
    assert path.read_text(encoding="utf-8") == html


# ---- every number equals the findings


def test_the_table_of_arms_has_every_arm_weights_mean_range_and_n(html, findings):
    text = [" ".join(row) for row in rows(html, "arms")]
    for arm in findings.arms:
        for one in arm.losses:
            if one.kind != TARGET:
                continue
            values = one.bits_per_byte
            wanted = f"{one.weights} {loss(values.mean)} ({ranged(values)}; n = {values.n})"
            assert any(row.startswith(wanted) for row in text)


def test_each_difference_of_the_table_has_interval_pairs_and_verdict(html, findings):
    text = " ".join(" ".join(row) for row in rows(html, "arms"))
    assert findings.comparisons
    for one in findings.comparisons:
        assert f"{difference(one.target)}{outcome(one.target)}" in text
        assert one.target.verdict in text


def test_each_contrast_is_drawn_with_its_interval_and_a_dot_for_each_seed(html, findings):
    part = html.split('<section id="contrasts">')[1].split("</section>")[0]
    drawn = re.findall(r'<svg class="strip".*?</svg>', part, re.S)
    known = [one for one in findings.contrasts if one.comparison is not None]
    assert len(drawn) == len(known) + 1  # and the axis
    for one, svg in zip(known, drawn, strict=False):
        assert svg.count('class="seed"') == one.comparison.target.pairs
        assert (
            f"{difference(one.comparison.target)}, {outcome(one.comparison.target)}"
            in Page(svg).attributes("aria-label")[0]
        )
        assert one.sentence in Page(part).text


def test_the_mean_of_the_dots_is_the_difference(findings):
    contrasts = [one.comparison for one in findings.contrasts if one.comparison]
    for one in (*findings.comparisons, *contrasts):
        gains = seed_gains(findings, one)
        assert tuple(gains) == one.target.seeds
        assert sum(gains.values()) / len(gains) == pytest.approx(one.target.mean, abs=1e-12)
        for name, found in one.sets.items():
            on = seed_gains(findings, one, name, "set")
            assert sum(on.values()) / len(on) == pytest.approx(found.mean, abs=1e-12)


def test_sources_tenths_times_effects_and_questions_are_the_findings_own(html, findings):
    parts = {key: Page(html.split(f'<section id="{key}">')[1].split("</section>")[0]).text
             for key in ("sources", "tenths", "targets", "effects", "items", "gap", "mass")}  # fmt: skip
    for arm in findings.arms:
        for one in arm.losses:
            where = {"set": "sources", "tenth": "tenths"}.get(one.kind)
            if where:
                assert f"{loss(one.bits_per_byte.mean)}{ranged(one.bits_per_byte)}" in parts[where]
    for one in findings.comparisons:
        if one.kind == "same weights":
            assert all(difference(found) in parts["sources"] for found in one.sets.values())
    for one in findings.times:
        assert f"{one.reached} of {len(one.seeds)}" in parts["targets"]
        if one.median_share is not None:
            assert f"{100 * one.median_share:.1f} %" in parts["targets"]
    for one in findings.profile:
        assert f"{one.score:.3f}" in parts["targets"]
    for effect in findings.effects:
        assert all(difference(level.difference) in parts["effects"] for level in effect.levels)
    for interaction in findings.interactions:
        assert all(f"{cell.beyond:+.4f}".replace("-", "−") in parts["effects"] for cell in interaction.cells)
    assert findings.items
    for one in findings.items:
        assert f"{100 * one.accuracy.mean:.1f} %" in parts["items"]
    for one in findings.gaps:
        assert difference(one.difference) in parts["gap"]
    for one in findings.rate_mass:
        assert f"{one.weights} {one.tenths[-1]:.1f} %" in parts["mass"]


def test_the_gap_has_a_line_for_each_kind_of_weights_and_marks_the_ends_of_the_rate(html, findings):
    part = Page(html.split('<section id="gap">')[1].split("</section>")[0]).text
    assert "1/300" in part
    for weights in findings.weights:
        assert weights in part
    ends = [one for one in findings.gaps if one.level == "ascending"]
    assert place(1.0, ends) == 0
    assert place(1 / 100, ends) == pytest.approx(-2)
    lowest = min(place(one.end_ratio, ends) for one in ends)
    assert place(0.0, ends) == pytest.approx(lowest - 0.5)


def test_a_lost_run_is_marked_and_its_arm_counts_what_is_left(html, findings, shown):
    assert rows(html, "lost")[0][0] == LOST
    arm = findings.arm("ascending.wsd_300")
    assert len(arm.finished) == 2
    assert "2 of 3 runs finished" in shown.text


def test_an_arm_without_a_run_says_so(study):
    lost = tuple(f"random_score.wsd_300.s{seed}" for seed in range(3))
    found = simulate(study, "minutes", lost=lost)
    assert "none of its 3 runs finished" in Page(render_study(found, study)).text
    assert "no run finished" in printed(found)


def test_settings_command_fingerprint_and_cost_stand_at_the_end(shown, findings, study):
    made = findings.provenance
    for text in (made.command, made.fingerprint, made.commit, made.device, *made.facts.values(), findings.untested[0]):
        assert text in shown.text
    assert "peak_lr: 0.001" in shown.text
    finished, branched = (sum(x) for x in zip(*((len(a.finished), a.branched) for a in findings.arms), strict=True))
    assert branched
    assert f"{finished} of {findings.planned} runs finished" in shown.text
    assert f"{branched} runs went on" in shown.text
    saved = sum(arm.shared for arm in findings.arms)
    assert f"left {saved:,} tokens" in shown.text


# ---- what is not there does not appear


def test_sections_without_data_do_not_appear(study, findings):
    bare = simulate(study, "minutes")
    assert {"tenths", "items", "lost", "continual"}.isdisjoint(keys(bare, study))
    assert {"tenths", "items", "lost"} <= set(keys(findings, study))
    empty = bare.model_copy(update={
        "gaps": (), "times": (), "profile": (), "effects": (), "interactions": (), "rate_mass": (), "noise": None,
        "arms": tuple(arm.model_copy(update={"curves": ()}) for arm in bare.arms),
    })  # fmt: skip
    assert keys(empty, study) == ["contrasts", "arms", "sources", "untested", "cost", "making"]
    assert 'class="absent"' not in render_study(empty, study)


def test_one_end_of_the_rate_is_no_figure(study, findings):
    one = tuple(point for point in findings.gaps if point.end_ratio == 1)
    assert one
    assert "gap" not in keys(findings.model_copy(update={"gaps": one}), study)


def test_a_study_of_two_phases_shows_gap_depth_and_recovery(tmp_path):
    study = load_study("replay")
    found = simulate(study, "minutes", sources={"old/wiki": 1.2, "new/german": 1.6})
    assert found.continual
    html = render_study(found, study)
    asked = Page(html.split('<section id="contrasts">')[1].split("</section>")[0]).text
    for one in (one.comparison for one in found.contrasts if one.comparison):
        assert set(one.roles) == {"old", "new"}
        assert all(f"{difference(on)}{outcome(on)}" in asked for on in one.roles.values())
    part = Page(html.split('<section id="continual">')[1].split("</section>")[0]).text
    assert max(one.depth.mean for one in found.continual) > 0
    for one in found.continual:
        assert f"{one.depth.mean:+.3f}".replace("-", "−") in part
        assert f"{one.forgetting.lowest:+.3f}".replace("-", "−") in part
        assert all(("not recovered" if at is None else f"{at:,.0f}") in part for at in one.recovery)


def test_names_are_shown_as_text_and_run_nothing(study, findings):
    evil = "<script>alert(1)</script>&"
    arms = tuple(arm.model_copy(update={"unmatched": evil, "tokens_by_source": {evil: 10}}) for arm in findings.arms)
    lost = tuple(one.model_copy(update={"why": f"[red]{evil}"}) for one in findings.lost)
    contrasts = tuple(one.model_copy(update={"name": evil, "claim": evil}) for one in findings.contrasts)
    bad = findings.model_copy(update={"arms": arms, "lost": lost, "contrasts": contrasts, "answer": evil,
                                      "question": evil, "title": evil, "notes": (evil,)})  # fmt: skip
    html = render_study(bad, study)
    assert "<script" not in html
    assert Page(html).text.count(evil) >= 8
    assert "[red]<script>" in printed(bad)


# ---- what may not be shown


def spoil_losses(findings, **changes):
    arm = findings.arms[0]
    first = arm.losses[0]
    spread = first.bits_per_byte.model_copy(update=changes)
    losses = (first.model_copy(update={"bits_per_byte": spread}), *arm.losses[1:])
    return findings.model_copy(update={"arms": (arm.model_copy(update={"losses": losses}), *findings.arms[1:])})


def spoil_difference(findings, **changes):
    first = findings.comparisons[0]
    target = first.target.model_copy(update=changes)
    return findings.model_copy(update={"comparisons": (first.model_copy(update={"target": target}),
                                                       *findings.comparisons[1:])})  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: f.model_copy(update={"answer": " "}), "no answer"),
        (lambda f: f.model_copy(update={"arms": tuple(a for a in f.arms if a.control is not None)}), "is a control"),
        (lambda f: f.model_copy(update={"arms": tuple(a for a in f.arms if a.name != "shuffled.wsd_300")}),
         "has no control"),
        (lambda f: f.model_copy(update={"comparisons": ()}), "beside nothing"),
        (lambda f: spoil_losses(f, lowest=None), "no range"),
        (lambda f: spoil_losses(f, highest=None), "no range"),
        (lambda f: spoil_losses(f, n=0), "how many runs"),
        (lambda f: spoil_losses(f, seeds=()), "how many runs"),
        (lambda f: spoil_difference(f, pairs=0), "how many pairs"),
        (lambda f: spoil_difference(f, low=None, high=None), "no interval"),
        (lambda f: spoil_difference(f, low=-1.0, high=1.0, verdict="better"), "claims"),
    ],
)  # fmt: skip
def test_findings_without_controls_n_or_ranges_are_refused(findings, study, tmp_path, spoil, said):
    for show in (lambda f: write_study_page(tmp_path, f, study), lambda f: print_findings(Console(), f)):
        with pytest.raises(ArtifactError, match=said):
            show(spoil(findings))
    assert not list(tmp_path.iterdir())


# ---- terminal


def test_the_terminal_says_the_answer_first_then_contrasts_then_arms(findings):
    text = printed(findings, width=140)
    assert max(map(len, text.splitlines())) <= 100
    flat = " ".join(text.split())
    order = [flat.index(" ".join(part.split())) for part in (findings.answer, "what was asked", "lowest-highest")]
    assert order == sorted(order)
    for arm in findings.arms:
        assert arm.name in text
    for one in findings.comparisons:
        if one.kind == "same weights":
            assert difference(one.target) in text
    assert LOST in flat


# ---- the drawing itself


def test_a_strip_places_values_in_proportion_and_holds_all_of_them():
    scale = Scale.of([-1.0, 3.0])
    assert scale.left < -1 < 0 < 3 < scale.right
    assert 0.0 in scale.ticks
    assert Scale(0, 10, ()).place(2.5) == "25.00%"
    drawn = strip(Scale(-1, 1, (0.0,)), Spread(0.5, 0.0, 1.0, (0.25, 0.75)), "a < b")
    assert 'cx="62.50%"' in drawn
    assert 'cx="87.50%"' in drawn
    assert "a &lt; b" in drawn
    assert "better" in axis(scale)


def test_names_at_the_ends_of_lines_never_overlap_nor_leave_the_axes():
    for wanted in ([5.0, 5.0, 5.0], [0.0, 100.0], [95.0, 97.0, 99.0], [-5.0, 1.0, 50.0]):
        placed = _apart(wanted, 100.0)
        assert all(b - a >= 13 for a, b in pairwise(placed))
        assert min(placed) >= 0
        assert max(placed) <= 100
    assert _apart([10.0, 60.0], 100.0) == [10.0, 60.0]
