"""The ONNX file of an encoder, written in an environment of its own; see requirements-onnx.txt."""

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
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


def test_its_environment_has_what_our_code_imports():
    """Where that environment is missing, the test above is skipped and would not tell."""
    code = (
        "import json, sys, hybridhash_jax.tools.to_onnx\n"
        "from hybridhash_jax.retrieval.model_file import check, writing\n"
        "print(json.dumps([m.__file__ for m in list(sys.modules.values()) if m.__name__"
        ".startswith(('hybridhash_jax', 'input_pipeline', 'configs')) and m.__file__]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    imported: set[str] = set()
    for file in json.loads(done.stdout):
        for node in ast.parse(Path(file).read_text()).body:
            if isinstance(node, ast.Import):
                imported |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    own = {"hybridhash_jax", "input_pipeline", "configs"}
    packages = importlib.metadata.packages_distributions()
    lines = (ROOT / "requirements-onnx.txt").read_text().splitlines()
    named = {re.split(r"[=<>; ]", line)[0] for line in lines}
    named = {re.sub(r"[-_.]+", "-", name).lower() for name in named}
    assert "jax" in imported
    for name in imported - own - sys.stdlib_module_names:
        theirs = {re.sub(r"[-_.]+", "-", x).lower() for x in packages.get(name, [name])}
        assert theirs & named, name


def test_where_its_packages_are_missing_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    assert to_onnx.main(["--workdir=run", f"--out={tmp_path / 'x'}"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: jax2onnx is not installed.") and "requirements-onnx.txt" in told


def test_a_name_of_the_other_kind_of_file_is_refused(capsys):
    with pytest.raises(SystemExit):
        to_onnx.main(["--workdir=w", "--out=x.stablehlo"])
    assert "x.stablehlo would be ONNX; `hybridhash export-model`" in capsys.readouterr().err
