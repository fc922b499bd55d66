"""One living process holds a file; a dead one's is taken over, and by one only."""

import json
import os
import subprocess
import sys

import pytest

from hybridhash_jax.runtime import lock_file
from hybridhash_jax.runtime.lock_file import HeldError, described, held, living_holder


def test_the_holder_is_described_while_the_block_lasts(tmp_path):
    path = tmp_path / "lock"
    assert living_holder(path) is None
    with held(path):
        holder = living_holder(path)
        assert holder and described(holder) == f"process {os.getpid()} on {holder['host']}"
        with pytest.raises(HeldError) as refused, held(path):
            pass
        assert refused.value.holder == holder
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are not looked for")
def test_a_dead_process_that_its_parent_has_not_noticed_holds_nothing(tmp_path):
    code = "from pathlib import Path; import os, sys\nfrom hybridhash_jax.runtime.lock_file import held\nholding = held(Path(sys.argv[1])); holding.__enter__(); os._exit(0)"  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    assert json.loads((tmp_path / "lock").read_text())["process"] == process.pid
    with held(tmp_path / "lock"):
        pass
    process.wait()


def test_one_who_was_faster_to_take_over_keeps_the_file(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    dead = {"process": 1, "host": "here", "started": "never", "machine": lock_file._machine()}
    path.write_text(json.dumps(dead))
    real = lock_file._is_dead

    def slow(holder, place):
        """Between looking and removing, another process takes over."""
        found = real(holder, place)
        if holder == dead:
            path.write_text(json.dumps(lock_file._own()))
        return found

    monkeypatch.setattr(lock_file, "_is_dead", slow)
    with pytest.raises(HeldError) as refused, held(path):
        pass
    assert refused.value.holder["process"] == os.getpid()
    assert os.listdir(tmp_path) == ["lock"]


def test_at_its_end_nobody_elses_file_is_removed(tmp_path):
    path = tmp_path / "lock"
    with held(path):
        path.write_text('{"process": 5}')
    assert json.loads(path.read_text()) == {"process": 5}
