"""What splitting a training step over devices costs: the same global batch on 1, 2, 4 and 8 of them.

    python -m benchmarks.scaling --out=benchmarks/results/scaling.json

The devices are virtual ones of one CPU. They share its cores, so that more of them have no more
power, and a step that did only the same work would take the same time on all. What it takes longer
is the cost of being split: pieces that are too small, sums and gathers between devices. One device
leaves the cores idle now and then, which several make up for: the processor time of all cores shows
the cost without that. Real devices add what they send each other and gain what they compute at once;
neither is measured here.

Every way is the whole step of an experiment (images prepared, network, bank, optimizer) under
another mesh; they take turns.
"""

import argparse
import os
import statistics
from collections.abc import Callable
from typing import Any

import jax

from benchmarks.measure import make_parser, run_and_exit, seconds_of, take_turns, write_record
from configs import digits
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.distributed.state_sharding import bytes_on_device
from hybridhash_jax.experiment import Experiment, create_experiment
from hybridhash_jax.image_sources import create_dataset

Milliseconds = tuple[float, float]

BITS = 32
MESHES = ((1, 1), (2, 1), (4, 1), (8, 1), (1, 2), (1, 4), (1, 8), (4, 2))  # data, fsdp
NETWORK = {
    "model.image_size": 16, "model.patch_size": 2, "model.embed_dims": (64, 128),
    "model.num_heads": (2, 4), "model.depths": (1, 1), "loss.pairs": "bank",
}  # fmt: skip


def main() -> None:
    args = _parse_args()
    flag = "--xla_force_host_platform_device_count=8"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    meshes = MESHES[: args.first_meshes]
    ways = {_name(*mesh): _Way(*mesh, args.batch_size) for mesh in meshes}
    runs: dict[str, Callable[[], Milliseconds]] = {
        name: lambda way=way: way.milliseconds(args.steps) for name, way in ways.items()
    }
    figures = take_turns(runs, args.repetitions, warm_up=True)
    results = {name: _row(ways[name], values, figures) for name, values in figures.items()}
    _print(results)
    if args.out:
        sizes = {"batch_size": args.batch_size, "steps": args.steps, "bits": BITS}
        write_record(args.out, ("jax", "flax"), **sizes, network=NETWORK, results=results)


def _parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--batch_size", type=int, default=128, help="of all devices together")
    parser.add_argument("--steps", type=int, default=5, help="of one measurement")
    parser.add_argument(
        "--first_meshes", type=int, default=len(MESHES), help="fewer, for a short run"
    )
    return parser.parse_args()


class _Way:
    """A step under one mesh, compiled."""

    def __init__(self, data: int, fsdp: int, batch_size: int):
        self.experiment = _experiment(data, fsdp, batch_size)
        batches = self.experiment.train_batches(start_step=0)
        self.batch = sharding.put_batch(next(batches), self.experiment.mesh)
        batches.close()
        self.state = self.experiment.create_state()
        self.milliseconds(1)  # compiles

    def milliseconds(self, steps: int) -> Milliseconds:
        """Of one step, the mean of several: by the clock, and of all cores together."""
        wall, processor = seconds_of(lambda: self._take(steps))
        return wall / steps * 1000, processor / steps * 1000

    def _take(self, steps: int) -> None:
        for _ in range(steps):
            self.state, metrics = self.experiment.train_step(
                self.state, self.batch, self.experiment.run_key
            )
            jax.block_until_ready(metrics)


def _experiment(data: int, fsdp: int, batch_size: int) -> Experiment:
    config = digits.get_config()
    mesh = {"num_devices": data * fsdp, "mesh.data": data, "mesh.fsdp": fsdp}
    config.update_from_flattened_dict(NETWORK | mesh | {"batch_size": batch_size})
    return create_experiment(config, create_dataset(config), BITS)


def _name(data: int, fsdp: int) -> str:
    return f"data={data} x fsdp={fsdp}"


def _row(
    way: _Way, values: list[Milliseconds], figures: dict[str, list[Milliseconds]]
) -> dict[str, Any]:
    # Medians of ratios within a turn: a slow minute of the machine slows both sides.
    turns = zip(values, figures[_name(1, 1)], strict=True)
    ratios = [[mine / one for mine, one in zip(*turn, strict=True)] for turn in turns]
    median = [statistics.median(column) for column in zip(*values, strict=True)]
    relative = [statistics.median(column) for column in zip(*ratios, strict=True)]
    return {
        "ms_per_step": round(median[0], 1),
        "processor_ms_per_step": round(median[1], 1),
        "relative_to_one_device": round(relative[0], 2),
        "processor_relative_to_one_device": round(relative[1], 2),
        "state_mb_on_each_device": round(bytes_on_device(way.state) / 1e6, 3),
        "all": [[round(value, 1) for value in turn] for turn in values],
    }


def _print(results: dict[str, dict[str, Any]]) -> None:
    print(
        f"{'mesh':<20}{'ms a step':>12}{'against one':>14}{'processor ms':>14}{'against one':>14}"
        f"{'MB of state a device':>24}"
    )
    for name, row in results.items():
        print(
            f"{name:<20}{row['ms_per_step']:>12,.1f}{row['relative_to_one_device']:>13,.2f}x"
            f"{row['processor_ms_per_step']:>14,.1f}"
            f"{row['processor_relative_to_one_device']:>13,.2f}x"
            f"{row['state_mb_on_each_device']:>24,.3f}"
        )


if __name__ == "__main__":
    run_and_exit(main)
