"""fastText raters: same bytes for the same texts, hostile texts, damaged models, labels of others."""

import json
import pickle
import random
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("fasttext", reason="needs the extra `web`")

from corpus.config import validated
from corpus.errors import ArtifactError, ConfigError, InputError
from raters.base import sidecar_rows
from raters.fasttext_evaluation import auc
from raters.fasttext_lines import lines_of
from raters.fasttext_model import NEGATIVE, load, prepare, probabilities
from raters.fasttext_rater import FastTextModelSettings, FastTextRater
from raters.fasttext_training import TrainingSettings, train, zeroed_memory

SETTINGS = TrainingSettings(dim=8, bucket=500, epochs=20, lr=0.5)
SUBJECTS = tuple("abcdefghijklm")


def texts(word: str, n: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [f"{' '.join(draw.choices(SUBJECTS, k=9))} {word} {word}ly {i}" for i in range(n)]


GOOD, BAD = texts("careful", 120, 1), texts("cheap", 80, 2)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prose")
    train(GOOD, BAD, SETTINGS, folder)
    return folder / "model.bin"


def rate(rater: FastTextRater, rows: list[str | None]) -> list[float | None]:
    return rater.rate(pa.record_batch({"text": pa.array(rows, pa.string())})).column(rater.name).to_pylist()


def test_it_learns_and_says_how_well(model):
    found = json.loads((model.parent / "evaluation.json").read_text())
    assert found["auc"] > 0.95
    assert (found["n_train"], found["n_held_out_positive"], found["n_held_out_negative"]) == (160, 24, 16)
    assert found["larger_class"] == 0.6
    good, bad = rate(
        FastTextRater.from_file(model, "prose"), ["A CAREFUL, carefully\nkept page", "cheap cheaply cheap"]
    )
    assert good > 0.6 > 0.4 > bad


@pytest.mark.parametrize(
    "settings", [SETTINGS, TrainingSettings(dim=16, bucket=40_000), TrainingSettings(ngrams=1, dim=4)]
)
def test_same_texts_give_the_same_bytes_in_any_order_and_process(tmp_path, settings):
    made = []
    for i in range(3):
        junk = [bytes([i + 65]) * 10 ** random.randrange(4, 7) for _ in range(20)]
        del junk  # leaves used memory behind, on which fastText would otherwise build
        train(random.sample(GOOD, len(GOOD)), BAD[::-1], settings, tmp_path / str(i))
        made.append((tmp_path / str(i) / "model.bin").read_bytes())
    code = (
        "import json,sys; from pathlib import Path; from raters.fasttext_training import *;"
        "g, b, s = json.load(sys.stdin); train(g, b, TrainingSettings(**s), Path(sys.argv[1]))"
    )
    asked = json.dumps([GOOD, BAD, settings.model_dump()])
    subprocess.run([sys.executable, "-c", code, tmp_path / "p"], input=asked, text=True, check=True, timeout=60)
    made.append((tmp_path / "p" / "model.bin").read_bytes())
    assert len(set(made)) == 1


def test_repeated_blank_and_contradicting_texts_are_counted(tmp_path):
    found = train([*GOOD, GOOD[0].upper(), "  \n", "same here"], [*BAD, "Same  here"], SETTINGS, tmp_path)
    assert (found.texts_repeated, found.texts_blank, found.texts_in_both_classes) == (1, 1, 1)


@pytest.mark.parametrize(
    ("good", "bad", "word"), [([], BAD, "positive"), (GOOD, BAD[:19], "negative"), (GOOD, GOOD, "positive")]
)
def test_too_few_texts_are_refused(tmp_path, good, bad, word):
    with pytest.raises(InputError, match=f"too few {word} texts"):
        train(good, bad, SETTINGS, tmp_path)
    assert not (tmp_path / "model.bin").exists()


def test_texts_that_mean_something_to_fasttext(tmp_path):
    hostile = [f"{text} __label__spam </s> \x00 \ud800 more" for text in GOOD]
    train(hostile, BAD, SETTINGS, tmp_path)
    rater = FastTextRater.from_file(tmp_path / "model.bin", "prose")
    assert set(load(rater.path, rater.checksum).labels) == {rater.label, NEGATIVE}
    assert prepare("a </s> b\u2028c __LABEL__x") == "a s b c label x"
    assert prepare(" A </s>\r\nb ", "lines") == "A s b"
    cut, whole = rate(rater, ["the </s> cheap cheaply", "the s cheap cheaply"])
    assert cut == whole


def test_blank_is_null_and_batches_do_not_matter(model):
    rater = pickle.loads(pickle.dumps(FastTextRater.from_file(model, "prose")))
    rows = [None, "", " \n\t", "unheard-of", *GOOD[:5]]
    whole = rate(rater, rows)
    assert whole[:3] == [None, None, None]
    assert all(0 <= value <= 1 for value in whole[3:])
    assert whole == [rate(rater, [row])[0] for row in rows]
    documents = pa.record_batch({"id": [str(i) for i in range(len(rows))], "text": pa.array(rows, pa.string())})
    assert sidecar_rows(rater, documents).column("prose").to_pylist() == whole


def test_the_label_of_the_bad_class_can_be_asked_for(model):
    rater = FastTextRater.from_file(model, "prose")
    other = FastTextRater.from_file(model, "prose", label=NEGATIVE, complement=True)
    np.testing.assert_allclose(rate(rater, GOOD + BAD), rate(other, GOOD + BAD), atol=3e-5)
    assert rater.identity() != other.identity()
    with pytest.raises(ConfigError, match="no label '__label__negativ'; did you mean '__label__negative'"):
        FastTextRater.from_file(model, "prose", label="__label__negativ")


def test_scores_are_those_of_plain_predict(model):
    loaded = load(str(model), FastTextRater.from_file(model, "x").checksum)
    lines = [prepare(text) for text in GOOD[:20] + BAD[:20]]
    plain = [dict(zip(*loaded.predict(line, k=2), strict=True))["__label__positive"] for line in lines]
    np.testing.assert_array_equal(probabilities(loaded, "__label__positive", lines), np.minimum(plain, 1.0))


LETTERS = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from("\u03a3\u0130\u1e9e\u023a\u0416\u00c9Aa \n\r\x1c\x1f\x00\x85\xa0\u1680\u2009\u2028\u3000</s>_"),
    st.sampled_from(["__label__", "</s>", "<\xa0/s>", "\u039f\u03a3 ", "__LABEL__"]),
)


def words(line: bytes) -> list[bytes]:
    """What fastText's dictionary reads of a line (readWord of its dictionary.cc)."""
    return [word for word in re.split(b"[ \\n\\r\\t\\v\\f\\0]+", line) if word]


@given(st.lists(st.one_of(st.none(), st.lists(LETTERS, max_size=12).map("".join)), max_size=8), st.integers(0, 3))
def test_columns_are_prepared_as_texts_are(rows, start):
    column = pa.array(rows, pa.string()).slice(start)
    for form in ("words", "lines"):
        lines = lines_of(column, form)
        expected = [prepare(text or "", form).encode() for text in column.to_pylist()]
        assert [words(line) for line in lines] == [words(line) for line in expected]
        assert [line.count(b"\n") for line in lines] == [int(line.endswith(b"\n")) for line in lines]
        assert [bool(line) for line in lines] == [bool(line) for line in expected]


def test_every_letter_is_prepared_as_python_lowers_it(monkeypatch):
    assert all(chr(i).lower() == chr(i) for i in range(0x20000, sys.maxunicode + 1))
    texts = [f"{chr(i)}x{chr(i)}\u0391{chr(i)} {chr(i)}" for i in range(1, 0x20010) if not 0xD800 <= i < 0xE000]
    expected = [words(prepare(text).encode()) for text in texts]
    for size in (1 << 20, 1 << 12):
        monkeypatch.setattr("raters.fasttext_lines.SLICE_BYTES", size)
        assert [words(line) for line in lines_of(pa.array(texts, pa.string()), "words")] == expected


def fasttext_model(path, lines, unsupervised=False, **settings):
    """A model made by fastText alone, from lines with their labels."""
    import fasttext

    (path.parent / "train.txt").write_text("\n".join(lines))
    make = fasttext.train_unsupervised if unsupervised else fasttext.train_supervised
    with zeroed_memory():
        trained = make(
            str(path.parent / "train.txt"), **{"dim": 8, "bucket": 500, "thread": 1, "verbose": 0, **settings}
        )
    trained.save_model(str(path))
    return trained


def test_a_model_that_keeps_labels_in_a_tree_gives_zero_and_not_null(tmp_path):
    """Hierarchical softmax does not name labels below 1e-5."""
    lines = [f"__label__{i % 4} {chr(97 + i % 4) * 3} {chr(97 + i % 4) * 4}" for i in range(400)]
    trained = fasttext_model(tmp_path / "tree.bin", lines, loss="hs", epoch=60, lr=1.0)
    named = [set(trained.predict(text, k=-1)[0]) for text in ("aaa aaaa", "ddd dddd")]
    assert min(map(len, named)) < 4
    for row, text in enumerate(("aaa aaaa", "ddd dddd")):
        for i in range(4):
            (score,) = rate(FastTextRater.from_file(tmp_path / "tree.bin", "x", label=f"__label__{i}"), [text])
            assert (score == 0) == (f"__label__{i}" not in named[row])


def test_word_vectors_and_quantised_models(tmp_path):
    fasttext_model(tmp_path / "vectors.bin", GOOD + BAD, unsupervised=True)
    with pytest.raises(InputError, match="holds word vectors, not a classifier"):
        FastTextRater.from_file(tmp_path / "vectors.bin", "prose")
    lines = [f"__label__{i % 300} {GOOD[i % 300 % 120]} {i % 300}" for i in range(900)]
    small = fasttext_model(tmp_path / "large.bin", lines, epoch=5)
    small.quantize()
    small.save_model(str(tmp_path / "small.ftz"))
    rater = FastTextRater.from_file(tmp_path / "small.ftz", "prose", label="__label__7")
    labels, shares = small.predict(prepare(GOOD[7]), k=-1)
    assert rate(rater, [GOOD[7]]) == [pytest.approx(shares[labels.index("__label__7")], abs=1e-7)]
    smaller = fasttext_model(tmp_path / "large.bin", lines, epoch=5)
    smaller.quantize(qout=True)
    smaller.save_model(str(tmp_path / "smaller.ftz"))
    with pytest.raises(InputError, match="dense output matrix"):
        FastTextRater.from_file(tmp_path / "smaller.ftz", "prose", label="__label__7")


def test_a_users_model_as_a_recipe_names_it(model, tmp_path):
    """DCLM's form: lines joined, nothing lowered, 1 - p(label) where the label names the bad class."""

    class Desk:
        def path(self, given):
            return model.parent / given

    settings = validated(
        FastTextModelSettings, {"path": "model.bin", "label": NEGATIVE, "complement": True, "form": "lines"}, "recipe"
    )
    rater = settings.rater("dclm", Desk())
    loaded = load(rater.path, rater.checksum)
    text = "  careful CAREFULLY\n\ncheap  cheaply\x85a "
    labels, probs = loaded.predict(" ".join(text.strip().splitlines()), k=2)
    assert rate(rater, [text]) == [pytest.approx(1 - probs[labels.index(NEGATIVE)], abs=1e-7)]
    assert rate(rater, [text]) != rate(FastTextRater.from_file(model, "x", label=NEGATIVE, complement=True), [text])
    for change, kind, message in (
        ({"path": "none.bin"}, InputError, "no fastText model here"),
        ({"label": "__label__hq"}, ConfigError, "no label '__label__hq'"),
    ):
        with pytest.raises(kind, match=message):
            settings.model_copy(update=change).rater("dclm", Desk())


def test_damaged_changed_and_missing_models(model, tmp_path):
    path = tmp_path / "model.bin"
    with pytest.raises(InputError, match="no fastText model here"):
        FastTextRater.from_file(path, "prose")
    for content, message in ((b"hello", "not a fastText model"), (model.read_bytes()[:-9], "cut short"),
                             (model.read_bytes()[:90], "cut short")):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            FastTextRater.from_file(path, "prose")
    with pytest.raises(ArtifactError, match="changed or removed"):
        rate(FastTextRater(str(path), "0" * 16, "prose"), ["text"])


def test_nothing_is_printed(model, capfd):
    load.cache_clear()
    rate(FastTextRater.from_file(model, "prose"), GOOD)
    assert capfd.readouterr() == ("", "")


def test_auc_counts_ties_as_one_half():
    assert auc(np.array([0.9, 0.5]), np.array([0.5, 0.1])) == 0.875
