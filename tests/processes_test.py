"""Whether a process has others is told by flags or the environment, and mistakes are explained."""

import subprocess
import sys
import time

import jax
import pytest

from hybridhash_jax.processes import check_flags, find_launcher, is_lost_peer, start
from tests.process_pair import free_port
from tests.small_run import ENVIRONMENT, ROOT

SLURM = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "2", "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "tpu", "found"),
    [
        ({}, False, None),
        (SLURM, False, "SLURM"),
        (SLURM | {"SLURM_NTASKS": "1"}, False, None),
        # A batch script itself, before srun: a job, but no step of several tasks.
        ({k: v for k, v in SLURM.items() if k != "SLURM_STEP_NODELIST"}, False, None),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, False, "Open MPI"),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False, None),
        ({}, True, "a Cloud TPU"),
        ({"JAX_PLATFORMS": "cpu"}, True, None),
        ({"TPU_SKIP_MDS_QUERY": "1"}, True, None),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, True, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True, "a TPU slice on Kubernetes"),
        ({"TPU_PROCESS_ADDRESSES": "a:1,b:1"}, True, "a TPU slice on Kubernetes"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, False, None),
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, True, "TPU slices"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False, None),
    ],
)
def test_the_launcher_is_known_by_the_environment(environ, tpu, found):
    assert find_launcher(environ, tpu=tpu) == found


def test_three_flags_or_none():
    assert check_flags(None, None, None) is False
    assert check_flags("host:1234", 2, 1) is True
    assert check_flags("[fe80::1]:1234", 2, 0) is True


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (("host:1", None, None), ["--num_processes and --process_id missing"]),
        ((None, 2, 0), ["--coordinator_address missing"]),
        (("host", 2, 0), ["--coordinator_address=host;", "HOST:PORT"]),
        (("host:port", 2, 0), ["HOST:PORT"]),
        (("host:99999", 2, 0), ["HOST:PORT"]),
        (("http://host:80", 2, 0), ["HOST:PORT"]),
        (("host:1", 2, 2), ["--process_id=2 with --num_processes=2", "num_processes - 1"]),
        (("host:1", 2, -1), ["--process_id=-1"]),
        (("host:1", 0, 0), ["--num_processes=0"]),
    ],
)
def test_flags_that_cannot_be_are_explained_before_anything_waits(given, parts):
    with pytest.raises(ValueError) as error:
        start(*given)
    for part in parts:
        assert part in str(error.value)


def test_a_process_on_its_own_starts_nothing(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("started")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)
    start()
    start("host:1234", 1, 0)
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    start(num_processes=1)
    monkeypatch.setenv("SLURM_NTASKS", "1")
    with pytest.raises(ValueError, match="initialization_timeout=0"):
        start(initialization_timeout=0)


def test_the_loss_of_a_process_is_told_from_other_errors():
    gloo = RuntimeError("UNKNOWN: Gloo AllReduce failed: Connection closed by peer [10.0.0.1]:9")
    assert is_lost_peer(gloo)
    assert is_lost_peer(RuntimeError("UNAVAILABLE: Task 1 heartbeat timeout."))
    try:
        raise ValueError("could not write") from gloo
    except ValueError as error:
        assert is_lost_peer(error)
    assert not is_lost_peer(RuntimeError("RESOURCE_EXHAUSTED: Out of memory"))
    assert not is_lost_peer(ValueError("batch_size=3 cannot be split over 2 devices"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_processes_that_never_come_are_not_waited_for_without_end(number):
    address = f"127.0.0.1:{free_port()}"
    code = (
        "from hybridhash_jax import processes\n"
        f"processes.start({address!r}, 2, {number}, initialization_timeout=1)"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False, capture_output=True, text=True, timeout=60, cwd=ROOT, env=ENVIRONMENT,
    )  # fmt: skip
    assert time.monotonic() - began < 50
    assert done.returncode == 1
    assert f"waited 1 s for the coordinator, process 0 at {address}" in done.stderr
    assert f"as process {number} of 2" in done.stderr
    assert "Traceback" not in done.stderr
