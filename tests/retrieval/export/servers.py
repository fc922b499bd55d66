"""Both engines as the tests see them: how to start, to reach, to read, and to cut them off."""

import contextlib
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import engine_servers


class Engine:
    """A server that runs.

    Attributes:
      to: what `--to` takes.
      url: its address, with the password where it can have one.
      file: its socket.
    """

    to: str
    url: str
    file: Path

    def flags(self, index: Path, name: str, *more: str, url: str | None = None) -> list[str]:
        places = [f"--index={index}", f"--to={self.to}", f"--url={url or self.url}"]
        return [*places, f"--name={name}", *more]

    def at(self, file: Path) -> str:
        """Its address where another socket leads to it."""
        return self.url.replace(str(self.file), str(file))


class Postgres(Engine):
    to = "pgvector"

    def __init__(self, folder: str):
        self.file = Path(folder)
        self.url = (
            f"postgresql://postgres:{engine_servers.POSTGRES_PASSWORD}@/postgres?host={folder}"
        )

    def run(self, query: str) -> list[Any]:
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            done = connection.execute(query)  # pyright: ignore
            return done.fetchall() if done.description else []

    def content(self, name: str) -> dict[str, tuple[int, str, str]]:
        """By path: id, code as hexadecimal digits, label."""
        rows = self.run(f"SELECT path, id, code::text, label FROM {name}")
        return {
            path: (number, f"{int(code, 2):0{-(-len(code) // 4)}x}", label)
            for path, number, code, label in rows
        }

    def foreign_table(self, name: str) -> None:
        self.run(f"CREATE TABLE {name} (id bigint)")

    @contextlib.contextmanager
    def relay(self, after: int) -> Iterator[str]:
        with tempfile.TemporaryDirectory(prefix="relay_") as folder:
            socket_name = ".s.PGSQL.5432"
            with cut_after(after, self.file / socket_name, Path(folder) / socket_name):
                yield self.at(Path(folder))


class Milvus(Engine):
    to = "milvus"

    def __init__(self, url: str):
        self.url, self.file = url, Path(url.removeprefix("unix:"))

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        import pymilvus

        with contextlib.closing(
            pymilvus.MilvusClient(self.url, token=engine_servers.MILVUS_TOKEN, timeout=20)
        ) as client:
            yield client

    def content(self, name: str) -> dict[str, tuple[int, str, str]]:
        with self.client() as client:
            rows = client.query(
                name,
                filter="id >= 0",
                output_fields=["*"],
                consistency_level="Strong",
                limit=10_000,
            )
        return {row["path"]: (row["id"], row["code"][0].hex(), row["label"]) for row in rows}

    def foreign_table(self, name: str) -> None:
        with self.client() as client:
            client.create_collection(name, dimension=8, timeout=20)

    @contextlib.contextmanager
    def relay(self, after: int) -> Iterator[str]:
        with tempfile.TemporaryDirectory(prefix="relay_") as folder:
            with cut_after(after, self.file, Path(folder) / "socket"):
                yield self.at(Path(folder) / "socket")


@contextlib.contextmanager
def cut_after(count: int, server: Path, place: Path) -> Iterator[None]:
    """A socket at `place` that leads to a server until a client has sent so many bytes."""
    ends: list[socket.socket] = []
    sent = 0

    def copy(source: socket.socket, target: socket.socket, counts: bool) -> None:
        nonlocal sent
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 12):
                sent += len(data) * counts
                if sent > count:
                    place.unlink(missing_ok=True)
                    break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                other = socket.socket(socket.AF_UNIX)
                ends.extend([client, other])
                other.connect(str(server))
                for pair in ((client, other, True), (other, client, False)):
                    threading.Thread(target=copy, args=pair, daemon=True).start()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        thread = threading.Thread(target=accept, args=(listener,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for end in ends:
                end.close()
