"""The table and the plot at the end of a run."""

import json

from PIL import Image

from hybridhash_jax import report


def entry(bits, top_k=None):
    return {
        "protocol": "cifar10-1", "bits": bits, "top_k": top_k, "selected_by": "query",
        "map_expected": 0.75, "map_stable": 0.7, "epoch": 3.0, "train_images_per_second": 1234.5,
        "best": {"epoch": 3.0, "map_expected": 0.75, "map_stable": 0.7},
        "last": {"epoch": 12.0, "map_expected": 0.5, "map_stable": 0.4},
    }  # fmt: skip


def test_the_table_shows_the_best_and_the_last_side_by_side():
    title, header, *rows = report.results_table([entry(16), entry(64)]).splitlines()
    assert "cifar10-1: mAP@all" in title
    assert "by: query" in title
    assert header.split()[:2] == ["bits", "selected"]
    assert rows[0].split() == [
        "16", "0.7500", "3", "0.7500", "3", "0.5000", "12", "0.7000", "1,234"
    ]  # fmt: skip
    assert len(rows) == 2
    assert {len(line) for line in (header, *rows)} == {len(header)}


def test_the_table_names_a_cut_off():
    assert "mAP@1000" in report.results_table([entry(16, top_k=1000)])


def test_results_are_written_whole_or_not_at_all(tmp_path):
    report.write_results(tmp_path / "results.json", [entry(16)])
    assert json.loads((tmp_path / "results.json").read_text()) == [entry(16)]
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_the_plot_is_a_picture_even_before_the_first_evaluation(tmp_path):
    line = {"kind": "train", "step": 1, "epoch": 0.5, "loss": 1.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    path = report.plot_training(tmp_path, "title")
    with Image.open(path) as image:
        assert image.size[0] > 400
        colours = image.convert("RGB").getcolors(1 << 20)
    assert colours is not None
    assert len(colours) > 10


def test_provenance_names_versions_device_and_command():
    found = report.provenance()
    assert found["versions"]["jax"].count(".") >= 2
    assert "cpu" in found["device"]
    assert found["command"]
