"""A memory bank: the last embedding seen of every training image."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (JAX's own types are not complete.)

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

# Rows of a large bank are a multiple of this, so that any usual number of devices divides them. It
# must not depend on the devices: a checkpoint has the same shapes on all of them.
ROW_MULTIPLE = 3 * 1024
PADDED_FROM = 1 << 16  # smaller banks have exactly one row an image


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MemoryBank:
    """One row a training image, in the order of the training split; then rows of padding.

    Rows not seen yet are zeros; those from n, `num_images`, on are never written or compared with.
    """

    embeddings: jax.Array  # [rows, K] float32; never differentiated
    labels: jax.Array  # [rows, classes] uint8 multi-hot
    seen: jax.Array  # [rows] bool
    num_images: int = dataclasses.field(metadata={"static": True})


def create_bank(
    num_images: int, bits: int, num_classes: int, dtype: DTypeLike = jnp.float32
) -> MemoryBank:
    """An empty bank of `rows_for(num_images)` rows."""
    rows = rows_for(num_images)
    return MemoryBank(
        embeddings=jnp.zeros((rows, bits), dtype),
        labels=jnp.zeros((rows, num_classes), jnp.uint8),
        seen=jnp.zeros((rows,), bool),
        num_images=num_images,
    )


def rows_for(num_images: int) -> int:
    """A bank's rows: one an image, from `PADDED_FROM` on the next multiple of `ROW_MULTIPLE`."""
    if num_images < PADDED_FROM:
        return num_images
    return -(-num_images // ROW_MULTIPLE) * ROW_MULTIPLE


def update_bank(
    bank: MemoryBank, index: jax.Array, embeddings: jax.Array, labels: jax.Array
) -> MemoryBank:
    """Writes embeddings [B, K] and labels [B, classes] into the rows `index` [B], none twice.

    An index of n or more (padding) writes nothing. No gradient flows into the bank.
    """
    embeddings = jax.lax.stop_gradient(embeddings).astype(bank.embeddings.dtype)
    rows = len(bank.seen)
    if rows > bank.num_images:
        index = jnp.where(index < bank.num_images, index, rows)
    return dataclasses.replace(
        bank,
        embeddings=bank.embeddings.at[index].set(embeddings, mode="drop"),
        labels=bank.labels.at[index].set(labels.astype(bank.labels.dtype), mode="drop"),
        seen=bank.seen.at[index].set(True, mode="drop"),
    )
