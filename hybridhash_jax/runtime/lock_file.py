"""A file that says which living process holds something; that of a dead one is taken over."""

import contextlib
import datetime
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

logger = logging.getLogger("hybridhash_jax")  # console's, whose module loads JAX
# A holder on another machine touches its file so often; one that has not for so long is dead.
_BEAT_SECONDS = 15.0
_DEAD_SECONDS = 90.0


class HeldError(Exception):
    """Another process holds the file.

    Attributes:
      holder: what its file says, see `described`; empty while it says nothing yet.
    """

    def __init__(self, path: Path, holder: dict[str, Any]):
        super().__init__(f"{path} is held by {described(holder)}")
        self.holder = holder


def described(holder: dict[str, Any]) -> str:
    """Such as "process 12 on node7"."""
    return f"process {holder.get('process', '?')} on {holder.get('host', '?')}"


def living_holder(path: Path, *, watch: bool = False) -> dict[str, Any] | None:
    """What the living holder wrote into its file; None where nobody, or a dead one, holds it.

    With `watch` a holder on another machine is waited for until it touches its file or counts as
    dead, 90 s at most: a pod that was killed and starts again is another machine to itself.
    """
    holder = _read(path)
    if holder is None or _is_dead(holder, path):
        return None
    if not watch or _is_here(holder):
        return holder
    logger.info(
        "%s was held by %s; waiting for a sign of life, at most %d s",
        path, described(holder), _DEAD_SECONDS,
    )  # fmt: skip
    touched = _touched(path)
    while not _is_dead(holder, path):
        if _read(path) != holder or _touched(path) != touched:
            return _read(path)
        time.sleep(1)
    return None


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Holds the file inside the block, and removes it at its end.

    Raises:
      HeldError: another living process holds it.
      OSError: the file cannot be made.
    """
    seen = _read(path)
    if seen == {}:  # a faster one is about to write who it is
        time.sleep(0.5)
        seen = _read(path)
    if seen is not None:
        if not _is_dead(seen, path):
            raise HeldError(path, seen)
        _remove(path, seen)
    own = _own()
    try:
        _make(path, own)
    except FileExistsError:
        time.sleep(0.5)
        raise HeldError(path, _read(path) or {}) from None
    ended = threading.Event()
    threading.Thread(target=_beat, args=(path, ended), name="lock", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        with contextlib.suppress(OSError):
            _remove(path, own)


def _make(path: Path, holder: dict[str, Any]) -> None:
    """Makes the file with its content in one step: one killed between the two would block others."""
    aside = _aside(path)
    try:
        _write(aside, holder)
        try:
            os.link(aside, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            _write(path, holder)
    finally:
        aside.unlink(missing_ok=True)


def _write(path: Path, holder: dict[str, Any]) -> None:
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    with os.fdopen(file, "w") as lock:
        json.dump(holder, lock)


def _remove(path: Path, holder: dict[str, Any]) -> None:
    """Removes the file of this holder, but not that of one who was faster to take it over."""
    aside = _aside(path)
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, aside)
        if _read(aside) in (holder, None):
            aside.unlink()
        else:
            os.rename(aside, path)


def _aside(path: Path) -> Path:
    # Not by the process's number: in containers that share a disk all may have the same.
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")


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
    if _is_here(holder):
        return _start_of(holder.get("process")) != holder.get("started")
    return _age(path) > _DEAD_SECONDS


def _is_here(holder: dict[str, Any]) -> bool:
    return holder.get("machine") == _machine() and bool(_machine())


def _touched(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _age(path: Path) -> float:
    """Seconds since a file was touched, by the clock of its own file system."""
    # In containers all may have one number, and touch the folder at once.
    probe = path.with_name(f".{path.name}.{secrets.token_hex(8)}.age")
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
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]  # dead, but its parent has not noticed
    except (OSError, IndexError):
        return ""


def _machine() -> str:
    """This boot of this machine, and the space in which process numbers count; empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
