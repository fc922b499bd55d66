"""How the page looks: accessible in light, dark and on a phone, calm while it loads, own files only."""

import time
from pathlib import Path

import pytest

from tests.report.browser import needs_browser
from tests.retrieval.page import served

visits = pytest.importorskip("tests.retrieval.page.visits")
pytestmark = [pytest.mark.slow, needs_browser]

VIEWS = {
    "start": "",
    "search": "?row=0",
    "duplicates": "?view=duplicates",
    "nothing": "?row=0&path=x",
}
LONG = served.photographs().paths.index(served.LONG)
JUTTING = """[...document.querySelectorAll("body *")]
  .filter((e) => e.offsetParent && e.getBoundingClientRect().right > innerWidth + 1)
  .map((e) => e.outerHTML.slice(0, 90))"""
COLUMNS = "(grid) => new Set([...grid.children].map((one) => one.offsetLeft)).size"
PLACES = [
    (1280, "light", VIEWS),
    (1280, "dark", ["start", "search"]),
    (390, "dark", ["search", "duplicates"]),
]


@pytest.fixture(scope="module")
def axe():
    import axe_playwright_python

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")


def opened(visit, query: str = ""):
    """The page when it has what it shows."""
    visits.answer_groups(visit.page, [(1, 2), (21, 22, 23)])
    page = visit.open(query)
    page.locator("main .tile:not(.blank):visible, main .nothing:visible").first.wait_for()
    return page


@pytest.mark.parametrize(("width", "scheme", "views"), PLACES)
def test_accessible(browser, photographs, axe, width, scheme, views):
    with visits.visit(browser, photographs, width, scheme) as visit:
        for view in views:
            page = opened(visit, VIEWS[view])
            if view == "search" and width < 800:
                page.get_by_role("button", name="Refine").click()
            if view == "start":
                page.evaluate("complain(new Problem('words'), () => 0)")
            page.evaluate(axe)
            found = page.evaluate("axe.run({resultTypes: ['violations']})")
            told = [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]]
            assert not told, (view, told)
            assert len(found["passes"]) > 20


def test_colours_follow_the_system(browser, photographs):
    grounds = {}
    for scheme in ("light", "dark"):
        with visits.visit(browser, photographs, scheme=scheme) as visit:
            page = visit.open()
            grounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light dark"  # fmt: skip
    assert grounds["light"] == "rgb(255, 255, 255)"
    assert max(map(int, grounds["dark"][4:-1].split(","))) < 40


@pytest.mark.parametrize("query", ["", "?view=duplicates", f"?row={LONG}"])
def test_nothing_juts_out(browser, photographs, query):
    with visits.visit(browser, photographs) as visit:
        page = opened(visit, query)
        for width in (360, 390, 800, 1280, 2200):
            page.set_viewport_size({"width": width, "height": 860})
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
            assert page.evaluate(JUTTING) == [], width
            columns = page.locator("main .grid:visible").first.evaluate(COLUMNS)
            assert columns <= 2 or width > 390


@pytest.mark.parametrize(
    ("width", "query"),
    [(390, ""), (1280, ""), (390, "?row=0"), (1280, "?row=0&radius=1&label=sea")],
)
def test_nothing_jumps_while_it_loads(browser, photographs, width, query):
    with visits.visit(browser, photographs, width) as visit:
        # A slow server, so that what comes before its answers is painted.
        visit.page.route("**/v1/*", lambda route: (time.sleep(0.15), route.continue_()))
        page = opened(visit, query)
        page.wait_for_timeout(300)
        assert page.evaluate("window.shifts") < 0.01


def test_thumbnails_come_when_they_are_near(browser, photographs):
    with visits.visit(browser, photographs, 390) as visit:
        page = opened(visit, "?row=0")
        images = page.locator("#grid img")
        assert set(images.evaluate_all("(all) => all.map((one) => one.loading)")) == {"lazy"}
        boxes = page.locator("#grid .frame").evaluate_all(
            "(all) => all.map((one) => (one.offsetWidth / one.offsetHeight).toFixed(2))"
        )
        assert set(boxes) <= {"1.33", "1.34"}
        last = images.last.get_attribute("src")
        assert last and ("GET", f"/{last}") not in visit.requests
        with page.expect_response(f"**/{last}") as answer:
            images.last.scroll_into_view_if_needed()
        assert answer.value.ok


def test_nothing_is_written_into_the_markup(browser, photographs):
    with visits.visit(browser, photographs) as visit:
        page = opened(visit)
        policy = page.request.get(photographs).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert page.locator("[style], [onclick], [onload], style, script:not([src])").count() == 0
        origins = "[...document.querySelectorAll('[src], [href]')].map((e) => new URL(e.src ?? e.href, document.baseURI).origin)"  # fmt: skip
        assert {*page.evaluate(origins)} == {photographs}


def test_a_focus_can_be_seen(browser, photographs):
    with visits.visit(browser, photographs) as visit:
        page = opened(visit, "?row=0")
        seen = set()
        for _ in range(14):
            page.keyboard.press("Tab")
            style, name = page.evaluate(
                "[getComputedStyle(document.activeElement).outlineStyle, document.activeElement.outerHTML.slice(0, 60)]"
            )
            assert style != "none", name
            seen.add(name)
        assert len(seen) >= 12
