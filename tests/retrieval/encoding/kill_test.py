"""Twenty encodings of a folder are killed; the index is the same, and little is encoded twice."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_twenty_kills_leave_the_index_that_nobody_disturbed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.retrieval.encoding.killed", str(tmp_path)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.startswith("done"), done.stderr
    assert done.returncode == 0
