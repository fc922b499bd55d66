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
import importlib.util
import itertools
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
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
from benchmarks.measure import (
    alone,
    made_with,
    new_folder,
    read_record,
    record_file,
    run_and_exit,
)
from benchmarks.tpu_table import table
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
# What the compiler says once it has placed everything, and where what it computes with is too much alone.
_DOES_NOT_FIT = (
    re.compile(r"Used ([\d.]+)([GMK]) of ([\d.]+)([GMK]) hbm"),
    re.compile(r"\(([\d.]+)([GMK])\) exceeds available HBM \(([\d.]+)([GMK])\)"),
)
_TOPOLOGIES = ["v5e:2x2", "v5e:4x8", "v5e:16x16", "v6e:2x2"]
_RECORD = Path("benchmarks/results/tpu_compile.json")
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
        **made_with(_PACKAGES),
        "chips": experiment.mesh.size,
        "mesh": dict(experiment.mesh.shape),
        "arithmetic": arithmetic(cell, experiment),
    }
    program = lowered(cell, experiment)
    started = time.perf_counter(), time.process_time()
    try:
        compiled = program.compile()
    except jax.errors.JaxRuntimeError as error:
        if (found := memory_needed(str(error))) is None:
            raise
        return record | {"fits": False, "needed_bytes": found[0], "chip_bytes": found[1]}
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


def memory_needed(message: str) -> tuple[int, int] | None:
    """Bytes that a program needs and that a chip has, from the compiler's error; None of another."""
    match = next(filter(None, (form.search(message) for form in _DOES_NOT_FIT)), None)
    if match is None:
        return None
    used, limit = (int(float(match[i]) * _UNITS[match[i + 1]]) for i in (1, 3))
    return used, limit


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


def make_parser() -> argparse.ArgumentParser:
    """The flags; lists make a grid."""
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nWithout flags: the whole grid of the defaults below, for a day.",
        formatter_class=_Help,
    )
    add, remat = parser.add_argument, ["none", "dots", "layers"]
    networks = [name for name in VARIANTS if name != "embeddings"]  # which has no images
    add("--variant", choices=networks, default="paper", help="the network", metavar="NAME")
    add("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS), help="what is compiled")
    add("--topologies", nargs="+", default=_TOPOLOGIES, help="names that libtpu knows")
    sizes = [64, 128, 256]
    add("--images_per_chip", type=positive, nargs="+", default=sizes, help="batch over chips")
    add(
        "--fsdp", type=_chips, nargs="+", default=[1, 0], help="chips that share parameters; 0: all"
    )
    add("--remat", nargs="+", choices=remat, default=remat, help="what the step computes again")
    add("--limit", type=positive, help="compile at most so many cells")
    add("--texts", type=new_folder, help="folder for the optimised programs")
    add("--out", type=record_file, default=_RECORD, help="the record, added to")
    add("--only_table", action="store_true", help="print the whole record's table, compile nothing")
    return parser


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter): ...


def _chips(text: str) -> int:
    return 0 if text == "0" else positive(text)


def _check_topologies(args: argparse.Namespace) -> None:
    """Refuses what some cell could not be compiled for, before the first one takes minutes."""
    for name in args.topologies:
        try:
            described = topologies.get_topology_desc(platform="tpu", topology_name=name)
        except (jax.errors.JaxRuntimeError, ValueError, NotImplementedError) as error:
            if "lockfile" in str(error):
                raise ValueError(
                    "another process has libtpu, which works for one at a time: wait for its end, or "
                    "remove /tmp/libtpu_lockfile where there is none"
                ) from error
            raise ValueError(
                f"--topologies={name} is none that libtpu knows ({str(error).splitlines()[0]}); "
                f"such as {', '.join(_TOPOLOGIES)}"
            ) from error
        chips = len(described.devices)
        if wrong := [fsdp for fsdp in args.fsdp if fsdp and chips % fsdp]:
            raise ValueError(
                f"--fsdp={wrong[0]} does not divide the {chips} chips of {name}; give one that does, "
                "or 0 for all"
            )


def _read_record(path: Path) -> dict[str, Any]:
    def parse(record: Any) -> dict[str, Any]:
        table(record)  # fails where something is missing
        return record

    return read_record(path, "tpu_compile", parse)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compiles what is missing and prints the table."""
    args = make_parser().parse_args(arguments)
    record = {"what": "compiled, not run", "cells": {}}
    if args.only_table:
        if not args.out.exists():
            raise ValueError(f"{args.out} is not there; without --only_table it is made")
        print(table(_read_record(args.out)))
        return
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError("libtpu is missing: pip install -r requirements-tpu-compile.txt")
    _check_topologies(args)
    with alone(args.out):
        if args.out.exists():
            record = _read_record(args.out)
        missing = [cell for cell in cells(args) if cell.name not in record["cells"]]
        missing = missing[: args.limit]
        for number, cell in enumerate(missing, 1):
            print(f"compiling {number} of {len(missing)}: {cell.name}", flush=True)
            found = compile_cell(cell, args.texts)
            record["cells"][cell.name] = {"cell": dataclasses.asdict(cell), **found}
            write_atomically(args.out, (json.dumps(record, indent=1) + "\n").encode())
    print(table(record))


if __name__ == "__main__":
    run_and_exit(main, "what is compiled is kept; the same command goes on")
