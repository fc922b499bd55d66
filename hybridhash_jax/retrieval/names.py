"""File names as text that fits in one line, whatever bytes they are of."""

import os
import re

_ESCAPED = re.compile(rb"\\(x[0-9a-f]{2}|n|t|r|\\)")
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"\\": b"\\"}
_SHORT = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def shown(path: str | bytes | os.PathLike[str]) -> str:
    r"""The name, with \n, \t, \\ and \xNN for what is no printable letter; see `exact`."""
    text = os.fsencode(path).decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_letter(letter) for letter in text)


def _letter(letter: str) -> str:
    if letter in _SHORT:
        return _SHORT[letter]
    if letter.isprintable():
        return letter
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))


def shown_label(label: str) -> str:
    """A label in one line; `encode` names it as `shown` shows a folder, which is not done twice."""
    return label if label.isprintable() else shown(label)


def exact(text: str) -> bytes:
    """The bytes of a name that `shown` wrote."""

    def letter(match: re.Match[bytes]) -> bytes:
        code = match[1]
        return _LETTERS[code] if code in _LETTERS else bytes([int(code[1:], 16)])

    return _ESCAPED.sub(letter, text.encode("utf-8", "surrogateescape"))


def listed(data: bytes) -> list[bytes]:
    """The names of a list, one a line, or between NUL bytes as `find -print0` writes them.

    Those of empty lines are empty; a line may end as on Windows.
    """
    if b"\0" in data:
        return data.split(b"\0")
    return [line.removesuffix(b"\r") for line in data.split(b"\n")]


def inside(path: str | os.PathLike[str] | bytes, root: str | os.PathLike[str]) -> bytes | None:
    """The path relative to `root`, as the file system spells it; None where it is not below it."""
    whole = os.path.normpath(os.path.join(os.getcwdb(), os.fsencode(path)))
    top = os.path.normpath(os.path.join(os.getcwdb(), os.fsencode(root)))
    if whole == top:
        return b""
    start = top if top.endswith(b"/") else top + b"/"
    return whole[len(start) :] if whole.startswith(start) else None
