"""What is wrong with a command line and its file, in words: which field was meant, what it takes."""

import difflib
import re
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_collections
from absl import flags
from ml_collections import ConfigDict, config_dict

from configs import default
from hybridhash_jax.config_fields import GONE, RENAMED, Config, ConfigError, flat_fields

# What other programs call our fields.
_ALIASES = {
    "lr": "optimizer.learning_rate",
    "wd": "optimizer.weight_decay",
    "epochs": "num_epochs",
    "epoch": "num_epochs",
    "bit": "bits",
    "hash_bit": "bits",
    "bs": "batch_size",
    "method": "method.name",
    "optimizer": "optimizer.name",
    "optim": "optimizer.name",
    "dataset": "data.name",
    "data": "data.dir",
    "data_dir": "data.dir",
    "data_path": "data.dir",
    "model": "model.variant",
    "arch": "model.variant",
    "workers": "data.num_workers",
    "pretrained": "init.weights",
    "weights": "init.weights",
    "resume": "workdir",
    "output": "workdir",
    "output_dir": "workdir",
    "gpus": "num_devices",
    "topk": "evaluation.top_k",
}
_EXPECTED = {
    int: "a whole number, such as 3",
    float: "a number, such as 0.5 or 1e-4 (with a point, not a comma)",
    bool: "true or false",
}
_KINDS = (int, float, bool, str, tuple)
_VALUE = re.compile(r"flag --config\.([\w.]+)=(.*?): ", re.DOTALL)
# As ml_collections says it: the field without its group, the value as text, both types.
_ASSIGNED = re.compile(
    r"Could not override field '(\w+)' \(reference\)\. (.*) is of original type "
    r"<class '([\w.]+)'> and cannot be casted to type <class '([\w.]+)'>",
    re.DOTALL,
)
_LOCKED = re.compile(r'Key "(\w+)" does not exist and cannot be added')
_PLACE = re.compile(r'^ *File "(.+)", line (\d+), in ', re.MULTILINE)
_UNKNOWN = re.compile(r"Unknown command line flag '([^']+)'")


def explain(error: Exception, arguments: Sequence[str]) -> str:
    """The message of an error that reading `arguments` raised."""
    if isinstance(error, SyntaxError):  # in the configuration's file
        line = f"{error.filename}, line {error.lineno}" if error.lineno else error.filename
        return f"--config takes a Python file, such as configs/digits.py; {line}: {error.msg}"
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    place, fields = _line_of(error, text), _fields()
    if assigned := _ASSIGNED.search(text):
        return f"{place}{_assigned(*assigned.groups())}"
    if locked := _LOCKED.search(text):
        near = re.findall(r'Did you mean "(\w+)"', text)
        return f"{place}{locked[1]}: there is no such field.{did_you_mean(near)}"
    if isinstance(error, config_dict.RequiredValueError):
        return "a field that the configuration requires has no value; give it: --config.FIELD=VALUE"
    if place:  # another mistake in the file
        more = text.strip("'\"").replace("\\n", "\n").replace("\n", " ")
        return f"{place}{type(error).__name__}: {more}"
    given = re.findall(r"^--?config\.([\w.]+)", "\n".join(arguments), re.MULTILINE)
    unknown = [name for name in given if name not in fields]
    if unknown:
        return _unknown_field(unknown[0], fields)
    if match := _VALUE.match(text):
        name, value = match.groups()
        expected = _EXPECTED.get(_type_of(name))
        return f"--config.{name}={value}; accepted: {expected}" if expected else text
    if isinstance(error, AttributeError) and re.search(r"'(get_config|to_dict)'", text):
        return (
            "the file of --config cannot be used: it needs a function get_config() that gives a "
            f"ConfigDict, as configs/digits.py has ({text})"
        )
    if text.startswith("Unknown command line flag 'config."):
        return "fields of --config are not for --codes, which are measured without a network"
    if match := _UNKNOWN.match(text):
        return _unknown_flag(match[1], fields)
    return text


def check_fields(config: Config, file: str) -> None:
    """Refuses the configuration of a `file` with other fields than configs/default.py has.

    Raises:
      ConfigError: all fields that there are not, that are missing, or whose value is of another
        kind than theirs, each with what is accepted.
    """
    if problems := list(_problems(config, default.get_config())):
        raise ConfigError(f"{file} cannot be used:\n  " + "\n  ".join(problems))


def _problems(given: Config, known: Config, group: str = "") -> Iterator[str]:
    for name, value in given.items():
        usual, field = known.get(name), group + name
        if name not in known or (
            isinstance(usual, ConfigDict) and not isinstance(value, ConfigDict)
        ):
            yield _unknown_field(field, _fields(), flag="")
        elif isinstance(usual, ConfigDict):
            yield from _problems(value, usual, f"{field}.")
        elif not (value is None and usual is None) and not _is_of(value, known.get_type(name)):
            yield f"{field}={value!r}; accepted: {_accepted(known.get_type(name), usual, value)}"
    if missing := [group + name for name in known if name not in given]:
        yield f"{', '.join(missing)}: missing; begin with default.get_config() and set single fields"


def _is_of(value: Any, kind: Any) -> bool:
    """Is it of a field's type? A bool is no number, and a whole number is one."""
    if isinstance(value, bool):
        return kind in (bool, object)
    if kind is tuple:  # a group that is given as a whole may have lists
        return isinstance(value, tuple | list)
    return isinstance(value, int | float if kind is float else kind)


def _accepted(kind: Any, usual: Any, given: Any) -> str:
    """What a field takes, of its type and its value in configs/default.py."""
    if kind is tuple:
        return f"values in brackets, such as {usual or (() if given is None else (given,))!r}"
    return _EXPECTED.get(kind, "a text, in quotes")


def _assigned(name: str, value: Any, given: str, wanted: str) -> str:
    """What is said of a file that gives a field a value of another type."""
    kinds = {kind.__name__: kind for kind in _KINDS}
    known = dict(flat_fields(default.get_config()))
    fields = [field for field in known if field.rpartition(".")[2] == name]
    if wanted not in kinds:
        return _unknown_field(name, _fields(), flag="")
    of_kind = [field for field in fields if _type_of(field) is kinds[wanted]]
    usual = known[of_kind[0]] if of_kind else None
    if reader := {"int": int, "float": float, "bool": "True".__eq__}.get(given):
        value = reader(value)
    field = of_kind[0] if len(of_kind) == 1 else name
    told = f"{field}={value!r}"
    if given not in {kind.__name__ for kind in (*_KINDS, list)} | {"NoneType"}:
        told = f"{field}: {value} is a {given}"
    return f"{told}; accepted: {_accepted(kinds[wanted], usual, value)}"


def _line_of(error: Exception, text: str) -> str:
    """Where in a user's get_config() an error was; empty for an error elsewhere."""
    library = str(Path(ml_collections.__file__).parent)
    # ml_collections puts the traceback of some into its text.
    lines = [place for place in _PLACE.findall(text) if not place[0].startswith(library)]
    frames = traceback.extract_tb(error.__traceback__)
    lines += [(frame.filename, frame.lineno) for frame in frames if frame.name == "get_config"]
    return "{}, line {}: ".format(*lines[-1]) if lines else ""


def did_you_mean(near: Sequence[str]) -> str:
    """The question, with a blank before it; nothing where nothing is near."""
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _fields() -> list[str]:
    return [name for name, _ in flat_fields(default.get_config())]


def _unknown_field(name: str, fields: Sequence[str], flag: str = "--config.") -> str:
    given = flag + name
    if name in RENAMED:
        return f"{given} is now {flag}{RENAMED[name]}"
    if name in GONE:
        return f"{given} is no longer there; leave it out (see CHANGELOG.md)"
    inside = [field for field in fields if field.startswith(name + ".")]
    if inside:
        return f"{given} is a group of fields; give one of them: {', '.join(inside)}"
    near = _near(name, fields)
    group = [field for field in fields if field.startswith(name.rpartition(".")[0] + ".")]
    known = f" Fields: {', '.join(group)}" if group else " configs/default.py has all fields."
    return f"{given}: there is no such field.{did_you_mean(near)}{known}"


def _unknown_flag(name: str, fields: Sequence[str]) -> str:
    own = [flag for flag in flags.FLAGS if "." not in flag]
    fields = [field for field in _near(name, fields) if field not in own]
    near = [f"--config.{field}" for field in fields]
    near += [f"--{flag}" for flag in difflib.get_close_matches(name, own, n=2, cutoff=0.75)]
    if _ALIASES.get(name) in own:
        near = [f"--{_ALIASES[name]}"]
    return f"--{name} is no flag.{did_you_mean(near[:3])} See --help"


def _near(name: str, fields: Sequence[str]) -> list[str]:
    """The fields that were perhaps meant, the likeliest first."""
    group, _, last = name.rpartition(".")
    beside = [field.rpartition(".")[2] for field in fields if field.rpartition(".")[0] == group]
    if group and (near := difflib.get_close_matches(last, beside, n=2, cutoff=0.75)):
        return [f"{group}.{field}" for field in near]
    if name in _ALIASES or last in _ALIASES:
        return [_ALIASES.get(name) or _ALIASES[last]]
    same = [field for field in fields if field.rpartition(".")[2] == last]
    return same or difflib.get_close_matches(name, fields, n=3, cutoff=0.6)


def _type_of(name: str) -> Any:
    *groups, last = name.split(".")
    place: Any = default.get_config()
    for group in groups:
        place = place[group]
    assert isinstance(place, ConfigDict)
    return place.get_type(last)
