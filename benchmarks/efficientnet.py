"""EfficientNet-Lite0 on one core: images a second, its floor, and if wanted beside PyTorch.

    python -m benchmarks.efficientnet --torch --out=benchmarks/results/efficientnet_cpu.json

Figures are of processor time, which other work on the machine changes less than the clock. The
floor is the network's multiply-adds at the speed of a large float32 product. Depthwise convolutions
are also timed alone, as the sum of shifted products that the program uses on CPU and as XLA's
grouped convolution, and "grouped" is the whole network with the latter.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.measure import (
    Seconds,
    make_parser,
    pin_to_one_core,
    run_and_exit,
    seconds_of,
    take_turns,
    write_record,
)
from benchmarks.torch_baseline import TorchWorker
from hybridhash_jax import models, pretrained
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.encode import compile_encode
from hybridhash_jax.models.ops.depthwise import depthwise
from hybridhash_jax.preprocess import pixels
from hybridhash_jax.pretrained.files import packages
from hybridhash_jax.runtime import host_memory

Way = Callable[[], Seconds]

_VARIANT, _BITS = "efficientnet_lite0", 64
# (work, pixels, images a batch)
_CASES = (("encode", 224, 16), ("encode", 160, 32), ("encode", 128, 32), ("gradient", 96, 32))
_PRODUCT_SIDE = 2048
# Depthwise convolutions of the network at 224 pixels: (side of the map, channels, kernel, stride).
_DEPTHWISE = (
    (112, 32, 3, 1), (112, 96, 3, 2), (56, 144, 3, 1), (56, 144, 5, 2), (28, 240, 5, 1),
    (14, 480, 3, 1), (14, 672, 5, 1), (7, 1152, 5, 1),
)  # fmt: skip
_DEPTHWISE_BATCH = 8


def main() -> None:
    args = _parse_args()
    pin_to_one_core()  # before JAX makes its threads, and PyTorch's process
    host_memory.compute_on_calling_thread()  # as main.py does
    worker = None
    if args.torch:
        weights = str(packages.find(_VARIANT))
        worker = TorchWorker(args.torch_python, "benchmarks.torch_efficientnet", weights=weights)
    rows = [_measure(*case, args.repetitions, worker) for case in _CASES]
    alone = [_depthwise(*shape, args.repetitions) for shape in _DEPTHWISE]
    if args.out:
        write_record(
            args.out,
            ("jax", "jaxlib", "flax", "numpy"),
            torch=worker.version if worker else None,
            note=args.note,
            rows=rows,
            depthwise=alone,
        )


def _measure(
    work: str, size: int, batch_size: int, repetitions: int, worker: TorchWorker | None
) -> dict[str, Any]:
    multiply_adds, run = _jax_way(work, size, batch_size)
    ways: dict[str, Way] = {"product": _product(), "jax": run}
    with mock.patch("hybridhash_jax.models.efficientnet_lite.depthwise", _grouped):
        ways["jax, grouped"] = _jax_way(work, size, batch_size)[1]
    if worker is not None:
        for name, expert in (("torch", False), ("torch, folded, channels last", True)):
            ways[name] = worker.prepare_with(
                size=size,
                batch_size=batch_size,
                work=work,
                # A folded network is not what is trained.
                folded=expert and work == "encode",
                channels_last=expert,
            )
    seconds = _processor_seconds(ways, repetitions)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    peak = 2 * _PRODUCT_SIDE**3 / medians.pop("product")
    passes = 1 if work == "encode" else 3
    floor = 2 * multiply_adds * batch_size * passes / peak
    row: dict[str, Any] = {
        "work": work, "pixels": size, "batch_size": batch_size,
        "million_multiply_adds": round(multiply_adds / 1e6),
        "images_per_second": {name: round(batch_size / s, 1) for name, s in medians.items()},
        "product_gflops": round(peak / 1e9, 1),
        "floor_images_per_second": round(batch_size / floor, 1),
        "times_the_floor": round(medians["jax"] / floor, 2),
        "jax_over": {name: _ratio(seconds, name) for name in medians if name != "jax"},
        "seconds": {name: [round(s, 5) for s in values] for name, values in seconds.items()},
    }  # fmt: skip
    print(f"{work}, {size} px, batch {batch_size}: {row['images_per_second']} images/s;")
    print(f"  floor {row['floor_images_per_second']}, JAX takes {row['times_the_floor']} times it;")
    print(f"  JAX's time over that of {row['jax_over']}", flush=True)
    return row


def _processor_seconds(ways: Mapping[str, Way], repetitions: int) -> dict[str, list[float]]:
    seconds = take_turns(ways, repetitions, warm_up=True)
    return {name: [processor for _, processor in values] for name, values in seconds.items()}


def _ratio(seconds: Mapping[str, list[float]], name: str) -> float:
    """The median of JAX's time over the other's within a turn."""
    pairs = zip(seconds["jax"], seconds[name], strict=True)
    return round(statistics.median(a / b for a, b in pairs), 3)


def _jax_way(work: str, size: int, batch_size: int) -> tuple[int, Way]:
    """(multiply-adds of an image, the work compiled as the program does it)."""
    model = models.create_network(_VARIANT, image_size=size, outputs=_BITS, rngs=nnx.Rngs(0))
    pretrained.load_pretrained(model, _VARIANT)
    multiply_adds = models.forward_flops(model) // 2
    mean, std = model.backbone.pixel_mean, model.backbone.pixel_std
    graphdef, params = nnx.split(model)
    drawn = np.random.RandomState(0).randint(0, 256, (batch_size, size, size, 3), np.uint8)

    def embed(params: Any, images: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, params)(pixels.normalize(images, mean=mean, std=std))

    if work == "encode":
        mesh = sharding.make_mesh(1)
        images = sharding.put_batch({"image": drawn}, mesh)["image"]
        params = jax.device_put(params, sharding.replicated(mesh))
        encode: Any = compile_encode(embed, mesh)
        compiled = encode.lower(params, images).compile()
    else:
        images = jnp.asarray(drawn)
        gradient = jax.jit(jax.grad(lambda params, x: jnp.square(embed(params, x)).mean()))
        compiled = gradient.lower(params, images).compile()
    run = _timed(lambda: compiled(params, images))
    run()
    host_memory.keep_freed_memory()
    return multiply_adds, run


def _timed(function: Callable[[], Any]) -> Way:
    return lambda: seconds_of(lambda: jax.block_until_ready(function()))


def _product() -> Way:
    x = jnp.ones((_PRODUCT_SIDE, _PRODUCT_SIDE))
    multiply = jax.jit(lambda x: x @ x)
    return _timed(lambda: multiply(x))


def _grouped(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """XLA's own depthwise convolution."""
    return jax.lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _depthwise(size: int, channels: int, side: int, stride: int, repetitions: int) -> dict:
    """Milliseconds an image of both formulations, forward and with both gradients."""
    x = jax.random.normal(jax.random.key(0), (_DEPTHWISE_BATCH, size, size, channels))
    kernel = jax.random.normal(jax.random.key(1), (side, side, channels))
    ways: dict[str, Way] = {}
    for name, function in (("products", depthwise), ("grouped", _grouped)):

        def forward(x: jax.Array, kernel: jax.Array, function: Any = function) -> jax.Array:
            return function(x, kernel, stride)

        def both(x: jax.Array, kernel: jax.Array, forward: Any = forward) -> Any:
            out, pull = jax.vjp(forward, x, kernel)
            return out, pull(out)

        for suffix, work in (("", forward), (", and gradients", both)):
            compiled = jax.jit(work).lower(x, kernel).compile()
            ways[name + suffix] = _timed(lambda compiled=compiled: compiled(x, kernel))
    seconds = _processor_seconds(ways, repetitions)
    medians = {
        name: round(1000 * statistics.median(values) / _DEPTHWISE_BATCH, 3)
        for name, values in seconds.items()
    }
    print(
        f"depthwise {side}x{side} of {size}x{size}x{channels}, stride {stride}: {medians} ms/image"
    )
    return {
        "map": size, "channels": channels, "kernel": side, "stride": stride,
        "milliseconds_an_image": medians,
    }  # fmt: skip


def _parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, repetitions=7)
    parser.add_argument("--torch", action="store_true", help="also the same network in PyTorch")
    parser.add_argument("--torch_python", default=sys.executable, help="interpreter with torch")
    parser.add_argument("--note", default="", help="what else ran, for the record")
    return parser.parse_args()


if __name__ == "__main__":
    run_and_exit(main)
