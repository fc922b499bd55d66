"""Which image of an index a name means."""

import difflib
import os

from hybridhash_jax.retrieval.encoding.names import inside
from hybridhash_jax.retrieval.index import Index, IndexFileError
from hybridhash_jax.retrieval.index.errors import shown

_COMPARED = 20_000  # names that are compared letter by letter: a second
_LOOKED_AT = 1_000_000  # names whose last part is


def row_of(index: Index, name: str | bytes | os.PathLike[str]) -> int:
    """The row of an image by its path in the index, or of its file below the index's root.

    Raises:
      IndexFileError: there is none; the message has names that are near.
    """
    path = os.fsencode(name)
    row = index.row_of(path)
    if row is None and index.root is not None:
        below = inside(path, index.root)
        row = index.row_of(below) if below else None
    if row is None:
        near = [shown(one) for one in _near(index, path)]
        hint = f"Did you mean {' or '.join(near)}?" if near else "Give a path relative to its root"
        lost = " Some of its segments are damaged, too." if index.damaged else ""
        raise IndexFileError(f"{shown(index.path)} has no image {shown(path)}. {hint}{lost}")
    return row


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
