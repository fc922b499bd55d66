"""Compiled functions work wherever their cache lies, and whatever state it is in."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
RESAMPLE = """
import numpy as np
from input_pipeline.images.resample import Crop, resample

out = np.empty((4, 4, 3), np.uint8)
resample(np.full((9, 7, 3), 50, np.uint8), Crop(6, 6, 1, 1, 4), out)
print(out.max())
"""
BOTH = f"""
import numpy as np
from hybridhash_jax import metrics

codes, labels = np.array([[1, 1], [1, -1], [-1, -1]]), np.array([0, 1, 0])
print(metrics.mean_average_precision(codes, labels, codes, labels, ties="stable"))
{RESAMPLE}"""
# Three queries, each itself first; then the two others: one relevant at place 3, none, at place 3.
EXPECTED = f"{(2 * (1 + 2 / 3) / 2 + 1) / 3}\n50\n"


@pytest.fixture
def installed(tmp_path):
    """A copy of the code, whose folders cannot hold a cache: a file lies in its place."""
    for name in ("hybridhash_jax", "input_pipeline"):
        shutil.copytree(
            ROOT / name, tmp_path / "code" / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for folder in ("hybridhash_jax/metrics", "input_pipeline/images"):
        (tmp_path / "code" / folder / "__pycache__").touch()
    (tmp_path / "tmp").mkdir()
    return tmp_path / "code"


def run(installed: Path, program: str = BOTH, **variables: str) -> tuple[str, list[str]]:
    dropped = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "PYTHONPATH")
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    environment = kept | {"HOME": "/dev/null", "TMPDIR": str(installed.parent / "tmp")} | variables
    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        cwd=installed, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr.splitlines()


@pytest.mark.thorough
def test_without_any_other_folder_a_temporary_one_of_the_user_is_taken(installed):
    output, said = run(installed)
    assert output == EXPECTED
    assert len(said) == 1
    (folder,) = (installed.parent / "tmp").glob("hybridhash_jax-numba-*")
    assert f"kept in {folder}" in said[0]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*.nb?")}
    assert kept
    assert run(installed) == (EXPECTED, said)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.nb?")} == kept


@pytest.mark.slow
def test_a_temporary_folder_that_others_can_write_is_not_used(installed):
    folder = installed.parent / "tmp" / f"hybridhash_jax-numba-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    output, said = run(installed)
    assert output == EXPECTED
    assert len(said) == 1
    assert "compiled again at each start" in said[0]
    assert not list(folder.iterdir())


@pytest.mark.thorough
def test_a_damaged_cache_is_made_again(installed):
    folder = installed.parent / "cache"
    assert run(installed, RESAMPLE, NUMBA_CACHE_DIR=str(folder)) == ("50\n", [])
    files = sorted(folder.rglob("*.nb?"))
    whole = {path: path.stat().st_size for path in files}
    for ending, length in ((".nbi", 0), (".nbc", 1000)):
        for path in files:
            if path.suffix == ending:
                os.truncate(path, length)
        output, (said,) = run(installed, RESAMPLE, NUMBA_CACHE_DIR=str(folder))
        assert output == "50\n"
        assert "damaged" in said
        sizes = {path: path.stat().st_size for path in files}
        assert sizes.keys() == whole.keys()
        assert min(sizes.values()) > 20
        assert run(installed, RESAMPLE, NUMBA_CACHE_DIR=str(folder)) == ("50\n", [])
