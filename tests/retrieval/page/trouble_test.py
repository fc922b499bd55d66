"""What the page says when something goes wrong: words, and what to do next."""

import contextlib

import pytest

from tests.report.browser import needs_browser
from tests.retrieval.page import served

visits = pytest.importorskip("tests.retrieval.page.visits")
pytestmark = [pytest.mark.slow, needs_browser]

AGAIN = {"retry-after": "1"}
FAILED = "Failed to load resource"  # Chromium's own line about each answer that is no success


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    """Where others are served: one of codes and names alone, and an empty one."""
    some = served.photographs()
    made = {
        "bare": served.make_index(tmp_path_factory.mktemp("bare"), some, bare=True),
        "empty": served.make_index(tmp_path_factory.mktemp("empty"), served.Made([], [], [])),
    }
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(served.served(path)) for name, path in made.items()}


@pytest.fixture
def visit(browser, photographs):
    with visits.visit(browser, photographs) as visit:
        yield visit


def ready(visit, query: str = ""):
    page = visit.open(query)
    page.locator("main a[data-row]:visible").first.wait_for()
    return page


def told(page) -> str:
    page.locator("#problem p").wait_for()
    return page.locator("#problem p").text_content()


def searches(visit) -> int:
    return visit.requests.count(("POST", "/v1/search"))


REFUSED = [
    (
        b"x" * (served.UPLOAD_BYTES + 1), "big.jpg", "image/jpeg",
        "big.jpg has 100 kB; up to 100 kB are taken",
    ),
    (b"", "none.jpg", "image/jpeg", "none.jpg is empty"),
    (b"%PDF", "a.pdf", "application/pdf", "a.pdf is no picture but application/pdf"),
]  # fmt: skip


def test_a_file_that_is_refused_before_it_is_sent(visit):
    page = ready(visit)
    before = searches(visit)
    for data, name, kind, words in REFUSED:
        visits.drop(page, data, name, kind)
        assert words in told(page)
        assert page.get_by_role("heading", name="Find images that look alike").is_visible()
        assert page.locator("#problem").get_attribute("role") == "alert"
        page.keyboard.press("Escape")
        assert not page.locator("#problem").is_visible()
    assert searches(visit) == before


def test_a_file_that_the_server_refuses_leaves_what_was_there(visit):
    visit.failures = FAILED
    page = ready(visit, "?row=0")
    visits.drop(page, b"no picture at all", "broken.jpg", "image/jpeg")
    assert told(page).startswith("The image is of no format that is read; give ")
    page.locator("h1", has_text="Like 00.jpg").wait_for()
    assert page.locator("#grid a").count() == 24
    visits.drop(page, served.BLUE, "blue.png")
    page.locator("h1", has_text="Like blue.png").wait_for()
    assert not page.locator("#problem").is_visible()


def test_no_file_at_all(visit):
    page = ready(visit)
    visits.paste(page, None)
    assert "no picture in the clipboard" in told(page)
    page.evaluate(
        """() => {
          const dataTransfer = new DataTransfer();
          dataTransfer.setData("text/uri-list", "https://example.org/cat.jpg");
          document.body.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true, cancelable: true}));
        }"""
    )
    page.locator("#problem", has_text="Save the picture first").wait_for()


def test_a_camera_that_does_not_start(visit):
    page = ready(visit)
    for name, words in {
        "NotAllowedError": "The camera was not allowed.",
        "NotFoundError": "There is no camera here.",
        "AbortError": "The camera did not start (AbortError).",
    }.items():
        page.evaluate(
            """(name) => {
              navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("", name); };
            }""",
            name,
        )
        page.get_by_role("button", name="Use the camera").click()
        page.locator("#problem p", has_text=words).wait_for()
        assert not page.locator("#camera").is_visible()
    page.evaluate("delete navigator.mediaDevices.getUserMedia")


def test_the_server_is_gone_and_comes_back(visit):
    visit.failures = FAILED
    page = ready(visit, "?row=0")
    page.route("**/v1/search", lambda route: route.abort("connectionrefused"))
    page.get_by_role("button", name="Show 24 more").click()
    assert told(page).startswith("The server does not answer.")
    page.locator("#grid a").nth(3).click()
    page.get_by_role("heading", name="The search failed").wait_for()
    assert "See whether hybridhash serve still runs" in page.locator("#grid").text_content()
    page.unroute("**/v1/search")
    page.locator("#grid").get_by_role("button", name="Try again").click()
    page.locator("h1", has_text="Like 03.jpg").wait_for()
    assert page.locator("#grid a").count() == 24


def test_a_busy_server_is_asked_again_when_it_says(visit):
    visit.failures = FAILED
    page = ready(visit)
    tries = []

    def busy_once(route):
        tries.append(1)
        if len(tries) > 1:
            return route.continue_()
        return visits.answer_problem(route, 503, "the network is still being made ready", **AGAIN)

    page.route("**/v1/search", busy_once)
    visits.drop(page, served.BLUE, "blue.png")
    words = "The network is still being made ready. Trying again in 1 second."
    page.locator("#found", has_text=words).wait_for()
    page.locator("h1", has_text="Like blue.png").wait_for()
    page.locator("#found", has_text="nearest first").wait_for()
    assert len(tries) == 2


@pytest.mark.parametrize(
    ("status", "detail", "words"),
    [
        (500, "the service has failed at this request", "The service has failed at this request."),
        (502, None, "The server answered 502 Bad Gateway, without a reason."),
    ],
)
def test_any_other_answer(visit, status, detail, words):
    visit.failures = FAILED
    page = visit.page

    def answer(route):
        if detail is None:
            return route.fulfill(status=status, body="<h1>Bad Gateway</h1>")
        return visits.answer_problem(route, status, detail)

    page.route("**/v1/search", answer)
    visit.open("?row=0")
    page.locator("#grid .nothing p", has_text=words).wait_for()
    assert words in page.locator("#status").text_content()


def test_a_row_there_is_not(visit):
    visit.failures = FAILED
    page = visit.open("?row=99999")
    page.locator("#grid .nothing p", has_text="The index has no image in row 99999").wait_for()
    assert page.get_by_role("heading", name="The search failed").is_visible()
    assert page.get_by_role("heading", name="That is not there").is_visible()
    assert not page.get_by_role("button", name="Try again").count()  # it would be the same


def test_another_generation_is_shown_from_its_start(visit):
    page = ready(visit, "?row=0")
    visits.change_answer(page, "search", generation=99)
    before = searches(visit)
    with page.expect_response("**/v1/index"):  # what else is known of the index may be old, too
        page.get_by_role("button", name="Show 24 more").click()
    page.wait_for_timeout(500)
    assert page.locator("#grid a").count() == 24
    assert searches(visit) - before == 2  # the page that no longer fits, and the first one again


def test_the_filters_stay_when_the_index_changes(visit):
    page = ready(visit, "?row=0")
    visits.change_answer(page, "search", generation=99)
    page.get_by_label("Label").select_option("wood")
    page.locator("#found", has_text=f"24 of {served.TIED} images").wait_for()
    assert page.get_by_label("Label").input_value() == "wood"
    page.get_by_label("Path").fill("2024/1")
    page.get_by_label("Path").press("Enter")
    page.locator("#found", has_text="10 of 10 images").wait_for()
    page.wait_for_timeout(500)
    assert "label=wood" in page.url


@pytest.mark.parametrize("uploads", [False, True])
def test_whoever_leaves_while_the_index_is_read_again_stays_away(visit, uploads):
    page = ready(visit, "?row=0")
    visits.change_answer(page, "search", generation=99)
    held = visits.hold(page, "index")
    if uploads:
        visits.drop(page, served.BLUE, "blue.png")
    else:
        page.get_by_label("Label").select_option("wood")
    visits.wait_until_held(page, held)
    page.keyboard.press("Escape")
    page.get_by_role("heading", name="Find images that look alike").wait_for()
    held[0].continue_()
    page.locator("#sample-grid a").first.wait_for()
    assert page.title() == "hybridhash"
    assert page.url == f"{visit.base}/"


def test_the_query_is_shown_when_the_index_is_read_again(visit):
    page = ready(visit, "?row=0")
    visits.change_answer(page, "search", generation=99)
    index, item = visits.hold(page, "index"), visits.hold(page, "items/3")
    page.locator("#grid a[data-row='3']").click()
    visits.wait_until_held(page, index)
    visits.wait_until_held(page, item)
    with page.expect_response("**/v1/items/3"):
        item[0].continue_()
    page.wait_for_timeout(200)
    index[0].continue_()
    page.locator("h1", has_text="Like 03.jpg").wait_for()


def test_what_the_index_warns_of(visit):
    page = visit.page
    visits.change_answer(page, "index", warnings=["One segment is damaged."])
    ready(visit)
    assert page.locator(".notice:visible").all_text_contents() == ["One segment is damaged."]


def test_many_labels_can_be_typed(visit):
    page = visit.page
    labels = [{"label": f"kind {n}", "count": 200 - n} for n in range(200)]
    visits.change_answer(page, "index", labels=labels)
    ready(visit, "?row=0")
    box = page.get_by_label("Label")
    box.fill("wood")
    box.press("Enter")
    page.locator("#found", has_text=f"24 of {served.TIED} images").wait_for()


def test_near_duplicates_are_waited_for(visit):
    visit.failures = FAILED
    page = visit.page
    visits.answer_groups(page, [(n, n + 1) for n in range(25)])
    detail, asked = "near-duplicates are being looked for", []

    def busy_once(route):
        asked.append(1)
        return route.fallback() if len(asked) > 1 else visits.answer_problem(route, 503, detail, **AGAIN)  # fmt: skip

    page.route("**/v1/duplicates*", busy_once)
    visit.open("?view=duplicates")
    page.locator("#groups-found", has_text="Near-duplicates are being looked for.").wait_for()
    page.locator("#groups-found", has_text="20 of 25 groups").wait_for()
    page.get_by_role("button", name="Show 5 more").click()
    page.locator("#groups-found", has_text="25 of 25 groups").wait_for()
    assert page.locator(".group").count() == 25


def test_an_empty_index(browser, indexes):
    with visits.visit(browser, indexes["empty"]) as visit:
        page = visit.open()
        page.get_by_role("heading", name="The index is empty").wait_for()
        assert "hybridhash encode FOLDER" in page.locator("#sample-grid").text_content()
        assert page.get_by_role("button", name="Choose a picture").is_disabled()
        visits.drop(page, served.BLUE, "blue.png")
        assert told(page) == "The index is empty, so there is nothing to find yet."


def test_an_index_without_thumbnails_labels_and_hashes(browser, indexes):
    with visits.visit(browser, indexes["bare"]) as visit:
        page = ready(visit, "?row=0")
        assert page.locator("#grid .kind").count() == 24
        assert page.locator("#grid .kind").first.text_content() == "jpg"
        assert page.locator("#query-frame .kind").is_visible()
        assert not [path for _, path in visit.requests if "thumbnail" in path]
        assert not page.get_by_role("link", name="uplicates").is_visible()
        visit.failures = FAILED
        visit.open("?view=duplicates")
        page.locator("#groups", has_text="so near-duplicates cannot be found.").wait_for()
