"""What one start has compiled the next finds, and no state of the cache keeps a run from training."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

from hybridhash_jax.runtime import compilation_cache
from tests.runs.small_run import ENVIRONMENT, MAIN, ROOT, flags

PLAIN = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("JAX_")}
PLAIN["JAX_PLATFORMS"] = "cpu"
PROGRAM = """
import sys
from pathlib import Path
import jax
from hybridhash_jax.runtime import compilation_cache
compilation_cache.set_up(sys.argv[1], Path("unused"))
print(jax.jit(lambda x: x * 2 + 1)(20))
print(compilation_cache.COUNTS.found > 0, compilation_cache.COUNTS.compiled)
"""
CONFIG: Any = jax.config


def kept_in() -> str:
    return CONFIG.jax_compilation_cache_dir


def run(command: list[str]) -> str:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=400, cwd=ROOT, env=PLAIN
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def entries(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.rglob("*-cache")}


@pytest.mark.thorough
def test_a_second_start_compiles_nothing(tmp_path):
    options = flags(num_epochs=1, evaluation__before_training=False)
    first = run([*MAIN, f"--workdir={tmp_path / 'first'}", *options])
    assert "compiled the training step in" in first
    assert "kept from an earlier start" not in first
    kept = entries(tmp_path / compilation_cache.FOLDER)
    assert len(kept) > 2  # the first state, the step, the evaluation
    second = run([*MAIN, f"--workdir={tmp_path / 'second'}", *options])
    assert "kept from an earlier start" in second
    assert entries(tmp_path / compilation_cache.FOLDER) == kept


@pytest.mark.thorough
def test_damaged_entries_are_compiled_again(tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    first = run(command).split()
    assert first[:2] == ["41", "False"]
    assert int(first[2]) > 0
    assert run(command).split() == ["41", "True", "0"]
    for path in tmp_path.rglob("*-cache"):
        path.write_bytes(path.read_bytes()[:50])
    assert run(command).split() == first


def test_what_was_compiled_for_one_core_is_not_for_two(tmp_path):
    """XLA divides a program's work when it compiles it; JAX's own key leaves the cores out."""
    start = "import os; os.sched_getaffinity = lambda process: set(range({cores}))\n" + PROGRAM
    found = []
    for cores in (1, 2, 1):
        command = [sys.executable, "-c", start.format(cores=cores), str(tmp_path)]
        found.append(run(command).split()[1])
    assert found == ["False", "False", "True"]


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    (tmp_path / "file").write_text("")
    before = kept_in()
    assert compilation_cache.set_up(str(tmp_path / "file" / "cache"), tmp_path / "run") is None
    assert compilation_cache.set_up(None, tmp_path / "file" / "run") is None
    assert kept_in() == before


def test_what_the_environment_says_stays(tmp_path):
    before = kept_in()
    found = compilation_cache.set_up(None, tmp_path / "run")
    assert str(found) == os.environ["JAX_COMPILATION_CACHE_DIR"]
    assert kept_in() == before
    assert not list(tmp_path.iterdir())


def test_it_can_be_turned_off(tmp_path):
    try:
        assert compilation_cache.set_up("off", tmp_path / "run") is None
        assert not CONFIG.jax_enable_compilation_cache
    finally:
        jax.config.update("jax_enable_compilation_cache", True)


def test_what_was_not_used_for_longest_makes_room(tmp_path):
    for age, name in enumerate(("newest", "read", "old", "oldest")):
        path = tmp_path / f"{name}-cache"
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - age))
    os.utime(tmp_path / "read-cache", (1e9 + 1, 1e9 - 1))  # read since it was written
    (tmp_path / "note").write_bytes(bytes(1000))
    compilation_cache.shrink(tmp_path, 400)
    assert len(entries(tmp_path)) == 4
    compilation_cache.shrink(tmp_path, 250)
    assert set(entries(tmp_path)) == {"newest-cache", "read-cache"}
    assert (tmp_path / "note").exists()
