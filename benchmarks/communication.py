"""What a training step sends between chips, against what their links can carry.

Run by hand:  python -m benchmarks.communication [--variant=paper] [--images_per_chip=64]

Nothing is measured here. Bytes follow from the network and the batch, speeds are the vendors'
published peaks, and a chip is assumed to reach --utilization of its peak. What comes out is the
scaling efficiency with none of the communication hidden behind computing, and how many images a
chip needs for all of it to be hidden. Real links reach less than their peak, and small messages wait
for latency, which is left out. A second table says what the memory bank stores.

The tables in docs/pods.md are those that this prints without arguments.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax

from hybridhash_jax.methods.memory_bank import create_bank

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


def gradient_seconds(size: float, chips: int, fsdp: int, chip: Chip) -> float:
    """Time to sum gradients of `size` bytes, and to gather the parameters where they lie apart.

    Over `fsdp` chips parameters are gathered for the forward and for the backward pass, and
    gradients summed into parts; each part is then summed over the `chips` / `fsdp` copies.
    """
    apart = 3 * all_gather_seconds(size, fsdp, chip)
    beside = replace(chip, near_chips=max(chip.near_chips // fsdp, 1))
    return apart + all_reduce_seconds(size / fsdp, chips // fsdp, beside)


def bank_bytes(batch: int, bits: int, classes: int) -> tuple[int, int]:
    """Bytes gathered for the memory bank a step, and bytes summed.

    Gathered are embeddings (float32), labels, positions and masks of the whole batch; summed is
    the gradient of the loss by the batch's embeddings, where the bank's rows lie apart. The bank
    itself stays where it is.
    """
    return batch * (bits * _FLOAT + classes + _FLOAT + 1), batch * bits * _FLOAT


def bank_storage(images: int, bits: int, classes: int, chips: int = 1) -> int:
    """Bytes of the memory bank on each of `chips`, as `layout.make_layout` lays it out.

    Its rows are split where `chips` divides them, and all of them are on each chip elsewhere.
    """
    bank = jax.eval_shape(lambda: create_bank(images, bits, classes))
    whole = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(bank))
    return whole if len(bank.seen) % chips else whole // chips


@dataclass(frozen=True)
class Prediction:
    """One step on one number of chips, computed.

    Attributes:
      compute, communication: seconds.
      bank_share: part of the communication that the memory bank causes.
      images_per_chip: the batch on each chip.
    """

    compute: float
    communication: float
    bank_share: float
    images_per_chip: int

    @property
    def exposed(self) -> float:
        """Efficiency if nothing is hidden: computing over computing and communication."""
        return self.compute / (self.compute + self.communication)

    @property
    def hidden_from(self) -> float:
        """The least images a chip that compute for as long as all is sent; infinite if none do.

        The gradients' bytes do not depend on the batch; computing and the bank's bytes grow with it.
        """
        bank = self.communication * self.bank_share
        spare = (self.compute - bank) / self.images_per_chip
        return math.ceil((self.communication - bank) / spare) if spare > 0 else math.inf


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
    fsdp: int = 1,
) -> Prediction:
    """The step's times.

    Args:
      chip, chips: kind and number.
      parameters: of the network.
      gflop: of an image's forward pass.
      images_per_chip: the batch is that times `chips`.
      bits, classes: of the codes and labels in the bank.
      utilization: part of the peak that computing reaches.
      fsdp: chips that parameters lie apart over, see `gradient_seconds`; 1 is plain data
        parallelism. It divides `chips`.
    """
    forward = gflop * 1e9 * images_per_chip
    compute = _FORWARD_AND_BACKWARD * forward / (chip.tflops * 1e12 * utilization)
    gradients = gradient_seconds(parameters * _FLOAT, chips, fsdp, chip)
    gathered, summed = bank_bytes(images_per_chip * chips, bits, classes)
    bank = all_gather_seconds(gathered, chips, chip) + all_reduce_seconds(summed, chips, chip)
    total = gradients + bank
    return Prediction(compute, total, bank / total if total else 0.0, images_per_chip)


def table(numbers: Sequence[tuple[int, int]], **step: float) -> str:
    """Markdown, a row a kind and number of chips and a layout.

    Args:
      numbers: (slices, chips of each). Several slices are linked by `Chip.far` alone, so a kind is
        left out of those where fewer chips than a slice's reach each other.
      **step: as for `predict`.
    """
    columns = (
        "chips",
        "layout",
        "computing",
        "communication",
        "of it the bank",
        "efficiency, nothing hidden",
        "images a chip to hide all",
    )
    rows = []
    for kind in CHIPS:
        for slices, size in numbers:
            if slices > 1 and size > kind.near_chips:
                continue
            chip = replace(kind, near_chips=size) if slices > 1 else kind
            chips = slices * size
            layouts = {"data": 1, "fsdp": chips}
            if chips > chip.near_chips:
                inside = chip.near_chips
                layouts[f"data={chips // inside} x fsdp={inside}"] = inside
            name = f"{slices} x {size}" if slices > 1 else f"{size}"
            for layout, fsdp in layouts.items():
                found = predict(chip, chips, fsdp=fsdp, **step)  # pyright: ignore
                rows.append(
                    f"| {name} x {chip.name} | {layout} | {1e3 * found.compute:.1f} ms "
                    f"| {1e3 * found.communication:.2f} ms | {found.bank_share:.1%} "
                    f"| {found.exposed:.1%} | {found.hidden_from} |"
                )
    return _markdown(columns, rows)


def storage_table(
    images: Sequence[int], numbers: Sequence[int], *, parameters: int, bits: int, classes: int
) -> str:
    """Markdown, a row a number of training images: the bank, and a checkpoint with it."""
    columns = (
        "training images",
        "bank",
        *(f"on each of {chips}" for chips in numbers),
        "checkpoint: RMSprop",
        "AdamW",
    )
    rows = []
    for count in images:
        whole = bank_storage(count, bits, classes)
        sizes = [whole, *(bank_storage(count, bits, classes, chips) for chips in numbers)]
        # Parameters, and as much again for each array that the optimizer keeps of their shape.
        sizes += [(1 + slots) * parameters * _FLOAT + whole for slots in (1, 2)]
        rows.append(f"| {count:,} | {' | '.join(f'{x / 1e6:,.1f} MB' for x in sizes)} |")
    return _markdown(columns, rows)


def _markdown(columns: Sequence[str], rows: Sequence[str]) -> str:
    return "\n".join([f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *rows])


def _slices(text: str) -> tuple[int, int]:
    """(slices, chips of each) of a word such as 64 or 2x64."""
    slices, _, size = text.rpartition("x")
    try:
        numbers = int(slices or 1), int(size)
    except ValueError:
        numbers = (0, 0)
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r}; accepted: CHIPS or SLICESxCHIPS, as 64 or 2x64"
        )
    return numbers


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints bytes and the tables for a variant of the network."""
    from flax import nnx

    from hybridhash_jax import models

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variant", default="paper", choices=sorted(models.VARIANTS))
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--images_per_chip", type=int, default=64)
    parser.add_argument("--utilization", type=float, default=0.5)
    parser.add_argument(
        "--chips",
        type=_slices,
        nargs="+",
        default=[(1, 8), (1, 64), (1, 256), (2, 64)],
        help="numbers, or SLICESxCHIPS for several TPU slices (default 8 64 256 2x64)",
    )
    parser.add_argument("--images", type=int, nargs="+", default=[5_000, 50_000, 10_000_000])
    given = parser.parse_args(arguments)
    model = nnx.eval_shape(
        lambda: models.create_network(given.variant, outputs=given.bits, rngs=nnx.Rngs(0))
    )
    parameters = sum(x.size for x in jax.tree.leaves(nnx.state(model)))
    gflop = models.forward_flops(model) / 1e9
    print(
        f"Computed, not measured: {given.variant}, {parameters:,} parameters "
        f"({parameters * _FLOAT / 1e6:.0f} MB of gradients a step), {gflop:.1f} GFLOP forward an "
        f"image, {given.images_per_chip} images a chip, {given.utilization:.0%} of peak computing.\n"
    )
    for slices, size in given.chips:
        batch = given.images_per_chip * slices * size
        gathered, summed = bank_bytes(batch, given.bits, given.classes)
        print(
            f"batch {batch:,}: the bank gathers {gathered / 1e6:.2f} MB, sums {summed / 1e6:.2f} MB"
        )
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
    print()
    print(
        storage_table(
            given.images,
            [size for slices, size in given.chips if slices == 1],
            parameters=parameters,
            bits=given.bits,
            classes=given.classes,
        )
    )
    print("\nPublished peaks:", "; ".join(f"{chip.name}: {chip.source}" for chip in CHIPS))


if __name__ == "__main__":
    main()
