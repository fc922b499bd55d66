"""Makes a table equal to an index: asks what it has, and sends the difference.

Nothing is noted anywhere else, so it does not matter how the last export ended, whether the server
lost something since, or whether the index was compacted: the same call always goes on.
"""

from typing import NamedTuple

import numpy as np

from hybridhash_jax.retrieval.export.errors import ExportError, ServerGone
from hybridhash_jax.retrieval.export.rows import Rows
from hybridhash_jax.retrieval.export.target import Table
from input_pipeline.progress import Progress


class Changes(NamedTuple):
    """How many rows were sent or removed, and how many were there already."""

    new: int
    changed: int
    removed: int
    same: int


class _Difference(NamedTuple):
    """Places in the rows of what is to be sent, and ids of what is to go."""

    new: np.ndarray
    changed: np.ndarray
    gone: np.ndarray


def synchronize(rows: Rows, table: Table, batch: int, *, replace: bool = False) -> Changes:
    """Sends what is new or changed, and removes what the index does not have any more.

    Args:
      rows: of the index.
      table: the other side.
      batch: rows sent at once.
      replace: also where more than half of the table's rows would be removed.

    Raises:
      ExportError: the server is gone, or most of the table would be removed.
    """
    difference = _compared(rows, table)
    new, changed, gone = (len(part) for part in difference)
    same = len(rows) - new - changed
    if gone > same + changed and not replace:
        raise ExportError(
            f"{table.place} holds {gone + same + changed:,} codes, of which {gone:,} are not in "
            "this index and would be removed; if they shall go, give --replace, otherwise another "
            "--name"
        )
    to_send = np.sort(np.concatenate([difference.new, difference.changed]))
    total = len(to_send) + gone
    with Progress(f"sending to {table.place}", total, "codes") as told:
        try:
            for part in rows.batches(to_send, batch):
                table.upsert(part)
                told.update(len(part))
            for first in range(0, gone, batch):
                table.delete(difference.gone[first : first + batch])
                told.update(len(difference.gone[first : first + batch]))
        except ServerGone as error:
            raise ServerGone(
                f"{error}; it has taken {told.done:,} of {total:,} changes, and the same command "
                "goes on from there"
            ) from error
    return Changes(new, changed, gone, same)


def _compared(rows: Rows, table: Table) -> _Difference:
    known, same = np.zeros((2, len(rows)), bool)
    gone = [np.empty(0, np.int64)]
    with Progress(f"reading what {table.place} holds", None, "codes"):
        for ids, digests in table.held():
            places = rows.places(ids)
            gone.append(ids[places < 0])
            here = places >= 0
            places = places[here]
            known[places] = True
            same[places] = rows.digests[places] == digests[here]
    return _Difference(np.flatnonzero(~known), np.flatnonzero(known & ~same), np.concatenate(gone))
