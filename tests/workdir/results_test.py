"""The table at the end of a run, and results.json."""

import json

from hybridhash_jax.workdir import results


def entry(bits, top_k=None):
    return {
        "protocol": "cifar10-1", "bits": bits, "top_k": top_k, "selected_by": "query",
        "map_expected": 0.75, "map_stable": 0.7, "epoch": 3.0, "train_images_per_second": 1234.5,
        "best": {"epoch": 3.0, "map_expected": 0.75, "map_stable": 0.7},
        "last": {"epoch": 12.0, "map_expected": 0.5, "map_stable": 0.4},
    }  # fmt: skip


def test_the_table_shows_the_best_and_the_last_side_by_side():
    title, header, *rows = results.results_table([entry(16), entry(64)]).splitlines()
    assert "cifar10-1: mAP@all" in title
    assert "by: query" in title
    assert header.split()[:2] == ["bits", "selected"]
    assert rows[0].split() == [
        "16", "0.7500", "3", "0.7500", "3", "0.5000", "12", "0.7000", "1,234"
    ]  # fmt: skip
    assert len(rows) == 2
    assert {len(line) for line in (header, *rows)} == {len(header)}


def test_the_table_names_a_cut_off():
    assert "mAP@1000" in results.results_table([entry(16, top_k=1000)])


def test_results_are_written_whole_or_not_at_all(tmp_path):
    results.write_results(tmp_path, [entry(16)])
    assert json.loads((tmp_path / "results.json").read_text()) == [entry(16)]
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_provenance_names_versions_device_and_command():
    found = results.provenance()
    assert found["versions"]["jax"].count(".") >= 2
    assert "cpu" in found["device"]
    assert found["cpu"]
    assert found["command"]
