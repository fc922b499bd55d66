"""The whole way from crops to packed codes as one function, with its weights in it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import export, lax

from hybridhash_jax.models.efficientnet_lite import ConvNorm
from hybridhash_jax.preprocess.augmentation import prepare_images
from hybridhash_jax.retrieval.encoding.network import Program
from hybridhash_jax.retrieval.model_file.errors import NO_FLATBUFFERS, ModelFileError
from hybridhash_jax.retrieval.model_file.facts import Facts
from hybridhash_jax.retrieval.model_file.seal import sealed

PLATFORMS = ("cpu", "cuda", "tpu")


def _as_float16(x: jax.Array) -> jax.Array:
    # Not by conversion there and back, which XLA may leave out.
    return lax.reduce_precision(x, exponent_bits=5, mantissa_bits=10)


def make_encode(
    program: Program, as_float16: Callable[[jax.Array], jax.Array] = _as_float16
) -> Callable[[jax.Array], jax.Array]:
    """(crops uint8 [b, S, S, 3]) -> packed codes uint8 [b, ceil(bits / 8)], batch norm folded.

    `as_float16` rounds features, float32, where the encoder's codes are of features that were kept.
    """
    network, plan = program.network(), program.plan
    for _, module in nnx.iter_modules(network):
        if isinstance(module, ConvNorm):
            module.fold()
    backbone = network.backbone

    def encode(crops: jax.Array) -> jax.Array:
        images = prepare_images(
            crops, network.image_size, mean=backbone.pixel_mean, std=backbone.pixel_std
        )
        if plan is None:
            embeddings = network(images)
        else:
            features = as_float16(backbone.stages(images)[plan.stage].astype(jnp.float32))
            embeddings = network(features, after=plan.stage)
        return jnp.packbits(embeddings >= 0, axis=1)

    return encode


def export_program(program: Program, facts: Facts) -> bytes:
    """The program as `jax.export` keeps it, `sealed`: for `PLATFORMS`, and batches of any size.

    Raises:
      ModelFileError: flatbuffers is not installed.
    """
    encode = make_encode(program)
    # What the file says of images stands in the name, the one text that an exported program keeps.
    encode.__name__ = encode.__qualname__ = facts.to_name()
    (batch,) = export.symbolic_shape("b")
    crops = jax.ShapeDtypeStruct((batch, facts.size, facts.size, 3), jnp.uint8)
    exported = export.export(jax.jit(encode), platforms=PLATFORMS)(crops)
    try:
        return sealed(bytes(exported.serialize()))
    except ImportError:
        raise ModelFileError(NO_FLATBUFFERS) from None
