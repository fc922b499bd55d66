"""Reads the records of packed shards: the encoded images by row, from a disk or a bucket."""

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from array_record.python.array_record_module import ArrayRecordReader

from input_pipeline.errors import DataError, UnreadableImage

_AGAIN = "copy it again, or pack again with python -m input_pipeline.pack"


@dataclass(eq=False)
class _Shard:
    """What Grain has to know of a shard to open it only when one of its records is read."""

    filename: str
    take: int
    examples_in_shard: int
    skip: int = 0


class RecordReader:
    """The encoded images of a packed data set by row; many threads may read at once."""

    def __init__(self, shards: Sequence[str], lengths: Sequence[int]) -> None:
        """Takes paths (local or gs://) and their numbers of records; opens nothing."""
        from grain.sources import ArrayRecordDataSource  # late: Grain imports JAX

        self._shards = [_Shard(name, n, n) for name, n in zip(shards, lengths, strict=True)]
        self._ends = list(itertools.accumulate(lengths))
        self._source = ArrayRecordDataSource(self._shards)
        self._checked: set[_Shard] = set()

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, row: int) -> bytes:
        """The encoded image of record `row`; UnreadableImage for a damaged one.

        DataError if its shard is missing, incomplete or cannot be reached.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} records")
        shard = self._shards[bisect.bisect_right(self._ends, row)]
        if shard not in self._checked:
            _check(shard)
            self._checked.add(shard)
        try:
            return image_in(self._source[row])
        except (RuntimeError, ValueError) as error:
            message = f"record {row} ({shard.filename}): {error}"
            # What is not the record's fault, such as a bucket that does not answer, must not
            # pass for a damaged image: that could be skipped.
            if isinstance(error, ValueError) or "orrupted" in str(error):
                raise UnreadableImage(f"damaged {message}") from error
            raise DataError(f"cannot read {message}") from error


def count_records(path: str) -> int:
    """How many records a shard has; RuntimeError if it is damaged or not there."""
    reader = ArrayRecordReader(path)
    try:
        return reader.num_records()
    finally:
        reader.close()


def _check(shard: _Shard) -> None:
    try:
        found = count_records(shard.filename)
    except RuntimeError as error:
        raise DataError(
            f"cannot open {shard.filename}, a shard of a packed data set ({error}); {_AGAIN}"
        ) from error
    if found != shard.take:
        raise DataError(
            f"{shard.filename} holds {found} records instead of {shard.take}, so it is "
            f"incomplete; {_AGAIN}"
        )


def image_in(record: bytes) -> bytes:
    """The bytes of feature `image` in a serialized `tf.train.Example`; ValueError if none."""
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto import tf_example_generated_pb2  # late: it takes 0.3 s

    example: Any = getattr(tf_example_generated_pb2, "Example")()  # noqa: B009
    try:
        example.ParseFromString(record)
        return example.features.feature["image"].bytes_list.value[0]
    except (DecodeError, IndexError) as error:
        raise ValueError("not a record of a packed data set: it has no image") from error
