"""Published numbers, each with how its ties were ordered and how its epoch was chosen."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class PublishedMap:
    """One published mean average precision.

    Attributes:
        protocol: the split it was measured on, as `input_pipeline.splits` calls it.
        top_k: the cut-off k of mAP@k; None is the whole database.
        bits: code length K.
        map: mAP@k in [0, 1].
        method: what was trained.
        source: where the number is from.
        ties: how items at equal distance were ordered.
        chosen: how the evaluation was chosen among those of the run.
        note: what else tells it from its neighbours.
    """

    protocol: str
    top_k: int | None
    bits: int
    map: float
    method: str
    source: str
    ties: str
    chosen: str
    note: str | None = None


_BEST = "best of epochs 3, 6, 9 and 12, on the queries themselves"
_LAST = "the last epoch (12)"


def _from_log(bits: int, value: float, chosen: str, note: str | None = None) -> PublishedMap:
    return PublishedMap(
        protocol="imagenet100",
        top_k=1000,
        bits=bits,
        map=value,
        method="HybridHash (He & Wei, ICMR 2024)",
        source="log of the authors' run with their released code; arXiv 2405.07524",
        ties="unspecified: NumPy's default argsort on the authors' machine",
        chosen=chosen,
        note=note,
    )


PUBLISHED = (
    _from_log(16, 0.8028, _BEST, "epoch 3"),
    _from_log(32, 0.8886, _BEST, "epoch 3"),
    _from_log(48, 0.9095, _BEST, "epoch 6"),
    _from_log(64, 0.9211, _BEST, "epoch 6"),
    _from_log(16, 0.7093, _LAST),
    _from_log(32, 0.8256, _LAST),
    _from_log(48, 0.8824, _LAST),
    _from_log(64, 0.9022, _LAST),
)


def published_for(protocol: str, top_k: int | None) -> list[dict[str, Any]]:
    """The published numbers of a protocol at a cut-off, as plain dicts; none is an empty list.

    Numbers at another cut-off are left out: they would not be comparable.
    """
    found = (entry for entry in PUBLISHED if (entry.protocol, entry.top_k) == (protocol, top_k))
    return [
        {key: value for key, value in dataclasses.asdict(entry).items() if key != "top_k"}
        for entry in found
    ]
