"""How the text kernels are compiled: once a machine, without the GIL, and never from a stale cache.

`kernel` is numba's njit with an on-disk cache. That cache checks only the file a function stands in, not the
files of the functions it calls, so an edited or upgraded helper would go unnoticed and old results would come
back. `drop_stale_cache` closes that gap: the cache belongs to one hash over all kernel sources, and cached
kernels of other sources are deleted before the first one is loaded. Two processes doing this at once may each
compile; neither can read a wrong kernel.

Run it:  the batch functions of this package call it; nothing to do by hand
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import xxhash

kernel: Callable[..., Any] = numba.njit(cache=True, nogil=True, error_model="numpy")
"""For functions that Python calls: compiled on the first call, then kept on disk."""
helper: Callable[..., Any] = numba.njit(nogil=True, error_model="numpy")
"""For functions that only kernels call: compiled into them, so not kept by themselves."""


@functools.cache
def drop_stale_cache() -> None:
    """Delete cached kernels made from other sources than the ones on disk now. Cheap after the first call."""
    here = Path(__file__).parent
    digest = xxhash.xxh3_64()
    for source in sorted(here.glob("*.py")):
        digest.update(source.read_bytes())
    folder = Path(_probe.stats.cache_path)
    stamp = folder / f"text-kernels-{digest.hexdigest()}.stamp"
    if stamp.exists():
        return
    for source in here.glob("*.py"):
        for cached in folder.glob(f"{source.stem}.*.nb[ic]"):
            cached.unlink(missing_ok=True)
    for old in folder.glob("text-kernels-*.stamp"):
        old.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    stamp.touch()


@kernel
def _probe() -> int:
    """Never called: its dispatcher knows where numba keeps the cache of this folder."""
    return 0
