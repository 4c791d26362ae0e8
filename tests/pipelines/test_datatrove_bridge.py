"""The bridge to the real datatrove: its steps as stages, and a rater as one of its steps."""

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from corpus.documents import DOCUMENT_SCHEMA, check_documents, documents
from corpus.errors import ConfigError, SchemaError
from corpus.scores import Score
from pipelines.stages.base import run_chain
from pipelines.stages.datatrove_bridge import Datatrove, known_steps, rater_step
from pipelines.tally import Tally
from raters.base import with_counts
from raters.language_rater import LanguageSettings
from raters.signals import NaturalSignals

pytest.importorskip("datatrove")

DEMO = Path(__file__).parents[2] / "pipelines" / "demo" / "pages.jsonl"


def demo_documents(count: int) -> pa.RecordBatch:
    rows = [json.loads(line) for line in DEMO.read_text(encoding="utf-8").splitlines()[:count]]
    return documents(
        [{"id": str(i), "text": row["text"], "source": "web", "url": row["url"]} for i, row in enumerate(rows)]
    )


@dataclass(frozen=True)
class Half:
    """Half of a score that another rater gave, and what the documents' metadata became as columns."""

    of: str

    @property
    def scores(self):
        return (Score(f"half_{self.of}", None, None, "high"),)

    @property
    def needs(self):
        return (self.of, "lang", "source", "url", "n_bytes", "text", "meta")

    def identity(self):
        return {"rater": "half"}

    def rate(self, batch):
        for name in set(self.needs) - {self.of}:
            assert batch.schema.field(name).type == DOCUMENT_SCHEMA.field(name).type
        sizes = [len(text.encode()) for text in batch.column("text").to_pylist()]
        assert batch.column("n_bytes").to_pylist() == sizes
        kept = [lang == "de" and source == "a" and url is None for lang, source, url in
                zip(*(batch.column(name).to_pylist() for name in ("lang", "source", "url")), strict=True)]  # fmt: skip
        halves = [value / 2 if value and keep else None
                  for value, keep in zip(batch.column(self.of).to_pylist(), kept, strict=True)]  # fmt: skip
        return with_counts(pa.record_batch([pa.array(halves, pa.float32())], names=[f"half_{self.of}"]), {"halved": 1})


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


def test_raters_in_a_datatrove_pipeline(tmp_path):
    """Two of ours and one that reads their scores, in two worker processes: as the raters say when called directly."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    texts = {
        "a": [*demo_documents(25).column("text").to_pylist(), "  \n "],
        "b": demo_documents(40).column("text").to_pylist()[25:],
    }
    (tmp_path / "in").mkdir()
    for source, rows in texts.items():
        language = {"language": "de"} if source == "a" else {"lang": "en", "url": "http://example.org"}
        lines = [json.dumps({"id": f"{source}{i}", "text": text, "source": source, **language})
                 for i, text in enumerate(rows)]  # fmt: skip
        (tmp_path / "in" / f"{source}.jsonl").write_text("\n".join(lines))
    language = LanguageSettings(languages=("en", "de")).rater("lang", None)
    pipeline = [
        JsonlReader(str(tmp_path / "in")),
        rater_step(NaturalSignals(), batch_size=10),
        rater_step(language, name="languages"),
        rater_step(Half("rps_doc_word_count"), batch_size=7),
        JsonlWriter(str(tmp_path / "out"), compression=None),
    ]
    stats = LocalPipelineExecutor(pipeline, tasks=2, workers=2, logging_dir=str(tmp_path / "logs")).run()
    written = [json.loads(line) for file in sorted((tmp_path / "out").glob("*.jsonl")) for line in file.open()]
    assert [row["id"] for row in written] == [f"{source}{i}" for source in texts for i in range(len(texts[source]))]
    languages_of = [code for code, source in (("de", "a"), ("en", "b")) for _ in texts[source]]
    batch = pa.record_batch({"text": [text for rows in texts.values() for text in rows], "lang": languages_of})
    expected = [
        {**signals, **languages, "half_rps_doc_word_count": signals["rps_doc_word_count"] / 2 or None}
        for signals, languages in zip(
            NaturalSignals().rate(batch).to_pylist(), language.rate(batch).to_pylist(), strict=True
        )
    ]
    for row, scores in zip(written, expected, strict=True):
        if row["id"].startswith("b"):
            scores["half_rps_doc_word_count"] = None
        assert {name: row["metadata"][name] for name in scores} == scores
    named = {item.name: item.stats for item in stats.stats}
    assert named["RATER: languages"]["rated"].total == len(written)
    assert named["RATER: Rater of half_rps_doc_word_count"]["halved"].total == 4 + 3


def test_a_score_that_no_step_gave_is_missed_by_name():
    from datatrove.data import Document

    step = rater_step(Half("edu"))
    with pytest.raises(SchemaError, match="no document has the score 'edu'"):
        list(step.run(iter([Document(text="x", id="1", metadata={"lang": "en"})])))
    assert list(step.run(iter([]))) == []


def test_half_a_surrogate_pair_is_no_reason_to_stop():
    from datatrove.data import Document

    (rated,) = rater_step(NaturalSignals()).run([Document(text="one \ud83d two", id="1", metadata={})])
    assert rated.text == "one \ud83d two"
    assert rated.metadata["rps_doc_word_count"] == 2  # the question mark that stands for it is punctuation


def test_identity_names_the_release():
    identity = Datatrove(step="URLFilter").identity()
    assert identity["datatrove"]
    assert identity["step"] == "URLFilter"
