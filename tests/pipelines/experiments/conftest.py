"""Fixtures that tests of studies share: a workspace with real pages, scores and rephrasings."""

import pytest

from tests.pipelines.experiments.small_study import prepared, small_study, write_workspace


@pytest.fixture(scope="session")
def study_root(tmp_path_factory):
    """A workspace of documents, rephrasings and scores; tests that change what is in it work on a copy."""
    root = tmp_path_factory.mktemp("study")
    write_workspace(root)
    return root


@pytest.fixture(scope="session")
def study_data(study_root):
    """What `small_study()` reads and is measured on, in `study_root`."""
    return prepared(study_root, small_study())
