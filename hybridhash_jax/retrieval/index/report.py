"""What an index holds, and whether it is whole."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from hybridhash_jax.retrieval.index import storage, thumbnails
from hybridhash_jax.retrieval.index.errors import IndexFileError, explained
from hybridhash_jax.retrieval.index.header import NAME
from hybridhash_jax.retrieval.index.reader import Index, open_index
from hybridhash_jax.retrieval.index.records import Model
from hybridhash_jax.retrieval.names import shown
from input_pipeline.progress import Progress


@dataclasses.dataclass(frozen=True)
class Description:
    """What `hybridhash index info` tells.

    Attributes:
      path: of the index.
      images: that are searched.
      tombstones: rows of images that are gone or were encoded again.
      in_damaged: rows in damaged segments.
      segments: how many files of codes.
      damaged: the names of files left out.
      words: of 64 bits a code.
      model: that made the codes.
      root: the folder that paths are relative to.
      generation: how often something was committed.
      has_hashes: whether each image has a perceptual hash.
      bytes: on the disk, by what they hold.
      labels: images of each label; "" for those without.
      backends: {"backend", "dtype", "images", "differing_bits"} of encoders elsewhere.
    """

    path: str
    images: int
    tombstones: int
    in_damaged: int
    segments: int
    damaged: tuple[str, ...]
    words: int
    model: Model
    root: str | None
    generation: int
    has_hashes: bool
    bytes: Mapping[str, int]
    labels: Mapping[str, int]
    backends: tuple[Mapping[str, str | int], ...]


def describe(path: str | os.PathLike[str]) -> Description:
    """Describes an index; IndexFileError where it cannot be opened."""
    with open_index(path) as index:
        in_segments = sum(len(segment.codes) for segment in index.segments)
        compared = [
            {"backend": backend, "dtype": dtype, "images": images, "differing_bits": bits}
            for (backend, dtype), (images, bits) in index.backends.items()
        ]
        return Description(
            path=os.fspath(index.path),
            images=len(index),
            tombstones=in_segments - len(index),
            in_damaged=index.num_rows - in_segments,
            segments=len(index.segments),
            damaged=index.damaged,
            words=index.words,
            model=index.model,
            root=None if index.root is None else os.fspath(index.root),
            generation=index.generation,
            has_hashes=bool(index.hashed[index.alive].all()),
            bytes=_sizes(index),
            labels=index.labels(),
            backends=tuple(compared),
        )


def verify(path: str | os.PathLike[str]) -> list[str]:
    """Reads all of an index; returns what is wrong, a sentence each.

    Raises:
      IndexFileError: it cannot be opened at all.
    """
    with open_index(path) as index:
        file = shown(index.path / index.header.catalogue)
        in_catalogue = [f"{file} is damaged: {text}" for text in index.catalogue_problems()]
        return [*_wrong_files(index), *_wrong_segments(index), *in_catalogue]


def notices(path: str | os.PathLike[str]) -> list[str]:
    """What is damaged of what searching does without, a sentence each."""
    file = Path(path).expanduser() / storage.THUMBNAILS
    if not thumbnails.is_damaged(file):
        return []
    return [
        f"notice: {shown(file)} is damaged; search is unaffected, but its thumbnails are lost. Delete "
        "it, and pictures come from the image files"
    ]


def _sizes(index: Index) -> dict[str, int]:
    places = {
        "codes": (index.path / storage.SEGMENTS).glob("*.codes"),
        "hashes": (index.path / storage.SEGMENTS).glob("*.hashes"),
        "catalogue": index.path.glob("catalogue-*.sqlite*"),
        "thumbnails": index.path.glob(f"{storage.THUMBNAILS}*"),
        "lists": index.path.glob(storage.LISTS),
        "files": (index.path / storage.FILES).glob("*"),
    }
    sizes = {what: sum(map(_size, files)) for what, files in places.items()}
    others = (_size(index.path / name) for name in (NAME, storage.UNREADABLE))
    return {**sizes, "total": sum(sizes.values()) + sum(others)}


def _size(file: Path) -> int:
    with contextlib.suppress(OSError):  # a writer may just have removed it
        return file.stat().st_size
    return 0


def _wrong_files(index: Index) -> Iterator[str]:
    for name in index.header.files:
        try:
            index.file(name)
        except IndexFileError as error:
            yield str(error)


def _wrong_segments(index: Index) -> Iterator[str]:
    names = [
        (record, name)
        for record in index.segment_records()
        for name in record[2:]
        # Of images that are all gone or were encoded again, nothing is lost.
        if name and (index.alive[record.first_row :][: record.rows].any() or name in index.damaged)
    ]
    with Progress("reading", len(names), "files") as progress:
        for record, name in names:
            words = index.words if name == record.codes else 1
            place = index.path / storage.SEGMENTS / name
            last = record.first_row + record.rows - 1
            try:
                with explained(index.path, "read"):
                    storage.map_words(place, record.rows, words, read=True)
            except IndexFileError as error:
                yield f"{error}: rows {record.first_row:,} to {last:,}"
            progress.update(1)
