"""Codes in files: Parquet, NumPy's npz, and faiss's binary index. Each is whole or not there."""

import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8, UInt64

from hybridhash_jax.retrieval.engine import nearest_batch
from hybridhash_jax.retrieval.export.errors import missing
from hybridhash_jax.retrieval.export.rows import TEXTS, Rows
from hybridhash_jax.retrieval.export.table import Wanted, lists_for
from hybridhash_jax.retrieval.export.target import Hits, Searched
from hybridhash_jax.retrieval.index import to_words
from hybridhash_jax.retrieval.names import exact, shown
from input_pipeline.atomic_file import open_atomically
from input_pipeline.progress import Progress

_AT_ONCE = 1 << 16


class _Read:
    """A file that is read back and compared code by code; see `target.Searched`."""

    lists = probes = 0

    def __init__(
        self, path: str, ids: Int64[np.ndarray, " n"], words: UInt64[np.ndarray, "n words"]
    ):
        self.place, self._ids, self._words = shown(path), ids, words

    def count(self) -> int:
        return len(self._ids)

    def search(self, packed: UInt8[np.ndarray, "Q bytes"], k: int) -> list[Hits]:
        found = nearest_batch([self._words], to_words(packed), k)
        return [Hits(self._ids[one.rows], one.distances) for one in found]

    def advice(self) -> str:
        return ""


def write_parquet(rows: Rows, path: str, wanted: Wanted) -> Searched:
    """Columns id, code_0, ... (uint64, the words of `index.to_words`) and those wanted."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise missing("pyarrow", "requirements-embeddings.txt") from None
    words = [f"code_{number}" for number in range(rows.index.words)]
    kinds = {"id": pyarrow.int64(), **dict.fromkeys(words, pyarrow.uint64())}
    kinds |= {name: pyarrow.string() if name in TEXTS else pyarrow.int32() for name in rows.columns}
    facts = {"hybridhash": wanted.description(), "bits": str(wanted.bits)}
    schema = pyarrow.schema(list(kinds.items()), facts)
    with open_atomically(path) as file, parquet.ParquetWriter(file, schema) as writer:
        with _telling(path, rows) as told:
            for batch in rows.batches(np.arange(len(rows)), _AT_ONCE):
                codes = dict(zip(words, to_words(batch.packed).T.copy(), strict=True))
                columns = {"id": batch.ids, **codes, **batch.values}
                arrays = [pyarrow.array(columns[name], kind) for name, kind in kinds.items()]
                writer.write_table(pyarrow.table(arrays, schema=schema))
                told.update(len(batch))
    with open(path, "rb") as file:  # Arrow takes no name that is not UTF-8
        table = parquet.read_table(file, columns=["id", *words])
    codes = np.stack([table[name].to_numpy() for name in words], axis=1)
    return _Read(path, table["id"].to_numpy(), codes)


def write_npz(rows: Rows, path: str, wanted: Wanted) -> Searched:
    """Arrays id int64 [n], code uint8 [n, bytes], bits, and those wanted; names are bytes."""
    _write_arrays(rows, path, wanted, with_codes=True)
    with np.load(path, allow_pickle=False) as read:
        return _Read(path, read["id"], to_words(read["code"]))


def write_faiss(rows: Rows, path: str, wanted: Wanted) -> Searched:
    """A binary index that finds ids, and beside it PATH.names.npz with what belongs to each id.

    Codes are filled up with zeros to whole words of 64 bits.
    """
    from hybridhash_jax.retrieval.engine.ivf import load_faiss

    faiss = load_faiss()
    lists = lists_for(wanted, len(rows))
    with _telling(path, rows) as told:
        index = _faiss_lists(rows, lists) if lists else _faiss_flat(faiss, rows)
        told.update(len(rows))
    if rows.columns:
        _write_arrays(rows, f"{path}.names.npz", wanted, with_codes=False)
    with open_atomically(path) as file:
        file.write(faiss.serialize_index_binary(index).data)
    with open(path, "rb") as file:  # faiss takes no name that is not UTF-8
        read = faiss.read_index_binary(faiss.PyCallbackIOReader(file.read))
    return _Faiss(path, read, lists, rows.index.words)


class _Faiss:
    """A file of faiss, read back; see `target.Searched`."""

    def __init__(self, path: str, index: Any, lists: int, words: int):
        self.place, self.lists, self.probes = shown(path), lists, 0
        self._index, self._words = index, words

    def count(self) -> int:
        return self._index.ntotal

    def search(self, packed: UInt8[np.ndarray, "Q bytes"], k: int) -> list[Hits]:
        if self.lists:
            self._index.nprobe = self.probes
        codes = to_words(packed).view(np.uint8)
        distances, ids = self._index.search(codes, k)
        return [
            Hits(one[one >= 0], near[one >= 0].astype(np.int64))
            for one, near in zip(ids, distances, strict=True)
        ]

    def advice(self) -> str:
        probes = f"index.nprobe = {self.probes}; " if self.lists else ""
        return f"index = faiss.read_index_binary(FILE); {probes}index.search(packed_codes, 100)"


def _faiss_flat(faiss: Any, rows: Rows) -> Any:
    index = faiss.IndexBinaryIDMap2(faiss.IndexBinaryFlat(64 * rows.index.words))
    for batch in rows.batches(np.arange(len(rows)), _AT_ONCE):
        index.add_with_ids(to_words(batch.packed).view(np.uint8), batch.ids)
    return index


def _faiss_lists(rows: Rows, lists: int) -> Any:
    """Our own lists, with ids in the place of row numbers."""
    from hybridhash_jax.retrieval.engine.ivf_build import build

    index = rows.index
    codes = [segment.codes for segment in index.segments]
    starts = [segment.first_row for segment in index.segments]
    built = build(codes, None if index.alive.all() else index.alive, starts, lists=lists)
    found = built.faiss_index
    return renamed(found, rows.rows, rows.ids)


def renamed(index: Any, rows: Int64[np.ndarray, " n"], ids: Int64[np.ndarray, " n"]) -> Any:
    """Puts ids in the place of ascending row numbers, in the lists of faiss's IndexBinaryIVF."""
    from hybridhash_jax.retrieval.engine.ivf import load_faiss

    faiss = load_faiss()
    for number in range(index.nlist):
        size = index.invlists.list_size(number)
        if size:
            there = faiss.rev_swig_ptr(index.invlists.get_ids(number), size)
            there[:] = ids[np.searchsorted(rows, there)]
    return index


def _write_arrays(rows: Rows, path: str, wanted: Wanted, *, with_codes: bool) -> None:
    """An npz file, array by array, so that only a part of it is in memory."""
    count = len(rows)
    with open_atomically(path) as file, zipfile.ZipFile(file, "w") as archive:
        _add(archive, "id", (count,), np.dtype("<i8"), iter([rows.ids]))
        _add(archive, "bits", (), np.dtype("<i8"), iter([np.array(wanted.bits)]))
        if with_codes:
            size = -(-wanted.bits // 8)
            with _telling(path, rows) as told:
                codes = (_told(batch.packed, told) for batch in _batches(rows))
                _add(archive, "code", (count, size), np.dtype("u1"), codes)
        for name in rows.columns:
            kind = _text_type(rows, name) if name in TEXTS else np.dtype("<i4")
            parts = (np.array(_exact(batch.values[name]), kind) for batch in _batches(rows))
            _add(archive, name, (count,), kind, parts)


def _add(
    archive: zipfile.ZipFile,
    name: str,
    shape: tuple[int, ...],
    kind: np.dtype[Any],
    parts: Iterator[np.ndarray],
) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part, kind).tobytes())


def _batches(rows: Rows) -> Iterator[Any]:
    return rows.batches(np.arange(len(rows)), _AT_ONCE)


def _exact(values: list[Any]) -> list[Any]:
    """Names as the file system spells them."""
    return [exact(value) if isinstance(value, str) else value for value in values]


def _text_type(rows: Rows, name: str) -> np.dtype[Any]:
    longest = max(len(text) for batch in _batches(rows) for text in _exact(batch.values[name]))
    return np.dtype(f"S{max(longest, 1)}")


def _told(array: np.ndarray, told: Progress) -> np.ndarray:
    told.update(len(array))
    return array


def _telling(path: str, rows: Rows) -> Progress:
    return Progress(f"writing {shown(path)}", len(rows), "codes")


Write = Callable[[Rows, str, Wanted], Searched]
WRITERS: dict[str, Write] = {"parquet": write_parquet, "npz": write_npz, "faiss": write_faiss}
