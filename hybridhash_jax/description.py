"""What will run, said before it does."""

from typing import Any

import jax
import jax.numpy as jnp

from hybridhash_jax.configured import compute_dtype
from hybridhash_jax.experiment import Experiment
from hybridhash_jax.methods.bank_pairs import OF_BANKS, BankMethod
from input_pipeline.messages import counted, shortened


def describe(experiment: Experiment, parameters: str | None = None) -> str:
    """What will run, in a few lines; of an evaluation, whose `parameters` are named."""
    exp = experiment
    config, splits, mesh = exp.config, exp.dataset.splits, exp.mesh
    size = f"{exp.num_parameters:,} parameters, {exp.gflop_per_image:.3g} GFLOP forward"
    data = f"data: {exp.dataset.name}, protocol {exp.dataset.protocol}: "
    data += f"{len(exp.train_rows):,} training"
    if exp.method.learns == "classes":
        model = f"{config.model.variant} as a classifier: {size} an image"
        data += f" and {len(splits.query):,} validation images, {exp.num_classes} classes"
    else:
        model = f"{config.method.name}, {config.model.variant}, {exp.bits} bits: {size} an image"
        held_out = f" ({len(exp.held_out):,} held out)" if len(exp.held_out) else ""
        cut_off = "all" if exp.top_k is None else f"the first {exp.top_k:,}"
        data += (
            f"{held_out}, {len(splits.query):,} query and {len(splits.database):,} database "
            f"images, {exp.num_classes} classes; mAP over {cut_off}"
        )
    rates = config.optimizer.learning_rate_factors
    options = ", ".join(f"{k} {v}" for k, v in _options(exp).items())
    training = (
        f"training: {counted(config.num_epochs, 'epoch')} of {counted(exp.steps_per_epoch, 'step')}, batch "
        f"{config.batch_size}; {config.optimizer.name}, learning rate "
        f"{config.optimizer.learning_rate:g} ({config.optimizer.schedule})"
        + (f"; rates times {', '.join(rates)}" if rates else "")
        + (f"; frozen: {', '.join(config.optimizer.frozen)}" if config.optimizer.frozen else "")
    )
    if exp.method.is_fitted:
        training = "training: none; the method is fitted to the features of training images"
    dtype = jnp.dtype(compute_dtype(config.model.dtype)).name
    devices = (
        f"devices: {mesh.size} x {mesh.devices.flat[0].device_kind}, {jax.process_count()} "
        f"process(es); {exp.layout.describe()}; computing in {dtype}"
    )
    lines = [
        model,
        f"parameters: {parameters}" if parameters else f"parameters start from: {exp.init_note}",
        data,
        f"      {exp.dataset.provenance}",
        f"      {_classes(exp)}",
        devices,
    ]
    if parameters is None:
        lines += [training, *([f"          {options}"] if options else [])]
        if exp.kept:
            lines.append(f"features: {exp.kept.describe()}")
    return "\n".join(lines)


def _options(exp: Experiment) -> dict[str, Any]:
    """The method's fields that mean something in this run, a None of the bank's filled in."""
    method, options = exp.method, dict(exp.config[exp.method.group].items())
    if isinstance(method, BankMethod) and method.uses_bank:
        return options | {"batch_weight": method.weight_of_batch}
    return {name: value for name, value in options.items() if name not in OF_BANKS}


def _classes(exp: Experiment) -> str:
    """The classes with their training images, ten of them."""
    if not len(exp.train_rows):
        return f"classes: {shortened(exp.dataset.class_names, 10)}"
    counts = exp.dataset.labels[exp.train_rows].sum(axis=0, dtype=int).tolist()
    named = [f"{name} {n:,}" for name, n in zip(exp.dataset.class_names, counts, strict=True)]
    told = f"training images of each class: {shortened(named, 10)}"
    if missing := [name for name, n in zip(exp.dataset.class_names, counts, strict=True) if not n]:
        told += f"\n      {len(missing):,} without any: {shortened(missing)}"
    return told
