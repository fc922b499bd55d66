"""Milvus: codes as BINARY_VECTOR, compared by HAMMING, in BIN_FLAT or BIN_IVF_FLAT."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from hybridhash_jax.retrieval.export.addresses import milvus_parts, milvus_refusal
from hybridhash_jax.retrieval.export.errors import ExportError, ServerGone, missing
from hybridhash_jax.retrieval.export.rows import TEXTS, Batch
from hybridhash_jax.retrieval.export.table import Wanted, lists_fit, lists_for
from hybridhash_jax.retrieval.export.target import Hits
from input_pipeline.progress import Progress

_READ_AT_ONCE = 16_000  # Milvus gives at most 16,384
_MOST_LISTS = 65_536
_MOST_FOUND = 16_384
_LONGEST_TEXT = 65_535  # bytes, Milvus's limit
_SECONDS = 60.0  # for an answer; searches and writes take less than one
_BUILD_SECONDS = 24 * 3600.0
_IN_USE_SECONDS, _IN_USE_RATE = 60.0, 2000.0  # and seconds more, for so many codes a second
_FIELD = "code"
_NO_CONNECTION = 2  # of pymilvus's codes
_STRONG = "Strong"  # what was written is read


@contextlib.contextmanager
def open_table(url: str, wanted: Wanted) -> Iterator["MilvusTable"]:
    """Connects, makes the collection where there is none, and checks the one there is.

    Args:
      url: such as "http://me:password@localhost:19530/database", or "unix:" and a socket file.
      wanted: name, bits and columns.

    Raises:
      ExportError: no server, no access, or another collection of that name.
    """
    try:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        import pymilvus
    except ImportError:
        raise missing("pymilvus", "requirements-engines.txt") from None
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL + 1)  # it would print tracebacks
    place, arguments = milvus_parts(url)
    try:
        client = pymilvus.MilvusClient(**arguments, timeout=10)
    except pymilvus.MilvusException as error:
        raise ExportError(milvus_refusal(place, arguments["uri"], error)) from None
    with contextlib.closing(client):
        yield MilvusTable(client, f"{wanted.name} of {place}", wanted)


class MilvusTable:
    """A collection of Milvus; see `target.Table`.

    Attributes:
      consistency: of searches; "Strong" sees all that was written, and waits for that.
    """

    def __init__(self, client: Any, place: str, wanted: Wanted):
        """Makes or checks it; `open_table` is what others call."""
        self.place, self.lists, self.probes, self.consistency = place, 0, 0, _STRONG
        self._client, self._wanted, self._name = client, wanted, wanted.name
        self._dimension = 8 * -(-wanted.bits // 8)  # filled up with zeros, which change no distance
        with self._explained():
            if client.has_collection(self._name, timeout=_SECONDS):
                self._check()
            else:
                self._create()
            client.load_collection(self._name, timeout=_BUILD_SECONDS)

    def held(self) -> Iterator[tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]]:
        """Ids and digests of all rows, in parts."""
        with self._explained():
            rows = self._client.query_iterator(
                self._name,
                batch_size=_READ_AT_ONCE,
                output_fields=["id", "digest"],
                consistency_level=_STRONG,
                timeout=_SECONDS,
            )
            while found := rows.next():
                yield (
                    np.array([row["id"] for row in found], np.int64),
                    np.array([row["digest"] for row in found], np.int64),
                )
            rows.close()

    def upsert(self, batch: Batch) -> None:
        """Writes rows; never inserts, which would keep two of one id where a reply was lost."""
        columns = {
            "id": batch.ids.tolist(),
            "digest": batch.digests.tolist(),
            _FIELD: [code.tobytes() for code in batch.packed],
            **batch.values,
        }
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        with self._explained():
            self._client.upsert(self._name, rows, timeout=_SECONDS)

    def delete(self, ids: Int64[np.ndarray, " n"]) -> None:
        """Removes rows."""
        with self._explained():
            self._client.delete(self._name, ids=ids.tolist(), timeout=_SECONDS)

    def finish(self, count: int) -> None:
        """Waits until all rows are indexed; makes another index first where that does not fit."""
        asked = min(lists_for(self._wanted, count), _MOST_LISTS)
        client, name = self._client, self._name
        with self._explained(), Progress(f"{self.place} indexes {count:,} codes"):
            client.flush(name, timeout=_BUILD_SECONDS)
            self.lists = self._built_lists()
            if not lists_fit(self._wanted, self.lists, asked):
                client.release_collection(name, timeout=_SECONDS)
                client.drop_index(name, _FIELD, timeout=_SECONDS)
                self._create_index(asked)
                self.lists = asked
            while client.describe_index(name, _FIELD, timeout=_SECONDS)["pending_index_rows"]:
                time.sleep(0.2)
            client.load_collection(name, timeout=_BUILD_SECONDS)
            self._wait_until_in_use(count)

    def _wait_until_in_use(self, count: int) -> None:
        """Until then queries are compared with all new codes, which hides what lists miss."""
        seconds = _IN_USE_SECONDS + count / _IN_USE_RATE
        end = time.monotonic() + seconds
        while self.lists:
            loaded = self._client.list_loaded_segments(self._name, timeout=_SECONDS)
            if sum(segment.num_rows for segment in loaded) >= count:
                return
            if time.monotonic() > end:
                raise ExportError(
                    f"{self.place} holds all codes, but does not search in lists after "
                    f"{seconds:,.0f} s; the same command measures later what they find"
                )
            time.sleep(0.5)

    def count(self) -> int:
        """How many rows there are."""
        with self._explained():
            found = self._client.query(
                self._name,
                filter="",
                output_fields=["count(*)"],
                consistency_level=_STRONG,
                timeout=_SECONDS,
            )
            return found[0]["count(*)"]

    def search(self, packed: UInt8[np.ndarray, "Q bytes"], k: int) -> list[Hits]:
        """The k nearest of each query, at most 16,384."""
        with self._explained():
            found = self._client.search(
                self._name,
                data=[code.tobytes() for code in packed],
                anns_field=_FIELD,
                limit=min(k, _MOST_FOUND),
                search_params=self._parameters(),
                consistency_level=self.consistency,
                timeout=_SECONDS,
            )
        return [
            Hits(
                np.array([hit["id"] for hit in hits], np.int64),
                np.array([hit["distance"] for hit in hits], np.float32).astype(np.int64),
            )
            for hits in found
        ]

    def advice(self) -> str:
        """A call of pymilvus, whose answers have ids in any case."""
        fields = ', output_fields=["path"]' if "path" in self._wanted.columns else ""
        return (
            f'client.search("{self._name}", [packed_code.tobytes()], anns_field="{_FIELD}", '
            f"limit=100, search_params={self._parameters()}{fields})"
        )

    def _parameters(self) -> dict[str, Any]:
        return {"metric_type": "HAMMING", "params": {"nprobe": self.probes} if self.lists else {}}

    def _create(self) -> None:
        import pymilvus

        schema = pymilvus.MilvusClient.create_schema(
            auto_id=False, enable_dynamic_field=False, description=self._wanted.description()
        )
        for name, kind in self._fields().items():
            arguments = {
                "VARCHAR": {"max_length": _LONGEST_TEXT},
                "BINARY_VECTOR": {"dim": self._dimension},
            }.get(kind, {})
            schema.add_field(
                name, pymilvus.DataType[kind], is_primary=name == "id", **arguments
            )  # fmt: skip
        self._client.create_collection(self._name, schema=schema, timeout=_SECONDS)
        self._create_index(0)  # without one nothing can be read; the one wanted follows the codes

    def _create_index(self, lists: int) -> None:
        parameters = self._client.prepare_index_params()
        parameters.add_index(
            _FIELD,
            index_name=_FIELD,
            index_type="BIN_IVF_FLAT" if lists else "BIN_FLAT",
            metric_type="HAMMING",
            **({"nlist": lists} if lists else {}),
        )
        self._client.create_index(self._name, parameters, timeout=_BUILD_SECONDS)

    def _fields(self) -> dict[str, str]:
        return {
            "id": "INT64",
            "digest": "INT64",
            _FIELD: "BINARY_VECTOR",
            **{name: "VARCHAR" if name in TEXTS else "INT32" for name in self._wanted.columns},
        }

    def _check(self) -> None:
        facts = self._client.describe_collection(self._name, timeout=_SECONDS)
        self._wanted.check_description(self.place, facts["description"])
        found = {field["name"]: _kind(field) for field in facts["fields"]}
        wanted = {**self._fields(), _FIELD: f"BINARY_VECTOR({self._dimension})"}
        needed = [field["name"] for field in facts["fields"] if not field.get("nullable")]
        self._wanted.check_columns(self.place, wanted, found, needed)
        if not self._client.list_indexes(self._name, _FIELD):
            self._create_index(0)

    def _built_lists(self) -> int:
        facts = self._client.describe_index(self._name, _FIELD, timeout=_SECONDS)
        return int(facts.get("nlist", 0)) if facts["index_type"] == "BIN_IVF_FLAT" else 0

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        import grpc
        import pymilvus

        try:
            yield
        except (pymilvus.MilvusException, grpc.RpcError, ValueError) as error:
            if isinstance(error, ExportError):
                raise
            if isinstance(error, grpc.RpcError) or _is_gone(error):
                raise ServerGone(f"{self.place} does not answer any more") from None
            raise ExportError(f"{self.place} refused: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    code = getattr(error, "code", "none")
    if "permission" in str(error).lower():
        return "the user may not do this; let an administrator grant it"
    return f"Milvus's error {code}; see the server's log"


def _is_gone(error: Exception) -> bool:
    signs = ("UNAVAILABLE", "Retry", "DEADLINE", "closed channel")
    return getattr(error, "code", 0) == _NO_CONNECTION or any(sign in str(error) for sign in signs)


def _kind(field: Any) -> str:
    size = field["params"].get("dim")
    return field["type"].name + (f"({size})" if size else "")
