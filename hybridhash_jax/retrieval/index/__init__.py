"""An index: codes and the images they belong to, on the disk. Loads neither JAX nor numba.

    pictures.idx/
      index.json             format, bits, words, model, root, generation, and SHA-256 of files/
      catalogue-N.sqlite     N = that generation: segments, rows, labels, tombstones
      segments/SHA256.codes  uint64, little-endian, row after row; never changed
      segments/SHA256.hashes perceptual hashes of the same rows
      files/encoder.npz      and whatever else the encoder needs
      thumbnails.sqlite      a cache that may be lost
      writer.lock            while somebody writes

What index.json and the catalogue it names do not list does not count; it goes when the next writer
opens. A segment is written beside, synced and moved before its rows are committed; a compaction
writes a new catalogue and then replaces index.json. So a killed writer leaves the index as it was
before or after its last step, and a reader sees one generation.
"""

from hybridhash_jax.retrieval.index.catalogue import Known
from hybridhash_jax.retrieval.index.errors import IndexFileError
from hybridhash_jax.retrieval.index.maintenance import compact, merge, move
from hybridhash_jax.retrieval.index.reader import Index, Segment, open_index
from hybridhash_jax.retrieval.index.records import Entry, Model
from hybridhash_jax.retrieval.index.report import describe, verify
from hybridhash_jax.retrieval.index.same_model import check_same_model
from hybridhash_jax.retrieval.index.storage import index_around
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
    "check_same_model",
    "compact",
    "create_index",
    "describe",
    "index_around",
    "merge",
    "move",
    "open_index",
    "open_writer",
    "to_packed",
    "to_words",
    "verify",
]
