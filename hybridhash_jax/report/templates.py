"""The pages' templates: every string escapes itself, and an unknown name is an error."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from hybridhash_jax.report import thumbnails, wording

_OPTIONAL = {
    "": ("graded", "evaluations", "training", "selection", "times", "published"),
    "dataset": ("provenance", "official", "checksum", "split_seed", "unreadable"),
    "codes": ("fingerprint",),
    "times": ("encode_seconds", "metric_seconds", "images_per_second", "train_images_per_second"),
    "run": ("seed", "variant", "parameters", "init_from"),
}


def render(template: str, **values: Any) -> str:
    """Fills one of the templates; the result can be written as UTF-8 whatever the names hold."""
    text = _environment().get_template(template).render(**values)
    return text.encode("utf-8", "replace").decode("utf-8")


def complete(record: Mapping[str, Any]) -> dict[str, Any]:
    """Adds None for every part that a report or a sweep may lack."""
    whole: dict[str, Any] = dict.fromkeys(_OPTIONAL[""]) | dict(record)
    for name, keys in _OPTIONAL.items():
        if name and whole.get(name) is not None:
            whole[name] = dict.fromkeys(keys) | dict(whole[name])
    return whole


def figures(
    pictures: Mapping[str, bytes], captions: Mapping[str, tuple[str, str]]
) -> dict[str, dict[str, str]]:
    """The given pictures under their file names, with source, alternative text and caption.

    Args:
        pictures: PNG files by name.
        captions: alternative text and caption by name; a picture that has none is left out.
    """
    return {
        name: {"source": thumbnails.encoded(pictures[name]), "alt": alt, "caption": caption}
        for name, (alt, caption) in captions.items()
        if name in pictures
    }


@functools.cache
def _environment() -> jinja2.Environment:
    """Kept, since compiling the templates takes longer than filling them."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "measure": wording.measure,
        "count": wording.count,
        "share": wording.share,
        "labels": wording.label_list,
        "plain": wording.plain,
        "file_name": wording.file_name,
    }
    return environment
