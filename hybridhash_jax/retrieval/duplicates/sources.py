"""Where images that are compared come from: a folder, or an index of one."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hybridhash_jax.retrieval.index import Index, open_index
from hybridhash_jax.retrieval.names import shown
from input_pipeline.errors import DataError, UnreadableImage
from input_pipeline.images.decode import DecodeOptions
from input_pipeline.images.encoded import EncodedImages, FileReader, Reader
from input_pipeline.images.thumbnails import load_thumbnails
from input_pipeline.messages import counted
from input_pipeline.near_duplicates.pictures import Pictures
from input_pipeline.near_duplicates.reading import image_files, read_pictures
from input_pipeline.progress import Progress


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Images that can be compared.

    Attributes:
      place: the folder or the index, as it was given.
      names: relative paths, as `os.fsdecode` makes them.
      pictures: what is compared.
      sizes: int64 [N, 2], width and height in pixels.
      unreadable: (name, reason) of those that are left out.
      warnings: what else was left out.
      reader: gives the bytes of an image, or of its thumbnail, by its place in `names`.
      folder: what the names are relative to; None where an index knows no such folder.
    """

    place: str
    names: Sequence[str]
    pictures: Pictures
    sizes: np.ndarray
    unreadable: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    reader: Reader
    folder: Path | None

    def file(self, row: int) -> str | None:
        """The real path of an image; None where it is not known."""
        return self.folder and os.path.realpath(self.folder / self.names[row])

    def thumbnail(self, row: int, side: int) -> np.ndarray | None:
        """The upright image uint8 [h, w, 3], the longer side at most `side`; None if it is gone."""
        images = EncodedImages(self.names, self.reader)
        return load_thumbnails(images, [row], side, upright=True).get(row)


def read_source(place: str, options: DecodeOptions, num_workers: int) -> Source:
    """Reads all images of a folder or an index, telling how far it is.

    Raises:
      DataError: it is neither, has no images that can be read, or has no hashes to compare.
    """
    path = Path(place).expanduser()
    if not path.is_dir():
        raise DataError(f"{shown(place)} is neither a folder of images nor an index")
    # Not Path.is_file, which raises where the folder is closed.
    read = _read_index if os.path.isfile(path / "index.json") else _read_folder
    source = read(place, path, options, num_workers)
    if not source.names:
        name, reason = source.unreadable[0]
        raise DataError(
            f"none of {counted(len(source.unreadable), 'image')} of {shown(place)} can be compared; "
            f"{shown(name)}: {reason}"
        )
    return source


def _read_folder(place: str, path: Path, options: DecodeOptions, num_workers: int) -> Source:
    closed: dict[str, str] = {}
    names = image_files(path, closed)
    left_out = [f"the folder {shown(name)} is left out: {why}" for name, why in closed.items()]
    if not names:
        if (path / "segments").is_dir():
            open_index(path)  # says what is wrong with it
        found = "".join(f"; {one}" for one in left_out)
        raise DataError(f"{shown(place)} has no image files, nor have its folders{found}")
    reader = FileReader(os.fspath(path), names)
    with Progress(f"reading {shown(place)}", len(names)) as told:
        read = read_pictures(
            reader, len(names), options, num_workers=num_workers, progress=told.update
        )
    return Source(
        place,
        [names[row] for row in read.rows.tolist()],
        read.pictures,
        read.sizes,
        [(names[row], reason) for row, reason in read.unreadable.items()],
        left_out,
        _Some(reader, read.rows),
        path,
    )


@dataclasses.dataclass(frozen=True)
class _Some:
    """Some of a reader's images."""

    reader: Reader
    rows: np.ndarray

    def read(self, row: int) -> bytes:
        return self.reader.read(int(self.rows[row]))


def _read_index(place: str, path: Path, options: DecodeOptions, num_workers: int) -> Source:
    """Hashes as they are stored; small pictures from thumbnails, or from files where those lack."""
    index = open_index(path)
    hashed = index.hashed
    rows = np.flatnonzero(index.alive & hashed)
    lacking = len(index) - len(rows)
    if not len(rows) and index.damaged:
        found = "; ".join(_warnings(index, lacking))
        raise DataError(f"{shown(place)}: {found}; hybridhash encode makes them again")
    if not len(rows):
        raise DataError(
            f"{shown(place)} has no perceptual hashes, since it is empty or was made without them; "
            "give the folder of the images instead"
        )
    entries = index.entries(rows)
    names = [os.fsdecode(entry.path) for entry in entries]
    reader = _OfIndex(index, rows, names)
    with Progress(f"reading {shown(place)}", len(rows)) as told:
        read = read_pictures(
            reader,
            len(rows),
            options,
            num_workers=num_workers,
            progress=told.update,
            hashes=index.hashes(rows),
            files=reader.files,
        )
    sizes = np.array([(entry.width, entry.height) for entry in entries], np.int64)[read.rows]
    return Source(
        place,
        [names[row] for row in read.rows.tolist()],
        read.pictures,
        sizes,
        [(names[row], reason) for row, reason in read.unreadable.items()],
        _warnings(index, lacking),
        _Some(reader, read.rows),
        index.root,
    )


def _warnings(index: Index, lacking: int) -> list[str]:
    found = [
        f"the segment {name} is damaged, and its images are left out" for name in index.damaged
    ]
    if lacking:
        found.append(f"{lacking:,} images have no perceptual hash, and are left out")
    return found


class _OfIndex:
    """Thumbnails of an index; the image itself where there is none.

    Attributes:
      files: reads the images themselves; None where the index knows no folder of them.
    """

    def __init__(self, index: Index, rows: np.ndarray, names: Sequence[str]):
        self._index, self._rows = index, rows
        self.files = None if index.root is None else FileReader(os.fspath(index.root), names)

    def read(self, row: int) -> bytes:
        thumbnail = self._index.thumbnail(int(self._rows[row]))
        if thumbnail is not None:
            return thumbnail
        if self.files is None:
            raise UnreadableImage("the index keeps no thumbnail of it, and knows no folder of it")
        return self.files.read(row)
