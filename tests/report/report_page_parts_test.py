"""What the pages are made of: cautions, wording, thumbnails, and what they may import."""

import ast
import base64
import io
from pathlib import Path

from PIL import Image

from hybridhash_jax.report import cautions, page, thumbnails, wording
from tests.report import report_cases as cases


def test_every_symptom_of_a_collapse_is_a_caution():
    report = cases.minimal_report(32)
    assert cautions.cautions(report) == []
    report["collapse"] = ["one symptom", "another"]
    (found,) = cautions.cautions(report)
    assert "The codes have collapsed: one symptom; another." in found


def test_thumbnails_keep_their_proportions():
    images = cases.photographs()
    for number, size in enumerate([(96, 72), (64, 96), (96, 24), (96, 96), (64, 64)]):
        content = thumbnails.data_uri(images[number]).partition(",")[2]
        with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
            assert picture.size == size


def test_long_text_ends_in_an_ellipsis_within_its_lines():
    found = wording.lines("several rather long words and a " + "very" * 20, 12, 3)
    assert len(found) == 3
    assert max(map(len, found)) <= 12
    assert found[-1].endswith("…")
    assert wording.lines("short", 12, 3) == ["short"]


def test_the_pages_see_only_plain_data():
    folder = Path(page.__file__).parent
    allowed = {
        "base64", "collections", "contextlib", "dataclasses", "functools", "hybridhash_jax", "io",
        "jinja2", "math", "matplotlib", "numpy", "pathlib", "PIL", "textwrap", "typing",
        "unicodedata", "warnings",
    }  # fmt: skip
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names = names or [alias.name for alias in node.names]
                assert {name.split(".")[0] for name in names} <= allowed, path
                for name in names:
                    assert not name.startswith("hybridhash_jax") or ".report_pages" in name, path
