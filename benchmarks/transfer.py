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

from benchmarks.measure import write_record

_ROOT = Path(__file__).resolve().parent.parent
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
    """Runs what is missing and writes the table."""
    options = _arguments()
    data = f"--config.data.dir={options.tiny_imagenet}"
    pretrained, seconds = _run(options.workdir / "pretrained", (*_PRETRAINING, data))
    top1 = pretrained["last"]["top1"]
    print(f"pre-training: top-1 {top1:.4f}, {seconds:.0f} s")
    rows = [_hash(options, way, seed) for way in options.ways for seed in map(int, options.seeds)]
    for way in options.ways:
        found = [row["map_expected"] for row in rows if row["way"] == way]
        spread = f"{min(found):.4f} to {max(found):.4f}"
        print(f"{way:<36}{statistics.mean(found):.4f}   {spread} ({len(found)} seeds)")
    if options.out is not None:
        pretraining = {"top1": top1, "top5": pretrained["last"]["top5"], "seconds": seconds}
        write_record(options.out, _PACKAGES, pretraining=pretraining, runs=rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny_imagenet", required=True, help="folder of the four .npy files")
    parser.add_argument("--cifar10", required=True, help="folder of the CIFAR-10 archive")
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--ways", nargs="+", choices=_WAYS, default=list(_WAYS), metavar="WAY")
    parser.add_argument("--seeds", nargs="+", default=["0", "1", "2"])
    parser.add_argument("--out", type=Path, help="where to write the record")
    return parser.parse_args()


def _hash(options: argparse.Namespace, way: str, seed: int) -> dict[str, Any]:
    name = "".join(letter if letter.isalnum() else "_" for letter in way)
    flags = (*_HASHING, f"--config.data.dir={options.cifar10}", f"--config.seed={seed}")
    if way != "scratch":
        flags += (f"--config.init.from={options.workdir / 'pretrained'}", *_WAYS[way])
    entry, seconds = _run(options.workdir / f"{name}_{seed}", flags)
    print(
        f"{way}, seed {seed}: mAP {entry['last']['map_expected']:.4f}, {seconds:.0f} s", flush=True
    )
    return {
        "way": way,
        "seed": seed,
        "map_expected": entry["last"]["map_expected"],
        "untrained": entry["evaluations"][0]["map_expected"],
        "init_from": entry["init_from"],
        "seconds": seconds,
        "flags": flags,
    }


def _run(workdir: Path, flags: tuple[str, ...]) -> tuple[dict[str, Any], float]:
    """The run's entry of results.json, and the seconds that it took when it was run."""
    timing = workdir / "seconds.json"
    if not timing.exists():
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "main.py", f"--workdir={workdir.absolute()}", *flags],
            cwd=_ROOT,
            check=True,
        )
        timing.write_text(json.dumps(time.perf_counter() - start))
    return json.loads((workdir / "results.json").read_text())[0], json.loads(timing.read_text())


if __name__ == "__main__":
    main()
