"""Every process of a host takes its own GPUs, whatever started it."""

import jax
import pytest

from hybridhash_jax.distributed import processes
from hybridhash_jax.distributed.local_gpus import choose_gpus

MPI = {"OMPI_COMM_WORLD_LOCAL_RANK": "3", "OMPI_COMM_WORLD_LOCAL_SIZE": "8"}
SLURM = {"SLURM_LOCALID": "3", "SLURM_STEP_TASKS_PER_NODE": "8(x2)"}


ONE = {"OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}


@pytest.mark.parametrize(
    ("environ", "visible", "chosen"),
    [
        ({}, None, None),  # all of them
        ({}, "0,1,2,3", None),
        (MPI, None, [3]),
        (MPI, "", None),
        (MPI, "-1", None),
        (MPI, "0,1,2,3,4,5,6,7", [3]),
        (SLURM, "0,1,2,3,4,5,6,7", [3]),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1,8(x3)"}, "0,1,2,3,4,5,6,7", [3]),
        # The launcher shows each process those that are its own.
        (MPI, "3", [0]),
        (SLURM, "MIG-7f", [0]),
        (SLURM, "6,7", [0, 1]),
        # One process a host takes all of them.
        (ONE, "4,5", [0, 1]),
        (ONE, None, None),
        ({"SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1(x4)"}, "0,1,2", [0, 1, 2]),
        ({"SLURM_LOCALID": "0"}, "0,1", None),
        (MPI | {"JAX_LOCAL_DEVICE_IDS": "2,3"}, "0,1,2,3", None),  # JAX reads it
    ],
)
def test_a_process_takes_the_gpus_that_are_its_own(environ, visible, chosen):
    seen = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert choose_gpus(environ | seen) == chosen


def test_jax_is_told_also_where_flags_name_the_processes(monkeypatch):
    told = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **named: told.update(named))
    monkeypatch.setattr(processes, "_start_shell", lambda: None)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    for name, value in (MPI | {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}).items():
        monkeypatch.setenv(name, value)
    processes.start("node1:8476", 16, 11)
    assert told["local_device_ids"] == [3]
