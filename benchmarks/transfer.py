"""Whether hashing learns better from a pre-trained network than from scratch, at equal steps.

    XLA_FLAGS=--xla_force_host_platform_device_count=2 python -m benchmarks.transfer \\
        --tiny_imagenet=FOLDER --cifar10=FOLDER --workdir=runs/transfer

Pre-trains once on Tiny-ImageNet at 32 pixels, then hashes CIFAR-10 (protocol cifar10: 5,000 labelled
images) at 32 bits in several ways, the same steps each, for several seeds of order, augmentation and
new parameters. mAP is in the expectation over ties, over all 54,000 database images, at the last
step; nothing is selected on the queries. The network is one that two CPU cores train: 8x8 tokens.
Runs that are finished in the workdir are not repeated, so more ways or seeds can be added.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import record_file, run_and_exit, write_record

_ROOT = Path(__file__).resolve().parent.parent
_SECONDS = "seconds.json"
_PACKAGES = ("jax", "flax", "optax", "numpy")
_NETWORK = (
    "--config.model.variant=demo_16px",
    "--config.model.image_size=32",
    "--config.model.patch_size=4",
)
# Four epochs are far from over-fitting, so nothing is mixed, erased or distorted.
_PRETRAINING = (
    "--config=configs/pretrain_tiny_imagenet32.py",
    *_NETWORK,
    "--config.num_epochs=4",
    "--config.batch_size=128",
    "--config.optimizer.learning_rate=2e-3",
    "--config.optimizer.warmup_epochs=.2",
    "--config.pretraining.mixup=0",
    "--config.pretraining.cutmix=0",
    "--config.pretraining.augment_magnitude=0",
    "--config.pretraining.random_erasing=0",
    "--config.pretraining.ema_decay=0.99",
    "--config.evaluation.every_epochs=1",
    "--config.checkpoint.every_epochs=1",
    "--config.log_every_steps=50",
)
_HASHING = (
    "--config=configs/cifar10_32px.py",
    *_NETWORK,
    "--config.loss.alpha=0.5",  # as the record, which is older than the configuration's 6.4/bits
    "--config.data.protocol=cifar10",
    "--config.num_epochs=10",
    "--config.evaluation.every_epochs=10",
    "--config.evaluation.selected_by=last",
    "--config.evaluation.report=False",
)
_BACKBONE = "^(patch_embed|levels|norm)/"
_FACTORS = "--config.optimizer.learning_rate_factors=('/global_branch/=1','{}={}')"
# What a way adds to hashing; all but the first start from the pre-trained network.
_WAYS: dict[str, tuple[str, ...]] = {
    "scratch": (),
    "transfer": (),
    "transfer, backbone x 0.3": (_FACTORS.format(_BACKBONE, 0.3),),
    "transfer, backbone x 0.1": (_FACTORS.format(_BACKBONE, 0.1),),
    "transfer, first two levels frozen": (
        "--config.optimizer.frozen=('^patch_embed/','^levels/0/','^levels/1/layers/')",
    ),
}


def main() -> None:
    """Runs what is missing; prints and writes a table of all that is finished."""
    options = _arguments()
    data = f"--config.data.dir={options.tiny_imagenet.absolute()}"
    pretrained, seconds = _run(options.workdir / "pretrained", (*_PRETRAINING, data))
    for way in options.ways:
        for seed in options.seeds:
            _hash(options, way, seed)
    rows = [row for way in _WAYS for row in _finished(options.workdir, way)]
    print(f"pre-training: top-1 {pretrained['last']['top1']:.4f}, {seconds:.0f} s")
    print(f"{'way':<36}{'untrained':>10}{'mAP':>10}{'min':>10}{'max':>10}{'seeds':>7}{'s':>6}")
    for way in dict.fromkeys(row["way"] for row in rows):
        own = [row for row in rows if row["way"] == way]
        untrained, found, times = (
            [row[name] for row in own] for name in ("untrained", "map_expected", "seconds")
        )
        figures = (statistics.mean(untrained), statistics.mean(found), min(found), max(found))
        middle = "".join(f"{figure:>10.4f}" for figure in figures)
        print(f"{way:<36}{middle}{len(own):>7}{statistics.median(times):>6.0f}")
    if options.out is not None:
        pretraining = {name: pretrained["last"][name] for name in ("top1", "top5")}
        pretraining |= {"seconds": seconds, "flags": _PRETRAINING}
        write_record(
            options.out, _PACKAGES, pretraining=pretraining, hashing_flags=_HASHING, runs=rows
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tiny_imagenet", required=True, type=Path, help="folder of the four .npy files"
    )
    parser.add_argument(
        "--cifar10", required=True, type=Path, help="folder of the CIFAR-10 archive"
    )
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--ways", nargs="+", choices=_WAYS, default=list(_WAYS), metavar="WAY")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=record_file, help="where to write the record")
    return parser.parse_args()


def _folder(workdir: Path, way: str, seed: int) -> Path:
    name = "".join(letter if letter.isalnum() else "_" for letter in way)
    return workdir / f"{name}_{seed}"


def _hash(options: argparse.Namespace, way: str, seed: int) -> None:
    flags = (*_HASHING, f"--config.data.dir={options.cifar10.absolute()}", f"--config.seed={seed}")
    if way != "scratch":
        start = (options.workdir / "pretrained").absolute()
        flags += (f"--config.init.weights={start}", *_WAYS[way])
    entry, seconds = _run(_folder(options.workdir, way, seed), flags)
    found = entry["last"]["map_expected"]
    print(f"{way}, seed {seed}: mAP {found:.4f}, {seconds:.0f} s", flush=True)


def _finished(workdir: Path, way: str) -> list[dict[str, Any]]:
    """A row for each seed that the workdir holds."""
    rows, prefix = [], _folder(workdir, way, 0).name.removesuffix("0")
    for folder in workdir.iterdir():
        seed = folder.name.removeprefix(prefix)
        if folder.name == prefix + seed and seed.isdigit() and (folder / _SECONDS).exists():
            entry, seconds = _read(folder)
            rows.append(
                {
                    "way": way,
                    "seed": int(seed),
                    "map_expected": entry["last"]["map_expected"],
                    "untrained": entry["evaluations"][0]["map_expected"],
                    "seconds": round(seconds, 1),
                    "flags": _WAYS[way],
                }
            )
    return sorted(rows, key=lambda row: row["seed"])


def _run(workdir: Path, flags: tuple[str, ...]) -> tuple[dict[str, Any], float]:
    """Runs main.py unless that is done; the entry of results.json and the seconds it took."""
    if not (workdir / _SECONDS).exists():
        start = time.perf_counter()
        command = [sys.executable, "main.py", f"--workdir={workdir.absolute()}", *flags]
        subprocess.run(command, cwd=_ROOT, check=True)
        (workdir / _SECONDS).write_text(json.dumps(time.perf_counter() - start))
    return _read(workdir)


def _read(workdir: Path) -> tuple[dict[str, Any], float]:
    entry = json.loads((workdir / "results.json").read_text())[0]
    return entry, json.loads((workdir / _SECONDS).read_text())


if __name__ == "__main__":
    run_and_exit(main)
