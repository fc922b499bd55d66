"""A strict reading of a page: every tag closed in order, attributes and text kept."""

import dataclasses
import re
from html.parser import HTMLParser

_VOID = {"meta", "img", "br", "hr", "input", "link", "wbr"}


@dataclasses.dataclass(frozen=True)
class Element:
    name: str
    attributes: dict[str, str]
    inside: tuple[str, ...]  # names and classes of all that it stands in


class Page(HTMLParser):
    """What a page holds; a tag left open or closed out of order is an AssertionError."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[Element] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self._classes: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"left open: {self._open}"
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {key: value or "" for key, value in attrs}
        assert len(attributes) == len(attrs), f"an attribute twice in {attrs}"
        self.elements.append(Element(tag, attributes, tuple(self._open + self._classes)))
        if tag not in _VOID:
            self._open.append(tag)
            self._classes.append("." + attributes.get("class", ""))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-3:]}"
        self._open.pop()
        self._classes.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data.strip())

    def named(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.name == tag]

    def of_class(self, name: str) -> list[Element]:
        return [e for e in self.elements if name in e.attributes.get("class", "").split()]


def headings(text: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", text)
