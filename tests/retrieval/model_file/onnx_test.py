"""The ONNX file of an encoder, written in an environment of its own; see requirements-onnx.txt."""

import os
import subprocess
from pathlib import Path

import pytest

from hybridhash_jax.tools import to_onnx
from tests.runs.small_run import ENVIRONMENT, ROOT, StopAt, make_config

PYTHON = Path(os.environ.get("ONNX_PYTHON", ROOT / "onnx-env/bin/python"))


@pytest.mark.slow
@pytest.mark.skipif(
    not PYTHON.exists(),
    reason=f"{PYTHON} is not there: python -m venv onnx-env && onnx-env/bin/pip install -r "
    "requirements-onnx.txt, or name another environment's Python in ONNX_PYTHON",
)
def test_its_codes_in_onnxruntime_are_the_encoders(tmp_path):
    from hybridhash_jax.run import train

    train(make_config(method__name="lsh", num_epochs=1), tmp_path / "run", StopAt())
    out = tmp_path / "x.onnx"
    words = ["-m", "hybridhash_jax.tools.to_onnx", f"--workdir={tmp_path / 'run'}", f"--out={out}"]
    done = subprocess.run(
        [str(PYTHON), *words], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "0 of 800 bits differ" in done.stdout
    assert b"hybridhash" in out.read_bytes()


def test_where_its_packages_are_missing_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "jax2onnx", None)
    assert to_onnx.main(["--workdir=run", f"--out={tmp_path / 'x'}"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: jax2onnx is not installed.") and "requirements-onnx.txt" in told
