"""Pages as Chromium lays them out."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")


def title_of(page: Path) -> str:
    """The title of a page once its scripts have run; they put there what they measured."""
    done = subprocess.run(
        [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000",
         "--virtual-time-budget=5000", f"--user-data-dir={page.parent / 'browser'}", "--dump-dom",
         page.as_uri()],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    title = re.search("<title>(.*?)</title>", done.stdout)
    assert title is not None
    return title[1]
