"""What is searched with: image files, those of folders, and images of the index."""

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt64

from hybridhash_jax.retrieval.encoding.listing import list_folder
from hybridhash_jax.retrieval.index import Index, to_words
from hybridhash_jax.retrieval.names import shown
from hybridhash_jax.retrieval.search.stored import row_of
from input_pipeline.errors import DataError, UnreadableImage
from input_pipeline.progress import Progress


@dataclasses.dataclass
class Query:
    """An image that is searched with.

    Attributes:
      name: of its file as it was given; of an image of the index its path there.
      row: its row in the index; None for a file.
      words: its code, uint64 [words]; None until it has one.
      error: why it has none.
    """

    name: str
    row: int | None = None
    words: UInt64[np.ndarray, " words"] | None = None
    error: str | None = None


def file_queries(places: Sequence[str]) -> list[Query]:
    """One of each file, and of each image file below a folder.

    Raises:
      DataError: a folder cannot be read, or has no images.
    """
    found: list[Query] = []
    for place in places:
        if not os.path.isdir(place):
            found.append(Query(place, error=None if os.path.exists(place) else _missing(place)))
            continue
        listing = list_folder(Path(place))
        if not listing.paths:
            others = listing.left_out()
            raise DataError(
                f"the folder {shown(place)} has no images{f' but {others}' if others else ''}"
            )
        found += [Query(os.path.join(place, os.fsdecode(path))) for path in listing.paths]
    return found


def stored_queries(index: Index, names: Sequence[str]) -> list[Query]:
    """One of each image of the index, by its path there; IndexFileError for one it has not."""
    rows = [row_of(index, name) for name in names]
    paths = [os.fsdecode(entry.path) for entry in index.entries(rows)]
    codes = index.codes(rows)
    return [Query(*one) for one in zip(paths, rows, codes, strict=True)]


def encode_queries(
    queries: Sequence[Query], index: Index, workdir: str | None, num_workers: int
) -> list[str]:
    """Gives files their codes, or the reason why not; returns what the user should know.

    JAX is imported only where there are files to encode.
    """
    files = [one for one in queries if one.words is None and one.error is None]
    if not files:
        return []
    from hybridhash_jax.retrieval.search.query_codes import encode_each, make_encoder, notes

    encoder = make_encoder(index, workdir)
    with Progress("encoding queries", len(files)) as progress:
        codes = encode_each(encoder, [one.name for one in files], num_workers, progress.update)
        for query, code in zip(files, codes, strict=True):
            if isinstance(code, UnreadableImage):
                query.error = str(code)
            else:
                query.words = to_words(code[None])[0]
    return notes(index, encoder)


def _missing(place: str) -> str:
    if re.match(r"(label|path)=", place):
        return "there is no such file; give each condition its own --where"
    return "there is no such file"
