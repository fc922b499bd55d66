"""The training loop: steps, evaluations, checkpoints, and stopping without losing anything."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.encode import EvaluationStopped
from hybridhash_jax.experiment import Experiment
from hybridhash_jax.runtime import compilation_cache, host_memory
from hybridhash_jax.runtime.console import logger, progress
from hybridhash_jax.runtime.interrupt import StopRequest
from hybridhash_jax.state import TrainState
from hybridhash_jax.train_step import Metrics
from hybridhash_jax.workdir import names
from hybridhash_jax.workdir.checkpoints import CheckpointStore
from hybridhash_jax.workdir.log import RunLog
from hybridhash_jax.workdir.selection import selected_step

History = list[dict[str, Any]]
Evaluate = Callable[[TrainState, int, History], dict[str, Any] | None]


class TrainingDivergedError(RuntimeError):
    """The loss is no longer a finite number."""


@dataclasses.dataclass
class _Window:
    """Images and seconds of training, without evaluation, saving and compilation.

    `waited`: the seconds of them in which a batch was not there yet.
    """

    images: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    @property
    def images_per_second(self) -> float | None:
        return self.images / self.seconds if self.seconds else None

    @property
    def waiting(self) -> float | None:
        return self.waited / self.seconds if self.seconds else None


class TrainingLoop:
    """One run, for example of one code length: trains, evaluates, saves; resumes where it was stopped.

    Every step is a function of (seed, step), and what else the run knows is in the checkpoint
    (`history`, the records of its evaluations), so that a run stopped anywhere and started again
    ends as one that was never stopped.
    """

    def __init__(
        self,
        experiment: Experiment,
        workdir: Path,
        stop: StopRequest,
        evaluate: Evaluate,
    ):
        """`evaluate` maps (state, step, history) to an evaluation's record, None if stopped."""
        self.experiment = experiment
        self.workdir = workdir
        self.stop = stop
        self.evaluate = evaluate
        self.store = CheckpointStore(
            workdir / names.CHECKPOINTS, keep_latest=experiment.config.checkpoint.keep_latest
        )
        self.history: History = []
        self.total = _Window()
        self._window = _Window()
        self._pending: tuple[int, Metrics] | None = None
        self._saved_step: int | None = None
        self._has_stepped = False

    def run(self, state: TrainState) -> tuple[TrainState, History]:
        """Trains to the last step; returns the final state and the records of all evaluations.

        `state` is what to start from where there is no checkpoint; its buffers are given away.

        Raises:
          TrainingDivergedError: the loss is not finite; checkpoints from before are intact.
          Interrupted: a signal asked to stop; the state was saved first.
        """
        exp = self.experiment
        state, step = self._resume_or_start(state)
        evaluated = {record["step"] for record in self.history}
        with (
            RunLog(self.workdir, exp.total_steps, exp.steps_per_epoch, step, evaluated) as self.log,
            contextlib.closing(exp.train_batches(start_step=step)) as batches,
        ):
            while True:
                state = self._at_boundary(state, step)
                if step == exp.total_steps:
                    break
                state = self._take_step(state, batches, step)
                step += 1
                if exp.order.ends_epoch(step):
                    state = exp.begin_epoch(state, step)
            self.store.wait()
        return state, self.history

    def _resume_or_start(self, state: TrainState) -> tuple[TrainState, int]:
        # 1. resume: the newest readable checkpoint of this workdir, else
        # 2. init.weights: parameters from a file, else
        # 3. scratch: parameters drawn from the seed. (2 and 3 are `state`.)
        restored = self.store.restore_latest(state)
        exp = self.experiment
        if restored is None:
            exp.open_features(state.params)
            state = exp.begin(state)
            return state, int(state.step)
        state, meta = restored
        step = int(state.step)
        try:
            exp.open_features(state.params, lambda: self.stop.requested(step))
        except EvaluationStopped:
            self.stop.raise_interrupted(step, self.store.directory)
        self.history = meta["history"]
        self._keep_best()
        self._saved_step = step
        logger.info(
            "resuming from step %d of %d (%s)", step, self.experiment.total_steps, self.workdir
        )
        return state, step

    def _at_boundary(self, state: TrainState, step: int) -> TrainState:
        """What is due between two steps: evaluate, save, stop."""
        exp = self.experiment
        evaluated = any(record["step"] == step for record in self.history)
        evaluate_now = exp.evaluates_at(step) and not evaluated
        save_now = exp.saves_at(step) or evaluate_now
        if not (evaluate_now or save_now or self.stop.requested(step)):
            return state
        self._flush()  # a state whose loss was not finite is never evaluated or saved
        record = None
        if evaluate_now and not self.stop.requested(step):
            record = self.evaluate(state, step, self.history)
            if record:
                self.history.append(record)
                self.log.evaluation(record)
                self._keep_best()
        stopping = self.stop.requested(step)
        meta = {"history": self.history, "epoch": step / exp.steps_per_epoch}
        if self._saved_step != step:
            if record or save_now or stopping:
                self.store.save(step, state, meta)
                self._saved_step = step
        elif record:  # a run stopped during this evaluation left the checkpoint without its record
            self.store.replace_meta(step, meta)
        if stopping:
            self.store.wait()
            self.stop.raise_interrupted(step, self.store.directory)
        return state

    def _keep_best(self) -> None:
        config = self.experiment.config
        self.store.keep_best(
            selected_step(self.history, config.evaluation.selected_by, config.task)
        )

    def _take_step(self, state: TrainState, batches: Iterator, step: int) -> TrainState:
        exp, started = self.experiment, time.perf_counter()
        local_batch = next(batches)
        waited = time.perf_counter() - started
        batch = sharding.put_batch(local_batch, exp.mesh)
        if self._has_stepped:
            state, metrics = exp.train_step(state, batch, exp.run_key)
        else:
            state, metrics = self._first_step(state, batch)
        previous, self._pending = self._pending, (step, metrics)
        if previous is not None:
            self._read(*previous)
            images = exp.order.images_in(step)
            for window in (self.total, self._window):
                window.images += images
                window.seconds += time.perf_counter() - started
                window.waited += waited
        return state

    def _first_step(self, state: TrainState, batch: Mapping) -> tuple[TrainState, Metrics]:
        """A process's first step, which is compiled."""
        exp, started = self.experiment, time.perf_counter()
        compiled_before = compilation_cache.COUNTS.compiled
        with progress("compiling the training step"):
            state, metrics = exp.train_step(state, batch, exp.run_key)
        counts = compilation_cache.COUNTS
        cached = counts.found > 0 and counts.compiled == compiled_before
        logger.info(
            "compiled the training step in %.1f s%s",
            time.perf_counter() - started,
            " (kept from an earlier start)" if cached else "",
        )
        host_memory.keep_freed_memory()
        self._has_stepped = True
        return state, metrics

    def _flush(self) -> None:
        if self._pending is not None:
            self._read(*self._pending)
            self._pending = None

    def _read(self, step: int, metrics: Metrics) -> None:
        """Reads a step's metrics, one step late, so that the devices never wait for the host."""
        values = {name: float(np.asarray(value)) for name, value in metrics.items()}
        exp, done = self.experiment, step + 1
        if not np.isfinite(values["loss"]):
            raise TrainingDivergedError(
                f"the loss is {values['loss']} at step {step} (epoch "
                f"{step / exp.steps_per_epoch:.2f}). Try a lower learning rate "
                "(--config.optimizer.learning_rate), gradient clipping "
                "(--config.optimizer.clip_norm=1.0) or float32 (--config.model.dtype=float32). "
                f"Checkpoints from before are intact in {self.store.directory}"
            )
        # A short run logs some ten points of its loss; a rate takes two steps to measure.
        every = min(exp.config.log_every_steps, max(2, exp.total_steps // 10))
        due = done % every == 0 or done == exp.total_steps
        self.log.progress(done, values["loss"], self.total.images_per_second)
        if due:
            window = self._window
            self.log.train(done, values, window.images_per_second, window.waiting)
            self._window = _Window()
