"""Processes of main.py, as `subprocess` has them; they start without importing everything again."""

import atexit
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.runs.small_run import ENVIRONMENT, MAIN, ROOT


class _Server:
    """Talks to `tests.runs.forked_main`, which ends with this process."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="hybridhash_jax_tests_")
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.runs.forked_main"],
            cwd=ROOT, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, *request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


_server = functools.cache(_Server)


class MainProcess:
    """One process that runs main.py.

    Args:
      arguments: of main.py.
      together: what it prints on standard error is part of its output.
      devices: how many it has, of which XLA makes believe.
    """

    def __init__(self, arguments: Sequence[str], *, together: bool = True, devices: int = 1):
        folder = Path(tempfile.mkdtemp(dir=_server().folder))
        self._paths = [folder / "output", folder / ("output" if together else "error")]
        self.returncode: int | None = None
        self._written = folder / "written"
        paths = [str(path) for path in (*self._paths, self._written)]
        self.pid: int = _server().ask("start", [MAIN[1], *arguments], *paths, devices)

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        if self.returncode is None:
            self.returncode = _server().ask("poll", self.pid)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing where it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def written(self, folder: Path) -> list[Path]:
        """The files in a folder that its Python code wrote, relative to the folder."""
        paths = [Path(line) for line in self._written.read_text().splitlines()]
        return [path.relative_to(folder) for path in paths if path.is_relative_to(folder)]

    def communicate(self, timeout: float = 240) -> tuple[str, str]:
        """Waits for its end; returns its output and, unless they are together, its errors."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("main.py", timeout, self._paths[0].read_bytes())
            time.sleep(0.005)
        output, error = (path.read_text() if path.exists() else "" for path in self._paths)
        return output, error if self._paths[0] != self._paths[1] else ""


def run_main(*arguments: str, devices: int = 1) -> subprocess.CompletedProcess[str]:
    """Runs main.py to its end."""
    process = MainProcess(arguments, together=False, devices=devices)
    try:
        output, error = process.communicate()
    finally:
        process.kill()  # only if it hangs
    assert process.returncode is not None
    return subprocess.CompletedProcess(list(arguments), process.returncode, output, error)


def wait_until(condition: Callable[[], bool], *processes: MainProcess, timeout: float) -> None:
    """Polls until the condition holds or the first process has ended; kills all after `timeout`."""
    end = time.monotonic() + timeout
    while not condition() and processes[0].poll() is None:
        if time.monotonic() > end:
            for process in processes:
                process.kill()
            printed = "\n".join(process.communicate()[0] for process in processes)
            raise AssertionError(f"nothing happened in {timeout:g} s; what was printed:\n{printed}")
        time.sleep(0.002)
