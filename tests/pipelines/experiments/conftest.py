"""Fixtures that tests of studies share: a workspace with real pages, scores and rephrasings."""

import pytest

from tests.pipelines.experiments.small_study import write_workspace


@pytest.fixture(scope="session")
def study_root(tmp_path_factory):
    """A workspace of documents, rephrasings and scores; tests that change what is in it work on a copy."""
    root = tmp_path_factory.mktemp("study")
    write_workspace(root)
    return root
