"""File names are UTF-8 whatever the locale says."""

import os
import sys


def ensure() -> None:
    """Starts this program again in Python's UTF-8 mode where the locale has another encoding.

    Otherwise names with accents could not be opened, and some letters not printed.
    """
    encoding = sys.getfilesystemencoding().lower().replace("-", "")
    if encoding != "utf8" and not sys.flags.utf8_mode:
        os.environ["PYTHONUTF8"] = "1"  # also for processes that this one starts
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
