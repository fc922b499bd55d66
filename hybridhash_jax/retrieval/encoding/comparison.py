"""What of the files on disk is new, as it was, or gone. Imports nothing slow."""

import array
import dataclasses
import os
import stat
from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np

from hybridhash_jax.retrieval.encoding.listing import is_below
from hybridhash_jax.retrieval.encoding.path_list import PathList
from hybridhash_jax.retrieval.encoding.unreadable import Refused


class Known(Protocol):
    """What an index knows of a file."""

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    @property
    def modified_ns(self) -> int:
        """When it was changed, nanoseconds."""
        ...


@dataclasses.dataclass
class Comparison:
    """Files of a listing, each counted once.

    Attributes:
      to_do: places in the listing whose files are new, changed, or to be tried again.
      changed: how many of them are in the index with other content.
      unchanged: how many are in the index as they are.
      refused: those that could not be read before, and are as they were.
    """

    to_do: np.ndarray
    changed: int
    unchanged: int
    refused: dict[bytes, Refused]


def compare(
    paths: PathList,
    places: Iterable[int],
    top: bytes,
    known: Mapping[bytes, Known],
    refused: Mapping[bytes, Refused],
) -> Comparison:
    """Looks at size and time of the files at `places` of a listing.

    Args:
      paths: relative to `top`.
      places: which of them.
      top: the root.
      known: what is in the index.
      refused: what could not be read before; empty to try again.
    """
    to_do = array.array("q")
    changed = unchanged = 0
    still: dict[bytes, Refused] = {}
    for place in places:
        path = paths[place]
        before, no = known.get(path), refused.get(path)
        if before is not None or no is not None:
            size, modified = file_facts(top, path)
            if before is not None and (before.size, before.modified_ns) == (size, modified):
                unchanged += 1
                continue
            if no is not None and no.is_of(size, modified):
                still[path] = no
                continue
            changed += before is not None
        to_do.append(place)
    return Comparison(np.array(to_do, np.int64), changed, unchanged, still)


def file_facts(top: bytes, path: bytes) -> tuple[int, int]:
    """Size and time of a file; -1 where it is gone."""
    try:
        status = os.stat(os.path.join(top, path))
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def is_missing(path: bytes) -> bool:
    """Is there no file at this path? What cannot be looked at may be one."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        return isinstance(error, (FileNotFoundError, NotADirectoryError))


def gone(known: Iterable[bytes], paths: Iterable[bytes], below: bytes) -> list[bytes]:
    """Paths of the index in the folder `below` that a listing of it has not; all are sorted."""
    listed = iter(paths)
    found: list[bytes] = []
    there = next(listed, None)
    for path in known:
        while there is not None and there < path:
            there = next(listed, None)
        if path != there and is_below(path, [below]):
            found.append(path)
    return found
