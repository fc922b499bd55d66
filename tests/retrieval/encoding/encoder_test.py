"""Codes of image files are those of the run's own evaluation, however they are asked for."""

import json
import os
import shutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from configs import lists
from hybridhash_jax.codes.files import load_code_sets
from hybridhash_jax.distributed.mesh import make_mesh
from hybridhash_jax.features import kept
from hybridhash_jax.features.plan import features_of
from hybridhash_jax.models import create_network
from hybridhash_jax.parameters import by_path
from hybridhash_jax.retrieval.encoding import network
from hybridhash_jax.retrieval.encoding.encoder import Encoder
from hybridhash_jax.retrieval.encoding.errors import EncoderError
from hybridhash_jax.retrieval.encoding.trained import Parts
from hybridhash_jax.retrieval.index import Model, create_index, open_index
from hybridhash_jax.run import train
from hybridhash_jax.runtime import lock_file
from input_pipeline.errors import UnreadableImage
from input_pipeline.images.transforms import ImageTransform
from input_pipeline.sets.digits import read_digits
from tests.input_pipeline.images.photographs import write_lists
from tests.runs.small_run import OVERRIDES, StopAt, make_config

pytestmark = pytest.mark.slow


def file_config(directory, **overrides):
    config = lists.get_config()
    sizes = {"batch_size": 16, "num_epochs": 1, "evaluation.batch_size": 16}
    config.update_from_flattened_dict(OVERRIDES | sizes | overrides)
    config.data.update({"dir": str(directory), "resize": 10})
    return config.lock()


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("photographs")
    write_lists(directory, 60, num_train=30, num_query=10)
    return directory


@pytest.fixture(scope="module")
def run(directory, tmp_path_factory):
    """The workdir of a finished run on image files."""
    workdir = tmp_path_factory.mktemp("run")
    train(file_config(directory), workdir, StopAt())
    return workdir


def paths_of(directory, codes):
    return [directory / name for name in codes.names]


def test_codes_of_files_are_those_of_the_runs_evaluation(run, directory):
    encoder = Encoder.from_workdir(run)
    for codes in load_code_sets(str(run / "codes")):
        paths = paths_of(directory, codes)
        np.testing.assert_array_equal(encoder.packed(paths), codes.packed)
        np.testing.assert_array_equal(encoder(paths), codes.codes)


def test_neither_their_number_nor_threads_nor_order_changes_codes(run, directory):
    encoder = Encoder.from_workdir(run)
    _, codes = load_code_sets(str(run / "codes"))
    paths = paths_of(directory, codes)
    one_by_one = [encoder.packed([path], num_workers=1)[0] for path in paths[:5]]
    np.testing.assert_array_equal(one_by_one, codes.packed[:5])
    found = encoder.packed(paths[::-1][:37], num_workers=7)
    np.testing.assert_array_equal(found, codes.packed[::-1][:37])
    pixels = [np.asarray(Image.open(path).convert("RGB")) for path in paths[:5]]
    np.testing.assert_array_equal(encoder.packed(pixels), codes.packed[:5])


@pytest.mark.thorough
def test_a_run_on_arrays_and_kept_features_takes_files_at_the_size_of_its_images(
    tmp_path, monkeypatch
):
    """Its codes are of the features that were kept, here coarse ones instead of float16."""

    def coarse(graphdef, plan, params, images):
        return jnp.round(features_of(graphdef, plan, params, images) * 2) / 2

    monkeypatch.setattr(kept, "features_of", coarse)
    monkeypatch.setattr(network, "features_of", coarse)
    frozen = {
        "optimizer__frozen": ("^patch_embed/", "^levels/0/"),
        "model__drop_path_rate": 0.0,
        "features__dir": str(tmp_path / "features"),
        "num_epochs": 1,
    }
    train(make_config(**frozen), tmp_path / "run", StopAt())
    assert (tmp_path / "features").exists()
    encoder = Encoder.from_workdir(tmp_path / "run")
    digits = read_digits().images
    for codes in load_code_sets(str(tmp_path / "run/codes")):
        np.testing.assert_array_equal(encoder.packed(digits[codes.rows]), codes.packed)
    images = digits[:30]
    assert encoder(images[:20].repeat(5, axis=1).repeat(5, axis=2)).shape == (20, 8)
    assert encoder.transform == ImageTransform(size=8, resize=8, options=encoder.transform.options)
    assert any("8 pixels" in note for note in encoder.notes)


def test_a_fingerprint_is_of_the_parameters_and_of_what_is_done_to_images(run, tmp_path):
    model = Encoder.from_workdir(run).model
    assert (model.bits, model.dtype, model.backend) == (8, "float32", "cpu")
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    assert Encoder.from_workdir(moved).model.fingerprint == model.fingerprint
    config = json.loads((moved / "config.json").read_text())
    config["data"]["resize"] = 12
    (moved / "config.json").write_text(json.dumps(config))
    assert Encoder.from_workdir(moved).model.fingerprint != model.fingerprint


def test_how_a_run_crops_images_is_known_without_a_device(run):
    encoder = Encoder.from_workdir(run)
    code = f"import sys; from {Encoder.__module__} import Encoder as E; print(E.transform_of(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(run)],
        env=os.environ | {"JAX_PLATFORMS": "nothing"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip() == repr(encoder.transform), done.stderr


def test_the_checkpoint_is_named_and_may_be_chosen(run):
    steps = sorted(int(path.name) for path in (run / "checkpoints").iterdir())
    assert f"checkpoint {steps[-1]} of" in Encoder.from_workdir(run, "latest").model.name
    first = Encoder.from_workdir(run, str(steps[0]))
    assert first.model.source["checkpoint"] == steps[0]
    with pytest.raises(EncoderError, match="no checkpoint .*999.*there are"):
        Encoder.from_workdir(run, "999")


def test_an_index_finds_its_run_again_or_says_which_is_gone_or_changed(run, tmp_path):
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    encoder = Encoder.from_workdir(moved)
    create_index(tmp_path / "x.idx", encoder.model, tmp_path, encoder.files)
    with open_index(tmp_path / "x.idx") as index:
        assert Encoder.from_index(index).model == encoder.model
        config = json.loads((moved / "config.json").read_text())
        config["data"]["apply_orientation"] = True
        (moved / "config.json").write_text(json.dumps(config))
        with pytest.raises(EncoderError, match=r"x\.idx holds codes of checkpoint .*would be of"):
            Encoder.from_index(index)
        shutil.rmtree(moved)
        with pytest.raises(EncoderError, match=r"x\.idx .*checkpoint \d+ of .*run is no folder"):
            Encoder.from_index(index)
        assert Encoder.from_index(index, run).model.fingerprint == encoder.model.fingerprint


def test_a_run_that_still_trains_is_used_and_told(run):
    with lock_file.held(run / "lock.json"):
        encoder = Encoder.from_workdir(run)
    step = encoder.model.source["checkpoint"]
    assert encoder.notes == (f"{run} still trains; checkpoint {step} is used",)
    assert Encoder.from_workdir(run).notes == ()


def test_a_quick_answer_is_nearly_always_the_same_code(run, directory):
    encoder = Encoder.from_workdir(run)
    paths = sorted((directory / "images").iterdir())[:5]
    assert (encoder.packed(paths, quick=True) == encoder.packed(paths)).mean() > 0.9


@pytest.mark.parametrize("count", [1, 8])
def test_in_bfloat16_few_images_have_the_codes_that_they_have_among_many(count):
    """A batch of another size would turn bits of some of them."""
    encoder = Encoder(Parts(bfloat16_program(), ImageTransform(size=8, resize=8), BFLOAT16))
    images = np.random.default_rng(0).integers(0, 256, (48, 8, 8, 3), np.uint8)
    few = [encoder.packed(images[i : i + count], quick=True) for i in range(0, 48, count)]
    np.testing.assert_array_equal(np.concatenate(few), encoder.packed(images))


BFLOAT16 = Model("", 64, "random", "bfloat16", "cpu", {})


def bfloat16_program():
    sizes = {"image_size": 8, "patch_size": 2, "embed_dims": (64, 64), "depths": (1, 1)}
    options = {"num_heads": (2, 2), "token_heads": 2, "dtype": "bfloat16"}
    built = create_network(outputs=64, rngs=nnx.Rngs(0), **sizes, **options)
    return network.Program(built, by_path(nnx.split(built)[1]), 16, make_mesh(1))


def write_config(folder, **changes):
    folder.mkdir(parents=True)
    config = make_config(**changes)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "classify"}, "classifier"),
        ({"model__variant": "embeddings"}, "embeddings of another model"),
        ({}, "no checkpoint"),
    ],
)
def test_what_gives_no_codes_of_images_is_refused(tmp_path, changes, message):
    with pytest.raises(EncoderError, match=message):
        Encoder.from_workdir(write_config(tmp_path / "run", **changes))


def test_a_sweep_is_refused_naming_the_runs_in_it(tmp_path):
    for bits in (16, 8):
        write_config(tmp_path / f"{bits}bits", bits=(bits,))
    with pytest.raises(EncoderError, match=r"several code lengths.*/8bits, .*/16bits"):
        Encoder.from_workdir(tmp_path)
    with pytest.raises(EncoderError, match="no folder"):
        Encoder.from_workdir(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EncoderError, match="holds no run"):
        Encoder.from_workdir(tmp_path / "empty")


def test_an_image_that_cannot_be_read_is_named(run, tmp_path):
    encoder = Encoder.from_workdir(run)
    (tmp_path / "text.jpg").write_bytes(b"no image")
    with pytest.raises(UnreadableImage, match=r"text\.jpg: not an image"):
        encoder([tmp_path / "text.jpg"])
    with pytest.raises(UnreadableImage, match="there is no such file"):
        encoder([tmp_path / "gone.jpg"])
    with pytest.raises(ValueError, match="must be several"):
        encoder("one.jpg")
    with pytest.raises(ValueError, match="uint8"):
        encoder(np.zeros((1, 8, 8, 3), np.float32))
    assert encoder([]).shape == (0, 8)
