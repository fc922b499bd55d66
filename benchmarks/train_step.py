"""Images a second, MFU, memory and compile time of training, if wanted beside PyTorch.

    python -m benchmarks.train_step --torch --out=benchmarks/results/train_step_cpu.json

"gradient" is a forward and backward pass; "train_step" adds the bank and RMSprop. MFU is 3 times
the model's forward operations a second, over the device's peak: recomputation does not count.
"""

import argparse
import itertools
import statistics
from typing import Any

import jax

from benchmarks.measure import take_turns, write_record
from benchmarks.network_speed import make_parser, peak_flops, peak_memory, prepare
from benchmarks.torch_baseline import TorchWorker
from hybridhash_jax.runtime import host_memory


def main() -> None:
    run(make_parser(__doc__).parse_args(), ("gradient", "train_step"))


def run(args: argparse.Namespace, works: tuple[str, ...]) -> None:
    """Measures every variant, batch, precision and work; prints a table, writes a record."""
    host_memory.compute_on_calling_thread()  # as main.py does
    peak, source = peak_flops(args.peak_tflops)
    device = jax.devices()[0].device_kind
    print(f"{device}: peak {peak / 1e12:.3g} TFLOP/s ({source}); jax {jax.__version__}")
    worker = TorchWorker(args.torch_python) if args.torch else None
    sizes = itertools.product(args.variants.split(","), args.batches, args.precisions.split(","))
    rows = [
        _measure(*size, work, args.repetitions, worker, peak) for size in sizes for work in works
    ]
    if args.out:
        write_record(
            args.out,
            ("jax", "jaxlib", "flax", "optax", "numpy"),
            torch=worker.version if worker else None,
            device=device,
            peak_tflops=round(peak / 1e12, 4),
            peak_from=source,
            rows=rows,
        )


def _measure(
    variant: str,
    batch_size: int,
    precision: str,
    work: str,
    repetitions: int,
    worker: TorchWorker | None,
    peak: float,
) -> dict[str, Any]:
    prepared = prepare(variant, batch_size, precision, work)
    ways = {"jax": prepared.once}
    if worker is not None:
        bfloat16 = precision == "bfloat16"
        ways["torch"] = worker.prepare(variant, batch_size, work, bfloat16=bfloat16)
    seconds = take_turns(ways, repetitions, warm_up=True)
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    row: dict[str, Any] = {
        "variant": variant, "batch_size": batch_size, "precision": precision, "work": work,
        "images_per_second": {way: round(batch_size / s, 3) for way, s in medians.items()},
        "mfu": round(prepared.flop / medians["jax"] / peak, 4),
        "peak_mebibytes": peak_memory(prepared),
        "compile_seconds": round(prepared.compile_seconds, 2),
        "seconds": {way: [round(s, 5) for s in values] for way, values in seconds.items()},
    }  # fmt: skip
    text = f"{variant}, batch {batch_size}, {precision}, {work}: "
    text += ", ".join(
        f"{way} {speed:.2f} images/s" for way, speed in row["images_per_second"].items()
    )
    if worker is not None:
        ratios = [a / b for a, b in zip(seconds["jax"], seconds["torch"], strict=True)]
        row["jax_over_torch_seconds"] = round(statistics.median(ratios), 3)
        text += f" (JAX takes {row['jax_over_torch_seconds']} of PyTorch's time)"
    print(
        f"{text}; MFU {row['mfu']:.1%}, {row['peak_mebibytes']} MiB, "
        f"compiled in {row['compile_seconds']} s",
        flush=True,
    )
    return row


if __name__ == "__main__":
    main()
