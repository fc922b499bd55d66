"""The memory bank: for every training image the last embedding seen, and its labels."""

import dataclasses

import jax
import jax.numpy as jnp

# Of a large bank, so that any usual number of devices divides its rows. It must not depend on the
# devices: a checkpoint has the same shapes on all of them.
ROW_MULTIPLE = 3 * 1024
PADDED_FROM = 1 << 16  # smaller banks have exactly one row an image


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MemoryBank:
    """One row a training image, in the order of the training split; then rows of padding.

    Attributes:
      embeddings: [rows, K] float32, zeros where not seen yet; never differentiated.
      labels: [rows, classes] uint8 multi-hot, zeros where not seen yet.
      seen: [rows] bool.
      num_images: n; the rows from there on are never written and never compared with.
    """

    embeddings: jax.Array
    labels: jax.Array
    seen: jax.Array
    num_images: int = dataclasses.field(metadata={"static": True})


def create_bank(num_images: int, bits: int, num_classes: int, dtype=jnp.float32) -> MemoryBank:
    """An empty bank of `rows_for(num_images)` rows."""
    rows = rows_for(num_images)
    return MemoryBank(
        embeddings=jnp.zeros((rows, bits), dtype),
        labels=jnp.zeros((rows, num_classes), jnp.uint8),
        seen=jnp.zeros((rows,), bool),
        num_images=num_images,
    )


def rows_for(num_images: int) -> int:
    """The rows of a bank: one an image, from `PADDED_FROM` on the next multiple of `ROW_MULTIPLE`."""
    if num_images < PADDED_FROM:
        return num_images
    return -(-num_images // ROW_MULTIPLE) * ROW_MULTIPLE


def update_bank(
    bank: MemoryBank, index: jax.Array, embeddings: jax.Array, labels: jax.Array
) -> MemoryBank:
    """Writes a batch into its rows; an index of n or more (padding) writes nothing.

    Args:
      bank: of n images.
      index: [B] integer rows, none twice.
      embeddings: [B, K]; no gradient flows into the bank.
      labels: [B, classes].
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
