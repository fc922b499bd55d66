"""What the TPU compiler makes of the training step and the encoder, without a TPU.

Run by hand, with requirements-tpu-compile.txt installed:

    python -m benchmarks.tpu_compile --out=benchmarks/results/tpu_compile.json

Compiled, not run: libtpu compiles for a topology that is only named. Recorded are whether a program
compiles and fits, the memory of a chip, and what chips send each other, beside the bytes that
benchmarks.communication computes. A program of the published network takes minutes of a core. Each is
in the record as soon as it is compiled, and is not compiled again; the same command goes on with the
rest. --only_table prints the record's table, which is the one in docs/pods.md.
"""

import argparse
import dataclasses
import datetime
import importlib.util
import itertools
import json
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

# No chip is looked for, and libtpu asks no cloud which machine this is.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies

from benchmarks import compiled_text
from benchmarks.communication import bank_bytes
from benchmarks.measure import record_file, run_and_exit
from configs import cifar10
from hybridhash_jax.evaluators.codes import CodeEvaluator
from hybridhash_jax.experiment import Experiment, create_experiment
from hybridhash_jax.models import VARIANTS
from input_pipeline.atomic_file import write_atomically
from input_pipeline.commands import positive
from input_pipeline.dataset import Dataset
from input_pipeline.splits import Splits

BITS, CLASSES, SIDE, IMAGES = 64, 10, 32, 50_000
PROGRAMS = ("train_step", "encode")
_PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax", "numpy")
_TOLD = ("all-gather", "all-reduce", "reduce-scatter", "collective-permute")
_DOES_NOT_FIT = re.compile(r"Used ([\d.]+)([GMK]) of ([\d.]+)([GMK]) hbm")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One program: what is compiled, for what.

    Attributes:
      topology: a name that libtpu knows, such as v5e:2x2.
      images_per_chip: the batch is that times the chips.
      fsdp: chips that parameters lie apart over, 1 for none; 0 stands for all.
    """

    variant: str
    program: str
    topology: str
    images_per_chip: int
    fsdp: int
    remat: str

    @property
    def name(self) -> str:
        """Its name in the record."""
        return " ".join(f"{key}={value}" for key, value in dataclasses.asdict(self).items())


def cells(args: argparse.Namespace) -> Iterator[Cell]:
    """Those that are asked for; an encoder has no backward pass to compute anything again in."""
    axes = (args.topologies, args.images_per_chip, args.fsdp, args.remat)
    for program, (topology, images, fsdp, remat) in itertools.product(
        args.programs, itertools.product(*axes)
    ):
        if program == "train_step" or remat == args.remat[0]:
            kept = remat if program == "train_step" else "none"
            yield Cell(args.variant, program, topology, images, fsdp, kept)


def black_images(count: int) -> Dataset:
    """A data set of the shapes of CIFAR-10 whose images take no memory."""
    rows, queries = np.arange(count), np.arange(100)
    return Dataset(
        name="cifar10",
        protocol="cifar10-1",
        class_names=tuple("0123456789"),
        images=np.broadcast_to(np.uint8(0), (count, SIDE, SIDE, 3)),
        labels=np.eye(CLASSES, dtype=np.uint8)[rows % CLASSES],
        splits=Splits(rows, queries, rows),
        top_k=None,
        provenance="made here",
        official=None,
        checksum="0",
    )


def described_experiment(cell: Cell) -> Experiment:
    """configs/cifar10.py in bfloat16 on the chips of a topology."""
    devices = topologies.get_topology_desc(platform="tpu", topology_name=cell.topology).devices
    config = cifar10.get_config()
    config.model.variant, config.model.dtype = cell.variant, "bfloat16"
    config.model.remat, config.mesh.fsdp = cell.remat, cell.fsdp or len(devices)
    config.batch_size = config.evaluation.batch_size = cell.images_per_chip * len(devices)
    images = max(IMAGES, config.batch_size)
    return create_experiment(config.lock(), black_images(images), BITS, devices=devices)


def lowered(cell: Cell, experiment: Experiment) -> Any:
    """The program, from shapes alone."""

    def shape(dtype: Any, *sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((experiment.config.batch_size, *sizes), dtype)

    images, state = shape(jnp.uint8, SIDE, SIDE, 3), experiment.layout.state
    if cell.program == "encode":
        program: Any = CodeEvaluator(experiment).encode
        traced = program.trace(state.params, images)
    else:
        program = experiment.train_step
        batch = {"image": images, "label": shape(jnp.uint8, CLASSES)}
        batch |= {"index": shape(jnp.int32), "mask": shape(jnp.bool)}
        traced = program.trace(state, batch, jax.eval_shape(lambda: jax.random.key(0)))
    return traced.lower(lowering_platforms=("tpu",))


def compile_cell(cell: Cell, texts: Path | None = None) -> dict[str, Any]:
    """The record of a cell. The optimised program is written into the folder `texts`."""
    experiment = described_experiment(cell)
    record: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
        "chips": experiment.mesh.size,
        "mesh": dict(experiment.mesh.shape),
        "arithmetic": arithmetic(cell, experiment),
    }
    program = lowered(cell, experiment)
    started = time.perf_counter(), time.process_time()
    try:
        compiled = program.compile()
    except jax.errors.JaxRuntimeError as error:
        match = _DOES_NOT_FIT.search(str(error))
        if match is None:
            raise
        used, limit = (float(match[i]) * _UNITS[match[i + 1]] for i in (1, 3))
        return record | {"fits": False, "needed_bytes": int(used), "chip_bytes": int(limit)}
    record["compile_seconds"] = round(time.perf_counter() - started[0], 1)
    record["compile_core_seconds"] = round(time.process_time() - started[1], 1)
    memory, text = compiled.memory_analysis(), compiled.as_text()
    if texts is not None:
        texts.mkdir(parents=True, exist_ok=True)
        (texts / re.sub(r"[ :]", "_", f"{cell.name}.txt")).write_text(text)
    return record | {
        "fits": True,
        "memory_bytes": {
            "arguments": memory.argument_size_in_bytes,
            "working": memory.temp_size_in_bytes,
            "outputs_beside_arguments": memory.output_size_in_bytes - memory.alias_size_in_bytes,
            "program": memory.generated_code_size_in_bytes,
        },
        **of_text(text),
    }


def of_text(text: str) -> dict[str, Any]:
    """What is recorded of an optimised program; cycles are the compiler's own estimates."""
    parts = compiled_text.parts_of(text)
    return {
        "collectives": compiled_text.summary(compiled_text.collectives(text)),
        "estimated_cycles": sum(part.cycles * part.times for part in parts),
        "slowest_by_estimate": [part._asdict() for part in parts[:8]],
    }


def arithmetic(cell: Cell, experiment: Experiment) -> dict[str, int]:
    """Bytes a step of what docs/pods.md counts, as float32; see `benchmarks.communication`."""
    gathered, summed = bank_bytes(experiment.config.batch_size, BITS, CLASSES)
    parameters = 4 * experiment.num_parameters
    if cell.program == "encode":
        return {"parameters": parameters, "codes": experiment.config.batch_size * BITS // 8}
    return {"parameters": parameters, "bank_gathered": gathered, "bank_summed": summed}


def table(record: dict[str, Any]) -> str:
    """Markdown, a row a cell of the record."""
    columns = (
        "chips", "network", "program", "images a chip", "layout", "remat", "memory a chip",
        "estimated cycles", "gathered", "summed", "summed into parts",
        "passed on", "compiled in",
    )  # fmt: skip
    rows = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for own in record["cells"].values():
        cell = own["cell"]
        kind, _, shape = cell["topology"].partition(":")
        row = [f"{own['chips']} x TPU {kind} ({shape})", cell["variant"], cell["program"]]
        row.append(cell["images_per_chip"])
        row += ["fsdp" if own["mesh"]["fsdp"] > 1 else "data", cell["remat"]]
        if own["fits"]:
            row.append(f"{sum(own['memory_bytes'].values()) / 2**30:.2g} GiB")
            row.append(f"{own['estimated_cycles'] / 1e6:.0f} million")
            row += [_sent(own, kind) for kind in _TOLD]
            row.append(f"{own['compile_core_seconds']:.0f} s")
        else:
            row += [f"**does not fit**: {own['needed_bytes'] / 2**30:.1f} GiB", *["-"] * 6]
        rows.append(f"| {' | '.join(str(x) for x in row)} |")
    return "\n".join(rows)


def _sent(own: dict[str, Any], kind: str) -> str:
    """Megabytes by the type of numbers and how many messages, as "111.2 MB bf16 in 2"."""
    rows = [row for row in own["collectives"] if row["kind"] == kind]
    large = [row for row in rows if row["bytes"] >= 50_000]
    texts = [
        f"{row['bytes'] / 1e6:.1f} MB {'+'.join(row['types'])} in {row['messages']}"
        for row in large
    ]
    if small := [row for row in rows if row not in large]:
        texts.append(f"{sum(row['messages'] for row in small)} small")
    return ", ".join(texts) or "-"


def make_parser() -> argparse.ArgumentParser:
    """The flags; lists make a grid."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variant", choices=VARIANTS, default="paper")
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    known = ["v5e:2x2", "v5e:4x8", "v5e:16x16", "v6e:2x2"]
    parser.add_argument("--topologies", nargs="+", default=known, help=" ".join(known))
    parser.add_argument("--images_per_chip", type=positive, nargs="+", default=[64, 128, 256])
    parser.add_argument("--fsdp", type=int, nargs="+", default=[1, 0], help="chips; 0: all")
    remat = ["none", "dots", "layers"]
    parser.add_argument("--remat", nargs="+", choices=remat, default=remat)
    parser.add_argument("--limit", type=positive, help="compile at most so many cells")
    parser.add_argument("--texts", type=Path, help="folder for the optimised programs")
    parser.add_argument(
        "--out", type=record_file, default=Path("benchmarks/results/tpu_compile.json")
    )
    parser.add_argument("--only_table", action="store_true", help="compile nothing")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Compiles what is missing and prints the table."""
    args = make_parser().parse_args(arguments)
    record = {"what": "compiled, not run", "cells": {}}
    if args.only_table and not args.out.exists():
        raise ValueError(f"{args.out} is not there; without --only_table it is made")
    if args.out.exists():
        record = json.loads(args.out.read_text())
    if not args.only_table:
        if importlib.util.find_spec("libtpu") is None:
            sys.exit("libtpu is missing: pip install -r requirements-tpu-compile.txt")
        missing = [cell for cell in cells(args) if cell.name not in record["cells"]]
        for cell in missing[: args.limit]:
            print(f"compiling {cell.name}", flush=True)
            found = compile_cell(cell, args.texts)
            record["cells"][cell.name] = {"cell": dataclasses.asdict(cell), **found}
            args.out.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(args.out, (json.dumps(record, indent=1) + "\n").encode())
    print(table(record))


if __name__ == "__main__":
    run_and_exit(main, "what is compiled is kept; the same command goes on")
