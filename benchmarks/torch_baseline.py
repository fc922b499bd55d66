"""Images a second of the same network in PyTorch, checked against the golden data first.

    python -m benchmarks.torch_baseline --variants=tiny_32px --batches=16

Eager and under torch.compile, float32 and autocast bfloat16, for encoding, for the gradient, and
for a whole training step. PyTorch may be in another environment: --torch_python=PATH.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import PRECISIONS, among, run_and_exit, take_turns, write_record
from benchmarks.network_speed import make_sized_parser
from hybridhash_jax.models import VARIANTS

ROOT = Path(__file__).resolve().parent.parent
WORKS = ("encode", "gradient", "train_step")
_TOLERANCE = 1e-5


class TorchWorker:
    """PyTorch in a process of its own, under `python`, checked against the golden data.

    `module` is what runs there; `preload` is a library that it loads first, see `mkl_avx512`;
    `checked` is what its check needs beside the golden data.

    Raises:
      RuntimeError: it does not start, or its network is not ours.
    """

    def __init__(
        self,
        python: str,
        module: str = "benchmarks.torch_worker",
        *,
        preload: Path | None = None,
        **checked: str,
    ):
        self._process = subprocess.Popen(
            [python, "-m", module],
            cwd=ROOT,
            env=os.environ | ({"LD_PRELOAD": str(preload)} if preload else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        difference = self._ask(do="check", golden=str(ROOT / "tests" / "golden"), **checked)
        if difference > _TOLERANCE:
            raise RuntimeError(
                f"the PyTorch network differs from the golden data by {difference:.1e}, more "
                f"than {_TOLERANCE:g}; its figures would not be comparable"
            )
        self.version = ""

    def prepare(
        self,
        variant: str,
        batch_size: int,
        work: str,
        *,
        attention: str = "products",
        bfloat16: bool = False,
        compiled: bool = False,
        threads: int | None = None,
    ) -> Callable[[], float]:
        """A function that does the work once and returns seconds; see `torch_worker.prepare`."""
        arguments = {
            "sizes": VARIANTS[variant] | {"bits": 64}, "attention": attention,
            "batch_size": batch_size, "bfloat16": bfloat16, "compiled": compiled, "work": work,
            "threads": threads,
        }  # fmt: skip
        return self.prepare_with(**arguments)

    def prepare_with(self, **arguments: Any) -> Callable[[], Any]:
        """A function that does once what the module's `prepare` makes of these arguments."""
        name = json.dumps(arguments)
        self.version = self._ask(do="prepare", name=name, arguments=arguments)
        return lambda: self._ask(do="time", name=name)

    def _ask(self, **request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        if not (answer := self._process.stdout.readline()):
            raise ValueError(
                "PyTorch's process ended; what it said is above. Install "
                "benchmarks/requirements.txt, or name an interpreter that has torch: --torch_python"
            )
        return json.loads(answer)


def main() -> None:
    args = _parse_args()
    worker, results = TorchWorker(args.torch_python), {}
    for variant, batch_size in itertools.product(args.variants.split(","), args.batches):
        ways = {
            f"{work}, {attention}, {'compiled' if compiled else 'eager'}, {precision}": (
                worker.prepare(
                    variant,
                    batch_size,
                    work,
                    attention=attention,
                    bfloat16=precision == "bfloat16",
                    compiled=compiled,
                )
            )
            for work in args.works.split(",")
            for attention in args.attention.split(",")
            for compiled in ((False, True) if args.compiled else (False,))
            for precision in args.precisions.split(",")
        }
        seconds = take_turns(ways, args.repetitions, warm_up=True)
        speeds = {n: batch_size / statistics.median(s) for n, s in seconds.items()}
        results[f"{variant}, batch {batch_size}"] = {
            "images_per_second": speeds,
            "seconds": seconds,
        }
        print(f"{variant}, batch {batch_size}")
        for name, speed in speeds.items():
            print(f"  {name:<48}{speed:>10.2f} images/s", flush=True)
    if args.out:
        write_record(args.out, (), torch=worker.version, results=results)


def _parse_args() -> argparse.Namespace:
    parser = make_sized_parser(__doc__, precisions=",".join(PRECISIONS))
    attentions = among(("products", "fused"))
    add = parser.add_argument
    add("--torch_python", default=sys.executable, help="interpreter with torch")
    add("--works", type=among(WORKS), default=",".join(WORKS), help="what to time")
    add("--attention", type=attentions, default="products", help="products (the authors'), fused")
    add("--compiled", action="store_true", help="torch.compile as well")
    return parser.parse_args()


if __name__ == "__main__":
    run_and_exit(main)
