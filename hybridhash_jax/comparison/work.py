"""--mode=compare: chooses hyper-parameters, trains every run that is missing, writes the table."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax

from hybridhash_jax.comparison import cells, exports, table
from hybridhash_jax.comparison.plan import Plan, Run, Shared, folder_of, make_plan
from hybridhash_jax.comparison.tuning import Choice, Tuning
from hybridhash_jax.config_fields import ConfigError
from hybridhash_jax.config_rules import check_config
from hybridhash_jax.image_sources import check_headers, create_dataset
from hybridhash_jax.report.comparison_page import write_comparison
from hybridhash_jax.report.published import published_for
from hybridhash_jax.report.wording import map_name
from hybridhash_jax.run import train_length
from hybridhash_jax.runtime.console import logger, quieter
from hybridhash_jax.runtime.interrupt import StopRequest
from hybridhash_jax.train import TrainingDivergedError
from hybridhash_jax.workdir import names, results
from hybridhash_jax.workdir.data_record import check_data
from hybridhash_jax.workdir.lock import WorkdirInUseError, check_free, held
from input_pipeline.atomic_file import write_atomically, write_json
from input_pipeline.dataset import Dataset
from input_pipeline.messages import counted
from input_pipeline.progress import duration

_LOOK_AGAIN_SECONDS = 3.0  # at what other processes hold
_Work = TypeVar("_Work")


def compare(shared: Shared, workdir: Path, stop: StopRequest) -> dict[str, Any]:
    """Does what is missing of a comparison and writes its table; returns comparison.json.

    Several processes may do this at once: what another one holds is waited for at the end.

    Raises:
      ValueError: nothing can be compared, or what is in the workdir is of another comparison.
      Interrupted: a signal asked to stop a run, which was saved first.
    """
    _check(shared, workdir)
    dataset = create_dataset(shared.config)
    check_headers(dataset, shared.config)
    return Comparison(shared, dataset, workdir, stop).complete()


def _check(shared: Shared, workdir: Path) -> None:
    """Refuses what no comparison can be of, before anything is read."""
    check_config(shared.config)
    if jax.process_count() > 1:
        raise ConfigError(
            "--mode=compare runs in one process of JAX; start the same command several times, "
            "without --num_processes, and they share the work"
        )
    if shared.config.task != "hash":
        raise ConfigError("--mode=compare is of methods that learn codes; leave task out")
    if (workdir / names.CONFIG).exists():
        raise ConfigError(f"{workdir} holds a run; give a comparison another --workdir")


class Comparison:
    """The runs of a comparison in its workdir."""

    def __init__(self, shared: Shared, dataset: Dataset, workdir: Path, stop: StopRequest):
        self.shared, self.dataset, self.workdir, self.stop = shared, dataset, workdir, stop
        self.plan: Plan = make_plan(shared, dataset)
        self.tuning = Tuning(shared, self.plan, dataset, workdir)
        self.failed: dict[Run, str] = {}  # runs that diverged
        self.entries: dict[Run, dict[str, Any]] = {}
        self._agreement = cells.Agreement(workdir, dataset.checksum)
        for one in self.plan.left_out:
            length = "" if one.bits is None else f", {one.bits} bits"
            logger.warning("%s%s is left out: %s", one.method, length, one.reason)

    def complete(self) -> dict[str, Any]:
        """Chooses, trains, and writes the table."""
        self.tuning.check_budget()
        self.tuning.check()
        self._choose()
        self._train()
        return self.write()

    def choice(self, method: str) -> Choice:
        """What the method is run with; final once all was tried."""
        return self.tuning.choice(method)

    def _choose(self) -> None:
        for methods in _rounds(self._undecided):
            for method in methods:
                with contextlib.suppress(WorkdirInUseError), held(self.tuning.folder(method)):
                    while (values := self.tuning.next_values(method)) is not None:
                        with quieter(logging.ERROR):  # a rate that is too high may collapse
                            self.tuning.attempt(method, values)
                        self._tell_trial(method)

    def _undecided(self) -> list[str]:
        return [name for name in self.plan.methods if self.tuning.next_values(name) is not None]

    def _tell_trial(self, method: str) -> None:
        trial = self.tuning.choice(method).trials[-1]
        told = ", ".join(f"{name} {value}" for name, value in trial["values"].items())
        score = "diverged" if trial["score"] is None else f"{trial['score']:.4f}"
        logger.info("trial of %s, %s: %s", method, told, score)

    def _train(self) -> None:
        self._choices = {name: self.choice(name) for name in self.plan.methods}
        seconds: list[float] = []
        for runs in _rounds(self._missing):
            for run in runs:
                if self._entry(run) is not None:
                    continue  # another process was faster
                started = time.monotonic()
                with contextlib.suppress(WorkdirInUseError):
                    check_free(folder_of(self.workdir, run))
                    self._tell_run(run, seconds)
                    self._train_run(run)
                    seconds.append(time.monotonic() - started)

    def _train_run(self, run: Run) -> None:
        config = self.shared.of_run(run, self._choices[run.cell.method].values)
        folder = folder_of(self.workdir, run)
        if folder.exists():
            check_data(folder, self.dataset)
        try:
            with quieter():
                train_length(config, run.cell.bits, self.dataset, folder, self.stop)
        except TrainingDivergedError as error:
            self.failed[run] = str(error)
            logger.warning("%s is left out: %s", run, error)

    def _tell_run(self, run: Run, seconds: list[float]) -> None:
        runs, missing = self.plan.runs, len(self._missing())
        left = ""
        if seconds:
            left = f"; {duration(missing * sum(seconds) / len(seconds))} left in this process"
        logger.info("run %d of %d: %s%s", len(runs) - missing + 1, len(runs), run, left)

    def _missing(self) -> list[Run]:
        return [x for x in self.plan.runs if self._entry(x) is None and x not in self.failed]

    def _entry(self, run: Run) -> dict[str, Any] | None:
        if run not in self.entries:
            choice = self._choices[run.cell.method]
            found = cells.finished_entry(self.shared, run, choice, self.workdir)
            if found is None:
                return None
            self._agreement.check(run, found)
            self.entries[run] = found
        return self.entries[run]

    def write(self) -> dict[str, Any]:
        """Writes comparison.json, its page, CSV and LaTeX; returns the first."""
        self.workdir.mkdir(parents=True, exist_ok=True)
        write_json(self.workdir / names.ALL_CHOICES, self.tuning.record())
        content = self._content()
        blocks = table.make_blocks(content["cells"], content["lengths"])
        ranks = table.ranks(content["cells"])
        stem = self.workdir / names.COMPARISON
        write_json(stem.with_suffix(".json"), content)
        csv = exports.to_csv(content["cells"], content["seeds"])
        write_atomically(stem.with_suffix(".csv"), csv.encode())
        write_atomically(stem.with_suffix(".tex"), exports.to_latex(content, blocks).encode())
        page = write_comparison(self.workdir, content, blocks, ranks)
        logger.info("%s\ncomparison: %s", exports.to_text(content, blocks), page)
        return content

    def _content(self) -> dict[str, Any]:
        """What comparison.json holds."""
        plan, entries = self.plan, self.entries
        found = cells.collect_cells(self.shared, plan, entries, self._choices, self.workdir)
        if not found:
            reasons = "; ".join(f"{run}: {why}" for run, why in self.failed.items())
            raise ValueError(f"no run was finished, so there is nothing to compare ({reasons})")
        first = next(run for run in plan.runs if run in entries)
        entry, report = entries[first], cells.read_report(folder_of(self.workdir, first))
        lengths = sorted({cell["bits"] for cell in found})
        baselines = report.get("baselines") or [None]
        return {
            "title": _title(entry["protocol"], len(plan.methods), entry["variant"]),
            "measure": map_name(entry["top_k"]),
            "top_k": entry["top_k"],
            "dataset": report["dataset"],
            "backbone": {name: entry[name] for name in ("variant", "features")}
            | {"init_from": entry["init_from"]},
            "selected_by": entry["selected_by"],
            "lengths": lengths,
            "seeds": list(plan.seeds),
            "chance": report["chance"],
            "cosine": baselines[0],
            "cells": found,
            "left_out": [*map(dataclasses.asdict, plan.left_out), *self._failures()],
            "tuning": self.tuning.budget() if self._has_choices() else None,
            "published": [
                row
                for row in published_for(entry["protocol"], entry["top_k"])
                if row["bits"] in lengths
            ],
            "run": results.run_facts(),
        }

    def _has_choices(self) -> bool:
        return any(map(self.tuning.is_needed, self.plan.methods))

    def _failures(self) -> list[dict[str, Any]]:
        return [
            {"method": run.cell.method, "bits": run.cell.bits, "reason": f"seed {run.seed}: {why}"}
            for run, why in self.failed.items()
        ]


def _title(protocol: str, methods: int, variant: str) -> str:
    backbone = "" if variant == protocol else f", {variant}"  # given embeddings have both names
    return f"{protocol}: {counted(methods, 'method')}{backbone}"


def _rounds(pending: Callable[[], list[_Work]]) -> Iterator[list[_Work]]:
    """What is pending, again and again until nothing is; waits while only others work at it."""
    told = False
    while found := pending():
        yield found
        if pending() == found:
            if not told:
                logger.info("waiting for what other processes are at work at")
            told = True
            time.sleep(_LOOK_AGAIN_SECONDS)
