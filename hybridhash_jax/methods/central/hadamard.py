"""Hadamard matrices: square, of -1 and +1, any two rows differing in half of their places.

Sylvester's doubling and Paley's two constructions (1933), and Kronecker products of those. With
primes only, they give every order of the common code lengths: 8, 12, 16, 24, 32, 36, 48, 64, 128.
"""

import functools
import math

import numpy as np


@functools.cache
def hadamard_matrix(order: int) -> np.ndarray | None:
    """A Hadamard matrix, int8 [order, order], whose first row and column are +1.

    Sylvester's where the order is a power of two; None where no construction here has the order.
    """
    matrix = _construct(order)
    if matrix is None:
        return None
    matrix = matrix * matrix[:, :1]
    matrix = matrix * matrix[:1]
    matrix.flags.writeable = False  # the caller's is the next caller's too
    return matrix


def _construct(order: int) -> np.ndarray | None:
    if order == 1:
        return np.ones((1, 1), np.int8)
    if order == 2:
        return np.array([[1, 1], [1, -1]], np.int8)
    if order < 1 or order % 4:
        return None
    if order & (order - 1) == 0:
        return _product(2, order // 2)
    if _is_prime(order - 1):
        return _paley_first(order - 1)
    half = order // 2 - 1
    if half % 4 == 1 and _is_prime(half):
        return _paley_second(half)
    factors = (n for n in range(2, math.isqrt(order) + 1) if order % n == 0)
    products = (_product(n, order // n) for n in factors)
    return next((matrix for matrix in products if matrix is not None), None)


def _product(first: int, second: int) -> np.ndarray | None:
    left, right = hadamard_matrix(first), hadamard_matrix(second)
    return None if left is None or right is None else np.kron(left, right)


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % divisor for divisor in range(2, math.isqrt(n) + 1))


def _residues(q: int) -> np.ndarray:
    """Jacobsthal's matrix of a prime q: at [i, j] the quadratic character of i - j, int8."""
    character = np.full(q, -1, np.int8)
    character[np.arange(1, q) ** 2 % q] = 1
    character[0] = 0
    numbers = np.arange(q)
    return character[(numbers[:, None] - numbers[None]) % q]


def _paley_first(q: int) -> np.ndarray:
    """Of order q + 1, for a prime q = 3 modulo 4."""
    skew = np.zeros((q + 1, q + 1), np.int8)
    skew[0, 1:], skew[1:, 0] = 1, -1
    skew[1:, 1:] = _residues(q)
    return skew + np.eye(q + 1, dtype=np.int8)


def _paley_second(q: int) -> np.ndarray:
    """Of order 2 (q + 1), for a prime q = 1 modulo 4."""
    conference = np.zeros((q + 1, q + 1), np.int8)
    conference[0, 1:], conference[1:, 0] = 1, 1
    conference[1:, 1:] = _residues(q)
    of_signs = np.kron(conference, np.array([[1, 1], [1, -1]], np.int8))
    of_zeros = np.kron(np.eye(q + 1, dtype=np.int8), np.array([[1, -1], [-1, -1]], np.int8))
    return of_signs + of_zeros
