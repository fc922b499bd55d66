"""Finds a data set that `input_pipeline.pack` has packed, on a disk or in a bucket.

One directory `NAME/1.0.0` holds the shards and TFDS's own metadata, so that TFDS can read it
too, and beside them the run's lists and `packing.json`, which are all that is needed here.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from input_pipeline.errors import DataError
from input_pipeline.lists.label_lists import LabelList, parse_list
from input_pipeline.packed.record_reader import RecordReader

VERSION = "1.0.0"
FORMAT_VERSION = 1
PACKING_FILE = "packing.json"
PART_FILE = "packing.part.json"
INFO_FILE = "dataset_info.json"
CLASSES_FILE = "classes.txt"
# In the order in which they go into their checksum.
LIST_FILES = ("train.txt", "test.txt", "database.txt")
PACK = "python -m input_pipeline.pack"


@dataclass(frozen=True, eq=False)
class PackedSet:
    """A complete packed data set: its lists and where its records are.

    Attributes:
      directory: the one with the shards, local or a bucket's.
      name: TFDS's name of the data set.
      train, query, database: the lists. Record i is the i-th image in order of first appearance
        through train, query, database, which is the order of `listed.join_lists`.
      class_names: one a label.
      resize: what the shorter side was brought to, in pixels; None if no image was changed.
      quality: JPEG quality of the images that were resized; None if `resize` is.
      apply_orientation: whether the resized images were turned as their EXIF data say.
      left_out: names of unreadable images that are in no record and no list.
      shards: paths of the ArrayRecord files.
      shard_lengths: how many records each of them holds.
      checksum: SHA-256 of the three lists, 64 hex digits.
    """

    directory: str
    name: str
    train: LabelList
    query: LabelList
    database: LabelList
    class_names: tuple[str, ...]
    resize: int | None
    quality: int | None
    apply_orientation: bool
    left_out: tuple[str, ...]
    shards: tuple[str, ...]
    shard_lengths: tuple[int, ...]
    checksum: str

    @property
    def num_images(self) -> int:
        """How many records there are."""
        return sum(self.shard_lengths)

    def open_reader(self) -> RecordReader:
        """A reader of all records; no file is opened before its first `read`."""
        return RecordReader(self.shards, self.shard_lengths)


def open_packed(directory: str | os.PathLike[str]) -> PackedSet:
    """Finds and checks a packed data set; reads its lists, but no image.

    Args:
      directory: `OUT/NAME/1.0.0`, `OUT/NAME`, or `OUT` if it holds one data set only; a local
        path or a bucket's (`gs://...`, which needs the package gcsfs).

    Raises:
      DataError: if there is none or several, or one that is not complete, of another format
        version, damaged or lacking shards.
    """
    with _Reading(directory):
        root = _find(_path(directory))
        packing = _read_packing(root)
        train, query, database = _read_lists(root, packing)
        files = [shard["file"] for shard in packing["shards"]]
        _check_shards(root, files)
        settings = packing["settings"]
        return PackedSet(
            directory=os.fspath(root),
            name=settings["name"],
            train=train,
            query=query,
            database=database,
            class_names=tuple(settings["class_names"]),
            resize=settings["resize"],
            quality=settings["quality"],
            apply_orientation=settings["decoding"]["apply_orientation"],
            left_out=tuple(image["name"] for image in packing["left_out"]),
            shards=tuple(os.fspath(root / file) for file in files),
            shard_lengths=tuple(shard["images"] for shard in packing["shards"]),
            checksum=packing["lists_sha256"],
        )


def lists_checksum(contents: Sequence[bytes]) -> str:
    """SHA-256 over the contents of the three list files, in the order of `LIST_FILES`."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def _path(directory: str | os.PathLike[str]) -> Any:
    from etils import epath  # imported late: a reader in a worker process needs no metadata

    return epath.Path(directory).expanduser()


class _Reading:
    """Turns what can go wrong while metadata are read into a `DataError` that names them."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = directory

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ImportError):
            raise DataError(
                f"{self._directory}: reading from a bucket needs one more package: {error} "
                "(pip install gcsfs)"
            ) from error
        expected = isinstance(error, (OSError, ValueError, KeyError, TypeError))
        # A bucket's package has errors of its own, for credentials for example.
        bucket = isinstance(error, Exception) and "://" in os.fspath(self._directory)
        if expected or (bucket and not isinstance(error, DataError)):
            raise DataError(
                f"cannot read the packed data set in {self._directory} "
                f"({type(error).__name__}: {error}); copy it again, or pack again with {PACK}"
            ) from error


def _find(given: Any) -> Any:
    """The directory with the shards: `given`, its version or its only data set's version."""
    if _holds_packing(given):
        return _complete(given)
    if _holds_packing(given / VERSION):
        return _complete(given / VERSION)
    below = [path / VERSION for path in given.iterdir()] if given.is_dir() else []
    found = sorted(path for path in below if _holds_packing(path))
    if len(found) > 1:
        names = ", ".join(path.parent.name for path in found)
        raise DataError(f"{given} holds several packed data sets ({names}); give one of them")
    if not found:
        raise DataError(
            f"no packed data set in {given}: there is no {PACKING_FILE}; give the folder NAME that "
            f"{PACK} wrote"
        )
    return _complete(found[0])


def _holds_packing(path: Any) -> bool:
    return (path / PACKING_FILE).exists() or (path / PART_FILE).exists()


def _complete(root: Any) -> Any:
    if not (root / INFO_FILE).exists() or not (root / PACKING_FILE).exists():
        raise DataError(
            f"the data set in {root} is not complete; run the same {PACK} command again, and it "
            "goes on where it stopped"
        )
    return root


def _read_packing(root: Any) -> dict[str, Any]:
    packing = json.loads((root / PACKING_FILE).read_bytes())
    if packing["format_version"] != FORMAT_VERSION:
        raise DataError(
            f"{root} has format version {packing['format_version']}, this program reads "
            f"{FORMAT_VERSION}; pack again with {PACK}"
        )
    return packing


def _read_lists(root: Any, packing: dict[str, Any]) -> list[LabelList]:
    contents = [(root / name).read_bytes() for name in LIST_FILES]
    if lists_checksum(contents) != packing["lists_sha256"]:
        raise DataError(
            f"the lists in {root} are not those that were packed (their checksum differs); restore "
            f"{', '.join(LIST_FILES)}, or pack again with {PACK}"
        )
    return [
        parse_list(content, os.fspath(root / name))[0]
        for content, name in zip(contents, LIST_FILES, strict=True)
    ]


def _check_shards(root: Any, shards: Sequence[str]) -> None:
    present = {path.name for path in root.iterdir()}
    missing = [shard for shard in shards if shard not in present]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(shards)} shards in {root} are missing, first {missing[0]}; "
            f"copy them again, or pack again with {PACK}"
        )
