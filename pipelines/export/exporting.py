"""Write an order as files of another trainer: the one function behind `gradatim export`.

An export is an artifact like any other: a manifest that names the order (and the pack) it was made from, and the
checksum of each file. An interrupted export goes on where it stopped; a finished one of the same content is kept.

How it is used:
`export(order, open_shards(order, workspace), folder, ExportSettings(format="megatron"), name="exports/a.megatron")`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from corpus.artifacts import BUILDING, MANIFEST, Artifact, begin, describe_part, finish, is_finished, own_files
from corpus.errors import ConfigError
from corpus.fingerprints import fingerprint
from corpus.tokens import Ids
from curriculum.order import Order
from curriculum.packed import Pack, PackedOrder
from pipelines.export import datatrove, megatron, mosaic, nanogpt
from pipelines.export.settings import ExportSettings
from pipelines.export.stream import TokenStream

KIND = "export"
VERSION = 1
"""Raised when the files of the same settings change."""
WRITERS: dict[str, Callable[[Path, TokenStream, ExportSettings], None]] = {
    "megatron": megatron.write,
    "datatrove": datatrove.write,
    "llmc": nanogpt.write,
    "nanogpt": nanogpt.write_plain,
    "mosaic": mosaic.write,
}


def export(
    order: Order, arrays: Sequence[Ids], folder: Path, settings: ExportSettings, *, name: str, pack: Pack | None = None
) -> Artifact:
    """Write an order's tokens, in order, into `folder` and finish it with a manifest.

    Args:
        arrays: the token ids of each shard, as `curriculum.order_shards.open_shards` maps them.
        folder: a new or empty folder, or an earlier export, which is replaced if anything has changed.
        pack: write its sequences, each padded to T, in place of whole visits.

    Returns the export. Raises ConfigError for a folder that holds other files, or settings that the format does not
    know; ArtifactError for a pack or shards of another order; PackingError where padding is needed and not given.
    """
    source = order if pack is None else PackedOrder(order, pack, settings.padding_id)
    inputs = [order.artifact.ref, *([pack.artifact.ref] if pack else [])]
    config = {**settings.model_dump(), "version": VERSION}
    identity = fingerprint({"kind": KIND, "config": config, "inputs": inputs})
    _check_folder(folder)
    if is_finished(folder, identity):
        return Artifact(folder)
    stream = TokenStream(source, list(arrays))
    begin(folder, identity)
    WRITERS[settings.format](folder, stream, settings)
    totals = {"tokens": stream.n_tokens, "documents": order.n_visits, "dtype": stream.dtype.name}
    if pack is not None:
        totals |= {"sequences": stream.n_units, "padding_tokens": stream.n_tokens - order.n_tokens}
    return finish(
        folder, kind=KIND, name=name, fingerprint=identity, config=config, inputs=inputs,
        parts=[describe_part(folder, path) for path in own_files(folder)], totals=totals,
    )  # fmt: skip


def _check_folder(folder: Path) -> None:
    """Building clears a folder first, so refuse one that holds anything but an export."""
    if folder.is_dir() and any(folder.iterdir()):
        finished, building = (folder / MANIFEST).exists(), (folder / BUILDING).exists()
        kind = Artifact(folder).manifest.kind if finished else KIND if building else "other files"
        if kind != KIND:
            raise ConfigError(
                f"{folder} is not empty, and an export would clear it",
                expected="a new folder, an empty one, or an earlier export",
                found=f"an artifact of kind {kind}" if finished else kind,
                fix="name another folder",
            )
