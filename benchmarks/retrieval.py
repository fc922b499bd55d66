"""Search of stored codes: milliseconds a query of one thread, beside faiss and a compiled loop.

    python -m benchmarks.retrieval --rows 1e6 1e7 --out=benchmarks/results/retrieval_cpu.json
    python -m benchmarks.retrieval --rows --mapped=1e8 --folder=/data/scratch

Figures are of processor time, medians over queries that all ways answer in turn; ratios are of the
same run. Codes are clustered: 1,000 centres (more from a million rows on), each bit flipped with
probability .08. The 100 million codes of --mapped are written to --folder (800 MB), read through a
memory map, and removed.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import faiss
import numpy as np

from benchmarks.measure import pin_to_one_core, record_file, run_and_exit, write_record
from hybridhash_jax.metrics.numba_typed import compiled, popcount
from hybridhash_jax.retrieval import engine
from hybridhash_jax.retrieval.engine import ivf_build

_K = 100
_FLIPPED = 0.08
_AT_A_TIME = 1 << 20
Search = Callable[[np.ndarray], object]


def main() -> None:
    args = _parse_args()
    pin_to_one_core()
    faiss.omp_set_num_threads(1)
    rows = [_measure(int(size), args.queries) for size in args.rows]
    lists = [_measure_lists(int(size), args.queries) for size in args.ivf]
    mapped = _measure_mapped(int(args.mapped), args.folder, args.queries) if args.mapped else None
    start = {name: _seconds_to_import(name) for name in _MODULES}
    print("imports, seconds: " + ", ".join(f"{name} {value}" for name, value in start.items()))
    if args.out:
        write_record(
            args.out,
            ("numpy", "numba", "faiss-cpu"),
            note=args.note,
            k=_K,
            milliseconds=rows,
            ivf=lists,
            memory_mapped=mapped,
            seconds_to_import=start,
        )


_MODULES = ("numpy", "hybridhash_jax.retrieval.engine", "numba", "faiss")


def _measure(size: int, repetitions: int) -> dict[str, Any]:
    """All exact ways at one size, on the same queries."""
    rng = np.random.default_rng(0)
    codes = make_codes(size, 1, rng)
    queries = _near(codes, repetitions, rng)
    half, few = rng.random(size) < 0.5, rng.random(size) < 0.01
    short = {bits: codes & _first_bits(bits) for bits in (16, 48)}
    two_words = make_codes(size, 2, rng)
    flat = faiss.IndexBinaryFlat(64)
    flat.add(codes.view(np.uint8))
    bitmap = np.packbits(half, bitorder="little")  # faiss keeps a pointer to it
    search_parameters: Any = faiss.SearchParameters
    chosen = search_parameters(sel=cast(Any, faiss.IDSelectorBitmap)(bitmap))
    segments = np.array_split(codes, 10)
    ways: dict[str, Search] = {
        "64 bits": lambda q: engine.nearest([codes], q, _K),
        "64 bits, 10 segments": lambda q: engine.nearest(segments, q, _K),
        "64 bits, half filtered out": lambda q: engine.nearest([codes], q, _K, mask=half),
        "64 bits, 99 % filtered out": lambda q: engine.nearest([codes], q, _K, mask=few),
        "64 bits, radius 4": lambda q: engine.nearest([codes], q, radius=4),
        "48 bits": lambda q: engine.nearest([short[48]], q & _first_bits(48), _K),
        "16 bits": lambda q: engine.nearest([short[16]], q & _first_bits(16), _K),
        "128 bits": lambda q: engine.nearest([two_words], np.repeat(q, 2), _K),
        "faiss, 64 bits": lambda q: flat.search(q.view(np.uint8)[None], _K),
        "faiss, half filtered out": lambda q: flat.search(q.view(np.uint8)[None], _K, params=chosen),
        "Numba, 64 bits": lambda q: numba_nearest(codes[:, 0], q, _K),
        "Numba, half filtered out": lambda q: numba_nearest(codes[:, 0], q, _K, half),
    }  # fmt: skip
    _check(codes, queries[0], half, flat, chosen)
    seconds = _in_turns(ways, queries)
    return _report(f"{size:,} codes, the {_K} nearest", size, seconds, "64 bits")


def _measure_lists(size: int, repetitions: int) -> dict[str, Any]:
    """Approximate search beside the exact one."""
    rng = np.random.default_rng(0)
    codes = make_codes(size, 1, rng)
    started = time.process_time()
    ivf = ivf_build.build([codes])
    built = time.process_time() - started
    half = rng.random(size) < 0.5
    ways: dict[str, Search] = {
        "ivf": lambda q: ivf.search([codes], q, _K),
        "ivf, half filtered out": lambda q: ivf.search([codes], q, _K, mask=half),
        "exact": lambda q: engine.nearest([codes], q, _K),
    }
    seconds = _in_turns(ways, _near(codes, repetitions, rng))
    title = f"{size:,} codes, {ivf.probes} of {ivf.lists} lists, recall {ivf.recall:.4f}"
    title += f", built in {built:.0f} s"
    figures = _report(title, size, seconds, "exact")
    return figures | {
        "lists": ivf.lists,
        "probes": ivf.probes,
        "recall": ivf.recall,
        "build": built,
    }


def _measure_mapped(size: int, folder: Path, repetitions: int) -> dict[str, Any]:
    """Exact search of a file that is larger than what one would load."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = Path(name) / "codes"
        with path.open("wb") as file:
            for start in range(0, size, _AT_A_TIME):
                file.write(make_codes(min(_AT_A_TIME, size - start), 1, rng).tobytes())
        codes = np.memmap(path, "<u8", "r", shape=(size, 1))
        queries = _near(codes, min(repetitions, 5), rng)
        ways: dict[str, Search] = {"memory-mapped": lambda q: engine.nearest([codes], q, _K)}
        seconds = _in_turns(ways, queries)
        return _report(f"{size:,} codes in a file", size, seconds, "memory-mapped")


def make_codes(size: int, words: int, rng: np.random.Generator) -> np.ndarray:
    """Clustered codes uint64 [size, words]."""
    centres = rng.integers(0, 1 << 64, (max(1_000, size // 1_000), words), dtype=np.uint64)
    codes = np.empty((size, words), np.uint64)
    for start in range(0, size, _AT_A_TIME):
        part = codes[start : start + _AT_A_TIME]
        flips = rng.random((len(part), 64 * words), np.float32) < _FLIPPED
        part[:] = centres[rng.integers(0, len(centres), len(part))]
        part ^= np.packbits(flips, axis=1).view(np.uint64)
    return codes


def _near(codes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Queries: codes of which two bits differ."""
    rows = np.sort(rng.choice(len(codes), count, replace=False))
    places = rng.integers(0, 32, (2, count, 1)).astype(np.uint64)
    one = np.uint64(1)
    return np.asarray(codes[rows]) ^ (one << places[0]) ^ (one << (places[1] + np.uint64(32)))


def _first_bits(bits: int) -> np.uint64:
    """Selects the first bits of a code: those of its first bytes."""
    return np.uint64((1 << bits) - 1)


def numba_nearest(
    codes: np.ndarray, query: np.ndarray, k: int, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """What a compiled loop takes: a block's distances, then code by code where some are near."""
    rows, distances = np.empty(2 * k, np.int64), np.empty(2 * k, np.uint8)
    wanted = np.empty(0, np.bool_) if mask is None else mask
    held = _scan(codes, query[0], k, wanted, rows, distances)
    order = np.argsort(distances[:held], kind="stable")[:k]
    return rows[order], distances[order]


@compiled
def _scan(codes: Any, query: Any, k: Any, mask: Any, rows: Any, distances: Any) -> Any:
    block = np.empty(4096, np.uint8)
    counts = np.zeros(256, np.int64)
    limit, held = 65, 0
    for start in range(0, len(codes), len(block)):
        size = min(len(block), len(codes) - start)
        for i in range(size):
            block[i] = np.uint8(popcount(codes[start + i] ^ query))
        if len(mask):
            for i in range(size):
                block[i] |= np.uint8(0) if mask[start + i] else np.uint8(255)
        near, below = 0, np.uint8(limit)
        for i in range(size):
            near += block[i] < below
        if near == 0:
            continue
        for i in range(size):
            if block[i] < limit:
                rows[held], distances[held] = start + i, block[i]
                counts[block[i]] += 1
                held += 1
                if held == len(rows):
                    limit, held = _keep(counts, rows, distances, k)
    return held


@compiled
def _keep(counts: Any, rows: Any, distances: Any, k: Any) -> Any:
    """Moves the k nearest to the front, in the order of rows."""
    limit, below = 0, 0
    while below + counts[limit] < k:
        below += counts[limit]
        limit += 1
    at_limit, held = k - below, 0
    for i in range(len(rows)):
        if distances[i] < limit or (distances[i] == limit and at_limit > 0):
            at_limit -= distances[i] == limit
            rows[held], distances[held] = rows[i], distances[i]
            held += 1
    counts[limit] = k - below
    counts[limit + 1 :] = 0
    return limit, held


def _check(codes: np.ndarray, query: np.ndarray, mask: np.ndarray, flat: Any, chosen: Any) -> None:
    """All ways find the same distances, ours the same rows as well."""
    for wanted, params in ((None, None), (mask, chosen)):
        ours = engine.nearest([codes], query, _K, mask=wanted)
        theirs, _ = flat.search(query.view(np.uint8)[None], _K, params=params)
        rows, distances = numba_nearest(codes[:, 0], query, _K, wanted)
        assert ours.distances.tolist() == theirs[0].tolist() == distances.tolist()
        assert ours.rows.tolist() == rows.tolist()


def _in_turns(ways: Mapping[str, Search], queries: np.ndarray) -> dict[str, list[float]]:
    """Processor seconds of each way and query; one that does not count comes before each."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for place, query in enumerate(queries):
        for name, search in list(ways.items())[:: -1 if place % 2 else 1]:
            search(query)
            started = time.process_time()
            search(query)
            seconds[name].append(time.process_time() - started)
    return seconds


def _report(
    title: str, size: int, seconds: Mapping[str, Sequence[float]], base: str
) -> dict[str, Any]:
    print(f"{title:<62}{'ms':>9}{'lowest':>9}{'ratio':>7}")
    medians = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        figures = (medians[name], 1e3 * min(values))
        row = (
            "".join(f"{value:>9.3f}" for value in figures)
            + f"{medians[name] / medians[base]:>7.2f}"
        )
        print(f"  {name:<60}{row}", flush=True)
    rounded = {name: round(value, 4) for name, value in medians.items()}
    ratios = {name: round(value / medians[base], 3) for name, value in medians.items()}
    return {"rows": size, "median": rounded, f"ratio to {base}": ratios}


def _seconds_to_import(name: str) -> float:
    script = f"import time; s = time.process_time(); import {name}; print(time.process_time() - s)"
    done = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    return round(statistics.median(float(process.stdout) for process in done), 3)


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=float, nargs="*", default=[1e5, 1e6, 1e7])
    parser.add_argument("--ivf", type=float, nargs="*", default=[1e6], help="rows")
    parser.add_argument("--mapped", type=float, help="rows of a file, such as 1e8")
    parser.add_argument(
        "--folder", type=Path, help="where it is made; default: for temporary files"
    )
    parser.add_argument("--queries", type=int, default=25)
    parser.add_argument("--note", help="what else the record should say")
    parser.add_argument("--out", type=record_file, help="JSON file for the record")
    return parser.parse_args()


if __name__ == "__main__":
    run_and_exit(main)
