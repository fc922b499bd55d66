"""What was found, as data: groups of images, the pairs that make them, and what was left out."""

import hashlib
import os
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from hybridhash_jax.retrieval.duplicates.accepted import Accepted, Image, real_path
from hybridhash_jax.retrieval.duplicates.sources import Source
from input_pipeline.near_duplicates.finding import Found, Options
from input_pipeline.near_duplicates.groups import make_groups
from input_pipeline.near_duplicates.views import VIEWS, inverse

FORMAT = 1


class Results:
    """Groups of near-duplicates that are not accepted yet.

    Attributes:
      groups: rows of each group, its founder first. Rows of the second source follow those of the
        first.
      pairs: what to show of each pair, most similar first; its "group" is None between two groups.
      num_accepted: pairs that are left out because they were accepted.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        found: Found,
        options: Options,
        accepted: Accepted,
    ):
        """Groups what was found; `sources` are one, or two that are compared with each other."""
        self._sources, self._options = sources, options
        self._num_first = len(sources[0].names)
        self._against = real_path(sources[1].place) if len(sources) > 1 else ""
        second = found.second + (self._num_first if len(sources) > 1 else 0)
        # A file that both have is no duplicate of itself, nor is a link of what it leads to.
        kept = _of_two_files(sources, found)
        found, second = Found(*(column[kept] for column in found)), second[kept]
        pairs = zip(found.first.tolist(), second.tolist(), strict=True)
        new = np.array([not accepted.holds(*map(self._image, pair)) for pair in pairs], bool)
        self.num_accepted = int(np.count_nonzero(~new))
        found = Found(*(column[new] for column in found._replace(second=second)))
        made = make_groups(found.first, found.second, found.exact)
        self.groups = made.members
        self._ids = [self._id(rows) for rows in self.groups]
        self.pairs = [
            self._pair(found, k, None if group < 0 else self._ids[group])
            for k, group in enumerate(made.of_pairs.tolist())
        ]
        self._by_rows = {tuple(pair["rows"]): pair for pair in self.pairs}

    def accept(self, ids: Collection[str], accepted: Accepted) -> int:
        """Accepts the groups of these numbers, or "all"; returns how many.

        Raises:
          ValueError: there is no such group.
        """
        unknown = [one for one in ids if one != "all" and one not in self._ids]
        if unknown:
            there = ", ".join(self._ids[:5]) or "none"
            raise ValueError(f"there is no group {unknown[0]!r} to accept; there are: {there}")
        chosen = [
            [self._image(row) for row in rows]
            for rows, number in zip(self.groups, self._ids, strict=True)
            if "all" in ids or number in ids
        ]
        accepted.add(chosen)
        return len(chosen)

    def content(self) -> dict[str, Any]:
        """All of it for JSON; names that are not UTF-8 are as `os.fsdecode` makes them."""
        return {
            "format": FORMAT,
            "first": _source(self._sources[0]),
            "against": _source(self._sources[1]) if len(self._sources) > 1 else None,
            "view": self._options.view,
            "radius": self._options.radius,
            "similarity": self._options.similarity,
            "groups": [
                {"id": number, "images": self._members(rows)}
                for number, rows in zip(self._ids, self.groups, strict=True)
            ],
            "pairs": self.pairs,
            "accepted_pairs": self.num_accepted,
        }

    def shown(self, row: int) -> dict[str, Any]:
        """An image: its path, which source it is of, its size in pixels, and its hash."""
        source, place = self.source_of(row)
        width, height = source.sizes[place].tolist()
        return {
            "row": row,
            "path": source.names[place],
            "against": source is not self._sources[0],
            "width": width,
            "height": height,
            "hash": self._image(row).hash,
        }

    def thumbnail(self, row: int, side: int) -> np.ndarray | None:
        """The image uint8 [h, w, 3], its longer side at most so many pixels; None if it is gone."""
        source, place = self.source_of(row)
        return source.thumbnail(place, side)

    def source_of(self, row: int) -> tuple[Source, int]:
        """The source of a row, and its place there."""
        if row < self._num_first:
            return self._sources[0], row
        return self._sources[1], row - self._num_first

    def _image(self, row: int) -> Image:
        source, place = self.source_of(row)
        side = "" if row < self._num_first else self._against
        return Image(source.names[place], f"{int(source.pictures.hashes[place]):016x}", side)

    def _id(self, rows: Sequence[int]) -> str:
        """Eight digits that stay while the group has the same images."""
        names = sorted(
            os.fsencode(source.names[place]) + b"\0" + bytes([source is not self._sources[0]])
            for source, place in map(self.source_of, rows)
        )
        return hashlib.sha256(b"\0".join(names)).hexdigest()[:8]

    def _members(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """The images of a group, each with what it is to the founder."""
        # Of two sources, an image may be paired with the founder's equal on the other side alone.
        others = [row for row in rows if row >= self._num_first and self._are_equal(rows[0], row)]
        founders = [rows[0], *others[:1]]
        members = []
        for row in rows:
            pairs = (self._pair_of(one, row) for one in founders if row != rows[0])
            pair = next((one for one in pairs if one), None)
            told = pair["relation"] if pair else ("" if row == rows[0] else "equal to another one")
            if pair and pair["rows"][0] == row:
                told = inverse(told)
            similarity = pair["similarity"] if pair else 1.0
            members.append(self.shown(row) | {"relation": told, "similarity": similarity})
        return members

    def _pair_of(self, one: int, other: int) -> dict[str, Any] | None:
        return self._by_rows.get((one, other)) or self._by_rows.get((other, one))

    def _are_equal(self, one: int, other: int) -> bool:
        pair = self._pair_of(one, other)
        return pair is not None and pair["relation"] == "equal"

    def _pair(self, found: Found, k: int, group: str | None) -> dict[str, Any]:
        view = "equal" if found.exact[k] else VIEWS[self._options.view]()[found.views[k]].name
        first, second = int(found.first[k]), int(found.second[k])
        return {
            "group": group,
            "first": self._image(first).path,
            "second": self._image(second).path,
            "similarity": round(float(found.similarities[k]), 3),
            "distance": int(found.distances[k]),
            "relation": inverse(view) if found.reversed[k] else view,
            "rows": [first, second],
        }


def _of_two_files(sources: Sequence[Source], found: Found) -> np.ndarray:
    """Bool [P]: the pairs of two files."""
    files = [
        [source.file(row) for row in rows.tolist()]
        for source, rows in ((sources[0], found.first), (sources[-1], found.second))
    ]
    same = [one is not None and one == other for one, other in zip(*files, strict=True)]
    return ~np.asarray(same, bool)


def _source(source: Source) -> dict[str, Any]:
    return {
        "place": source.place,
        "images": len(source.names),
        "flat": int(np.count_nonzero(source.pictures.flat())),
        "unreadable": [{"path": name, "reason": reason} for name, reason in source.unreadable],
    }
