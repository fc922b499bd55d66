"""The page in Chromium, with the real service: what a person does on it."""

import csv
import io
import json

import pytest
from PIL import Image

from tests.report.browser import needs_browser
from tests.retrieval.page import served
from tests.retrieval.service.served import png

visits = pytest.importorskip("tests.retrieval.page.visits")
pytestmark = [pytest.mark.slow, needs_browser]

IMAGES = len(served.photographs().paths)


@pytest.fixture
def visit(browser, photographs):
    with visits.visit(browser, photographs) as visit:
        yield visit


def first_row(page) -> str:
    return page.locator("#grid a").first.get_attribute("data-row")


def searches(visit) -> int:
    return visit.requests.count(("POST", "/v1/search"))


def wait_for(page, text: str, place: str = "#found"):
    page.locator(place).get_by_text(text).wait_for()


class TestOwnPicture:
    """A file, a drop, a paste and the camera all search."""

    def is_found(self, page, name: str, rows: set[str]) -> None:
        wait_for(page, f"24 of {IMAGES} images, nearest first")
        assert page.locator("h1:visible").text_content() == f"Like {name}"
        assert first_row(page) in rows
        assert "same code" in page.locator("#grid a").first.text_content()
        assert "code=" in page.url
        assert page.locator("#query-frame img").evaluate("(image) => image.naturalWidth") == 40

    def test_chosen(self, visit):
        page = visit.open()
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Choose a picture").click()
        chooser.value.set_files(
            {"name": "blue.png", "mimeType": "image/png", "buffer": served.BLUE}
        )
        self.is_found(page, "blue.png", {"0"})
        assert page.locator("#query-facts").text_content() == "40 × 30, 1 kB"

    def test_a_transparent_one_is_shown_on_white_as_it_is_searched_with(self, visit):
        page, file = visit.open(), io.BytesIO()
        Image.new("RGBA", (40, 30)).save(file, "PNG")
        page.locator("#sample-grid a").first.wait_for()
        visits.drop(page, file.getvalue(), "clear.png")
        wait_for(page, "nearest first")
        shown = page.locator("#query-frame img").evaluate(
            """async (image) => {
              await image.decode();
              const context = document.createElement("canvas").getContext("2d");
              context.drawImage(image, 0, 0);
              return [...context.getImageData(0, 0, 1, 1).data];
            }"""
        )
        assert shown == [255, 255, 255, 255]

    def test_dropped_then_pasted(self, visit):
        page = visit.open()
        page.locator("#sample-grid a").first.wait_for()
        visits.drop(page, served.BLUE, "blue.png")
        self.is_found(page, "blue.png", {"0"})
        assert page.evaluate("window.hinted") == "flex"
        assert not page.locator("#drop").is_visible()
        visits.paste(page, served.GREEN, "green.png")
        wait_for(page, "Like green.png", "h1")
        self.is_found(page, "green.png", {"21"})
        page.go_back()
        wait_for(page, "Like blue.png", "h1")
        self.is_found(page, "blue.png", {"0"})  # with its picture

    def test_taken_by_the_camera(self, visit):
        page = visit.open()
        page.get_by_role("button", name="Use the camera").click()
        page.get_by_role("button", name="Search with this").click()
        wait_for(page, "Like camera picture", "h1")
        wait_for(page, "nearest first")
        assert not page.locator("#camera").is_visible()
        assert page.locator("#query-frame img").evaluate("(image) => image.naturalWidth") > 100
        assert page.evaluate("document.getElementById('video').srcObject") is None

    def test_of_a_format_that_browsers_do_not_read(self, visit):
        page = visit.open()
        visits.drop(page, png(served.SEA, kind="TIFF"), "scan.tiff", "image/tiff")
        wait_for(page, "Like scan.tiff", "h1")
        wait_for(page, "nearest first")
        assert page.locator("#query-frame").text_content() == "tiff"


class TestResults:
    def test_a_result_says_distance_label_and_name(self, visit):
        page = visit.open("?row=0")
        wait_for(page, "nearest first")
        tiles = page.locator("#grid a")
        assert tiles.count() == 24
        assert tiles.nth(0).text_content().split() == ["sea", "the", "query", "00.jpg"]
        assert tiles.nth(6).text_content().split() == ["sea", "1", "bit", "06.jpg"]
        assert tiles.nth(6).locator(".name").get_attribute("title") == "sea/06.jpg"
        assert page.locator("#query-facts").text_content().startswith("sea · 500 × 375")

    def test_a_result_is_a_query_and_back_and_forward_work(self, visit):
        page = visit.open()
        page.locator("#sample-grid a").first.click()
        wait_for(page, "nearest first")
        started = page.url
        page.wait_for_function("[...document.images].every(x => x.loading == 'lazy' || x.complete)")
        page.locator("#grid a").nth(20).scroll_into_view_if_needed()
        scrolled = page.evaluate("scrollY")
        clicked = page.locator("#grid a").nth(20).get_attribute("data-row")
        page.locator("#grid a").nth(20).click()
        page.wait_for_url(f"**/?row={clicked}")
        wait_for(page, "nearest first")
        assert page.evaluate("scrollY") == 0
        assert page.evaluate("document.activeElement.id") == "results-title"
        before = searches(visit)
        page.go_back()
        page.wait_for_url(started)
        # The page scrolls once the results are there again.
        page.wait_for_function("y => Math.abs(scrollY - y) < 5", arg=scrolled)
        assert page.evaluate("document.activeElement.dataset.row") == clicked
        page.go_forward()
        page.wait_for_url(f"**/?row={clicked}")
        assert page.locator("#grid a").count() == 24
        assert searches(visit) == before  # they come from memory
        page.reload()
        wait_for(page, "nearest first")
        assert first_row(page) is not None

    def test_more_of_them_and_how_many_are_at_this_distance(self, visit):
        page = visit.open("?row=21")  # one of the forty that have the same code
        wait_for(page, f"24 of {IMAGES} images")
        wait_for(page, "16 more images are at 0 bits, too.", "#ties")
        page.get_by_role("button", name="Show 24 more").click()
        wait_for(page, f"48 of {IMAGES} images")
        rows = page.locator("#grid a").evaluate_all("(all) => all.map((one) => one.dataset.row)")
        assert len(set(rows)) == 48
        assert page.evaluate("document.activeElement.dataset.row") == rows[24]
        page.get_by_role("button", name=f"Show {IMAGES - 48} more").click()
        wait_for(page, "That is all of them.", "#after")
        assert page.locator("#grid a").count() == IMAGES

    def test_csv_and_json_of_what_is_shown(self, visit):
        page = visit.open("?row=0&radius=1")
        wait_for(page, "within 1 bit")
        shown = page.locator("#grid a").evaluate_all("(all) => all.map((one) => +one.dataset.row)")
        answer = json.loads(visits.saved(page, "JSON"))
        assert [one["row"] for one in answer["found"]] == shown
        assert answer["radius"] == 1
        lines = visits.saved(page, "CSV")
        table = list(csv.reader(io.StringIO(lines.decode("utf-8", "surrogateescape"), newline="")))
        assert table[0] == ["query", "rank", "distance", "path", "label", "row", "width", "height"]
        assert table[1][:6] == ["sea/00.jpg", "1", "0", "sea/00.jpg", "sea", "0"]
        assert [int(line[5]) for line in table[1:]] == shown
        paths = [line[3].encode("utf-8", "surrogateescape") for line in table[1:]]
        assert served.ODD in paths  # its comma, line break and byte as they are


class TestNarrowing:
    def test_the_radius_acts_without_encoding_again(self, visit):
        page = visit.open()
        visits.drop(page, served.BLUE, "blue.png")
        wait_for(page, "nearest first")
        bodies = []
        page.on("request", lambda request: bodies.append(request.post_data or ""))
        bars = page.locator("#histogram rect")
        assert bars.count() == bars.and_(page.locator(".in")).count() > 3
        slider = page.get_by_label("Distance")
        slider.fill("1")
        wait_for(page, "11 of 11 images within 1 bit, nearest first")
        assert page.locator("#radius-text").text_content() == "1 bit · 11 images"
        assert slider.get_attribute("aria-valuetext") == "at most 1 bit · 11 images"
        assert page.locator("#histogram rect.in").count() == 2
        assert "radius=1" in page.url
        assert page.locator("#query-frame img").count() == 1
        asked = [body for body in bodies if "form-data" in body]
        assert asked
        assert all('name="code"' in body and 'name="image"' not in body for body in asked)
        page.reload()
        wait_for(page, "within 1 bit")
        assert slider.input_value() == "1"
        slider.fill("24")
        wait_for(page, f"24 of {IMAGES} images, nearest first")
        assert "radius" not in page.url

    def test_label_and_path(self, visit):
        page = visit.open("?row=0")
        wait_for(page, "nearest first")
        options = page.get_by_label("Label").locator("option").all_text_contents()
        assert options == ["any", f"wood ({served.TIED})", "sea (21)"]
        page.get_by_label("Label").select_option("wood")
        wait_for(page, f"24 of {served.TIED} images, nearest first")
        page.get_by_label("Path").fill("2024/1")  # words are looked for anywhere
        wait_for(page, "10 of 10 images")
        assert "label=wood" in page.url and "path=2024" in page.url
        page.get_by_label("Path").fill("wood/*/0[12].jpg")
        wait_for(page, "2 of 2 images")
        page.get_by_role("button", name="Clear filters").click()
        wait_for(page, f"24 of {IMAGES} images")
        page.go_back()
        wait_for(page, "2 of 2 images")
        assert page.get_by_label("Label").input_value() == "wood"
        assert page.get_by_label("Path").input_value() == "wood/*/0[12].jpg"

    def test_nothing_left(self, visit):
        page = visit.open("?row=0&path=nowhere")
        wait_for(page, "No image fits the filters", "#grid h2")
        page.locator("#grid").get_by_role("button", name="Clear filters").click()
        wait_for(page, f"24 of {IMAGES} images")
        page.goto(f"{visit.base}/?code=aaaaaa&radius=1")
        wait_for(page, "No image within 1 bit", "#grid h2")
        wait_for(page, "The nearest one is at", "#grid p")
        page.get_by_role("button", name="Any distance").click()
        wait_for(page, f"24 of {IMAGES} images")


def test_near_duplicates_side_by_side(visit):
    page = visit.open()
    visits.answer_groups(page, [(3, 7), (21, 22, 23, 24)])
    page.get_by_role("link", name="Near").click()
    wait_for(page, "2 of 2 groups of images that are nearly the same", "#groups-found")
    assert page.url.endswith("?view=duplicates")
    tops = page.locator(".group").first.locator("a").evaluate_all(
        "(all) => all.map((one) => one.getBoundingClientRect().top)"
    )  # fmt: skip
    assert len(tops) >= 2 and len(set(tops)) == 1
    assert "equal" in page.locator(".group a").nth(1).text_content()
    assert "100 % alike" in page.locator(".group a").nth(1).text_content()
    page.locator(".group a").nth(1).click()
    wait_for(page, "Like 07.jpg", "h1")
    assert "?row=7" in page.url
    page.go_back()
    wait_for(page, "2 of 2 groups", "#groups-found")
    assert page.evaluate("document.activeElement.dataset.row") == "7"


def test_keys(visit):
    page = visit.open("?row=0")
    wait_for(page, "nearest first")
    focused = "document.activeElement.dataset.row"
    rows = page.locator("#grid a").evaluate_all("(all) => all.map((one) => one.dataset.row)")
    columns = page.evaluate("getComputedStyle(grid).gridTemplateColumns.split(' ').length")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == rows[0]
    for key, place in [
        ("ArrowRight", 1), ("ArrowDown", 1 + columns), ("ArrowLeft", columns), ("ArrowUp", 0),
        ("ArrowUp", 0), ("End", 23), ("Home", 0),
    ]:  # fmt: skip
        page.keyboard.press(key)
        assert page.evaluate(focused) == rows[place], key
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "path"
    page.keyboard.type("a/b")  # a slash is typed there, and arrows stay in the field
    page.keyboard.press("ArrowRight")
    assert page.locator("#path").input_value() == "a/b"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "main"
    page.locator("#path").fill("")
    wait_for(page, f"24 of {IMAGES} images")
    page.locator("#grid a").nth(2).focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/?row={rows[2]}")
    wait_for(page, "Like 02.jpg", "h1")
    page.keyboard.press("Escape")
    page.get_by_role("heading", name="Find images that look alike").wait_for()
    assert "row" not in page.url
    page.keyboard.press("/")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("#camera").wait_for()
    page.keyboard.press("Escape")
    page.locator("#camera").wait_for(state="hidden")


def test_the_original_is_shown_where_it_is_given_out(visit):
    page = visit.open("?row=3")
    wait_for(page, "Like 03.jpg", "h1")
    link = page.get_by_role("link", name="original")
    assert link.get_attribute("href") == "v1/items/3/image"
    assert page.locator("#query-frame img").get_attribute("src") == "v1/items/3/image"


def test_what_is_heard(visit):
    page = visit.open("?row=0")
    wait_for(page, f"24 images shown of {IMAGES}, nearest first, the last at", "#status")
    assert page.locator("#status").get_attribute("role") == "status"
    page.get_by_label("Path").fill("wood")
    wait_for(page, f"24 images shown of {served.TIED}", "#status")
