"""An export from its request to what is told at the end."""

import contextlib
import dataclasses
from collections.abc import Iterator

from hybridhash_jax.retrieval.export.check import Checked, check
from hybridhash_jax.retrieval.export.errors import ExportError
from hybridhash_jax.retrieval.export.rows import Rows
from hybridhash_jax.retrieval.export.syncing import Changes, synchronize
from hybridhash_jax.retrieval.export.table import Kind, Wanted
from hybridhash_jax.retrieval.export.target import Searched, Table
from hybridhash_jax.retrieval.index import Index, open_index
from hybridhash_jax.retrieval.names import shown
from input_pipeline.messages import counted

FILES = ("parquet", "npz", "faiss")
SERVERS = ("milvus", "pgvector")


@dataclasses.dataclass(frozen=True)
class Request:
    """What to export.

    Attributes:
      index: its folder.
      to: one of `FILES` or `SERVERS`.
      place: the file, or the server's address.
      name: of the table; None for files.
      columns: what goes with each code, of `rows.COLUMNS`.
      kind: "ivf" or "exact".
      lists: how many of ivf; None for the root of the number of codes.
      probes: lists that a query looks at; None for the fewest that find 99 %.
      batch: rows sent at once.
      queries: how many answers are compared.
      k: how many nearest of each.
      replace: also where more than half of a table is removed.
    """

    index: str
    to: str
    place: str
    name: str | None = None
    columns: tuple[str, ...] = ("path", "label")
    kind: Kind = "ivf"
    lists: int | None = None
    probes: int | None = None
    batch: int = 10_000
    queries: int = 100
    k: int = 100
    replace: bool = False


def exported(request: Request) -> str:
    """Does it; returns what to tell.

    Raises:
      ExportError: it cannot be done, or what came back is not what the index holds.
      IndexFileError: the index cannot be read.
    """
    with open_index(request.index) as index:
        _check_index(index)
        rows = Rows(index, request.columns)
        wanted = Wanted(
            request.name or "", index.model.bits, index.model.fingerprint, rows.columns,
            request.kind, request.lists,
        )  # fmt: skip
        if request.to in FILES:
            return _to_file(rows, request, wanted)
        with open_table(request, wanted) as table:
            changes = synchronize(rows, table, request.batch, replace=request.replace)
            table.finish(len(rows))
            checked = check(rows, table, request.queries, request.k, request.probes)
            return "\n".join([_told(rows, table, changes), _told_check(table, checked)])


@contextlib.contextmanager
def open_table(request: Request, wanted: Wanted) -> Iterator[Table]:
    """The table of a server; loads that server's package alone."""
    if request.to == "milvus":
        from hybridhash_jax.retrieval.export import milvus as server
    else:
        from hybridhash_jax.retrieval.export import pgvector as server
    with server.open_table(request.place, wanted) as table:
        yield table


def _to_file(rows: Rows, request: Request, wanted: Wanted) -> str:
    from hybridhash_jax.retrieval.export.files import WRITERS

    file = WRITERS[request.to](rows, request.place, wanted)
    checked = check(rows, file, request.queries, request.k, request.probes)
    return "\n".join([f"{file.place}: {counted(len(rows), 'code')}", _told_check(file, checked)])


def _check_index(index: Index) -> None:
    """Nothing is removed elsewhere because something is damaged here."""
    if index.damaged:
        raise ExportError(
            f"{shown(index.path)} is damaged ({counted(len(index.damaged), 'file')}); encode the "
            "images again, or let `hybridhash index compact --drop_damaged` forget them"
        )
    if not len(index):
        raise ExportError(f"{shown(index.path)} holds no images; nothing was exported")


def _told(rows: Rows, table: Table, changes: Changes) -> str:
    return (
        f"{table.place}: {counted(len(rows), 'code')}; {changes.new:,} new, {changes.changed:,} "
        f"changed, {changes.removed:,} removed, {changes.same:,} were there"
    )


def _told_check(engine: Searched, checked: Checked) -> str:
    if not checked.queries:
        return "counted; answers were not compared"
    how = "all codes are compared"
    if engine.lists:
        how = f"{engine.probes:,} of {engine.lists:,} lists are looked at"
    text = (
        f"compared with exact answers: {checked.recall:.2%} of the {checked.k} nearest in "
        f"{counted(checked.queries, 'search').replace('searchs', 'searches')}, where {how}"
    )
    advice = engine.advice()
    return f"{text}\n{advice}" if advice else text
