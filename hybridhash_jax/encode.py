"""From batches of images to packed codes: signs are taken and packed where the network runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.distributed.state_sharding import Layout, compile_on_batches
from hybridhash_jax.runtime import host_memory
from input_pipeline.messages import shortened


class EncodedBatch(NamedTuple):
    """What leaves the devices for B images: K / 8 bytes an image, on every process."""

    packed: jax.Array  # uint8 [B, ceil(K / 8)], as `codes.pack`
    is_nan: jax.Array  # bool [B]: one of the embedding's values is NaN, and the code means nothing


Encode = Callable[[Any, jax.Array], EncodedBatch]


class EvaluationStopped(Exception):
    """A signal asked to stop during an evaluation."""


class NotANumberError(ValueError):
    """A network's outputs are NaN; says of how many images, and of which where that is known."""


def compile_encode(
    embed: Callable[[Any, jax.Array], jax.Array], mesh: Mesh, layout: Layout | None = None
) -> Encode:
    """Jits (params, images) -> `EncodedBatch`, the images split over the devices of `mesh`.

    `embed` maps (params, images uint8 [B, H, W, 3]) to embeddings [B, K]. The parameters lie as
    `layout` says, without one on every device. Only packed codes are gathered.
    """

    def encode(params: Any, images: jax.Array) -> EncodedBatch:
        embeddings = embed(params, images)
        # 0 and -0.0 count as +1, as in codes.binarize; devices may take subnormals for 0.
        signs = embeddings >= 0
        return EncodedBatch(jnp.packbits(signs, axis=1), jnp.isnan(embeddings).any(axis=1))

    return compile_on_batches(encode, mesh, layout)


def encode_split(
    encode: Encode,
    params: Any,
    batches: Iterable[Mapping[str, np.ndarray]],
    names: Sequence[str] | np.ndarray,
    mesh: Mesh,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_batch: Callable[[int], object] = lambda images: None,
) -> tuple[np.ndarray, np.ndarray]:
    """The packed codes uint8 [N, ceil(K / 8)] of a split, and which are readable, bool [N].

    `batches` are this process's slices, in order (padding comes last and is cut off), `names` [N]
    those of the images over all processes. `should_stop` is asked before each batch, `on_batch`
    told how many images each finished one had.

    Raises:
      EvaluationStopped: `should_stop` said so.
      NotANumberError: embeddings are NaN (how many, and of which images).
    """
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    done = 0
    previous: tuple[EncodedBatch, jax.Array] | None = None

    def fetch(encoded: EncodedBatch, mask: jax.Array) -> None:
        nonlocal done
        count = min(len(encoded.packed), len(names) - done)
        arrays = (encoded.packed, encoded.is_nan, mask)
        packed, is_nan, readable = (np.asarray(array)[:count] for array in arrays)
        parts.append((packed, is_nan, readable))
        done += count
        on_batch(count)

    for batch in batches:
        if should_stop():
            raise EvaluationStopped
        inputs = sharding.put_batch({name: batch[name] for name in ("image", "mask")}, mesh)
        # Runs while the batch before is fetched.
        current = encode(params, inputs["image"]), sharding.replicate(inputs["mask"], mesh)
        if previous is None:
            host_memory.keep_freed_memory()  # the encoder is compiled now
        else:
            fetch(*previous)
        previous = current
    if previous is not None:
        fetch(*previous)
    packed, is_nan, readable = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    _check_numbers(is_nan & readable, names)
    return packed, readable


def _check_numbers(is_nan: np.ndarray, names: Sequence[str] | np.ndarray) -> None:
    bad = np.flatnonzero(is_nan)
    if not bad.size:
        return
    shown = shortened([str(names[index]) for index in bad.tolist()])
    raise NotANumberError(
        f"the embeddings of {bad.size:,} of {len(is_nan):,} images are NaN: {shown}. NaN has "
        "no sign and gives no code. All of them: look for a diverged training run or a damaged "
        "checkpoint. A few: look at these images, or compute in float32 "
        "(--config.model.dtype=float32)."
    )
