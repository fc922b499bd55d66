"""The page of a search in a browser, at the width of a phone and of a desk: nothing juts out."""

import json
import re

import pytest

from hybridhash_jax.report.search_page import render_search
from tests.report import report_cases
from tests.report.browser import needs_browser, title_of

MEASURE = """<script>
const boxes = (s) => [...document.querySelectorAll(s)].map((e) => e.getBoundingClientRect());
const columns = (list) => new Set([...list.children].map((e) => e.getBoundingClientRect().left)).size;
parent.postMessage(JSON.stringify({
  width: innerWidth, page: document.documentElement.scrollWidth,
  columns: columns(document.querySelector(".neighbours")),
  right: Math.max(...boxes(".neighbours img, .neighbours .tile").map((b) => b.right)),
  narrowest: Math.min(...boxes(".neighbours .frame").map((b) => b.width)),
}), "*");
</script>"""
FRAME = """<title></title><script>onmessage = (e) => { document.title += e.data + "|"; };</script>
<iframe src="%s" style="border: 0; width: 390px; height: 900px"></iframe>
<iframe src="%s" style="border: 0; width: 1280px; height: 900px"></iframe>"""


def content_of(queries: int):
    found = [
        {"rank": n, "row": n, "path": "a_long_folder_name/" * 4 + f"{n}.jpg", "distance": n,
         "label": "a_long_label_of_one_word" * 3, "width": 100, "height": 80}
        for n in range(12)
    ]  # fmt: skip
    one = {"query": "/a/very/long/path" * 9 + ".jpg", "row": None, "error": None, "exact": True,
           "at_last": 3, "left_out": 2, "found": found}  # fmt: skip
    index = {"path": "/a/very/long/path" * 9, "images": 20, "searched": 20, "bits": 64,
             "model": "m" * 200, "fingerprint": "f" * 64, "generation": 1}  # fmt: skip
    return {"index": index, "k": 12, "radius": None, "where": [["label", "x" * 99]], "kind": "ivf",
            "recall": 0.99, "warnings": ["w" * 300], "format": 1, "queries": [one] * queries}  # fmt: skip


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(("queries", "columns"), [(1, {2, 5}), (5, {3, 10})])
def test_nothing_juts_out_and_pictures_can_be_seen(tmp_path, queries, columns):
    images = report_cases.photographs()
    pictures = {n: image for n, image in enumerate(images.values()) if n < 11}
    text = render_search(content_of(queries), lambda n: pictures[0], pictures.get)
    text = re.sub('<meta http-equiv="Content-Security-Policy".*?>', "", text)
    (tmp_path / "page.html").write_text(text.replace("</body>", MEASURE + "</body>"))
    (tmp_path / "frame.html").write_text(FRAME % ("page.html", "page.html"))
    found = [json.loads(one) for one in title_of(tmp_path / "frame.html").split("|") if one]
    assert {one["width"] for one in found} == {390, 1280}
    assert {one["columns"] for one in found} == columns
    for one in found:
        assert one["page"] <= one["width"], one
        assert one["right"] <= one["width"], one
        assert one["narrowest"] > 80, one
