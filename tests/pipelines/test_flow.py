"""The whole way, on real pages: equal bytes for any number of workers and both runtimes, after any kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from corpus.artifacts import Artifact, artifacts_in
from corpus.errors import ConfigError, InputError, TaskError
from corpus.events import EVENTS
from curriculum.visits import same_visits
from pipelines.commands.verify import verify_command
from pipelines.runtime import LocalRuntime
from tests.pipelines.small_recipe import gradatim, run, training, write_recipe

STAGES = [
    "documents", "signals", "filtered", "scores/signals", "raters/composite", "scores/composite", "sketches",
    "duplicates", "clean", "heldout", "tokenizer", "tokens", "mixture", "heldout_tokens", "orders/ascending",
    "runs/ascending",
]  # fmt: skip


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("recipe"), train=training())


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    root = tmp_path_factory.mktemp("finished")
    run(recipe, root, LocalRuntime(1))
    return root


def test_every_artifact_is_made_and_intact(finished):
    assert {artifact.name for artifact in artifacts_in(finished)} == set(STAGES)
    assert verify_command(finished, None) == 0


def test_the_funnel_adds_up_from_stage_to_stage(finished):
    totals = {name: Artifact(finished / name).manifest.totals for name in ("documents", "filtered", "clean", "heldout")}
    for stage in totals.values():
        assert stage["records_in"] == stage["kept"] + sum(stage["dropped"].values())
    assert totals["documents"]["kept"] == totals["filtered"]["records_in"]
    assert totals["filtered"]["kept"] == totals["clean"]["records_in"]
    assert totals["clean"]["dropped"]["held out"] == totals["heldout"]["kept"]


def test_the_order_holds_exactly_the_mixtures_visits(finished):
    from corpus.shards import read_table

    mixture = read_table(finished / "mixture" / "visits.parquet")
    order = read_table(finished / "orders" / "ascending" / "order.parquet")
    assert same_visits(mixture, order)
    assert sum(order.column("length").to_pylist()) == 40_000


@pytest.mark.parametrize("workers", [2, 4])
def test_more_workers_give_the_same_bytes(recipe, finished, tmp_path, workers):
    run(recipe, tmp_path, LocalRuntime(workers))
    assert verify_command(finished, tmp_path) == 0


@pytest.mark.spark
def test_spark_gives_the_same_bytes(recipe, finished, tmp_path):
    from pipelines.spark.runtime import SparkRuntime

    run(recipe, tmp_path / "w", SparkRuntime(master=None, workers=2, scratch=tmp_path / "scratch"))
    assert verify_command(finished, tmp_path / "w") == 0


def test_a_second_run_makes_nothing(recipe, finished):
    before = (finished / EVENTS).read_text()
    shop = run(recipe, finished, LocalRuntime(1))
    assert (finished / EVENTS).read_text() == before
    assert shop.progress.skipped == len(STAGES)


KILLED_RUN = """
import os, signal, sys
from pathlib import Path
import corpus.shards as shards
from pipelines.runtime import LocalRuntime
from tests.pipelines.small_recipe import run

victim, writes_left = sys.argv[3], int(sys.argv[4])
plain = Path.replace
def replace(self, target):
    global writes_left
    if f"/{victim}/" in str(target):
        writes_left -= 1
        if writes_left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, target)
Path.replace = replace
run(Path(sys.argv[1]), Path(sys.argv[2]), LocalRuntime(1))
"""


@pytest.mark.parametrize("writes", [0, 2])
def test_killed_in_each_stage_and_started_again(recipe, finished, tmp_path, writes):
    """One run, killed by SIGKILL inside a write of every stage in turn (training apart), ends with the same bytes."""
    kills = 0
    for stage in STAGES[:-1]:
        command = [sys.executable, "-c", KILLED_RUN, str(recipe), str(tmp_path), stage, str(writes)]
        ended = subprocess.run(command, cwd=Path(__file__).parents[2], timeout=120, check=False, capture_output=True)
        if ended.returncode == -signal.SIGKILL:
            kills += 1
            with pytest.raises(ValueError, match=r"not (finished|there)"):
                Artifact(tmp_path / stage)
        else:
            assert ended.returncode == 0, ended.stderr.decode()
    assert kills >= (len(STAGES) - 1 if writes == 0 else 6)
    run(recipe, tmp_path, LocalRuntime(1))
    assert verify_command(finished, tmp_path) == 0


def test_training_killed_in_its_own_process_goes_on(recipe, finished, tmp_path):
    command = [str(Path(sys.executable).with_name("gradatim")), "run", str(recipe), "-w", str(tmp_path)]
    process = subprocess.Popen([*command, "--runtime", "local"], start_new_session=True, stderr=subprocess.DEVNULL)
    checkpoints = tmp_path / "runs" / "ascending" / "checkpoints"
    limit = time.monotonic() + 120
    while time.monotonic() < limit and not (checkpoints.exists() and any(checkpoints.iterdir())):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run(recipe, tmp_path, LocalRuntime(2))
    assert verify_command(finished, tmp_path) == 0


def test_a_changed_setting_redoes_just_what_depends_on_it(recipe, finished, tmp_path):
    run(recipe, tmp_path, LocalRuntime(1))
    made = len((tmp_path / EVENTS).read_text().splitlines())
    write_recipe(tmp_path / "r", train=training("12K"))
    run(tmp_path / "r" / "recipe.yaml", tmp_path, LocalRuntime(1))
    again = [json.loads(line) for line in (tmp_path / EVENTS).read_text().splitlines()[made:]]
    assert {event["artifact"] for event in again if "artifact" in event} == {"runs/ascending"}


def test_a_changed_input_is_seen_and_everything_after_it_is_made_again(tmp_path):
    recipe = write_recipe(tmp_path / "r")
    run(recipe, tmp_path / "w", LocalRuntime(1))
    before = {artifact.name: artifact.manifest.fingerprint for artifact in artifacts_in(tmp_path / "w")}
    os.utime(tmp_path / "r" / "web.warc.gz")
    run(recipe, tmp_path / "w", LocalRuntime(1))
    assert before == {artifact.name: artifact.manifest.fingerprint for artifact in artifacts_in(tmp_path / "w")}
    content = (tmp_path / "r" / "web.warc.gz").read_bytes()
    (tmp_path / "r" / "web.warc.gz").write_bytes(content + b"\x00")
    (tmp_path / "r" / "old.warc.gz").write_bytes((tmp_path / "r" / "old.warc.gz").read_bytes()[:-4000])
    run(recipe, tmp_path / "w", LocalRuntime(1))
    after = {artifact.name: artifact.manifest.fingerprint for artifact in artifacts_in(tmp_path / "w")}
    assert all(after[name] != before[name] for name in before)
    assert sum(Artifact(tmp_path / "w" / "documents").manifest.totals["problems"].values()) >= 1


def test_the_same_record_in_two_files_is_refused_by_name(tmp_path):
    recipe = write_recipe(
        tmp_path / "r", inputs={"web": {"kind": "warc", "path": "*.warc.gz", "languages": ["en"]}}, stages=[]
    )
    (tmp_path / "r" / "copy.warc.gz").write_bytes((tmp_path / "r" / "web.warc.gz").read_bytes())
    with pytest.raises(InputError, match="document ids occur in more than one input file"):
        run(recipe, tmp_path / "w", LocalRuntime(1))


def test_strict_stops_at_a_damaged_input(tmp_path):
    recipe = write_recipe(tmp_path / "r")
    (tmp_path / "r" / "old.warc.gz").write_bytes((tmp_path / "r" / "old.warc.gz").read_bytes()[:-4000])
    ended = gradatim("run", recipe, "-w", tmp_path / "w", "--runtime", "local", "--strict")
    assert ended.returncode == 2
    assert "old.warc.gz" in ended.stderr
    assert "without --strict" in ended.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_stops_clearly_and_the_rerun_completes(tmp_path, finished, recipe):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "none", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let us mount a small file system")
    try:
        with pytest.raises(TaskError, match=r"(?s)disk is full.*run the same command again"):
            run(recipe, disk, LocalRuntime(1))
        assert verify_unfinished(disk)
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        run(recipe, disk, LocalRuntime(1))
        assert verify_command(finished, disk) == 0
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def verify_unfinished(root):
    """No artifact claims to be finished that is not intact, and no temporary file is left."""
    assert not [path for path in root.rglob("*.writing")]
    return all(artifact.differences() == [] for artifact in artifacts_in(root))


def test_a_recipe_rephrases_by_quality_and_mixes_what_came_of_it(tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("aiohttp")
    import yaml

    from corpus.shards import read_table
    from tests.pipelines.rephrasing_server import RephrasingServer, generator, tokenizer_folder

    with RephrasingServer() as server:
        rephrase = {
            "route": {"kind": "quality", "bands": {"3-11": ["easy"], "12-20": ["hard"]}},
            "styles": ["easy", "hard"],
            "sources": ["web"],
            "budget": {"documents": 12},
            "generator": yaml.safe_load(generator(server, tokenizer_folder(tmp_path / "words"))),
            "instruments": {"language": False},
        }
        mixture = {"sources": {"web": "70%", "wrap/*": "10%", "old": "20%"}, "tokens": "40K", "max_visits": 8}
        recipe = write_recipe(tmp_path / "r", rephrase=rephrase, mixture=mixture)
        run(recipe, tmp_path / "w", LocalRuntime(1))
    plan = read_table(tmp_path / "w" / "rephrased_plan" / "plan.parquet").to_pylist()
    scores = [path for path in (tmp_path / "w" / "scores" / "composite").glob("*.parquet")]
    by_id = {row["id"]: row["composite"] for path in scores for row in read_table(path).to_pylist()}
    assert len({row["id"] for row in plan}) == 12
    low = [by_id[row["id"]] for row in plan if row["style"] == "easy"]
    high = [by_id[row["id"]] for row in plan if row["style"] == "hard"]
    assert low
    assert high
    assert max(low) <= min(high)
    visits = read_table(tmp_path / "w" / "mixture" / "visits.parquet")
    assert sum(visits.column("length").to_pylist()) == 40_000
    assert verify_command(tmp_path / "w", None) == 0


def test_a_style_that_is_not_there_is_refused_before_any_page_is_read(tmp_path):
    recipe = write_recipe(tmp_path / "r", rephrase={"styles": ["mediun"]})
    with pytest.raises(ConfigError, match="there is no style 'mediun'; did you mean 'medium'"):
        run(recipe, tmp_path / "w", LocalRuntime(1))
    assert not (tmp_path / "w" / "documents").exists()


def test_evaluation_items_in_pages_are_dropped_by_a_recipes_step(tmp_path, finished):
    from corpus.shards import read_table

    page = next(row for path in Artifact(finished / "clean").files() for row in read_table(path).to_pylist())
    (tmp_path / "items.jsonl").write_text(
        json.dumps({"id": "q1", "question": " ".join(page["text"].split()[20:60]), "evaluation": "quiz"}) + "\n"
    )
    step = {"decontaminate": {"items": [str(tmp_path / "items.jsonl")], "policy": "drop_documents"}}
    recipe = write_recipe(tmp_path / "r", stages=[step, {"filter": "fineweb", "sources": ["web"]}], mixture=None)
    run(recipe, tmp_path / "w", LocalRuntime(1))
    totals = Artifact(tmp_path / "w" / "filtered").manifest.totals
    dropped = {reason: n for reason, n in totals["dropped"].items() if "contaminated" in reason}
    assert sum(dropped.values()) >= 1
    kept = {row["id"] for path in Artifact(tmp_path / "w" / "filtered").files() for row in read_table(path).to_pylist()}
    assert page["id"] not in kept
    assert verify_command(tmp_path / "w", None) == 0
