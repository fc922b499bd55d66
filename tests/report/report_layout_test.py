"""The page in a browser, at the width of a phone and of a desk: nothing juts out, no empty halves."""

import json
import re
from pathlib import Path

import pytest

from hybridhash_jax.report import files
from tests.report import report_cases as cases
from tests.report.browser import needs_browser, title_of

MEASURE = """<script>
const box = (e) => e.getBoundingClientRect();
const lastRow = (selector) => [...document.querySelectorAll(selector)].map((e) => {
  const inner = [...e.children].map(box), bottom = Math.max(...inner.map((b) => b.top));
  const row = inner.filter((b) => b.bottom > bottom);
  return Math.max(...row.map((b) => b.right)) / box(e).right;
});
const opened = document.querySelector("details.zoom img");
const small = opened && box(opened).width;
if (opened) opened.closest("details").open = true;
parent.postMessage(JSON.stringify({
  width: innerWidth, page: document.documentElement.scrollWidth,
  facts: lastRow(".facts"), figures: lastRow(".figures"), halves: lastRow(".halves"),
  lines: [...document.querySelectorAll("pre span")].map((e) => e.getClientRects().length),
  enlarged: opened ? box(opened).width / small : null,
  cut: [...document.querySelectorAll("[aria-label='mAP of each class']")]
    .map((e) => e.scrollWidth - e.clientWidth),
}), "*");
</script>"""
# A window has a least width of its own; a frame has none.
FRAME = """<title></title><script>onmessage = (e) => { document.title = e.data; };</script>
<iframe src="measured.html" style="border: 0; width: %dpx; height: 900px"></iframe>"""


@pytest.fixture(
    scope="module",
    params=[(cases.full_report, cases.digit_images), (cases.multi_label_report, cases.photographs)],
    ids=["digits", "photographs"],
)
def folder(request, tmp_path_factory) -> Path:
    """A report, drawn once, in a page that measures itself."""
    folder = tmp_path_factory.mktemp("report")
    content, images = request.param
    files.write_report(folder, content(), images(), draw=True)
    text = (folder / "report.html").read_text()
    text = re.sub('<meta http-equiv="Content-Security-Policy".*?>', "", text)
    (folder / "measured.html").write_text(text.replace("</body>", MEASURE + "</body>"))
    return folder


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_rows_are_full_and_nothing_juts_out(folder, width):
    (folder / "frame.html").write_text(FRAME % width)
    found = json.loads(title_of(folder / "frame.html"))
    assert found["width"] == width
    assert found["page"] <= width
    assert max(found["cut"]) <= 0, found
    for row in (*found["facts"], *found["figures"], *found["halves"]):
        assert row > 0.97, found
    assert max(found["lines"]) == 1
    assert found["enlarged"] > 3
