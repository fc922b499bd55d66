"""Two real processes over loopback that run main.py as one program."""

import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.runs.main_process import MainProcess
from tests.runs.small_run import CONFIG, ENVIRONMENT, ROOT


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def two_command_lines(
    workdir: Path, *arguments: str, second: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """The arguments of main.py for each; the second one gets some of its own after those of both."""
    common = [
        CONFIG, f"--workdir={workdir}", *arguments, "--num_processes=2",
        f"--coordinator_address=127.0.0.1:{free_port()}",
    ]  # fmt: skip
    return [*common, "--process_id=0"], [*common, *second, "--process_id=1"]


def start_two(workdir: Path, *arguments: str, second: Sequence[str] = ()) -> list[MainProcess]:
    """Starts both with what `two_command_lines` gives."""
    return [MainProcess(given) for given in two_command_lines(workdir, *arguments, second=second)]


def wait_for_two(processes: list[MainProcess]) -> tuple[list[str], list[int | None]]:
    """What both printed, and their exit codes."""
    try:
        printed = [process.communicate()[0] for process in processes]
    finally:
        for process in processes:
            process.kill()  # only if one hangs
    return printed, [process.poll() for process in processes]


def run_code(
    code: str, environments: Sequence[dict[str, str]], folders: Sequence[Path]
) -> list[str]:
    """Runs Python code in a process for each environment, started in its folder, to a good end.

    Returns:
      what each printed on standard output.
    """
    paths = {"PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=folder, env=ENVIRONMENT | paths | environment, stdout=subprocess.PIPE, text=True,
        )
        for environment, folder in zip(environments, folders, strict=True)
    ]  # fmt: skip
    try:
        printed = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()  # only if one hangs
    assert [process.returncode for process in processes] == [0] * len(processes), printed
    return printed


def run_two(workdir: Path, *arguments: str) -> tuple[list[str], set[str]]:
    """Runs both to a good end.

    Returns:
      what each printed, and where in the workdir the second one wrote: files and folders.
    """
    processes = start_two(workdir, *arguments)
    printed, codes = wait_for_two(processes)
    assert codes == [0, 0], printed
    return printed, {path.parts[0] for path in processes[1].written(workdir)}
