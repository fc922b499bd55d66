"""Compiled programs are kept on disk, so that a second start compiles nothing."""

import contextlib
import hashlib
import os
import platform
import tempfile
from pathlib import Path

import jax

from hybridhash_jax.runtime.console import logger
from input_pipeline.threads import available_cores

FOLDER = ".compilation_cache"
OFF = "off"
LIMIT = 8 * 2**30  # bytes in the folder, at a start
_ENVIRONMENT = "JAX_COMPILATION_CACHE_DIR"
_ASKED = "/jax/compilation_cache/compile_requests_use_cache"
_DURATIONS = (
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)
_FOUND = "/jax/compilation_cache/cache_hits"


class Counts:
    """How many programs were needed since `set_up`, how many of them the cache had, seconds."""

    def __init__(self) -> None:
        self.asked = self.found = 0
        self.seconds = 0.0  # of compiling or of reading what was compiled

    @property
    def compiled(self) -> int:
        """Those that it did not have."""
        return self.asked - self.found

    def count(self, event: str, **details: object) -> None:
        """Takes one of JAX's events."""
        self.asked += event == _ASKED
        self.found += event == _FOUND

    def add(self, event: str, duration_secs: float, **details: object) -> None:
        """Takes one of JAX's durations."""
        if event in _DURATIONS:
            self.seconds += duration_secs


COUNTS = Counts()
jax.monitoring.register_event_duration_secs_listener(COUNTS.add)


def set_up(place: str | None, workdir: Path) -> Path | None:
    """Turns the cache on and returns its folder; to be called once, before anything is compiled.

    `place` is a folder, or "off"; None is what JAX_COMPILATION_CACHE_DIR says, else the folder
    .compilation_cache beside the workdir, which other runs share. Returns None where nothing is
    kept: it is off, or nothing can be written there, which is no reason not to train.
    """
    if place == OFF:
        jax.config.update("jax_enable_compilation_cache", False)
        return None
    if place is None and os.environ.get(_ENVIRONMENT):
        jax.monitoring.register_event_listener(COUNTS.count)
        return Path(os.environ[_ENVIRONMENT])
    folder = workdir.absolute().parent / FOLDER if place is None else Path(place).expanduser()
    if jax.default_backend() == "cpu":
        folder = folder / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        logger.warning(
            "compiled programs are not kept for the next start, since %s cannot be written (%s); "
            "--compilation_cache=FOLDER names another place, and off none",
            folder,
            error.strerror,
        )
        return None
    if jax.process_index() == 0:
        shrink(folder, LIMIT)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Small programs too: a start has about a hundred of them, a second or more together.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.monitoring.register_event_listener(COUNTS.count)
    return folder


def shrink(folder: Path, limit: int) -> None:
    """Removes the entries that were not used for longest until at most `limit` bytes are left.

    JAX has a limit of its own, but it fails on every entry that was written without it. A program
    that another run would have needed is compiled again.
    """
    entries = []
    for path in folder.glob("*-cache"):
        with contextlib.suppress(OSError):  # another run may be doing the same
            described = path.stat()
            used = max(described.st_atime, described.st_mtime)
            entries.append((used, described.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= limit:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size


def _processor() -> str:
    """A name for these processors: what XLA compiles for one kind may not run on another.

    And what it compiles for one core leaves the others idle, which JAX's own key does not tell.
    """
    described = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        kinds = ("model name", "flags", "Features", "CPU part")
        described = "".join(sorted({line for line in lines if line.startswith(kinds)}))
    except OSError:
        pass
    kind = hashlib.sha256(described.encode()).hexdigest()[:8]
    return f"{platform.machine()}-{kind}-{available_cores()}"
