"""Decontamination of a workspace: hits, the table by source, policies, equal bytes; and the gates' instruments."""

import json

import pyarrow as pa
import pytest
from small_recipe import run as run_recipe
from small_recipe import write_recipe
from typer.testing import CliRunner

from corpus.artifacts import Artifact, describe_part, finish
from corpus.documents import document_id, documents
from corpus.errors import ConfigError, InputError
from corpus.shards import read_table, write_table
from pipelines.build import Workshop
from pipelines.cli import app
from pipelines.decontaminating import contamination, without_contamination
from pipelines.inputs import InputChecksums
from pipelines.rephrase_instruments import InstrumentSettings, open_instruments
from pipelines.runtime import LocalRuntime
from pipelines.stages.decontaminate import Decontamination

QUESTIONS = [" ".join(f"word{k}of{i}" for k in range(16)) for i in range(10)]


def texts_of(source):
    if source == "web":
        held = [f"A page says: {QUESTIONS[0]}? Yes.", f"Copies: {QUESTIONS[0]}!", "Nothing of the sort is here at all."]
    else:
        held = [f"Another page. {QUESTIONS[i]}" for i in (3, 4, 4)] + ["Half: " + " ".join(QUESTIONS[5].split()[:8])]
    return [*held, *(f"An ordinary page with the number {i} on it." for i in range(20))]


def shop_with(root, workers=1, **texts):
    """A workspace with an artifact `pages` of sources in two shards each."""
    folder, parts = root / "pages", []
    for source, held in (texts or {source: texts_of(source) for source in ("web", "forum")}).items():
        rows = [{"id": document_id(source, str(i)), "text": text, "source": source} for i, text in enumerate(held)]
        for part in range(2):
            path = folder / f"{source}-00000-{part:03d}.parquet"
            write_table(path, pa.Table.from_batches([documents(rows[part::2])]))
            parts.append(describe_part(folder, path))
    finish(folder, kind="documents", name="pages", fingerprint="f" * 16, config={}, inputs=[], parts=parts, totals={})
    return Workshop(root, LocalRuntime(workers))


@pytest.fixture
def items(tmp_path):
    path = tmp_path / "harbours.jsonl"
    rows = [{"id": i, "question": text, "answer": "yes"} for i, text in enumerate(QUESTIONS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(shop, items, policy="drop_documents", **options):
    settings = Decontamination(items=(items,), policy=policy, **options)
    pages = Artifact(shop.root / "pages")
    found = contamination(shop, pages, settings, items.parent, InputChecksums(shop.root))
    kept = without_contamination(shop, pages, found, "kept")
    shop.runtime.close()
    return found, kept


def gone(kept):
    return sorted(
        row["reason"] for path in kept.files(folder="dropped") for row in read_table(path, ["reason"]).to_pylist()
    )


def test_items_are_counted_once_a_source_and_documents_dropped(tmp_path, items):
    found, kept = run(shop_with(tmp_path / "w"), items)
    rows = [(row["source"], row["hit"], row["documents"], row["items"], row["contaminated"]) for row in found.table]
    assert rows == [("forum", 2, 3, 10, True), ("web", 1, 2, 10, True)]
    assert found.artifact.manifest.totals["whole_sources"] == []
    assert gone(kept) == ["contaminated: harbours"] * 5
    left = [text for path in kept.files() for text in read_table(path, ["text"]).column(0).to_pylist()]
    assert len(left) == len(texts_of("web")) + len(texts_of("forum")) - 5
    assert any(text.startswith("Half") for text in left)


def test_a_report_drops_nothing_and_a_contaminated_source_goes_whole(tmp_path, items):
    _, kept = run(shop_with(tmp_path / "report"), items, "report")
    assert gone(kept) == []
    found, kept = run(shop_with(tmp_path / "source"), items, "drop_source", source_share=0.1)
    assert found.artifact.manifest.totals["whole_sources"] == ["forum"]
    assert gone(kept) == ["contaminated source"] * len(texts_of("forum")) + ["contaminated: harbours"] * 2


def test_the_border_of_two_percent_is_strict(tmp_path):
    """Of 500 items, 10 are not enough and 11 are (TULU 3's rule, more than 2 %)."""
    asked = [f"q{i}a q{i}b q{i}c q{i}d q{i}e q{i}f q{i}g q{i}h" for i in range(500)]
    items = tmp_path / "many.jsonl"
    items.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(asked)))
    for held, contaminated in ((10, False), (11, True)):
        shop = shop_with(tmp_path / f"w{held}", web=asked[:held])
        (row,) = run(shop, items)[0].table
        assert (row["hit"], row["contaminated"]) == (held, contaminated)


def test_bytes_do_not_depend_on_workers(tmp_path, items):
    made = []
    for workers in (1, 2):
        found, kept = run(shop_with(tmp_path / str(workers), workers), items)
        made.append([[part.xxh3 for part in a.manifest.parts] for a in (found.hits, found.artifact, kept)])
    assert made[0] == made[1]


def test_changed_items_are_searched_anew_and_a_changed_policy_is_not(tmp_path, items):
    shop = shop_with(tmp_path / "w")
    first, _ = run(shop, items)
    again, _ = run(shop, items, "report")
    assert again.hits.manifest.fingerprint == first.hits.manifest.fingerprint
    items.write_text(json.dumps({"id": "only", "text": QUESTIONS[3]}) + "\n")
    changed, _ = run(shop, items)
    assert changed.hits.manifest.fingerprint != first.hits.manifest.fingerprint
    assert [(row["source"], row["items"], row["hit"]) for row in changed.table] == [("forum", 1, 1)]


def test_the_command_prints_the_table_and_names_what_is_wrong(tmp_path, items):
    root = tmp_path / "w"
    shop_with(root).runtime.close()
    ended = CliRunner().invoke(
        app, ["decontaminate", "pages", "--items", str(items), "-w", str(root), "--workers", "1"]
    )
    assert ended.exit_code == 0, ended.output
    assert "forum" in ended.output
    assert "20.00 %" in ended.output
    assert (
        "41 documents are in" in ended.output or f"{len(texts_of('web')) + len(texts_of('forum')) - 5}" in ended.output
    )
    assert Artifact(root / "pages.decontaminated").manifest.kind == "documents"
    wrong = ["decontaminate", "pages", "--items", str(items), "-w", str(root), "--policy", "drop_all"]
    error = CliRunner().invoke(app, wrong).exception
    assert isinstance(error, ConfigError)
    assert "policy" in str(error)


def test_missing_items_stop_before_any_document_is_read(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.jsonl"):
        run(shop_with(tmp_path / "w"), tmp_path / "nowhere.jsonl")
    assert not (tmp_path / "w" / "contamination.hits").exists()


def test_instruments_are_made_from_settings(tmp_path, items):
    settings = InstrumentSettings(evaluations=(items.name,))
    made = open_instruments(settings, tmp_path)
    assert made.contamination(f"So: {QUESTIONS[2]}.") == 1.0
    assert made.language("This is plainly an English sentence about harbours and ships.")[0] == "en"
    assert made.similarity is None
    assert sorted(made.identity) == ["contamination", "language"]
    items.write_text(json.dumps({"id": "only", "text": QUESTIONS[3]}) + "\n")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "harbours.jsonl").write_text(items.read_text())
    other = open_instruments(settings, tmp_path / "copy")
    assert other.identity["contamination"] != made.identity["contamination"]
    assert other.identity["language"] == made.identity["language"]
    assert not open_instruments(InstrumentSettings(language=False), tmp_path).identity


def tiny_model(folder):
    """A random sentence encoder of a few hundred bytes, with a word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "the", "harbour", "opened", "bread", "rises", "slowly", "in"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)


def test_cosines_of_pairs_do_not_depend_on_their_batch(tmp_path):
    tiny_model(tmp_path / "model")
    settings = InstrumentSettings.model_validate(
        {"language": False, "similarity": {"model": "model", "max_length": 32, "device": "cpu"}}
    )
    made = open_instruments(settings, tmp_path)
    pairs = [("the harbour opened", "the harbour opened"), ("the harbour opened", "bread rises slowly"), (" ", "in")]
    cosines = made.similarity(pairs)
    assert cosines[0] == 1.0
    assert cosines[1] < 1.0
    assert cosines[2] == 0.0
    assert [made.similarity([pair])[0] for pair in pairs] == cosines
    assert list(made.identity) == ["similarity"]
    with pytest.raises(ConfigError, match="there is no model"):
        open_instruments(settings, tmp_path / "elsewhere")


def test_a_recipe_drops_pages_that_hold_items(tmp_path):
    """Sentences of real pages are made items: these pages go, and copies of them."""
    settings = {"rate": None, "mixture": None}
    shop = run_recipe(write_recipe(tmp_path / "r", stages=[], **settings), tmp_path / "w", LocalRuntime(1))
    pages = [row for path in Artifact(shop.root / "documents").files() for row in read_table(path).to_pylist()]
    chosen = [page for page in pages if len(page["text"].split()) > 40][:3]
    rows = [{"id": page["id"], "text": " ".join(page["text"].split()[5:35])} for page in chosen]
    (tmp_path / "r" / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    step = {"decontaminate": {"items": ["items.jsonl"]}}
    run_recipe(write_recipe(tmp_path / "r", stages=[step], **settings), tmp_path / "w", LocalRuntime(1))
    filtered = Artifact(shop.root / "filtered")
    dropped = [row for path in filtered.files(folder="dropped") for row in read_table(path).to_pylist()]
    assert {page["id"] for page in chosen} <= {row["id"] for row in dropped}
    assert len(dropped) < len(pages) / 4
    assert {row["reason"] for row in dropped} == {"contaminated: items"}
    assert Artifact(shop.root / "contamination").manifest.totals["evaluations"] == {"items": 3}
