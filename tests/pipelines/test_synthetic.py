"""Real and rephrased text in one mixture: 1:1 to the token, pairs or none, and a limit on what is rephrased."""

import pytest
import yaml

from corpus.artifacts import Artifact
from corpus.documents import document_id, documents
from corpus.shards import read_table, write_table
from curriculum.order import Order
from mixtures.shares import MixtureError
from pipelines.build import Workshop
from pipelines.mix_settings import MixSettings
from pipelines.mixing import Mixing
from pipelines.recipe import DEMO
from pipelines.runtime import LocalRuntime
from tests.pipelines.small_mix import tokens_by_source


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Fifty real pages, and for every other one a rephrasing: here its sentences in reverse."""
    folder = tmp_path_factory.mktemp("pairs")
    lines = [yaml.safe_load(line) for line in (DEMO.parent / "pages.jsonl").read_text().splitlines()[:50]]
    real = [
        {"id": document_id("web", page["url"]), "source": "web", "text": page["text"][:4_000], "url": page["url"]}
        for page in lines
    ]
    made = [
        {
            "id": document_id("wrap/medium", page["id"]), "source": "wrap/medium", "parent_id": page["id"],
            "style": "medium", "generator": "test@0", "text": ". ".join(reversed(page["text"].split(". "))),
        }
        for page in real[::2]
    ]  # fmt: skip
    shop = Workshop(folder, LocalRuntime(1))

    def make(target):
        write_table(target / "web-00000-00000.parquet", documents(real))
        write_table(target / "wrap-medium-00000-00000.parquet", documents(made))
        return {}

    shop.build_here("texts", "documents", config={}, inputs=[], make=make)
    return folder


def mixing(folder, **changes):
    settings = MixSettings.model_validate(
        {
            "inputs": {"texts": {"kind": "artifact", "artifact": "texts"}}, "tokenizer": {"vocabulary": 600},
            "tokens": "40K", "max_visits": 8, "sources": {"web": "50%", "wrap/*": "50%"}, **changes,
        }
    )  # fmt: skip
    return Mixing(Workshop(folder, LocalRuntime(1)), settings, folder)


def test_one_to_one_is_met_within_half_a_percent_of_tokens(workspace):
    _, order = mixing(workspace).build("one_to_one")
    tokens = tokens_by_source(Order.open(order.folder).table())
    assert abs(tokens["web"] / tokens["wrap/medium"] - 1) <= 0.005
    assert sum(tokens.values()) == 40_000


def test_a_pair_is_read_in_both_forms_or_in_one(workspace):
    parents = set(read_table(workspace / "texts" / "wrap-medium-00000-00000.parquet")["parent_id"].to_pylist())
    for pairing, kept in (("same", 50), ("disjoint", 25)):
        candidates = mixing(workspace, pairing=pairing).candidates
        real = candidates.filter([not made for made in candidates["rephrased"].to_pylist()])
        assert real.num_rows == kept
        assert candidates.num_rows - real.num_rows == len(parents) == 25
    _, order = mixing(workspace, pairing="disjoint").build("disjoint")
    table = Order.open(order.folder).table()
    docs = Artifact(workspace / "texts").files()
    web = next(path for path in docs if path.name.startswith("web"))
    ids = read_table(web, ["id"])["id"].to_pylist()
    read = {ids[row["doc"]] for row in table.to_pylist() if row["source"] == "web"}
    assert read
    assert not read & parents


def test_a_mixture_of_almost_only_rephrased_text_is_refused_unless_asked_for(workspace):
    mostly = {"web": "10%", "wrap/*": "90%"}
    with pytest.raises(MixtureError, match=r"90\.0% of the mixture is rephrased text"):
        mixing(workspace, sources=mostly).plan()
    assert mixing(workspace, sources=mostly, max_synthetic="100%").plan().tokens == 40_000
