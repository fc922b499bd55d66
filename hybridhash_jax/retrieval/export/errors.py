"""What goes wrong between an index and another engine, in one message without a password."""

import re

_IN_ADDRESS = re.compile(r"(://)\S*@")  # up to the last @: a password may have / and @
_AS_SETTING = re.compile(r"((?:password|token)\s*=\s*)('[^']*'|[^\s&]*)", re.IGNORECASE)


class ExportError(ValueError):
    """Codes cannot be exported; says why, and what to do."""


class ServerGone(ExportError):
    """The server does not answer any more; what it has taken stays."""


def masked(text: str) -> str:
    """The text without users and passwords of addresses in it."""
    return _AS_SETTING.sub(r"\1***", _IN_ADDRESS.sub(r"\1***@", text))


def missing(package: str, requirements: str) -> ExportError:
    """Tells how to install a package."""
    return ExportError(f"{package} is not installed: pip install -r {requirements}")
