"""PostgreSQL with pgvector: codes as bit(n), compared by <~>, in lists of ivfflat.

Not HNSW: measured with pgvector 0.8.6, it took 50 times as long to build for 100,000 codes, and
found 70 % of the 100 nearest, however long it looked, where 500 codes each are equal, as learned
ones are.
"""

import contextlib
import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from hybridhash_jax.retrieval.export.addresses import postgresql_place, postgresql_refusal
from hybridhash_jax.retrieval.export.errors import ExportError, ServerGone, missing
from hybridhash_jax.retrieval.export.rows import TEXTS, Batch
from hybridhash_jax.retrieval.export.table import Wanted, lists_fit, lists_for
from hybridhash_jax.retrieval.export.target import Hits
from input_pipeline.progress import Progress

_READ_AT_ONCE = 50_000
_MOST_LISTS = 32_768  # pgvector takes no more
# Building n lists takes memory for 50 samples a list and their distances to all lists.
_BYTES_A_LIST_SQUARED = 200
_LEAST_MEMORY_MB = 64
_CONNECTION = {
    "client_encoding": "UTF8",
    "connect_timeout": 10,
    # A server that is cut off is noticed within a minute, however long a statement may take.
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 4,
    "tcp_user_timeout": 60_000,
    "fallback_application_name": "hybridhash export",
}


@contextlib.contextmanager
def open_table(url: str, wanted: Wanted) -> Iterator["PgTable"]:
    """Connects, makes the table where there is none, and checks the one there is.

    Args:
      url: what libpq takes, such as "postgresql://me@localhost/pictures".
      wanted: name, bits and columns.

    Raises:
      ExportError: no server, no access, no pgvector, or another table of that name.
    """
    try:
        import psycopg
    except ImportError:
        raise missing("psycopg", "requirements-engines.txt") from None
    place = postgresql_place(url)
    try:
        connection = psycopg.connect(url, autocommit=True, **_CONNECTION)  # pyright: ignore
    except (psycopg.Error, UnicodeError) as error:
        raise ExportError(postgresql_refusal(place, error)) from None
    with contextlib.closing(connection):
        yield PgTable(connection, f"{wanted.name} of {place}", wanted)


class PgTable:
    """A table of PostgreSQL; see `target.Table`."""

    def __init__(self, connection: Any, place: str, wanted: Wanted):
        """Makes or checks it; `open_table` is what others call."""
        from psycopg import sql

        self.place, self.lists, self.probes = place, 0, 0
        self._connection, self._wanted = connection, wanted
        self._types = {
            "id": "bigint",
            "digest": "bigint",
            "code": f"bit({wanted.bits})",
            **{name: "text" if name in TEXTS else "integer" for name in wanted.columns},
        }
        self._name = sql.Identifier(wanted.name)
        self._index = sql.Identifier(_index_name(wanted.name))
        with self._explained():
            self._prepare()

    def held(self) -> Iterator[tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]]:
        """Ids and digests of all rows, in parts."""
        with (
            self._explained(),
            self._connection.transaction(),
            self._connection.cursor("held") as cursor,  # with a name: rows stay on the server
        ):
            cursor.execute(self._sql("SELECT id, digest FROM {table}"))
            while found := cursor.fetchmany(_READ_AT_ONCE):
                ids, digests = np.array(found, np.int64).T
                yield ids, digests

    def upsert(self, batch: Batch) -> None:
        """Writes rows in one transaction."""
        names = list(self._types)
        updates = ", ".join(f"{name} = excluded.{name}" for name in names[1:])
        with self._explained(), self._connection.transaction():
            self._run(
                "CREATE TEMPORARY TABLE IF NOT EXISTS incoming (LIKE {table}) ON COMMIT DELETE ROWS"
            )
            with self._connection.cursor() as cursor:
                with cursor.copy(
                    self._sql(f"COPY incoming ({', '.join(names)}) FROM STDIN")
                ) as copy:
                    copy.write(_as_text(batch, self._wanted.bits))
            self._run(
                f"INSERT INTO {{table}} ({', '.join(names)}) SELECT {', '.join(names)}"
                f" FROM incoming ON CONFLICT (id) DO UPDATE SET {updates}"
            )  # fmt: skip

    def delete(self, ids: Int64[np.ndarray, " n"]) -> None:
        """Removes rows."""
        with self._explained():
            self._run("DELETE FROM {table} WHERE id = ANY(%s)", [ids.tolist()])

    def finish(self, count: int) -> None:
        """Builds lists, unless there are some that fit."""
        with self._explained():
            lists = self._built_lists()
            asked = min(lists_for(self._wanted, count), _MOST_LISTS)
            if lists_fit(self._wanted, lists, asked):
                self.lists = lists
            else:
                self._build(asked)
                self.lists = asked
            self._run("ANALYZE {table}")

    def count(self) -> int:
        """How many rows there are."""
        with self._explained():
            return self._run("SELECT count(*) FROM {table}").fetchone()[0]

    def search(
        self, packed: UInt8[np.ndarray, "Q bytes"], k: int, label: str | None = None
    ) -> list[Hits]:
        """The k nearest of each query, also where a label leaves few in the lists looked at."""
        where = "" if label is None else "WHERE label = %(label)s"
        query = (
            f"SELECT id, code <~> %(code)s::bit({self._wanted.bits}) FROM {{table}} {where}"
            f" ORDER BY code <~> %(code)s::bit({self._wanted.bits}) LIMIT %(k)s"
        )
        hits = []
        with self._explained(), self._connection.transaction():
            # Going on until k are found would praise lists for what a smaller k does not find.
            for setting in self._settings() if label is not None else self._settings()[:1]:
                self._run(f"SET LOCAL {setting}")
            for code in _bits(packed, self._wanted.bits):
                found = self._run(query, {"code": code, "k": k, "label": label}).fetchall()
                ids, distances = np.array(found, np.int64).reshape(-1, 2).T
                hits.append(Hits(ids, distances))
        return hits

    def advice(self) -> str:
        """The settings of a session, and a query."""
        settings = "".join(f"SET {setting}; " for setting in self._settings())
        column = "path" if "path" in self._wanted.columns else "id"
        return (
            f'{settings}SELECT {column} FROM "{self._wanted.name}" ORDER BY code <~> '
            f"'0101...'::bit({self._wanted.bits}) LIMIT 100;"
        )

    def _settings(self) -> list[str]:
        """Without the second, lists that a filter leaves nearly empty would give too few rows."""
        if not self.lists:
            return []
        return [f"ivfflat.probes = {self.probes}", "ivfflat.iterative_scan = relaxed_order"]

    def _prepare(self) -> None:
        if not self._run("SELECT FROM pg_extension WHERE extname = 'vector'").fetchone():
            self._add_pgvector()
        description = self._run(
            "SELECT obj_description(to_regclass(%s), 'pg_class'), to_regclass(%s) IS NOT NULL",
            [f'"{self._wanted.name}"'] * 2,
        ).fetchone()
        if not description[1]:
            self._create()
            return
        self._wanted.check_description(self.place, description[0] or "")
        columns = self._run(
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull AND NOT atthasdef"
            " FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
            [f'"{self._wanted.name}"'],
        ).fetchall()
        found = {name: kind for name, kind, _ in columns}
        needed = [name for name, _, needs_value in columns if needs_value]
        self._wanted.check_columns(self.place, self._types, found, needed)

    def _add_pgvector(self) -> None:
        import psycopg

        try:
            self._run("CREATE EXTENSION IF NOT EXISTS vector")
        except psycopg.errors.InsufficientPrivilege:
            reason = (
                "its extension is not switched on; let an administrator CREATE EXTENSION vector"
            )
        except psycopg.errors.Error:
            reason = "it has no pgvector; install https://github.com/pgvector/pgvector there"
        else:
            return
        raise ExportError(f"{self.place}: {reason}")

    def _create(self) -> None:
        columns = [f"{name} {kind} NOT NULL" for name, kind in self._types.items()]
        columns[0] += " PRIMARY KEY"
        with self._connection.transaction():
            self._run(f"CREATE TABLE {{table}} ({', '.join(columns)})")
            self._run(f"COMMENT ON TABLE {{table}} IS '{self._wanted.description()}'")

    def _built_lists(self) -> int:
        """Of the index that `_build` made; 0 for none."""
        found = self._run(
            "SELECT reloptions FROM pg_class WHERE oid = to_regclass(%s)",
            [f'"{_index_name(self._wanted.name)}"'],
        ).fetchone()
        options = dict(option.split("=") for option in (found and found[0]) or [])
        return int(options.get("lists", 0))

    def _build(self, lists: int) -> None:
        memory = _LEAST_MEMORY_MB + math.ceil(_BYTES_A_LIST_SQUARED * lists**2 / 2**20)
        with self._connection.transaction():
            self._run("DROP INDEX IF EXISTS {index}")
            if not lists:
                return
            with Progress(f"sorting into {lists:,} lists"):
                self._run(f"SET LOCAL maintenance_work_mem = '{memory}MB'")
                self._run(
                    "CREATE INDEX {index} ON {table} USING ivfflat (code bit_hamming_ops)"
                    f" WITH (lists = {lists})"
                )

    def _sql(self, text: str) -> Any:
        from psycopg import sql

        return sql.SQL(text).format(table=self._name, index=self._index)  # pyright: ignore

    def _run(self, text: str, values: Any = None) -> Any:
        return self._connection.execute(self._sql(text), values)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            if self._connection.broken or isinstance(error, psycopg.errors.AdminShutdown):
                raise ServerGone(f"{self.place} does not answer any more") from None
            raise ExportError(f"{self.place} refused: {_reason(error)}") from None


def _reason(error: Any) -> str:
    """In our own words: the server's may hold values of rows."""
    state = error.sqlstate or "none"
    known = {
        "42501": "the user may not do this; let an administrator GRANT it",
        "53100": "its disk is full; make room and export again",
        "53200": "it is out of memory; give fewer --lists",
        "54000": "building lists takes more memory than it gives; give fewer --lists",
        "25006": "it is read-only; give the address of the primary server",
        "42P10": "id is not its primary key; give another --name",
        "55P03": "something else keeps the table locked; try again",
        "40P01": "something else writes to the table; try again",
    }
    return known.get(state, f"SQLSTATE {state}; see the server's log")


def _index_name(table: str) -> str:
    """At most the 63 letters that PostgreSQL keeps, and of no other table."""
    if len(table) > 50:
        table = f"{table[:41]}_{hashlib.sha256(table.encode()).hexdigest()[:8]}"
    return f"{table}_code_ivfflat"


def _bits(packed: np.ndarray, bits: int) -> list[str]:
    """Codes as texts of 0 and 1."""
    letters = np.unpackbits(packed, axis=1, count=bits) + np.uint8(ord("0"))
    return np.ascontiguousarray(letters).view(f"S{bits}")[:, 0].astype(str).tolist()


def _as_text(batch: Batch, bits: int) -> str:
    """What COPY reads: a line a row, a tab between values. Names are escaped already but for \\."""
    columns = [batch.ids.tolist(), batch.digests.tolist(), _bits(batch.packed, bits)]
    columns += [
        [value.replace("\\", "\\\\") for value in values] if name in TEXTS else values
        for name, values in batch.values.items()
    ]
    return "".join("\t".join(map(str, row)) + "\n" for row in zip(*columns, strict=True))
