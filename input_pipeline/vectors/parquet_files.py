"""Vectors in a Parquet file: a row an image, a column for the vector, its labels, its name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.messages import shortened
from input_pipeline.vectors.conversion import converted
from input_pipeline.vectors.row_checks import rows_at_once
from input_pipeline.vectors.row_lists import LabelLists

_COLUMNS = {"embeddings": ("embedding", "embeddings"), "labels": ("label", "labels"),
            "names": ("name", "names"), "split": ("split",)}  # fmt: skip
_FLOATS = {"halffloat": np.float16, "float": np.float32, "double": np.float64}
_ACCEPTED = "accepted: a column embedding with lists of float16, float32 or float64, one length"


class ParquetVectors:
    """The columns of one file that mean something here; DataError for what cannot be used."""

    def __init__(self, path: Path):
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise DataError(
                f"{path} is a Parquet file, which needs pyarrow: pip install pyarrow"
            ) from None
        self.path = path
        # Its errors are of no common class: ArrowInvalid is a ValueError, ArrowIOError an OSError.
        self._errors = (pyarrow.ArrowException, OSError, ValueError, KeyError)
        try:
            self._file = pyarrow.parquet.ParquetFile(path)
            self._fields = {field.name: field.type for field in self._file.schema_arrow}
        except self._errors:
            raise self._damaged() from None
        self.columns = {
            kind: name for kind, names in _COLUMNS.items() for name in names if name in self._fields
        }
        if "embeddings" not in self.columns:
            raise DataError(f"{path} has {shortened(list(self._fields), 20)}; {_ACCEPTED}")

    def __len__(self) -> int:
        return self._file.metadata.num_rows

    def vectors(self, cache: Path) -> np.ndarray:
        """The vectors [N, D], from the cache, into which the row groups are written once."""
        name = self.columns["embeddings"]
        given = self._fields[name]
        number = str(getattr(given, "value_type", "none"))
        if number not in _FLOATS or not str(given).startswith(
            ("list", "large_list", "fixed_size_list")
        ):
            raise DataError(f"{self.path}: column {name} holds {given}; {_ACCEPTED}")
        if not len(self):
            raise DataError(f"{self.path} has no rows; {_ACCEPTED}")
        width = self._width(name)
        if not width:
            raise DataError(f"{self.path}: column {name}: row 0 is empty; {_ACCEPTED}")
        dtype = np.dtype(np.float16 if number == "halffloat" else np.float32)
        wide = " of float64" if number == "double" else ""
        reason = f"Parquet{wide} cannot be mapped"
        return converted(
            self.path, reason, (len(self), width), dtype, lambda: self._chunks(name, width), cache
        )

    def _width(self, name: str) -> int:
        for batch in self._batches(name, 1):
            return len(batch[0].as_py() or ())
        return 0

    def _batches(self, name: str, size: int) -> Iterator[Any]:
        try:
            for batch in self._file.iter_batches(size, columns=[name]):
                yield batch.column(0)
        except self._errors:
            raise self._damaged() from None

    def _chunks(self, name: str, width: int) -> Iterator[np.ndarray]:
        first = 0
        for column in self._batches(name, rows_at_once(np.empty((0, width), np.float32))):
            lengths = _lengths(column)
            wrong = np.flatnonzero(lengths != width)
            if len(wrong):
                row = int(wrong[0])
                raise DataError(
                    f"{self.path}: column {name}: row {first + row} has {lengths[row]} numbers and "
                    f"row 0 has {width}; {_ACCEPTED}"
                )
            numbers = column.flatten()  # a number that is not there becomes NaN, and is refused
            yield numbers.to_numpy(zero_copy_only=False).reshape(len(column), width)
            first += len(column)

    def words(self, kind: str) -> list[str] | None:
        """The column of names or splits; None without it."""
        if kind not in self.columns:
            return None
        name = self.columns[kind]
        values = self._listed(self._read(name))
        for row, value in enumerate(values):
            if not isinstance(value, str | int):
                raise DataError(
                    f"{self.path}: column {name} holds {value!r} in row {row}; expected a string"
                )
        return [str(value) for value in values]

    def labels(self) -> np.ndarray | LabelLists | None:
        """The column of labels; None without it."""
        if "labels" not in self.columns:
            return None
        name = self.columns["labels"]
        column = self._read(name)
        is_list = str(column.type).startswith(("list", "large_list", "fixed_size_list"))
        lengths = _lengths(column) if is_list else np.asarray(column.is_valid(), np.int64)
        rows = np.repeat(np.arange(len(column)), lengths)
        values = self._listed(column.flatten() if is_list else column.drop_null())
        array = self._as_array(name, values)
        if not is_list and array.dtype.kind in "US":
            rows = rows[array != ""]
            array = array[array != ""]
        return LabelLists(array, rows, len(column))

    def _as_array(self, name: str, values: list[Any]) -> np.ndarray:
        kinds = {type(value) for value in values} or {int}
        if kinds <= {bool, int}:
            return np.asarray(values, np.int64)
        if kinds == {str}:
            return np.asarray([value.strip() for value in values], np.str_)
        wrong = next((value for value in values if not isinstance(value, bool | int | str)), None)
        raise DataError(
            f"{self.path}: column {name} holds {wrong!r}, which is no label; accepted: whole numbers, "
            "strings, or lists of either"
        )

    def _read(self, name: str) -> Any:
        try:
            return self._file.read([name])[name].combine_chunks()
        except self._errors:
            raise self._damaged() from None

    def _listed(self, column: Any) -> list[Any]:
        try:
            return column.to_pylist()
        except self._errors:  # letters that are not UTF-8
            raise self._damaged() from None

    def _damaged(self) -> DataError:
        return DataError(
            f"{self.path} cannot be read: it is damaged or not whole; copy or make it again"
        )


def _lengths(column: Any) -> np.ndarray:
    """How long each list is, int64; 0 where there is none."""
    from pyarrow import compute

    lengths = compute.call_function("list_value_length", [column]).fill_null(0)
    return lengths.to_numpy(zero_copy_only=False).astype(np.int64)
