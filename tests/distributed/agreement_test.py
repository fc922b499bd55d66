"""Processes that were started differently are told so before they begin."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hybridhash_jax.distributed.agreement import agree, describe_differences, program_facts
from tests.distributed.process_pair import (
    free_port,
    run_code,
    start_two,
    two_command_lines,
    wait_for_two,
)
from tests.runs.main_process import MainProcess
from tests.runs.small_run import ENVIRONMENT, ROOT, flags


def test_differences_name_the_fact_its_values_and_whose_they_are():
    usual = {"seed": "0", "bits": "32", "file a.py": "77"}
    facts = [dict(usual) for _ in range(6)]
    facts[1]["seed"] = facts[4]["seed"] = "1"
    del facts[5]["file a.py"]
    message = describe_differences(facts)
    assert "seed: 0 in processes 0, 2-3, 5; 1 in processes 1, 4" in message
    assert "file a.py: 77 in processes 0-4; nothing in process 5" in message
    assert "bits" not in message


def test_many_differences_are_counted():
    first = {f"file {i:03}": "1" for i in range(100)}
    message = describe_differences([first, {name: "2" for name in first}])
    assert "file 019" in message
    assert "file 020" not in message
    assert "and 80 more" in message


def test_every_source_file_and_version_is_compared():
    facts = program_facts()
    names = {name.removeprefix("file ") for name in facts if name.startswith("file ")}
    found = {str(path.relative_to(ROOT)) for path in (ROOT / "hybridhash_jax").rglob("*.py")}
    assert found | {"main.py", "configs/default.py", "input_pipeline/loader.py"} <= names
    assert all((ROOT / name).is_file() for name in names)
    versions = {name for name in facts if name.startswith("version of ")}
    assert {"version of jax", "version of jaxlib", "version of flax"} <= versions


def test_one_process_agrees_with_itself():
    agree("facts", {"anything": "at all"})


@pytest.mark.slow
def test_two_configurations_end_both_processes_with_the_field_named(tmp_path):
    options = [option for option in flags() if "num_devices" not in option]
    processes = start_two(
        tmp_path / "w", *options, second=["--config.optimizer.learning_rate=0.25"]
    )
    printed, codes = wait_for_two(processes)
    assert codes == [1, 1], printed
    for text in printed:
        line = re.search(r"--config\.optimizer\.learning_rate: .*", text)
        assert line is not None, text
        assert line[0].endswith("in process 0; 0.25 in process 1")
        assert "Traceback" not in text
        assert "--config.seed" not in text
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_a_changed_source_file_and_other_devices_are_told_in_both_processes(tmp_path):
    other = tmp_path / "other"
    for folder in ("hybridhash_jax", "input_pipeline", "configs"):
        shutil.copytree(ROOT / folder, other / folder)
    shutil.copy(ROOT / "main.py", other)
    with (other / "hybridhash_jax" / "train.py").open("a") as file:
        file.write("# changed\n")
    options = [option for option in flags() if "num_devices" not in option]
    first, second = two_command_lines(tmp_path / "w", *options)
    devices = f"{ENVIRONMENT['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    process = MainProcess(first)
    try:
        done = subprocess.run(
            [sys.executable, "main.py", *second],
            check=False, cwd=other, env=ENVIRONMENT | {"XLA_FLAGS": devices}, timeout=120,
            capture_output=True, text=True,
        )  # fmt: skip
        printed = [process.communicate(timeout=60)[0], done.stderr]
    finally:
        process.kill()  # only if it hangs
    assert [process.poll(), done.returncode] == [1, 1], printed
    for text in printed:
        assert "local devices: 1 in process 0; 2 in process 1" in text
        assert re.search(r"file hybridhash_jax/train\.py: \w+ in process 0; \w+ in process 1", text)
        assert text.count("file ") == 1
        assert "Traceback" not in text


COMPARE = """
from pathlib import Path
from hybridhash_jax.distributed import agreement, processes

number = int(Path.cwd().name)
processes.start("127.0.0.1:{port}", 2, number)
try:
    {compare}
    print("the same")
except agreement.DisagreementError as error:
    print(*str(error).splitlines())
processes.finish()
"""


def told_by_both(compare: str, tmp_path: Path) -> str:
    """What two processes say of a comparison, started in the folders 0 and 1."""
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder in (*folders, tmp_path / "common"):
        (folder / "runs").mkdir(parents=True)
    code = COMPARE.format(port=free_port(), compare=compare)
    first, second = (text.splitlines()[-1] for text in run_code(code, [{}, {}], folders))
    assert first == second
    return first


@pytest.mark.slow
def test_what_differs_later_is_told_to_both(tmp_path):
    said = told_by_both(
        "agreement.agree('facts', {'kept': 'x', 'data': 'ab' * (1 + number)})", tmp_path
    )
    assert "data: ab in process 0; abab in process 1" in said
    assert "kept" not in said


@pytest.mark.slow
@pytest.mark.parametrize("shared", [pytest.param(True, marks=pytest.mark.thorough), False])
def test_a_workdir_that_is_not_shared_is_told_to_both_and_nothing_stays_in_it(tmp_path, shared):
    workdir = "../common/runs/w" if shared else "runs/w"
    said = told_by_both(f"agreement.check_shared(Path('{workdir}'), 0.1)", tmp_path)
    if shared:
        assert said == "the same"
    else:
        assert "--workdir=runs/w is not the same folder in every process" in said
        assert "to runs was not seen by process 1 within 0.1 s" in said
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
