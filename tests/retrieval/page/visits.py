"""One Chromium, and pages in it that are watched while a test runs."""

import contextlib
import json
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Route, sync_playwright

from tests.report.browser import BROWSER

# A camera that needs no device and is allowed without asking; one process shows all pages.
_FLAGS = [
    "--no-sandbox",
    "--process-per-site",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
WAIT_MS = 20_000
Scheme = Literal["light", "dark"]

# Layout shifts that nobody caused by a click or a key.
_SHIFTS = """window.shifts = 0; new PerformanceObserver((list) => {
  for (const one of list.getEntries()) if (!one.hadRecentInput) window.shifts += one.value;
}).observe({type: "layout-shift", buffered: true});"""


@contextlib.contextmanager
def chromium() -> Iterator[BrowserContext]:
    """The browser, for all tests of a file."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=_FLAGS)
        context = browser.new_context()
        context.add_init_script(_SHIFTS)
        yield context
        browser.close()


class Visit:
    """A page, and what it did that it should not.

    Attributes:
      page: playwright's.
      requests: (method, path with its query) of all that went to the server.
      failures: messages of the console that are allowed, as a pattern; None for none.
    """

    def __init__(self, page: Page, base: str):
        self.page, self.base = page, base
        self.requests: list[tuple[str, str]] = []
        self.failures: str | None = None
        self._told: list[str] = []
        self._others: list[str] = []
        page.set_default_timeout(WAIT_MS)
        self._listeners = {
            "console": self._hear,
            "pageerror": lambda error: self._told.append(str(error)),
            "request": lambda request: self._see(request.method, request.url),
        }
        for event, listener in self._listeners.items():
            page.on(event, listener)  # type: ignore[call-overload]

    def open(self, query: str = "") -> Page:
        """Opens the page, and waits until it shows something."""
        self.page.goto(f"{self.base}/{query}")
        return self.page

    def leave(self) -> None:
        """Watches no longer."""
        for event, listener in self._listeners.items():
            self.page.remove_listener(event, listener)

    def check(self) -> None:
        """Nothing in the console, nothing from elsewhere."""
        wrong = [one for one in self._told if not (self.failures and re.search(self.failures, one))]
        assert not wrong, wrong
        assert not self._others, self._others

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._told.append(message.text)

    def _see(self, method: str, url: str) -> None:
        if url.startswith(self.base + "/"):
            self.requests.append((method, url.removeprefix(self.base)))
        elif not url.startswith(("data:", "blob:" + self.base)):
            self._others.append(url)


@contextlib.contextmanager
def visit(
    browser: BrowserContext, base: str, width: int = 1280, scheme: Scheme = "light"
) -> Iterator[Visit]:
    """The page, fresh, and checked when the block ends."""
    # One for all tests: a new one costs the browser a window each time.
    page = browser.pages[0] if browser.pages else browser.new_page()
    page.set_viewport_size({"width": width, "height": 860 if width > 500 else 800})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    seen = Visit(page, base)
    try:
        yield seen
        seen.check()
    finally:
        page.unroute_all()
        page.goto("about:blank")
        seen.leave()


def answer_groups(page: Page, rows: Iterable[Iterable[int]]) -> None:
    """Answers with these near-duplicates; to look for some takes the service half a minute."""
    groups = [
        {
            "id": str(number),
            "images": [
                {"row": row, "path": f"{row}.jpg", "name": f"{row}.jpg", "width": 40, "height": 30,
                 "relation": "equal" if place else "", "similarity": 1.0}
                for place, row in enumerate(group)
            ],
        }
        for number, group in enumerate(rows)
    ]  # fmt: skip

    def answer(route: Route) -> None:
        asked = parse_qs(urlsplit(route.request.url).query)
        first, count = int(asked["offset"][0]), int(asked["limit"][0])
        part = groups[first : first + count]
        route.fulfill(json={"generation": 1, "total": len(groups), "offset": first, "groups": part})

    page.route("**/v1/duplicates*", answer)


def answer_problem(route: Route, status: int, detail: str, **headers: str) -> None:
    """Answers as the service does where it cannot."""
    problem = {"type": "about:blank", "title": "Trouble", "status": status, "detail": detail}
    route.fulfill(
        status=status,
        body=json.dumps(problem),
        headers={"content-type": "application/problem+json", **headers},
    )


def change_answer(page: Page, path: str, **fields: Any) -> None:
    """The service's own answers, with some fields changed."""

    def answer(route: Route) -> None:
        changed = json.loads(route.fetch().body()) | fields
        route.fulfill(body=json.dumps(changed), content_type="application/json")

    page.route(f"**/v1/{path}", answer)


def hold(page: Page, path: str) -> list[Route]:
    """Requests for this path, which wait until the test lets them go on."""
    held: list[Route] = []
    page.route(f"**/v1/{path}", lambda route: held.append(route))
    return held


def wait_until_held(page: Page, held: list[Route]) -> None:
    """Waits for the first of them."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while not held:
        assert time.monotonic() < deadline, "nothing was asked"
        page.wait_for_timeout(50)


def drop(page: Page, data: bytes, name: str, kind: str = "image/png") -> None:
    """Drops a file on the page, as a hand would."""
    page.evaluate(
        """([bytes, name, type]) => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([new Uint8Array(bytes)], name, {type}));
          const event = (kind) => new DragEvent(kind, {dataTransfer, bubbles: true, cancelable: true});
          document.body.dispatchEvent(event("dragover"));
          window.hinted = getComputedStyle(document.getElementById("drop")).display;
          document.body.dispatchEvent(event("drop"));
        }""",
        [list(data), name, kind],
    )


def paste(page: Page, data: bytes | None, name: str = "image.png") -> None:
    """Pastes a file, or words where there is none."""
    page.evaluate(
        """([bytes, name]) => {
          const clipboardData = new DataTransfer();
          if (bytes) clipboardData.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
          else clipboardData.setData("text/plain", "words");
          document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData, bubbles: true}));
        }""",
        [None if data is None else list(data), name],
    )


def saved(page: Page, button: str) -> bytes:
    """What a button downloads."""
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).click()
    return Path(waiting.value.path()).read_bytes()
