"""Checkpoints: exact, kept as promised, and damage is noticed wherever it is."""

import json
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.workdir.checkpoints import (
    CheckpointError,
    CheckpointStore,
    flatten,
)
from hybridhash_jax.workdir.fingerprints import fingerprint, fingerprint_on_host
from tests.runs.small_run import ROOT


def make_state(seed=0):
    key = jax.random.key(seed)
    state = {
        "step": jnp.asarray(seed, jnp.int32),
        "params": {"kernel": jax.random.normal(key, (300, 40)), "bias": jnp.ones(40, jnp.bfloat16)},
        "bank": {"labels": jnp.ones((30, 5), jnp.uint8), "seen": jnp.arange(30) % 2 == 0},
    }
    return jax.device_put(state, sharding.replicated(sharding.make_mesh(1)))


def saved(directory, steps, keep_latest=2, best=None):
    store = CheckpointStore(directory, keep_latest)
    store.keep_best(best)
    for step in steps:
        store.save(step, make_state(step), {"history": [{"step": step, "map": 0.1 + 0.2}]})
    store.wait()
    store.close()


def assert_equal(found, expected):
    for path, array in flatten(expected).items():
        np.testing.assert_array_equal(flatten(found)[path], array, err_msg=path)


def test_what_is_restored_is_what_was_saved(tmp_path):
    saved(tmp_path / "c", [3, 7])
    restored = CheckpointStore(tmp_path / "c").restore_latest(make_state())
    assert restored is not None
    state, meta = restored
    assert_equal(state, make_state(7))
    assert meta == {"history": [{"step": 7, "map": 0.1 + 0.2}]}


def test_a_memory_bank_of_an_earlier_version_is_the_method_s_state(tmp_path):
    saved(tmp_path / "c", [3])  # with arrays called bank/...
    like = make_state()
    like["method"] = like.pop("bank")
    restored = CheckpointStore(tmp_path / "c").restore_latest(like)
    assert restored is not None
    expected = make_state(3)
    expected["method"] = expected.pop("bank")
    assert_equal(restored[0], expected)


def test_without_a_checkpoint_there_is_nothing_to_restore(tmp_path):
    assert CheckpointStore(tmp_path / "c").restore_latest(make_state()) is None


def test_the_latest_two_and_the_best_are_kept(tmp_path):
    saved(tmp_path / "c", [1, 2, 3, 4, 5], best=2)
    assert CheckpointStore(tmp_path / "c").steps() == [2, 4, 5]


def test_what_is_beside_the_arrays_is_replaced_or_stays(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path / "c", keep_latest=1)
    store.save(5, make_state(1), {"history": [1]})
    store.replace_meta(5, {"history": [1, 2]})
    state, meta = store.restore(5, make_state())
    assert_equal(state, make_state(1))
    assert meta == {"history": [1, 2]}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(CheckpointError, match="could not write a checkpoint .*intact: step 5"):
            store.replace_meta(5, {"history": [3]})
    assert store.restore(5, make_state())[1] == {"history": [1, 2]}


def test_a_donated_state_is_saved_as_it_was(tmp_path):
    """The save goes on in the background while the next step overwrites the buffers."""
    step = jax.jit(lambda s: jax.tree.map(lambda x: x + x.astype(x.dtype), s), donate_argnums=0)
    state = {"a": jnp.arange(2_000_000, dtype=jnp.float32)}
    expected = np.array(state["a"])
    store = CheckpointStore(tmp_path / "c")
    store.save(1, state, {})
    for _ in range(3):
        state = step(state)
    store.wait()
    found, _ = store.restore(1, {"a": jnp.zeros(2_000_000)})
    np.testing.assert_array_equal(found["a"], expected)


def files_of(step_directory):
    return sorted(p for p in step_directory.rglob("*") if p.is_file() and p.stat().st_size)


@pytest.mark.parametrize("damage", ["truncated", "changed", "deleted"])
def test_damage_to_any_file_is_harmless_or_noticed(tmp_path, damage, caplog):
    """Whatever happens to one file of the newest checkpoint, the state is right in the end."""
    saved(tmp_path / "whole", [3, 7])
    names = [p.relative_to(tmp_path / "whole") for p in files_of(tmp_path / "whole" / "7")]
    assert len(names) > 5
    fell_back = 0
    for name in names:
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "c")
        content = (tmp_path / "c" / name).read_bytes()
        middle = len(content) // 2
        if damage == "truncated":
            (tmp_path / "c" / name).write_bytes(content[:middle])
        elif damage == "changed":
            flipped = bytes(byte ^ 0xA5 for byte in content[middle : middle + 16])
            (tmp_path / "c" / name).write_bytes(content[:middle] + flipped + content[middle + 16 :])
        else:
            (tmp_path / "c" / name).unlink()
        store = CheckpointStore(tmp_path / "c")
        restored = store.restore_latest(make_state())
        assert restored is not None
        state, meta = restored
        step = int(state["step"])
        assert step in (3, 7), name
        assert_equal(state, make_state(step))
        assert meta == {"history": [{"step": step, "map": 0.1 + 0.2}]}
        fell_back += step == 3
        store.save(8, make_state(8), {"history": []})  # and the run can go on saving
        store.wait()
        store.close()
    assert fell_back >= 2
    assert (tmp_path / "damaged_checkpoints").exists()


def test_when_all_are_damaged_it_says_so_instead_of_starting_over(tmp_path):
    saved(tmp_path / "c", [3, 7])
    for step in (3, 7):
        for path in files_of(tmp_path / "c" / str(step)):
            path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="every checkpoint .* was damaged"):
        CheckpointStore(tmp_path / "c").restore_latest(make_state())


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    saved(tmp_path / "c", [3])
    other = make_state()
    other["params"]["kernel"] = jnp.zeros((300, 41))
    with pytest.raises(
        CheckpointError, match=r"other data, in 1 arrays: params/kernel: .* there, \(300, 41\) here"
    ):
        CheckpointStore(tmp_path / "c").restore(3, other)


def test_the_fingerprint_sees_one_changed_bit_and_one_swap():
    x = np.arange(1000, dtype=np.float32).reshape(10, 100)
    whole = fingerprint({"x": jnp.asarray(x)})
    bit = x.copy()
    bit.view(np.uint32)[3, 5] ^= 1
    swapped = x.copy()
    swapped[2, 3], swapped[4, 5] = x[4, 5], x[2, 3]
    assert fingerprint({"x": jnp.asarray(x)}) == whole
    assert fingerprint({"x": jnp.asarray(bit)}) != whole
    assert fingerprint({"x": jnp.asarray(swapped)}) != whole


def test_the_fingerprint_does_not_depend_on_the_devices():
    x = jax.random.normal(jax.random.key(0), (64, 3))
    split = jax.device_put(x, sharding.batch_sharded(sharding.make_mesh()))
    assert fingerprint({"x": split}) == fingerprint({"x": x})


FULL_DISK = """
import resource, sys
from pathlib import Path
import jax.numpy as jnp
from hybridhash_jax.workdir.checkpoints import CheckpointError, CheckpointStore
store = CheckpointStore(Path(sys.argv[1]))
store.save(1, {"a": jnp.arange(1000.0)}, {})
store.wait()
limit = 100_000  # bytes a file: larger writes fail, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
import numpy as np
try:
    store.save(2, {"a": jnp.asarray(np.random.RandomState(0).rand(1_000_000))}, {})
    store.wait()
except CheckpointError as error:
    print("REFUSED", error)
"""


def test_a_write_that_fails_names_the_path_and_leaves_the_older_checkpoint(tmp_path):
    where = tmp_path / "c"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(where)],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert "REFUSED could not write a checkpoint to " + str(where) in done.stdout, done.stderr
    assert "intact: step 1" in done.stdout
    found, _ = CheckpointStore(where).restore(1, {"a": jnp.zeros(1000)})
    np.testing.assert_array_equal(found["a"], np.arange(1000.0))


def test_the_store_needs_to_keep_at_least_one(tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        CheckpointStore(tmp_path, keep_latest=0)


def test_meta_is_plain_json(tmp_path):
    saved(tmp_path / "c", [3])
    meta = json.loads((tmp_path / "c" / "3" / "meta" / "metadata").read_text())
    assert set(meta) == {"history", "fingerprint"}


def test_checksums_are_the_same_on_the_host():
    random = np.random.default_rng(0)
    arrays = {
        "float32": random.normal(size=(3, 5, 7)).astype(np.float32),
        "transposed": random.normal(size=(4, 6)).astype(np.float32).T,
        "bfloat16": np.asarray(jnp.asarray(random.normal(size=9), jnp.bfloat16)),
        "bool": random.random(11) > 0.5,
        "scalar": np.asarray(-5, np.int32),
    }
    assert fingerprint_on_host(arrays) == fingerprint(
        {k: jnp.asarray(x) for k, x in arrays.items()}
    )
