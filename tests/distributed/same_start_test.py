"""Two real processes begin with the same numbers, whatever each of them computed or read."""

import json
import shutil

import pytest

from tests.distributed.process_pair import free_port, run_code
from tests.pretrained.pretrained_files import GOLDEN

CODE = """
import json, os
from types import SimpleNamespace
import jax, jax.numpy as jnp, numpy as np
from hybridhash_jax import configured
from hybridhash_jax.distributed import mesh as sharding, processes
from hybridhash_jax.distributed.state_sharding import make_layout
from hybridhash_jax.features import fitting
from hybridhash_jax.optimizer import make_optimizer
from hybridhash_jax.pretrained.loading import load_pretrained
from hybridhash_jax.state import first_state
from tests.pretrained.pretrained_files import small_network

number = int(os.environ["NUMBER"])
processes.start("127.0.0.1:{port}", 2, number)
mesh, own = sharding.make_mesh(), np.full((6, 2), number, np.float32)
method = SimpleNamespace(
    is_fitted=True, starts_on_host=True, title="a method", note=lambda state: "",
    fit=lambda features, bits: (own, own[0]), start=lambda state, labels: {{"codes": own}},
)
found = fitting.fitted_values(method, np.ones((4, 6), np.float32), 2, {{}})
told = [found["hash_head/kernel"].tolist(), found["hash_head/bias"].tolist()]

params = {{"kernel": jnp.zeros((6, 2))}}
optimizer = make_optimizer(params, name="sgd", learning_rate=0.1)
state = first_state(params, optimizer, {{"codes": jnp.zeros((6, 2))}})
layout = make_layout(jax.eval_shape(lambda: state), {{"codes": True}}, mesh)
begun = configured.started(method, state, np.zeros((6, 1)), layout.shardings)
codes = begun.method["codes"]
told.append([np.asarray(shard.data).tolist() for shard in codes.addressable_shards])
assert codes.sharding == layout.shardings.method["codes"]
for name in ("same", "other"):
    try:
        load_pretrained(small_network(), f"{{name}}.safetensors")
    except Exception as error:
        told.append([type(error).__name__, str(error)])
print(json.dumps(told))
processes.finish()
"""


@pytest.mark.slow
def test_what_each_computes_is_the_first_ones_and_other_files_are_refused(tmp_path):
    for number, other in enumerate(("timm_nest", "tiny16_spatial")):
        (folder := tmp_path / str(number)).mkdir()
        shutil.copy(GOLDEN / "tiny16_spatial.safetensors", folder / "same.safetensors")
        shutil.copy(GOLDEN / f"{other}.safetensors", folder / "other.safetensors")
    code = CODE.format(port=free_port())
    folders = [tmp_path / "0", tmp_path / "1"]
    for text in run_code(code, [{"NUMBER": "0"}, {"NUMBER": "1"}], folders):
        kernel, bias, codes, same, other = json.loads(text.splitlines()[-1])
        assert kernel == [[0.0, 0.0]] * 6
        assert bias == [0.0, 0.0]
        assert codes == [[[0.0, 0.0]] * 3]
        assert same[0] == "IncompatibleWeightsError"  # the same in both, of another network
        assert other[0] == "DisagreementError"
        assert "the arrays in other.safetensors: " in other[1]
