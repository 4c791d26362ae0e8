"""The bridge to the real datatrove: its steps as stages, and a rater as one of its steps."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from corpus.documents import check_documents, documents
from corpus.errors import ConfigError
from pipelines.stages.base import run_chain
from pipelines.stages.datatrove_bridge import Datatrove, known_steps, rater_step
from pipelines.tally import Tally

pytest.importorskip("datatrove")

DEMO = Path(__file__).parents[2] / "pipelines" / "demo" / "pages.jsonl"


def demo_documents(count: int) -> pa.RecordBatch:
    rows = [json.loads(line) for line in DEMO.read_text(encoding="utf-8").splitlines()[:count]]
    return documents(
        [{"id": str(i), "text": row["text"], "source": "web", "url": row["url"]} for i, row in enumerate(rows)]
    )


def lengths(texts: pa.StringArray) -> pa.RecordBatch:
    sizes = [None if text == "unrated" else float(len(text)) for text in texts.to_pylist()]
    return pa.record_batch({"length": pa.array(sizes, pa.float32())})


def test_a_filters_decisions_and_reasons_are_its_own():
    """Every document of ours gets what datatrove's own filter says of it when called directly."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import GopherRepetitionFilter

    batch = demo_documents(30)
    direct = GopherRepetitionFilter()
    expected = []
    for text in batch.column("text").to_pylist():
        decision = direct.filter(Document(text=text, id=""))
        expected.append(None if decision is True else f"datatrove:GopherRepetitionFilter: {decision[1]}")
    after, reasons = Datatrove(step="GopherRepetitionFilter").process(batch)
    assert reasons is not None
    assert reasons.to_pylist() == expected
    assert any(expected)
    assert after.equals(batch)


def test_dotted_paths_arguments_and_the_chain():
    stage = Datatrove(step="datatrove.pipeline.filters.regex_filter.RegexFilter", args={"regex_exp": "sqlite"})
    tally = Tally()
    kept, dropped = run_chain([stage], demo_documents(40), tally)
    tally.check("chain")
    assert tally.dropped == {"datatrove:RegexFilter": 40 - kept.num_rows}
    assert 0 < kept.num_rows < 40
    assert sum(rows.num_rows for rows in dropped) == 40 - kept.num_rows


def test_formatters_change_texts_and_sizes():
    texts = ["write to someone@example.org now", "plain"]
    batch = documents([{"id": str(i), "text": text, "source": "web"} for i, text in enumerate(texts)])
    after, reasons = Datatrove(step="PIIFormatter").process(batch)
    assert "someone@example.org" not in after.column("text")[0].as_py()
    assert after.column("text")[1].as_py() == "plain"
    assert reasons is not None
    assert reasons.null_count == 2
    check_documents(after)
    assert after.column("n_bytes").to_pylist() == [len(text.encode()) for text in after.column("text").to_pylist()]


def test_a_formatter_that_leaves_nothing_drops_the_document():
    batch = documents([{"id": "a", "text": "|", "source": "web"}])
    _, reasons = Datatrove(step="SymbolLinesFormatter", args={"symbols_to_remove": ["|"]}).process(batch)
    assert reasons is not None
    assert reasons.to_pylist() == ["datatrove:SymbolLinesFormatter: nothing left of the text"]


def test_steps_see_the_columns_of_a_document():
    batch = documents(
        [
            {"id": "a", "text": "x", "source": "web", "url": "http://www.example.org/page"},
            {"id": "b", "text": "x", "source": "web", "url": "http://bad.example.com/page"},
        ]
    )
    args = {"extra_domains": ["example.com"], "use_integrated_lists": False}
    _, reasons = Datatrove(step="URLFilter", args=args).process(batch)
    assert reasons is not None
    assert [reason is None for reason in reasons.to_pylist()] == [True, False]


@pytest.mark.parametrize(
    ("step", "args", "message"),
    [
        ("GopherRepetitonFilter", {}, "did you mean 'GopherRepetitionFilter'"),
        ("GopherQualityFilter", {"min_words": 5}, "min_doc_words"),
        ("os.system", {}, "no filter or formatter"),
        ("datatrove.data.Document", {}, "not a datatrove step"),
        ("SamplerFilter", {"rate": 0.5}, "call order"),
    ],
)
def test_wrong_steps_teach(step, args, message):
    with pytest.raises(ConfigError, match=message):
        Datatrove(step=step, args=args).process(demo_documents(1))


def test_known_steps_are_filters_and_formatters():
    assert {"GopherQualityFilter", "C4QualityFilter", "FTFYFormatter"} <= set(known_steps())
    assert "BaseFilter" not in known_steps()


def test_nothing_is_logged(capfd):
    Datatrove(step="GopherQualityFilter").process(demo_documents(2))
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "datatrove" not in captured.err


def test_a_rater_in_a_datatrove_pipeline(tmp_path):
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    texts = [f"text {'x' * i}" for i in range(25)] + ["unrated"]
    (tmp_path / "in").mkdir()
    lines = [json.dumps({"id": str(i), "text": text}) for i, text in enumerate(texts)]
    (tmp_path / "in" / "a.jsonl").write_text("\n".join(lines))
    pipeline = [
        JsonlReader(str(tmp_path / "in")),
        rater_step("length", lengths, batch_size=10),
        JsonlWriter(str(tmp_path / "out"), compression=None),
    ]
    stats = LocalPipelineExecutor(pipeline, tasks=1, logging_dir=str(tmp_path / "logs")).run()
    (file,) = (tmp_path / "out").glob("*.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["text"] for row in rows] == texts
    assert [row["metadata"]["length"] for row in rows] == [float(len(text)) for text in texts[:-1]] + [None]
    assert stats is not None


def test_identity_names_the_release():
    identity = Datatrove(step="URLFilter").identity()
    assert identity["datatrove"]
    assert identity["step"] == "URLFilter"
