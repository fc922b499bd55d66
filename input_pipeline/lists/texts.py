"""Texts that people write: UTF-8, with or without the byte order mark of Windows."""

from input_pipeline.errors import DataError

ONLY_CR = "its lines end with CR, as old Macs wrote them; save it with LF"


def has_only_cr(data: bytes) -> bool:
    """Would all lines be read as one?"""
    return b"\n" not in data and b"\r" in data.rstrip()


def text_of(data: bytes, file: str) -> str:
    """The text without its mark; DataError, with the line, if it is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{file}:{line}: text that is not UTF-8; save it as UTF-8") from None
