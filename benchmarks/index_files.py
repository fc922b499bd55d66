"""What an index on the disk costs: opening, adding, tombstones, look-ups and memory.

Run by hand:  python -m benchmarks.index_files [--rows=10000000] [--folder=/fast/disk]

No image is read and no network runs: paths and codes are drawn at random. The index is made first,
by the writer, in segments of 2**17 codes. Times are medians; those by the clock have what is
synced to the disk in them; memory is the largest of the process while it wrote and opened the index.
"""

import argparse
import gc
import itertools
import resource
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.measure import Seconds, run_and_exit, seconds_of
from hybridhash_jax.retrieval.index import (
    Entry,
    Model,
    compact,
    create_index,
    open_index,
    open_writer,
)

_AT_ONCE = 2**17
_ADDED, _BURIED, _LOOKED_UP = 10_000, 1_000, 100_000
_MODEL = Model("0" * 64, 64, "none", "float32", "cpu", {})


def main() -> None:
    parser = argparse.ArgumentParser(description="What an index on the disk costs.")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--folder", help="where the index is made; default: the temporary one")
    parser.add_argument(
        "--compact", action="store_true", help="also measure that, which takes long"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        _measure(Path(folder) / "index", options)


def _measure(path: Path, options: argparse.Namespace) -> None:
    rows, repetitions = options.rows, options.repetitions
    generator = np.random.default_rng(0)
    numbers = itertools.count()
    create_index(path, _MODEL, None)
    _tell("make it", [_seconds(lambda: _fill(path, rows, generator))])
    print(f"largest memory so far: {_memory():,.0f} MB")
    if options.compact:
        _tell("compact it", [_seconds(lambda: compact(path))])
    _tell("open it", [_seconds(lambda: open_index(path).close()) for _ in range(repetitions)])
    with open_writer(path) as writer:
        packed = _codes(_ADDED, generator)

        def add(entries: list[Entry]) -> Seconds:
            return _seconds(lambda: writer.add(entries, packed))

        new = [_entries(f"new_{next(numbers)}", 0, _ADDED) for _ in range(repetitions)]
        _tell(f"add {_ADDED:,} of a new folder", [add(entries) for entries in new])
        spread = [_drawn(rows, _ADDED, generator) for _ in range(repetitions)]
        _tell(f"encode {_ADDED:,} anew, drawn at random", [add(entries) for entries in spread])
        times = []
        for _ in range(repetitions):
            gone = [entry.path for entry in _drawn(rows, _BURIED, generator)]
            times.append(_seconds(lambda gone=gone: writer.remove(gone)))
        _tell(f"tombstones of {_BURIED:,}, drawn at random", times)
        known, wanted = writer.known(), _entries("", 0, min(rows, _LOOKED_UP))
        look_up = [_seconds(lambda: [known.get(e.path) for e in wanted])]
        _tell(f"look up {len(wanted):,} known files", look_up)
    print(f"largest memory: {_memory():,.0f} MB")
    sizes = {file.suffix: file.stat().st_size for file in sorted(path.rglob("*.sqlite"))}
    print("catalogue: " + ", ".join(f"{size / rows:.0f} bytes a row" for size in sizes.values()))


def _fill(path: Path, rows: int, generator: np.random.Generator) -> None:
    with open_writer(path) as writer:
        for first in range(0, rows, _AT_ONCE):
            count = min(_AT_ONCE, rows - first)
            writer.add(_entries("", first, count), _codes(count, generator))


def _codes(count: int, generator: np.random.Generator) -> np.ndarray:
    return generator.integers(0, 256, (count, _MODEL.bits // 8), np.uint8)


def _entries(folder: str, first: int, count: int) -> list[Entry]:
    return [_entry(folder, number) for number in range(first, first + count)]


def _drawn(rows: int, count: int, generator: np.random.Generator) -> list[Entry]:
    numbers = np.unique(generator.integers(0, rows, 2 * count))
    return [_entry("", int(number)) for number in generator.permutation(numbers)[:count]]


def _entry(folder: str, number: int) -> Entry:
    album = f"{folder}album_{number // 1000:06}"
    return Entry(
        f"{album}/image_{number:09}.jpg".encode(), 3_000_000, 10**18, 4000, 3000, album[:9]
    )


def _seconds(work: Callable[[], object]) -> Seconds:
    gc.collect()
    return seconds_of(work)


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _tell(what: str, seconds: list[Seconds]) -> None:
    clock, processor = (statistics.median(figures) for figures in zip(*seconds, strict=True))
    print(f"{what}: {clock:.3f} s, of the processor {processor:.3f} s", flush=True)


if __name__ == "__main__":
    run_and_exit(main)
