"""Which image files are to be encoded: those of a folder, or of a list, always in one order."""

import codecs
import dataclasses
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from hybridhash_jax.retrieval.encoding.path_list import PathList
from hybridhash_jax.retrieval.names import inside, listed, shown
from input_pipeline.errors import DataError
from input_pipeline.images.formats import HEIF_SUFFIXES, IMAGE_SUFFIXES

_CONTROLS = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ENDS = tuple(map(os.fsencode, (*IMAGE_SUFFIXES, *HEIF_SUFFIXES)))


@dataclasses.dataclass
class Listing:
    """The image files below a root, sorted by the bytes of their paths, and what was left out.

    Attributes:
      paths: relative to the root, with /.
      others: files whose names do not end as those of images.
      hidden: files and folders whose names begin with a dot.
      links: links that lead out of the root, to folders, or to nothing; and what is no file.
      closed: folders that cannot be read, with the reason.
    """

    paths: PathList = dataclasses.field(default_factory=PathList)
    others: int = 0
    hidden: int = 0
    links: int = 0
    closed: dict[bytes, str] = dataclasses.field(default_factory=dict[bytes, str])

    def left_out(self) -> str:
        """What was left out, in words; empty for nothing."""
        counts = (
            (self.others, "file that is no image by its name", "files that are no images by name"),
            (self.hidden, "hidden name", "hidden names"),
            (self.links, "link or pipe that is not read", "links and pipes that are not read"),
        )
        parts = [f"{n:,} {one if n == 1 else many}" for n, one, many in counts if n]
        parts += [f"the folder {shown(path)} ({why})" for path, why in self.closed.items()]
        return ", ".join(parts)


def list_folder(root: Path, below: bytes = b"", leave_out: Path | None = None) -> Listing:
    """Every image file below `root`, or in its folder `below`.

    Hidden names, whole indexes, and the folder `leave_out` are passed over. A link to a file inside
    the root counts as a file; links to folders are not followed, so nothing is listed twice or
    without end.

    Raises:
      DataError: the folder itself cannot be read.
    """
    listing = Listing()
    top = os.path.realpath(os.fsencode(root))
    skipped = None if leave_out is None else os.path.realpath(os.fsencode(leave_out))
    listing.paths = PathList(_walk(top, below, skipped, listing))
    if below in listing.closed:
        raise DataError(
            f"the folder {shown(os.path.join(top, below))} cannot be read: {listing.closed[below]}"
        )
    return listing


def _walk(top: bytes, below: bytes, skipped: bytes | None, listing: Listing) -> Iterator[bytes]:
    """Paths in the order of their bytes: a folder is sorted by its name and the / behind it."""
    # No function that calls itself: folders may lie deeper in each other than Python lets calls.
    begun = [_sorted_paths(top, below, skipped, listing)]
    while begun:
        if (path := next(begun[-1], None)) is None:
            begun.pop()
        elif not path.endswith(b"/"):
            yield path
        elif not _is_index(os.path.join(top, path)):
            begun.append(_sorted_paths(top, path[:-1], skipped, listing))


def _sorted_paths(
    top: bytes, below: bytes, skipped: bytes | None, listing: Listing
) -> Iterator[bytes]:
    """What is taken of one folder; the paths of folders in it end with /."""
    found: list[bytes] = []
    try:
        with os.scandir(os.path.join(top, below)) as entries:
            for entry in entries:
                if name := _taken(entry, top, skipped, listing):
                    found.append(name)
    except OSError as error:
        listing.closed[below] = error.strerror or str(error)
        return iter(())
    start = below + b"/" if below else b""
    return (start + name for name in sorted(found))


def _taken(
    entry: os.DirEntry[bytes], top: bytes, skipped: bytes | None, listing: Listing
) -> bytes | None:
    """The name of what is taken of a folder, one with a / of a folder in it; else it is counted."""
    name = entry.name
    if name.startswith(b"."):
        listing.hidden += 1
    elif entry.is_dir(follow_symlinks=False):
        return name + b"/" if entry.path != skipped else None
    elif entry.is_symlink() and os.path.isdir(entry.path):
        listing.links += 1
    elif not name.lower().endswith(_ENDS):
        listing.others += 1
    elif _is_file(entry, top):
        return name
    else:
        listing.links += 1
    return None


def _is_index(folder: bytes) -> bool:
    return all(os.path.exists(folder + name) for name in (b"index.json", b"segments"))


def _is_file(entry: os.DirEntry[bytes], top: bytes) -> bool:
    """Is it a file, or a link to one inside the root?"""
    if entry.is_file(follow_symlinks=False):
        return True
    if not entry.is_symlink():
        return False  # a pipe or a device
    target = os.path.realpath(entry.path)
    return target.startswith(top.rstrip(b"/") + b"/") and os.path.isfile(target)


def _behind_links(path: bytes) -> bytes:
    """The path with its folder's links followed."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def read_list(data: bytes, start: Path, root: Path) -> Listing:
    r"""The files of a list, one a line, or between NUL bytes as `find -print0` writes them.

    Args:
      data: the list.
      start: what relative paths start from.
      root: what all of them lie below.

    Raises:
      DataError: a path that is not below the root, with its line; or this is no list of paths.
    """
    paths: set[bytes] = set()
    for number, line in enumerate(listed(data.removeprefix(codecs.BOM_UTF8)), 1):
        if not line:
            continue
        whole = os.path.join(os.fsencode(start), line)
        if _CONTROLS.search(line) and not os.path.lexists(whole):  # a name may hold any byte
            raise DataError(
                f"this is no list of paths: line {number} holds control characters, and no such file "
                "is there. Give a folder, or a text file with the path of an image a line"
            )
        path = inside(whole, root) or inside(_behind_links(whole), os.path.realpath(root))
        if not path:
            raise DataError(
                f"line {number} of the list, {shown(line)}, is not below {root}: lines start from "
                f"{start}, so it is {shown(os.path.normpath(whole))}; give the folder that holds all "
                "of them with --root=FOLDER"
            )
        paths.add(path)
    return Listing(PathList(sorted(paths)))


def shard_of(paths: PathList, index: int, count: int) -> range:
    """The places of shard `index` (from 1) of `count`: equal parts, one after another."""
    return range(len(paths) * (index - 1) // count, len(paths) * index // count)


def is_below(path: bytes, folders: Iterable[bytes]) -> bool:
    """Is a path in one of the folders? The empty one holds all."""
    return any(not folder or path.startswith(folder + b"/") for folder in folders)


def label_of(path: bytes) -> str:
    """The first folder of a path; empty for a file in the root."""
    folder, separator, _ = path.partition(b"/")
    return shown(folder) if separator else ""
