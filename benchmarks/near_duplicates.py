"""How many edited photographs are found again, at which precision, and how fast hashes are compared.

    python -m benchmarks.near_duplicates --images=miml_scenes/images \
        --out=benchmarks/results/near_duplicates.json

400 photographs, drawn at random, in 17 edits each, against all of the folder. Right is a pair of an
edit and its own photograph. A pair of an edit and another photograph is wrong, unless these two
photographs are near-duplicates themselves: 46 pairs of MIML scenes are, by eye
(near_duplicates_by_eye.json); those count neither as right nor as wrong. Thresholds were chosen on
100 other photographs, which --tune measures, so that the 400 say what to expect.

Precision depends on how many other photographs there are: here 2,000.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import record_file, run_and_exit, write_record
from benchmarks.photo_edits import EDITS, edit
from input_pipeline.images.decode import decode_image
from input_pipeline.near_duplicates.finding import RADIUS, SIMILARITY, Options, near_duplicates
from input_pipeline.near_duplicates.hashing import perceptual_hash
from input_pipeline.near_duplicates.pictures import Pictures, small_picture
from input_pipeline.near_duplicates.radius import pairs_within
from input_pipeline.threads import available_cores, map_in_threads

_MEASURED, _TUNED = 400, 100
_PHASH_RADIUS = 9
_HASHES, _HASH_RADIUS = 1_000_000, 4
_BY_EYE = Path(__file__).with_name("near_duplicates_by_eye.json")
_Part = tuple[np.uint64, np.ndarray, float]


def main() -> None:
    """Edits, finds, and prints and writes a table."""
    options = _arguments()
    files = sorted(options.images.glob("*.jpg"))
    names = [file.name for file in files]
    parts = list(map_in_threads(_of_file, files, available_cores()))
    database = Pictures.of(parts)
    drawn = np.random.default_rng(0).permutation(len(files))
    chosen = drawn[:_TUNED] if options.tune else drawn[_TUNED : _TUNED + options.photographs]
    by_file = map_in_threads(
        lambda row: _edits_of(files[row], int(row)), chosen.tolist(), available_cores()
    )
    edits = Pictures.of([part for parts in by_file for part in parts])
    owners = np.repeat(chosen, len(EDITS))
    same = _by_eye(names)
    ways: dict[str, Any] = {}
    for view in ("multi", "dihedral", "plain"):
        started = time.perf_counter(), time.process_time()
        found = near_duplicates(edits, database, Options(view))
        seconds = time.perf_counter() - started[0], time.process_time() - started[1]
        pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
        ways[f"--view={view}"] = _measured(pairs, owners, same) | {
            "seconds": round(seconds[0], 1),
            "processor_seconds": round(seconds[1], 1),
        }
    plain = pairs_within(edits.hashes, _PHASH_RADIUS, database.hashes)
    pairs = list(zip(plain.first.tolist(), plain.second.tolist(), strict=True))
    ways[f"pHash within {_PHASH_RADIUS} alone"] = _measured(pairs, owners, same)
    among = _among_themselves(database, names, same)
    speed = _hash_speed()
    _print(ways)
    print(json.dumps({"among_themselves": among, "hashes": speed}, indent=2))
    if options.out is not None:
        write_record(
            options.out,
            ("numpy", "numba", "pillow", "simplejpeg"),
            photographs=len(chosen),
            database=len(files),
            radius=RADIUS,
            similarity=SIMILARITY,
            ways=ways,
            among_themselves=among,
            hashes=speed,
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", required=True, type=Path, help="folder of the photographs")
    parser.add_argument("--photographs", type=int, default=_MEASURED, help="fewer for a try")
    parser.add_argument("--tune", action="store_true", help="the 100 that thresholds came from")
    parser.add_argument("--out", type=record_file, help="where to write the record")
    return parser.parse_args()


def _of_file(file: Path) -> _Part:
    return _part(decode_image(file.read_bytes()))


def _part(pixels: np.ndarray) -> _Part:
    height, width = pixels.shape[:2]
    return perceptual_hash(pixels), small_picture(pixels), width / height


def _edits_of(file: Path, row: int) -> list[_Part]:
    pixels = decode_image(file.read_bytes())
    return [_part(edit(name, pixels, seed=row * len(EDITS) + k)) for k, name in enumerate(EDITS)]


def _by_eye(names: Sequence[str]) -> set[tuple[int, int]]:
    rows = {name: row for row, name in enumerate(names)}
    pairs = json.loads(_BY_EYE.read_text())["pairs"]
    known = [(rows[a], rows[b]) for a, b in pairs if a in rows and b in rows]
    return {*known, *((b, a) for a, b in known)}


def _measured(
    pairs: Sequence[tuple[int, int]], owners: np.ndarray, same: set[tuple[int, int]]
) -> dict[str, Any]:
    """Recall and precision over all edits, and the recall of each."""
    right = np.zeros(len(owners), bool)
    wrong: dict[str, int] = dict.fromkeys(EDITS, 0)
    not_counted = 0
    for row, other in pairs:
        if owners[row] == other:
            right[row] = True
        elif (int(owners[row]), other) in same:
            not_counted += 1
        else:
            wrong[list(EDITS)[row % len(EDITS)]] += 1
    by_edit = right.reshape(-1, len(EDITS)).mean(axis=0)
    found, mistakes = int(right.sum()), sum(wrong.values())
    return {
        "recall": round(float(right.mean()), 4),
        "precision": round(found / max(1, found + mistakes), 4),
        "right": found,
        "wrong": mistakes,
        "not_counted": not_counted,
        "recall_by_edit": dict(zip(EDITS, np.round(by_edit, 4).tolist(), strict=True)),
        "wrong_by_edit": wrong,
    }


def _among_themselves(
    database: Pictures, names: Sequence[str], same: set[tuple[int, int]]
) -> dict[str, Any]:
    """The photographs among themselves, beside what was found by eye."""
    started = time.perf_counter(), time.process_time()
    found = near_duplicates(database)
    seconds = time.perf_counter() - started[0], time.process_time() - started[1]
    pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    others = [(names[a], names[b]) for a, b in pairs if (a, b) not in same]
    return {
        "pairs": len(pairs),
        "by_eye": len(same) // 2,
        "of_these_by_eye": len(pairs) - len(others),
        "others": others,
        "seconds": round(seconds[0], 1),
        "processor_seconds": round(seconds[1], 1),
    }


def _hash_speed() -> dict[str, Any]:
    """Random hashes against themselves, by one thread."""
    hashes = np.random.default_rng(0).integers(0, 2**64, _HASHES, np.uint64)
    pairs_within(hashes[:1000], _HASH_RADIUS)  # compiled, or read from the cache
    started = time.perf_counter(), time.process_time()
    found = pairs_within(hashes, _HASH_RADIUS, num_workers=1)
    return {
        "count": _HASHES,
        "radius": _HASH_RADIUS,
        "pairs": len(found.first),
        "seconds": round(time.perf_counter() - started[0], 2),
        "processor_seconds": round(time.process_time() - started[1], 2),
    }


def _print(ways: Mapping[str, Mapping[str, Any]]) -> None:
    print(f"{'':24}" + "".join(f"{name:>24}" for name in ways))
    for figure in ("recall", "precision", "right", "wrong", "not_counted"):
        print(f"{figure:24}" + "".join(f"{way[figure]:>24}" for way in ways.values()))
    for name in EDITS:
        row = (way["recall_by_edit"][name] for way in ways.values())
        print(f"{name:24}" + "".join(f"{value:>24.3f}" for value in row))


if __name__ == "__main__":
    run_and_exit(main)
