"""Hadamard matrices: what makes them so, by every construction."""

import numpy as np
import pytest

from hybridhash_jax.methods.central.hadamard import hadamard_matrix

# Sylvester; Paley's first and second; products of them.
ORDERS = [1, 2, 4, 8, 16, 32, 64, 128, 12, 20, 24, 48, 60, 28, 36, 76, 40, 56, 96, 144]


@pytest.mark.parametrize("order", ORDERS)
def test_rows_are_orthogonal_and_the_first_row_and_column_are_ones(order):
    matrix = hadamard_matrix(order)
    assert matrix is not None
    assert matrix.dtype == np.int8
    assert set(np.unique(matrix)) <= {-1, 1}
    product = matrix.astype(int) @ matrix.T.astype(int)
    np.testing.assert_array_equal(product, order * np.eye(order, dtype=int))
    assert (matrix[0] == 1).all() and (matrix[:, 0] == 1).all()


@pytest.mark.parametrize("order", [0, 3, 6, 10, 50, 92])
def test_other_orders_have_none(order):
    assert hadamard_matrix(order) is None
