"""Which image of an index a name means."""

import difflib
import os

from hybridhash_jax.retrieval.index import Index, IndexFileError
from hybridhash_jax.retrieval.names import exact, inside, shown

_COMPARED = 20_000  # names that are compared letter by letter: a second
_LOOKED_AT = 1_000_000  # names whose last part is


def row_of(index: Index, name: str | bytes | os.PathLike[str]) -> int:
    """The row of an image by its path in the index, by its file, or by its name as it is shown.

    Raises:
      IndexFileError: there is none; the message has names that are near.
    """
    if not isinstance(name, str | bytes | os.PathLike):
        raise IndexFileError(f"an image is named by its path, not by {type(name).__name__}")
    path = os.fsencode(name)
    below = None if index.root is None else inside(path, index.root)
    meant = [path, os.path.normpath(path), *([below] if below else []), exact(os.fsdecode(path))]
    row = next((row for one in meant if (row := index.row_of(one)) is not None), None)
    if row is None:
        near = [shown(one) for one in _near(index, path)]
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Its names are {_example(index)}"
        lost = " Some of its segments are damaged, too." if index.damaged else ""
        raise IndexFileError(f"{shown(index.path)} has no image {shown(path)}. {hint}{lost}")
    return row


def _example(index: Index) -> str:
    rows = index.alive.nonzero()[0][:1]
    such = [f", such as {shown(entry.path)}" for entry in index.entries(rows)]
    return f"paths relative to its root{''.join(such)}"


def _near(index: Index, path: bytes) -> list[bytes]:
    """Paths with the same last part; else those that are spelled nearly so."""
    if len(index) > _LOOKED_AT:
        return []
    paths, _ = index.paths()
    name = path.rpartition(b"/")[2].lower()
    same = [one for one in paths if one.rpartition(b"/")[2].lower() == name]
    if same or len(paths) > _COMPARED:
        return same[:3]
    texts = {os.fsdecode(one): one for one in paths}
    return [texts[text] for text in difflib.get_close_matches(os.fsdecode(path), texts, n=3)]
