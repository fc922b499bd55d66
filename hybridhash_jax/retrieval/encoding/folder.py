"""`hybridhash encode`: from a folder or a list to an index. JAX is imported when there is work."""

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hybridhash_jax.retrieval import index as index_room
from hybridhash_jax.retrieval.encoding.comparison import Comparison, compare, gone, is_missing
from hybridhash_jax.retrieval.encoding.errors import EncoderError
from hybridhash_jax.retrieval.encoding.listing import (
    Listing,
    is_below,
    list_folder,
    read_list,
    shard_of,
)
from hybridhash_jax.retrieval.encoding.request import Request
from hybridhash_jax.retrieval.encoding.unreadable import (
    FILE,
    Refused,
    read_unreadable,
    write_unreadable,
)
from hybridhash_jax.retrieval.names import inside, shown
from input_pipeline.atomic_file import nearest_existing
from input_pipeline.errors import DataError
from input_pipeline.messages import counted
from input_pipeline.progress import Progress

if TYPE_CHECKING:
    from hybridhash_jax.retrieval.encoding.encoder import Encoder

Tell = Callable[[str], object]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the files are: paths of the index start from `root`, and `below` is encoded of it."""

    root: Path
    below: bytes
    listing: Listing
    is_folder: bool


def encode(request: Request, tell: Tell = lambda line: None) -> str:
    """Encodes what is new or changed; returns a summary whose counts add up.

    Raises:
      DataError, EncoderError, IndexFileError, OSError: says what is wrong and what would do.
    """
    model, root = _of_index(request.index)
    place = _listed(request, root)
    _check_listed(request, place)
    if model is not None:
        _check_request(request, model)
        return _brought_up_to_date(request, place, None, tell)
    if not len(place.listing.paths):
        left_out = place.listing.left_out()
        raise DataError(
            f"{_named(request)} holds no images{f' ({left_out})' if left_out else ''}; accepted are "
            "JPEG, PNG, WebP, BMP, GIF, TIFF and AVIF, and HEIC where pillow-heif is installed"
        )
    _check_writable(request.index)
    from hybridhash_jax.retrieval.encoding import making

    made = making.new_encoder(request, place.root, place.listing.paths, tell)
    index_room.create_index(request.index, made.model, place.root, made.files)
    return _brought_up_to_date(request, place, made, tell)


def _of_index(path: Path) -> "tuple[index_room.Model | None, Path | None]":
    """The model and the root of an index; None where there is none yet."""
    if not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir())):
        return None, None
    with index_room.open_index(path) as opened:
        return opened.model, opened.root


def _check_writable(index: Path) -> None:
    """Refuses a place for a new index before minutes of work."""
    there = nearest_existing(index)
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise DataError(f"{index} cannot be made: nothing can be written to {there}")


def _check_request(request: Request, model: "index_room.Model") -> None:
    """Refuses at once what the index cannot be gone on with, as far as that is seen without JAX."""
    if request.bits not in (None, model.bits):
        raise EncoderError(
            f"{request.index} has codes of {model.bits} bits; leave --bits={request.bits} out, or "
            "make another index"
        )
    seed = model.source.get("seed")
    if request.seed not in (None, seed):
        if model.source.get("kind") == "workdir":
            of = "of a trained network"
        elif seed is None:
            of = "fitted with a seed that it does not tell"
        else:
            of = f"fitted with seed {seed}"
        raise EncoderError(
            f"{request.index} has codes {of}; leave --seed={request.seed} out, or make another index"
        )
    if request.workdir is not None and model.source.get("kind") != "workdir":
        raise EncoderError(
            f"{request.index} holds codes of {model.name}, not of a run; leave --workdir out, or "
            "make another index"
        )


def _asks_for_another(request: Request, model: "index_room.Model") -> bool:
    """May the request mean another encoder than the index has? Only making it can tell."""
    source = model.source
    if request.workdir is None:
        return request.like is not None
    moved = not _is_same(request.workdir, source["workdir"])
    return moved or request.checkpoint not in (None, str(source["checkpoint"]))


def _named(request: Request) -> str:
    return "standard input" if request.images == "-" else request.images


def _listed(request: Request, root_of_index: Path | None) -> Place:
    """Lists the files, which are to be below the root that an index has."""
    given = Path(request.images).expanduser()
    if root_of_index and request.root and not _is_same(root_of_index, request.root):
        raise DataError(
            f"paths of {request.index} start from {root_of_index}; leave --root={request.root} out, "
            "or make another index"
        )
    if request.images != "-" and given.is_dir():
        root = root_of_index or request.root or given
        below = inside(os.path.realpath(given), os.path.realpath(root))
        if below is None and root_of_index is None:
            raise DataError(f"{given} is not below --root={root}; give the folder above all images")
        if below is None:
            raise DataError(
                f"{request.index} is of the images below {root}, and {given} is not. If they have "
                f"moved there: hybridhash index move {request.index} {given}; else make another index"
            )
        listing = list_folder(root, below, leave_out=request.index)
        return Place(Path(os.path.realpath(root)), below, listing, True)
    if request.images == "-":
        data, start = sys.stdin.buffer.read(), Path.cwd()
    else:
        try:
            data, start = given.read_bytes(), given.absolute().parent
        except OSError as error:
            raise DataError(f"{given} cannot be read: {error.strerror or error}") from None
        if _is_image(data):
            raise DataError(f"{given} is an image; give a folder, or a list with a path a line")
    root = root_of_index or request.root or start
    return Place(root.absolute(), b"", read_list(data, start, root), False)


def _check_listed(request: Request, place: Place) -> None:
    """Refuses what is no list, or the list of another place, before its lines count as images."""
    paths, top = place.listing.paths, os.fsencode(place.root)
    if place.is_folder or request.prune or not len(paths):  # `--prune` has an error of its own
        return
    if not any(os.path.lexists(os.path.join(top, path)) for path in paths):
        raise DataError(
            f"{_named(request)} names no file that is there: the first of {counted(len(paths), 'path')} "
            f"is {shown(os.path.join(top, paths[0]))}. Give a list with the path of an image a line"
        )


def _is_same(one: Path, other: Path | str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _is_image(data: bytes) -> bool:
    from input_pipeline.images.formats import starts_as

    return bool(starts_as(data))


def _brought_up_to_date(request: Request, place: Place, made: "Encoder | None", tell: Tell) -> str:
    """Compares index and files, encodes and prunes; see `encode`."""
    listing, top = place.listing, os.fsencode(place.root)
    places = shard_of(listing.paths, *request.shard)
    with index_room.open_writer(request.index) as writer:
        known = writer.known()
        before = read_unreadable(request.index)
        tried = {} if request.retry else before
        found = compare(listing.paths, places, top, known, tried)
        lost = _gone(request, place, known)
        kept = _still_refused(request, place, before, found)
        encoded = unreadable = 0
        if len(found.to_do) or _asks_for_another(request, writer.index.model):
            from hybridhash_jax.retrieval.encoding import making

            encoder = made or making.encoder_for(request, writer.index, tell)
            making.compare_backends(encoder, writer, place.root, tell)
            job = making.job(request, encoder, writer, place.root)
            job.refused = kept
            try:
                with Progress(_doing(found), len(found.to_do), tell=tell) as told:
                    job.run(listing.paths, found.to_do, told.update)
            except index_room.IndexFileError as error:  # such as a full disk
                kept_now = counted(len(writer.index), "image")
                raise index_room.IndexFileError(f"{error}. The index has {kept_now}") from error
            finally:
                _tell_lost(writer, tell)
            encoded, unreadable = job.encoded, job.unreadable
        elif kept != before:
            write_unreadable(request.index, kept)
        unreadable += len(found.refused)
        if not place.root.is_dir():
            raise DataError(
                f"{place.root} went away meanwhile, after {counted(encoded, 'image')}; the same command "
                "goes on once it is back"
            )
        pruned = writer.remove(lost) if request.prune and lost else 0
        told = _summary(
            request, listing, len(places), found, (encoded, unreadable), len(lost), pruned
        )
        if unreadable and unreadable == len(places):
            raise DataError(told)
        return told


def _tell_lost(writer: "index_room.Writer", tell: Tell) -> None:
    if count := writer.lost_thumbnails:
        tell(
            f"warning: the thumbnails of {counted(count, 'image')} could not be kept: "
            f"{writer.lost_why}. Their codes are kept; pictures come from the image files"
        )


def _doing(found: Comparison) -> str:
    skipped = found.unchanged + len(found.refused)
    return f"encoding ({skipped:,} skipped)" if skipped else "encoding"


def _still_refused(
    request: Request, place: Place, before: Mapping[bytes, Refused], found: Comparison
) -> dict[bytes, Refused]:
    """What keeps its line in unreadable.txt: as it was, or not looked at now."""
    looked_at = [place.below] if place.is_folder and request.shard == (1, 1) else []
    kept = {
        path: one
        for path, one in before.items()
        if path in found.refused or not is_below(path, looked_at)
    }
    for number in found.to_do.tolist() if kept else ():
        kept.pop(place.listing.paths[number], None)
    return kept


def _gone(request: Request, place: Place, known: Iterable[bytes]) -> set[bytes]:
    """Paths of the index whose files do not exist any more; of a folder, those below it."""
    if request.shard != (1, 1) and not request.prune:
        return set()
    listing, top = place.listing, os.fsencode(place.root)

    def missing(path: bytes) -> bool:
        return is_missing(os.path.join(top, path))

    of_place = gone(known, listing.paths, place.below) if place.is_folder else known
    lost = {path for path in of_place if missing(path)}
    if request.prune and lost and all(map(missing, listing.paths)):
        raise DataError(
            f"no image of {_named(request)} is there, so nothing is taken out of {request.index}: is "
            "a disk not mounted? `hybridhash index remove` removes images"
        )
    return lost


def _summary(
    request: Request,
    listing: Listing,
    count: int,
    found: Comparison,
    done: tuple[int, int],
    lost: int,
    pruned: int,
) -> str:
    encoded, unreadable = done
    assert encoded + found.unchanged + unreadable == count, (encoded, found, unreadable, count)
    of = "" if request.shard == (1, 1) else f", part {request.shard[0]} of {request.shard[1]}"
    changed = f"; {found.changed:,} changed since the last time" if found.changed else ""
    where = f" ({request.index / FILE})" if unreadable else ""
    lines = [
        f"{counted(count, 'image file')}{of}: {encoded:,} encoded, {found.unchanged:,} unchanged, "
        f"{unreadable:,} unreadable{where}{changed}"
    ]
    if pruned:
        lines.append(f"{counted(pruned, 'image')} taken out whose files are gone")
    elif lost:
        lines.append(
            f"{counted(lost, 'image')} of the index whose files are gone; --prune takes them out"
        )
    if left_out := listing.left_out():
        lines.append(f"left out: {left_out}")
    if listing.closed and request.prune:
        lines.append("what the index has of folders that cannot be read stays")
    return "\n".join(lines)
