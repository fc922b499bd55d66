"""The arithmetic of what chips send each other, by hand."""

import itertools
import math
from pathlib import Path

import pytest

from benchmarks.communication import (
    Chip,
    all_gather_seconds,
    all_reduce_seconds,
    bank_bytes,
    bank_storage,
    gradient_seconds,
    main,
    predict,
    storage_table,
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


def test_plain_data_and_plain_fsdp_differ_by_one_gather():
    data, fsdp = gradient_seconds(8e9, 32, 1, CHIP), gradient_seconds(8e9, 32, 32, CHIP)
    assert data == pytest.approx(all_reduce_seconds(8e9, 32, CHIP))
    assert fsdp - data == pytest.approx(all_gather_seconds(8e9, 32, CHIP))


def test_fsdp_inside_a_host_sends_parts_alone_between_hosts():
    # Inside three times 7 / 8 of 8 GB; between 4 hosts the sum of a part of 1 GB.
    hybrid = gradient_seconds(8e9, 32, 8, CHIP)
    assert hybrid == pytest.approx(3 * 7e9 / 100e9 + 2 * 3 / 4 * 1e9 / 10e9)
    # Over half a host: parts of 2 GB, of which two copies are near each other.
    near = 3 * 3 / 4 * 8e9 / 100e9 + 2 * 1 / 2 * 2e9 / 100e9
    assert gradient_seconds(8e9, 32, 4, CHIP) == pytest.approx(near + 2 * 3 / 4 * 1e9 / 10e9)


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
    apart = predict(CHIP, 8, parameters=10**9, gflop=10, images_per_chip=64, fsdp=8)
    assert apart.communication - found.communication == pytest.approx(gradients / 2)


def test_all_is_hidden_from_the_least_batch_that_computes_as_long_as_it_sends():
    def step(images: int, **changed: int):
        sizes = {"parameters": 10**9, "gflop": 10, "bits": 64} | changed
        return predict(CHIP, 8, images_per_chip=images, **sizes)

    least = step(64).hidden_from
    assert isinstance(least, int) and least > 1
    assert step(least).compute >= step(least).communication
    assert step(least - 1).compute < step(least - 1).communication
    assert step(1).hidden_from == least
    assert step(64, bits=10**9).hidden_from == math.inf


def test_a_bank_is_stored_as_float32_a_byte_a_label_and_a_byte_that_it_was_seen():
    assert bank_storage(5_000, 64, 10) == 5_000 * (64 * 4 + 10 + 1)
    assert bank_storage(5_000, 64, 10, chips=8) == 625 * 267
    # 64 chips do not divide 5,000 rows: each has them all.
    assert bank_storage(5_000, 64, 10, chips=64) == 5_000 * 267
    # Large banks have rows of padding that any usual number of chips divides.
    assert bank_storage(10**7, 64, 10, chips=64) == 3_256 * 3_072 * 267 // 64


def test_a_checkpoint_holds_parameters_what_the_optimizer_keeps_and_the_bank():
    text = storage_table([5_000], [8], parameters=10**6, bits=64, classes=10)
    assert text.splitlines()[-1] == "| 5,000 | 1.3 MB | 0.2 MB | 9.3 MB | 13.3 MB |"


def test_one_chip_is_perfectly_efficient():
    found = predict(CHIP, 1, parameters=10**6, gflop=1, images_per_chip=1)
    assert (found.exposed, found.hidden_from, found.bank_share) == (1, 0, 0)


def test_the_table_has_a_row_a_kind_number_and_layout():
    text = table([(1, 8), (1, 64)], parameters=10**6, gflop=1, images_per_chip=8)
    # A third layout where 64 GPUs are 8 hosts.
    assert len(text.splitlines()) == 2 + 3 * 2 * 2 + 1
    assert "| 64 x TPU v6e | fsdp |" in text
    assert "| 64 x H100 SXM | data=8 x fsdp=8 |" in text


def test_several_slices_are_linked_by_the_network_and_are_tpus():
    sizes = {"parameters": 10**8, "gflop": 1, "images_per_chip": 8}
    two, one = table([(2, 64)], **sizes), table([(1, 128)], **sizes)
    assert "H100" in one and "H100" not in two
    assert "| 2 x 64 x TPU v6e | data=2 x fsdp=64 |" in two

    def milliseconds(text: str, start: str) -> float:
        row = next(line for line in text.splitlines() if line.startswith(start))
        return float(row.split("|")[4].removesuffix(" ms "))

    one_slice = milliseconds(one, "| 128 x TPU v5e | data |")
    assert milliseconds(two, "| 2 x 64 x TPU v5e | data |") > 1.3 * one_slice


def test_numbers_of_chips_that_cannot_be_are_explained(capsys):
    with pytest.raises(SystemExit):
        main(["--chips", "8", "2x"])
    assert "accepted: CHIPS or SLICESxCHIPS" in capsys.readouterr().err


def test_the_tables_in_the_documentation_are_what_the_script_prints(capsys):
    main([])
    lines = capsys.readouterr().out.splitlines()
    tables = [
        "\n".join(block)
        for is_table, block in itertools.groupby(lines, lambda line: line.startswith("|"))
        if is_table
    ]
    assert len(tables) == 2
    text = (Path(__file__).parents[2] / "docs" / "pods.md").read_text()
    for printed in tables:
        assert f"\n\n{printed}\n\n" in text
