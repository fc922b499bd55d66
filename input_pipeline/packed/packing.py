"""Packs a data set into ArrayRecord shards that `records` and TFDS read.

A pack that was killed goes on with the first shard that is not complete, and ends with the same
bytes as one that was not. `dataset_info.json` is written last: without it nothing takes the
directory for a data set.
"""

import contextlib
import importlib.metadata
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from input_pipeline.atomic_file import write_atomically
from input_pipeline.errors import DataError, UnreadableImage
from input_pipeline.images.decode import DecodeOptions
from input_pipeline.messages import shortened
from input_pipeline.packed.packed_files import (
    PACKAGES,
    UNREADABLE_FILE,
    Contents,
    already_packed,
    claim,
    clean_up,
    held,
    write_lists_and_packing,
)
from input_pipeline.packed.records import VERSION, lists_checksum
from input_pipeline.packed.shard_writer import Shard, complete_shard, prepare_image, write_shard
from input_pipeline.splits import Splits
from input_pipeline.threads import map_in_threads

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_STRICT = DecodeOptions()
_SHOWN = 20


@dataclass(frozen=True)
class PackingSummary:
    """What a pack ended with; `left_out` are (name, reason, its splits) of unreadable images.

    `reused_shards` were completed by an earlier run; `seconds` are this one's.
    """

    directory: Path
    num_images: int
    num_shards: int
    num_bytes: int
    reused_shards: int
    left_out: tuple[tuple[str, str, tuple[str, ...]], ...]
    seconds: float


def pack_images(
    names: Sequence[str],
    labels: np.ndarray,
    splits: Splits,
    read: Callable[[int], bytes],
    out: Path,
    *,
    name: str,
    class_names: Sequence[str],
    resize: int | None = None,
    quality: int = 92,
    images_per_shard: int = 2048,
    num_workers: int = 1,
    options: DecodeOptions = _STRICT,
    on_unreadable: Literal["error", "skip"] = "error",
    progress: Callable[[int], object] = lambda _: None,
) -> PackingSummary:
    """Packs the images of all splits into `out/name/1.0.0`, or goes on where that stopped.

    Records are in order of first appearance through train, query and database; images in none
    of the three are left away. Every image is decoded once to see that it can be.

    Args:
      names: N relative paths, each once, for labels uint8 [N, classes] of 0 and 1.
      splits: rows of `names`, none of the three empty.
      read: gives the encoded image of a row, to several threads at once; `UnreadableImage` and
        `OSError` count as unreadable.
      resize: see `shard_writer.prepare_image`, as for `quality`, 1 to 100.
      on_unreadable: "error" looks through all images, then raises; "skip" leaves some out.
      progress: called with the number of images done since the last call.

    Raises:
      DataError: unreadable images (`unreadable.txt` in the directory names all of them), a full
        disk, or another data set in that place, also one begun with other settings, or one that
        another process packs.
    """
    start = time.perf_counter()
    contents = Contents(names, labels, splits, tuple(class_names))
    _check_contents(contents)
    _check_options(name, resize, quality, images_per_shard, num_workers)
    directory = Path(out) / name / VERSION
    settings = {
        "name": name,
        "lists_sha256": lists_checksum(contents.list_files().values()),
        "class_names": list(class_names),
        "resize": resize,
        "quality": None if resize is None else quality,
        "images_per_shard": images_per_shard,
        "decoding": asdict(options),
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
    }

    def prepare(row: int) -> tuple[int, bytes | UnreadableImage]:
        try:
            return row, prepare_image(read(row), options, resize, quality)
        except UnreadableImage as error:
            return row, error
        except OSError as error:
            return row, UnreadableImage(str(error))

    with held(directory):
        packing, reused = already_packed(directory, contents, settings), None
        if packing is None:
            claim(directory, settings)
            skip = on_unreadable == "skip"
            packing, reused = _pack(
                contents, settings, directory, prepare, skip, num_workers, progress
            )
        clean_up(directory, packing)
    return PackingSummary(
        directory=directory,
        num_images=packing["num_images"],
        num_shards=len(packing["shards"]),
        num_bytes=sum(shard["bytes"] for shard in packing["shards"]),
        reused_shards=len(packing["shards"]) if reused is None else reused,
        left_out=tuple((x["name"], x["reason"], tuple(x["splits"])) for x in packing["left_out"]),
        seconds=time.perf_counter() - start,
    )


def _check_contents(contents: Contents) -> None:
    names, labels = contents.names, contents.labels
    if labels.ndim != 2 or len(labels) != len(names):
        raise ValueError(f"{len(names)} names need labels [{len(names)}, classes]: {labels.shape}")
    if len(contents.class_names) != labels.shape[1]:
        raise ValueError(f"{len(contents.class_names)} class names for {labels.shape[1]} labels")
    if any(not x.strip() or "\n" in x or "\r" in x for x in contents.class_names):
        raise ValueError("class names must be single lines that are not empty")
    if len(set(names)) != len(names):
        raise ValueError("an image is named twice; give every image once")
    for split, rows in contents.splits.by_name().items():
        if not len(rows):
            raise ValueError(f"the {split} split has no images; give at least one")
        if not 0 <= np.min(rows) <= np.max(rows) < len(names):
            raise ValueError(f"the {split} split has rows outside the {len(names)} images")


def _check_options(
    name: str, resize: int | None, quality: int, images_per_shard: int, num_workers: int
) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"the name {name!r} cannot be a TFDS data set; use lower-case letters, digits and "
            "underscores, a letter first, for example my_photos"
        )
    if resize is not None and resize < 1:
        raise ValueError(f"resize must be 1 pixel or more, got {resize}")
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be in 1..100, got {quality}")
    if images_per_shard < 1 or num_workers < 1:
        raise ValueError(
            "images_per_shard and num_workers must be 1 or more, got "
            f"{images_per_shard} and {num_workers}"
        )


def _pack(
    contents: Contents,
    settings: dict[str, Any],
    directory: Path,
    prepare: Callable[[int], tuple[int, bytes | UnreadableImage]],
    skip: bool,
    num_workers: int,
    progress: Callable[[int], object],
) -> tuple[dict[str, Any], int]:
    """Writes what a directory of ours lacks; returns `packing.json` and how much was there."""
    # Imported late, because TFDS takes a second.
    from input_pipeline.packed.packed_builder import PackedImages, shard_name

    name, size = settings["name"], settings["images_per_shard"]
    builder = PackedImages(name, contents.labels.shape[1], directory.parent.parent)
    member, order = contents.membership(), contents.order()

    def encode(row: int, image: bytes) -> bytes:
        return builder.encode(image, contents.labels[row], contents.names[row], member[row])

    groups = [order[first : first + size] for first in range(0, len(order), size)]
    shards, reused = [], 0
    for i, rows in enumerate(groups):
        path = directory / shard_name(name, i, len(groups))
        shard = complete_shard(path)
        if shard is not None and (skip or not shard.left_out):
            reused += 1
            progress(len(rows))
        else:
            with contextlib.closing(map_in_threads(prepare, rows, num_workers)) as images:
                shard = write_shard(path, images, encode, progress, skip=skip)
        shards.append(shard)
    if not skip:
        _refuse_unreadable(contents, shards, directory / UNREADABLE_FILE)
    packing = write_lists_and_packing(directory, contents, shards, settings)
    builder.write_metadata(directory, [x.images for x in shards], sum(x.bytes for x in shards))
    return packing, reused


def _refuse_unreadable(contents: Contents, shards: Sequence[Shard], file: Path) -> None:
    names = contents.names
    lines = [f"{names[row]}: {reason}" for shard in shards for row, reason in shard.left_out]
    if lines:
        shown = shortened(lines, _SHOWN, "\n  ")
        write_atomically(file, "".join(f"{line}\n" for line in lines).encode())
        raise DataError(
            f"{len(lines)} of {len(contents.order())} images cannot be read:\n  {shown}\n"
            f"All of them are in {file}. Mend them and run the same command again, or leave them "
            "out with --on_unreadable=skip"
        )
