"""Merging indexes, and compacting one: both write the rows anew, in the order of paths."""

import array
import contextlib
import dataclasses
import heapq
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybridhash_jax.retrieval.index import catalogue, storage, thumbnails
from hybridhash_jax.retrieval.index.errors import IndexFileError, damaged, explained
from hybridhash_jax.retrieval.index.header import NAME, Header
from hybridhash_jax.retrieval.index.reader import Index, open_index
from hybridhash_jax.retrieval.index.records import Entry
from hybridhash_jax.retrieval.index.same_model import check_same_model
from hybridhash_jax.retrieval.index.writer import clean, finish, open_writer
from hybridhash_jax.retrieval.names import shown
from input_pipeline.progress import Progress

SEGMENT_ROWS = 2**20
_THUMBNAILS_AT_ONCE = 1000
_LOOKED_FOR = 20  # images, before the folder of all of them is changed


def merge(
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    root: Path | None = None,
) -> list[str]:
    """Merges indexes of one model into a new one.

    Rows are in the order of their paths, in segments of 2**20; those without a perceptual hash come
    behind, in segments of their own. So shards give the index that one run gives after `compact`,
    byte for byte: its segments, its catalogue, and index.json but for the generation. Thumbnails
    are a cache: those of the images that are taken are copied, but not compared.

    Args:
      sources: their folders. Of a path in several of them the last one's code is taken.
      out: the folder of the new one, which must not be there.
      root: the folder that paths are relative to, where those of the sources differ; checked as
        that of `move`.

    Returns:
      Warnings, such as that of another backend.

    Raises:
      IndexFileError: another model's codes, a damaged index, or nothing can be written.
    """
    with contextlib.ExitStack() as stack:
        indexes = [stack.enter_context(open_index(source, read_all=True)) for source in sources]
        warnings = _check(indexes, root)
        first = indexes[0]
        base = first.root if root is None else _checked_root(root, indexes)
        target = Path(out).expanduser()
        with storage.building(target) as place, explained(target, "write"):
            old = first.header
            for name in old.files:
                storage.write_synced(place / storage.FILES / name, first.file(name))
            new = Header(first.model, base, 0, old.files)
            _write(indexes, place, new)
            for index in indexes:
                warnings += _copy_thumbnails(index, indexes, place)
            finish(place, new)
    return warnings


def move(path: str | os.PathLike[str], root: Path) -> None:
    """Notes that the images of an index are below another folder now.

    Raises:
      IndexFileError: none of some of its images is there.
    """
    place = Path(path).expanduser()
    with storage.locked(place):
        with open_index(place) as index:
            moved = dataclasses.replace(index.header, root=_checked_root(root, [index]))
        with explained(place, "write"):
            storage.write_synced(place / NAME, moved.to_json())


def compact(path: str | os.PathLike[str], *, drop_damaged: bool = False) -> None:
    """Rewrites an index without tombstones, in few large segments; rows get new numbers.

    Readers that have it open go on with what they opened.

    Args:
      path: its folder.
      drop_damaged: goes on without what was in damaged segments, which is an error otherwise:
        images whose codes are lost are forgotten, and lost hashes are left out. A damaged
        catalogue is an error all the same.

    Raises:
      IndexFileError: as `merge`, and where another process writes to it.
    """
    with open_writer(path) as writer:
        place = writer.path
        with open_index(place, read_all=True) as index:
            _refuse_damaged_catalogue(index)
            if not drop_damaged:
                _refuse_damaged(index)
            old = index.header
            new = Header(old.model, old.root, index.generation + 1, old.files)
            try:
                with explained(place, "write"):
                    _write([index], place, new)
                    finish(place, new)
            finally:
                clean(place)  # the old files, or what was written in vain


def _check(indexes: Sequence[Index], root: Path | None) -> list[str]:
    if not indexes:
        raise IndexFileError("there is no index to merge; give at least one")
    first, *others = indexes
    warnings = []
    for index in indexes:
        _refuse_damaged_catalogue(index)
        _refuse_damaged(index)
    for index in others:
        places = (shown(first.path), shown(index.path))
        warnings.append(check_same_model(first.model, index.model, *places))
        if root is None and index.root != first.root:
            raise IndexFileError(
                f"paths of {places[0]} are relative to {_told(first.root)}, those of {places[1]} "
                f"to {_told(index.root)}; give the folder of the merged index as --root"
            )
    return [warning for warning in warnings if warning]


def _checked_root(root: Path, indexes: Sequence[Index]) -> Path:
    """The folder as indexes keep it; IndexFileError unless it has one of some images of each."""
    root = root.expanduser().absolute()
    if not root.is_dir():
        raise IndexFileError(f"{shown(root)} is no folder; give the one that the paths start from")
    for index in indexes:
        some = [entry.path for entry in index.entries(index.sample(_LOOKED_FOR).tolist())]
        if some and not any(os.path.lexists(os.path.join(os.fsencode(root), one)) for one in some):
            raise IndexFileError(
                f"{shown(root)} has none of {len(some)} images of {shown(index.path)} that were "
                f"looked for, such as {shown(some[0])}; give the folder that its paths start from"
            )
    return root


def _told(root: Path | None) -> str:
    return "no folder" if root is None else shown(root)


def _refuse_damaged_catalogue(index: Index) -> None:
    """What it has lost, or lists twice, would be gone for good: codes of no image are not copied."""
    if problems := index.catalogue_problems():
        raise IndexFileError(f"cannot read the index {shown(index.path)}: {damaged(problems[0])}")


def _refuse_damaged(index: Index) -> None:
    if index.damaged:
        raise IndexFileError(
            f"{shown(index.path)} has {len(index.damaged)} damaged segment files, such as "
            f"{index.damaged[0]}; `hybridhash encode` makes what was in them again. `hybridhash "
            "index compact --drop_damaged` goes on without: images whose codes are lost are "
            "forgotten, and lost perceptual hashes are left out"
        )


class _Image(NamedTuple):
    """A row of one of several indexes."""

    path: bytes
    source: int
    row: int
    entry: Entry


class _Chunk:
    """Hands on the entries of the next images, and remembers where their codes are."""

    def __init__(self, images: Iterator[_Image], progress: Progress):
        self.sources, self.rows = array.array("q"), array.array("q")
        self._images, self._progress = images, progress

    def __iter__(self) -> Iterator[Entry]:
        for image in itertools.islice(self._images, SEGMENT_ROWS):
            self.sources.append(image.source)
            self.rows.append(image.row)
            self._progress.update(1)
            yield image.entry

    def write(
        self, indexes: Sequence[Index], place: Path, with_hashes: bool
    ) -> storage.SegmentFiles:
        """Gathers the codes, and the hashes if the images have some, into a segment."""
        sources, rows = np.array(self.sources), np.array(self.rows)
        codes = np.empty((len(rows), indexes[0].words), np.uint64)
        hashes = np.empty(len(rows), np.uint64) if with_hashes else None
        for number, index in enumerate(indexes):
            here = sources == number
            codes[here] = index.codes(rows[here])
            if hashes is not None:
                hashes[here] = index.hashes(rows[here])
        return storage.write_segment(place, codes, hashes)


def _write(indexes: Sequence[Index], place: Path, header: Header) -> None:
    """Writes segments and a catalogue of all images of `indexes`, which index.json is to name."""
    hashed = [index.hashed for index in indexes]
    of_images = [has[index.alive] for index, has in zip(indexes, hashed, strict=True)]
    total = sum(len(index) for index in indexes)
    with (
        contextlib.closing(
            catalogue.create(place / header.catalogue, with_lookups=False)
        ) as connection,
        Progress("writing", total) as progress,
    ):
        connection.execute("BEGIN")
        first = 0
        # Of a segment all images have one, or none has.
        for with_hashes in np.unique(np.concatenate(of_images))[::-1].tolist():
            merged = _last_of_each(heapq.merge(*itertools.starmap(_images, enumerate(indexes))))
            images = (one for one in merged if hashed[one.source][one.row] == with_hashes)
            while True:
                chunk = _Chunk(images, progress)
                catalogue.add_rows(connection, first, chunk)
                if not (count := len(chunk.rows)):
                    break
                files = chunk.write(indexes, place, with_hashes)
                record = (first, count, *files)
                connection.execute("INSERT INTO segments VALUES (?, ?, ?, ?)", record)
                first += count
        compared = {key: value for index in indexes for key, value in index.backends.items()}
        connection.executemany(
            "INSERT INTO backends VALUES (?, ?, ?, ?)",
            ((*key, *value) for key, value in sorted(compared.items())),
        )
        connection.execute("COMMIT")
        catalogue.add_lookups(connection)


def _images(source: int, index: Index) -> Iterator[_Image]:
    """The living rows of an index, in the order of paths."""
    for row, entry in index.by_path():
        yield _Image(entry.path, source, row, entry)


def _last_of_each(images: Iterable[_Image]) -> Iterator[_Image]:
    """Of images with one path, which lie one behind the other, the last."""
    for _, same in itertools.groupby(images, key=lambda image: image.path):
        *_, last = same
        yield last


def _copy_thumbnails(source: Index, indexes: Sequence[Index], place: Path) -> list[str]:
    """Those of images whose code is taken of `source`; returns a warning where they cannot be kept."""

    def is_taken(path: bytes) -> bool:
        return next((one for one in indexes[::-1] if one.row_of(path) is not None), None) is source

    kept = thumbnails.all_in(source.path / storage.THUMBNAILS)
    pictures = ((path, jpeg) for path, jpeg in kept if is_taken(path))
    while some := list(itertools.islice(pictures, _THUMBNAILS_AT_ONCE)):
        if reason := thumbnails.keep(place / storage.THUMBNAILS, some):
            return [f"not all thumbnails of {shown(source.path)} could be kept: {reason}"]
    return []
