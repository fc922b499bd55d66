"""Formulations of attention on the device at hand: seconds of forward, and of forward and backward.

    python -m benchmarks.attention --variants=paper --batch_size=128 --precision=bfloat16

The shapes are those of each level of the networks: heads among the tokens of each block.
A formulation that the device does not have is left out, with what JAX says.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measure import (
    PRECISIONS,
    among,
    make_parser,
    run_and_exit,
    take_turns,
    write_record,
)
from hybridhash_jax.models import VARIANTS
from hybridhash_jax.models.ops.attention import attend, attend_by_jax, attend_channels_first
from input_pipeline.commands import positive

WAYS: dict[str, Callable[..., jax.Array]] = {
    "the program's": attend,
    "jax, xla": functools.partial(attend_by_jax, implementation="xla"),
    "jax, cudnn": functools.partial(attend_by_jax, implementation="cudnn"),
    "channels first": attend_channels_first,
}


def main() -> None:
    args = _parse_args()
    rows = []
    for variant in args.variants.split(","):
        sizes = VARIANTS[variant]
        halvings = len(sizes["depths"]) - 1
        tokens = (sizes["image_size"] // sizes["patch_size"] // 2**halvings) ** 2
        for level in range(halvings + 1):
            heads, channels = sizes["num_heads"][level], sizes["embed_dims"][level]
            blocks = args.batch_size * 4 ** (halvings - level)
            rows.append({"variant": variant, **_measure(args, (blocks, tokens, channels), heads)})
    if args.out:
        write_record(args.out, ("jax", "jaxlib"), device=jax.devices()[0].device_kind, rows=rows)


def _measure(args: argparse.Namespace, shape: tuple[int, int, int], heads: int) -> dict[str, Any]:
    blocks, tokens, channels = shape
    qkv = jax.random.normal(jax.random.key(0), (blocks, tokens, 3 * channels))
    qkv = qkv.astype(args.precision)
    ways, missing = {}, {}
    for name, way in WAYS.items():
        for work in ("forward", "gradient"):
            try:
                ways[f"{name}, {work}"] = _prepare(way, qkv, heads, work)
            except Exception as error:  # what a device lacks is told in many types
                missing[f"{name}, {work}"] = str(error).strip().splitlines()[0]
    seconds = take_turns(ways, args.repetitions, warm_up=True)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{blocks} blocks x {heads} heads x {tokens} tokens, {args.precision}")
    for name, value in medians.items():
        print(f"  {name:<28}{value * 1e3:>10.3f} ms", flush=True)
    for name, reason in missing.items():
        print(f"  {name:<28}{'-':>10}     {reason[:120]}", flush=True)
    return {
        "blocks": blocks, "tokens": tokens, "channels": channels, "heads": heads,
        "precision": args.precision, "median_seconds": medians, "missing": missing,
        "seconds": seconds,
    }  # fmt: skip


def _prepare(way: Callable[..., jax.Array], qkv: jax.Array, heads: int, work: str):
    def forward(qkv: jax.Array) -> jax.Array:
        return way(qkv, heads)

    def loss(qkv: jax.Array) -> jax.Array:
        return forward(qkv).astype(jnp.float32).sum()

    run = jax.jit(forward if work == "forward" else jax.grad(loss))
    jax.block_until_ready(run(qkv))

    def once() -> float:
        start = time.perf_counter()
        jax.block_until_ready(run(qkv))
        return time.perf_counter() - start

    return once


def _parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--variants", type=among(VARIANTS), default="paper", help="networks, with commas"
    )
    parser.add_argument("--batch_size", type=positive, default=4, help="images")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    return parser.parse_args()


if __name__ == "__main__":
    run_and_exit(main)
