"""Which rows a condition such as label=cat or path=2024/* lets through."""

import collections
import fnmatch
import os
import re
import sqlite3
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from hybridhash_jax.retrieval.index.catalogue import blob, parts
from hybridhash_jax.retrieval.index.errors import IndexFileError
from hybridhash_jax.retrieval.names import shown

KEYS = ("label", "path")
Where = Mapping[str, str] | Sequence[tuple[str, str]]
_SPECIAL = re.compile(rb"[*?\[]")


def conditions(where: Where) -> tuple[tuple[str, str], ...]:
    """Conditions as pairs, from a dict or from pairs; a ValueError for anything else."""
    pairs = where.items() if isinstance(where, Mapping) else where
    found = [] if isinstance(pairs, str) else [tuple(pair) for pair in pairs]
    if isinstance(pairs, str) or not all(
        len(pair) == 2 and all(isinstance(one, str) for one in pair) for pair in found
    ):
        raise ValueError(
            f'where={where!r}; give texts by key, such as {{"label": "sea", "path": "2024/*"}}'
        )
    return tuple((key, value) for key, value in found)


def matching(
    connection: sqlite3.Connection, num_rows: int, where: Sequence[tuple[str, str]]
) -> Bool[np.ndarray, " num_rows"]:
    """True for rows that fulfil all conditions, dead ones among them."""
    result = np.ones(num_rows, bool)
    for key, value in where:
        if key not in KEYS:
            raise IndexFileError(f"images are not filtered by {key!r}; give {' or '.join(KEYS)}")
        select = _with_label if key == "label" else _with_path
        chosen = np.zeros(num_rows, bool)
        rows = np.array(select(connection, os.fsencode(value)), np.int64)
        chosen[rows[(rows >= 0) & (rows < num_rows)]] = True
        result &= chosen
    return result


def count_labels(
    connection: sqlite3.Connection, alive: Bool[np.ndarray, " num_rows"]
) -> dict[str, int]:
    """How many living rows have each label, in the order of labels; not those that none has."""
    query = "SELECT label, count(*) FROM rows WHERE row {} GROUP BY label"
    counts = collections.Counter(
        dict(connection.execute(query.format("< ?"), (len(alive),)).fetchall())
    )
    for some in parts(np.flatnonzero(~alive).tolist()):
        found = connection.execute(query.format(f"IN ({','.join('?' * len(some))})"), some)
        counts.subtract(dict(found.fetchall()))
    names = connection.execute("SELECT label, name FROM labels ORDER BY name")
    return {os.fsdecode(blob(name)): counts[label] for label, name in names if counts[label]}


def _with_label(connection: sqlite3.Connection, name: bytes) -> list[int]:
    found = connection.execute(
        "SELECT row FROM rows WHERE label IN (SELECT label FROM labels WHERE name IN (?, ?))",
        (name, os.fsencode(shown(name))),  # a label is the name of a folder as it is shown
    )
    return [row for (row,) in found]


def _with_path(connection: sqlite3.Connection, pattern: bytes) -> list[int]:
    """Only paths that begin as the pattern does are looked at, which the catalogue finds fast."""
    special = _SPECIAL.search(pattern)
    prefix = pattern[: special.start()] if special else pattern
    end = _after(prefix)
    found = connection.execute(
        f"SELECT row, path FROM rows WHERE path >= ?{' AND path < ?' if end else ''}",
        (prefix, end) if end else (prefix,),
    )
    if pattern == prefix + b"*":
        return [row for row, _ in found]
    fits = re.compile(fnmatch.translate(os.fsdecode(pattern))).match
    return [row for row, path in found if fits(os.fsdecode(path))]


def _after(prefix: bytes) -> bytes:
    """The least path after all that begin so; empty where there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b""
