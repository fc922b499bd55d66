"""How long a full evaluation takes, against the plain loop over queries.

    python -m benchmarks.metrics --out=benchmarks/results/metrics.json

The plain loop does what published code does for a query: a product with all labels, one with all
codes, an argsort, a cumulative sum over the relevant places; it gives one number, mAP in the order
of argsort. Codes are float32 and labels int64 there, since the labels are read as integers; a
second figure is for float32 labels, whose product is far faster. It runs over a sample of the
queries, and its time is scaled to all of them.

The full evaluation computes every metric for all queries: packing the codes, mAP under four tie
rules, the curves, graded relevance where labels are several, and the statistics of the database's
codes. "mAP expected alone" is one number against one number. Both sides use all cores that the
process may use (the loop where NumPy's products do), and take turns.

The floor is the compiled loop alone: distances, shared labels and a histogram of all pairs, from
packed codes and labels.
"""

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.measure import make_parser, run_and_exit, take_turns, write_record
from hybridhash_jax import metrics
from hybridhash_jax.metrics import pair_loops
from hybridhash_jax.metrics.arguments import grades, pack_sides
from input_pipeline.threads import available_cores

SEED = 0
_LOOPS = ("plain loop", "plain loop, float labels")


@dataclass(frozen=True)
class Size:
    """A protocol: labels are multi-hot, `several` of them an item or one."""

    name: str
    queries: int
    database: int
    classes: int
    several: bool
    top_k: int | None
    goal: int  # times as fast as the plain loop


SIZES = (
    Size("CIFAR-10", 1_000, 59_000, 10, False, None, 60),
    Size("ImageNet-100", 5_000, 128_503, 100, False, 1000, 150),
    Size("NUS-WIDE", 2_100, 193_734, 21, True, 5000, 60),
)

Sets = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def main() -> None:
    args = _parse_args()
    results: dict[str, Any] = {}
    for size in SIZES:
        results[size.name] = _run(size, args.bits, args.sample, args.repetitions)
    if args.out:
        write_record(args.out, ("numpy", "numba"), bits=args.bits, results=results)


def _parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--bits", type=int, default=64, help="code length")
    parser.add_argument("--sample", type=int, default=40, help="queries of the plain loop")
    return parser.parse_args()


def _run(size: Size, bits: int, sample: int, repetitions: int) -> dict[str, Any]:
    sets = _make_sets(size, bits)
    _evaluate((sets[0][:8], sets[1][:8], *sets[2:]), size.top_k)  # compiles, or loads what was
    queries, database, by_class, _ = pack_sides(*sets)
    sizes = by_class, bits, grades(queries, database, by_class)
    pairs = size.queries * size.database

    def plain_loop(label_type: type) -> Callable[[], float]:
        query_codes, query_labels, codes, labels = sets
        converted = (
            query_codes[:sample].astype(np.float32), query_labels[:sample].astype(label_type),
            codes.astype(np.float32), labels.astype(label_type),
        )  # fmt: skip
        return lambda: _timed(_plain_loop, converted, size.top_k) * size.queries / sample

    ways: dict[str, Callable[[], float]] = {
        "plain loop": plain_loop(np.int64),
        "plain loop, float labels": plain_loop(np.float32),
        "full evaluation": lambda: _timed(_evaluate, sets, size.top_k),
        "mAP expected alone": lambda: _timed(
            metrics.mean_average_precision, *sets, size.top_k, "expected"
        ),
        "mAP stable alone": lambda: _timed(
            metrics.mean_average_precision, *sets, size.top_k, "stable"
        ),
        "floor": lambda: _timed(pair_loops.count_by_grade, queries, database, *sizes),
    }
    figures = take_turns(ways, repetitions)
    memory = _peak_memory(lambda: _evaluate(sets, size.top_k))
    median = {name: statistics.median(values) for name, values in figures.items()}
    record = {
        "queries": size.queries,
        "database": size.database,
        "top_k": size.top_k,
        "median_seconds": {name: round(value, 4) for name, value in median.items()},
        "all_seconds": {n: [round(value, 4) for value in v] for n, v in figures.items()},
        "goal": size.goal,
        "times_as_fast": {
            way: {loop: round(median[loop] / median[way], 1) for loop in _LOOPS}
            for way in ("full evaluation", "mAP expected alone")
        },
        "nanoseconds_a_pair_and_core": round(
            median["full evaluation"] / pairs * available_cores() * 1e9, 2
        ),
        "times_the_floor": round(median["full evaluation"] / median["floor"], 2),
        "peak_mebibytes": memory,
    }
    _show(size, record)
    return record


def _show(size: Size, record: dict[str, Any]) -> None:
    print(
        f"{size.name}: {size.queries:,} x {size.database:,}, {record['times_the_floor']} times the "
        f"floor, peak memory {record['peak_mebibytes']} MiB above codes and labels"
    )
    for way, times in record["times_as_fast"].items():
        print(f"  {way}: {times['plain loop']} times as fast as the plain loop (goal {size.goal})")
    for name, values in record["all_seconds"].items():
        low, high = min(values), max(values)
        print(f"  {name:<26}{record['median_seconds'][name]:>10.3f} s  ({low:.3f} to {high:.3f})")


def _make_sets(size: Size, bits: int) -> Sets:
    """Codes around one centre a class, a quarter of the bits flipped, so that classes overlap."""
    rng = np.random.default_rng(SEED)
    centres = rng.integers(0, 2, (size.classes, bits), dtype=np.int8)

    def side(count: int) -> tuple[np.ndarray, np.ndarray]:
        first = rng.integers(0, size.classes, count)
        flips = rng.random((count, bits), np.float32) < 0.25
        labels = np.zeros((count, size.classes), np.uint8)
        labels[np.arange(count), first] = 1
        if size.several:
            labels |= rng.random((count, size.classes), np.float32) < 0.07
        return (centres[first] ^ flips) * 2 - 1, labels

    query_codes, query_labels = side(size.queries)
    return query_codes, query_labels, *side(size.database)


def _evaluate(sets: Sets, top_k: int | None) -> metrics.Measures:
    measures = metrics.measure(metrics.rank(*sets), top_k)
    metrics.code_statistics(sets[2])
    return measures


def _plain_loop(sets: Sets, top_k: int | None) -> float:
    query_codes, query_labels, codes, labels = sets
    total = 0.0
    for code, label in zip(query_codes, query_labels, strict=True):
        relevant = (label @ labels.T > 0).astype(np.float32)
        distance = 0.5 * (codes.shape[1] - code @ codes.T)
        ranked = relevant[np.argsort(distance)][:top_k]
        precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
        found = ranked.sum()
        total += (precision * ranked).sum() / found if found else 0.0
    return total / len(query_codes)


def _timed(function: Callable[..., Any], *arguments: Any) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def _peak_memory(function: Callable[[], Any]) -> int:
    """MiB that Python and NumPy had allocated at most, above what they had before."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1] >> 20
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    run_and_exit(main)
