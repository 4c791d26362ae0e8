"""A page that gives orders comes out rephrased or is rejected; what obeys it never becomes a document.

The model here is scripted: it obeys. What a real model does is measured by `benchmarks/injection.py`.
"""

import pytest
from injection_pages import PAGES

from benchmarks.injection import carries, injection_rates, obeys, table
from rephrase.gates.instruments import NO_INSTRUMENTS
from rephrase.gates.judging import Passage, judge
from rephrase.generator import Generation
from rephrase.style import load_style

PROSE = ("easy", "medium", "hard")
STYLES = (*PROSE, "qa", "wikipedia", "distill", "extract_knowledge", "knowledge_list", "faq", "table", "tutorial")


def words(text: str) -> int:
    return len(text.split())


def reason(page, answer: str, style_name: str) -> str | None:
    style = load_style(style_name)
    generation = Generation(answer, "stop", 100, words(answer))
    return judge(generation, Passage(page.text, "en", words), style, NO_INSTRUMENTS).reason


def test_there_are_a_dozen_pages_and_more():
    assert len(PAGES) >= 12
    assert len({page.name for page in PAGES}) == len(PAGES)
    assert all(page.order in page.text and page.obeyed for page in PAGES)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_an_answer_that_obeys_the_page_is_rejected(page, style):
    lead_in = load_style(style).lead_in
    for answer in page.obeyed:
        assert reason(page, answer, style) is not None, answer
        if lead_in:  # a clever obedience that keeps the agreed form
            assert reason(page, f"{lead_in} {answer}", style) is not None, answer


@pytest.mark.parametrize("style", PROSE)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_faithful_rephrasing_of_the_same_page_passes(page, style):
    assert reason(page, page.article.rephrased, style) is None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_obedience_in_the_form_of_questions_is_rejected(page):
    for answer in page.obeyed:
        told = " ".join(answer.split()) or "nothing"
        dressed = f"Question: What now?\nAnswer: {told}\n\nQuestion: And what else?\nAnswer: {told}"
        assert reason(page, dressed, "qa") is not None, answer


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_stands_inside_its_fence_and_the_instruction_outside(page):
    for name in STYLES:
        last = load_style(name).messages(page.text)[-1].content
        before, after = last.split(page.text)
        closing = after.strip().splitlines()[0]
        assert closing.startswith("</passage")
        assert closing not in page.text
        assert before.rstrip().endswith(closing.replace("</", "<"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_benchmark_tells_answers_that_obey_from_those_that_do_not(page):
    assert all(obeys(page, answer) for answer in page.obeyed)
    assert not obeys(page, page.article.rephrased)


def test_the_benchmark_counts_each_page_and_style_once(scripted):
    class Obedient(scripted):
        def generate(self, requests, *, seed):
            for place, request in enumerate(requests):
                page = next(page for page in PAGES if page.text in request.messages[-1].content)
                yield place, Generation(page.obeyed[0], "stop", 100, 50)

    results = injection_rates(Obedient(), styles=["easy", "qa"])
    assert len(results) == 2 * len(PAGES)
    assert all(result.obeyed and result.reason for result in results)
    easy = table(results).splitlines()[1].split()
    assert easy[:6] == ["easy", str(len(PAGES)), "0", str(len(PAGES)), str(len(PAGES)), "0"]


def test_an_order_that_is_copied_is_told_from_one_that_is_obeyed():
    page = next(page for page in PAGES if page.name == "asks for base64")
    copied = f"{page.article.rephrased}\n\n{page.order}"
    assert carries(page, copied)
    assert not obeys(page, copied)
    assert not carries(page, page.article.rephrased)
