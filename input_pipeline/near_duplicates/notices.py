"""What a check says of near-duplicates: between queries and what they are searched in, or anywhere."""

from collections.abc import Sequence

import numpy as np

from input_pipeline.images.decode import DecodeOptions
from input_pipeline.images.encoded import Reader
from input_pipeline.lists.listed import ListProblem
from input_pipeline.near_duplicates.finding import Found, Options, near_duplicates, work
from input_pipeline.near_duplicates.pictures import Pictures
from input_pipeline.near_duplicates.reading import read_pictures
from input_pipeline.near_duplicates.views import VIEWS, inverse
from input_pipeline.progress import Progress


def near_duplicate_notices(
    reader: Reader,
    names: Sequence[str],
    splits: Sequence[Sequence[str]] | None,
    decoding: DecodeOptions,
    num_workers: int,
) -> list[ListProblem]:
    """One notice for each kind of pair, with a line a pair; images that cannot be read are left out.

    Notices and no problems: splits that everybody measures with have such pairs, and which of them
    are mistakes only somebody who looks can tell.

    Args:
      reader: of the images.
      names: of all images.
      splits: names of training, query and database images; None where splits are still to be
        drawn.
      decoding: what counts as readable.
      num_workers: threads.
    """
    with Progress("reading for near-duplicates", len(names)) as told:
        read = read_pictures(
            reader, len(names), decoding, num_workers=num_workers, progress=told.update
        )
    if splits is None:
        everything = np.arange(len(names))
        return _notice(names, _pairs(read.pictures, read.rows, everything, None, num_workers))
    numbers = {name: row for row, name in enumerate(names)}
    train, query, database = (np.array([numbers[x] for x in one], np.int64) for one in splits)
    notices = []
    for rows, what in ((database, "database"), (train, "training")):
        others = np.setdiff1d(rows, query)
        pairs = _pairs(read.pictures, read.rows, query, others, num_workers)
        notices += _notice(names, pairs, what)
    return notices


def _pairs(
    pictures: Pictures,
    rows: np.ndarray,
    first: np.ndarray,
    second: np.ndarray | None,
    num_workers: int,
) -> list[tuple[int, int, float, str]]:
    """Pairs of the given rows, their similarity, and what the second is to the first."""
    sides = [np.flatnonzero(np.isin(rows, one)) for one in (first, second) if one is not None]
    compared = [pictures.take(side) for side in sides]
    options = Options(num_workers=num_workers)
    with Progress("comparing", work(*compared)) as told:
        found = near_duplicates(
            compared[0], compared[1] if len(compared) > 1 else None, options, told.update
        )
    return [
        (
            int(rows[sides[0][a]]),
            int(rows[sides[-1][b]]),
            float(found.similarities[k]),
            _relation(found, k, options),
        )
        for k, (a, b) in enumerate(zip(found.first, found.second, strict=True))
    ]


def _relation(found: Found, k: int, options: Options) -> str:
    view = "equal" if found.exact[k] else VIEWS[options.view]()[found.views[k]].name
    return inverse(view) if found.reversed[k] else view


def _notice(
    names: Sequence[str], pairs: Sequence[tuple[int, int, float, str]], split: str = ""
) -> list[ListProblem]:
    if not pairs:
        return []
    kinds = ("query ", f"{split} ") if split else ("", "")
    details = tuple(
        f"{kinds[0]}{names[a]!r} and {kinds[1]}{names[b]!r} ({told}, similarity {alike:.2f})"
        for a, b, alike, told in pairs
    )
    count = f"{len(pairs):,} pair{'s' * (len(pairs) > 1)} of near-duplicates"
    where = f" of a query and a {split} image" if split else ", which may become query and database"
    return [ListProblem(f"{count}{where}, for example {details[0]}", details)]
