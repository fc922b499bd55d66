"""Finds a data set that `input_pipeline.pack` has packed, on a disk or in a bucket.

One directory `NAME/1.0.0` holds the shards and TFDS's own metadata, so that TFDS can read it
too, and beside them the run's lists and `packing.json`, which are all that is needed here.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from input_pipeline.errors import DataError
from input_pipeline.lists.label_lists import LabelList, parse_list
from input_pipeline.lists.listed import LIST_FILES
from input_pipeline.packed.record_reader import RecordReader

VERSION = "1.0.0"
FORMAT_VERSION = 1
PACKING_FILE = "packing.json"
PART_FILE = "packing.part.json"
INFO_FILE = "dataset_info.json"
CLASSES_FILE = "classes.txt"
PACK = "python -m input_pipeline.pack"


@dataclass(frozen=True, eq=False)
class PackedSet:
    """A complete packed data set: its lists (train, query, database) and where its records are.

    Record i is the i-th image by first appearance through the lists, as in `listed.join_lists`.
    """

    directory: str
    lists: tuple[LabelList, LabelList, LabelList]
    class_names: tuple[str, ...]
    resize: int | None  # pixels of the shorter side; None: no image was changed
    apply_orientation: bool  # whether the resized images were turned as their EXIF data say
    left_out: tuple[str, ...]  # names of unreadable images, in no record and no list
    shards: tuple[str, ...]
    shard_lengths: tuple[int, ...]  # in records

    def open_reader(self) -> RecordReader:
        """A reader of all records; no file is opened before its first `read`."""
        return RecordReader(self.shards, self.shard_lengths)


def open_packed(directory: str | os.PathLike[str]) -> PackedSet:
    """Finds and checks a packed data set; reads its lists, but no image.

    `directory` is `OUT/NAME/1.0.0`, `OUT/NAME`, or `OUT` if it holds one data set only; a local
    path or a bucket's (`gs://...`, which needs the package gcsfs). DataError: none or several, or
    one that is not complete, of another format version, or damaged.
    """
    with _explained(os.fspath(directory)):
        from etils import epath  # imported late: it takes a tenth of a second

        root = _find(epath.Path(directory).expanduser())
        packing = json.loads((root / PACKING_FILE).read_bytes())
        if packing["format_version"] != FORMAT_VERSION:
            raise DataError(
                f"{root} has format version {packing['format_version']}, this program reads "
                f"{FORMAT_VERSION}; pack again with {PACK}"
            )
        lists = _read_lists(root, packing)
        files = [shard["file"] for shard in packing["shards"]]
        present = {path.name for path in root.iterdir()}
        missing = [file for file in files if file not in present]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(files)} shards in {root} are missing, first {missing[0]}; "
                f"copy them again, or pack again with {PACK}"
            )
        settings = packing["settings"]
        return PackedSet(
            directory=os.fspath(root),
            lists=lists,
            class_names=tuple(settings["class_names"]),
            resize=settings["resize"],
            apply_orientation=settings["decoding"]["apply_orientation"],
            left_out=tuple(image["name"] for image in packing["left_out"]),
            shards=tuple(os.fspath(root / file) for file in files),
            shard_lengths=tuple(shard["images"] for shard in packing["shards"]),
        )


def lists_checksum(contents: Iterable[bytes]) -> str:
    """SHA-256 over the contents of the three list files, in the order of `LIST_FILES`."""
    return hashlib.sha256(b"".join(contents)).hexdigest()


@contextlib.contextmanager
def _explained(directory: str) -> Iterator[None]:
    """Turns what can go wrong while metadata are read into a `DataError` that names them."""
    try:
        yield
    except ImportError as error:
        raise DataError(
            f"{directory}: reading from a bucket needs one more package: {error} "
            "(pip install gcsfs)"
        ) from error
    except Exception as error:
        expected = isinstance(error, (OSError, ValueError, KeyError, TypeError))
        # A bucket's package has errors of its own, for credentials for example.
        if isinstance(error, DataError) or not (expected or "://" in directory):
            raise
        raise DataError(
            f"cannot read the packed data set in {directory} ({type(error).__name__}: {error}); "
            f"copy it again, or pack again with {PACK}"
        ) from error


def _find(given: Any) -> Any:
    """The directory with the shards: `given`, its version or its only data set's version."""
    found = [path for path in (given, given / VERSION) if _holds_packing(path)][:1]
    if not found and given.is_dir():
        below = (path / VERSION for path in given.iterdir())
        found = sorted(path for path in below if _holds_packing(path))
    if len(found) > 1:
        names = ", ".join(path.parent.name for path in found)
        raise DataError(f"{given} holds several packed data sets ({names}); give one of them")
    if not found:
        raise DataError(
            f"no packed data set in {given}: there is no {PACKING_FILE}; give the folder NAME that "
            f"{PACK} wrote"
        )
    root = found[0]
    if not (root / INFO_FILE).exists() or not (root / PACKING_FILE).exists():
        raise DataError(
            f"the data set in {root} is not complete; run the same {PACK} command again, and it "
            "goes on where it stopped"
        )
    return root


def _holds_packing(path: Any) -> bool:
    return (path / PACKING_FILE).exists() or (path / PART_FILE).exists()


def _read_lists(root: Any, packing: dict[str, Any]) -> tuple[LabelList, LabelList, LabelList]:
    contents = {name: (root / name).read_bytes() for name in LIST_FILES.values()}
    if lists_checksum(contents.values()) != packing["lists_sha256"]:
        raise DataError(
            f"the lists in {root} are not those that were packed (their checksum differs); restore "
            f"{', '.join(contents)}, or pack again with {PACK}"
        )
    train, query, database = (
        parse_list(data, os.fspath(root / name))[0] for name, data in contents.items()
    )
    return train, query, database
