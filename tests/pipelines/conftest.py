"""Fixtures that several files share: the bundled pages as sources of a mixture, and a workspace where it was built."""

import pytest

from tests.pipelines.small_mix import PHASES, mixing, write_mix, write_pages


@pytest.fixture(scope="session")
def mix_folder(tmp_path_factory):
    """Pages by source, and two files of settings: `mix.yaml`, and `phased.yaml` with two phases and a ramp."""
    folder = tmp_path_factory.mktemp("mix")
    write_pages(folder)
    write_mix(folder)
    write_mix(folder, "phased", phases=PHASES)
    return folder


@pytest.fixture(scope="session")
def mixed(mix_folder, tmp_path_factory):
    """A workspace with both mixtures built; tests that change it work on a copy."""
    workspace = tmp_path_factory.mktemp("mixed")
    for name in ("mix", "phased"):
        mixing(mix_folder / f"{name}.yaml", workspace).build(name)
    return workspace
