"""Ablations: what each choice of the network and of the loss is worth, from random parameters.

    python -m benchmarks.ablations --workdir=runs/ablations --cifar10=FOLDER \\
        --out=benchmarks/results/ablations_cpu.json

One change at a time to one small network, for several seeds, on Fashion-MNIST and CIFAR-10; with
--changes some of them, each in quotes. Each run is an ordinary workdir of main.py on a core of its
own, with its log beside it. The same command goes on where it was stopped: what is finished is not
repeated, nor what the record at --out has, to which runs are added. mAP is in the expectation over
ties, over the whole database, after the last epoch; nothing is selected on the queries.
"""

import argparse
import concurrent.futures
import json
import os
import queue
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.ablation_table import Row, print_table, table_of
from benchmarks.measure import (
    alone,
    folder,
    made_with,
    new_folder,
    read_record,
    record_file,
    run_and_exit,
    write_record,
)
from input_pipeline.atomic_file import write_json
from input_pipeline.errors import DataError
from input_pipeline.messages import counted
from input_pipeline.sets.published import check_published

_ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("jax", "flax", "optax", "numpy")
_FACTS = "ablation.json"  # in a workdir: the flags of its run, what it took and where

# Of all runs. Patches of 2 pixels are a quarter of the tokens that tiny_32px has, and of the time.
_SHARED = (
    "--config.model.variant=tiny_32px",
    "--config.model.patch_size=2",
    "--config.bits=32",
    "--config.batch_size=64",
    "--config.loss.pairs=batch",
    "--config.loss.alpha=0.5",
    "--config.optimizer.warmup_epochs=0.5",
    "--config.evaluation.before_training=False",
    "--config.evaluation.selected_by=last",
    "--config.evaluation.report=False",
)
# 10,000 training images each.
_SETS: dict[str, tuple[str, ...]] = {
    "fashion_mnist": (
        "--config=configs/fashion_mnist.py",
        "--config.data.protocol=official-10k",
        "--config.optimizer.learning_rate=1e-3",
        "--config.num_epochs=6",
        "--config.evaluation.every_epochs=6",
    ),
    "cifar10": (
        "--config=configs/cifar10_32px.py",
        "--config.data.protocol=official-10k",
        "--config.num_epochs=10",
        "--config.evaluation.every_epochs=10",
    ),
}
_BASE = "none"
_CHANGES: dict[str, tuple[str, ...]] = {
    _BASE: (),
    "token_layout=reference": ("--config.model.token_layout=reference",),
    "interaction=none": ("--config.model.interaction=none",),
    "token_pooling=half_block": ("--config.model.token_pooling=half_block",),
    "initializer=normal": ("--config.model.initializer=normal",),
    "pairs=bank": ("--config.loss.pairs=bank",),
    "alpha=6.4/bits": ("--config.loss.alpha=6.4/bits",),
    "bits=16": ("--config.bits=16",),
    "bits=16, alpha=6.4/bits": ("--config.bits=16", "--config.loss.alpha=6.4/bits"),
    "bits=64": ("--config.bits=64",),
    "bits=64, alpha=6.4/bits": ("--config.bits=64", "--config.loss.alpha=6.4/bits"),
}
# What a change is compared with, where that is another one.
_BESIDE = {"bits=16, alpha=6.4/bits": "bits=16", "bits=64, alpha=6.4/bits": "bits=64"}

Run = tuple[str, str, int]  # data set, change, seed


def main() -> None:
    """Runs what is missing; prints and writes a table of all that is asked for or on record."""
    options = _arguments()
    for change in options.changes:
        if (beside := _BESIDE.get(change, _BASE)) not in options.changes:
            raise ValueError(f"{change!r} is compared with {beside!r}; give both as --changes")
    with alone(options.out):
        _check_folders(options)
        rows = _complete(options)
    for name, table in _tables(rows).items():
        print_table(name, table, _BASE)


def _check_folders(options: argparse.Namespace) -> None:
    """Reads the folders that were given now: the first run of a set may be an hour away."""
    for name in options.sets:
        given = getattr(options, name)
        if given is None or not any(given.iterdir()):  # to download into
            continue
        try:
            check_published(name, str(given))
        except DataError as error:
            raise ValueError(str(error).replace("--dir", f"--{name}")) from None


def _complete(options: argparse.Namespace) -> dict[Run, Row]:
    """Runs what is asked for and missing; returns the rows of all that is asked for or on record."""
    changes = [change for change in _CHANGES if change in options.changes]
    asked = [
        (s, change, seed) for seed in options.seeds for s in options.sets for change in changes
    ]
    rows = _read_record(options.out)
    known = len(rows)
    for run in asked:
        if run not in rows and _facts(options, run).get("finished"):
            rows[run] = _row(options, run)
    if len(rows) > known:
        _write_record(options.out, rows)
    missing = [run for run in asked if run not in rows]
    cores = len(os.sched_getaffinity(0))
    print(f"{counted(len(missing), 'run')} to do on {counted(cores, 'core')}", flush=True)

    def add(run: Run) -> None:
        rows[run] = _row(options, run)
        done = sum(other in rows for other in missing)
        print(f"{done} of {len(missing)}: {rows[run]}", flush=True)
        _write_record(options.out, rows)  # a run takes minutes: a stop keeps those before

    _run_all(options, missing, add)
    return rows


def _flags() -> dict[str, Any]:
    return json.loads(json.dumps({"shared": _SHARED, "sets": _SETS, "changes": _CHANGES}))


def _read_record(path: Path | None) -> dict[Run, Row]:
    """The runs of a record of the same flags; none where there is no record."""
    if path is None or not path.exists():
        return {}

    def parse(record: Any) -> tuple[dict[Run, Row], Any]:
        rows = {(row["set"], row["change"], row["seed"]): row for row in record["runs"]}
        _tables(rows)  # fails where something is missing
        return rows, record["flags"]

    rows, flags = read_record(path, "ablations", parse)
    if flags != _flags():
        raise ValueError(f"{path} has runs with other flags than these; give another --out")
    return rows


def _write_record(path: Path | None, rows: dict[Run, Row]) -> None:
    if path is not None and rows:
        runs, tables = _in_order(rows), _tables(rows)
        write_record(path, _PACKAGES, flags=_flags(), tables=tables, runs=runs)


def _in_order(rows: dict[Run, Row]) -> list[Row]:
    order = list(_CHANGES)
    return [rows[run] for run in sorted(rows, key=lambda r: (r[0], order.index(r[1]), r[2]))]


def _tables(rows: dict[Run, Row]) -> dict[str, list[Row]]:
    """The table of each set."""
    runs = _in_order(rows)
    sets = dict.fromkeys(row["set"] for row in runs)
    return {
        name: table_of([row for row in runs if row["set"] == name], _BASE, _BESIDE) for name in sets
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", required=True, type=new_folder, help="folder of the runs")
    parser.add_argument("--fashion_mnist", type=folder, help="folder of the files, if not found")
    parser.add_argument("--cifar10", type=folder, help="folder of the CIFAR-10 archive")
    parser.add_argument("--sets", nargs="+", choices=_SETS, default=list(_SETS), metavar="SET")
    parser.add_argument(
        "--changes", nargs="+", choices=_CHANGES, default=list(_CHANGES), metavar="CHANGE",
        help=f"some of {' '.join(map(repr, _CHANGES))}, and what they are compared with (default all)",
    )  # fmt: skip
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=record_file, help="JSON file of the record, added to")
    options = parser.parse_args()
    if min(options.seeds) < 0:
        parser.error("seeds are 0 or more")
    options.seeds, options.sets = ([*dict.fromkeys(x)] for x in (options.seeds, options.sets))
    return options


def _workdir(options: argparse.Namespace, run: Run) -> Path:
    name, change, seed = run
    name_of_change = "".join(c if c.isalnum() or c in "=.-_" else "_" for c in change)
    return options.workdir.absolute() / name / name_of_change / f"seed{seed}"


def _run_all(options: argparse.Namespace, runs: list[Run], finished: Callable[[Run], None]) -> None:
    """One run a core: two of them are faster than one after another on two cores."""
    cores: queue.SimpleQueue[int] = queue.SimpleQueue()
    running: set[subprocess.Popen[bytes]] = set()
    available = sorted(os.sched_getaffinity(0))
    for core in available:
        cores.put(core)

    def one(run: Run) -> None:
        core = cores.get()
        try:
            _run(options, run, core, running)
        finally:
            cores.put(core)

    with concurrent.futures.ThreadPoolExecutor(len(available)) as pool:
        futures = {pool.submit(one, run): run for run in runs}
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
                finished(futures[future])
        except BaseException:
            if running:
                print("stopping; what runs saves its state first", file=sys.stderr, flush=True)
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.terminate()
            raise


def _run(
    options: argparse.Namespace, run: Run, core: int, running: set[subprocess.Popen[bytes]]
) -> None:
    name, _, seed = run
    workdir, flags, data = _workdir(options, run), _flags_of(run), getattr(options, name)
    # Of a run that was begun and left no facts it is not known.
    spent = _facts(options, run).get("processor_seconds") if workdir.exists() else 0
    workdir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "main.py", f"--workdir={workdir}", *flags]
    if data is not None:
        command.append(f"--config.data.dir={data.absolute()}")
    log = workdir.parent / f"seed{seed}.log"
    print(f"begins: {name}, {run[1]}, seed {seed}; its log: {log}", flush=True)
    with log.open("wb") as output:
        # In a session of its own: a terminal's Ctrl-C would come beside the signal from here.
        process = subprocess.Popen(
            command, cwd=_ROOT, stdout=output, stderr=output, start_new_session=True
        )
        running.add(process)
        os.sched_setaffinity(process.pid, {core})
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        running.remove(process)
    seconds = None if spent is None else round(spent + usage.ru_utime + usage.ru_stime, 1)
    facts = {"flags": flags, "finished": not status, "processor_seconds": seconds}
    write_json(workdir / _FACTS, facts | made_with(_PACKAGES))
    if status:
        lines = log.read_text(errors="replace").splitlines() or ["it said nothing"]
        errors = [line for line in lines if line.startswith("error: ")] or lines
        error = errors[-1].removeprefix("error: ").replace("--config.data.dir", f"--{name}")
        raise ValueError(f"{workdir}: {error} (all of it: {log})")


def _flags_of(run: Run) -> list[str]:
    """Of main.py, but for where things are."""
    name, change, seed = run
    changed = {flag.partition("=")[0] for flag in _CHANGES[change]}
    # A flag of a tuple, such as bits, that is given twice adds to it.
    shared = [flag for flag in _SHARED if flag.partition("=")[0] not in changed]
    return [*_SETS[name], *shared, *_CHANGES[change], f"--config.seed={seed}"]


def _facts(options: argparse.Namespace, run: Run) -> dict[str, Any]:
    """What an earlier command left of this run; empty where nothing is known."""
    workdir = _workdir(options, run)
    if not (path := workdir / _FACTS).exists():
        return {}
    facts = _read(path, workdir)
    if not isinstance(facts, dict) or "flags" not in facts:
        raise ValueError(f"{path} is damaged; delete {workdir}, and it is run again")
    if facts["flags"] != _flags_of(run):
        raise ValueError(
            f"{workdir} has a run of other flags; delete it, or give another --workdir"
        )
    return facts


def _read(path: Path, workdir: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the results in {workdir} cannot be read ({error}); delete it, and it is run again"
        ) from error


def _row(options: argparse.Namespace, run: Run) -> Row:
    workdir = _workdir(options, run)
    (entry,), facts = _read(workdir / "results.json", workdir), _facts(options, run)
    return {
        "set": run[0],
        "change": run[1],
        "seed": run[2],
        "map_expected": round(entry["last"]["map_expected"], 4),
        "constant_bits": entry["constant_bits"],
        "train_images": entry["train_images"],
        "epochs": entry["last"]["epoch"],
        "official": entry["dataset_official"],
        **{name: facts[name] for name in ("processor_seconds", "date", "cpu", "versions")},
    }


if __name__ == "__main__":
    run_and_exit(main, "the same command goes on")
