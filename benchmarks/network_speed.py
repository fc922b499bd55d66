"""What the benchmarks of the network share: its work compiled, the device's peak, the table."""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import measure
from hybridhash_jax import models
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.encode import compile_encode
from hybridhash_jax.methods.hybridhash import HybridHash, batch_loss
from hybridhash_jax.methods.memory_bank import create_bank
from hybridhash_jax.optimizer import make_optimizer
from hybridhash_jax.preprocess import pixels as preprocess
from hybridhash_jax.runtime import host_memory
from hybridhash_jax.state import TrainState, create_state, first_state
from hybridhash_jax.train_step import compile_train_step, make_train_step
from input_pipeline.commands import positive

BITS = 64
_CLASSES, _BANK_ROWS = 10, 10_000
_MATMUL_SIDE = 2048
# Dense bfloat16 of the makers' data sheets, in TFLOP/s, by a part of the device's kind.
_PEAK_TFLOPS = {
    "H200": 989.0, "H100": 989.0, "A100": 312.0, "L4": 121.0, "T4": 65.0, "V100": 125.0,
    "TPU v4": 275.0, "TPU v5 lite": 197.0, "TPU v5p": 459.0, "TPU v6 lite": 918.0,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Work:
    """A compiled piece of work.

    Attributes:
      once: does it once and returns seconds.
      flop: floating-point operations of the model that it takes.
      compile_seconds: tracing and compiling.
      compiled: to ask for its memory.
    """

    once: Callable[[], float]
    flop: float
    compile_seconds: float
    compiled: Any


def prepare(variant: str, batch_size: int, precision: str, work: str) -> Work:
    """Compiles "encode", "gradient" (of the loss inside the batch) or "train_step"."""
    dtype, mesh = jnp.dtype(precision), sharding.make_mesh(1)

    def build() -> models.Network:
        return models.create_network(variant, outputs=BITS, dtype=dtype, rngs=nnx.Rngs(0))

    graphdef, shapes = nnx.split(nnx.eval_shape(build))
    flop = models.forward_flops(nnx.merge(graphdef, shapes)) * batch_size
    optimizer = make_optimizer(shapes, name="rmsprop", learning_rate=2.5e-5, weight_decay=1e-5)

    def first() -> TrainState:
        bank = create_bank(_BANK_ROWS, BITS, _CLASSES) if work == "train_step" else None
        return first_state(nnx.split(build())[1], optimizer, bank)

    state = create_state(first, sharding.replicated(mesh))
    size = models.VARIANTS[variant]["image_size"]
    images = np.random.RandomState(0).randint(0, 256, (batch_size, size, size, 3), np.uint8)
    index = np.arange(batch_size, dtype=np.int32)
    labels = np.eye(_CLASSES, dtype=np.uint8)[index % _CLASSES]
    batch = {"image": images, "label": labels, "index": index, "mask": np.ones(batch_size, bool)}
    batch = sharding.put_batch(batch, mesh)
    key = jax.device_put(jax.random.key(0), sharding.replicated(mesh))

    def embed(params: Any, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        return nnx.merge(graphdef, params)(preprocess.normalize(images, dtype), key=key)

    def loss(params: Any, batch: Any, key: jax.Array) -> jax.Array:
        out = embed(params, batch["image"], key)
        return batch_loss(out, batch["label"], batch["mask"], alpha=0.5)

    start = time.perf_counter()
    if work == "encode":
        encode: Any = compile_encode(embed, mesh)
        compiled = encode.lower(state.params, batch["image"]).compile()
        run = _timed(lambda: compiled(state.params, batch["image"]))
    elif work == "gradient":
        compiled = jax.jit(jax.value_and_grad(loss)).lower(state.params, batch, key).compile()
        run = _timed(lambda: compiled(state.params, batch, key))
    else:
        step = make_train_step(
            graphdef,
            optimizer,
            HybridHash(),
            lambda images, keys: preprocess.normalize(images, dtype),
        )
        jitted: Any = compile_train_step(step, mesh)
        compiled = jitted.lower(state, batch, key).compile()
        held = [state]  # donated: each call takes what the one before returned

        def advance() -> Any:
            held[0], metrics = compiled(held[0], batch, key)
            return held[0], metrics

        run = _timed(advance)
    seconds = time.perf_counter() - start
    run()
    host_memory.keep_freed_memory()
    return Work(run, flop * (1 if work == "encode" else 3), seconds, compiled)


def _timed(function: Callable[[], Any]) -> Callable[[], float]:
    def run() -> float:
        start = time.perf_counter()
        jax.block_until_ready(function())
        return time.perf_counter() - start

    return run


def peak_flops(peak_tflops: float | None) -> tuple[float, str]:
    """Operations a second of one device, and where the figure is from."""
    kind = jax.devices()[0].device_kind
    if peak_tflops:
        return peak_tflops * 1e12, "given"
    for part, tflops in _PEAK_TFLOPS.items():
        if part in kind:
            return tflops * 1e12, "data sheet, bfloat16"
    x = jnp.ones((_MATMUL_SIDE, _MATMUL_SIDE))
    multiply = jax.jit(lambda x: x @ x)
    run = _timed(lambda: multiply(x))
    run()
    return 2 * _MATMUL_SIDE**3 / min(run() for _ in range(5)), "a float32 product in this run"


def peak_memory(work: Work) -> int | None:
    """MiB at most so far on the device, or those that the compiled program asks for."""
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"] >> 20
    analysis = work.compiled.memory_analysis()
    if analysis is None:
        return None
    parts = analysis.temp_size_in_bytes + analysis.argument_size_in_bytes
    return (parts + analysis.output_size_in_bytes - analysis.alias_size_in_bytes) >> 20


def make_sized_parser(
    description: str | None, precisions: str = "float32"
) -> argparse.ArgumentParser:
    """The flags of networks that are timed here or elsewhere: which, and at which sizes."""
    parser = measure.make_parser(description)
    add = parser.add_argument
    variants, known = measure.among(models.VARIANTS), measure.among(measure.PRECISIONS)
    add("--variants", type=variants, default="paper", help="names of networks, with commas")
    add("--batches", type=positive, nargs="+", default=[4], help="images a batch")
    add("--precisions", type=known, default=precisions, help="float32, bfloat16, with commas")
    return parser


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """The flags that both benchmarks have."""
    parser = make_sized_parser(description)
    parser.add_argument("--peak_tflops", type=float, help="of the device, for MFU")
    parser.add_argument("--torch", action="store_true", help="also the same network in PyTorch")
    parser.add_argument(
        "--mkl_avx512", action="store_true", help="with --torch: also with MKL's AVX-512 code"
    )
    parser.add_argument("--torch_python", default=sys.executable, help="interpreter with torch")
    return parser
