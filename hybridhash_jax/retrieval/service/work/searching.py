"""From a code to an answer, as JSON has it."""

import os
from typing import Any

import numpy as np

from hybridhash_jax.retrieval.engine import Nearest
from hybridhash_jax.retrieval.index import Entry, Index, to_packed, to_words
from hybridhash_jax.retrieval.names import shown
from hybridhash_jax.retrieval.search.answers import answer_of
from hybridhash_jax.retrieval.search.codes import Wanted, nearest_rows
from hybridhash_jax.retrieval.service.problems import Problem
from hybridhash_jax.retrieval.service.schemas import Asked
from hybridhash_jax.retrieval.service.settings import MOST
from hybridhash_jax.retrieval.service.work.generations import Generation, Where

_BLOCK = 1 << 17  # rows whose distances stay in the cache


def found_by(
    generation: Generation, words: np.ndarray, asked: Asked, row: int | None = None
) -> dict[str, Any]:
    """The answer to a code, uint64 [words]; `row` is that of the index which the code is of."""
    index, where = generation.index, conditions(asked)
    check(asked, index)
    rows = generation.rows(where)
    end = asked.offset + asked.k
    wanted = Wanted(end, asked.radius, where)
    nearest = nearest_rows(index, words[None], wanted, rows=rows, num_workers=1)[0]
    within = counts_by_distance(index, words, rows)
    total = sum(within if asked.radius is None else within[: asked.radius + 1])
    shown_at_last = np.count_nonzero(nearest.distances == nearest.distances[-1:])
    return {
        "query": {"row": row, "code": to_packed(words[None], index.model.bits).tobytes().hex()},
        "generation": index.generation,
        "searched": sum(within),
        "k": asked.k,
        "offset": asked.offset,
        "radius": asked.radius,
        "where": {"label": asked.label, "path": asked.path},
        "found": _found(index, nearest, asked.offset),
        "more": total > end and end < MOST,
        "at_last": nearest.at_last,
        "left_out": nearest.at_last - int(shown_at_last),
        "within": within,
    }


def found_by_row(generation: Generation, row: int, asked: Asked) -> dict[str, Any]:
    """As `found_by`, of an image of the index."""
    check_row(generation, row)
    return found_by(generation, generation.index.codes([row])[0], asked, row)


def check(asked: Asked, index: Index) -> None:
    """Refuses what no answer can be, with a 422 problem."""
    if asked.offset + asked.k > MOST:
        raise Problem(422, f"offset={asked.offset} and k={asked.k} are more than {MOST:,} together; an answer has at most {MOST:,} images. Narrow it with radius, label or path")  # fmt: skip
    bits = index.model.bits
    if asked.radius is not None and asked.radius > bits:
        raise Problem(422, f"radius={asked.radius}; codes of {bits} bits are at most {bits} apart; give 0 to {bits}")  # fmt: skip


def check_row(generation: Generation, row: int) -> None:
    """A 404 problem where the index has no image there."""
    if not generation.has(row):
        index = generation.index
        raise Problem(404, f"the index has no image in row {row} (generation {index.generation}, rows below {index.num_rows}); search again")  # fmt: skip


def words_of(code: str, index: Index) -> np.ndarray:
    """A packed code in hex as uint64 [words]; a 422 problem where it is none."""
    bits = index.model.bits
    size = -(-bits // 8)
    try:
        packed = np.frombuffer(bytes.fromhex(code), np.uint8)
    except ValueError:
        packed = np.zeros(0, np.uint8)
    unused = 8 * size - bits
    if len(packed) != size or packed[-1] & ((1 << unused) - 1):
        raise Problem(422, f"code is not one of {bits} bits; give {2 * size} hexadecimal digits, as an answer has them")  # fmt: skip
    return to_words(packed[None])[0]


def conditions(asked: Asked) -> Where:
    """The filters of a request as the index takes them."""
    given = (("label", asked.label), ("path", asked.path or None))
    return tuple((key, value) for key, value in given if value is not None)


def counts_by_distance(index: Index, words: np.ndarray, rows: np.ndarray) -> list[int]:
    """How many of the searched rows lie at each distance, 0 to bits."""
    counts = np.zeros(index.model.bits + 1, np.int64)
    everything = bool(rows.all())
    for segment in index.segments:
        codes = np.asarray(segment.codes)
        for start in range(0, len(codes), _BLOCK):
            distances = _distances(codes[start : start + _BLOCK], words)
            if not everything:
                first = segment.first_row + start
                distances = distances[rows[first : first + len(distances)]]
            counts += np.bincount(distances, minlength=len(counts))
    return counts.tolist()


def _distances(codes: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Bits, [n], of uint64 [n, words] and one code."""
    distances = np.bitwise_count(codes[:, 0] ^ words[0])
    if len(words) > 3:  # more than 255 do not fit a byte
        distances = distances.astype(np.uint16)
    for place in range(1, len(words)):
        distances += np.bitwise_count(codes[:, place] ^ words[place])
    return distances


def _found(index: Index, nearest: Nearest, offset: int) -> list[dict[str, Any]]:
    page = Nearest(nearest.rows[offset:], nearest.distances[offset:], nearest.at_last)
    return [
        {
            "rank": rank,
            "row": one.row,
            "path": one.path,
            "name": shown(one.path),
            "distance": one.distance,
            "label": one.label,
            "width": one.width,
            "height": one.height,
        }
        for rank, one in enumerate(answer_of(index, page), offset + 1)
    ]


def item(row: int, entry: Entry) -> dict[str, Any]:
    """An image of the index."""
    return {
        "row": row,
        "path": os.fsdecode(entry.path),
        "name": shown(entry.path),
        "label": entry.label,
        "width": entry.width,
        "height": entry.height,
        "size": entry.size,
        "modified": entry.modified_ns / 1e9,
    }
