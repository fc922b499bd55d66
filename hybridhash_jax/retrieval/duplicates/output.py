"""Results as text, JSON or CSV."""

from typing import Any

from hybridhash_jax.retrieval import outputs
from hybridhash_jax.retrieval.names import shown
from input_pipeline.messages import counted

_COLUMNS = ("group", "first", "second", "similarity", "distance", "relation")


def as_bytes(content: dict[str, Any], kind: str) -> bytes:
    """The results of `Results.content` in one of `outputs.FORMATS`."""
    return outputs.as_bytes(kind, content, lambda: as_text(content), _COLUMNS, content["pairs"])


def as_text(content: dict[str, Any]) -> str:
    """A line of counts, then each group with what its images are to the first of it."""
    lines = [summary(content)]
    for group in content["groups"]:
        images = group["images"]
        lines += ["", f"group {group['id']}: {counted(len(images), 'image')}"]
        for image in images:
            told = f"  {image['similarity']:.2f} {image['relation']}" if image["relation"] else ""
            size = f"{image['width']} x {image['height']}"
            lines.append(f"  {_place(content, image)}  {size}{told}")
    between = sum(pair["group"] is None for pair in content["pairs"])
    if between:
        lines += ["", f"{counted(between, 'pair')} between two groups: see --format=json"]
    return "\n".join(lines)


def summary(content: dict[str, Any]) -> str:
    """How many images and groups there are."""
    sides = [side for side in (content["first"], content["against"]) if side]
    where = " against ".join(
        f"{counted(side['images'], 'image')} in {shown(side['place'])}" for side in sides
    )
    images = sum(len(group["images"]) for group in content["groups"])
    groups = counted(len(content["groups"]), "group")
    found = (
        f"{groups} of near-duplicates with {counted(images, 'image')}"
        if images
        else "no near-duplicates"
    )
    parts = [f"{where}: {found}"]
    if content["accepted_pairs"]:
        parts.append(f"{counted(content['accepted_pairs'], 'accepted pair')} not shown")
    if flat := sum(side["flat"] for side in sides):
        parts.append(f"{counted(flat, 'image')} of one colour, of which only equal ones are found")
    if unreadable := sum(len(side["unreadable"]) for side in sides):
        parts.append(f"{counted(unreadable, 'image')} left out")
    return "; ".join(parts)


def _place(content: dict[str, Any], image: dict[str, Any]) -> str:
    if content["against"] is None:
        return shown(image["path"])
    side = content["against"] if image["against"] else content["first"]
    return shown(f"{side['place'].rstrip('/')}/{image['path']}")
