"""The project's own rules: which way imports point, and how large files may be."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "hybridhash_jax"

PACKAGES = ("metrics", "models", "pretrained", "pretraining", "report_pages", "tools")

# Each may import from those before it, and nothing after.
LAYERS = [
    ["report_pages"],
    ["console", "codes", "losses", "memory_bank", "models", "preprocess", "classification", "ema"],
    ["image_augment", "mixing", "processes", "agreement", "accumulation"],
    ["background_compilation", "compilation_cache", "host_memory"],
    ["code_sets", "metrics", "optimizer", "state", "sharding", "interrupt"],
    ["layout"],
    ["checkpoint", "encode", "findings", "report_files", "train_step", "run_log", "config_rules"],
    ["image_sources", "pretrained"],
    ["run_plan", "workdir"],
    ["experiment", "results", "run_start"],
    ["evaluate", "train"],
    ["evaluation_report"],
    ["pretraining"],
    ["batch_tuning", "evaluation_run", "run"],
    ["command_line", "tools"],
]
PURE = ("models", "losses", "metrics", "codes", "memory_bank", "preprocess", "optimizer", "state")
PURE += ("classification", "ema", "image_augment", "mixing")


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def modules() -> dict[str, list[Path]]:
    found = {path.stem: [path] for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
    return found | {name: sorted((PACKAGE / name).glob("*.py")) for name in PACKAGES}


def test_every_module_has_a_layer():
    assert sorted(modules()) == sorted(name for layer in LAYERS for name in layer)


def test_imports_point_one_way():
    depth = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    for name, paths in modules().items():
        for path in paths:
            for imported in imports_of(path):
                parts = imported.split(".")
                if parts[0] != "hybridhash_jax" or len(parts) < 2 or parts[1] == name:
                    continue
                assert depth[parts[1]] < depth[name], f"{path} imports {imported}"


def test_the_input_pipeline_imports_one_way_and_nothing_imports_its_commands():
    paths = {path.stem: path for path in (ROOT / "input_pipeline").glob("[a-z]*.py")}
    imports = {
        name: {i.split(".")[1] for i in imports_of(path) if i.startswith("input_pipeline.")}
        for name, path in paths.items()
    }
    for name, direct in imports.items():
        reached, fresh = set(), direct
        while fresh:
            reached |= fresh
            fresh = {further for near in fresh for further in imports.get(near, ())} - reached
        assert name not in reached, f"{name} imports itself through others"
        assert not {"check", "make_splits", "pack"} & direct, name


@pytest.mark.parametrize("folder", ["input_pipeline", "configs"])
def test_input_pipeline_and_configs_know_nothing_of_the_package(folder):
    for path in (ROOT / folder).glob("*.py"):
        assert not any(name.startswith("hybridhash_jax") for name in imports_of(path)), path


def test_pure_modules_see_no_configuration_flags_or_logger():
    for name in PURE:
        for path in modules()[name]:
            forbidden = {"ml_collections", "absl", "logging", "hybridhash_jax.console"}
            assert not forbidden & imports_of(path), path


def test_files_stay_small():
    paths = [*PACKAGE.rglob("*.py"), *(ROOT / "input_pipeline").glob("*.py")]
    for path in paths:
        assert len(path.read_text().splitlines()) <= 310, path
    assert len((ROOT / "main.py").read_text().splitlines()) <= 80


def test_every_module_has_a_test_file_of_its_name():
    tested = {path.name.removesuffix("_test.py") for path in (ROOT / "tests").glob("*_test.py")}
    # run_test, kill_test and evaluation_run_test
    untested = {"console", "state", "experiment", "train", "evaluation_report"}
    untested |= {"run_plan"}  # train, evaluate, run
    assert set(modules()) - {"models", "tools"} - untested <= tested
    assert {path.stem for path in modules()["tools"]} - {"__init__"} <= tested
    pipeline = {path.stem for path in (ROOT / "input_pipeline").glob("[a-z]*.py")}
    # Types and parts, tested where they are used: loader, make_splits, packing, preprocess, cifar10.
    parts = {"dataset", "errors", "unreadable", "annotation_files", "split_files", "packed_files"}
    parts |= {"pil_filter", "permutation", "download", "record_reader", "atomic_file"}
    assert pipeline - parts <= tested
