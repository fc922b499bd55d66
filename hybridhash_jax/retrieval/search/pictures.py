"""The pictures of a page: thumbnails of the index, else made from the files."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hybridhash_jax.retrieval.index import Index
from hybridhash_jax.retrieval.search.queries import Query
from input_pipeline.errors import UnreadableImage
from input_pipeline.images.decode import DecodeOptions, decode_image
from input_pipeline.images.encoded import read_image_file

# Codes were made of it before, so as much as there is will do.
_OPTIONS = DecodeOptions(allow_truncated=True, apply_orientation=True)


class Pictures:
    """A JPEG, or pixels uint8 [h, w, 3], of queries and rows; None where there is none."""

    def __init__(self, index: Index, queries: Sequence[Query]):
        """Reads nothing yet."""
        self._index, self._queries = index, queries

    def of_query(self, number: int) -> bytes | np.ndarray | None:
        """Of a query."""
        query = self._queries[number]
        return _of_file(query.name) if query.row is None else self.of_row(query.row)

    def of_row(self, row: int) -> bytes | np.ndarray | None:
        """Of a row of the index."""
        kept = self._index.thumbnail(row)
        if kept is not None or self._index.root is None:
            return kept
        return _of_file(self._index.root / os.fsdecode(self._index.entries([row])[0].path))


def _of_file(path: str | Path) -> np.ndarray | None:
    try:
        return decode_image(read_image_file(os.fspath(path)), _OPTIONS)
    except UnreadableImage:
        return None
