"""An index: codes and the images they belong to, on the disk. Loads neither JAX nor numba."""

from hybridhash_jax.retrieval.index.catalogue import Known
from hybridhash_jax.retrieval.index.errors import IndexFileError
from hybridhash_jax.retrieval.index.reader import Index, Segment, open_index
from hybridhash_jax.retrieval.index.records import Entry, Model
from hybridhash_jax.retrieval.index.words import to_packed, to_words
from hybridhash_jax.retrieval.index.writer import Writer, create_index, open_writer

__all__ = [
    "Entry",
    "Index",
    "IndexFileError",
    "Known",
    "Model",
    "Segment",
    "Writer",
    "create_index",
    "open_index",
    "open_writer",
    "to_packed",
    "to_words",
]
