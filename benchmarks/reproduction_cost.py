"""What repeating the published tables would cost, by arithmetic: the table of docs/reproduce.md.

    python -m benchmarks.reproduction_cost

Nothing is measured here. Operations follow from the network and the protocols; an accelerator is
assumed to reach half of its maker's peak (bfloat16), as in `benchmarks.communication`. The last
columns are at speeds that `benchmarks.train_step` and `benchmarks.encode` measured, by their records.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from flax import nnx

from benchmarks.communication import CHIPS
from benchmarks.measure import run_and_exit
from hybridhash_jax import models
from hybridhash_jax.methods import METHODS
from input_pipeline.splits import LIST_PROTOCOLS

_RESULTS = Path(__file__).parent / "results"
_UTILISATION = 0.5
_FORWARD_AND_BACKWARD = 3  # times a forward pass
# Training images, and those that an evaluation encodes.
_SIZES = {"cifar10-1": (5_000, 60_000)} | {
    name: (p.num_train, p.num_query + p.num_database)
    for name, p in LIST_PROTOCOLS.items()
    if p.num_train and p.num_query and p.num_database
}
_OF_OTHERS = ("csq", "hashnet", "orthohash", "dpsh")


class Plan(NamedTuple):
    """One run of one code length with the published network."""

    method: str
    protocol: str
    epochs: int
    evaluations: int

    @property
    def trained(self) -> int:
        """Images that are trained on, each epoch's."""
        return _SIZES[self.protocol][0] * self.epochs

    @property
    def encoded(self) -> int:
        """Images that all evaluations encode."""
        return _SIZES[self.protocol][1] * self.evaluations


def plans() -> list[Plan]:
    """HybridHash as its authors ran it, and other methods' recipes, evaluated once, at the end."""
    found = [Plan("hybridhash", "imagenet100", 12, 4)]
    others = ("cifar10-1", "nuswide_81_m", "nuswide_21", "coco", "mirflickr", "voc2012")
    epochs = METHODS["hybridhash"].recipes["published"]["num_epochs"]
    found += [Plan("hybridhash", name, epochs, epochs // 3) for name in others]
    for name in _OF_OTHERS:
        epochs = METHODS[name].recipes["published"]["num_epochs"]
        found.append(Plan(name, "imagenet100", epochs, 1))
    return found


def table(gflop: float, measured: Mapping[str, tuple[float, float]]) -> str:
    """A row a plan.

    Args:
      gflop: of a forward pass of an image.
      measured: images a second in training and in encoding, of machines by name.
    """
    heads = ["method, data", "epochs", "evaluations", "PFLOP", *(f"one {c.name}" for c in CHIPS)]
    heads += measured
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for plan in plans():
        images = _FORWARD_AND_BACKWARD * plan.trained + plan.encoded
        peta = images * gflop / 1e6
        times = [peta * 1e3 / (chip.tflops * _UTILISATION) for chip in CHIPS]
        times += [plan.trained / step + plan.encoded / encode for step, encode in measured.values()]
        name = METHODS[plan.method].title
        cells = [f"{name}, `{plan.protocol}`", plan.epochs, plan.evaluations, f"{peta:,.1f}"]
        lines.append("| " + " | ".join(map(str, [*cells, *map(duration, times)])) + " |")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """In words, to two digits."""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 1.5 * length:
            value = seconds / length
            return f"{value:,.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    return f"{seconds:.0f} s"


def _measured(record: str, work: str) -> float:
    rows = json.loads((_RESULTS / record).read_text())["rows"]
    found = [row for row in rows if row["variant"] == "paper" and row["work"] == work]
    return found[0]["images_per_second"]["jax"]


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    network = nnx.eval_shape(lambda: models.create_network("paper", outputs=64, rngs=nnx.Rngs(0)))
    records = {
        "one H200, its speeds": (
            "gpu/train_step_attention_cudnn.json",
            "gpu/encode_attention_cudnn.json",
        ),
        "2 cores, their speeds": ("train_step_epyc.json", "encode_epyc.json"),
    }
    speeds = {
        name: (_measured(step, "train_step"), _measured(encode, "encode"))
        for name, (step, encode) in records.items()
    }
    print(table(models.forward_flops(network) / 1e9, speeds))


if __name__ == "__main__":
    run_and_exit(main)
