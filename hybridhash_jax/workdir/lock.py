"""One run at a time in a workdir: a file that says which process is at work there."""

import contextlib
import datetime
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hybridhash_jax.workdir import names

# A holder on another machine touches its file so often; one that has not for so long is dead.
_BEAT_SECONDS = 15.0
_DEAD_SECONDS = 90.0


class WorkdirInUseError(ValueError):
    """Another process trains into the workdir; says which, and what to do."""


def check_free(workdir: Path) -> None:
    """Refuses a workdir that another living process holds; changes nothing.

    Raises:
      WorkdirInUseError: names process and host.
    """
    path = workdir / names.LOCK
    holder = _read(path)
    if holder is None or _is_dead(holder, path):
        return
    raise WorkdirInUseError(
        f"{workdir} is in use: process {holder.get('process', '?')} on {holder.get('host', '?')} "
        f"trains there since {holder.get('since', '?')}. Wait for it or stop it, or choose another "
        f"--workdir. If there is no such process, remove {path}"
    )


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Holds the workdir inside the block.

    The folder is made, and removed again if nothing was written to it. Where its file system keeps
    no such file, nothing is held.

    Raises:
      WorkdirInUseError: another process was faster.
    """
    check_free(workdir)
    is_new = not workdir.exists()
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"--workdir={workdir} cannot be made ({error.strerror}); give a folder that can be written"
        ) from error
    path = workdir / names.LOCK
    with contextlib.suppress(OSError):
        path.unlink()  # of a dead holder
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        time.sleep(0.5)  # until the faster one has written who it is
        check_free(workdir)
        raise WorkdirInUseError(f"{workdir} is in use by another process") from None
    except OSError:
        yield
        return
    with os.fdopen(file, "w") as lock:
        json.dump(_own(), lock)
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, ended), name="lock", daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        with contextlib.suppress(OSError):
            path.unlink()
            if is_new:
                workdir.rmdir()  # only if it is empty


def _own() -> dict[str, Any]:
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": now,
        "started": _start_of(os.getpid()),
        "machine": _machine(),
    }


def _read(path: Path) -> dict[str, Any] | None:
    """What a lock says; empty where it says nothing yet, None where there is none."""
    try:
        content = json.loads(path.read_text())
        return content if isinstance(content, dict) else {}
    except ValueError:
        return {}
    except OSError:
        return None


def _is_dead(holder: dict[str, Any], path: Path) -> bool:
    """Here the process can be looked for; elsewhere it counts as dead once it stops touching."""
    if holder.get("machine") == _machine() and _machine():
        process = holder.get("process")
        return process != os.getpid() and _start_of(process) != holder.get("started")
    return _age(path) > _DEAD_SECONDS


def _age(path: Path) -> float:
    """Seconds since a file was touched, by the clock of its own file system."""
    probe = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except OSError:
        return time.time() - path.stat().st_mtime if path.exists() else _DEAD_SECONDS + 1
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(_BEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(path)


def _start_of(process: Any) -> str:
    """When a process of this machine started, in the kernel's ticks; empty where there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _machine() -> str:
    """This boot of this machine, and the space in which process numbers count; empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
