"""What a GPU does within some twelve minutes: the paper's network timed, a smaller one trained.

    python -m benchmarks.on_gpu --cifar10=FOLDER --tiny_imagenet=FOLDER --workdir=runs/gpu \\
        --torch_python=.venv-torch/bin/python --out=benchmarks/results/gpu

Parts, in this order; --parts chooses:
  encode, train_step, attention
              of the paper's network at 224 pixels; attention by formulations
  step_32px   the training step of small_32px
  torch, torch_compiled
              the paper's network in PyTorch, if --torch_python is given
  scratch     small_32px on CIFAR-10 (cifar10-2, 32 bits, pairs inside a batch of 512), as many
              epochs as fit into --train_seconds by the speed of its step, measured before
  pretrained  the same from a start on Tiny-ImageNet of --pretrain_seconds, if --tiny_imagenet is
              given
Each part writes its record into --out as soon as it is done; one that is there is not repeated. A
part that fails is told, and the next one begins. --budget_seconds is when no further part begins.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import PRECISIONS, folder, run_and_exit
from hybridhash_jax.models import VARIANTS
from input_pipeline.commands import positive

_ROOT = Path(__file__).resolve().parent.parent
_AUGMENTATIONS = ("mixup", "cutmix", "augment_magnitude", "random_erasing")
_CIFAR10_IMAGES, _TINY_IMAGENET_IMAGES = 50_000, 100_000


def main() -> None:
    args = _parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    started, failed = time.monotonic(), []
    for name, part in _PARTS.items():
        if name not in args.parts or _record(args, name).exists():
            continue
        if (left := args.budget_seconds - (time.monotonic() - started)) <= 0:
            raise SystemExit(f"no time is left for {name}; the same command goes on with it")
        print(f"== {name}; {left:.0f} s left", flush=True)
        try:
            part(args)
        except (subprocess.CalledProcessError, OSError, KeyError) as error:
            print(f"{name} failed: {error}", flush=True)
            failed.append(name)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _record(args: argparse.Namespace, name: str) -> Path:
    return args.out / f"{name}.json"


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=_ROOT, check=True)


def _benchmark(args: argparse.Namespace, name: str, record: str, *flags: str) -> None:
    _run("-m", f"benchmarks.{name}", *flags, f"--out={_record(args, record).absolute()}")


def _encode(args: argparse.Namespace) -> None:
    _benchmark(args, "encode", "encode", *_paper(args))


def _train_step(args: argparse.Namespace) -> None:
    _benchmark(args, "train_step", "train_step", *_paper(args), "--works=train_step")


def _paper(args: argparse.Namespace) -> tuple[str, ...]:
    batches = ("--batches", *map(str, args.batches))
    return f"--variants={args.network}", *batches, f"--precisions={args.precision}"


def _step_32px(args: argparse.Namespace) -> None:
    sizes = (f"--variants={args.small_network}", f"--batches={args.batch_size}")
    precision = f"--precisions={args.precision}"
    _benchmark(args, "train_step", "step_32px", *sizes, precision, "--works=train_step")


def _attention(args: argparse.Namespace) -> None:
    flags = (f"--variants={args.network}", f"--batch_size={args.batches[0]}")
    _benchmark(args, "attention", "attention", *flags, f"--precision={args.precision}")


def _torch(args: argparse.Namespace) -> None:
    _time_torch(args, "torch", "--attention=products,fused")


def _torch_compiled(args: argparse.Namespace) -> None:
    _time_torch(args, "torch_compiled", "--attention=fused", "--compiled")


def _time_torch(args: argparse.Namespace, record: str, *flags: str) -> None:
    """After JAX's processes have ended: each of the two takes the memory for itself."""
    if args.torch_python is None:
        print("no --torch_python: left out")
        return
    _benchmark(
        args, "torch_baseline", record, *_paper(args), f"--torch_python={args.torch_python}",
        "--works=encode,train_step", *flags,
    )  # fmt: skip


def _scratch(args: argparse.Namespace) -> None:
    _hash(args, "scratch")


def _pretrained(args: argparse.Namespace) -> None:
    if args.tiny_imagenet is None:
        print("no --tiny_imagenet: left out")
        return
    epochs = _epochs(args, args.pretrain_seconds, _TINY_IMAGENET_IMAGES)
    workdir = args.workdir.absolute() / "pretraining"
    _train(
        args, workdir, "pretrain_tiny_imagenet32", args.tiny_imagenet, epochs,
        # Minutes are far from over-fitting, so nothing is mixed, erased or distorted.
        *(f"--config.pretraining.{name}=0" for name in _AUGMENTATIONS),
        "--config.pretraining.ema_decay=0.99",
        "--config.evaluation.selected_by=last",
    )  # fmt: skip
    _hash(args, "pretrained", f"--config.init.weights={workdir}")


def _hash(args: argparse.Namespace, name: str, *flags: str) -> None:
    epochs = _epochs(args, args.train_seconds, _CIFAR10_IMAGES)
    workdir = args.workdir.absolute() / name
    _train(args, workdir, "cifar10_small_32px", args.cifar10, epochs, *flags)
    shutil.copyfile(workdir / "results.json", _record(args, name))


def _train(
    args: argparse.Namespace, workdir: Path, config: str, data: Path, epochs: int, *flags: str
) -> None:
    _run(
        "main.py", f"--config=configs/{config}.py", f"--workdir={workdir}",
        f"--config.data.dir={data.absolute()}",
        f"--config.model.variant={args.small_network}",
        f"--config.batch_size={args.batch_size}",
        f"--config.num_epochs={epochs}",
        f"--config.optimizer.warmup_epochs={max(1, epochs // 10)}",
        f"--config.evaluation.every_epochs={epochs}",
        f"--config.checkpoint.every_epochs={epochs}",
        "--config.evaluation.before_training=False",
        *flags,
    )  # fmt: skip


def _epochs(args: argparse.Namespace, seconds: float, images: int) -> int:
    """How many fit into the seconds by the measured speed of the step."""
    if not (record := _record(args, "step_32px")).exists():
        raise OSError("the speed of its step was not measured; that part failed before")
    rows = json.loads(record.read_text())["rows"]
    speeds = [row["images_per_second"]["jax"] for row in rows if row["work"] == "train_step"]
    epochs = max(2, int(seconds * speeds[0] / images))
    print(f"{speeds[0]:.0f} images/s: {epochs} epochs of {images:,} in {seconds:.0f} s")
    return epochs


_PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "encode": _encode,
    "train_step": _train_step,
    "attention": _attention,
    "step_32px": _step_32px,
    "torch": _torch,
    "torch_compiled": _torch_compiled,
    "scratch": _scratch,
    "pretrained": _pretrained,
}


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the records")
    parser.add_argument("--workdir", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--cifar10", type=folder, required=True, help="folder of the archive")
    parser.add_argument("--tiny_imagenet", type=folder, help="folder of the four .npy files")
    parser.add_argument("--torch_python", help="interpreter with torch")
    add = parser.add_argument
    add(
        "--parts",
        nargs="+",
        choices=_PARTS,
        default=list(_PARTS),
        metavar="PART",
        help="all, if not given",
    )
    add("--network", choices=VARIANTS, metavar="NAME", default="paper", help="what is timed")
    small = {"choices": VARIANTS, "metavar": "NAME", "default": "small_32px"}
    add("--small_network", **small, help="what is trained")
    add("--batches", type=positive, nargs="+", default=[128], help="of what is timed")
    add("--batch_size", type=positive, default=512, help="of what is trained")
    add("--precision", choices=PRECISIONS, default="bfloat16", help="of what is timed")
    parser.add_argument("--train_seconds", type=float, default=240)
    parser.add_argument("--pretrain_seconds", type=float, default=180)
    parser.add_argument("--budget_seconds", type=float, default=720)
    return parser.parse_args()


if __name__ == "__main__":
    run_and_exit(main, "what is finished is kept; the same command goes on")
