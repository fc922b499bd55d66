"""Files appear whole, replace older ones, and leave nothing behind where they cannot."""

import errno
import os
import stat
import subprocess
import sys

import pytest

from input_pipeline.atomic_file import open_atomically, write_atomically
from input_pipeline.errors import DataError


def test_a_file_is_written_and_nothing_else_is_left(tmp_path):
    write_atomically(tmp_path / "a.txt", b"one")
    write_atomically(tmp_path / "a.txt", b"two")
    assert (tmp_path / "a.txt").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_older_file_survives_a_write_that_fails(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(DataError, match=r"a\.txt.*disk full"):
        write_atomically(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_writers_of_one_process_number_do_not_write_into_one_file(tmp_path):
    """In containers that share a disk, each may be process 1."""
    with open_atomically(tmp_path / "a.txt") as slow:
        slow.write(b"sl")
        slow.flush()
        write_atomically(tmp_path / "a.txt", b"fast")
        assert (tmp_path / "a.txt").read_bytes() == b"fast"
        slow.write(b"ow")
    assert (tmp_path / "a.txt").read_bytes() == b"slow"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_disk_has_the_content_before_the_name(tmp_path, monkeypatch):
    """Else a power cut might leave an empty file in place of the older one."""
    done = []
    rename = os.replace

    def sync(file: int) -> None:
        done.append(os.fstat(file).st_size)
        raise OSError(errno.EINVAL, "a disk that cannot say so")

    def replace(*names: str) -> None:
        done.append("renamed")
        rename(*names)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    write_atomically(tmp_path / "a.txt", b"new")
    assert done == [3, "renamed"]
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        write_atomically(tmp_path / "nowhere" / "a.txt", b"")


def test_links_stay_pipes_are_written_to_and_permissions_are_kept(tmp_path):
    kept = tmp_path / "kept.txt"
    kept.write_bytes(b"old")
    kept.chmod(0o600)
    (tmp_path / "link").symlink_to(kept)
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert kept.read_bytes() == b"new"
    assert kept.stat().st_mode & 0o777 == 0o600
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(tmp_path / "pipe", b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_what_a_process_has_open_is_added_to(tmp_path):
    code = (
        "import sys; from input_pipeline.atomic_file import write_atomically; print('before'); "
        "write_atomically('/dev/stdout', b'data\\n'); write_atomically('/dev/fd/2', b'told\\n'); "
        "print('after')"
    )
    with open(tmp_path / "out", "wb") as out, open(tmp_path / "err", "wb") as err:
        out.write(b"first\n")
        out.flush()
        subprocess.run([sys.executable, "-c", code], stdout=out, stderr=err, check=True)
    assert (tmp_path / "out").read_text() == "first\nbefore\ndata\nafter\n"
    assert (tmp_path / "err").read_text() == "told\n"
