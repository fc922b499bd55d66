"""README and docs say what is so: links lead somewhere, and commands are understood."""

import functools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from configs import default
from hybridhash_jax.config_fields import flat_fields
from hybridhash_jax.workdir.config import save_config
from tests.runs.small_run import ENVIRONMENT, ROOT

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
# Words in capitals stand for what a user has.
FLAGS = re.compile(r"--(?:config\.)?[a-z_.]+")


def shell_commands(page: Path) -> list[str]:
    """The lines of shell blocks, with those joined that go on after a backslash."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+#.*", "", line).strip() for line in lines]


COMMANDS = sorted({line for page in PAGES for line in shell_commands(page)})
RUNS = [
    line for line in COMMANDS if re.match(r"(\.venv/bin/)?python main\.py|hybridhash train", line)
]
OTHERS = [
    line
    for line in COMMANDS
    if re.match(r"(\.venv/bin/)?python -m (input|hybridhash)|hybridhash (?!train|--)", line)
]


def anchors(page: Path) -> set[str]:
    """The names of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith("http"):
            path, _, anchor = target.partition("#")
            there = page.parent / path if path else page
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), target


def test_readme_is_short_and_begins_with_a_command():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 200
    assert any("make demo" in line for line in lines[:20])


def test_there_are_commands_to_check():
    assert len(RUNS) > 15
    assert len(OTHERS) > 3


@pytest.mark.parametrize("line", RUNS)
def test_a_command_of_a_run_is_understood(line, tmp_path):
    """All flags are parsed and checked, and nothing is run."""
    if "--config" not in line and "--mode" not in line:  # goes on with a run that is there
        save_config(tmp_path, default.get_config())
        line = re.sub(r"--workdir=\S+", f"--workdir={tmp_path}", line)
    first = 1 if line.startswith("hybridhash") else 2
    arguments = [word for word in shlex.split(line) if word not in ("...", "&&")]
    command = [sys.executable, "main.py", *arguments[first:], "--only_check_args"]
    if line.startswith("hybridhash"):
        command.remove("train")
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("line", OTHERS)
def test_the_flags_of_another_command_exist(line):
    words = shlex.split(line)
    program = ("hybridhash_jax", words[1]) if words[0] == "hybridhash" else (words[2],)
    # A data set of make-splits and a verb of index have flags of their own.
    own = [word for word in words[2:4] if word.isidentifier()]
    assert set(FLAGS.findall(line)) <= set(FLAGS.findall(help_of(*program, *own)))


@functools.cache
def help_of(*words: str) -> str:
    command = [sys.executable, "-m", *words, "--help"]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


# CHANGELOG.md names fields that are gone.
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name
)
def test_fields_that_are_named_exist(page):
    """Such as `data.resize` and --config.data.resize; `init.json` is a file."""
    fields = {name for name, _ in flat_fields(default.get_config())}
    groups = "|".join({name.split(".")[0] for name in fields if "." in name})
    text = page.read_text()
    named = re.findall(r"--config\.([a-z_]+(?:\.[a-z_0-9]+)*)", text)
    named += re.findall(rf"`(?:config\.)?((?:{groups})\.(?!json|py|csv|tex)[a-z_0-9]+)[`=]", text)
    assert not set(named) - fields
