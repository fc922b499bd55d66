"""Whether a process has others is told by flags or the environment, and mistakes are explained."""

import subprocess
import sys
import time

import jax
import pytest

from hybridhash_jax.distributed import processes
from hybridhash_jax.distributed.processes import check_flags, find_launcher, is_lost_peer, start
from tests.distributed.process_pair import free_port, run_code
from tests.runs.small_run import ENVIRONMENT, ROOT

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
        # Several TPU hosts of one job say so; a host of one TPU machine says that it is alone.
        (
            {
                "KUBERNETES_SERVICE_HOST": "10.0.0.1",
                "JOB_COMPLETION_INDEX": "0",
                "TPU_WORKER_HOSTNAMES": "a",
            },
            True,
            None,
        ),
    ],
)
def test_the_launcher_is_known_by_the_environment(environ, tpu, found):
    assert find_launcher(environ, tpu=tpu) == found


POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "1"}
VARIABLES = {
    "JAX_COORDINATOR_ADDRESS": "pod-0:1234", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1",
}  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "tpu", "reason"),
    [
        (POD, False, "an indexed Kubernetes job"),
        (POD | {"JAX_PLATFORMS": "cuda", "TPU_WORKER_HOSTNAMES": "a"}, True, "an indexed"),
        ({"JAX_COORDINATOR_ADDRESS": "pod-0"}, False, "JAX_COORDINATOR_ADDRESS is set, but not"),
        (VARIABLES | {"JAX_PROCESS_ID": ""}, False, "_ADDRESS, JAX_NUM_PROCESSES is set, but not"),
    ],
)
def test_a_process_that_may_have_others_is_not_taken_for_the_only_one(environ, tpu, reason):
    with pytest.raises(ValueError, match=reason) as error:
        find_launcher(environ, tpu=tpu)
    for part in ("--coordinator_address=HOST:PORT", "--process_id=I", "--num_processes=1 alone"):
        assert part in str(error.value)


@pytest.fixture
def initialized(monkeypatch) -> list[tuple]:
    """What JAX was told to join, in an environment without a launcher."""
    told = []
    for name in (*SLURM, *POD, *VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given, **_: told.append(given))
    monkeypatch.setattr(processes, "_start_shell", lambda: None)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    return told


def set_environment(monkeypatch, environ: dict[str, str]) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


def test_the_environment_may_give_what_the_flags_give_which_win(initialized, monkeypatch):
    set_environment(monkeypatch, POD | VARIABLES)
    start()
    assert initialized == [("pod-0:1234", 2, 1)]
    start("host:1", 4, 3)
    start(num_processes=1)
    assert initialized[1:] == [("host:1", 4, 3)]
    monkeypatch.setenv("JAX_NUM_PROCESSES", "1")
    with pytest.raises(ValueError, match="JAX_PROCESS_ID=1 in the environment .* numbered from 0"):
        start()
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(ValueError, match="JAX_NUM_PROCESSES=two"):
        start()


def test_a_launcher_wins_over_an_address_in_the_environment(initialized, monkeypatch):
    set_environment(monkeypatch, POD | SLURM | {"JAX_COORDINATOR_ADDRESS": "n1:1234"})
    start()
    assert initialized == [(None, None, None)]


def test_a_pod_of_an_indexed_job_runs_alone_only_if_told_so(initialized, monkeypatch):
    set_environment(monkeypatch, POD)
    with pytest.raises(ValueError, match="indexed Kubernetes job"):
        start()
    start(num_processes=1)
    assert initialized == []


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
def test_two_tasks_of_slurm_find_each_other():
    code = (
        "import jax\n"
        "from hybridhash_jax.distributed import processes\n"
        "processes.start()\n"
        "print('process', jax.process_index(), 'of', jax.process_count())\n"
        "processes.finish()"
    )
    tasks = [
        SLURM | {
            "SLURM_STEP_NODELIST": "localhost", "SLURM_PROCID": number, "SLURM_LOCALID": number,
            "JAX_COORDINATOR_PORT": port,
        }
        for port in [str(free_port())] for number in ("0", "1")
    ]  # fmt: skip
    printed = run_code(code, tasks, [ROOT, ROOT])
    told = [text.splitlines()[-1] for text in printed]
    assert told == ["process 0 of 2", "process 1 of 2"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.thorough)])
def test_processes_that_never_come_are_not_waited_for_without_end(number):
    address = f"127.0.0.1:{free_port()}"
    code = (
        "from hybridhash_jax.distributed import processes\n"
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
