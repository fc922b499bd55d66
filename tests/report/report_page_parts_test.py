"""What the pages are made of: cautions, wording, thumbnails, and what they may import."""

import ast
import base64
import importlib
import io
import subprocess
import sys
from pathlib import Path

from PIL import Image

from hybridhash_jax.report import page, wording
from tests.report import report_cases as cases


def test_every_symptom_of_a_collapse_is_a_caution():
    report = cases.minimal_report(32)
    assert page.cautions(report) == []
    report["collapse"] = ["one symptom", "another"]
    (found,) = page.cautions(report)
    assert "The codes cannot tell images apart: one symptom; another." in found


def test_training_without_a_gain_is_a_caution():
    report = cases.minimal_report(32)
    reached = report["map"]["expected"]
    report["selection"] = {"epoch": 2.0}
    for before, told in ((reached - 0.01, False), (reached, True), (reached + 0.01, True)):
        report["evaluations"] = [{"epoch": 0.0, "map_expected": before}, {"epoch": 2.0}]
        found = page.cautions(report)
        assert len(found) == told
        if told:
            assert f"{before:.4f} before it and is {reached:.4f} after epoch 2" in found[0]
    report["selection"] = {"epoch": 0.0}  # nothing was trained
    assert page.cautions(report) == []


def test_thumbnails_keep_their_proportions():
    images = cases.photographs()
    for number, size in enumerate([(192, 144), (128, 192), (192, 48), (96, 96), (64, 64)]):
        content = page.data_uri(images[number]).partition(",")[2]
        with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
            assert picture.size == size


def test_long_text_ends_in_an_ellipsis_within_its_lines():
    found = wording.lines("several rather long words and a " + "very" * 20, 12, 3)
    assert len(found) == 3
    assert max(map(len, found)) <= 12
    assert found[-1].endswith("…")
    assert wording.lines("short", 12, 3) == ["short"]


def test_pages_and_pictures_see_only_plain_data():
    for name in ("page", "figures", "sweep_figure", "retrieval_grid", "wording", "published"):
        module = importlib.import_module(f"hybridhash_jax.report.{name}")
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("hybridhash_jax"):
                assert str(node.module).startswith("hybridhash_jax.report"), name


def test_importing_the_reports_imports_neither_matplotlib_nor_jinja():
    names = (path.stem for path in Path(str(page.__file__)).parent.glob("*.py"))
    modules = ", ".join(f"hybridhash_jax.report.{name}" for name in names if name != "__init__")
    script = f"import sys, {modules}; print({{'matplotlib', 'jinja2', 'numba'}} & {{*sys.modules}})"
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert found.stdout.decode().strip() == "set()"


def test_labels_that_decide_the_result_are_cautions():
    report = cases.minimal_report() | {"queries_without_relevant": 1, "queries_without_label": 1}
    (found,) = page.cautions(report)
    assert "1 of 200 queries has no relevant item in the database; 1 of them has no label" in found
    report = cases.minimal_report() | {"decided_by_labels": True, "map": {"expected": 1.0}}
    assert page.cautions(report) == [
        "Every database image is relevant to every query, as with a single class: mAP is 1.0000 "
        "whatever the codes."
    ]
    report |= {"queries_without_relevant": 50, "map": {"expected": 0.75}}
    assert "to some queries and none to the others: mAP is 0.7500" in page.cautions(report)[1]
    report |= {"queries_without_relevant": 200, "map": {"expected": 0.0}}
    assert "No query has anything to find" in page.cautions(report)[1]
    (found,) = page.cautions(cases.minimal_report() | {"common_labels": ["sea", "sky"]})
    assert "All queries have the same labels (sea, sky)" in found


def test_a_command_is_split_between_its_arguments_only():
    command = "main.py --mode=train '--workdir=two words' --config.data.dir=/data/a-b"
    words = wording.arguments(command)
    assert words == [
        "main.py",
        "--mode=train",
        "'--workdir=two words'",
        "--config.data.dir=/data/a-b",
    ]
    assert wording.arguments("an open 'quote") == ["an", "open", "'quote"]


def test_counts_agree_with_their_words():
    assert wording.counted(1, "query", "queries") == "1 query"
    assert wording.counted(0, "query", "queries") == "0 queries"
    assert wording.counted(1000, "image") == "1,000 images"
    assert wording.counted(1, "epoch") == "1 epoch"
