"""Wording that all messages share, and how they are shown."""

import io
import os
import re
import sys
from collections.abc import Sequence

from input_pipeline.errors import DataError

# Of memory that is full.
HELD = (
    "On a GPU another process, such as `hybridhash serve`, may hold its memory: nvidia-smi shows it"
)
# What XLA says; the last is what a CPU's library for products says of an allocation that failed.
_NO_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|Out of memory allocating|YNNPACK operation failed")
# TensorStore calls these RESOURCE_EXHAUSTED, too.
_NO_MEMORY_BUT = re.compile("No space left on device|Disk quota exceeded|Too many open files")
NO_HOME = "there is no home directory that ~ could mean"


def counted(count: int, what: str) -> str:
    """Such as "1 epoch" and "1,000 epochs"."""
    return f"{count:,} {what}" + "s" * (count != 1)


def shortened(names: Sequence[str], shown: int = 5, separator: str = ", ") -> str:
    """The first `shown` names and how many more there are: `a, b, c and 12 more`."""
    if len(names) <= shown:
        return separator.join(names)
    last = " " if separator == ", " else separator
    return f"{separator.join(names[:shown])}{last}and {len(names) - shown:,} more"


def one_line(name: str) -> str:
    r"""A name with \n, \x1b and the like for what is no printable letter."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(x if x.isprintable() else x.encode("unicode_escape").decode() for x in text)


def show_any_letter() -> None:
    """From now on, output shows a letter that its encoding lacks as an escape instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_help(text: str) -> None:
    """Prints to standard output, quietly so where its reader, such as `head`, has had enough."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        discard_output()


def discard_output() -> None:
    """What is still to be printed goes nowhere; else Python complains of it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def ensure_utf8() -> None:
    """Starts this program again in Python's UTF-8 mode where the locale has another encoding.

    Otherwise files whose names have accents could not be opened, and some letters not printed. What
    is printed to a closed stream (`2>&-`) goes nowhere from now on.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # and the file that is opened next would get its number
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
    encoding = sys.getfilesystemencoding().lower().replace("-", "")
    if encoding != "utf8" and not sys.flags.utf8_mode:
        os.environ["PYTHONUTF8"] = "1"  # also for processes that this one starts
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def is_out_of_memory(error: BaseException | None) -> bool:
    """Does the error, or one that it came from, say that the host's or a device's memory is full?

    Not where its own message is written for the user.
    """
    if isinstance(error, DataError | OSError | ValueError) and type(error) is not ValueError:
        return False
    while error is not None:
        if _NO_MEMORY_BUT.search(str(error)):
            return False
        # By name, for JAX may not be imported. For some failures it raises a bare ValueError.
        of_jax = type(error).__name__ in ("JaxRuntimeError", "ValueError")
        if isinstance(error, MemoryError) or (of_jax and _NO_MEMORY.search(str(error))):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_of_home(error: BaseException) -> bool:
    """Did pathlib find no home folder for a ~?"""
    return isinstance(error, RuntimeError) and "home directory" in str(error)


def in_words(error: Exception) -> str:
    """The message of an error; of the system's its file and its words, without the number."""
    if is_of_home(error):
        return f"{NO_HOME}; give whole paths"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{os.fspath(error.filename)}: {error.strerror}"
    return str(error)
