"""What lies beside the shards of a packed data set: its lists, its settings and TFDS's metadata."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from input_pipeline.atomic_file import write_atomically
from input_pipeline.errors import DataError
from input_pipeline.lists.label_lists import format_list
from input_pipeline.lists.listed import LIST_FILES
from input_pipeline.packed.records import (
    CLASSES_FILE,
    FORMAT_VERSION,
    INFO_FILE,
    PACK,
    PACKING_FILE,
    PART_FILE,
    lists_checksum,
)
from input_pipeline.packed.shard_writer import SIDECAR_SUFFIX, Shard, is_whole, write_sidecar
from input_pipeline.splits import Splits

_OF_TFDS = "features.json"
UNREADABLE_FILE = "unreadable.txt"
# What decides the bytes of a shard.
PACKAGES = ("array_record", "pillow", "simplejpeg", "tensorflow-datasets")


@dataclass(frozen=True, eq=False)
class Contents:
    """What is packed: N relative paths, labels uint8 [N, classes], rows of both, class names."""

    names: Sequence[str]
    labels: np.ndarray
    splits: Splits
    class_names: tuple[str, ...]

    def order(self) -> list[int]:
        """Every row of a split once, by first appearance through train, query, database."""
        return list(dict.fromkeys(np.concatenate([*self.splits.by_name().values()]).tolist()))

    def membership(self) -> np.ndarray:
        """The splits of each image: bool [N, 3], in train, in query and in database."""
        rows, parts = np.arange(len(self.names)), self.splits.by_name().values()
        return np.stack([np.isin(rows, part) for part in parts], axis=1)

    def without(self, rows: Sequence[int]) -> "Contents":
        """The same with these rows in no split; DataError if a split would lose all its images."""
        parts = {name: x[~np.isin(x, rows)] for name, x in self.splits.by_name().items()}
        for split, part in parts.items():
            if not len(part):
                raise DataError(
                    f"not one {split} image can be read; is the image folder the right one?"
                )
        return Contents(self.names, self.labels, Splits(**parts), self.class_names)

    def list_files(self) -> dict[str, bytes]:
        """The three list files by name; ValueError for a name that no list can hold."""
        return {
            file: format_list(list(map(self.names.__getitem__, rows)), self.labels[rows], file)
            for rows, file in zip(self.splits.by_name().values(), LIST_FILES.values(), strict=True)
        }


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Makes the directory, and keeps other processes from packing into it inside the block.

    DataError if it cannot be used, or another process packs into it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"cannot use {directory} ({error}); choose another --out") from error
    try:
        # Ends with the process, however that ends: a pack that was killed can go on at once.
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise DataError(
            f"another process packs into {directory}: wait until it has ended, or choose another "
            "--name or --out"
        ) from None
    except OSError:
        pass  # such as some network disks; the names of parts keep two packs there apart
    try:
        yield
    finally:
        os.close(handle)


def already_packed(
    directory: Path, contents: Contents, settings: dict[str, Any]
) -> dict[str, Any] | None:
    """`packing.json` if just this is there, complete; None if nothing, DataError if another.

    If some of its files are not whole it becomes an unfinished pack again; None then, too.
    """
    if not (directory / INFO_FILE).exists():
        return None
    try:
        packing = json.loads((directory / PACKING_FILE).read_bytes())
        _check_same(packing["settings"], settings, directory)
        if _are_whole(directory, packing):
            return packing
        _reopen(directory, contents, packing)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{directory} holds a data set that {PACK} did not write, or a damaged one ({error}); "
            "choose another --name or --out, or remove that directory"
        ) from error
    return None


def _are_whole(directory: Path, packing: dict[str, Any]) -> bool:
    """Are the shards and lists those of `packing.json`? The shards' contents are not read."""
    paths = [directory / name for name in LIST_FILES.values()]
    others = (directory / name for name in (CLASSES_FILE, _OF_TFDS))
    if not all(path.is_file() for path in (*paths, *others)):
        return False
    same_lists = lists_checksum(x.read_bytes() for x in paths) == packing["lists_sha256"]
    return same_lists and all(
        is_whole(directory / x["file"], x["images"], x["bytes"]) for x in packing["shards"]
    )


def _reopen(directory: Path, contents: Contents, packing: dict[str, Any]) -> None:
    """Makes a finished pack an unfinished one, of which the whole shards are there."""
    size = packing["settings"]["images_per_shard"]
    places = {contents.names[row]: (i // size, row) for i, row in enumerate(contents.order())}
    left_out = [(*places[image["name"]], image["reason"]) for image in packing["left_out"]]
    for i, facts in enumerate(packing["shards"]):
        lacking = tuple((row, reason) for shard, row, reason in left_out if shard == i)
        write_sidecar(directory / facts["file"], Shard(**facts, left_out=lacking))
    claim(directory, packing["settings"])
    # Last: without it nothing takes the directory for a data set.
    (directory / INFO_FILE).unlink()


def claim(directory: Path, settings: dict[str, Any]) -> None:
    """Begins a pack, or takes over what an earlier run with just these settings left."""
    part = directory / PART_FILE
    try:
        begun = json.loads(part.read_bytes()) if part.exists() else None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot use {directory} ({error}); choose another --out") from error
    if begun is None:
        write_atomically(part, _json(settings))
    else:
        _check_same(begun, settings, directory)


def _check_same(there: dict[str, Any], now: dict[str, Any], directory: Path) -> None:
    now = json.loads(_json(now))
    different = [
        f"{key} was {_short(there.get(key))}, is now {_short(now.get(key))}"
        for key in sorted({*there, *now})
        if there.get(key) != now.get(key)
    ]
    if different:
        raise DataError(
            f"{directory} was packed, or begun, with other settings: {'; '.join(different)}. "
            "Use the same settings, choose another --name or --out, or remove that directory"
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def write_lists_and_packing(
    directory: Path, contents: Contents, shards: Sequence[Shard], settings: dict[str, Any]
) -> dict[str, Any]:
    """Writes all but TFDS's metadata beside the complete shards; returns `packing.json`."""
    member, splits = contents.membership(), np.array(list(LIST_FILES))
    left_out = [image for shard in shards for image in shard.left_out]
    lists = contents.without([row for row, _ in left_out]).list_files()
    packing = {
        "format_version": FORMAT_VERSION,
        "num_images": sum(shard.images for shard in shards),
        "lists_sha256": lists_checksum(lists.values()),
        "settings": settings,
        "shards": [
            {"file": x.file, "images": x.images, "bytes": x.bytes, "sha256": x.sha256}
            for x in shards
        ],
        "left_out": [
            {"name": contents.names[row], "reason": why, "splits": splits[member[row]].tolist()}
            for row, why in left_out
        ],
    }
    classes = "".join(f"{name}\n" for name in contents.class_names).encode()
    for name, data in (lists | {CLASSES_FILE: classes, PACKING_FILE: _json(packing)}).items():
        write_atomically(directory / name, data)
    return packing


def clean_up(directory: Path, packing: dict[str, Any]) -> None:
    """Removes what only an unfinished pack needs."""
    sidecars = [shard["file"] + SIDECAR_SUFFIX for shard in packing["shards"]]
    # What `atomic_file` was writing when it was killed.
    halves = [path.name for path in directory.glob(".*.part")]
    for name in (*sidecars, *halves, UNREADABLE_FILE, PART_FILE):
        (directory / name).unlink(missing_ok=True)
