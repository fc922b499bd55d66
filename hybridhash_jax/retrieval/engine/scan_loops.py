"""The loop over all codes of an index, compiled by Numba: distances of a block, then what is near."""

import numpy as np

from hybridhash_jax.metrics.numba_typed import compiled, popcount

# Codes whose distances are kept at a time: 8 KB, in the first-level cache. A whole block is looked
# at with a few vector instructions, and code by code only where one of them is near enough.
_BLOCK = 4096
_FAR = 65535  # the distance of what is not searched


@compiled
def fill_distances(codes, query, mask, distances):
    """Writes the Hamming distances of codes uint64 [n, W] to query [W] into uint16 [n].

    Where the mask, bool [n] or empty for all, is False, the distance is 65535.
    """
    n, width = codes.shape
    if width == 1:  # of its own, since LLVM makes vectors of it
        of_query = query[0]
        for i in range(n):
            distances[i] = popcount(codes[i, 0] ^ of_query)
    else:
        for i in range(n):
            total = np.uint64(0)
            for word in range(width):
                total += popcount(codes[i, word] ^ query[word])
            distances[i] = total
    if len(mask):
        for i in range(n):
            if not mask[i]:
                distances[i] = _FAR


@compiled
def keep_nearest(codes, query, mask, first_row, limit, counts, kept):
    """Goes on with the k nearest through another segment; returns the distance to look up to.

    Args:
      codes: uint64 [n, W].
      query: uint64 [W].
      mask: bool [n] of those that are searched; empty for all.
      first_row: row of the first code.
      limit: distance to look up to, from the call before; at first the most that is asked for.
      counts: int64 [bits + 1], how many were found at each distance up to the limit; updated.
      kept: int64 [bits + 1, k], the first rows at each distance; updated.
    """
    n, k = len(codes), kept.shape[1]
    distances = np.empty(_BLOCK, np.uint16)
    nearer = counts[:limit].sum()
    for start in range(0, n, _BLOCK):
        end = min(n, start + _BLOCK)
        block = distances[: end - start]
        fill_distances(codes[start:end], query, mask[start:end], block)
        found = 0
        for i in range(len(block)):
            found += block[i] <= limit
        if found == 0:
            continue
        for i in range(len(block)):
            distance = np.int64(block[i])
            if distance > limit:
                continue
            place = counts[distance]
            if place < k:
                kept[distance, place] = first_row + start + i
            counts[distance] = place + 1
            if distance < limit:
                nearer += 1
                while nearer >= k and limit > 0:
                    limit -= 1
                    nearer -= counts[limit]
    return limit
