"""The rules for one line of a list file: which part is the path, which part the labels."""

import posixpath
import re

# Steps that begin with no dot, of ordinary characters: such a path is taken as it is.
_STEP = r"[^\\/:\0\r.][^\\/:\0\r]*"
_USUAL = re.compile(rf"{_STEP}(?:/{_STEP})*")
_DRIVE_OR_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:/")
_NUMBER = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_NUMBER_AT_END = re.compile(rb"[ \t]+(" + _NUMBER + rb")$")
_NUMBER_AFTER_SUFFIX = re.compile(rb"\.[A-Za-z]\w*[ \t]+" + _NUMBER + rb"$")
_MORE_LABELS = re.compile(rb"(?:^|[ \t])[01]$")


def parse_line(line: bytes, num_classes: int) -> tuple[bytes, bytes]:
    """Parts a line such as `b"images/1.jpg 0 1 0"` into its path and its label digits, `b"010"`.

    The labels are all fields 0 or 1 at the end of the line, without its break; whatever is before
    them is the path, which may contain blanks. ValueError says what is wrong with a line.
    """
    path, digits = line[: -2 * num_classes], line[1 - 2 * num_classes :: 2]
    # The quick way for nearly all lines: single blanks, and a path that ends in no label.
    regular = line[-2 * num_classes :: 2] == b" " * num_classes and not digits.strip(b"01")
    if regular and len(b"".join(path[-2:].split())) == 2:
        return path, digits
    path, *labels = line.rsplit(None, num_classes) or [b""]
    digits = b"".join(labels)
    are_labels = len(digits) == len(labels) == num_classes and not digits.strip(b"01")
    if are_labels and not _MORE_LABELS.search(path[-64:]):
        return path, digits
    raise ValueError(_explain(line, num_classes))


def _explain(line: bytes, num_classes: int) -> str:
    """What is wrong with a line that does not end in exactly `num_classes` labels."""
    fields = line.split()
    if not fields:
        return "nothing on this line; delete it"
    count = count_labels(fields)
    if count == len(fields):
        return f"no path before the labels; expected a path and {num_classes} labels"
    wrong = label_that_is_no_label(line.rsplit(None, count)[0])
    if wrong:
        return f"the label {wrong!r} is not 0 or 1{_kind_of(fields)}"
    before = fields[len(fields) - count - 1].decode(errors="replace")
    found = f"{count} labels (0 or 1) after {before!r}" if count else "no labels"
    return f"{found}, expected {num_classes}{_kind_of(fields)}"


def _kind_of(fields: list[bytes]) -> str:
    """What a line may be instead, after a semicolon."""
    last = fields[-1]
    if b"," in last or b";" in last:
        return "; it has commas where blanks are expected"
    if last.endswith((b"]", b")")):
        return "; its labels are in brackets: write 0 and 1 with blanks between"
    if re.fullmatch(rb"[01]\.0*", last):
        return "; its labels are decimals: write 0 and 1"
    if re.fullmatch(rb"\d+", last) and len(fields) == 2:
        return "; is it a class id? write a 0 or 1 for every class"
    return ""


def count_labels(fields: list[bytes]) -> int:
    """How many fields at the end are 0 or 1."""
    count = 0
    for field in reversed(fields):
        if field not in (b"0", b"1"):
            break
        count += 1
    return count


def label_that_is_no_label(path: bytes) -> str | None:
    """The number at the end of `path` that was meant as a label, such as the 2 of `a.jpg 2`.

    A number counts as the end of the name ("photo 12") only where no suffix is before it.
    """
    rest, wrong = path, None
    while match := _NUMBER_AT_END.search(rest[-64:]):
        wrong = match[1] if wrong is None or match[1] not in (b"0", b"1") else wrong
        if _NUMBER_AFTER_SUFFIX.search(rest[-64:]):
            return wrong.decode()
        rest = rest[: len(rest) - len(match[0])]
    return None


def image_path(text: str) -> str:
    """The path relative to the image folder, in the one form that names are compared in.

    `./` in front and empty steps go; backslashes become `/` where they are the only separators (as
    in NUS-WIDE's own lists). ValueError for a path that is absolute, leaves the folder or names no
    file.
    """
    path = text.removeprefix("./")
    if _USUAL.fullmatch(path):
        return path
    path = posixpath.normpath(text)
    if "/" not in path:
        path = posixpath.normpath(path.replace("\\", "/"))
    # A backslash that is part of a name here separates folders elsewhere.
    elsewhere = posixpath.normpath(path.replace("\\", "/"))
    if elsewhere.startswith("/") or _DRIVE_OR_SCHEME.match(elsewhere):
        raise ValueError(f"the path {text!r} is absolute; give it relative to the image folder")
    if elsewhere.split("/")[0] == "..":
        raise ValueError(f"the path {text!r} leaves the image folder; remove the '..'")
    if elsewhere == "." or text.endswith("/") or "\0" in path or "\r" in path:
        raise ValueError(f"the path {text!r} names no file")
    return path
