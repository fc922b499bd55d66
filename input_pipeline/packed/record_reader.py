"""Reads the records of packed shards: the encoded images by row, from a disk or a bucket.

TFDS wrote them as `tf.train.Example` messages, but nothing here imports it, which would cost
every decoding process half a second: of each message one field is needed.
"""

import bisect
import itertools
import threading
from collections.abc import Sequence
from typing import Any

from array_record.python.array_record_module import ArrayRecordReader

from input_pipeline.errors import DataError
from input_pipeline.images.decode import UnreadableImage

# No read-ahead: records are read in random order, one call each.
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_READER_BUFFER_BYTES = 32 * 1024
# Protocol buffers' tags of the first and second field of a message, if it is bytes or a message.
_FIRST, _SECOND = 0x0A, 0x12
# A map's entry begins with its key.
_IMAGE_KEY = b"\x0a\x05image"
_MAX_SIZE_BYTES = 5
_AGAIN = "copy it again, or pack again with python -m input_pipeline.pack"


class RecordReader:
    """The encoded images of a packed data set by row; many threads may read at once.

    Shards are opened when first needed and stay open; all threads share them, because a read at
    a position changes nothing in them. A pickled reader arrives closed in the other process.
    """

    def __init__(self, shards: Sequence[str], lengths: Sequence[int]) -> None:
        """Takes paths (local or gs://) and their numbers of records; opens nothing."""
        if len(shards) != len(lengths):
            raise ValueError(f"{len(shards)} shards but {len(lengths)} lengths; give one each")
        self._shards = tuple(shards)
        self._starts = [0, *itertools.accumulate(lengths)]
        self._readers: list[ArrayRecordReader | None] = [None] * len(shards)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, row: int) -> bytes:
        """The encoded image of record `row`, the bytes that were packed.

        Raises:
          UnreadableImage: if the record is damaged.
          DataError: if its shard is missing, incomplete or cannot be reached.
          IndexError: if there is no such row.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} records")
        shard = bisect.bisect_right(self._starts, row) - 1
        reader = self._readers[shard] or self._open(shard)
        try:
            return image_in(reader.read([row - self._starts[shard]])[0])
        except (RuntimeError, ValueError) as error:
            raise self._read_error(row, shard, error) from error

    def close(self) -> None:
        """Closes all shards; a later `read` opens them again."""
        with self._lock:
            for reader in self._readers:
                if reader is not None:
                    reader.close()
            self._readers = [None] * len(self._shards)

    def __getstate__(self) -> dict[str, Any]:
        return {"shards": self._shards, "starts": self._starts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        lengths = [stop - start for start, stop in itertools.pairwise(state["starts"])]
        RecordReader.__init__(self, state["shards"], lengths)

    def _open(self, shard: int) -> ArrayRecordReader:
        with self._lock:
            opened = self._readers[shard]
            if opened is None:
                count = self._starts[shard + 1] - self._starts[shard]
                opened = self._readers[shard] = _open_shard(self._shards[shard], count)
            return opened

    def _read_error(self, row: int, shard: int, error: Exception) -> Exception:
        message = f"record {row} ({self._shards[shard]}): {error}"
        # What is not the file's fault, such as a bucket that does not answer, must not pass for
        # a damaged image: that could be skipped.
        if isinstance(error, ValueError) or "orrupted" in str(error):
            return UnreadableImage(f"damaged {message}")
        return DataError(f"cannot read {message}")


def image_in(record: bytes) -> bytes:
    """The bytes of feature `image` in a serialized `tf.train.Example`.

    Raises:
      ValueError: if it is no such message or has no image.
    """
    position, stop = _inside(record, 0, len(record), _FIRST)
    while position < stop:
        entry, position = _inside(record, position, stop, _FIRST)
        if record.startswith(_IMAGE_KEY, entry):
            # Feature, its bytes_list, the list's first value.
            start, end = _inside(record, entry + len(_IMAGE_KEY), position, _SECOND)
            start, end = _inside(record, start, end, _FIRST)
            start, end = _inside(record, start, end, _FIRST)
            return record[start:end]
    raise ValueError("not a record of a packed data set: it has no image")


def _inside(data: bytes, position: int, stop: int, tag: int) -> tuple[int, int]:
    """Where the field at `position`, which must have this tag, begins and ends."""
    size = shift = 0
    if position < stop and data[position] == tag:
        # Its size, seven bits a byte, the lowest first; the highest bit says that more follow.
        for start in range(position + 1, min(stop, position + 1 + _MAX_SIZE_BYTES)):
            size |= (data[start] & 0x7F) << shift
            if data[start] < 0x80:
                if start + 1 + size > stop:
                    break
                return start + 1, start + 1 + size
            shift += 7
    raise ValueError("not a record of a packed data set")


def _open_shard(path: str, count: int) -> ArrayRecordReader:
    reader = ArrayRecordReader(path, _READER_OPTIONS, file_reader_buffer_size=_READER_BUFFER_BYTES)
    try:
        if not reader.ok():
            reader.close()  # raises, saying why it could not be opened
        found = reader.num_records()
    except RuntimeError as error:
        raise DataError(
            f"cannot open {path}, a shard of a packed data set ({error}); {_AGAIN}"
        ) from error
    if found != count:
        raise DataError(
            f"{path} holds {found} records instead of {count}, so it is incomplete; {_AGAIN}"
        )
    return reader
