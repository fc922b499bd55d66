"""An index that answers with images: the Python side of `hybridhash search`."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from jaxtyping import UInt8, UInt64

from hybridhash_jax.retrieval.encoding.given import wrong_image
from hybridhash_jax.retrieval.index import Index, Model, to_words
from hybridhash_jax.retrieval.index import open_index as open_stored
from hybridhash_jax.retrieval.index.filters import Where, conditions
from hybridhash_jax.retrieval.index.words import check_unused_bits
from hybridhash_jax.retrieval.names import shown
from hybridhash_jax.retrieval.search.answers import Answer, answer_of
from hybridhash_jax.retrieval.search.codes import Kind, Wanted, nearest_rows
from hybridhash_jax.retrieval.search.damage import damage
from hybridhash_jax.retrieval.search.stored import row_of
from input_pipeline.errors import UnreadableImage

if TYPE_CHECKING:  # they need JAX
    from hybridhash_jax.retrieval.encoding.encoder import Encoder
    from hybridhash_jax.retrieval.search.approximate import Lists

Path_ = str | bytes | os.PathLike[str]
Query = Path_ | np.ndarray
_ACCEPTED = "a query is a file, an image uint8 [h, w, 3], or a code"


class SearchIndex:
    """An index that is searched with images; `open_index` makes it.

    Attributes:
      index: the index itself: entries, labels, thumbnails, codes.
      encoder: makes the codes of query images; it is made when it is first needed.
    """

    def __init__(self, index: Index, encoder: "Encoder | None" = None):
        """An encoder that is given must be of the index's model."""
        self.index = index
        self._encoder = encoder
        self._lists: Lists | None = None
        if encoder is not None:
            encoder.check(index.model, str(index.path))

    def __len__(self) -> int:
        return len(self.index)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.index.close()

    @property
    def path(self) -> Path:
        """The index's folder."""
        return self.index.path

    @property
    def model(self) -> Model:
        """What made the codes."""
        return self.index.model

    @property
    def encoder(self) -> "Encoder":
        """Raises EncoderError where the model is not to be had."""
        if self._encoder is None:
            from hybridhash_jax.retrieval.search.query_codes import make_encoder

            self._encoder = make_encoder(self.index)
        return self._encoder

    @property
    def warnings(self) -> list[str]:
        """What a user should know of the answers, a sentence each."""
        found = damage(self.index)
        found += self._lists.notes if self._lists else []
        if self._encoder is not None:
            from hybridhash_jax.retrieval.search.query_codes import notes

            found += notes(self.index, self._encoder)
        return found

    def search(
        self,
        query: Query,
        k: int | None = 10,
        radius: int | None = None,
        where: Where = (),
        kind: Kind = "exact",
    ) -> Answer:
        """The images nearest to one, as a list of `Found` by distance, then by row.

        Args:
          query: an image file; or an image, uint8 [h, w, 3]; or a code, int8 [bits] of -1 and +1,
            or packed, uint8 [ceil(bits / 8)].
          k: at most so many; None is all within `radius`.
          radius: the largest distance, in bits.
          where: such as {"label": "cat", "path": "2024/*"}.
          kind: "exact", or "ivf" for an approximate answer, see docs/search.md.

        Raises:
          UnreadableImage: names the file.
          EncoderError: what encoded the index is not to be had.
          ValueError: k, radius, a condition, or a query that cannot be.
        """
        return self.search_many([query], k, radius, where, kind)[0]

    def search_many(
        self,
        queries: Iterable[Query],
        k: int | None = 10,
        radius: int | None = None,
        where: Where = (),
        kind: Kind = "exact",
    ) -> list[Answer]:
        """As `search`, for many queries at once, in threads."""
        wanted = Wanted(k, radius, conditions(where), kind)
        wanted.check(self.model.bits)
        return self.search_words(self._words(queries), wanted)

    def search_stored(
        self,
        path: Path_,
        k: int | None = 10,
        radius: int | None = None,
        where: Where = (),
        kind: Kind = "exact",
    ) -> Answer:
        """As `search`, with an image of the index, by its path there; needs no network."""
        words = self.index.codes([row_of(self.index, path)])
        return self.search_words(words, Wanted(k, radius, conditions(where), kind))[0]

    def search_words(self, words: UInt64[np.ndarray, "Q words"], wanted: Wanted) -> list[Answer]:
        """Answers for codes as an index keeps them, see `to_words`."""
        if wanted.kind == "ivf" and self._lists is None:
            from hybridhash_jax.retrieval.search.approximate import open_lists

            self._lists = open_lists(self.index)
        lists = self._lists.ivf if wanted.kind == "ivf" and self._lists else None
        found = nearest_rows(self.index, words, wanted, lists)
        return [answer_of(self.index, one) for one in found]

    def _words(self, queries: Iterable[Query]) -> UInt64[np.ndarray, "Q words"]:
        if isinstance(queries, str | bytes | os.PathLike):
            raise ValueError(f"queries are several: give [{os.fspath(queries)!r}] for one")
        if not isinstance(queries, Iterable):
            raise ValueError(f"queries are several; this is {type(queries).__name__}")
        queries = list(queries)
        packed = np.zeros((len(queries), -(-self.model.bits // 8)), np.uint8)
        images = []
        for number, query in enumerate(queries):
            if isinstance(query, np.ndarray) and query.ndim == 1:
                packed[number] = self._packed(query)
            elif wrong := wrong_image(query, _ACCEPTED):
                raise ValueError(wrong)
            else:
                images.append(number)
        if images:
            from hybridhash_jax.retrieval.search.query_codes import encode_each

            codes = encode_each(self.encoder, [queries[number] for number in images])
            for number, code in zip(images, codes, strict=True):
                if isinstance(code, UnreadableImage):
                    raise UnreadableImage(f"{_told(queries[number])}: {code}")
                packed[number] = code
        return to_words(packed)

    def _packed(self, code: np.ndarray) -> UInt8[np.ndarray, " bytes"]:
        bits = self.model.bits
        if code.dtype == np.uint8 and len(code) == -(-bits // 8):
            check_unused_bits(code, bits)
            return code
        if code.dtype == np.int8 and len(code) == bits and set(np.unique(code)) <= {-1, 1}:
            return np.packbits(code > 0)
        raise ValueError(
            f"a code of {bits} bits is int8 [{bits}] of -1 and +1, or uint8 [{-(-bits // 8)}]; "
            f"this is {code.dtype} {list(code.shape)}"
        )


def open_index(path: str | os.PathLike[str], encoder: "Encoder | None" = None) -> SearchIndex:
    """Opens the index in the folder `path` for searching.

    Args:
      path: its folder.
      encoder: makes the codes of query images; None is what the index was made with.

    Raises:
      IndexFileError: it is none, damaged, or of a newer format.
      EncoderError: the encoder is of another model.
    """
    return SearchIndex(open_stored(path), encoder)


def _told(query: Query) -> str:
    return "the image" if isinstance(query, np.ndarray) else shown(os.fsencode(query))
