"""`gradatim rephrase` as a user meets it: files in, documents by style out, budgets kept, errors that come first."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("aiohttp")

from corpus.artifacts import Artifact
from corpus.errors import ConfigError, TaskError
from corpus.shards import read_table
from pipelines.commands.rate import rate_command
from pipelines.commands.rephrase import Wanted, rephrase_command
from pipelines.commands.verify import verify_command
from pipelines.commands.workshop import RuntimeOptions
from pipelines.recipe import DEMO
from tests.pipelines.rephrasing_server import RephrasingServer, generator, tokenizer_folder

PAGES = DEMO.parent / "pages.jsonl"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two files of pages and a tokenizer."""
    folder = tmp_path_factory.mktemp("rephrase")
    lines = PAGES.read_text(encoding="utf-8").splitlines(keepends=True)
    for i in range(2):
        (folder / f"part{i}.jsonl").write_text("".join(lines[i * 8 : i * 8 + 8]))
    tokenizer_folder(folder / "words")
    return folder


@pytest.fixture
def server():
    with RephrasingServer() as server:
        yield server


def rephrase(folder, server, workspace, *, given=None, dry_run=False, price=None, sets=(), strict=False, **options):
    runtime = {name: options.pop(name) for name in ("runtime", "workers") if name in options}
    options = {"styles": ["easy", "hard"], "generator": generator(server, folder / "words"), **options}
    wanted = Wanted(None, options, ("task_requests=30", *sets), dry_run, price)
    given = given or [str(folder / f"part{i}.jsonl") for i in range(2)]
    rephrase_command(given, workspace, wanted, RuntimeOptions(strict=strict, **{"workers": 1, **runtime}))
    return Artifact(workspace / "rephrased") if not dry_run else None


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    with RephrasingServer() as server:
        workspace = tmp_path_factory.mktemp("finished")
        rephrase(folder, server, workspace)
        return workspace, dict(server.sent)


def outcomes(artifact):
    return [row for path in artifact.files(folder="outcomes") for row in read_table(path).to_pylist()]


def test_every_document_in_every_style_ends_in_one_outcome(finished):
    workspace, _ = finished
    made = Artifact(workspace / "rephrased")
    rows = outcomes(made)
    parents = [row for path in Artifact(workspace / "documents").files() for row in read_table(path).to_pylist()]
    plan = read_table(workspace / "rephrased_plan" / "plan.parquet")
    sent = set(zip(plan["id"].to_pylist(), plan["style"].to_pylist(), strict=True))
    assert sorted((row["parent_id"], row["style"]) for row in rows) == sorted(sent)
    passed_over = sum(made.manifest.totals["passed_over"].values())
    assert len(set(plan["id"].to_pylist())) + passed_over == len(parents) == 16
    kept = [row for path in made.files() for row in read_table(path).to_pylist()]
    assert len(kept) == sum(row["reason"] is None for row in rows) > 20
    assert {(row["parent_id"], row["style"]) for row in kept} == {
        (row["parent_id"], row["style"]) for row in rows if row["reason"] is None
    }
    totals = made.manifest.totals
    assert totals["records_in"] == len(rows) == totals["kept"] + sum(totals["dropped"].values())
    assert {path.name.rsplit("-", 2)[0] for path in made.files()} == {"wrap-easy", "wrap-hard"}
    assert verify_command(workspace, None) == 0


def test_all_styles_of_a_document_are_one_tasks_work_and_tasks_follow_the_shards(finished):
    plan = read_table(finished[0] / "rephrased_plan" / "plan.parquet").to_pylist()
    places = [(row["shard"], row["row"]) for row in plan]
    assert places == sorted(places)
    tasks = [row["task"] for row in plan]
    assert tasks == sorted(tasks)
    assert set(tasks) == set(range(max(tasks) + 1))
    assert max(tasks) >= 2
    assert len({(row["id"], row["task"]) for row in plan}) == len({row["id"] for row in plan})


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2])
def test_more_workers_give_the_same_bytes(folder, server, finished, tmp_path, workers):
    rephrase(folder, server, tmp_path, workers=workers)
    assert verify_command(finished[0], tmp_path) == 0
    assert server.sent == finished[1]


def test_a_second_run_asks_nothing_and_a_wider_one_only_what_is_new(folder, server, finished, tmp_path):
    rephrase(folder, server, tmp_path, styles=["easy"])
    first = dict(server.sent)
    assert first
    made = rephrase(folder, server, tmp_path)
    assert set(server.sent.values()) == {1}
    assert server.sent == finished[1]
    assert {path.name.rsplit("-", 2)[0] for path in made.files()} == {"wrap-easy", "wrap-hard"}


def test_an_estimate_generates_nothing_and_foretells_the_run(folder, server, finished, tmp_path, capsys):
    rephrase(folder, server, tmp_path, dry_run=True, rate=100.0, price=2.0)
    said = capsys.readouterr().out
    assert not server.sent
    assert not (tmp_path / "rephrased").exists()
    requests = sum(finished[1].values())
    assert f"{requests:,}" in said
    assert "tokens/s each (as given)" in said
    assert "Cost:" in said
    rephrase(folder, server, tmp_path)
    capsys.readouterr()
    rephrase(folder, server, tmp_path, dry_run=True)
    again = next(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("all"))
    assert again[2] == again[3] == f"{requests:,}"
    assert again[6] == "0"


@pytest.mark.parametrize("budget", ["{documents: 5}", "{requests: 30}", "3K"])
def test_a_budget_is_kept_and_the_manifest_says_what_is_missing(folder, server, tmp_path, budget):
    made = rephrase(folder, server, tmp_path, budget=budget)
    totals = made.manifest.totals
    rows = outcomes(made)
    if "documents" in budget:
        assert len({row["parent_id"] for row in rows}) == 5
    if "requests" in budget:
        assert sum(server.sent.values()) <= 30
    if budget == "3K":
        assert totals["output_tokens"] <= 3_000
    assert totals["passed_over"]["not_reached"] + totals["passed_over"].get("over_budget", 0) >= 6


def test_a_run_stops_where_its_outputs_are_longer_than_expected(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.stages.rephrase_work.GROUP_REQUESTS", 4)
    with RephrasingServer(said=" ".join(["word"] * 400)) as server:
        made = rephrase(folder, server, tmp_path, budget="6K", styles=["easy"])
    totals = made.manifest.totals
    assert totals["dropped"]["over_budget"] > 0
    assert sum(row["reason"] == "over_budget" for row in outcomes(made)) == totals["dropped"]["over_budget"]
    tasks = len(made.files())
    assert 6_000 - tasks * 400 <= totals["output_tokens"] <= 6_000 + tasks * 8 * 400


def test_scores_route_documents_and_the_cuts_are_frozen(folder, server, tmp_path):
    given = [str(folder / f"part{i}.jsonl") for i in range(2)]
    rate_command(given, tmp_path, None, [], RuntimeOptions(workers=1))
    route = "{kind: quality, bands: {1-10: [easy], 11-20: [hard]}}"
    rephrase(folder, server, tmp_path, given=["documents"], route=route, by="rps_doc_word_count")
    plan = read_table(tmp_path / "rephrased_plan" / "plan.parquet").to_pylist()
    assert {row["style"] for row in plan if row["bucket"] <= 10} == {"easy"}
    assert {row["style"] for row in plan if row["bucket"] > 10} == {"hard"}
    frozen = json.loads((tmp_path / "rephrased_plan" / "buckets.json").read_text())
    assert len(frozen["thresholds"]) == 19
    assert frozen["score"] == "rps_doc_word_count"
    assert frozen["rater"]
    kept = tmp_path / "cuts.json"
    kept.write_text((tmp_path / "rephrased_plan" / "buckets.json").read_text().replace(frozen["rater"], "another"))
    again = f"{{kind: quality, bands: {{1-10: [easy], 11-20: [hard]}}, buckets: {kept}}}"
    with pytest.raises(ConfigError, match="the frozen buckets were cut from another score"):
        rephrase(folder, server, tmp_path, given=["documents"], route=again, by="rps_doc_word_count")


def test_alarming_outputs_are_said_loudly_and_stop_a_strict_run(folder, tmp_path, capsys):
    with RephrasingServer(said="I'm sorry, I cannot help with that.") as server:
        rephrase(folder, server, tmp_path)
        assert "only 0 of" in capsys.readouterr().err
        with pytest.raises(TaskError, match=r"(?s)the outputs are alarming.*easy: only 0 of \d+ outputs pass"):
            rephrase(folder, server, tmp_path, strict=True)


def test_near_duplicates_of_other_tasks_are_left_out(folder, server, finished, tmp_path):
    """The server says the same in both styles, so each document's rephrasings are a pair."""
    made = rephrase(folder, server, tmp_path, sets=("dedup={}",))
    unique = Artifact(tmp_path / "rephrased_unique")
    texts = [row["text"] for path in made.files() for row in read_table(path).to_pylist()]
    left = [row["text"] for path in unique.files() for row in read_table(path).to_pylist()]
    assert len(set(texts)) < len(texts)
    assert sorted(left) == sorted(set(left))
    assert set(left) <= set(texts)
    totals = unique.manifest.totals
    assert totals["kept"] == len(left)
    assert totals["records_in"] == len(texts)


def test_a_measured_rate_turns_gpu_hours_into_tokens_and_stays(folder, tmp_path, capsys):
    with RephrasingServer(seconds=0.05) as server:
        asked = generator(server, folder / "words", max_concurrent=1)
        options = {"generator": asked, "measure": True, "budget": "{gpu_hours: 0.0005}", "styles": ["easy"]}
        rephrase(folder, server, tmp_path, dry_run=True, **options)
        assert "tokens/s each (measured now)" in capsys.readouterr().out
        rate = json.loads((tmp_path / "rephrased_rate" / "rate.json").read_text())["rate"]
        held = Artifact(tmp_path / "rephrased_plan").manifest
        assert held.config["budget"]["tokens"] == int(0.0005 * 3600 * rate)
        tried = sum(server.sent.values())
        made = rephrase(folder, server, tmp_path, **options)
        assert made.manifest.inputs[1].fingerprint == held.fingerprint
        assert sum(server.sent.values()) == tried  # what the trial made is not paid twice
        assert set(server.sent.values()) == {1}
    noted = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    spans = [line for line in noted if "rephrased" in line]
    seconds = sum(line["ended"] - line["begun"] for line in spans)
    assert rate == pytest.approx(sum(line["n_out"] for line in spans) / seconds, rel=0.02)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"styles": ["eazy"]}, r"there is no style 'eazy'; did you mean 'easy'\?"),
        ({"styles": ["mine.md"]}, "there is no style file"),
        ({"styles": ["easy", "easy"]}, "two styles are called 'easy'"),
        ({"route": "quality", "by": "edu"}, r"(?s)have no scores.*gradatim rate documents"),
        ({"route": "best"}, "route.kind"),
        ({"budget": "lots"}, "'lots' is not a count"),
        ({"budget": "{gpu_hours: 2}"}, "--rate TOKENS_PER_SECOND"),
        ({"sets": ("sources=[web]",)}, "documents has no source 'web'"),
        ({"generator": "{kind: vlm}"}, "there is no kind 'vlm'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_runs(folder, server, tmp_path, options, said):
    with pytest.raises(ConfigError, match=said):
        rephrase(folder, server, tmp_path, **options)
    assert not server.tries
    assert not (tmp_path / "rephrased").exists()


RUN = """
import sys
from pathlib import Path
from pipelines.commands.rephrase import Wanted, rephrase_command
from pipelines.commands.workshop import RuntimeOptions

generator, runtime, workspace, *given = sys.argv[1:]
wanted = Wanted(None, {"styles": ["easy", "hard"], "generator": generator}, ("task_requests=30",), False, None)
rephrase_command(given, Path(workspace), wanted, RuntimeOptions(runtime, 1 if runtime == "local" else 2))
"""


def command(folder, server, workspace, runtime, **options):
    given = [str(folder / f"part{i}.jsonl") for i in range(2)]
    asked = generator(server, folder / "words", **options)
    return [sys.executable, "-c", RUN, asked, runtime, str(workspace), *given]


def sent_while(process, server, wanted, limit=600):
    """Wait until so many requests were answered. Fails when the process ends before."""
    end = time.monotonic() + limit
    while sum(server.sent.values()) < wanted and time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    assert sum(server.sent.values()) >= wanted


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 20])
def test_a_killed_run_goes_on_and_sends_no_finished_request_again(folder, finished, tmp_path, after):
    with RephrasingServer(seconds=0.03) as server:
        again = command(folder, server, tmp_path, "local", max_concurrent=2)
        process = subprocess.Popen(again, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        sent_while(process, server, after)
        process.kill()
        process.wait()
        killed_at = sum(server.sent.values())
        assert killed_at < sum(finished[1].values())
        subprocess.run(again, cwd=ROOT, check=True, capture_output=True, timeout=300)
    assert verify_command(finished[0], tmp_path) == 0
    assert set(server.sent) == set(finished[1])
    twice = sum(times - 1 for times in server.sent.values())
    assert twice <= 2  # those that were in flight, or whose answer was on its way, when the process died


def workers_of(process):
    """The Python processes of a Spark run that work on tasks now: children of its JVM's daemon."""
    found = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in found.splitlines()[1:]]
    parents = {int(pid): int(ppid) for pid, ppid, _ in rows}

    def below(pid):
        while pid in parents:
            pid = parents[pid]
            if pid == process.pid:
                return True
        return False

    daemons = [int(pid) for pid, _, args in rows if "pyspark.daemon" in args and below(int(pid))]
    return [pid for pid in daemons if parents[pid] in daemons]


@pytest.mark.spark
@pytest.mark.slow
def test_spark_tasks_share_a_server_and_a_killed_executor_resumes(folder, finished, tmp_path):
    pytest.importorskip("pyspark")
    with RephrasingServer(seconds=0.05) as server:
        again = command(folder, server, tmp_path, "spark", max_concurrent=2)
        process = subprocess.Popen(again, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        sent_while(process, server, 12)
        workers = workers_of(process)
        assert workers
        os.kill(workers[0], signal.SIGKILL)
        told = process.communicate(timeout=400)
        if process.returncode:
            assert b"run the same command again" in told[1], told[1].decode()[-2000:]
            subprocess.run(again, cwd=ROOT, check=True, capture_output=True, timeout=400)
    assert verify_command(finished[0], tmp_path) == 0
    assert set(server.sent) == set(finished[1])
    assert sum(times - 1 for times in server.sent.values()) <= 2
