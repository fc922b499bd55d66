"""Approximate search: lists of similar codes, kept in the index and built when they are asked for."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybridhash_jax.retrieval.engine import ivf
from hybridhash_jax.retrieval.engine.ivf import Ivf, IvfError
from hybridhash_jax.retrieval.index import Index
from hybridhash_jax.retrieval.index.storage import LISTS
from hybridhash_jax.retrieval.names import shown
from input_pipeline.errors import DataError
from input_pipeline.progress import Progress


class Lists(NamedTuple):
    """The lists of an index, and what a user should know of them, a sentence each."""

    ivf: Ivf
    notes: list[str]


def open_lists(index: Index) -> Lists:
    """Reads the lists of an index; builds them where there are none that fit.

    Images that came later are compared one by one, so the lists are built again only once these are
    more than half of all.

    Raises:
      IvfError: faiss is not installed, or there are no codes.
    """
    ivf.load_faiss()
    file, notes = index.path / LISTS, []
    try:
        lists = ivf.load(file, index.words)
    except IvfError:
        lists = None  # none, or damaged
    if lists is None or 2 * lists.num_rows < index.num_rows or not _fits(lists, index):
        lists = _build(index)
        notes += _keep(lists, file)
    return Lists(lists, [_told(index, lists), *notes])


def _fits(lists: Ivf, index: Index) -> bool:
    """Are the lists of rows that the index has? A copy of an older state may have been restored."""
    if lists.num_rows > index.num_rows or lists.made_of != _made_of(index, lists.num_rows):
        return False
    # Rows that had a tombstone when the lists were built are not in them.
    return np.count_nonzero(index.alive[: lists.num_rows]) <= lists.faiss_index.ntotal


def _made_of(index: Index, num_rows: int) -> str:
    """Changes with the codes of the rows before `num_rows`, but not when rows are appended."""
    records = index.segment_records()
    names = " ".join(record.codes for record in records if record.first_row < num_rows)
    # Rows of damaged segments are not in the lists, and may come back.
    lacking = [name for name in index.damaged if name.endswith(".codes")]
    made_by = [index.model.fingerprint, str(index.header.generation)]
    return " ".join([*made_by, hashlib.sha256(names.encode()).hexdigest(), *lacking])


def _build(index: Index) -> Ivf:
    from hybridhash_jax.retrieval.engine.ivf_build import build

    ends = [segment.first_row + len(segment.codes) for segment in index.segments]
    made_of = _made_of(index, max(ends, default=0))
    with Progress(f"building lists of {len(index):,} codes for --kind=ivf"):
        return build(
            [segment.codes for segment in index.segments],
            None if index.alive.all() else index.alive,
            [segment.first_row for segment in index.segments],
            made_of=made_of,
        )


def _keep(lists: Ivf, file: Path) -> list[str]:
    """Writes them; returns a warning where that cannot be, for the answers are as good."""
    try:
        lists.save(file)
    except DataError as error:
        return [f"the lists of {shown(file.parent)} are built each time: {error}"]
    return []


def _told(index: Index, lists: Ivf) -> str:
    later = index.num_rows - lists.num_rows
    text = (
        f"approximate: {lists.probes:,} of {lists.lists:,} lists of similar codes are searched, which "
        f"find {lists.recall:.1%} of the {lists.k} nearest images (measured when built, against an "
        "exact search)"
    )
    return f"{text}; {later:,} later images are all compared" if later else text
