"""A program's working memory is mapped once, not in every run; elsewhere nothing happens."""

import ctypes
import os
import statistics
import subprocess
import sys

import jax
import pytest

from hybridhash_jax.runtime.host_memory import keep_freed_memory
from tests.runs.small_run import ENVIRONMENT, ROOT

PAGE = 4096
WORKING_BYTES = 256 * 2**20  # more than the heaps of threads can hold
# Prints the page faults of 15 runs of a program, after what the arguments ask for.
PROGRAM = f"""
import resource, sys
import jax, jax.numpy as jnp
from hybridhash_jax.runtime import host_memory
if "calling_thread" in sys.argv:
    host_memory.compute_on_calling_thread()
rows = {WORKING_BYTES} // 4 // 8192
# A product is written to memory before the next one reads it.
program = jax.jit(lambda x: ((x @ jnp.ones((2, 8192))) @ jnp.ones((8192, 2))).sum())
x = jnp.ones((rows, 2))
program(x).block_until_ready()
kept = "keep" in sys.argv and host_memory.keep_freed_memory()
faults = []
for _ in range(15):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    program(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(kept, *faults)
"""
glibc_alone = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"),
    reason="only glibc's heap can be told to keep what is freed",
)


def faults_of_runs(*what: str) -> tuple[bool, list[int]]:
    tunables = ("GLIBC_TUNABLES", "LD_PRELOAD")
    plain = {
        name: value
        for name, value in (dict(os.environ) | ENVIRONMENT).items()
        if name not in tunables and not name.startswith("MALLOC_")
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *what],
        check=False, capture_output=True, text=True, timeout=300, cwd=ROOT, env=plain,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kept, *faults = done.stdout.split()
    return kept == "True", [int(count) for count in faults]


@glibc_alone
def test_kept_memory_is_mapped_once():
    kept, faults = faults_of_runs("calling_thread", "keep")
    assert kept
    # The first run maps again what was given back. With JAX 0.11.2 a few more do: the memory of the
    # run before is freed a moment after its result is there.
    assert statistics.median(faults) < WORKING_BYTES / PAGE / 100


@pytest.mark.thorough
@glibc_alone
def test_both_calls_are_needed():
    _, untold = faults_of_runs()
    if statistics.median(untold) < WORKING_BYTES / PAGE / 2:
        pytest.skip("this system maps large pieces in huge pages, which are few anyway")
    for what in ("calling_thread", "keep"):
        _, faults = faults_of_runs(what)
        assert statistics.median(faults) > WORKING_BYTES / PAGE / 2, what


def test_nothing_is_told_to_another_library_or_for_an_accelerator(monkeypatch):
    told = []

    class OtherLibrary:
        def malloc_trim(self, pad: int) -> None:
            told.append(pad)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: OtherLibrary())
    assert not keep_freed_memory()
    monkeypatch.undo()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("an accelerator's host was told"))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not keep_freed_memory()
    assert told == []
