"""What codes look like without labels: balance, entropy, correlation and diversity of bits."""

import dataclasses

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64, Int8

from hybridhash_jax import codes as codes_lib
from input_pipeline.messages import counted

_ROWS_A_PRODUCT = 1 << 12  # as float32 1 MiB at 64 bits; counts are exact up to 2^24 rows


@dataclasses.dataclass(frozen=True, eq=False)
class CodeStatistics:
    """Statistics of a set of codes; a collapse shows in each of them.

    Attributes:
        bit_balance: mean of each bit in [-1, 1]; 0 is balanced.
        bit_entropy: -p log2 p - (1-p) log2 (1-p) of each bit, with p the share of +1, in [0, 1].
        bit_correlation: Pearson's of every two bits; 0, on the diagonal too, where one never changes.
        constant_bits: how many never change.
        largest_share: share of the items that have the commonest code, in (0, 1].
        code_entropy: entropy of the distribution of codes in bits, at most K and log2 N.
    """

    bit_balance: Float64[np.ndarray, "K"]
    bit_entropy: Float64[np.ndarray, "K"]
    bit_correlation: Float64[np.ndarray, "K K"]
    constant_bits: int
    distinct_codes: int
    largest_share: float
    code_entropy: float

    @property
    def mean_correlation(self) -> float:
        """Mean of the absolute correlations of different bits; 0 for a single bit."""
        bits = len(self.bit_correlation)
        total = np.abs(self.bit_correlation).sum() - np.abs(np.diag(self.bit_correlation)).sum()
        return float(total / max(bits * (bits - 1), 1))


def code_statistics(codes: npt.ArrayLike) -> CodeStatistics:
    """Measures balance, correlation, entropy and diversity of codes [N, K] of -1/+1 or 0/1.

    A single code is balanced in no bit and has entropy 0. No codes are a ValueError.
    """
    array = codes_lib.check_codes(codes, "codes")
    if len(array) == 0:
        raise ValueError("codes is empty; statistics need at least one code.")
    balance, products = _first_moments(array)
    words = codes_lib.to_words(array)
    words = words[:, np.lexsort(words)]  # np.unique of several words took far longer
    is_new = (words[:, 1:] != words[:, :-1]).any(axis=0)
    counts = np.diff(np.flatnonzero(np.concatenate([[True], is_new, [True]])))
    shares = counts / len(array)
    return CodeStatistics(
        bit_balance=balance,
        bit_entropy=_bit_entropy((1 + balance) / 2),
        bit_correlation=_correlation(products, balance),
        constant_bits=int(np.count_nonzero(np.abs(balance) == 1)),
        distinct_codes=len(counts),
        largest_share=float(shares.max()),
        code_entropy=float(-(shares * np.log2(shares)).sum()) + 0.0,
    )


def collapse_symptoms(
    bits: int, num_classes: int, *, constant_bits: int, distinct_codes: int, largest_share: float
) -> list[str]:
    """Says in plain words why codes have collapsed; empty where they have not.

    Collapsed: half of the items share one code, or a quarter of the bits never changes, or there
    are fewer distinct codes than classes that the items have. Of two codes, or two classes, one may
    well have half of the items: there it takes three quarters. The arguments by name are those of
    `CodeStatistics`.
    """
    symptoms: list[str] = []
    if largest_share >= (0.5 if min(2**bits, num_classes) > 2 else 0.75):
        symptoms.append(f"{largest_share:.0%} of the database has one and the same code")
    if constant_bits >= max(1, bits / 4):
        symptoms.append(f"{constant_bits} of {bits} bits never change")
    if distinct_codes < num_classes:
        symptoms.append(
            f"only {counted(distinct_codes, 'distinct code')} for {num_classes:,} classes"
        )
    return symptoms


def _bit_entropy(share: Float64[np.ndarray, "K"]) -> Float64[np.ndarray, "K"]:
    both = np.stack([share, 1 - share])
    return -(both * np.log2(np.where(both > 0, both, 1))).sum(axis=0) + 0.0


def _first_moments(
    array: Int8[np.ndarray, "N K"],
) -> tuple[Float64[np.ndarray, "K"], Float64[np.ndarray, "K K"]]:
    """Means of the bits, and of the products of every two."""
    bits = array.shape[1]
    total, products = np.zeros(bits), np.zeros((bits, bits))
    for start in range(0, len(array), _ROWS_A_PRODUCT):
        rows = array[start : start + _ROWS_A_PRODUCT].astype(np.float32)
        total += np.ones(len(rows), np.float32) @ rows
        products += rows.T @ rows
    return total / len(array), products / len(array)


def _correlation(
    products: Float64[np.ndarray, "K K"], balance: Float64[np.ndarray, "K"]
) -> Float64[np.ndarray, "K K"]:
    """(E[ab] - E[a] E[b]) / (sd a sd b); sd^2 = 1 - E[a]^2 for a = -1 or +1."""
    covariance = products - np.outer(balance, balance)
    deviation = np.sqrt(1 - balance**2)
    scale = np.outer(deviation, deviation)
    return np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0)
