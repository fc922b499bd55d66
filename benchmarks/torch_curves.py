"""The same network, data, seed and loss trained here and in PyTorch: losses step by step, and mAP.

    python -m benchmarks.torch_curves --config=configs/fashion_mnist.py --torch_python=PATH \\
      --out=benchmarks/results/torch_curves.json

Both start from the same weights (ours, written under the authors' names), see the same batches in
the same order, and are measured by the same metrics. Augmentation and stochastic depth are off, all
is float32. A third run, PyTorch again from weights that differ in their last digit, shows how
far rounding alone carries. Then our trained weights make the reverse trip: loaded into the PyTorch
network, they must give our mAP. `benchmarks.torch_curves_figure` draws the record.
"""

import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from absl import logging as absl_logging
from flax import nnx
from ml_collections import config_flags

from benchmarks.measure import write_record
from benchmarks.torch_baseline import TorchWorker
from hybridhash_jax import metrics
from hybridhash_jax.codes.binary import binarize
from hybridhash_jax.config_fields import Config
from hybridhash_jax.configured import checked_run
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.experiment import Experiment, create_experiment
from hybridhash_jax.image_sources import create_dataset
from hybridhash_jax.methods.hybridhash import alpha_for
from hybridhash_jax.models import VARIANTS
from hybridhash_jax.optimizer import weight_decay_mask
from hybridhash_jax.parameters import map_paths, parameter_paths
from hybridhash_jax.preprocess import pixels
from hybridhash_jax.pretrained.names import torch_names
from hybridhash_jax.pretrained.network import describe_network
from hybridhash_jax.pretrained.sources import Source
from hybridhash_jax.pretrained.writing import encode
from hybridhash_jax.runtime import host_memory

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file("config", None, "The configuration: a file of configs/.")
flags.DEFINE_string("torch_python", sys.executable, "Interpreter that has torch.")
flags.DEFINE_integer("steps", 200, "Steps of each run.", lower_bound=2)
flags.DEFINE_list("seeds", ["0", "1", "2"], "Of the initial weights and the order of the images.")
flags.DEFINE_integer("torch_threads", None, "Of PyTorch; None: its own choice.")
flags.DEFINE_bool("noise", True, "Of the first seed also a run from weights that differ a little.")
flags.DEFINE_integer("queries", 1000, "Images that are searched for, drawn from the queries.")
flags.DEFINE_integer("database", 10_000, "Images among them, drawn from the database.")
flags.DEFINE_string("out", None, "JSON file for the figures.")

_SEED = 0  # of the queries and the database images that are drawn
_TOLERANCE = 1e-5  # of the first loss, relative
_BATCH = 250  # images that are encoded at once
_TOLD = ("name", "learning_rate", "schedule", "warmup_epochs", "weight_decay", "clip_norm")
_NOISE = 1e-7  # relative; float32 has steps of 6e-8 to 1.2e-7
Arrays = dict[str, np.ndarray]


def main(_: list[str]) -> None:
    absl_logging.set_verbosity(absl_logging.ERROR)
    host_memory.compute_on_calling_thread()  # as main.py does
    worker = TorchWorker(FLAGS.torch_python, "benchmarks.torch_training")
    for number, seed in enumerate(map(int, FLAGS.seeds)):
        config = checked_run(_without_chance(FLAGS.config, seed))
        plan = create_experiment(config, create_dataset(config))
        noisy = FLAGS.noise and number == 0
        with contextlib.closing(plan), tempfile.TemporaryDirectory() as folder:
            run = {"seed": seed} | run_pair(plan, worker, Path(folder), noisy=noisy)
        print(summary(run), flush=True)
        if FLAGS.out:  # after every seed: what a stopped run has is kept
            add_to_record(Path(FLAGS.out), run, plan, worker.version)


def add_to_record(path: Path, run: dict[str, Any], plan: Experiment, torch: str) -> None:
    """Writes the run beside those of other seeds that a record of the same settings has."""
    config = plan.config
    told: dict[str, Any] = {
        "torch": torch,
        "data": plan.dataset.provenance,
        "protocol": config.data.protocol,
        "variant": config.model.variant,
        "bits": plan.bits,
        "batch_size": config.batch_size,
        "loss": dict(config.loss),
        "optimizer": {name: config.optimizer[name] for name in _TOLD},
        "queries": FLAGS.queries,
        "database": FLAGS.database,
    }
    old = json.loads(path.read_text()) if path.exists() else {"runs": []}
    same = all(old.get(name) == value for name, value in told.items())
    kept = [r for r in old["runs"] if r["seed"] != run["seed"]] if same else []
    runs = sorted([*kept, run], key=lambda r: r["seed"])
    write_record(path, ("jax", "jaxlib", "flax", "optax", "numpy"), **told, runs=runs)


def _without_chance(config: Config, seed: int) -> Config:
    """A copy with this seed, and without what the two programs would draw differently."""
    config = config.copy_and_resolve_references()
    if config.loss.batch_weight:
        raise app.UsageError(
            "--config.loss.batch_weight: PyTorch's side has the bank alone; leave it out"
        )
    if config.loss.pairs == "bank":  # of pairs in the batch it means nothing
        config.loss.batch_weight = 0.0
    config.seed = seed
    config.model.dtype = "float32"
    config.model.drop_path_rate = 0.0
    config.data.horizontal_flip = False
    config.data.crop_padding = 0
    return config


def run_pair(plan: Experiment, worker: TorchWorker, folder: Path, *, noisy: bool) -> dict[str, Any]:
    """Trains both, measures both, and makes the reverse trip; files lie in `folder`."""
    batches = [batch for batch, _ in zip(plan.train_batches(0), range(FLAGS.steps), strict=False)]
    if not all(batch["mask"].all() for batch in batches):
        raise app.UsageError(
            f"{FLAGS.steps} steps of {plan.config.batch_size} reach an epoch's last batch, which has "
            "padding; give fewer --steps, or a --config.batch_size that divides the training images"
        )
    sides = {
        side: drawn(getattr(plan.dataset.splits, side), count)
        for side, count in (("query", FLAGS.queries), ("database", FLAGS.database))
    }
    images = {side: prepared(plan, read(plan, rows)) for side, rows in sides.items()}
    labels = {side: plan.dataset.labels[rows] for side, rows in sides.items()}
    state = plan.create_state()
    first, trained = folder / "first.safetensors", folder / "trained.safetensors"
    write_weights(plan, state.params, first)
    ours, state = train(plan, state, batches)
    write_weights(plan, state.params, trained)
    ours |= {side: embed(plan, state.params, images[side]) for side in sides}
    write_arrays(plan, batches, ours["rates"], images, folder / "arrays.npz")
    (folder / "settings.json").write_text(json.dumps(settings(plan, state.params)))

    def in_torch(weights: Path, **options: Any) -> Arrays:
        out = folder / "out.npz"
        paths = {"arrays": folder / "arrays.npz", "settings": folder / "settings.json"}
        paths |= {"weights": weights, "out": out}
        named = {name: str(path) for name, path in paths.items()}
        seconds = worker.prepare_with(**named, **options)()
        with np.load(out) as file:
            return {name: file[name] for name in file.files} | {"seconds": np.asarray(seconds)}

    theirs = in_torch(first, trains=True)
    if abs(theirs["loss"][0] / ours["loss"][0] - 1) > _TOLERANCE:
        raise RuntimeError(
            f"the first losses are {ours['loss'][0]} here and {theirs['loss'][0]} in PyTorch: from "
            "the same weights and images they must be equal, so the two do not compute the same"
        )
    record: dict[str, Any] = {
        name: {
            "loss": [float(f"{loss:.8g}") for loss in run["loss"]],
            "seconds": round(float(run["seconds"]), 1),
            "map": mean_average_precisions(run, labels),
        }
        for name, run in {
            "jax": ours,
            "torch": theirs,
            **({"torch_noisy": in_torch(first, trains=True, noise=_NOISE)} if noisy else {}),
        }.items()
    }
    return record | {"reverse": compared(ours, in_torch(trained, trains=False), labels)}


def drawn(rows: np.ndarray, count: int) -> np.ndarray:
    """`count` of the rows, all where there are not more, in their order."""
    if count >= len(rows):
        return rows
    return rows[np.sort(np.random.default_rng(_SEED).permutation(len(rows))[:count])]


def read(plan: Experiment, rows: np.ndarray) -> np.ndarray:
    """The images of these rows of the data set, as they are."""
    with contextlib.closing(plan.eval_batches(rows)) as batches:
        return np.concatenate([batch["image"][batch["mask"]] for batch in batches])


def prepared(plan: Experiment, images: np.ndarray) -> np.ndarray:
    """uint8 [N, size, size, 3] as the network sees them before they are normalised."""
    parts = [jnp.asarray(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH)]
    whole = [pixels.complete(part, plan.image_size) for part in parts]
    return np.concatenate([np.asarray(pixels.resize(part, plan.image_size)) for part in whole])


def train(plan: Experiment, state: Any, batches: list[Any]) -> tuple[Arrays, Any]:
    """Takes the steps; the losses, the learning rates, and the seconds without compiling."""
    compiled: Any = plan.train_step
    lowered = compiled.lower(state, sharding.put_batch(batches[0], plan.mesh), plan.run_key)
    step, values, started = lowered.compile(), [], time.perf_counter()
    for batch in batches:
        state, metric = step(state, sharding.put_batch(batch, plan.mesh), plan.run_key)
        values.append(metric)
    values = jax.device_get(values)
    seconds = time.perf_counter() - started
    losses, rates = (np.asarray([v[name] for v in values]) for name in ("loss", "learning_rate"))
    return {"loss": losses, "rates": rates, "seconds": np.asarray(seconds)}, state


def embed(plan: Experiment, params: Any, images: np.ndarray) -> np.ndarray:
    """Our embeddings [N, bits]."""
    apply = jax.jit(plan.apply)
    parts = [images[i : i + _BATCH] for i in range(0, len(images), _BATCH)]
    return np.concatenate([np.asarray(apply(params, part)) for part in parts])


def arrays_of(network: Any) -> Arrays:
    """The parameters by path."""
    return {path: np.asarray(own[...]) for path, own in parameter_paths(network).items()}


def write_weights(plan: Experiment, params: Any, path: Path) -> None:
    """Our parameters under the authors' names."""
    network = nnx.merge(plan.graphdef, params)
    arrays, target = arrays_of(network), describe_network(network)
    source = Source("this run", "own run", arrays, {p: p for p in arrays}, heads=target.heads)
    path.write_bytes(encode(source, path).data)


def write_arrays(
    plan: Experiment, batches: list[Any], rates: np.ndarray, images: dict[str, Any], path: Path
) -> None:
    """What `torch_training.prepare` reads: every image once, and the order."""
    index = np.stack([batch["index"] for batch in batches]).astype(np.int64)
    rows, places = np.unique(index, return_inverse=True)
    pixels_of = np.concatenate([batch["image"] for batch in batches])
    classes = np.concatenate([batch["label"] for batch in batches])
    _, first = np.unique(index, return_index=True)
    content: dict[str, Any] = {
        "pixels": prepared(plan, pixels_of[first]),
        "labels": classes[first],
        "places": places.reshape(index.shape),
        "rows": index,
        "rates": rates,
    }
    np.savez(path, **content, **images)


def settings(plan: Experiment, params: Any) -> dict[str, Any]:
    """Sizes, loss and optimizer, as `torch_training` takes them."""
    config, optimizer = plan.config, dict(plan.config.optimizer)
    model = {name: value for name, value in dict(config.model).items() if value is not None}
    mask = weight_decay_mask(params, optimizer["weight_decay_exclude"])
    paths = jax.tree.leaves(map_paths(str, params))
    spared = {p for p, kept in zip(paths, jax.tree.leaves(mask), strict=True) if not kept}
    arrays = arrays_of(nnx.merge(plan.graphdef, params))
    named = [torch_names.TABLE.to_theirs(p, x) for p, x in arrays.items() if p in spared]
    return {
        "threads": FLAGS.torch_threads,
        "sizes": VARIANTS[model["variant"]] | model | {"bits": plan.bits},
        "loss": {"pairs": config.loss.pairs, "alpha": alpha_for(config.loss.alpha, plan.bits)},
        "optimizer": {
            name: optimizer[name] for name in ("name", "weight_decay", "clip_norm", "beta1", "beta2")
        } | {"no_decay": [found[0] for found in named if found]},
    }  # fmt: skip


def mean_average_precisions(run: Arrays, labels: Arrays) -> dict[str, float]:
    """mAP over all of the embeddings' codes, by tie rule."""
    codes = {side: binarize(run[side]) for side in labels}
    ranking = metrics.rank(codes["query"], labels["query"], codes["database"], labels["database"])
    return {
        ties: float(metrics.ranked_precisions(ranking, None, ties).mean())
        for ties in ("expected", "stable")
    }


def compared(ours: Arrays, theirs: Arrays, labels: Arrays) -> dict[str, Any]:
    """Our embeddings beside those of the PyTorch network with our weights."""
    sides = {side: (ours[side], theirs[side]) for side in labels}
    own, other = (mean_average_precisions(run, labels) for run in (ours, theirs))
    return {
        "map_stable": {"jax": own["stable"], "torch": other["stable"]},
        "largest_difference": max(float(np.abs(a - b).max()) for a, b in sides.values()),
        "bits": sum(a.size for a, _ in sides.values()),
        "bits_that_differ": sum(int((binarize(a) != binarize(b)).sum()) for a, b in sides.values()),
    }


def summary(run: dict[str, Any]) -> str:
    """A few lines for the terminal."""
    ours, theirs, reverse = run["jax"], run["torch"], run["reverse"]
    a, b = (np.asarray(x["loss"]) for x in (ours, theirs))
    relative = np.abs(a - b) / np.abs(a)
    maps = "; ".join(
        f"{name}: mAP {run[name]['map']['expected']:.4f}, {run[name]['seconds']} s"
        for name in ("jax", "torch", "torch_noisy")
        if name in run
    )
    steps = ", ".join(f"{relative[:n].max():.1e} (first {n})" for n in (1, 10, 50, len(a)))
    difference = abs(reverse["map_stable"]["jax"] - reverse["map_stable"]["torch"])
    return (
        f"seed {run['seed']}: {maps}\n  losses differ by at most {steps}, relative\n"
        f"  the reverse trip: mAP differs by {difference:.1e}, embeddings by at most "
        f"{reverse['largest_difference']:.1e}, {reverse['bits_that_differ']} of {reverse['bits']} bits"
    )


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main)
