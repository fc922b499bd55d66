"""Room for features: a budget for the cache folder, and what is removed to keep it."""

import contextlib
import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hybridhash_jax.features import row_files
from hybridhash_jax.features.keys import FACTS, LOCK
from hybridhash_jax.features.store import FeatureStore, needed_bytes
from hybridhash_jax.runtime import lock_file
from hybridhash_jax.runtime.console import logger
from input_pipeline.atomic_file import nearest_existing

_KEY = re.compile(r"[0-9a-f]{24}")
# Nothing else is ever removed: the folder may be one that a user keeps other things in.
_FILES = (row_files.ROWS, row_files.INDEX, FACTS)


@dataclass(frozen=True)
class _Key:
    """What one key has on disk."""

    used: float
    path: Path
    num_bytes: int


def make_room(store: FeatureStore, sums: np.ndarray, budget_bytes: int) -> str | None:
    """Prunes, so that the features of images fit; a sentence why they cannot, or None.

    To be called before `store.writing()`, with the checksums uint8 [N, 16] of all images that are
    needed together. Other keys go first, those not used for longest; then this key, if it is full of
    other images.
    """
    missing = len(store.missing(sums))
    if not missing:
        return None
    folder = store.path.parent
    needed = needed_bytes(len(np.unique(sums, axis=0)), store.views, store.row_shape)
    more = needed_bytes(missing, store.views, store.row_shape)
    if needed > budget_bytes:
        return (
            f"the features of these images need {_gigabytes(needed)}, and "
            f"--config.features.budget_gb is {budget_bytes / 1e9:g}"
        )
    if store.num_bytes + more > budget_bytes:
        more = needed
        prune(folder, budget_bytes - more)
        store.reload()
    else:
        prune(folder, budget_bytes - more, keep=[store.path])
    free = shutil.disk_usage(nearest_existing(store.path)).free
    if more > free:
        return (
            f"the features need {_gigabytes(more)} more, and the disk of {folder} has "
            f"{_gigabytes(free)} free; make room, or name another place with "
            "--config.features.dir=FOLDER"
        )
    return None


def prune(folder: str | Path, budget_bytes: int, keep: Collection[Path] = ()) -> list[Path]:
    """Removes the keys not used for longest until all take at most so many bytes; says which.

    Keys in `keep`, and those that another process writes to, stay. What a process has mapped stays
    readable to it.
    """
    keys = sorted(_keys(Path(folder).expanduser().absolute()), key=lambda key: key.used)
    total = sum(key.num_bytes for key in keys)
    kept = {Path(path).absolute() for path in keep}
    removed = []
    for key in keys:
        if total <= budget_bytes:
            break
        if key.path not in kept and _remove(key.path):
            logger.info(
                "removed kept features to make room: %s (%s)", key.path, _gigabytes(key.num_bytes)
            )
            removed.append(key.path)
            total -= key.num_bytes
    return removed


def _keys(folder: Path) -> list[_Key]:
    """The keys in a cache folder, also those of other versions."""
    keys = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _KEY.fullmatch(path.name) and path.is_dir():
                with contextlib.suppress(OSError):
                    keys.append(_measured(path))
    return keys


def _measured(path: Path) -> _Key:
    there = [(path / name).stat() for name in _FILES if (path / name).exists()]
    used = max((one.st_mtime for one in there), default=0.0)
    return _Key(used, path, sum(one.st_size for one in there))


def _remove(path: Path) -> bool:
    """Removes a key unless another process holds it, or its files cannot be removed."""
    try:
        with lock_file.held(path / LOCK):
            for name in _FILES:
                (path / name).unlink(missing_ok=True)
    except (lock_file.HeldError, OSError):
        return False
    with contextlib.suppress(OSError):
        path.rmdir()  # not if somebody has begun anew, or keeps something else there
    return True


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.3g} MB"
