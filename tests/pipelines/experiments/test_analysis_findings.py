"""What a study found, as a whole: planted effects, planted nulls, lost runs, and what is refused."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.errors import ArtifactError, ConfigError
from pipelines.experiments.analysis.checked import Runs, checked_runs
from pipelines.experiments.analysis.differences import compare, pairs_of, with_holm
from pipelines.experiments.analysis.documents import by_document, document_losses
from pipelines.experiments.analysis.finding import findings_of
from pipelines.experiments.analysis.findings import FILE, Comparison, Findings, read_findings, write_findings
from pipelines.experiments.arms import Arm
from pipelines.experiments.results import RunResult, SetLoss
from pipelines.experiments.study import Study
from tests.pipelines.experiments.made_results import (
    SOURCES,
    made_arms,
    made_results,
    made_study,
    noise,
    write_documents,
)

SAME = "not distinguishable"


def found(study: Study, results: dict[str, RunResult], documents: dict[str, Path] | None = None) -> Findings:
    return findings_of(study, "minutes", made_arms(study), results, documents or {})


def null(arm: Arm, seed: int, weights: str, salt: int = 0) -> float:
    return 2 + 0.1 * seed + noise(arm, seed, weights, salt=salt)


def planted(arm: Arm, seed: int, weights: str) -> float:
    return null(arm, seed, weights) - 0.1 * (arm.name == "ascending.constant")


def test_a_planted_effect_is_found_and_said() -> None:
    study = made_study(seeds=4)
    findings = found(study, made_results(study, planted))
    assert findings.reading == "better"
    assert findings.answer.startswith("ascending.constant is better than shuffled.constant by 0.09")
    assert "95 % interval +" in findings.answer
    assert "n = 4 + 4" in findings.answer
    assert findings.untested == ("all else",)
    gaps = {(gap.level, round(300 * gap.end_ratio, 6)): gap.difference for gap in findings.gaps if gap.weights == "raw"}
    assert gaps["ascending", 300].verdict == "better"
    assert gaps["ascending", 1].verdict == "not distinguishable"
    assert [gap.end_ratio for gap in findings.gaps[:2]] == sorted(gap.end_ratio for gap in findings.gaps[:2])


def test_a_worse_arm_is_called_worse() -> None:
    study = made_study(seeds=4)
    results = made_results(study, lambda arm, seed, kind: 4 - planted(arm, seed, kind))
    findings = found(study, results)
    assert findings.reading == "worse"
    assert "ascending.constant is worse than shuffled.constant" in findings.answer


def test_a_planted_null_is_found_at_about_the_nominal_rate() -> None:
    study = made_study(seeds=3)
    arms, off, kept = made_arms(study), [], []
    for salt in range(40):
        runs = checked_runs(study, "minutes", arms, made_results(study, partial(null, salt=salt)))
        table = table_of(runs)
        off += [row.target.verdict != SAME for row in table if row.kind == "same weights" and row.weights == "raw"]
        kept.append(any(row.holm_verdict != SAME for row in table))
    assert 0.01 < np.mean(off) < 0.10  # nominal .05
    assert np.mean(kept) < 0.15


def table_of(runs: Runs) -> tuple[Comparison, ...]:
    return with_holm([compare(runs, pair, kind, lambda pair, seeds: None) for pair, kind in pairs_of(runs)])


def test_a_random_order_stands_beside_the_shuffled_one() -> None:
    study = made_study()
    noise_floor = found(study, made_results(study, null)).noise
    assert noise_floor is not None
    assert noise_floor.arm == "shuffled.constant"
    assert {row.arm for row in noise_floor.random} == {"random_score.constant", "random_score.wsd_300"}
    assert noise_floor.range == pytest.approx(max(noise_floor.spread.values) - min(noise_floor.spread.values))


def test_every_arm_is_compared_with_its_control_and_with_filtering() -> None:
    study = made_study()
    findings = found(study, made_results(study, null))
    rows = {(row.arm, row.weights, row.against, row.against_weights): row.kind for row in findings.comparisons}
    assert rows["ascending.wsd_300", "sma", "shuffled.wsd_300", "sma"] == "same weights"
    assert rows["ascending.wsd_300", "sma", "shuffled.wsd_300", "raw"] == "raw control"
    assert rows["shuffled.wsd_300", "sma", "shuffled.wsd_300", "raw"] == "averaging"
    assert rows["ascending.wsd_300", "raw", "filter_repeat", "raw"] == "filter"
    assert not any(arm == "random_score.constant" and kind == "filter" for (arm, *_), kind in rows.items())
    assert findings.compared == len(rows) == len(findings.comparisons)
    assert any(f"of {findings.compared} differences" in note for note in findings.notes)


def test_lost_runs_are_named_and_in_no_mean() -> None:
    study = made_study(seeds=4)
    results = made_results(study, planted)
    del results["ascending.constant.s1"]
    results["shuffled.constant.s2"] = results["shuffled.constant.s2"].model_copy(
        update={"status": "failed", "reason": "the loss is nan at step 3", "losses": {}}
    )
    broken = {
        **results["shuffled.constant.s3"].losses,
        "web": {"raw": SetLoss(nats_per_token=math.nan, bits_per_byte=math.nan)},
    }
    results["shuffled.constant.s3"] = results["shuffled.constant.s3"].model_copy(update={"losses": broken})
    findings = found(study, results)
    assert {(one.run_id, one.why) for one in findings.lost} == {
        ("ascending.constant.s1", "missing"), ("shuffled.constant.s2", "failed: the loss is nan at step 3"),
        ("shuffled.constant.s3", "failed: its loss on web under raw weights is no number"),
    }  # fmt: skip
    main = findings.contrasts[0].comparison
    assert main is not None
    assert main.target.seeds == (0,)
    assert len(main.target.left_out) == 3
    assert findings.reading == "not answered"
    assert "of 4 runs of ascending.constant, 1 missing; of 4 runs of shuffled.constant, 2 failed" in findings.answer
    assert findings.arm("shuffled.constant").finished == (0, 1)
    assert findings.arm("shuffled.constant").losses[0].bits_per_byte.n == 2


def test_an_arm_with_a_missing_seed_is_compared_over_those_both_have() -> None:
    study = made_study(seeds=4)
    results = made_results(study, planted)
    del results["ascending.constant.s1"]
    findings = found(study, results)
    assert findings.reading == "better"
    assert "n = 3 + 3" in findings.answer
    assert "left out: seed 1: ascending.constant missing" in findings.answer
    assert any("ascending.constant is compared over the seeds" in note for note in findings.notes)


def test_two_seeds_are_too_few_for_a_claim() -> None:
    study = made_study(seeds=2)
    findings = found(study, made_results(study, planted))
    assert "2 seeds are too few for a claim" in findings.answer
    assert any("too few for a claim" in note for note in findings.notes)


def test_nothing_measured_is_not_answered() -> None:
    findings = found(made_study(), {})
    assert findings.reading == "not answered"
    assert len(findings.lost) == findings.planned == 3 * len(findings.arms)
    assert findings.noise is None
    assert findings.comparisons == ()


def test_findings_do_not_depend_on_the_order_of_their_input(tmp_path: Path) -> None:
    study = made_study()
    results = made_results(study, planted)
    paths = write_documents(tmp_path, results, scale=0.1)
    findings = found(study, results, paths)
    turned = found(study, dict(reversed(results.items())), dict(reversed(paths.items())))
    shuffled = {}
    for name, path in paths.items():
        table = pq.read_table(path)
        shuffled[name] = tmp_path / f"turned-{name}.parquet"
        order = np.random.default_rng(0).permutation(table.num_rows)
        pq.write_table(table.take(pa.array(order)), shuffled[name])
    assert findings.model_dump_json() == turned.model_dump_json()
    assert findings.model_dump_json() == found(study, results, shuffled).model_dump_json()


def test_findings_are_written_and_read(tmp_path: Path) -> None:
    study = made_study()
    findings = found(study, made_results(study, planted))
    write_findings(findings, tmp_path / FILE)
    assert read_findings(tmp_path / FILE) == findings
    (tmp_path / FILE).write_text((tmp_path / FILE).read_text().replace('"version": 1', '"version": 0', 1))
    with pytest.raises(ArtifactError, match="another version"):
        read_findings(tmp_path / FILE)
    with pytest.raises(ArtifactError, match="not the findings"):
        read_findings(tmp_path / "none.json")


# ---- documents


def test_tables_of_documents_give_tenths_and_the_same_difference(tmp_path: Path) -> None:
    study = made_study()
    results = made_results(study, planted)
    paths = write_documents(tmp_path, results, scale=0.1)
    findings = found(study, results, paths)
    main = findings.contrasts[0].comparison
    assert main is not None
    assert main.target.documents is not None
    assert main.target.documents.documents == 80
    assert main.target.documents.low < (main.target.mean or 0) < main.target.documents.high
    tenths = [row for row in findings.arm("shuffled.constant").losses if row.kind == "tenth" and row.weights == "raw"]
    assert [row.set for row in tenths] == [str(tenth) for tenth in range(10)]
    assert all(row.bits_per_byte.n == 3 for row in tenths)


def test_an_equal_gain_on_all_documents_has_no_spread_over_documents(tmp_path: Path) -> None:
    study = made_study()
    results = made_results(study, lambda arm, seed, kind: 2.0 - 0.1 * ("ascending" in arm.name))
    paths = write_documents(tmp_path, results)
    runs = checked_runs(study, "minutes", made_arms(study), results)
    one = by_document(
        runs, document_losses(runs, paths), ("ascending.constant", "raw", "shuffled.constant", "raw"), [0, 1]
    )
    assert one is not None
    assert (one.low, one.high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_the_interval_over_documents_covers_a_null_at_its_nominal_rate(tmp_path: Path) -> None:
    study = made_study(seeds=2)
    results = {name: run for name, run in made_results(study, lambda arm, seed, kind: 2.0).items() if run.seed == 0}
    runs = checked_runs(study, "minutes", made_arms(study), results)
    paths = write_documents(tmp_path, results, scale=0.0)
    losses = document_losses(runs, paths)
    assert losses is not None
    rng, inside = np.random.default_rng(0), 0
    key, other = ("ascending.constant.s0", "raw"), ("shuffled.constant.s0", "raw")
    for _ in range(200):
        moved = losses.nats[other] + rng.normal(0, 1, len(losses.bytes)) * losses.bytes**0.5
        drawn = type(losses)(losses.source, losses.tenth, losses.bytes, {**losses.nats, key: moved})
        interval = by_document(runs, drawn, ("ascending.constant", "raw", "shuffled.constant", "raw"), [0])
        assert interval is not None
        inside += interval.low <= 0 <= interval.high
    assert 0.87 < inside / 200 < 0.99  # nominal .95


def test_other_documents_are_refused(tmp_path: Path) -> None:
    study = made_study()
    results = made_results(study, null)
    paths = write_documents(tmp_path, results)
    fewer = tmp_path / "fewer.parquet"
    pq.write_table(pq.read_table(paths["shuffled.constant.s1"]).slice(1), fewer)
    with pytest.raises(ArtifactError, match="other documents"):
        found(study, results, {**paths, "shuffled.constant.s1": fewer})
    fewer.write_text("no table")
    with pytest.raises(ArtifactError, match="no table"):
        found(study, results, {**paths, "shuffled.constant.s1": fewer})


# ---- refusals


def changed(results: dict[str, RunResult], name: str, **fields: object) -> dict[str, RunResult]:
    return {**results, name: results[name].model_copy(update=fields)}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"arm": "shuffled.constant"}, "not of this study"),
        ({"seed": 7}, "not of this study"),
        ({"version": 0}, "not of this study"),
        ({"tokens": 4_095}, "4,096 tokens"),
    ],
)
def test_results_of_something_else_are_refused(fields: dict[str, object], said: str) -> None:
    study = made_study()
    with pytest.raises(ArtifactError, match=said):
        found(study, changed(made_results(study, null), "ascending.constant.s1", **fields))


def test_a_result_of_no_arm_is_refused() -> None:
    study = made_study()
    results = made_results(study, null)
    with pytest.raises(ArtifactError, match="not of this study"):
        found(study, {**results, "descending.constant.s0": results["ascending.constant.s0"]})


def test_another_fingerprint_is_refused() -> None:
    study = made_study()
    results = made_results(study, null)
    known = {name: run.identity for name, run in results.items()}
    assert findings_of(study, "minutes", made_arms(study), results, {}, identities=known).lost == ()
    with pytest.raises(ArtifactError, match="fingerprint"):
        findings_of(study, "minutes", made_arms(study), results, {}, identities={**known, "filter_repeat.s0": "other"})


def test_arms_that_read_other_documents_than_their_control_are_refused() -> None:
    study = made_study()
    results = made_results(study, null)
    reading = results["ascending.constant.s1"].reading.model_copy(update={"multiset": (9, 9)})
    with pytest.raises(ArtifactError, match="read other documents"):
        found(study, changed(results, "ascending.constant.s1", reading=reading))


def test_other_held_out_sets_are_refused() -> None:
    study = made_study()
    results = made_results(study, null)
    losses = {name: by for name, by in results["ascending.constant.s1"].losses.items() if name != "web"}
    with pytest.raises(ArtifactError, match="other held-out sets"):
        found(study, changed(results, "ascending.constant.s1", losses=losses))


def test_arms_without_their_control_are_refused() -> None:
    study = made_study()
    arms = {name: arm for name, arm in made_arms(study).items() if name != "shuffled.constant"}
    with pytest.raises(ConfigError, match="has no control"):
        findings_of(study, "minutes", arms, {}, {})


def test_a_target_of_no_set_is_refused() -> None:
    size = made_study().sizes["minutes"].model_dump(mode="json")
    study = made_study(sizes={"minutes": {**size, "measured": {"target": ["wob"]}}})
    with pytest.raises(ConfigError, match="web"):
        found(study, made_results(study, null))


def test_the_target_is_the_mean_over_its_sources() -> None:
    size = made_study().sizes["minutes"].model_dump(mode="json")
    study = made_study(sizes={"minutes": {**size, "measured": {"target": ["web"]}}})
    results = {
        name: run.model_copy(
            update={"losses": {**run.losses, "web": {"raw": SetLoss(nats_per_token=1, bits_per_byte=1.5)}}}
        )
        for name, run in made_results(study, null).items()
    }
    assert found(study, results).target == ("web",)
    assert found(study, results).arm("filter_repeat").losses[0].bits_per_byte.mean == 1.5
    whole = found(made_study(), made_results(made_study(), null))
    assert whole.target == SOURCES
    assert whole.sets == (*SOURCES, "best documents")


def test_an_arm_that_spends_otherwise_is_said_so() -> None:
    extra = {
        **made_study().extra,
        "longer": {"like": "shuffled.constant", "plan": {"tokens": 8_192}, "unmatched": "twice the tokens"},
    }
    study = made_study(extra=extra)
    findings = found(study, made_results(study, null))
    assert "longer spends otherwise than the rest: twice the tokens" in findings.notes
    assert findings.arm("longer").tokens == 8_192


def test_mean_rates_are_those_of_the_reference() -> None:
    study = made_study()
    findings = found(study, {})
    assert findings.arm("shuffled.constant").mean_rate == pytest.approx(1)
    long = made_study(base={**study.base, "plan": {**study.base["plan"], "tokens": 1_000_000}})
    assert found(long, {}).arm("shuffled.wsd_300").mean_rate == pytest.approx(0.867, abs=5e-4)
    assert found(long, {}).arm("shuffled.wsd_300").end_ratio == pytest.approx(1 / 300)
