"""Several processes that run as one program: how they find each other, and how they end."""

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax

from hybridhash_jax.distributed.local_gpus import choose_gpus
from input_pipeline import signals

# A process that sends no heartbeat for so long counts as dead, and JAX ends the others.
_HEARTBEAT_SECONDS = 60
# At the end the others wait while process 0 writes the report of a large database.
_SHUTDOWN_SECONDS = 4 * 3600
# Of a process that ends because another one is gone: what JAX's abort gives. Schedulers that start
# a job again after some codes only take it for such a loss, and 1 for a mistake.
LOST_EXIT_CODE = 128 + signal.SIGABRT
# How long a process that ends with an error stays for the others to end with theirs.
_LEAVE_SECONDS = 10.0

_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
_FLAGS = ("coordinator_address", "num_processes", "process_id")
# The same in the environment, as Kubeflow's trainer gives them. JAX reads the first alone.
_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")

# What the runtime says when a peer is gone: gloo, NCCL, gRPC and the coordination service.
_LOST = re.compile(
    r"closed by peer|reset by peer|broken pipe|connection refused|socket closed|heartbeat"
    r"|coordination ?service|gloo \w+ failed|nccl.*(error|remote)"
    r"|\b(UNAVAILABLE|DEADLINE_EXCEEDED)\b",
    re.IGNORECASE,
)

# No Python runs when JAX's coordination service ends the process (its `abort`), so a shell waits
# beside it and speaks if the process ends without a word.
_WAITING_SHELL = 'read -r ended || printf "%s\\n" "$1" >&2'
_ENDED_ABRUPTLY = (
    "error: this process was ended abruptly: JAX does so when another process of the run has died "
    "or cannot be reached, and so does a kill from outside. The first error in the output of the "
    "other processes says why. Start the same command on every process again: it goes on from the "
    "last checkpoint."
)
_shell: subprocess.Popen[bytes] | None = None


def find_launcher(environ: Mapping[str, str], *, tpu: bool = False) -> str | None:
    """What started this process together with others, in words; None for a process on its own.

    With `tpu`, see `has_tpu`, it may be one of many without any variable that says so: JAX asks its
    metadata server. A ValueError if it may be one of several but nothing says how many there are.
    """
    if all(name in environ for name in _SLURM) and _number(environ["SLURM_NTASKS"]) > 1:
        return "SLURM"
    if _number(environ.get("OMPI_COMM_WORLD_SIZE", "")) > 1:
        return "Open MPI"
    if not tpu or "tpu" not in (environ.get("JAX_PLATFORMS") or "tpu"):
        _check_alone(environ)
        return None
    if _number(environ.get("MEGASCALE_NUM_SLICES", "")) > 1:
        return "TPU slices"
    workers = environ.get("TPU_PROCESS_ADDRESSES") or environ.get("TPU_WORKER_HOSTNAMES")
    if environ.get("TPU_PROCESS_ADDRESSES_PATH") or (workers and "," in workers):
        return "a TPU slice on Kubernetes"
    if workers or "TPU_SKIP_MDS_QUERY" in environ:
        return None
    return "a Cloud TPU"


def _check_alone(environ: Mapping[str, str]) -> None:
    """Refuses to take a process for the only one where others may write into the same workdir."""
    some = [name for name in _VARIABLES if environ.get(name)]
    if some:
        reason = f"{', '.join(some)} is set, but not all of {', '.join(_VARIABLES)}"
    elif "KUBERNETES_SERVICE_HOST" in environ and "JOB_COMPLETION_INDEX" in environ:
        reason = "this pod is of an indexed Kubernetes job, which does not say how many there are"
    else:
        return
    raise ValueError(
        f"{reason}: give --coordinator_address=HOST:PORT of process 0, --num_processes=N and "
        "--process_id=I in process I (in an indexed job $JOB_COMPLETION_INDEX), or "
        "--num_processes=1 alone if this process is the only one"
    )


def _read_variables(environ: Mapping[str, str]) -> tuple[str, int, int] | tuple[None, None, None]:
    """What the environment gives in place of the three flags, if it gives all of them."""
    address, count, number = (environ.get(name) for name in _VARIABLES)
    if not (address and count and number):
        return None, None, None
    try:
        check_flags(address, int(count), int(number))
    except ValueError as error:
        said = ", ".join(f"{name}={environ[name]}" for name in _VARIABLES)
        raise ValueError(f"{said} in the environment stand for the flags: {error}") from None
    return address, int(count), int(number)


def has_tpu() -> bool:
    """Does this machine show TPU chips, and can JAX use them?"""
    devices = Path("/dev")
    chips = [*devices.glob("accel[0-9]*"), *devices.glob("vfio/[0-9]*")]
    return bool(chips) and importlib.util.find_spec("libtpu") is not None


def check_flags(
    coordinator_address: str | None, num_processes: int | None, process_id: int | None
) -> bool:
    """Whether flags name the processes: all three of them, or none; else a ValueError."""
    given = dict(zip(_FLAGS, (coordinator_address, num_processes, process_id), strict=True))
    missing = [f"--{name}" for name, value in given.items() if value is None]
    if len(missing) == len(given):
        return False
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} missing: give --coordinator_address=HOST:PORT of process 0, "
            "--num_processes and --process_id together, or none of them"
        )
    assert coordinator_address is not None and num_processes is not None and process_id is not None
    host, _, port = coordinator_address.rpartition(":")
    if not host or "/" in host or not 0 < _number(port) < 65536:
        raise ValueError(
            f"--coordinator_address={coordinator_address}; accepted: HOST:PORT of process 0, for "
            "example 10.0.0.1:8476, the same in every process"
        )
    if num_processes < 1 or not 0 <= process_id < num_processes:
        raise ValueError(
            f"--process_id={process_id} with --num_processes={num_processes}; accepted: at least 1 "
            "process, numbered from 0 to num_processes - 1, each number once"
        )
    return True


def start(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    initialization_timeout: int = 300,
) -> None:
    """Joins the other processes of this run; a process on its own starts nothing.

    The flags win over what the environment says: `num_processes` 1 alone keeps the process on its
    own. Next count JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, then what a
    launcher sets. Returns when all processes are there; after `initialization_timeout` seconds the
    process ends with exit code 1 and says what it waited for.

    Raises:
      ValueError: flags, or an environment, that do not say enough or say what cannot be.
    """
    if (coordinator_address, num_processes, process_id) == (None, None, None):
        coordinator_address, num_processes, process_id = _read_variables(os.environ)
    if num_processes == 1 and not process_id:
        return
    if initialization_timeout < 1:
        raise ValueError(f"--initialization_timeout={initialization_timeout}; at least 1 (seconds)")
    by_flags = check_flags(coordinator_address, num_processes, process_id)
    launcher = None if by_flags else find_launcher(os.environ, tpu=has_tpu())
    if not (by_flags or launcher):
        return
    # Its handler would take SIGTERM away from `interrupt`, and swallow it before training.
    jax.config.update("jax_enable_preemption_service", False)
    _start_shell()
    waits = f"the processes that {launcher} started"
    if by_flags:
        which = f"process {process_id} of {num_processes}"
        waits = f"the coordinator, process 0 at {coordinator_address}, as {which}"
    with _deadline(initialization_timeout, waits):
        try:
            jax.distributed.initialize(
                coordinator_address,
                num_processes,
                process_id,
                local_device_ids=choose_gpus(os.environ),
                # JAX's own end of waiting is an abort; the deadline comes before it.
                initialization_timeout=initialization_timeout + 60,
                heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
                shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
                cluster_detection_method="deactivate" if by_flags else None,
            )
        except (RuntimeError, ValueError, KeyError, OSError) as error:
            _end_shell()
            raise ValueError(
                f"cannot join {waits}: {error}. Is the port free? The flags "
                "--coordinator_address=HOST:PORT, --num_processes and --process_id win over what "
                "the environment says; --num_processes=1 alone keeps this process on its own"
            ) from error


@contextlib.contextmanager
def _deadline(seconds: int, waits: str) -> Iterator[None]:
    """Ends the process if the block takes longer, whatever it hangs in."""

    def end() -> None:
        message = (
            f"error: waited {seconds} s for {waits}. Start the same command on every process at "
            "about the same time; look whether one ended with an error, whether the address is "
            "right, and whether a firewall closes its port. --initialization_timeout=SECONDS waits "
            "longer."
        )
        print(message, file=sys.stderr)
        _exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def are_several() -> bool:
    """Has `start` joined other processes?"""
    return jax.distributed.is_initialized()


def is_lost_peer(error: BaseException | None) -> bool:
    """Does the error, or one that it came from, say that another process is gone?"""
    while error is not None:
        if _LOST.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def leave(exit_code: int) -> None:
    """Ends the process after an error, without waiting for processes that go on.

    A process that ends alone breaks the others' connections, which ends them with an explanation.
    """
    # Each stays a moment for the others to say why they end: the end of process 0 is the end of the
    # coordination service, and JAX aborts what still uses it.
    goodbye = threading.Thread(target=_shutdown, daemon=True)
    goodbye.start()
    goodbye.join(_LEAVE_SECONDS)
    _exit(exit_code)


def end_by_signal(number: int) -> None:
    """Ends the process at once after a signal."""
    signals.end(number, _end_shell)


def finish() -> None:
    """Ends a run of several processes in good order: waits until all are done."""
    if are_several():
        jax.distributed.shutdown()
        _end_shell()


def _shutdown() -> None:
    with contextlib.suppress(RuntimeError, ValueError):
        jax.distributed.shutdown()


def _exit(exit_code: int) -> None:
    _end_shell()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def _start_shell() -> None:
    global _shell
    _shell = subprocess.Popen(
        ["/bin/sh", "-c", _WAITING_SHELL, "sh", _ENDED_ABRUPTLY],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the program alone
    )


def _end_shell() -> None:
    global _shell
    if _shell is not None:
        with contextlib.suppress(OSError):
            _shell.communicate(b"ended\n")
        _shell = None


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
