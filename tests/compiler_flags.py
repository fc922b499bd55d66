"""Flags of XLA for the tests, which compile far more than they compute."""

from importlib.metadata import version

QUICK = "--xla_backend_optimization_level=0"
if version("jax").startswith("0.10."):
    # The older way to fused loops compiles three times as fast; later versions have it no more.
    QUICK += " --xla_cpu_use_fusion_emitters=false"
