"""Which rows a condition such as label=cat or path=2024/* lets through."""

import fnmatch
import os
import re
import sqlite3
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from hybridhash_jax.retrieval.index.errors import IndexFileError

KEYS = ("label", "path")
_SPECIAL = re.compile(rb"[*?\[]")


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
        chosen[rows[rows < num_rows]] = True
        result &= chosen
    return result


def count_labels(
    connection: sqlite3.Connection, alive: Bool[np.ndarray, " num_rows"]
) -> dict[str, int]:
    """How many living rows have each label, in the order of labels; not those that none has."""
    counts = dict(
        connection.execute(
            "SELECT label, count(*) FROM rows WHERE row < ? GROUP BY label", (len(alive),)
        )
    )
    for row in np.flatnonzero(~alive):
        query = "SELECT label FROM rows WHERE row = ?"
        counts[connection.execute(query, (int(row),)).fetchone()[0]] -= 1
    names = connection.execute("SELECT label, name FROM labels ORDER BY name")
    return {os.fsdecode(name): counts[label] for label, name in names if counts.get(label)}


def _with_label(connection: sqlite3.Connection, name: bytes) -> list[int]:
    found = connection.execute(
        "SELECT row FROM rows WHERE label = (SELECT label FROM labels WHERE name = ?)", (name,)
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
