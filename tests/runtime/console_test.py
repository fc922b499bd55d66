"""Lines that nobody reads stop no run."""

import os
import subprocess
import sys

from tests.runs.small_run import ENVIRONMENT, ROOT

TALKS = """
from hybridhash_jax.runtime import console
console.set_up(patience=0.1)
for i in range(500):
    console.logger.info("%d %s", i, "x" * 1000)
with open({path!r}, "w") as file:
    file.write("finished")
"""


def test_a_pipe_that_nobody_reads_does_not_stop_the_program(tmp_path):
    code = TALKS.format(path=str(tmp_path / "done"))
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, stdout=writer
    )
    os.close(writer)
    try:
        assert process.wait(timeout=60) == 0
        assert (tmp_path / "done").read_text() == "finished"
        assert b" 0 x" in os.read(reader, 100)  # what there was room for is there
    finally:
        process.kill()
        os.close(reader)


def test_a_pipe_whose_reader_is_gone_does_not_stop_it_either(tmp_path):
    code = TALKS.format(path=str(tmp_path / "done"))
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, stdout=writer
    )
    os.close(writer)
    process.wait(timeout=60)
    assert (tmp_path / "done").read_text() == "finished"
