"""Initial parameters: one draw for the whole network, cut up and scaled.

A draw a parameter would cost seconds of compilation each time a program starts.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

# "normal" is the authors' (standard deviation 0.02 everywhere, made for fine-tuning NesT weights:
# from scratch its hash head gives codes near 0, a saddle of the loss). "fan_in" has variance
# 1/fan_in in linear layers and convolutions, and trains from scratch.
_NORMAL_STD = 0.02
# Standard deviation of a normal distribution cut off at two of its own.
_TRUNCATED_STD = 0.87962566103423978


def initialize(model: nnx.Module, initializer: str, key: jax.Array) -> None:
    """Draws the weights and level position embeddings of `model`, in place.

    Weights are drawn from a normal distribution truncated at two standard deviations ("fan_in")
    or a plain one ("normal"); level position embeddings from normal(0.02) in both. Everything
    else (biases 0, LayerNorm scales 1, token position embeddings 0) stays as constructed. The order
    of the parameters' paths decides which get which numbers.
    """
    drawn = [
        (path, value) for path, value in nnx.to_flat_state(nnx.state(model)) if _is_drawn(path)
    ]
    # As if the backbone's parts were the network's: a seed gives the same weights as ever.
    drawn.sort(key=lambda entry: [part for part in entry[0] if part != "backbone"])
    total = sum(value.size for _, value in drawn)
    if initializer == "normal":
        numbers = jax.random.normal(key, (total,), jnp.float32)
    else:
        numbers = (
            jax.random.truncated_normal(key, -2.0, 2.0, (total,), jnp.float32) / _TRUNCATED_STD
        )
    filled, start = [], 0
    for path, value in drawn:
        std = _NORMAL_STD
        if initializer == "fan_in" and path[-1] == "kernel":
            std = 1 / math.sqrt(math.prod(value.shape[:-1]))
        part = numbers[start : start + value.size].reshape(value.shape)
        filled.append((path, value.replace(jnp.asarray(part * std, jnp.float32))))
        start += value.size
    nnx.update(model, nnx.from_flat_state(filled))


def _is_drawn(path: tuple) -> bool:
    of_level = path[-1] == "position_embedding" and "token_attention" not in path
    return path[-1] == "kernel" or of_level
