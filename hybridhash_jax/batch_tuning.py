"""The largest training batch that fits into memory, and the fastest: found by trying."""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from hybridhash_jax.config_fields import Config
from hybridhash_jax.config_rules import check_config
from hybridhash_jax.configured import create_method, with_recipe
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.experiment import create_experiment
from hybridhash_jax.image_sources import create_dataset
from hybridhash_jax.runtime.console import logger, quieter
from hybridhash_jax.state import TrainState
from hybridhash_jax.workdir import names
from input_pipeline.atomic_file import write_json
from input_pipeline.dataset import Dataset

_FIRST = 8  # images a device of the first trial
_SHARE = 0.9  # of the memory that may be planned with: what else runs needs some
_MIB = 2**20
_ROW = "%10s %8s %6s %12s %10s"


@dataclasses.dataclass(frozen=True)
class Trial:
    """One batch size over all devices, tried."""

    batch_size: int
    remat: str
    accumulation_steps: int
    mib: float | None  # of one device, as the step plans it; None where it was too much to plan
    images_per_second: float | None  # of a step after the first; None where it does not fit

    @property
    def fits(self) -> bool:
        """Did it run?"""
        return self.images_per_second is not None

    @property
    def flags(self) -> str:
        """What to train with it."""
        return (
            f"--config.batch_size={self.batch_size} --config.model.remat={self.remat} "
            f"--config.accumulation_steps={self.accumulation_steps}"
        )


def tune_batch(config: Config, workdir: Path) -> list[Trial]:
    """Tries batch sizes, prints each, says which to take; writes tune_batch.json to `workdir`.

    A size is doubled until it does not fit, then the sizes between are halved. One that does not
    fit is tried again with rematerialisation and in parts. The images are made up, but have the
    shape, and the bank the rows, of the configuration's data set.

    Raises:
      ValueError: not even one image a device fits, several processes run, the method is fitted, or
        the mesh or evaluation.batch_size does not fit the devices.
    """
    if jax.process_count() > 1:
        raise ValueError(
            f"--mode=tune_batch runs in one process, and here are {jax.process_count()}. Start it "
            "on one host with chips of the same kind: of a GPU cluster with --num_processes=1, for "
            "TPUs on a slice of one host. Then multiply the batch that it finds by how many times "
            "as many devices train"
        )
    check_config(config)
    config = with_recipe(config)
    if create_method(config).is_fitted:
        raise ValueError(
            f"--mode=tune_batch is for methods that are trained, and method.name={config.method.name} "
            "is fitted; give --config.evaluation.batch_size instead, the images encoded at once"
        )
    mesh = sharding.make_mesh(config.num_devices, **config.mesh)
    sharding.check_batch_size("evaluation.batch_size", config.evaluation.batch_size, mesh)
    dataset = create_dataset(config)
    trials: list[Trial] = []

    def attempt(batch_size: int, remat: str, parts: int) -> bool:
        trial = run_trial(config, dataset, batch_size, remat, parts)
        mib = "-" if trial.mib is None else f"{trial.mib:,.0f}"
        speed = f"{trial.images_per_second:,.1f}" if trial.fits else "too large"
        logger.info(_ROW, batch_size, remat, parts, mib, speed)
        trials.append(trial)
        return trial.fits

    own = config.model.remat, config.accumulation_steps
    unit = config.accumulation_steps * mesh.size
    highest = max(len(dataset.splits.train) // unit, 1) * unit
    logger.info("%s", limit_line(mesh))
    logger.info(_ROW, "batch_size", "remat", "parts", "MiB a device", "images/s")
    largest = largest_that_fits(lambda size: attempt(size, *own), unit, highest)
    too_large = [trial.batch_size for trial in trials if not trial.fits]
    if too_large and largest:
        size = min(too_large) // (4 * mesh.size) * 4 * mesh.size
        for remat, parts in (("dots", 1), ("layers", 1), (own[0], 2 * own[1]), ("layers", 4)):
            if size % (parts * mesh.size) == 0 and size > 0:
                attempt(size, remat, parts)
    workdir.mkdir(parents=True, exist_ok=True)
    best = _best(trials, own)
    summary = {
        "trials": [dataclasses.asdict(trial) for trial in trials],
        "best": {name: trial.flags for name, trial in best.items()},
    }
    write_json(workdir / names.TUNING, summary)
    if not largest:
        raise ValueError(
            f"not even a batch of {unit} fits; try --config.model.remat=layers, a smaller "
            "--config.model.variant or a smaller --config.model.image_size"
        )
    for name, trial in best.items():
        logger.info("%22s: %s (%s images/s)", name, trial.flags, f"{trial.images_per_second:,.1f}")
    return trials


def largest_that_fits(fits: Callable[[int], bool], unit: int, highest: int) -> int:
    """The largest multiple of `unit` up to `highest` that fits, to an eighth; 0 if none does.

    What is below a size that fits is taken to fit as well. `highest` is a multiple of `unit`.
    """
    good, bad, size = 0, highest + unit, min(_FIRST * unit, highest)
    while size < bad:
        if fits(size):
            good, size = size, min(2 * size, highest) if size < highest else bad
        else:
            bad = size
    while bad <= highest and bad - good > max(unit, good // 8):
        middle = max((good + bad) // 2 // unit, 1) * unit
        if middle in (good, bad):
            break
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def run_trial(config: Config, dataset: Dataset, batch_size: int, remat: str, parts: int) -> Trial:
    """Compiles the training step for a batch and, where its memory suffices, takes three steps."""
    own: Any = ConfigDict(config.to_dict())
    own.batch_size, own.accumulation_steps, own.model.remat = batch_size, parts, remat
    own.features.keep = "never"  # what is frozen is computed too: the batch fits either way
    with quieter():  # what it tells of its training is the same in every trial
        plan = create_experiment(own, dataset)
    mib = speed = None
    try:
        state: TrainState = plan.create_state()
        batch = sharding.put_batch(_made_up(plan.train_batches(0), batch_size), plan.mesh)
        step: Any = plan.train_step
        compiled = step.lower(state, batch, plan.run_key).compile()
        needed = planned_bytes(compiled)
        mib = needed / _MIB
        if needed <= memory_limit(plan.mesh):
            seconds = []
            for _ in range(3):
                started = time.perf_counter()
                state, metrics = compiled(state, batch, plan.run_key)
                jax.block_until_ready(metrics)
                seconds.append(time.perf_counter() - started)
            speed = batch_size / min(seconds[1:])
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
    finally:
        plan.close()
    return Trial(batch_size, remat, parts, mib, speed)


def planned_bytes(compiled: Any) -> int:
    """What a compiled program takes of one device's memory: arguments, results, and between."""
    memory = compiled.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes  # given-away buffers
    return memory.argument_size_in_bytes + results + memory.temp_size_in_bytes


def memory_limit(mesh: Mesh) -> float:
    """Bytes that a program may plan with on one device; on CPU a share of what is free now.

    Infinite where a device does not say: a batch that is too large fails there when it runs.
    """
    device = mesh.local_devices[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit is None:
        on_cpu = device.platform == "cpu"
        limit = _free_memory() / len(mesh.local_devices) if on_cpu else math.inf
    return _SHARE * limit


def limit_line(mesh: Mesh) -> str:
    """`memory_limit` in words: MiB, a share of what, and on a GPU how to raise it."""
    if math.isinf(most := memory_limit(mesh)):
        return "limit: unknown, for the device does not say how much memory it has"
    limit = f"limit: {most / _MIB:,.0f} MiB a device, {_SHARE * 100:g} % of what "
    if mesh.local_devices[0].platform != "gpu":
        return f"{limit}is free"
    return (
        f"{limit}JAX may take: 75 % of a GPU's memory, unless the environment variable "
        "XLA_CLIENT_MEM_FRACTION gives another share, for example 0.95"
    )


def _free_memory() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = dict(line.split(":") for line in lines)
        return float(sizes["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 4 * 2**30


def _made_up(batches: Any, batch_size: int) -> dict[str, np.ndarray]:
    """A batch of random images of the shape of the loader's, each of another row of the bank."""
    first = next(batches)
    batches.close()
    random = np.random.default_rng(0)
    made = {name: np.resize(array, (batch_size, *array.shape[1:])) for name, array in first.items()}
    made["image"] = random.integers(0, 256, made["image"].shape, np.uint8)
    made["index"] = np.arange(batch_size, dtype=made["index"].dtype)
    made["mask"] = np.ones(batch_size, bool)
    return made


def _best(trials: list[Trial], own: tuple[str, int]) -> dict[str, Trial]:
    fitting = [trial for trial in trials if trial.fits]
    plain = [trial for trial in fitting if (trial.remat, trial.accumulation_steps) == own]
    if not plain:
        return {}
    return {
        "largest": max(plain, key=lambda trial: trial.batch_size),
        "fastest": max(fitting, key=lambda trial: trial.images_per_second or 0),
        "largest, saving memory": max(fitting, key=lambda trial: trial.batch_size),
    }
