"""Images a second, MFU, memory and compile time of training, if wanted beside PyTorch.

    python -m benchmarks.train_step --torch --out=benchmarks/results/train_step_cpu.json

`make bench-torch` does it with both environments. With --mkl_avx512 also PyTorch with MKL's AVX-512
code, on an AMD processor that has it; all three take turns in one run.

"gradient" is a forward and backward pass; "train_step" adds the bank and RMSprop. MFU is 3 times
the model's forward operations a second, over the device's peak: recomputation does not count.
"""

import argparse
import itertools
import os
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from benchmarks import mkl_avx512
from benchmarks.measure import run_and_exit, take_turns, write_record
from benchmarks.network_speed import make_parser, peak_flops, peak_memory, prepare
from benchmarks.torch_baseline import TorchWorker
from hybridhash_jax.runtime import host_memory

_WORKS = ("gradient", "train_step")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--works", nargs="+", choices=_WORKS, default=_WORKS, help="what is timed")
    args = parser.parse_args()
    run(args, tuple(args.works))


def run(args: argparse.Namespace, works: tuple[str, ...]) -> None:
    """Measures every variant, batch, precision and work; prints a table, writes a record."""
    host_memory.compute_on_calling_thread()  # as main.py does
    peak, source = peak_flops(args.peak_tflops)
    device = jax.devices()[0].device_kind
    print(f"{device}: peak {peak / 1e12:.3g} TFLOP/s ({source}); jax {jax.__version__}")
    workers = _start_workers(args)
    sizes = itertools.product(args.variants.split(","), args.batches, args.precisions.split(","))
    rows = [
        _measure(*size, work, args.repetitions, workers, peak) for size in sizes for work in works
    ]
    if args.out:
        write_record(
            args.out,
            ("jax", "jaxlib", "flax", "optax", "numpy"),
            torch=workers["torch"].version if workers else None,
            load_average=os.getloadavg(),
            device=device,
            peak_tflops=round(peak / 1e12, 4),
            peak_from=source,
            rows=rows,
        )


def _start_workers(args: argparse.Namespace) -> dict[str, TorchWorker]:
    """PyTorch as installed and, where it is asked for and makes a difference, with AVX-512."""
    workers = {"torch": TorchWorker(args.torch_python)} if args.torch else {}
    if workers and args.mkl_avx512:
        if reason := mkl_avx512.why_not():
            print(f"without MKL's AVX-512 code: {reason}")
        else:
            with tempfile.TemporaryDirectory() as folder:
                library = mkl_avx512.build(Path(folder))
                workers["torch_mkl_avx512"] = TorchWorker(args.torch_python, preload=library)
    return workers


def _measure(
    variant: str,
    batch_size: int,
    precision: str,
    work: str,
    repetitions: int,
    workers: Mapping[str, TorchWorker],
    peak: float,
) -> dict[str, Any]:
    prepared = prepare(variant, batch_size, precision, work)
    ways = {"jax": prepared.once}
    for way, worker in workers.items():
        bfloat16 = precision == "bfloat16"
        ways[way] = worker.prepare(variant, batch_size, work, bfloat16=bfloat16)
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
    for way in workers:
        ratios = [a / b for a, b in zip(seconds["jax"], seconds[way], strict=True)]
        row[f"jax_over_{way}_seconds"] = round(statistics.median(ratios), 3)
        text += f" (JAX takes {row[f'jax_over_{way}_seconds']} of {way}'s time)"
    print(
        f"{text}; MFU {row['mfu']:.1%}, {row['peak_mebibytes']} MiB, "
        f"compiled in {row['compile_seconds']} s",
        flush=True,
    )
    return row


if __name__ == "__main__":
    run_and_exit(main)
