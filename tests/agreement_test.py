"""Processes that were started differently are told so before they begin."""

import re

import pytest

from hybridhash_jax.agreement import agree, describe_differences, program_facts
from tests.process_pair import start_two, wait_for_two
from tests.small_run import ROOT, flags


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
    agree({"anything": "at all"})


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
