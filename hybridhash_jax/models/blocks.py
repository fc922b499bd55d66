"""Cutting a feature map into square blocks of tokens, and putting it together again."""

from jaxtyping import Array, Shaped


def blockify(x: Shaped[Array, "B H W C"], block_side: int) -> Shaped[Array, "B T N C"]:
    """Cuts a map into T = H/b * W/b blocks of N = b*b tokens, b = `block_side`; both row-major."""
    batch, height, width, channels = x.shape
    if height % block_side or width % block_side:
        raise ValueError(f"a {height}x{width} map cannot be cut into blocks of side {block_side}")
    rows, columns = height // block_side, width // block_side
    x = x.reshape(batch, rows, block_side, columns, block_side, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5)  # [B, rows, columns, b, b, C]
    return x.reshape(batch, rows * columns, block_side * block_side, channels)


def unblockify(
    blocks: Shaped[Array, "B T N C"], block_side: int, height: int, width: int
) -> Shaped[Array, "B {height} {width} C"]:
    """The inverse of `blockify`."""
    batch, count, tokens, channels = blocks.shape
    rows, columns = height // block_side, width // block_side
    if count != rows * columns or tokens != block_side * block_side:
        raise ValueError(
            f"{count} blocks of {tokens} tokens do not make a {height}x{width} map "
            f"of blocks of side {block_side}"
        )
    x = blocks.reshape(batch, rows, columns, block_side, block_side, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5)  # [B, rows, b, columns, b, C]
    return x.reshape(batch, height, width, channels)
