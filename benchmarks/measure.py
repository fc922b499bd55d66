"""What benchmarks share: medians of ways that take turns, and a record of where they ran."""

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from hybridhash_jax.runtime import lock_file
from hybridhash_jax.runtime.processor import processor_name
from input_pipeline import signals
from input_pipeline.atomic_file import nearest_existing, write_json
from input_pipeline.commands import local_path, positive, run_command

Figure = TypeVar("Figure")
Seconds = tuple[float, float]  # by the clock, and of all cores together

PRECISIONS = ("float32", "bfloat16")
# What is set outside the command and changes speed.
_VARIABLES = (
    "GLIBC_TUNABLES",
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_MAX_",
    "MALLOC_TRIM_THRESHOLD_",
    "XLA_FLAGS",
    "LD_PRELOAD",
    "OMP_NUM_THREADS",
)


def make_parser(description: str | None, repetitions: int = 5) -> argparse.ArgumentParser:
    """The flags of benchmarks whose ways take turns."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--repetitions", type=positive, default=repetitions, help="the median is reported")
    add("--out", type=record_file, help="JSON file for the figures")
    return parser


def among(known: Collection[str]) -> Callable[[str], str]:
    """The type of a flag: some of these names, with commas."""

    def check(text: str) -> str:
        if unknown := [name for name in text.split(",") if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return text

    return check


def folder(text: str) -> Path:
    """The type of a flag: a folder that is there."""
    if not (path := local_path(text)).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a folder")
    return path


def record_file(text: str) -> Path:
    """The type of a flag: a file that can be written, also into folders that are not there yet."""
    path = local_path(text)
    if path.is_dir() or not _can_be_written(path.absolute().parent):
        raise argparse.ArgumentTypeError(f"{text} cannot be written; give another file")
    return path


def new_folder(text: str) -> Path:
    """The type of a flag: a folder to write to, which need not be there yet."""
    if not _can_be_written(path := local_path(text)):
        raise argparse.ArgumentTypeError(f"{text} cannot be written to; give another folder")
    return path


def _can_be_written(folder: Path) -> bool:
    above = nearest_existing(folder.absolute())
    return above.is_dir() and os.access(above, os.W_OK)


def run_and_exit(work: Callable[[], None], when_stopped: str = "nothing is written") -> NoReturn:
    """Does `work` and exits; what a user can mend is told in one line, SIGTERM ends as Ctrl-C."""
    signals.listen()
    sys.exit(run_command(work, when_stopped))


def pin_to_one_core() -> set[int]:
    """Restricts this process to one core; returns what to give `os.sched_setaffinity` back."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    return allowed


def seconds_of(work: Callable[[], object]) -> Seconds:
    """What doing `work` once takes."""
    started = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started[0], time.process_time() - started[1]


def take_turns(
    ways: Mapping[str, Callable[[], Figure]], repetitions: int, *, warm_up: bool = False
) -> dict[str, list[Figure]]:
    """Runs every way once a repetition, so that a slow minute of the machine hits all of them.

    Args:
      ways: each does its work once and returns what it measured.
      repetitions: how many figures each will have.
      warm_up: each turn begins with a run that does not count. Without it a way pays for what the
        ways before it did to caches and memory; work that goes on for hours does not.
    """
    figures: dict[str, list[Figure]] = {name: [] for name in ways}
    for repetition in range(repetitions):
        # From the other end every second time: who follows whom changes speed, too.
        for name, run in list(ways.items())[:: -1 if repetition % 2 else 1]:
            if warm_up:
                run()
            figures[name].append(run())
    return figures


def print_table(title: str, figures: Mapping[str, Sequence[float]]) -> None:
    """Prints median, smallest and largest of each way."""
    print(f"{title:<60}{'median':>10}{'min':>10}{'max':>10}")
    for name, values in figures.items():
        row = (statistics.median(values), min(values), max(values))
        print(f"  {name:<58}" + "".join(f"{value:>10,.0f}" for value in row), flush=True)


def summary(figures: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Medians and all figures, for the record."""
    return {
        "median": {name: round(statistics.median(values)) for name, values in figures.items()},
        "all": {name: [round(value) for value in values] for name, values in figures.items()},
    }


def write_record(path: Path, packages: Sequence[str], **content: Any) -> None:
    """Writes the figures with date, command, environment, processor and versions."""
    record = {
        "command": " ".join(["python", *sys.orig_argv[1:]]),
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "cores": os.cpu_count(),
        **made_with(packages),
        **content,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record)
    print(f"wrote {path}")


def read_record(path: Path, benchmark: str, parse: Callable[[Any], Figure]) -> Figure:
    """What `parse` takes from a record; ValueError where the file is none of this benchmark."""
    try:
        return parse(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no record of {benchmark} ({type(error).__name__}: {error}); give another --out"
        ) from error


@contextlib.contextmanager
def alone(path: Path | None) -> Iterator[None]:
    """Holds a record that grows: a second command would write it without what the first one adds."""
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with lock_file.held(path.with_name(f"{path.name}.lock")):
            yield
    except lock_file.HeldError as error:
        raise ValueError(
            f"{path} is in use: {lock_file.described(error.holder)} adds to it. Wait for it, or give "
            "another --out"
        ) from None


def made_with(packages: Sequence[str]) -> dict[str, Any]:
    """Date, processor and versions."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": processor_name(),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
    }
