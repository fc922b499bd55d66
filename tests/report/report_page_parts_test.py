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
    assert "The codes have collapsed: one symptom; another." in found


def test_thumbnails_keep_their_proportions():
    images = cases.photographs()
    for number, size in enumerate([(96, 72), (64, 96), (96, 24), (96, 96), (64, 64)]):
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
    for name in ("page", "figures", "retrieval_grid", "wording", "published"):
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
