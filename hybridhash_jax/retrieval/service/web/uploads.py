"""The form of a search: counted while it streams, and never on a disk."""

import contextlib
from collections.abc import AsyncGenerator, Iterator
from typing import NamedTuple

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from hybridhash_jax.retrieval.service.problems import Problem, busy, given_twice

_BESIDE = 65_536  # bytes of a body beside its image
_FIELD_BYTES = 8192
_FIELDS = 16


class Form(NamedTuple):
    """A form's texts, and the bytes of its image, if it has one."""

    fields: dict[str, str]
    image: bytes | None


class Room:
    """Memory for uploads, which all that arrive at once share."""

    def __init__(self, most: int):
        """`most` bytes."""
        self._most, self._held = most, 0

    @contextlib.contextmanager
    def taken(self) -> Iterator["Share"]:
        """What an upload takes is given back at the end of the block."""
        share = Share(self)
        try:
            yield share
        finally:
            self._held -= share.held

    def add(self, count: int) -> None:
        """A 503 problem where there is no room for so many bytes more."""
        if self._held + count > self._most:
            raise busy("too many images arrive at once; try again in a second")
        self._held += count


class Share:
    """What one upload has taken of a room."""

    def __init__(self, room: Room):
        """It begins with nothing."""
        self._room, self.held = room, 0

    def add(self, count: int) -> None:
        """As `Room.add`."""
        self._room.add(count)
        self.held += count


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 62  # never on a disk


async def read_form(request: Request, most: int, share: Share) -> Form:
    """Reads a multipart form whose image has at most so many bytes.

    Raises:
      Problem: 413, 415 or 400, as soon as it is known.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "multipart/form-data":
        raise Problem(
            415,
            "the body is not multipart/form-data; send image (a file), row or code as one of its fields",
        )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most + _BESIDE:
        raise _too_large(most)
    parser = _InMemory(
        request.headers,
        _counted(request, most, share),
        max_files=1,
        max_fields=_FIELDS,
        max_part_size=_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except (MultiPartException, UnicodeError) as error:  # the latter of a charset like "undefined"
        raise Problem(400, f"the form cannot be read; send one file as image, and at most {_FIELDS} other fields of at most {_FIELD_BYTES:,} bytes") from error  # fmt: skip
    try:
        return await _form(form.multi_items(), most)
    finally:
        await form.close()


async def _form(items: list[tuple[str, UploadFile | str]], most: int) -> Form:
    fields: dict[str, str] = {}
    image = None
    for name, value in items:
        if name in fields or (name == "image" and image is not None):
            raise given_twice(name)
        if isinstance(value, str):
            fields[name] = value
        elif name == "image":
            image = await value.read()
            if not image:
                raise Problem(422, "the file that is sent as image is empty")
        else:
            raise Problem(422, f"the file is sent as {name[:60]!r}; send it as the field image")
    if image is not None and len(image) > most:
        raise _too_large(most)
    return Form(fields, image)


async def _counted(request: Request, most: int, share: Share) -> AsyncGenerator[bytes, None]:
    async for chunk in request.stream():
        share.add(len(chunk))
        if share.held > most + _BESIDE:
            raise _too_large(most)
        yield chunk


def _too_large(most: int) -> Problem:
    return Problem(413, f"the file is too large; give an image of at most {most / 1e6:g} MB")
