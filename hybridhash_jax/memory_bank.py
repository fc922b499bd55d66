"""The memory bank: for every training image the last embedding seen, and its labels."""

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MemoryBank:
    """One row a training image, in the order of the training split.

    Attributes:
      embeddings: [n, K] float32, zeros where not seen yet; never differentiated.
      labels: [n, classes] uint8 multi-hot, zeros where not seen yet.
      seen: [n] bool.
    """

    embeddings: jax.Array
    labels: jax.Array
    seen: jax.Array


def create_bank(num_images: int, bits: int, num_classes: int, dtype=jnp.float32) -> MemoryBank:
    """An empty bank with exactly one row an image."""
    return MemoryBank(
        embeddings=jnp.zeros((num_images, bits), dtype),
        labels=jnp.zeros((num_images, num_classes), jnp.uint8),
        seen=jnp.zeros((num_images,), bool),
    )


def update_bank(
    bank: MemoryBank, index: jax.Array, embeddings: jax.Array, labels: jax.Array
) -> MemoryBank:
    """Writes a batch into its rows; an index of n or more (padding) writes nothing.

    Args:
      bank: n rows.
      index: [B] integer rows, none twice.
      embeddings: [B, K]; no gradient flows into the bank.
      labels: [B, classes].
    """
    embeddings = jax.lax.stop_gradient(embeddings).astype(bank.embeddings.dtype)
    return MemoryBank(
        embeddings=bank.embeddings.at[index].set(embeddings, mode="drop"),
        labels=bank.labels.at[index].set(labels.astype(bank.labels.dtype), mode="drop"),
        seen=bank.seen.at[index].set(True, mode="drop"),
    )
