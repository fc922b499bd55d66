"""Only data that were read and are wrong count as damage; the rest stays where it is."""

import errno
import json
import os
from pathlib import Path

import jax.numpy as jnp
import pytest

from hybridhash_jax.runtime.failures import is_damage, is_full_disk, reason
from hybridhash_jax.workdir import checkpoints
from hybridhash_jax.workdir.checkpoints import CheckpointError, CheckpointStore
from input_pipeline.messages import is_out_of_memory


def of_tensorstore(status: str, number: int | None = None) -> ValueError:
    """As TensorStore words it."""
    system = f": [OS error {number}: EXAMPLE text]" if number else ""
    return ValueError(f'{status}: Error opening "zarr" driver: Error reading "x" in d{system} [y]')


UNREADABLE = [
    PermissionError(errno.EACCES, "Permission denied", "f"),
    OSError(errno.EIO, "Input/output error", "f"),
    OSError(errno.EMFILE, "Too many open files", "f"),
    MemoryError(),
    UnicodeEncodeError("ascii", "ä", 0, 1, "ordinal not in range"),
    of_tensorstore("PERMISSION_DENIED", errno.EACCES),
    of_tensorstore("FAILED_PRECONDITION", errno.EMFILE),
    of_tensorstore("UNAVAILABLE"),
    RuntimeError("something nobody thought of"),
]
DAMAGED = [
    json.JSONDecodeError("Unterminated string", "{", 0),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    FileNotFoundError("File c/meta/metadata not found."),
    IsADirectoryError(errno.EISDIR, "Is a directory", "f"),
    of_tensorstore("DATA_LOSS"),
    of_tensorstore("NOT_FOUND"),
    of_tensorstore("OUT_OF_RANGE"),
    of_tensorstore("FAILED_PRECONDITION"),
]


@pytest.mark.parametrize("error", UNREADABLE, ids=repr)
def test_what_could_not_be_read_is_no_damage_and_nothing_is_moved(tmp_path, monkeypatch, error):
    state = {"a": jnp.arange(10.0)}
    store = CheckpointStore(tmp_path / "checkpoints")
    store.save(1, state, {})
    store.wait()

    def fail(where: Path) -> None:
        raise RuntimeError("a library's own") from error

    monkeypatch.setattr(checkpoints, "read_meta", fail)
    with pytest.raises(CheckpointError, match="cannot be read now .* it stays as it is"):
        store.restore_latest(state)
    assert sorted(os.listdir(tmp_path)) == ["checkpoints"]
    monkeypatch.undo()
    restored = store.restore_latest(state)
    assert restored is not None


@pytest.mark.parametrize("error", DAMAGED, ids=repr)
def test_data_that_were_read_and_are_wrong_are_damage(error):
    assert is_damage(error)
    wrapped = RuntimeError("a library's own")
    wrapped.__cause__ = error
    assert is_damage(wrapped)


def test_a_full_disk_is_told_from_other_failures():
    assert is_full_disk(OSError(errno.ENOSPC, "No space left on device"))
    for number in ("[OS error 28: ENOSPC No space left on device]", "[os_error_code='28']"):
        text = f"RESOURCE_EXHAUSTED: Error writing x: No space left on device {number}"
        assert is_full_disk(ValueError(text))
        assert reason(ValueError(text)) == "No space left on device"
        told = CheckpointError("could not write a checkpoint")
        told.__cause__ = ValueError(text)
        assert not is_out_of_memory(told) and not is_out_of_memory(ValueError(text))
    for text in ("Disk quota exceeded [OS error 122: EDQUOT]", "Too many open files [OS error 24]"):
        assert not is_out_of_memory(ValueError(f"RESOURCE_EXHAUSTED: Error writing x: {text}"))
    assert is_out_of_memory(ValueError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"))
    assert is_full_disk(of_tensorstore("RESOURCE_EXHAUSTED", errno.ENOSPC))
    assert not is_full_disk(PermissionError(errno.EACCES, "Permission denied"))


def test_a_reason_has_the_systems_words_and_none_of_a_library():
    assert reason(of_tensorstore("FAILED_PRECONDITION", errno.EMFILE)) == "Too many open files"
    assert reason(MemoryError()) == "not enough memory"
