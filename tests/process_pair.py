"""Two real processes over loopback that run main.py as one program."""

import socket
from collections.abc import Sequence
from pathlib import Path

from tests.main_process import MainProcess
from tests.small_run import CONFIG


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_two(workdir: Path, *arguments: str, second: Sequence[str] = ()) -> list[MainProcess]:
    """Starts both; the second one gets arguments of its own after those of both."""
    address = f"127.0.0.1:{free_port()}"
    common = [
        CONFIG, f"--workdir={workdir}", *arguments, "--num_processes=2",
        f"--coordinator_address={address}",
    ]  # fmt: skip
    return [
        MainProcess([*common, *own, f"--process_id={number}"])
        for number, own in enumerate(((), second))
    ]


def wait_for_two(processes: list[MainProcess]) -> tuple[list[str], list[int | None]]:
    """What both printed, and their exit codes."""
    try:
        printed = [process.communicate()[0] for process in processes]
    finally:
        for process in processes:
            process.kill()  # only if one hangs
    return printed, [process.poll() for process in processes]


def run_two(workdir: Path, *arguments: str) -> list[str]:
    """Runs both to a good end; returns what each printed."""
    printed, codes = wait_for_two(start_two(workdir, *arguments))
    assert codes == [0, 0], printed
    return printed
