"""What answers requests: the index, the network, and the threads that work."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hybridhash_jax.retrieval.index import Index
from hybridhash_jax.retrieval.index.storage import THUMBNAILS
from hybridhash_jax.retrieval.service.metrics import Metrics
from hybridhash_jax.retrieval.service.problems import Problem
from hybridhash_jax.retrieval.service.schemas import Asked, SearchFields
from hybridhash_jax.retrieval.service.settings import MOST, Settings
from hybridhash_jax.retrieval.service.web.uploads import Form, Room
from hybridhash_jax.retrieval.service.work import searching
from hybridhash_jax.retrieval.service.work.encoding import EncoderThread
from hybridhash_jax.retrieval.service.work.files import ImageFile, open_image
from hybridhash_jax.retrieval.service.work.generations import Generations
from hybridhash_jax.retrieval.service.work.groups import DuplicateGroups, has_hashes, page_of
from hybridhash_jax.retrieval.service.work.images import Decoder
from hybridhash_jax.retrieval.service.work.pool import Pool
from input_pipeline.threads import available_cores

if TYPE_CHECKING:  # it needs JAX
    from hybridhash_jax.retrieval.encoding.encoder import Encoder

_REFRESH_SECONDS = 1.0
_FILE_THREADS = 4
_END_SECONDS = 0.5  # for work that runs when nobody waits for it any more
_LARGEST_FILE = 50_000_000  # bytes of an original that a thumbnail is made of


class Service:
    """One index, served.

    Attributes:
      settings: as given.
      metrics: of all that it does.
      generations: the index.
      encoder: the network's thread.
      room: memory for uploads.
    """

    def __init__(self, settings: Settings, make_encoder: "Callable[[Index], Encoder]"):
        """Opens the index; IndexFileError where there is none."""
        self.settings, self.metrics = settings, Metrics()
        self.generations = Generations(settings.index)
        self.encoder = EncoderThread(self._making(make_encoder), settings.waiting, self.metrics)
        self.room = Room(settings.uploads_bytes)
        self._decoder = Decoder(settings.pixels)
        cores, most = available_cores(), settings.waiting
        self._decoding = Pool("decoding", cores, most, self.metrics)
        self._scanning = Pool("scanning", cores, most, self.metrics)
        # A page asks for as many thumbnails as it shows, over few connections.
        self._files = Pool("files", _FILE_THREADS, 8 * most, self.metrics)
        self._groups = DuplicateGroups(settings.index, self.generations)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Works inside the block; at its end what was asked for has been answered."""
        self._measure()
        self.encoder.start()
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            await self._groups.close()
            await asyncio.to_thread(self._close)

    async def search(self, form: Form, fields: SearchFields) -> dict[str, Any]:
        """Answers with an image, a row, or a code."""
        if form.image is not None:
            words = await self._encoded(form.image, fields)
            return await self._scan(lambda now: searching.found_by(now, words, fields))
        if fields.row is not None:
            return await self.similar(fields.row, fields)
        code = fields.code or ""
        return await self._scan(
            lambda now: searching.found_by(now, searching.words_of(code, now.index), fields)
        )

    async def similar(self, row: int, asked: Asked) -> dict[str, Any]:
        """Answers with an image of the index."""
        return await self._scan(lambda now: searching.found_by_row(now, row, asked))

    async def facts(self) -> dict[str, Any]:
        """What is served."""

        def read() -> dict[str, Any]:
            with self.generations.current() as now:
                labels = [{"label": name, "count": count} for name, count in now.labels()]
                return _facts(now.index) | {"labels": labels, "duplicates": has_hashes(now)}

        warnings = [*self.generations.warnings(), *self.encoder.notes]
        limits = {"upload_bytes": self.settings.upload_bytes, "pixels": self.settings.pixels}
        return await self._files.run(read) | {
            "originals": self.settings.originals,
            "limits": limits | {"k": MOST},
            "warnings": warnings,
        }

    async def item(self, row: int) -> dict[str, Any]:
        """An image of the index and its file."""

        def read() -> dict[str, Any]:
            with self.generations.current() as now:
                searching.check_row(now, row)
                return searching.item(row, now.index.entries([row])[0])

        return await self._files.run(read)

    async def thumbnail(self, row: int) -> bytes:
        """The JPEG that the index keeps, or else one made of the file; a 404 problem for neither."""

        def read() -> bytes:
            with self.generations.current() as now:
                searching.check_row(now, row)
                kept = now.index.thumbnail(row)
                return kept if kept is not None else self._made_thumbnail(now.index, row)

        return await self._files.run(read)

    async def original(self, row: int) -> ImageFile:
        """The image file itself, open."""
        if not self.settings.originals:
            raise Problem(404, "whole images are not served; start the service with --originals")

        def read() -> ImageFile:
            with self.generations.current() as now:
                searching.check_row(now, row)
                return open_image(now.index, now.index.entries([row])[0].path)

        return await self._files.run(read)

    async def duplicates(self, radius: int, offset: int, limit: int) -> dict[str, Any]:
        """Groups of near-duplicates."""
        groups = self._groups.groups(radius)

        def read() -> dict[str, Any]:
            with self.generations.current() as now:
                return page_of(now, groups, offset, limit)

        return await self._files.run(read)

    async def _encoded(self, image: bytes, asked: Asked) -> np.ndarray:
        with self.generations.current() as now:
            searching.check(asked, now.index)  # before the work
        transform = self.encoder.transform

        def decode() -> np.ndarray:
            with self.metrics.stage("decoding"):
                return self._decoder.crop(image, transform)

        with self.encoder.expecting():
            crop = await self._decoding.run(decode)
        return await self.encoder.encode(crop)

    async def _scan(self, search: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        def scan() -> dict[str, Any]:
            with self.metrics.stage("scanning"), self.generations.current() as now:
                return search(now)

        return await self._scanning.run(scan)

    def _made_thumbnail(self, index: Index, row: int) -> bytes:
        image = open_image(index, index.entries([row])[0].path)
        with image.file:
            if image.size > _LARGEST_FILE:
                raise Problem(
                    404, "the image has no thumbnail, and its file is too large to make one"
                )
            return self._decoder.thumbnail(image.file.read())

    def _making(self, make: "Callable[[Index], Encoder]") -> "Callable[[], Encoder]":
        def made() -> "Encoder":
            with self.generations.current() as now:
                return make(now.index)

        return made

    async def _watch(self) -> None:
        """Looks for a new generation."""
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            try:
                if await asyncio.to_thread(self.generations.refresh):
                    self._measure()
            except Exception:
                logging.getLogger(__name__).exception("looking for a new generation failed")

    def _measure(self) -> None:
        with self.generations.current() as now:
            self.metrics.generation.set(now.index.generation)
            self.metrics.images.set(len(now.index))

    def _close(self) -> None:
        for pool in (self._decoding, self._scanning, self._files):
            pool.close(_END_SECONDS)
        self.encoder.stop()
        self.generations.close()


def _facts(index: Index) -> dict[str, Any]:
    return {
        "images": len(index),
        "bits": index.model.bits,
        "model": index.model.name,
        "fingerprint": index.model.fingerprint,
        "generation": index.generation,
        "thumbnails": (index.path / THUMBNAILS).exists() or _has_files(index),
    }


def _has_files(index: Index) -> bool:
    return index.root is not None and index.root.is_dir()
