"""Checkpoints of two real processes, each of which reads and writes parts of its own."""

import json
import os

import pytest

from tests.distributed.process_pair import free_port, run_code

pytestmark = pytest.mark.slow

BOTH = """
import json, os, sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
number = int(os.environ["NUMBER"])
from jax.experimental.multihost_utils import sync_global_devices
from hybridhash_jax.distributed import mesh as sharding, processes
from hybridhash_jax.workdir.checkpoints import CheckpointStore

processes.start("127.0.0.1:{port}", 2, number)
mesh = sharding.make_mesh()
layouts = {{"rows": sharding.batch_sharded(mesh), "weights": sharding.replicated(mesh)}}
make = lambda step: {{"rows": jnp.arange(4096.0).reshape(256, 16) + step, "weights": jnp.ones(9)}}
state = jax.jit(make, static_argnums=0, out_shardings=layouts)
store = CheckpointStore(Path("w/checkpoints"))
for step in (5, 6):
    store.save(step, state(step), {{"history": [step]}})
store.wait()
{then}
store.close()
processes.finish()
"""
DAMAGE = """
if number == 1:  # the rows that this process wrote, and will read
    for path in Path("w/checkpoints/6/state/ocdbt.process_1/d").iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
sync_global_devices("damaged")
found, meta = store.restore_latest(state(0))
first = float(found["rows"].addressable_data(0)[0, 0])
print(json.dumps([meta["history"], first, store.steps()]))
"""
REPLACE = """
store.replace_meta(6, {"history": [6, "evaluated"]})
sync_global_devices("replaced")
print(json.dumps(store.restore_latest(state(0))[1]["history"]))
"""


def answers(tmp_path, then):
    """What each of the two printed last."""
    code = BOTH.format(port=free_port(), then=then)
    printed = run_code(code, [{"NUMBER": "0"}, {"NUMBER": "1"}], [tmp_path, tmp_path])
    return [json.loads(text.splitlines()[-1]) for text in printed]


def test_what_one_finds_damaged_is_set_aside_by_both(tmp_path):
    first, second = answers(tmp_path, DAMAGE)
    assert first == [[5], 5.0, [5]]
    assert second == [[5], 128 * 16 + 5.0, [5]]
    assert os.listdir(tmp_path / "w" / "damaged_checkpoints") == ["6"]


def test_the_record_of_a_checkpoint_is_replaced_while_the_other_goes_on(tmp_path):
    assert answers(tmp_path, REPLACE) == [[6, "evaluated"]] * 2
