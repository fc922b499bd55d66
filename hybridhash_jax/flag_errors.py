"""What is wrong with a command line, in words: which field was meant, which values it takes."""

import difflib
import re
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from configs import default
from hybridhash_jax.config_fields import GONE, RENAMED, flat_fields

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
_VALUE = re.compile(r"flag --config\.([\w.]+)=(.*?): ", re.DOTALL)
_UNKNOWN = re.compile(r"Unknown command line flag '([^']+)'")


def explain(error: Exception, arguments: Sequence[str]) -> str:
    """The message of an error that reading `arguments` raised."""
    if isinstance(error, SyntaxError):  # in the configuration's file
        line = f"{error.filename}, line {error.lineno}" if error.lineno else error.filename
        return f"--config takes a Python file, such as configs/digits.py; {line}: {error.msg}"
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    fields = [name for name, _ in flat_fields(default.get_config())]
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


def did_you_mean(near: Sequence[str]) -> str:
    """The question, with a blank before it; nothing where nothing is near."""
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _unknown_field(name: str, fields: Sequence[str]) -> str:
    if name in RENAMED:
        return f"--config.{name} is now --config.{RENAMED[name]}"
    if name in GONE:
        return f"--config.{name} is no longer there; leave it out (see CHANGELOG.md)"
    inside = [field for field in fields if field.startswith(name + ".")]
    if inside:
        return f"--config.{name} is a group of fields; give one of them: {', '.join(inside)}"
    near = _near(name, fields)
    group = [field for field in fields if field.startswith(name.rpartition(".")[0] + ".")]
    known = f" Fields: {', '.join(group)}" if group else " configs/default.py has all fields."
    return f"--config.{name}: there is no such field.{did_you_mean(near)}{known}"


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
    last = name.rpartition(".")[2]
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
