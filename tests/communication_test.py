"""The arithmetic of what chips send each other, by hand."""

import pytest

from benchmarks.communication import (
    Chip,
    all_gather_seconds,
    all_reduce_seconds,
    bank_bytes,
    predict,
    table,
)

CHIP = Chip("chip", tflops=100, near=100e9, near_chips=8, far=10e9, source="made here")


def test_a_sum_sends_almost_twice_the_bytes():
    assert all_reduce_seconds(8e9, 8, CHIP) == pytest.approx(2 * 7e9 / 100e9)
    assert all_gather_seconds(8e9, 8, CHIP) == pytest.approx(7e9 / 100e9)
    assert all_reduce_seconds(8e9, 1, CHIP) == 0


def test_a_sum_over_hosts_sends_each_part_once_over_the_slow_links():
    # 4 hosts of 8: a part is 1 GB, and 2 * 3 / 4 of it goes at 10 GB/s.
    assert all_reduce_seconds(8e9, 32, CHIP) == pytest.approx(0.14 + 2 * 3 / 4 * 1e9 / 10e9)


def test_the_bank_costs_the_batch_and_not_its_rows():
    gathered, summed = bank_bytes(64, bits=32, classes=10)
    assert gathered == 64 * (32 * 4 + 10 + 4 + 1)
    assert summed == 64 * 32 * 4


def test_a_prediction_by_hand():
    found = predict(CHIP, 8, parameters=10**9, gflop=10, images_per_chip=64, utilization=0.5)
    assert found.compute == pytest.approx(3 * 64 * 10e9 / 50e12)
    gradients = 2 * 7 / 8 * 4e9 / 100e9
    assert found.communication * (1 - found.bank_share) == pytest.approx(gradients)
    assert found.exposed == pytest.approx(found.compute / (found.compute + found.communication))
    assert found.hidden == pytest.approx(found.compute / found.communication)
    apart = predict(CHIP, 8, parameters=10**9, gflop=10, images_per_chip=64, fsdp=True)
    assert apart.communication - found.communication == pytest.approx(gradients / 2)


def test_one_chip_is_perfectly_efficient():
    found = predict(CHIP, 1, parameters=10**6, gflop=1, images_per_chip=1)
    assert (found.exposed, found.hidden, found.bank_share) == (1, 1, 0)


def test_the_table_has_a_row_a_kind_number_and_layout():
    text = table([8, 64], parameters=10**6, gflop=1, images_per_chip=8)
    assert len(text.splitlines()) == 2 + 3 * 2 * 2
    assert "| 64 x TPU v6e | fsdp |" in text
