"""The TPU compiler takes the program, and what chips would send each other is what is meant."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies

from benchmarks.tpu_compile import main, memory_needed
from hybridhash_jax.distributed.mesh import make_mesh, replicated
from hybridhash_jax.experiment import create_experiment
from hybridhash_jax.image_sources import create_dataset
from hybridhash_jax.retrieval.engine.devices import make_search, row_sharded
from tests.methods.every_method_in_steps_test import TRAINED, config_of, files
from tests.runs.small_run import ENVIRONMENT, ROOT

__all__ = ["files"]  # a fixture

RECORD = ROOT / "benchmarks" / "results" / "tpu_compile.json"
BITS, CLASSES, CHIPS, IMAGES = 64, 10, 4, 64
CELL = [
    "--variant=demo_16px", "--programs", "train_step", "--topologies", "v5e:2x2",
    f"--images_per_chip={IMAGES}", "--remat", "none",
]  # fmt: skip
needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="needs libtpu: pip install -r requirements-tpu-compile.txt",
)


def chips(topology: str) -> list[Any]:
    return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.tpu_compile", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.thorough
@needs_libtpu
@pytest.mark.parametrize("fsdp", ["1", "0"])
def test_a_small_network_compiles_for_four_chips_and_sends_what_is_meant(fsdp: str, tmp_path: Path):
    out = tmp_path / "record.json"
    wanted = [*CELL, "--fsdp", fsdp, f"--out={out}"]
    assert "compiling" in run(*wanted)
    (found,) = json.loads(out.read_text())["cells"].values()
    assert found["fits"]
    assert sum(found["memory_bytes"].values()) < 2**30
    rows = {(row["kind"], *row["types"]): row for row in found["collectives"]}
    # The batch's embeddings once; labels, mask and index in one message.
    assert rows["all-gather", "u8"]["bytes"] == CHIPS * IMAGES * (CLASSES + 1 + 4)
    embeddings = CHIPS * IMAGES * BITS * 4
    parameters = found["arithmetic"]["parameters"]
    gathered = rows["all-gather", "f32"]
    summed = sum(row["bytes"] for row in found["collectives"] if row["kind"] == "all-reduce")
    parts = sum(row["bytes"] for row in found["collectives"] if row["kind"] == "reduce-scatter")
    if fsdp == "1":
        assert (gathered["messages"], gathered["bytes"]) == (1, embeddings)
        assert parts == embeddings
        assert 0.4 * parameters < summed < 1.1 * parameters
    else:
        # Small arrays and a few kernels are summed whole, others inside products, part by part.
        assert parts > 0.25 * parameters
        assert summed < 0.25 * parameters
    assert "compiling" not in run(*wanted)  # it is in the record


@pytest.mark.thorough
@needs_libtpu
@pytest.mark.parametrize("name", TRAINED)
def test_the_step_of_every_method_compiles_for_four_chips(files, name):
    config = config_of(files, name, num_devices=None, **{"model.dtype": "bfloat16"})
    experiment = create_experiment(config, create_dataset(config), devices=chips("v5e:2x2"))
    batches = experiment.train_batches(0)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), next(batches))
    batches.close()
    step: Any = experiment.train_step
    key = jax.eval_shape(lambda: jax.random.key(0))
    traced = step.trace(experiment.layout.state, batch, key)
    compiled = traced.lower(lowering_platforms=("tpu",)).compile()
    assert "all-reduce" in compiled.as_text()  # gradients are summed


@pytest.mark.thorough
@needs_libtpu
def test_the_search_of_many_codes_compiles_for_four_chips_and_fits_beside_them():
    rows, k, queries, chunk = 100 * 2**20, 10, 128, 2**18
    mesh = make_mesh(devices=chips("v5e:2x2"))
    split, whole = row_sharded(mesh), replicated(mesh)
    traced = make_search(mesh, chunk, k).trace(
        jax.ShapeDtypeStruct((rows, 2), jnp.uint32, sharding=split),
        jax.ShapeDtypeStruct((rows,), jnp.bool, sharding=split),
        jax.ShapeDtypeStruct((queries, 2), jnp.uint32, sharding=whole),
        jax.ShapeDtypeStruct((), jnp.int32, sharding=whole),
    )
    memory = traced.lower(lowering_platforms=("tpu",)).compile().memory_analysis()
    assert memory.argument_size_in_bytes == pytest.approx(9 * rows / CHIPS, rel=0.1)
    assert memory.temp_size_in_bytes < 2**28


@pytest.mark.thorough
@needs_libtpu
@pytest.mark.parametrize("topology", ["v5p:2x2x4", "v5e:4x4", "v5e:16x16", "v6e:8x8"])
def test_every_way_to_divide_a_pod_gives_a_mesh_in_the_order_of_processes(topology):
    devices = chips(topology)
    for fsdp in (n for n in range(1, len(devices) + 1) if len(devices) % n == 0):
        mesh = make_mesh(fsdp=fsdp, devices=devices)
        order = [device.process_index for device in mesh.devices.flat]
        assert order == sorted(order)


def test_the_table_in_the_documentation_is_what_the_script_prints(capsys):
    main(["--only_table", f"--out={RECORD}"])
    printed = capsys.readouterr().out.strip()
    assert "| 4 x TPU v5e (2x2) | paper |" in printed
    assert printed in (ROOT / "docs" / "pods.md").read_text()


@pytest.mark.parametrize(
    ("message", "needed"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (16.25G) exceeds available HBM (15.75G).",
            (16.25 * 2**30, 15.75 * 2**30),
        ),
        (
            "XLA:TPU compile permanent error. Used 23.50G of 15.75G hbm.",
            (23.5 * 2**30, 15.75 * 2**30),
        ),
        ("INTERNAL: Mosaic failed to compile TPU kernel", None),
    ],
)
def test_a_program_that_does_not_fit_says_how_much_it_needs(message, needed):
    assert memory_needed(message) == needed


def test_a_second_process_is_told_to_wait(tmp_path, monkeypatch):
    def locked(**_):
        raise jax.errors.JaxRuntimeError(
            "ABORTED: Internal error when accessing libtpu multi-process lockfile."
        )

    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr("jax.experimental.topologies.get_topology_desc", locked)
    with pytest.raises(ValueError, match="another process has libtpu.*wait for its end"):
        main([*CELL, f"--out={tmp_path / 'record.json'}"])


@pytest.mark.parametrize("content", ["# notes", "[]", '{"cells": {"one": {}}}'])
def test_another_file_is_no_record(tmp_path, content):
    (other := tmp_path / "other.json").write_text(content)
    with pytest.raises(ValueError, match=f"{other} is no record of tpu_compile .*another --out"):
        main(["--only_table", f"--out={other}"])


@pytest.mark.thorough
@needs_libtpu
def test_what_cannot_be_compiled_is_refused_before_anything_is(tmp_path):
    for flags, told in (
        (["--topologies", "v5e:2x2", "v9z:3x3"], "--topologies=v9z:3x3 is none that libtpu knows"),
        (["--topologies", "v5e:2x2", "--fsdp", "3"], "--fsdp=3 does not divide the 4 chips"),
    ):
        with pytest.raises(ValueError, match=told):
            main([*flags, f"--out={tmp_path / 'record.json'}"])
    assert not list(tmp_path.iterdir())
