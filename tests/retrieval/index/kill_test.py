"""Twenty writers are killed; nothing is lost, and readers do not notice."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_twenty_killed_writers_leave_the_index_that_nobody_disturbed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.retrieval.index.killed", str(tmp_path)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.startswith("done"), done.stderr
    assert done.returncode == 0
