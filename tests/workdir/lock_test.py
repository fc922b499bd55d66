"""A workdir belongs to one living process; a dead one's lock is ignored, wherever it was."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hybridhash_jax.workdir import names
from hybridhash_jax.workdir.lock import WorkdirInUseError, check_free, held
from tests.runs.small_run import ROOT

HOLD = """
import sys, time
from pathlib import Path
from hybridhash_jax.workdir.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "w")],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_refused_with_process_and_host(tmp_path, holder):
    with pytest.raises(WorkdirInUseError) as refused, held(tmp_path / "w"):
        pass
    for part in (str(tmp_path / "w"), f"process {holder.pid} on ", "choose another --workdir"):
        assert part in str(refused.value)
    assert (tmp_path / "w" / names.LOCK).exists()  # still the first one's


def test_a_killed_holder_is_ignored(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert (tmp_path / "w" / names.LOCK).exists()
    with held(tmp_path / "w"):
        assert json.loads((tmp_path / "w" / names.LOCK).read_text())["process"] == os.getpid()


def elsewhere(workdir: Path, seconds_ago: float) -> None:
    """A lock of another machine on a shared disk."""
    workdir.mkdir()
    path = workdir / names.LOCK
    path.write_text(json.dumps({"process": 1, "host": "node7", "machine": "b pid:[9]"}))
    when = time.time() - seconds_ago
    os.utime(path, (when, when))


def test_a_holder_on_another_host_counts_while_it_touches_its_file(tmp_path):
    elsewhere(tmp_path / "alive", 5)
    with pytest.raises(WorkdirInUseError, match="process 1 on node7"):
        check_free(tmp_path / "alive")
    elsewhere(tmp_path / "dead", 3600)
    check_free(tmp_path / "dead")
    with held(tmp_path / "dead"):
        pass
    assert os.listdir(tmp_path / "dead") == []


@pytest.mark.slow
def test_a_pod_that_was_killed_waits_for_its_own_lock_to_be_dead(tmp_path, caplog):
    elsewhere(tmp_path / "w", 83)  # of 90
    with caplog.at_level(logging.INFO, "hybridhash_jax"):
        check_free(tmp_path / "w", watch=True)
    assert "was held by process 1 on node7; waiting for a sign of life, at most 90 s" in caplog.text


def test_a_holder_that_shows_life_while_it_is_watched_is_refused(tmp_path):
    elsewhere(tmp_path / "w", 60)
    touches = threading.Timer(0.5, os.utime, [tmp_path / "w" / names.LOCK])
    touches.start()
    with pytest.raises(WorkdirInUseError, match="process 1 on node7"):
        check_free(tmp_path / "w", watch=True)
    touches.join()


def test_a_number_that_another_process_has_now_is_no_holder(tmp_path):
    with held(tmp_path):
        lock = json.loads((tmp_path / names.LOCK).read_text())
    (tmp_path / names.LOCK).write_text(json.dumps(lock | {"process": 1}))
    check_free(tmp_path)


def test_the_lock_goes_with_its_block_and_a_lock_half_written_counts(tmp_path):
    with pytest.raises(KeyError), held(tmp_path / "w"):
        assert os.listdir(tmp_path / "w") == [names.LOCK]
        raise KeyError
    assert not (tmp_path / "w").exists()  # nothing was written
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / names.LOCK).write_text("")
    with pytest.raises(WorkdirInUseError):
        check_free(tmp_path / "w")
