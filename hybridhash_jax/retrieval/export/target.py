"""What a table of a server must be able to do."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Int64, UInt8

from hybridhash_jax.retrieval.export.rows import Batch


class Hits(NamedTuple):
    """What an engine found for one query: ids, and its distances in bits, in any order."""

    ids: Int64[np.ndarray, " m"]
    distances: Int64[np.ndarray, " m"]


class Searched(Protocol):
    """Codes that can be counted and searched.

    Attributes:
      place: what and where it is, without a password.
      lists: into how many the codes are sorted; 0 where all are compared.
      probes: at how many of them a query looks.
    """

    place: str
    lists: int
    probes: int

    def count(self) -> int:
        """How many codes it holds."""
        ...

    def search(self, packed: UInt8[np.ndarray, "Q bytes"], k: int) -> list[Hits]:
        """The k nearest of each query."""
        ...

    def advice(self) -> str:
        """How to search so in the engine's own words, in one line; empty for none."""
        ...


class Table(Searched, Protocol):
    """A table of a server; all of its methods raise `ServerGone` where that does not answer."""

    def held(self) -> Iterator[tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]]:
        """Ids and digests of all rows, in parts."""
        ...

    def upsert(self, batch: Batch) -> None:
        """Writes rows, in place of those that have their ids; when it returns, they are kept."""
        ...

    def delete(self, ids: Int64[np.ndarray, " n"]) -> None:
        """Removes rows."""
        ...

    def finish(self, count: int) -> None:
        """Makes the rows, of which there are `count`, fast to search."""
        ...
