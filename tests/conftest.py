"""Strict settings for every test: 8 virtual CPU devices, implicit broadcasting is an error, and
the shapes in signatures are checked.

Compiled programs are kept for the time of the suite, also for the processes that it starts. No test
asserts how long something takes, so Hypothesis has no deadline either.
"""

import atexit
import os
import shutil
import signal
import tempfile

from tests import compiler_flags

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=8 {compiler_flags.QUICK}"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# One folder each for the processes that share the suite: JAX does not write an entry in one move.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="hybridhash_jax_tests_")
atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

# A shell's background commands ignore Ctrl-C, and so would the processes that tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis
import jax
import jaxtyping
import pytest

# Checks the shapes in signatures; before the first of these modules is imported. Numba's compiled
# functions (metrics.pair_loops, metrics.precision_sums) cannot be checked at run time.
jaxtyping.install_import_hook(
    [
        "hybridhash_jax.codes",
        *(
            f"hybridhash_jax.metrics.{name}"
            for name in (
                "arguments", "average_precision", "code_health", "curves", "everything", "graded",
                "ranking",
            )
        ),
        *(
            f"hybridhash_jax.models.{name}"
            for name in (
                "blocks", "efficientnet_lite", "heads", "interaction", "layers", "nest", "network",
                "stochastic_depth",
            )
        ),
    ],
    "beartype.beartype",
)  # fmt: skip

from hybridhash_jax.runtime import host_memory

hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items):
    """Slow files first, so that no worker is left with one at the end; what is thorough is slow."""
    for item in items:
        if item.get_closest_marker("thorough"):
            item.add_marker("slow")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def types_are_never_mixed_in_silence(request):
    """In the rooms of pure functions. Not in whole steps: Optax itself mixes types."""
    pure = {"methods", "models", "preprocess"} & {*request.path.parts}
    strict = bool(pure) and "step" not in request.path.name
    with jax.numpy_dtype_promotion("strict" if strict else "standard"):
        yield


@pytest.fixture(autouse=True, scope="session")
def memory_is_given_back():
    """This process runs hundreds of programs, and shall not keep the most that each one needed.

    The processes of main.py that tests start do keep theirs.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_memory, "keep_freed_memory", lambda: False)
        yield


@pytest.fixture(autouse=True, scope="module")
def compiled_programs_are_dropped():
    """Those of a file serve no other, and kept they come to gigabytes that slow everything down."""
    yield
    jax.clear_caches()
