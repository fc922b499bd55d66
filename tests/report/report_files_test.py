"""What a report leaves on disk, from codes to pages."""

import json

import numpy as np
import pytest
from PIL import Image

from hybridhash_jax import codes
from hybridhash_jax.codes.files import CodeSet
from hybridhash_jax.report.files import report_content, write_report, write_sweep
from hybridhash_jax.report.findings import describe_retrieval, shown_images
from tests.report.report_cases import BASELINE


def content(bits=8, top_k=None, protocol="toy", **more):
    random = np.random.RandomState(bits)

    def code_set(count, first):
        signs = np.where(random.rand(count, bits) < 0.5, -1, 1)
        labels = np.eye(3, dtype=np.uint8)[random.randint(0, 3, count)]
        rows = np.arange(first, first + count)
        return CodeSet(codes.pack(signs), bits, labels, rows=rows, class_names=("a", "b", "c"))

    findings = describe_retrieval(code_set(12, 0), code_set(40, 12), top_k)
    run = {"command": "main.py", "device": "1 x cpu", "processes": 1, "python": "3.12.1",
           "versions": {"jax": "0.11.2"}, "date": "2026-01-31"}  # fmt: skip
    report = report_content(
        findings,
        title=f"toy, {bits} bits",
        dataset={"name": "toy", "protocol": protocol},
        codes={"source": "checkpoint 3"},
        run=run,
        **more,
    )
    return report, findings


def images_of(findings):
    random = np.random.RandomState(0)
    return {
        row: random.randint(0, 256, (16, 16, 3)).astype(np.uint8) for row in shown_images(findings)
    }


def test_a_report_is_json_pictures_and_one_page(tmp_path):
    report, findings = content(training=[{"epoch": 1.0, "loss": 0.5, "learning_rate": 0.1}])
    page = write_report(tmp_path / "new", report, images_of(findings), draw=True)
    assert page == tmp_path / "new" / "report.html"
    assert json.loads((tmp_path / "new" / "report.json").read_text()) == report
    pictures = {path.name for path in page.parent.glob("*.png")}
    assert pictures == {
        "pr_curve.png", "precision_at_n.png", "bit_balance.png", "training.png", "retrieval.png",
    }  # fmt: skip
    for name in pictures:
        with Image.open(page.parent / name) as picture:
            picture.load()
    assert not [path for path in page.parent.iterdir() if path.name.endswith(".part")]


def test_without_drawing_there_is_json_only(tmp_path):
    report, findings = content()
    assert write_report(tmp_path, report, images_of(findings), draw=False).name == "report.json"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_the_sizes_stand_with_the_data_and_the_measures_beside_it():
    report, findings = content()
    assert report["dataset"] == {
        "name": "toy", "protocol": "toy", "queries": 12, "database": 40, "classes": 3,
        "labels_per_image": "one",
    }  # fmt: skip
    assert report["map"] == findings["map"]
    assert not {"queries", "database", "classes"} & set(report)


@pytest.mark.parametrize(("top_k", "published"), [(1000, [64]), (None, [])])
def test_published_values_are_shown_for_the_same_protocol_length_and_cut_off(top_k, published):
    report, _ = content(64, top_k, "imagenet100")
    assert sorted({entry["bits"] for entry in report["published"]}) == published
    assert all(entry["ties"] and entry["chosen"] for entry in report["published"])
    assert content(64, 1000, "toy")[0]["published"] == []


def test_a_sweep_has_a_row_a_length_that_leads_to_its_report(tmp_path):
    selection = {"selected_by": "last", "epoch": 4.0}
    reports = [(f"{bits}bits", content(bits, selection=selection)[0]) for bits in (8, 16)]
    page = write_sweep(tmp_path, reports, draw=True)
    sweep = json.loads((tmp_path / "report.json").read_text())
    for (folder, report), length in zip(reports, sweep["lengths"], strict=True):
        assert length["map"] == report["map"]
        assert length["report"] == f"{folder}/report.html"
        assert length["epoch"] == 4.0
        assert f'href="{folder}/report.html"' in page.read_text()
    with Image.open(tmp_path / "map_over_bits.png") as picture:
        picture.load()


def test_baselines_are_in_the_files_of_a_length_and_of_several(tmp_path):
    plain = content(8)[0]
    assert "baselines" not in plain
    reports = [(f"{bits}bits", content(bits, baselines=[BASELINE])[0]) for bits in (8, 16)]
    assert {name: value for name, value in reports[0][1].items() if name != "baselines"} == plain
    for name, report in reports:
        text = write_report(tmp_path / name, report, {}, draw=True).read_text()
        assert "Cosine of the features: mAP@all 0.9500" in text
    text = write_sweep(tmp_path, reports, draw=True).read_text()
    assert "Cosine of the features: mAP@all 0.9500" in text
    for folder in (".", "8bits", "16bits"):
        assert json.loads((tmp_path / folder / "report.json").read_text())["baselines"] == [
            BASELINE
        ]
    write_sweep(tmp_path, [("8bits", plain)], draw=False)
    assert "baselines" not in json.loads((tmp_path / "report.json").read_text())
