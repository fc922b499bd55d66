"""Training as it runs against its bare step: what making and moving the images costs.

    python -m benchmarks.end_to_end --config=configs/cifar10_32px.py --config.data.dir=DATA

Both take the same steps of the same run in turns: the bare one with one batch that is on the devices
already, the other with the batches of the run, made by its pipeline and moved to the devices. The
processor time of all cores, decoding threads among them, says whether they are busy.
"""

import contextlib
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from benchmarks.measure import Seconds, seconds_of, take_turns, write_record
from hybridhash_jax.config_fields import Config
from hybridhash_jax.configured import checked_run
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.experiment import Experiment, create_experiment
from hybridhash_jax.image_sources import create_dataset
from hybridhash_jax.runtime import host_memory
from input_pipeline.threads import available_cores

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file("config", None, "The configuration: a file of configs/.")
flags.DEFINE_integer("steps", 5, "Steps of one measurement.", lower_bound=2)
flags.DEFINE_integer("repetitions", 25, "Measurements of each; the median is reported.")
flags.DEFINE_string("out", None, "JSON file for the figures.")

Batch = dict[str, jax.Array]


def main(_: list[str]) -> None:
    absl_logging.set_verbosity(absl_logging.ERROR)
    host_memory.compute_on_calling_thread()  # as main.py does
    config = FLAGS.config
    config = checked_run(config)
    plan = create_experiment(config, create_dataset(config))
    with contextlib.closing(plan), contextlib.closing(plan.train_batches(0)) as batches:
        measured = _measure(plan, batches)
    _report(config, plan, measured)


def _measure(plan: Experiment, batches: Iterator[Any]) -> dict[str, list[Seconds]]:
    def moved() -> Batch:
        return sharding.put_batch(next(batches), plan.mesh)

    held = [plan.create_state()]  # donated: each step takes what the one before returned
    same = moved()

    def take_steps(next_batch: Callable[[], Batch]) -> None:
        previous = None
        for _ in range(FLAGS.steps):
            held[0], metrics = plan.train_step(held[0], next_batch(), plan.run_key)
            if previous is not None:  # read one step late, as training does
                jax.block_until_ready(previous)
            previous = metrics
        jax.block_until_ready(previous)

    take_steps(lambda: same)  # compiles
    host_memory.keep_freed_memory()
    ways = {
        "bare step": lambda: seconds_of(lambda: take_steps(lambda: same)),
        "training": lambda: seconds_of(lambda: take_steps(moved)),
    }
    return take_turns(ways, FLAGS.repetitions)


def _report(config: Config, plan: Experiment, measured: dict[str, list[Seconds]]) -> None:
    images = FLAGS.steps * config.batch_size
    speeds = {
        name: images / statistics.median(wall for wall, _ in turns)
        for name, turns in measured.items()
    }
    busy = {
        name: statistics.median(processor / wall for wall, processor in turns)
        for name, turns in measured.items()
    }
    turns = zip(*measured.values(), strict=True)
    relative = statistics.median(fed[0] / bare[0] for bare, fed in turns)
    for name, speed in speeds.items():
        print(
            f"{name:<12}{speed:>12,.1f} images/s, {busy[name]:.2f} of {available_cores()} cores busy"
        )
    print(f"training takes {relative:.3f} of the bare step's time")
    if FLAGS.out:
        write_record(
            Path(FLAGS.out),
            ("jax", "jaxlib", "flax", "grain", "numpy"),
            data=plan.dataset.provenance,
            device=jax.devices()[0].device_kind,
            images_per_second={name: round(speed, 1) for name, speed in speeds.items()},
            cores_busy={name: round(value, 2) for name, value in busy.items()},
            relative=round(relative, 4),
            seconds={name: [round(wall, 4) for wall, _ in t] for name, t in measured.items()},
        )


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main)
