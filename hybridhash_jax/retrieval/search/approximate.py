"""Approximate search: lists of similar codes, kept in the index and built when they are asked for."""

from pathlib import Path
from typing import NamedTuple

from hybridhash_jax.retrieval.engine import ivf
from hybridhash_jax.retrieval.engine.ivf import Ivf, IvfError
from hybridhash_jax.retrieval.index import Index
from hybridhash_jax.retrieval.names import shown
from input_pipeline.errors import DataError
from input_pipeline.progress import Progress

FILE = "lists.ivf"


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
    file, made_of, notes = index.path / FILE, _made_of(index), []
    try:
        lists = ivf.load(file, index.words, made_of)
    except IvfError:
        lists = None  # none, damaged, or of an index that was compacted since
    if lists is None or 2 * lists.num_rows < index.num_rows or lists.num_rows > index.num_rows:
        lists = _build(index, made_of)
        notes += _keep(lists, file)
    return Lists(lists, [_told(index, lists), *notes])


def _made_of(index: Index) -> str:
    """Changes with the rows that the lists are of, but not when rows are appended."""
    first = [record.codes for record in index.segment_records()[:1]]
    # Rows of damaged segments are not in the lists, and may come back.
    lacking = [name for name in index.damaged if name.endswith(".codes")]
    return " ".join([index.model.fingerprint, str(index.header.generation), *first, *lacking])


def _build(index: Index, made_of: str) -> Ivf:
    from hybridhash_jax.retrieval.engine.ivf_build import build

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
