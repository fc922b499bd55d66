"""Why a network that starts at random collapses against the memory bank, and what holds it back.

    python -m benchmarks.bank --data=digits --workdir=runs/bank
    python -m benchmarks.bank --data=cifar10 --ways batch bank "bank alone" --workdir=runs/bank \\
        --folder=FOLDER_OF_CIFAR --out=benchmarks/results/bank_cpu.json

Trains small networks in several ways and after every epoch measures, on training images: the square
of the mean code (`common`), the spread of the classes' means around it (`spread`), that of images
around their class (`within`), and how far the bank's rows are from what the network now gives
(`drift`; `drift_common` is the square of the mean difference). At the end, mAP in the expectation
over ties: all queries, and 5,000 images of the database, evenly spaced. What the workdir has is not
repeated, and --out writes all of it.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import record_file, run_and_exit, write_record
from configs import cifar10_32px, cifar10_features, digits, fashion_mnist
from hybridhash_jax import metrics
from hybridhash_jax.codes.binary import binarize
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.distributed.state_sharding import compile_on_batches
from hybridhash_jax.experiment import Experiment, create_experiment
from hybridhash_jax.image_sources import create_dataset
from hybridhash_jax.methods import METHODS, Examples, hybridhash
from hybridhash_jax.methods.memory_bank import create_bank, update_bank
from hybridhash_jax.methods.method import everywhere
from hybridhash_jax.methods.pairwise.pairs import pairs_within
from hybridhash_jax.report.figures import BLUE, GREEN, VERMILLION, figure, legend_below
from input_pipeline.atomic_file import write_atomically
from input_pipeline.dataset import Dataset

_DATABASE, _LOOKED_AT = 5_000, 1_000  # images searched; training images measured every epoch

# A network of 4x4 tokens, which learns the digits in seconds; and one of 8x8, for 32 pixels.
_OF_4X4 = {
    "model.image_size": 8, "model.patch_size": 2, "model.embed_dims": (32, 32),
    "model.num_heads": (2, 2), "model.depths": (1, 1), "model.token_heads": 2,
}  # fmt: skip
_AT_32 = {
    "model.variant": "demo_16px", "model.image_size": 32, "model.patch_size": 4,
    "batch_size": 64, "num_devices": 1, "optimizer.learning_rate": 1e-3, "loss.alpha": 0.5,
    "optimizer.warmup_epochs": 2.0,
}  # fmt: skip
_CIFAR = {**_AT_32, "data.protocol": "cifar10"}
_FINE_TUNED = {"num_epochs": 3, "optimizer.learning_rate": 3e-4}
DATA: dict[str, tuple[Any, dict[str, Any]]] = {
    "digits": (digits, {"num_epochs": 10, **_OF_4X4}),
    "fashion_mnist": (fashion_mnist, {**_AT_32, "num_epochs": 5, "data.protocol": "5k"}),
    "cifar10": (cifar10_32px, {**_CIFAR, "num_epochs": 6}),
    "cifar10, 15 epochs": (cifar10_32px, {**_CIFAR, "num_epochs": 15}),
    "cifar10, pre-trained": (cifar10_32px, {**_CIFAR, **_FINE_TUNED}),
    "cifar10 features": (cifar10_features, {"batch_size": 64, "num_devices": 1}),
}
_ALONE = {"loss.pairs": "bank", "loss.batch_weight": 0.0}
_BESIDE = {"loss.pairs": "bank", "loss.batch_weight": 1.0}
_DPSH = {"method.name": "dpsh", "dpsh.variant": "deephash"}
_DSH = {"method.name": "dsh", "dsh.variant": "deephash"}
WAYS: dict[str, dict[str, Any]] = {
    "batch": {"loss.pairs": "batch"},
    "bank alone": _ALONE,
    "bank": _BESIDE,
    "bank, weight 0.5": _ALONE | {"loss.batch_weight": 0.5},
    "bank, weight 0.25": _ALONE | {"loss.batch_weight": 0.25},
    "bank after 3 epochs": _BESIDE | {"loss.start_epochs": 3},
    "bank alone after 3 epochs": _ALONE | {"loss.start_epochs": 3},
    "bank alone, centred": _ALONE | {"loss.centred": True},
    "bank, centred": _BESIDE | {"loss.centred": True},
    "bank alone, momentum 0.5": _ALONE | {"loss.momentum": 0.5},
    "bank alone, last 5 steps": _ALONE | {"loss.age": 5},
    "bank alone, last 2 steps": _ALONE | {"loss.age": 2},
    "bank alone, rate 5e-4": _ALONE | {"optimizer.learning_rate": 5e-4},
    "batch, one side": {"loss.pairs": "batch", "loss.one_sided": True},
    "batch, clipped at half": {"loss.pairs": "batch", "optimizer.clip_norm": 0.5},
    "dpsh, bank alone": {"method.name": "dpsh", "dpsh.batch_weight": 0.0},
    "dpsh, bank": {"method.name": "dpsh", "dpsh.batch_weight": 1.0},
    "dpsh deephash, bank alone": _DPSH | {"dpsh.batch_weight": 0.0},
    "dpsh deephash, bank": _DPSH | {"dpsh.batch_weight": 1.0},
    "dsh deephash, bank alone": _DSH | {"dsh.batch_weight": 0.0},
    "dsh deephash, bank": _DSH | {"dsh.batch_weight": 1.0},
    "dtsh official": {"method.name": "dtsh", "dtsh.variant": "official"},
}


@dataclasses.dataclass(frozen=True)
class Tried(hybridhash.HybridHash):
    """HybridHash, which keeps a bank in any case, with what was tried against the collapse.

    `start_epochs`: the batch's own pairs alone until then. `age`: only rows of the last so many
    steps. `momentum`: the share of a row that stays when it is written. `centred`: the mean of the
    rows is taken from each. `one_sided`: no gradient through the second side of pairs in a batch.
    """

    start_epochs: int = 0
    steps_per_epoch: int = 0
    age: int | None = None
    momentum: float = 0.0
    centred: bool = False
    one_sided: bool = False

    def init_state(self, labels: jax.Array, bits: int, key: jax.Array) -> Any:
        """The bank, and the step in which each row was written."""
        bank = create_bank(len(labels), bits, labels.shape[1])
        return bank, jnp.zeros(len(bank.seen), jnp.int32)

    def row_leaves(self, state: Any) -> Any:
        """All of it."""
        return everywhere(True, state)

    def loss(
        self, outputs: jax.Array, examples: Examples, state: Any, step: jax.Array
    ) -> tuple[jax.Array, Any]:
        """HybridHash's own, unless something is tried."""
        (bank, written), index = state, examples.index
        written = written.at[index].set(step, mode="drop")
        if self.pairs == "batch":
            value, _ = super().loss(outputs, examples, None, step)
            if self.one_sided:
                value = self._of_one_side(outputs, examples)
            return value, (update_bank(bank, index, outputs, examples.labels), written)
        if not (self.start_epochs or self.age or self.momentum or self.centred):
            value, bank = super().loss(outputs, examples, bank, step)
            return value, (bank, written)
        labels, mask = examples.labels, examples.mask
        at = jnp.minimum(index, len(bank.seen) - 1)
        kept = self.momentum * bank.seen[at][:, None].astype(jnp.float32)
        rows = kept * bank.embeddings[at] + (1 - kept) * outputs
        bank = update_bank(bank, index, rows, labels)
        used = bank
        if self.age:
            used = dataclasses.replace(bank, seen=bank.seen & (step - written < self.age))
        if self.centred:
            mean = bank.embeddings.sum(0) / bank.seen.sum(dtype=jnp.float32)
            used = dataclasses.replace(bank, embeddings=bank.embeddings - mean)
        alpha = self._alpha(outputs)
        of_bank = hybridhash.bank_loss(outputs, labels, mask, used, alpha=alpha, unseen=self.unseen)
        of_batch = hybridhash.batch_loss(outputs, labels, mask, alpha=alpha)
        begun = step >= self.start_epochs * self.steps_per_epoch
        weight = self.weight_of_batch
        return jnp.where(begun, of_bank + weight * of_batch, of_batch), (bank, written)

    def _alpha(self, outputs: jax.Array) -> float:
        return hybridhash.alpha_for(self.alpha, outputs.shape[1])

    def _of_one_side(self, outputs: jax.Array, examples: Examples) -> jax.Array:
        others, labels = jax.lax.stop_gradient(outputs), examples.labels
        alpha, pair_mask = self._alpha(outputs), pairs_within(examples.mask)
        return hybridhash.pair_sums(outputs, labels, others, labels, pair_mask, alpha=alpha).loss()


def _config(data: str, way: str, seed: int, folder: Path | None, weights: Path | None) -> Any:
    module, fields = DATA[data]
    config = module.get_config()
    config.loss.update({"start_epochs": 0, "steps_per_epoch": 0, "age": 0, "momentum": 0.0})
    config.loss.centred = config.loss.one_sided = False
    places = {"data.dir": folder and str(folder)}
    if data == "cifar10, pre-trained":
        places["init.weights"] = str(weights)
    config.update_from_flattened_dict(fields | WAYS[way] | {"seed": seed} | places)
    return config


def _dataset(config: Any) -> Dataset:
    """The data set with `_DATABASE` images of its database."""
    dataset = create_dataset(config)
    every = max(1, len(dataset.splits.database) // _DATABASE)
    database = dataset.splits.database[::every][:_DATABASE]
    splits = dataclasses.replace(dataset.splits, database=database)
    return dataclasses.replace(dataset, splits=splits)


def _encoded(experiment: Experiment, encode: Any, state: Any, rows: np.ndarray) -> np.ndarray:
    with contextlib.closing(experiment.eval_batches(rows)) as batches:
        images = (sharding.put_batch(batch, experiment.mesh)["image"] for batch in batches)
        found = [np.asarray(encode(state.params, inputs)) for inputs in images]
    return np.concatenate(found)[: len(rows)]


def _measures(codes: np.ndarray, labels: np.ndarray, bank: np.ndarray) -> dict[str, float]:
    """See the module's docstring; of codes [n, K] of images and their rows of the bank."""
    shares = labels / labels.sum(0)
    means = shares.T @ codes
    of_class, mean = means[labels.argmax(1)], codes.mean(0)
    moved = codes - bank
    squares = {
        "common": np.square(mean).sum(),
        "spread": np.square(of_class - mean).sum(1).mean(),
        "within": np.square(codes - of_class).sum(1).mean(),
        "drift": np.square(moved).sum(1).mean(),
        "drift_common": np.square(moved.mean(0)).sum(),
    }
    return {name: round(float(value), 4) for name, value in squares.items()}


def run(
    data: str, way: str, seed: int, folder: Path | None = None, weights: Path | None = None
) -> dict[str, Any]:
    """Trains once; the record of the run."""
    started = time.process_time()
    METHODS["hybridhash"] = Tried
    config = _config(data, way, seed, folder, weights)
    dataset = _dataset(config)
    config.loss.steps_per_epoch = steps = -(-len(dataset.splits.train) // config.batch_size)
    exp = create_experiment(config.lock(), dataset)
    state = exp.create_state()
    if config.init.weights is not None:
        state, _ = exp.load_weights(state)
    exp.open_features(state.params)
    state = exp.begin(state)
    encode = compile_on_batches(exp.apply, exp.mesh, exp.layout)
    every = max(1, len(exp.train_rows) // _LOOKED_AT)
    rows, batches = exp.train_rows[::every], exp.train_batches(0)
    curve, losses = [], []
    for step in range(exp.total_steps):
        batch = sharding.put_batch(next(batches), exp.mesh)
        state, found = exp.train_step(state, batch, exp.run_key)
        losses.append(float(found["loss"]))
        if exp.order.ends_epoch(step + 1):
            codes = _encoded(exp, encode, state, rows)
            bank = state.method[0] if isinstance(state.method, tuple) else state.method
            bank = np.asarray(bank.embeddings)[: len(exp.train_rows) : every]
            of_epoch = _measures(codes, dataset.labels[rows].astype(np.float32), bank)
            of_epoch["loss"] = round(float(np.mean(losses[-steps:])), 4)
            curve.append(of_epoch)
            print(f"  epoch {len(curve)}: {of_epoch}", flush=True)
    batches.close()
    sides = []
    for part in (dataset.splits.query, dataset.splits.database):
        sides += [binarize(_encoded(exp, encode, state, part)), dataset.labels[part]]
    exp.close()
    return {
        "data": data,
        "way": way,
        "seed": seed,
        "map_expected": round(float(metrics.mean_average_precision(*sides)), 4),
        "cpu_seconds": round(time.process_time() - started),
        "epochs": curve,
    }


def draw(path: Path, records: list[dict[str, Any]]) -> None:
    """Draws what codes of CIFAR-10 have in common, and what tells classes apart, by epoch."""
    looks = {"batch": (BLUE, "--"), "bank": (GREEN, "-"), "bank alone": (VERMILLION, ":")}
    with figure(path, "", 4.4, rows=2) as (drawn, axes):
        for way, (color, line) in looks.items():
            own = [r for r in records if (r["data"], r["way"], r["seed"]) == ("cifar10", way, 0)]
            if not own:
                raise ValueError(f"nothing to draw: there is no run of cifar10, {way}, seed 0")
            for of_axes, name in zip(axes, ("common", "spread"), strict=True):
                values = {n: e[name] for r in own for n, e in enumerate(r["epochs"], 1)}
                of_axes.plot(
                    *zip(*values.items(), strict=True), line, color=color, marker="o", label=way
                )
        axes[0].set_ylabel("common part\n(of 32 at most)")
        axes[1].set(xlabel="epoch", ylabel="spread of classes")
        legend_below(drawn, axes[1], 3)


def main() -> None:
    """Runs what is missing, then prints and writes all that is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=DATA, help="none: only what is there is shown")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, help="of the data set's files")
    parser.add_argument("--weights", type=Path, help="the workdir of what is pre-trained")
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--out", type=record_file, help="where to write the record")
    parser.add_argument("--figure", type=Path, help="where to draw CIFAR-10's curves of seed 0")
    options = parser.parse_args()
    if options.data == "cifar10, pre-trained" and options.weights is None:
        parser.error("give --weights, the workdir of what is pre-trained")
    options.workdir.mkdir(parents=True, exist_ok=True)
    for way, seed in itertools.product(options.ways if options.data else (), options.seeds):
        path = options.workdir / f"{options.data}, {way}, seed {seed}.json"
        if not path.exists():
            print(f"{options.data}, {way}, seed {seed}", flush=True)
            found = run(options.data, way, seed, options.folder, options.weights)
            write_atomically(path, json.dumps(found).encode())
    records = [json.loads(path.read_text()) for path in sorted(options.workdir.glob("*.json"))]
    if not records:
        raise ValueError(f"{options.workdir} has no runs; say with --data what shall run")
    for data, way in itertools.product(DATA, WAYS):
        if own := [r["map_expected"] for r in records if (r["data"], r["way"]) == (data, way)]:
            ends = f"{min(own):.3f} to {max(own):.3f} ({len(own)})"
            print(f"{data:<20}{way:<30}{np.mean(own):.3f}  {ends}")
    if options.figure is not None:
        draw(options.figure, records)
    if options.out is not None:
        of_data = {name: fields for name, (_, fields) in DATA.items()}
        for record in records:  # a line a measure
            curve = record["epochs"]
            record["epochs"] = {n: " ".join(str(e[n]) for e in curve) for n in curve[0]}
        write_record(options.out, ("jax", "flax", "optax"), data=of_data, ways=WAYS, runs=records)


if __name__ == "__main__":
    run_and_exit(main, "what is finished is kept; the same command goes on")
