"""A file that changed since it was exported is refused; plain JAX and older files are as before."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from hybridhash_jax.retrieval import model_file
from hybridhash_jax.retrieval.model_file import ModelFileError, program
from hybridhash_jax.retrieval.model_file.facts import Facts

CROPS = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def data() -> bytes:
    """What `export-model` writes, of a program with 100 kB of weights in place of a network."""
    weights = np.random.default_rng(0).normal(size=(192, 128)).astype(np.float32)

    def encode(crops: jax.Array) -> jax.Array:
        pixels = crops.reshape(crops.shape[0], -1).astype(jnp.float32)
        return jnp.packbits(pixels @ weights >= 0, axis=1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "make_encode", lambda _: encode)
        facts = Facts(128, 8, 8, False, "ab", "float32", 10**6, False)
        return program.export_program(None, facts)  # pyright: ignore[reportArgumentType]


def test_a_file_that_has_changed_is_refused(data: bytes, tmp_path: Path):
    file = tmp_path / "x.stablehlo"
    half = len(data) // 2
    for place, count in ((half, 2000), (half, 1), (len(data) - 1, 1)):
        changed = bytes(byte ^ 1 for byte in data[place : place + count])
        file.write_bytes(data[:place] + changed + data[place + count :])
        with pytest.raises(ModelFileError, match=f"{file}: it is damaged; copy or export it again"):
            model_file.load(file)
    for changed in (data + b"\0", data[:-1]):
        file.write_bytes(changed)
        with pytest.raises(ModelFileError, match="it is damaged"):
            model_file.load(file)
    file.write_bytes(data[:half])
    with pytest.raises(ModelFileError, match="damaged"):
        model_file.load(file)


def test_the_file_is_read_by_jax_alone_and_older_ones_by_load(data: bytes, tmp_path: Path):
    file = tmp_path / "x.stablehlo"
    file.write_bytes(data)
    codes = model_file.load(file).of_crops(CROPS)
    alone = jax.jit(export.deserialize(bytearray(data)).call)
    np.testing.assert_array_equal(np.asarray(alone(CROPS)), codes)
    file.write_bytes(data[: data.rindex(b"hybridhash sha256")])  # as it was written before
    np.testing.assert_array_equal(model_file.load(file).of_crops(CROPS), codes)
