"""Every process of a host takes its own GPUs, whatever started it."""

import jax
import pytest

from hybridhash_jax.distributed import processes
from hybridhash_jax.distributed.local_gpus import choose_gpus, count_gpus

MPI = {"OMPI_COMM_WORLD_LOCAL_RANK": "3", "OMPI_COMM_WORLD_LOCAL_SIZE": "8"}
SLURM = {"SLURM_LOCALID": "3", "SLURM_STEP_TASKS_PER_NODE": "8(x2)"}


@pytest.mark.parametrize(
    ("environ", "gpus", "chosen"),
    [
        ({}, 8, None),  # all of them
        (MPI, 0, None),
        (MPI, 8, [3]),
        (SLURM, 8, [3]),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1,8(x3)"}, 8, [3]),
        # The launcher shows each process one of its own.
        (MPI, 1, [0]),
        (SLURM, 1, [0]),
        # One process a host takes all of them.
        (MPI | {"OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, 2, [0, 1]),
        ({"SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1(x4)"}, 3, [0, 1, 2]),
        ({"SLURM_LOCALID": "0"}, 8, None),
        (MPI | {"JAX_LOCAL_DEVICE_IDS": "2,3"}, 8, None),  # JAX reads it
    ],
)
def test_a_process_takes_the_gpus_that_are_its_own(environ, gpus, chosen):
    assert choose_gpus(environ, gpus) == chosen


@pytest.mark.parametrize(("visible", "count"), [("", 0), ("-1", 0), ("0", 1), ("0,2,GPU-7f", 3)])
def test_hidden_gpus_do_not_count(visible, count):
    assert count_gpus({"CUDA_VISIBLE_DEVICES": visible}) == count


def test_jax_is_told_also_where_flags_name_the_processes(monkeypatch):
    told = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **named: told.update(named))
    monkeypatch.setattr(processes, "_start_shell", lambda: None)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    for name, value in (MPI | {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}).items():
        monkeypatch.setenv(name, value)
    processes.start("node1:8476", 16, 11)
    assert told["local_device_ids"] == [3]
