"""Images per second of the in-memory training pipeline on one core.

    python benchmarks/input_pipeline.py --out=benchmarks/results/input_pipeline.json

Three ways to make the same shuffled batches of 32x32 images are timed in turn: the project's
`make_train_iterator` (with and without its background thread), plain NumPy indexing (nothing
but the gather, the floor), and Grain with one element an image. The process pins itself to one
core, so the numbers do not depend on how many there are. Each repetition runs every way once,
and the median over repetitions is reported.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grain
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from input_pipeline.loader import batch_indices, make_train_iterator

SEED = 0


def main() -> None:
    args = _parse_args()
    core = _pin_to_one_core()
    random = np.random.default_rng(SEED)
    images = random.integers(0, 256, (args.images, 32, 32, 3), dtype=np.uint8)
    labels = np.eye(10, dtype=np.uint8)[np.arange(args.images) % 10]
    ways = _ways(images, labels, args.batch_size)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.repetitions):
        for name, (make, batches) in ways.items():
            rates[name].append(_images_per_second(make(), batches, args.batch_size))
    _print_table(rates)
    if args.out:
        _write(args, rates, core)


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=50_000, help="images in memory")
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=7, help="the median is reported")
    parser.add_argument("--out", type=Path, help="JSON file for the raw figures")
    return parser.parse_args()


def _pin_to_one_core() -> int:
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


def _ways(
    images: np.ndarray, labels: np.ndarray, batch_size: int
) -> dict[str, tuple[Callable[[], Iterator[Any]], int]]:
    """Name -> (maker of an endless batch iterator, how many batches to time)."""
    rows = np.arange(len(images))
    many = 2 * (len(rows) // batch_size)  # crosses an epoch boundary, permutation included

    def ours(prefetch_batches: int) -> Iterator[Any]:
        return make_train_iterator(
            images,
            labels,
            rows,
            batch_size=batch_size,
            seed=SEED,
            prefetch_batches=prefetch_batches,
        )

    def plain() -> Iterator[Any]:
        for step in range(sys.maxsize):
            index = batch_indices(rows, batch_size, SEED, step)
            index = index[index < len(rows)]
            yield {"image": images[index], "label": labels[index]}

    def per_element() -> Iterator[Any]:
        dataset = grain.MapDataset.range(len(rows)).seed(SEED).shuffle().repeat()
        dataset = dataset.map(lambda i: {"image": images[i], "label": labels[i]})
        return iter(
            dataset.batch(batch_size).to_iter_dataset(
                grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
            )
        )

    return {
        "make_train_iterator (default, one thread)": (lambda: ours(2), many),
        "make_train_iterator (no thread)": (lambda: ours(0), many),
        "plain NumPy indexing": (plain, many),
        "Grain, one element an image": (per_element, max(1, many // 10)),
    }


def _images_per_second(batches: Iterator[Any], count: int, batch_size: int) -> float:
    next(batches)  # set-up is not what is measured
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    seconds = time.perf_counter() - start
    if isinstance(batches, grain.DatasetIterator):
        batches.close()
    return count * batch_size / seconds


def _print_table(rates: dict[str, list[float]]) -> None:
    print(f"{'32x32 images a second, one core':<44}{'median':>10}{'min':>10}{'max':>10}")
    for name, values in rates.items():
        print(
            f"{name:<44}{statistics.median(values):>10,.0f}{min(values):>10,.0f}"
            f"{max(values):>10,.0f}"
        )


def _write(args: argparse.Namespace, rates: dict[str, list[float]], core: int) -> None:
    record = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/input_pipeline.py", *sys.argv[1:]]),
        "cpu": _cpu_name(),
        "pinned_to_core": core,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "grain": grain.__version__,
        },
        "images": args.images,
        "batch_size": args.batch_size,
        "median_images_per_second": {n: round(statistics.median(v)) for n, v in rates.items()},
        "images_per_second": {n: [round(x) for x in v] for n, v in rates.items()},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"wrote {args.out}")


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
