"""What a training step sends between chips, against what their links can carry.

Run by hand:  python -m benchmarks.communication [--variant=paper] [--images_per_chip=64]

Nothing is measured here. Bytes follow from the network and the batch, speeds are the vendors'
published peaks, and a chip is assumed to reach --utilization of its peak. Two scaling efficiencies
come out: none of the communication hidden behind computing, and as much as can be. Real links reach
less than their peak, and small messages wait for latency, which is left out.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

_FLOAT = 4  # gradients, parameters and the batch's embeddings are float32
_FORWARD_AND_BACKWARD = 3  # times a forward pass


@dataclass(frozen=True)
class Chip:
    """A kind of accelerator and how it is wired; speeds in bytes per second, in one direction.

    Attributes:
      name: as in the table.
      tflops: published peak, dense bfloat16.
      near: to the chips of one host or one torus, all links of a chip together.
      near_chips: how many chips reach each other so.
      far: to other hosts, a chip's share.
      source: where the figures were published.
    """

    name: str
    tflops: float
    near: float
    near_chips: int
    far: float
    source: str


# The vendors give bidirectional figures; one direction is half of them.
CHIPS = (
    Chip("TPU v5e", 197, 200e9, 256, 200e9 / 8 / 8, "docs.cloud.google.com/tpu/docs/v5e"),
    Chip("TPU v6e", 918, 400e9, 256, 800e9 / 8 / 8, "docs.cloud.google.com/tpu/docs/v6e"),
    Chip("H100 SXM", 989, 450e9, 8, 400e9 / 8, "nvidia.com/en-us/data-center/h100, /dgx-h100"),
)


def all_reduce_seconds(size: float, chips: int, chip: Chip) -> float:
    """Time to sum `size` bytes over `chips`, each of which ends with the whole sum.

    Every chip sends 2 (n - 1) / n of the bytes, as a reduce-scatter and an all-gather. Beyond
    `near_chips` the near ones reduce-scatter first, each sends its part to the other groups, and
    they gather.
    """
    near = min(chips, chip.near_chips)
    groups = -(-chips // near)
    inside = 2 * (near - 1) / near * size / chip.near
    return inside + 2 * (groups - 1) / groups * (size / near) / chip.far


def all_gather_seconds(size: float, chips: int, chip: Chip) -> float:
    """Time until every chip has all `size` bytes, of which each had its part: half a sum."""
    return all_reduce_seconds(size, chips, chip) / 2


def bank_bytes(batch: int, bits: int, classes: int) -> tuple[int, int]:
    """Bytes gathered for the memory bank a step, and bytes summed.

    Gathered are embeddings (float32), labels, positions and masks of the whole batch; summed is
    the gradient of the loss by the batch's embeddings, where the bank's rows lie apart. The bank
    itself stays where it is.
    """
    return batch * (bits * _FLOAT + classes + _FLOAT + 1), batch * bits * _FLOAT


@dataclass(frozen=True)
class Prediction:
    """One step on one number of chips, computed.

    Attributes:
      compute, communication: seconds.
      bank_share: part of the communication that the memory bank causes.
    """

    compute: float
    communication: float
    bank_share: float

    @property
    def exposed(self) -> float:
        """Efficiency if nothing is hidden: computing over computing and communication."""
        return self.compute / (self.compute + self.communication)

    @property
    def hidden(self) -> float:
        """Efficiency if communication runs while the chip computes."""
        return self.compute / max(self.compute, self.communication)


def predict(
    chip: Chip,
    chips: int,
    *,
    parameters: int,
    gflop: float,
    images_per_chip: int,
    bits: int = 64,
    classes: int = 10,
    utilization: float = 0.5,
    fsdp: bool = False,
) -> Prediction:
    """The step's times.

    Args:
      chip, chips: kind and number.
      parameters: of the network.
      gflop: of an image's forward pass.
      images_per_chip: the batch is that times `chips`.
      bits, classes: of the codes and labels in the bank.
      utilization: part of the peak that computing reaches.
      fsdp: parameters lie apart: gathered for the forward and the backward pass, and gradients
        summed into parts. Otherwise gradients are summed everywhere.
    """
    forward = gflop * 1e9 * images_per_chip
    compute = _FORWARD_AND_BACKWARD * forward / (chip.tflops * 1e12 * utilization)
    size = parameters * _FLOAT
    gradients = (3 if fsdp else 2) * all_gather_seconds(size, chips, chip)
    gathered, summed = bank_bytes(images_per_chip * chips, bits, classes)
    bank = all_gather_seconds(gathered, chips, chip) + all_reduce_seconds(summed, chips, chip)
    total = gradients + bank
    return Prediction(compute, total, bank / total if total else 0.0)


def table(numbers: Sequence[int], **step: float) -> str:
    """Markdown, a row a kind and number of chips."""
    columns = (
        "chips",
        "layout",
        "computing",
        "communication",
        "of it the bank",
        "efficiency, nothing hidden",
        "efficiency, all hidden",
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for chip in CHIPS:
        for chips in numbers:
            for layout in ("data", "fsdp"):
                found = predict(chip, chips, fsdp=layout == "fsdp", **step)  # pyright: ignore
                lines.append(
                    f"| {chips} x {chip.name} | {layout} | {1e3 * found.compute:.1f} ms "
                    f"| {1e3 * found.communication:.2f} ms | {found.bank_share:.1%} "
                    f"| {found.exposed:.1%} | {found.hidden:.1%} |"
                )
    return "\n".join(lines)


def main() -> None:
    """Prints bytes and the table for a variant of the network."""
    import jax
    from flax import nnx

    from hybridhash_jax import models

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variant", default="paper", choices=sorted(models.VARIANTS))
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--images_per_chip", type=int, default=64)
    parser.add_argument("--utilization", type=float, default=0.5)
    parser.add_argument("--chips", type=int, nargs="+", default=[8, 64, 256])
    given = parser.parse_args()
    model = nnx.eval_shape(
        lambda: models.create_model(given.variant, bits=given.bits, rngs=nnx.Rngs(0))
    )
    parameters = sum(x.size for x in jax.tree.leaves(nnx.state(model)))
    gflop = models.forward_flops(model) / 1e9
    print(
        f"Computed, not measured: {given.variant}, {parameters:,} parameters "
        f"({parameters * _FLOAT / 1e6:.0f} MB of gradients a step), {gflop:.1f} GFLOP forward an "
        f"image, {given.images_per_chip} images a chip, {given.utilization:.0%} of peak computing.\n"
    )
    for chips in given.chips:
        gathered, summed = bank_bytes(given.images_per_chip * chips, given.bits, given.classes)
        batch = given.images_per_chip * chips
        print(f"batch {batch:,}: the bank gathers {gathered / 1e6:.2f} MB, sums {summed / 1e6:.2f}")
    print()
    print(
        table(
            given.chips,
            parameters=parameters,
            gflop=gflop,
            images_per_chip=given.images_per_chip,
            bits=given.bits,
            classes=given.classes,
            utilization=given.utilization,
        )
    )
    print("\nPublished peaks:", "; ".join(f"{chip.name}: {chip.source}" for chip in CHIPS))


if __name__ == "__main__":
    main()
