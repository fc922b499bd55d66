"""MDSHC's centres: how far apart codes can be asked to be, and moving them until they are.

The Gilbert-Varshamov bound says at which least distance d there are codes for all classes. One code
b after the other is then moved, against the others H [classes - 1, K]: minimise the mean of H b
over b in {-1, +1}^K with H b <= K - 2 d, by the lp-box method of multipliers (Wu & Ghanem, 2019),
in which b lies in a cube and on a sphere at once.
"""

import math

import numpy as np

from hybridhash_jax.methods.central.centres import distance_score, too_near
from input_pipeline.permutation import random_words

_FIRST_PENALTY, _LAST_PENALTY, _GROWTH = 1e-5, 1e7, 1.09
_STEP = (1 + math.sqrt(5)) / 2  # of the multipliers
_INNER, _OUTER = 10, 400  # iterations at one penalty, and penalties; it rises to its last in 321
_TOLERANCE = 1e-6
_SWEEPS = 5
_BUDGET = 4 * 10**9  # multiplications that `separate` may take, of about 1,000 iterations a code

Multipliers = tuple[np.ndarray, np.ndarray, np.ndarray]


def gilbert_varshamov_distance(num_classes: int, bits: int) -> int:
    """The least d with classes * (C(K, 0) + ... + C(K, d - 1)) >= 2^K; exact, and no more than K."""
    words, distance = 0, 0
    while num_classes * words < 2**bits:
        words += math.comb(bits, distance)
        distance += 1
    return min(distance, bits)


def separate(codes: np.ndarray, distance: int, seed: int = 0) -> np.ndarray:
    """Codes [classes, K] of -1 and +1, int8, with a least distance of `distance`, or the best found.

    Those that are far enough stay. Otherwise codes with a neighbour too near are moved, in up to 5
    sweeps and as many as a budget allows, and the best codes met are kept: by least distance, then
    mean, then variance of the distances. (In the authors' code a moved code is dropped again
    wherever the method of multipliers ends before its last penalty, so that most stay as they were.)
    """
    num_classes, bits = codes.shape
    best, best_score = codes, distance_score(codes)
    most = _BUDGET // (1000 * num_classes * bits)
    for sweep in range(_SWEEPS):
        rows = too_near(codes, distance)[:most]
        if best_score[0] >= distance or not len(rows):
            break
        most -= len(rows)
        codes = move_codes(
            codes, distance, rows, _first_multipliers(codes.shape, rows, seed, sweep)
        )
        score = distance_score(codes)
        if score > best_score:
            best, best_score = codes, score
    return best


def _first_multipliers(
    shape: tuple[int, int], rows: np.ndarray, seed: int, sweep: int
) -> list[Multipliers]:
    """Of each row's three constraints, uniform in [0, 1)."""
    num_classes, bits = shape
    size, drawn = 2 * bits + num_classes - 1, []
    for row in rows:
        words = random_words(size, seed, sweep, int(row))
        uniform = (words >> np.uint64(11)).astype(np.float64) / 2**53
        drawn.append((uniform[:bits], uniform[bits : 2 * bits], uniform[2 * bits :]))
    return drawn


def move_codes(
    codes: np.ndarray, distance: int, rows: np.ndarray, multipliers: list[Multipliers]
) -> np.ndarray:
    """The codes after each of `rows` was moved, in turn, against all others as they then are."""
    moved = codes.astype(np.float64)
    for row, start in zip(rows, multipliers, strict=True):
        moved[row] = move_code(moved[row], np.delete(moved, row, axis=0), distance, start)
    return moved.astype(np.int8)


def move_code(
    code: np.ndarray, others: np.ndarray, distance: int, multipliers: Multipliers
) -> np.ndarray:
    """One code [K] moved away from the others [classes - 1, K], -1 and +1, float64."""
    bits, limit = len(code), len(code) - 2 * distance
    mean = others.mean(axis=0) if len(others) else np.zeros(bits)
    inverse = np.linalg.inv(2 * np.eye(bits) + others.T @ others)
    of_cube, of_sphere, of_others = (start.copy() for start in multipliers)
    cube, sphere, slack = code, code, limit - others @ np.sign(code)
    b, penalty = code, _FIRST_PENALTY
    for _ in range(_OUTER):
        for _ in range(_INNER):
            pull = cube + sphere + others.T @ (limit - slack - of_others / penalty)
            b = inverse @ (pull - (of_cube + of_sphere + mean) / penalty)
            products = others @ b
            cube, sphere = b + of_cube / penalty, b + of_sphere / penalty
            slack = limit - products - of_others / penalty
            if (slack >= 0).all() and abs(sphere @ sphere - bits) <= 1e-3:
                break
            cube = np.clip(cube, -1, 1)
            sphere = sphere * (math.sqrt(bits) / max(float(np.linalg.norm(sphere)), 1e-30))
            slack = np.maximum(slack, 0)
            residuals = b - cube, b - sphere, products + slack - limit
            of_cube = of_cube + _STEP * penalty * residuals[0]
            of_sphere = of_sphere + _STEP * penalty * residuals[1]
            of_others = of_others + _STEP * penalty * residuals[2]
        residuals = b - cube, b - sphere, others @ b + slack - limit
        if max(float(np.abs(x).max(initial=0)) for x in residuals) < _TOLERANCE:
            break
        penalty = min(penalty * _GROWTH, _LAST_PENALTY)
    return np.where(b >= 0, 1.0, -1.0)
