"""The installed package runs outside the checkout, with its configurations and templates."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import hybridhash_jax
from tests.runs.small_run import ENVIRONMENT, ROOT, flags

pytestmark = pytest.mark.slow
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
OFFLINE = ["--quiet", "--no-deps", "--no-index"]
SOURCES = ("hybridhash_jax", "input_pipeline", "configs")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: setuptools leaves files where it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "copy"
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", *(path.name for path in ROOT.glob("requirements*.txt"))):
        shutil.copy(ROOT / name, copy)
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [*PIP, "wheel", *OFFLINE, "--no-build-isolation", f"--wheel-dir={folder}", "."]
    subprocess.run(command, cwd=copy, check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The programs of a bare environment that holds the wheel, and sees what it depends on."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([*PIP, "--python", python, "install", *OFFLINE, wheel], check=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def run(program: Path, *arguments: str, folder: Path) -> str:
    """What it prints, in a folder that is not the checkout."""
    bare = {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONPATH"}
    command = [os.fspath(program), *arguments]
    done = subprocess.run(command, cwd=folder, env=bare, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_every_source_file_template_and_table(wheel):
    with zipfile.ZipFile(wheel) as archive:
        found = set(archive.namelist())
    kinds = ("*.py", "*.html", "*.css", "*.js", "*.svg", "*.json")
    files = [path for name in SOURCES for kind in kinds for path in (ROOT / name).rglob(kind)]
    assert {str(path.relative_to(ROOT)) for path in files} <= found
    assert not any(name.startswith(("tests/", "benchmarks/", "main")) for name in found)


def test_the_wheel_requires_what_the_requirement_files_pin(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        described = Parser().parsestr(archive.read(name).decode())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert described["Version"] == hybridhash_jax.__version__
    assert "version" in project["dynamic"]  # there is one place for it
    assert described["License-Expression"] == "Apache-2.0"
    pinned = (ROOT / "requirements.txt").read_text().splitlines()
    lines = [line.split("#")[0].strip() for line in pinned]
    required = described.get_all("Requires-Dist") or []
    for_all = {line.replace(" ", "") for line in required if "extra ==" not in line}
    assert for_all == {line.replace(" ", "") for line in lines if line}
    assert any(line.startswith("pytest==") for line in required if 'extra == "dev"' in line)


def test_the_bare_environment_does_not_see_the_checkout(installed, tmp_path):
    code = f"import {', '.join(SOURCES)}; print({', '.join(f'{s}.__file__' for s in SOURCES)})"
    paths = run(installed / "python", "-c", code, folder=tmp_path).split()
    assert len(paths) == 3
    assert all(Path(path).is_relative_to(installed.parent) for path in paths)


def test_the_console_command_says_what_it_can(installed, tmp_path):
    printed = run(installed / "hybridhash", "--help", folder=tmp_path)
    assert "hybridhash train --config=digits" in printed
    printed = run(installed / "hybridhash", "train", "--help", folder=tmp_path)
    assert "hybridhash train --config=configs/digits.py" in printed


@pytest.mark.thorough
def test_the_demo_runs_where_the_package_is_installed(installed, tmp_path):
    """A shrunk network of the demo, to its report."""
    given = ["--config=digits", "--workdir=here", *flags(num_epochs=1, evaluation__report=True)]
    run(installed / "hybridhash", "train", *given, folder=tmp_path)
    (entry,) = json.loads((tmp_path / "here" / "results.json").read_text())
    assert entry["command"].startswith("hybridhash train --config=digits --workdir=here")
    assert entry["last"]["map_expected"] > 0
    assert "<html" in (tmp_path / "here" / "report.html").read_text()
