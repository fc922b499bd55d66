"""The files of examples/ give the index that one `hybridhash encode` gives."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from configs import lists
from hybridhash_jax.retrieval.encoding import command as encode
from hybridhash_jax.retrieval.index import command as index
from hybridhash_jax.retrieval.index import merge, open_index
from hybridhash_jax.run import train
from tests.input_pipeline.images.photographs import write_lists
from tests.runs.small_run import ENVIRONMENT, OVERRIDES, ROOT, StopAt

EXAMPLES = ROOT / "examples"
# One device, as users have it: eight would have a batch each.
QUIET = {**ENVIRONMENT, "XLA_FLAGS": "", "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with `photos`, a `run` on them, and `one.idx`, which one command made."""
    place = tmp_path_factory.mktemp("place")
    photos = place / "photos"
    write_lists(photos, 40, num_train=20, num_query=10)
    (photos / "images/broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    config = lists.get_config()
    sizes = {"batch_size": 16, "num_epochs": 1, "evaluation.batch_size": 16}
    config.update_from_flattened_dict(OVERRIDES | sizes | {"method.name": "lsh"})
    config.data.update({"dir": str(photos), "resize": 10})
    train(config.lock(), place / "run", StopAt())
    assert (
        encode.main([str(photos), f"--index={place / 'one.idx'}", f"--workdir={place / 'run'}"])
        == 0
    )
    assert index.main(["compact", str(place / "one.idx")]) == 0
    return place


def segments(path):
    """Names of segments, which are checksums of their content, and what the rows are."""
    with open_index(path) as opened:
        rows = [opened.entries([row])[0] for row in range(len(opened))]
        pictures = [opened.thumbnail(row) for row in range(len(opened))]
        return sorted(file.name for file in (path / "segments").iterdir()), rows, pictures


@pytest.mark.thorough
def test_the_parts_of_ray_actors_are_the_index(place):
    script = EXAMPLES / "ray_encode.py"
    assert len(script.read_text().splitlines()) <= 60
    words = [script, place / "photos", place / "run", place / "parts", "--actors=2", "--batch=16"]
    environment = {**QUIET, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=place, env=environment, capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "40 images encoded" in done.stdout
    parts = sorted((place / "parts").iterdir())
    assert len(parts) == 2
    merge(parts, place / "ray.idx")
    assert segments(place / "ray.idx") == segments(place / "one.idx")


@pytest.fixture
def path_with_our_commands(tmp_path):
    """Where `hybridhash` writes its arguments, a line a call, instead of running."""
    program = tmp_path / "bin/hybridhash"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done >> "$CALLS"\necho >> "$CALLS"\n'
    )
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")}


def run_calls(environment):
    """Runs what was written, with our own parsers."""
    calls = Path(environment["CALLS"]).read_text().strip("\n").split("\n\n")
    for call in calls:
        verb, *words = call.split("\n")
        assert {"encode": encode.main, "index": index.main}[verb](words) == 0
    return len(calls)


@pytest.mark.thorough
def test_the_slurm_script_makes_the_index_from_two_parts(place, path_with_our_commands, tmp_path):
    own = {"PHOTOS": f"{place}/photos", "RUN": f"{place}/run", "OUT": f"{tmp_path}/of slurm.idx"}
    given = {**path_with_our_commands, **own, "PARTS": "2", "SLURM_CPUS_PER_TASK": "1"}
    script = str(EXAMPLES / "slurm_encode.sh")
    for part in ("1", "2"):
        environment = given | {"SLURM_ARRAY_TASK_ID": part}
        subprocess.run(["bash", script], env=environment, check=True)
    assert run_calls(given) == 2
    os.unlink(given["CALLS"])
    subprocess.run(["bash", script, "merge"], env=given, check=True)
    assert run_calls(given) == 1
    assert segments(tmp_path / "of slurm.idx") == segments(place / "one.idx")
    text = (EXAMPLES / "slurm_encode.sh").read_text()
    assert re.findall(r"--array=1-(\d+)", text) == re.findall(r"PARTS:-(\d+)", text)
    missing = subprocess.run(["bash", script], env={"PATH": given["PATH"]}, capture_output=True)
    assert missing.returncode and b"PHOTOS: the folder" in missing.stderr


@pytest.mark.slow
def test_the_kubernetes_jobs_make_the_index_from_two_parts(place, path_with_our_commands, tmp_path):
    encoding, merging = yaml.safe_load_all((EXAMPLES / "k8s_encode.yaml").read_text())
    count = encoding["spec"]["completions"]
    own = {"/data/photos.idx": "k8s.idx", "/data/parts": "parts"}
    shared = {"/data/photos": "photos", "/data/run": "run"}

    def run(job, **environment):
        [container] = job["spec"]["template"]["spec"]["containers"]
        [script] = container["args"]
        for name, here in own.items():
            script = script.replace(name, shlex.quote(str(tmp_path / here)))
        for name, here in shared.items():
            script = script.replace(name, shlex.quote(str(place / here)))
        script = script.replace(f"/{count}", "/2")
        given = path_with_our_commands | environment
        subprocess.run([*container["command"], script], env=given, check=True)
        calls = run_calls(given)
        os.unlink(given["CALLS"])
        return calls

    assert sum(run(encoding, JOB_COMPLETION_INDEX=str(part)) for part in range(2)) == 2
    assert run(merging) == 1
    assert segments(tmp_path / "k8s.idx") == segments(place / "one.idx")
    assert merging["spec"]["suspend"] and encoding["spec"]["completionMode"] == "Indexed"
