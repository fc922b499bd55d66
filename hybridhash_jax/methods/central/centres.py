"""Codes of classes: far from one another, with bits that tell classes apart.

Rows of a Hadamard matrix are K/2 apart. As a list begins with them, Sylvester's rows 1 to C have
bits that are the same for every class, or equal to another bit, when C is small: of 10 classes, 16
bits in effect at any length. Here the rows are drawn at random and each is taken or negated, by
chance too. Both keep all distances; flipping columns would as well, but leaves a constant bit constant.
"""

import numpy as np

from hybridhash_jax.methods.central.hadamard import hadamard_matrix
from input_pipeline.permutation import permutation, random_words

_TRIES = 64  # choices of Hadamard rows, of which the best is taken
_BLOCK = 1024  # random rows drawn at once

# What random numbers are for: the second number of their key.
_ROWS, _SIGNS, _BITS, _BALANCED, _ANY, _ORDER = 1, 2, 3, 4, 5, 6


def hash_centres(num_classes: int, bits: int, seed: int = 0) -> np.ndarray:
    """Codes of -1 and +1, int8 [classes, K], far from one another; the same on every machine.

    Up to 2 K classes: rows of a Hadamard matrix, of order K or of the next order that there is, of
    which bits are left out. Without complements and without its row of +1 while the others are
    enough. Of `_TRIES` choices the one with the largest least distance, then with the fewest bits
    that are constant or equal, then with the fewest that are complements of another. More classes:
    `random_centres`.
    """
    order = next(n for n in range(bits, 2 * bits + 5) if hadamard_matrix(n) is not None)
    if num_classes > 2 * order:
        return random_centres(num_classes, bits, seed)
    best, best_score = np.zeros((0, bits), np.int8), None
    for number in range(_TRIES):
        codes = _hadamard_rows(num_classes, bits, order, seed, number)
        equal, complements = _wasted_bits(codes)
        score = -least_distance(codes), equal, complements
        if best_score is None or score < best_score:
            best, best_score = codes, score
        if order == bits and equal == complements == 0:
            break
    return best


def published_centres(num_classes: int, bits: int, seed: int = 0) -> np.ndarray:
    """CSQ's centres as its authors' tutorial and DeepHash-pytorch have them, int8 [classes, K].

    The first rows of [H; -H], with Sylvester's H, where K is a power of two and there are at most
    2 K classes; more classes: those rows, then `random_centres`; other lengths: `random_centres`.
    """
    if bits & (bits - 1):
        return random_centres(num_classes, bits, seed)
    hadamard = hadamard_matrix(bits)
    assert hadamard is not None
    rows = np.concatenate([hadamard, -hadamard])[:num_classes]
    return random_centres(num_classes, bits, seed, rows) if num_classes > len(rows) else rows


def random_centres(
    num_classes: int, bits: int, seed: int = 0, first: np.ndarray | None = None
) -> np.ndarray:
    """Random codes, int8 [classes, K], as far from one another as a greedy choice finds.

    Codes have as many +1 as -1 while there are enough of them. Each of many draws is taken if it
    is far enough from all taken before; the distance asked for begins at K/2 and falls by one when
    too few of 1,024 draws are taken. `first` are codes that stay in front.
    """
    taken = np.zeros((num_classes, bits), np.float32)
    count = 0 if first is None else len(first)
    if first is not None:
        taken[:count] = first
    distance, number = bits // 2, 0
    while count < num_classes:
        draws = _random_rows(bits, seed, number, balanced=distance > 1)
        draws = draws[_distances(draws, taken[:count]).min(axis=1, initial=bits) >= distance]
        chosen = _far_apart(draws, distance)[: num_classes - count]
        enough = _enough(num_classes - count, 128)
        taken[count : count + len(chosen)] = chosen
        count, number = count + len(chosen), number + 1
        distance -= len(chosen) < enough
    return taken.astype(np.int8)


def greedy_centres(num_classes: int, bits: int, seed: int = 0) -> np.ndarray:
    """DPN's greedy targets "O", int8 [classes, K], in random order.

    A random code is taken if it differs from each of those before in 0.61 K bits; 0.01 K less
    whenever 10,000 codes in turn were refused, down to 0.2 K; from there on any new code is. While more
    than 1,000 are missing, less also when too few of 1,024 draws are taken: so that it ends soon.
    """
    taken, share, refused, number = np.zeros((0, bits), np.float32), 0.61, 0, 0
    while len(taken) < num_classes:
        draws = _random_rows(bits, seed, number, balanced=False)
        number += 1
        # Below the floor any new code is taken; any code at all where they might run out.
        distance = share * bits if share >= 0.2 else num_classes <= 2 ** (bits - 1)
        far = draws[_distances(draws, taken).min(axis=1, initial=bits) >= distance]
        chosen = _far_apart(far, distance)[: num_classes - len(taken)]
        few = len(chosen) < _enough(num_classes - len(taken), 1000)
        taken = np.concatenate([taken, chosen])
        refused = 0 if len(chosen) else refused + len(draws)
        if refused >= 10_000 or (few and num_classes - len(taken) > 1000):
            share, refused = share - 0.01, 0
    return taken.astype(np.int8)[permutation(num_classes, seed, _ORDER)]


def balanced_row(bits: int, seed: int, number: int) -> np.ndarray:
    """A random row of bits // 2 times +1, else -1; the same on every machine."""
    row = np.full(bits, -1, np.int8)
    row[permutation(bits, seed, number)[: bits // 2]] = 1
    return row


def least_distance(codes: np.ndarray) -> int:
    """The least number of bits in which two of the codes [classes, K] differ; K for one code."""
    return int(min(_nearest(codes), default=codes.shape[1]))


def too_near(codes: np.ndarray, distance: int) -> np.ndarray:
    """The rows of codes [classes, K] that differ from another in fewer than `distance` bits."""
    return np.flatnonzero(_nearest(codes) < distance)


def distance_score(codes: np.ndarray) -> tuple[int, float, float]:
    """The larger the better: least distance of codes [classes, K], mean, minus the variance."""
    pairs = max(len(codes) * (len(codes) - 1), 1)
    blocks = (_distances(block, codes) for block in _blocks(codes))
    sums = [(x.sum(dtype=np.float64), np.square(x).sum(dtype=np.float64)) for x in blocks]
    mean, square = (float(sum(column)) / pairs for column in zip(*sums, strict=True))
    return least_distance(codes), mean, mean**2 - square


def _blocks(codes: np.ndarray) -> list[np.ndarray]:
    return [codes[first : first + _BLOCK] for first in range(0, len(codes), _BLOCK)]


def _nearest(codes: np.ndarray) -> np.ndarray:
    """Each code's distance from the nearest other one, [classes]; K for one code."""
    nearest: list[np.ndarray] = []
    for number, block in enumerate(_blocks(codes)):
        distances = _distances(block, codes)
        rows = np.arange(len(block))
        distances[rows, number * _BLOCK + rows] = codes.shape[1]
        nearest.append(distances.min(axis=1))
    return np.concatenate(nearest)


def _distances(codes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """In how many bits they differ, float32 [B, M]; exact."""
    return (codes.shape[1] - codes.astype(np.float32) @ others.astype(np.float32).T) / 2


def _hadamard_rows(num_classes: int, bits: int, order: int, seed: int, number: int) -> np.ndarray:
    """A random choice of rows of [H; -H], and of its bits where the order has more."""
    hadamard = hadamard_matrix(order)
    assert hadamard is not None
    rows = np.append(1 + permutation(order - 1, seed, _ROWS, number), 0)
    signs = _signs(random_words(order, seed, _SIGNS, number))
    signed = hadamard[rows] * signs[:, None]
    columns = np.sort(permutation(order, seed, _BITS, number)[:bits])
    return np.concatenate([signed, -signed])[:num_classes, columns]


def _wasted_bits(codes: np.ndarray) -> tuple[int, int]:
    """How many bits are constant or equal another, and how many of the rest complement another."""
    varying = codes.T[np.abs(codes.sum(axis=0, dtype=np.int64)) < len(codes)]
    different = len(np.unique(varying, axis=0))
    up_to_sign = len(np.unique(varying * varying[:, :1], axis=0))
    return codes.shape[1] - different, different - up_to_sign


def _random_rows(bits: int, seed: int, number: int, balanced: bool) -> np.ndarray:
    """`_BLOCK` random rows, float32; balanced: of bits // 2 times +1, else -1."""
    words = random_words(_BLOCK * bits, seed, _BALANCED if balanced else _ANY, number)
    words = words.reshape(_BLOCK, bits)
    if not balanced:
        return _signs(words).astype(np.float32)
    order = np.argsort(words, axis=1, kind="stable")
    rows = np.full((_BLOCK, bits), -1, np.float32)
    np.put_along_axis(rows, order[:, : bits // 2], 1, axis=1)
    return rows


def _enough(missing: int, patient_below: int) -> int:
    """How many of a block's draws must be taken, or the distance falls; 1 for the last codes."""
    return min(max(1, (missing - patient_below) // 8), _BLOCK // 8)


def _signs(words: np.ndarray) -> np.ndarray:
    """-1 or +1 by each word's highest bit, int8."""
    return np.where(words >> np.uint64(63), 1, -1).astype(np.int8)


def _far_apart(rows: np.ndarray, distance: float) -> np.ndarray:
    """Those of the rows, in order, that are `distance` or more from each one kept before."""
    near = _distances(rows, rows) < distance
    kept = np.zeros(len(rows), bool)
    for row in range(len(rows)):
        kept[row] = not (near[row] & kept).any()
    return rows[kept]
