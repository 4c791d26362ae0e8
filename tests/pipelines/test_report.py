"""The report: it adds up, it says what the data say, it is one file, and nothing from the web gets out of its text."""

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_reader import Page
from report_workspace import HOSTILE, SHARD, make_workspace

from corpus.artifacts import MANIFEST, artifacts_in
from corpus.errors import ArtifactError
from corpus.shards import write_text
from pipelines.report import funnel, orders, plans, rephrasings, runs, training
from pipelines.report.build import write_report
from pipelines.report.excerpts import excerpt, passage, web_link
from pipelines.report.figure import SERIES, colour, drawing, svg
from pipelines.report.quantities import count, listed, percent, seconds, size, tokens
from pipelines.report.workspace import Workspace

SECTIONS = ("glance", "funnel", "scores", "rephrasings", "mixture", "orders", "plans", "training", "making")
TIMES = re.compile(r"<!-- times -->.*?<!-- /times -->", re.DOTALL)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("report") / "demo", pages=90)


@pytest.fixture(scope="module")
def html(workspace: Path) -> str:
    return write_report(workspace, title="demo").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


@pytest.fixture
def copy(workspace: Path, tmp_path: Path) -> Path:
    return shutil.copytree(workspace, tmp_path / "copy")


def render(root: Path) -> str:
    return write_report(root, title="demo").read_text(encoding="utf-8")


def training_facts(root: Path) -> dict[str, Any]:
    workspace = Workspace(root)
    plans_found = plans.plan_facts(workspace, orders.order_facts(workspace))
    return training.section(workspace, runs.run_facts(workspace), plans_found).facts


def edit_manifest(root: Path, name: str, **totals: object) -> None:
    path = root / name / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["totals"].update(totals)
    write_text(path, json.dumps(manifest))


def test_every_section_is_there_balanced_and_linked_from_the_contents(page: Page) -> None:
    assert not page.open
    ids = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    assert tuple(ids) == SECTIONS
    assert {f"#{key}" for key in SECTIONS} <= set(page.attributes("href"))


def test_the_page_is_one_file_that_runs_nothing_and_fetches_nothing(page: Page, workspace: Path) -> None:
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "iframe", "object", "embed", "link", "base", "form", "audio", "video", "input"}
    assert not page.attributes("src")
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    inside = [href for href in page.attributes("href") if not href.startswith(("#", "http://", "https://"))]
    assert inside
    assert all((workspace / href).is_file() for href in inside)
    policy = next(attrs["content"] for tag, attrs in page.tags if tag == "meta" and "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'")


def test_hostile_documents_are_shown_as_text(page: Page, html: str) -> None:
    assert "<script>document.title='pwned'</script>" in page.text
    assert "</textarea></style></script><svg onload=document.title='pwned'>" in page.text
    assert "javascript:document.title='pwned'" in page.text  # the address, as text
    assert not [href for href in page.attributes("href") if href.lower().startswith(("javascript", "data", "//"))]
    assert "\u202e" not in html


def test_the_funnel_adds_up_and_says_so(page: Page, copy: Path) -> None:
    text = " ".join(page.text.split())
    assert "the sums agree at every stage" in text
    sums = re.findall(r"([\d,]+) kept(?: \+ ([\d,]+) held out)? \+ ([\d,]+) dropped = ([\d,]+)", text)
    assert len(sums) == 3
    for kept, held, dropped, total in sums:
        assert sum(int(part.replace(",", "")) for part in (kept, held or "0", dropped)) == int(total.replace(",", ""))
    edit_manifest(copy, "filtered", kept=1)
    faults = funnel.section(Workspace(copy)).facts["faults"]
    assert len(faults) == 2  # its own sum, and what the next stage takes in
    assert all("filtered" in fault for fault in faults)


def test_problems_of_the_input_keep_file_and_offset(page: Page) -> None:
    assert "corrupt record <b>" in page.text
    assert "pages.warc.gz" in page.text
    assert "81,234" in page.text


def test_the_same_artifacts_give_the_same_bytes_except_for_times(html: str, copy: Path) -> None:
    assert render(copy) == html
    with (copy / "events.jsonl").open("a") as file:
        file.write(json.dumps({"at": "later", "artifact": "documents", "seconds": 99.0}) + "\n")
    later = render(copy)
    assert later != html
    assert TIMES.sub("", later) == TIMES.sub("", html)


@pytest.mark.parametrize(
    ("gone", "absent"),
    [
        (("documents", "heldout_tokens", "raters"), set()),
        (("scores", "rephrased"), {"scores", "rephrasings"}),
        (("orders", "mixture"), {"orders", "mixture"}),
        (("runs",), {"plans", "training"}),
    ],
)
def test_a_section_without_its_artifact_says_so(copy: Path, gone: tuple[str, ...], absent: set[str]) -> None:
    for name in gone:
        for manifest in (copy / name).rglob(MANIFEST):
            manifest.unlink()
    partial = Page(render(copy))
    assert not partial.open
    assert tuple(attrs["id"] for tag, attrs in partial.tags if tag == "section") == SECTIONS
    empty = {attrs["href"][1:] for _, attrs in partial.tags if attrs.get("class") == "empty"}
    assert empty == absent


def test_an_empty_workspace_has_a_page_of_notes(tmp_path: Path) -> None:
    empty = Page(render(tmp_path))
    assert sum(attrs.get("class") == "absent" for _, attrs in empty.tags) == len(SECTIONS)


def test_a_changed_file_under_a_finished_artifact_is_refused(copy: Path) -> None:
    with (copy / "scores" / "composite" / f"{SHARD}.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArtifactError, match="scores/composite"):
        write_report(copy, title="demo")


def test_losses_come_from_the_metrics_and_no_winner_is_named(page: Page, workspace: Path, copy: Path) -> None:
    text = " ".join(page.text.split())
    assert text.count("no difference can be claimed from one seed") == 2
    assert not re.search(r"\b(wins|winner|outperforms|beats|superior)\b", text)
    lines = [json.loads(line) for line in (workspace / "runs/ascending/metrics.jsonl").read_text().splitlines()]
    final = next(line for line in reversed(lines) if line.get("weights") == "ema")
    assert f"{final['nats_per_token']:.4f}" in text
    assert f"{final['bits_per_byte']:.4f}" in text
    metrics = copy / "runs/ascending/metrics.jsonl"
    shifted = [dict(line, nats_per_token=line["nats_per_token"] + 3) if "heldout" in line else line for line in lines]
    metrics.write_text("".join(json.dumps(line) + "\n" for line in shifted))
    ends = [row["nats"] for row in training_facts(copy)["table"] if row["arm"].name == "ascending"]
    assert f"{final['nats_per_token'] + 3:.4f}" in ends


@pytest.mark.parametrize(
    ("gap", "said"), [(1e-6, "inside that noise"), (9.0, "larger than that, but such movement is not")]
)
def test_a_difference_is_set_beside_the_arms_own_movement(copy: Path, gap: float, said: str) -> None:
    control = (copy / "runs/shuffled/metrics.jsonl").read_text().splitlines()
    moved = []
    for line in map(json.loads, control):
        if "heldout" in line:
            line["nats_per_token"] += gap
        moved.append(json.dumps(line) + "\n")
    (copy / "runs/ascending/metrics.jsonl").write_text("".join(moved))
    assert said in training_facts(copy)["caveat"][0]


def test_orders_are_checked_to_hold_the_same_visits(page: Page, copy: Path) -> None:
    assert "Checked: shuffled and ascending hold the same document visits" in " ".join(page.text.split())
    assert "in ascending quality rises" in page.text
    shutil.rmtree(copy / "orders" / "ascending")
    alone = orders.order_facts(Workspace(copy))
    assert orders.section(alone, []).facts["same"] is None


def test_the_plan_and_the_mass_are_told_in_numbers(page: Page) -> None:
    text = " ".join(page.text.split())
    assert "shuffled ends at 1/300 of its peak rate without averaging" in text
    assert "ascending ends at 1/3 of its peak rate and is averaged as ema and mean" in text
    mass = r"the best tenth of the data receives [\d.]+ % in shuffled; [\d.]+ % in ascending \([\d.]+ % in ema and "
    assert re.search(mass + r"[\d.]+ % in mean\)", text)


def test_rephrasings_show_pass_rates_reasons_the_warning_and_the_way_to_the_audit(page: Page, copy: Path) -> None:
    text = " ".join(page.text.split())
    assert re.search(r"\d+ of \d+ chunks passed every gate", text)
    assert "The gate that stopped most is “refusal”" in text
    assert "A small model invents" in text
    assert "pieces of documents were not sent" in text
    assert "audits/rephrased/audit.html" in page.attributes("href")
    shutil.rmtree(copy / "audits")
    assert rephrasings.section(Workspace(copy)).facts["audit"] == ""


def test_every_artifact_is_listed_with_its_fingerprint(page: Page, workspace: Path) -> None:
    for artifact in artifacts_in(workspace):
        assert artifact.manifest.fingerprint in page.text
        assert f"{artifact.name}/{MANIFEST}" in page.attributes("href")


def test_ids_are_unique_and_figures_take_their_colours_from_the_page(page: Page, html: str) -> None:
    repeated = [name for name, times in Counter(page.attributes("id")).items() if times > 1]
    assert not repeated
    assert not re.search(r"#0102[0-9a-f]{2}", html)
    used = set(re.findall(r"url\(#([^)]+)\)", html))
    used |= {href[1:] for href in page.attributes("href") if href.startswith("#")}
    assert used <= set(page.attributes("id"))


def test_the_page_stays_small_whatever_the_documents(
    html: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("report_workspace.FILLER", "<&\u202e word " * 40_000)
    big = make_workspace(tmp_path / "big", pages=30, arms=())
    assert len(html) < 1_000_000
    assert len(render(big)) < 1_000_000


def test_a_figure_is_the_same_every_time_and_escapes_its_label() -> None:
    def draw() -> str:
        with drawing(300, 120) as (figure, (axes,)):
            axes.plot(np.arange(5), color=colour(1))
            axes.set_title("<b>$x_1$ & y</b>")
            return str(svg(figure, "f", 'a "label" <x>'))

    assert draw() == draw()
    assert 'aria-label="a &#34;label&#34; &lt;x&gt;"' in draw()
    assert "&lt;b&gt;$x_1$ &amp; y&lt;/b&gt;" in draw()
    assert colour(len(SERIES)) == colour(0)


@given(st.text(max_size=400), st.integers(5, 60))
def test_excerpts_are_short_on_one_line_and_hide_nothing(text: str, characters: int) -> None:
    short = excerpt(text, characters)
    assert len(short) <= characters + 2
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", short)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202a-\u202e]", passage(text, characters))


@given(
    st.text(max_size=80) | st.sampled_from([url for url, _ in HOSTILE]) | st.from_regex(r"https?:[^\x00-\x20]{0,40}")
)
def test_only_web_addresses_become_links(url: str) -> None:
    link = Page(str(web_link(url)))
    hrefs = link.attributes("href")
    assert all(re.match(r"https?://", href, re.IGNORECASE) for href in hrefs)
    assert {tag for tag, _ in link.tags} <= {"a", "bdi"}
    assert {name for _, attrs in link.tags for name in attrs} <= {"class", "rel", "href"}


def test_numbers_read_as_people_write_them() -> None:
    assert count(1_234_567, "documents") == "1,234,567 documents"
    assert count(1, "documents") == "1 document"
    shares = [percent(value) for value in (0, 0.0001, 0.5, 0.9999, 1)]
    assert shares == ["0.0 %", "under 0.1 %", "50.0 %", "over 99.9 %", "100.0 %"]
    assert [size(value) for value in (0, 812, 1_600_000, 250_000_000)] == ["0 B", "812 B", "1.6 MB", "250 MB"]
    assert [tokens(value) for value in (1, 41_200, 1_234_000)] == ["1 token", "41,200 tokens", "1.23 M tokens"]
    assert [seconds(value) for value in (4.21, 185)] == ["4.2 s", "3 min 05 s"]
    assert [listed(value) for value in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def browse(html: str, folder: Path) -> tuple[str, str, set[str]]:
    """Open a page in Chromium: the DOM it ends with, its error output, and the web addresses it asked for.

    No name resolves, so nothing leaves the machine; the browser's own housekeeping is not counted.
    """
    (folder / "report.html").write_text(html, encoding="utf-8")
    log = folder / "net.json"
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--enable-logging=stderr",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}",
        f"--log-net-log={log}",
        "--dump-dom",
        (folder / "report.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    asked = set(re.findall(r'"url":"https?://([^/"]*)', log.read_text(encoding="utf-8", errors="replace")))
    return done.stdout, done.stderr, {host for host in asked if not host.endswith((".google.com", ".googleapis.com"))}


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


@needs_chromium
@pytest.mark.parametrize("policy", [True, False], ids=["policy", "no policy"])
def test_a_real_browser_runs_nothing_asks_for_nothing_and_complains_of_nothing(
    html: str, tmp_path: Path, policy: bool
) -> None:
    """Escaping must hold without the content policy too, so the page is also opened with the policy taken out."""
    dom, errors, asked = browse(html if policy else POLICY.sub("", html), tmp_path)
    assert "<title>demo · report</title>" in dom
    assert {tag for tag, _ in Page(dom).tags} == {tag for tag, _ in Page(html).tags}
    assert sum(tag == "section" for tag, _ in Page(dom).tags) == len(SECTIONS)
    assert "CONSOLE" not in errors
    assert not asked


@needs_chromium
def test_the_browser_would_have_noticed(tmp_path: Path) -> None:
    script = "<script>console.log(1);document.title='pwned'</script>"
    dom, errors, asked = browse(f"<title>a</title><img src='http://evil.example/x.png'>{script}", tmp_path)
    assert "<title>pwned</title>" in dom
    assert "CONSOLE" in errors
    assert asked == {"evil.example"}
