"""Strict settings for every test: 8 virtual CPU devices, and implicit broadcasting is an error.

Compiled programs are kept for the time of the suite, also for the processes that it starts.
"""

import atexit
import os
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
_CACHE = tempfile.mkdtemp(prefix="hybridhash_jax_tests_")
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
