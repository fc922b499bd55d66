"""The loops of CNNH's coordinate descent over H, compiled by Numba; see `cnnh.factored`."""

import numpy as np
from jaxtyping import Float64, Int64, UInt64

from input_pipeline.compiled import compiled


@compiled
def sums_of(
    embeddings: Float64[np.ndarray, "n K"], groups: Int64[np.ndarray, "n"], num_groups: int
) -> tuple[Float64[np.ndarray, "K K"], Float64[np.ndarray, "groups K"]]:
    """H^T H, and the sums of H by group."""
    n, bits = embeddings.shape
    products, sums = np.zeros((bits, bits)), np.zeros((num_groups, bits))
    for i in range(n):
        for j in range(bits):
            sums[groups[i], j] += embeddings[i, j]
            for k in range(bits):
                products[j, k] += embeddings[i, j] * embeddings[i, k]
    return products, sums


@compiled
def write_pull(
    group: int,
    words: UInt64[np.ndarray, "groups words"],
    sums: Float64[np.ndarray, "groups K"],
    total: Float64[np.ndarray, "K"],
    out: Float64[np.ndarray, "K"],
) -> None:
    """Writes the sum of H over similar groups minus that over the others."""
    out[:] = -total
    for other in range(sums.shape[0]):
        shared = np.uint64(0)
        for word in range(words.shape[1]):
            shared |= words[group, word] & words[other, word]
        if shared:
            for k in range(out.shape[0]):
                out[k] += 2 * sums[other, k]


@compiled
def mean_of(
    embeddings: Float64[np.ndarray, "n K"],
    groups: Int64[np.ndarray, "n"],
    words: UInt64[np.ndarray, "groups words"],
    products: Float64[np.ndarray, "K K"],
    sums: Float64[np.ndarray, "groups K"],
) -> float:
    """The mean of (H H^T - K S)^2."""
    n, bits = embeddings.shape
    total, pull = sums.sum(axis=0), np.empty(bits)
    inner = 0.0
    for group in range(sums.shape[0]):
        write_pull(group, words, sums, total, pull)
        for k in range(bits):
            inner += sums[group, k] * pull[k]
    for i in range(n):
        if not words[groups[i]].any():  # without labels, yet similar to itself
            inner += 2 * np.square(embeddings[i]).sum()
    return (np.square(products).sum() - 2 * bits * inner) / n / n + bits * bits


@compiled
def sweep(
    embeddings: Float64[np.ndarray, "n K"],
    groups: Int64[np.ndarray, "n"],
    words: UInt64[np.ndarray, "groups words"],
    products: Float64[np.ndarray, "K K"],
    sums: Float64[np.ndarray, "groups K"],
) -> None:
    """One sweep in place; `products` and `sums` follow."""
    n, bits = embeddings.shape
    total, pull = sums.sum(axis=0), np.empty(bits)
    for i in range(n):
        own, group = embeddings[i], groups[i]
        write_pull(group, words, sums, total, pull)
        itself = 0.0 if words[group].any() else 2.0
        square = np.square(own).sum()
        for j in range(bits):
            old, column = own[j], products[j]
            slope = (own * column).sum() - bits * (pull[j] + itself * old)
            curvature = column[j] + old * old + square - bits
            if curvature == 0:
                continue
            change = min(max(-slope / curvature, -1 - old), 1 - old)
            grown = 2 * change * old + change * change
            for k in range(bits):
                if k != j:
                    column[k] += change * own[k]
                    products[k, j] = column[k]
            column[j] += grown
            square += grown
            own[j] = old + change
            sums[group, j] += change
            total[j] += change
