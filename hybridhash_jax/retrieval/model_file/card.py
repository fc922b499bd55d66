"""The model card of an exported encoder, in Markdown: what it is, needs, and was measured with."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from hybridhash_jax import __version__
from hybridhash_jax.retrieval.index.records import Model
from hybridhash_jax.retrieval.model_file.check import Difference
from hybridhash_jax.retrieval.model_file.facts import Facts
from hybridhash_jax.retrieval.model_file.records import Record

_MISSING = "not recorded"
_PACKAGES = ("jax", "flax", "numpy")


def card(name: str, facts: Facts, model: Model, record: Record, difference: Difference) -> str:
    """The card of the file `name`."""
    parts = [
        f"# {name}",
        f"Turns images into binary codes of {facts.bits} bits; similar images have codes that differ "
        f"in few bits. Made of {model.name}.",
        "## Use",
        _use(name, facts),
        "## From an image file to a crop",
        _preprocessing(facts),
        "## Data and training",
        _table(_training(record)),
        "## Measured",
        _measured(record),
        "## This file",
        _table(_file(facts, model, difference)),
    ]
    return "\n\n".join(parts) + "\n"


def _use(name: str, facts: Facts) -> str:
    return f"""\
`pip install jax flatbuffers` (jax {version("jax")} wrote it); nothing else is needed.

```python
import jax, numpy as np
from jax import export
encode = jax.jit(export.deserialize(bytearray(open({name!r}, "rb").read())).call)
codes = np.asarray(encode(crops))  # uint8 [n, {facts.size}, {facts.size}, 3] -> uint8 [n, {-(-facts.bits // 8)}]
distances = np.bitwise_count(codes[:, None] ^ codes).sum(-1)  # of all pairs, in bits
```

The first bit of a code is the highest of its first byte; bits after the last are 0. With hybridhash_jax,
`model_file.load({name!r})(["a.jpg", "b.jpg"])` does all of it, crops included."""


def _preprocessing(facts: Facts) -> str:
    turn = (
        "turned as its EXIF orientation says" if facts.upright else "not turned, whatever EXIF says"
    )
    upright = "    image = ImageOps.exif_transpose(image)\n" if facts.upright else ""
    return f"""\
The first frame is decoded to RGB as Pillow does, {turn}; what is transparent is white. The shorter side is brought to {facts.resize}
pixels with Pillow's bilinear filter, the longer one in proportion, its fraction cut off. The centre of
{facts.size} x {facts.size} is taken, halves rounded to even. In Pillow, to the same bytes:

```python
import numpy as np
from PIL import Image, ImageOps

def crop(path):
    image = Image.open(path)
{upright}    if image.has_transparency_data and image.mode != "I;16":
        image = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        image = Image.composite(image, Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    w, h = image.size
    w, h = ({facts.resize}, int({facts.resize} * h / w)) if w <= h else (int({facts.resize} * w / h), {facts.resize})
    left, top = round((w - {facts.size}) / 2), round((h - {facts.size}) / 2)
    image = image.resize((w, h), Image.Resampling.BILINEAR)
    return np.asarray(image.crop((left, top, left + {facts.size}, top + {facts.size})))
```

Everything after that, from bytes to the network's numbers, is in the file."""


def _training(record: Record) -> dict[str, Any]:
    entry = record.entry
    begun = {
        "network": record.network,
        "started from": record.weights,
        "licence of what it started from": record.licence,
    }
    if not record.labels:
        return {"method": record.learned, **begun}
    images = [
        f"{entry[name]:,} {said}"
        for name, said in (("train_images", "for training"), ("queries", "queries"),
                           ("database", "in the database"))
        if entry.get(name) is not None
    ]  # fmt: skip
    official = {True: "yes", False: "no", None: "cannot be told"}[entry.get("dataset_official")]
    return {
        "method": record.learned,
        "data set": entry.get("dataset"),
        "where it is from": entry.get("dataset_provenance"),
        "published files": official if entry else None,
        "checksum": entry.get("dataset_checksum"),
        "protocol": entry.get("protocol"),
        "images": ", ".join(images) or None,
        "seed": record.seed,
        "seed of the splits": entry.get("split_seed"),
        **begun,
        "trained with": _versions(entry),
    }


def _versions(entry: Mapping[str, Any]) -> str | None:
    packages = [f"{name} {release}" for name, release in sorted(entry.get("versions", {}).items())]
    if not packages:
        return None
    return ", ".join([*packages, f"Python {entry.get('python')}", f"{entry.get('device')}"])


def _measured(record: Record) -> str:
    if not record.labels:
        return "No mAP: that takes labels."
    if record.measured is None:
        if not record.entry:
            return f"mAP: {_MISSING}."
        return f"mAP of this checkpoint: {_MISSING}; the run's results are of another one."
    entry, found = record.entry, record.measured
    at = "all" if entry.get("top_k") is None else f"{entry['top_k']:,}"
    rows = {
        f"mAP@{at}, expected over ties": found.get("map_expected"),
        f"mAP@{at}, ties in the database's order": found.get("map_stable"),
        "queries": found.get("queries", entry.get("queries")),
        "database": found.get("database", entry.get("database")),
        "checkpoint selected by": entry.get("selected_by"),
    }
    return _table(rows) + (
        "\n\nMany codes are equally far from a query. *Expected over ties* is the mean over all orders "
        "of equal\ndistances; tools that sort once report one order of them."
    )


def _file(facts: Facts, model: Model, difference: Difference) -> dict[str, Any]:
    packages = [f"{name} {version(name)}" for name in _PACKAGES]
    return {
        "code length": f"{facts.bits} bits",
        "format": "StableHLO in jax.export's form, for cpu, cuda and tpu, any number of images",
        "computes in": facts.dtype,
        "compared with the encoder when written": str(difference),
        "encoder it was compared with": f"{model.dtype} on {model.backend}",
        "fingerprint": f"{facts.fingerprint}; codes of another one cannot be compared with these",
        "refused images": f"more than {facts.max_pixels:,} pixels",
        "written with": ", ".join(
            [f"hybridhash_jax {__version__}", *packages, f"Python {platform.python_version()}"]
        ),
    }


def _table(rows: Mapping[str, Any]) -> str:
    lines = ["| | |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return _MISSING
    if isinstance(value, float):
        return f"{value:.4f}"
    text = f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
    # What a file name may hold and a table may not.
    return text.replace("|", "\\|").replace("\n", "\\n")
