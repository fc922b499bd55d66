"""A million paths in little memory."""

import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np


class PathList(Sequence[bytes]):
    """Paths as one piece of bytes and where each ends: 8 bytes a path beside its letters."""

    def __init__(self, paths: Iterable[bytes] = ()):
        text, ends = bytearray(), array.array("q")
        for path in paths:
            text += path
            ends.append(len(text))
        self._text = bytes(text)
        self._ends = np.frombuffer(ends, np.int64) if ends else np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> "PathList": ...
    def __getitem__(self, index: int | slice) -> "bytes | PathList":
        if isinstance(index, slice):
            return PathList(self[i] for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        start = int(self._ends[index - 1]) if index else 0
        return self._text[start : int(self._ends[index])]

    def __iter__(self) -> Iterator[bytes]:
        start = 0
        for end in map(int, self._ends):
            yield self._text[start:end]
            start = end
