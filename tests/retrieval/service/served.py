"""Services of small indexes whose encoder needs no network."""

import contextlib
import dataclasses
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from hybridhash_jax.retrieval.service.app import create_app
from hybridhash_jax.retrieval.service.service import Service
from hybridhash_jax.retrieval.service.settings import Settings
from tests.retrieval.search.pictured import FakeEncoder

if TYPE_CHECKING:
    from hybridhash_jax.retrieval.encoding.encoder import Encoder

HOST = "http://localhost"


class HeldEncoder(FakeEncoder):
    """Encodes once it is let go; black images, which warm it up, at once unless `all`."""

    def __init__(self, *, all: bool = False):
        super().__init__()
        self.model = dataclasses.replace(self.model, backend="gpu")  # which batches
        self.may_go, self.batches, self.all = threading.Event(), list[int](), all
        self.begun = 0

    def start(self, crops: np.ndarray, *, quick: bool = False):
        if self.all or crops.any():
            self.begun += 1
            assert self.may_go.wait(10)
            self.batches.append(len(crops))
        return super().start(crops)


def app_of(index: Path, encoder: FakeEncoder, **settings) -> FastAPI:
    return create_app(Settings(index, **settings), lambda _: cast("Encoder", encoder))


@contextlib.contextmanager
def client_of(index: Path, encoder: FakeEncoder | None = None, **settings) -> Iterator[TestClient]:
    """A client of a service in this process, which is ready."""
    app = app_of(index, encoder or FakeEncoder(), **settings)
    with TestClient(app, base_url=HOST) as client:
        while client.get("/readyz").status_code != 200:
            assert app.state.service.encoder.error is None
        yield client


def service_of(client: TestClient) -> Service:
    return cast(FastAPI, client.app).state.service


def png(colour: tuple[int, int, int], size: tuple[int, int] = (16, 12), kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


# With the encoder of tests in place of one that would need JAX; the images take some seconds each
# where SECONDS is set.
_PROGRAM = """
import os, sys, time, types
from tests.retrieval.search.pictured import FakeEncoder

class Encoder(FakeEncoder):
    def fetch(self, batch, count):
        time.sleep(float(os.environ.get("SECONDS", "0")))
        return super().fetch(batch, count)

made = types.SimpleNamespace(make_encoder=lambda index, workdir=None: Encoder())
sys.modules["hybridhash_jax.retrieval.search.query_codes"] = made
from hybridhash_jax.__main__ import main
sys.argv.insert(1, "serve")
main()
"""


class Process:
    """`hybridhash serve` with an encoder of tests, on a port that is free.

    Attributes:
      url: where it is.
      process: the process.
    """

    def __init__(self, index: Path, *options: str, seconds: float = 0):
        arguments = [f"--index={index}", "--port=0", *options]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"SECONDS": str(seconds)},
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert " at http://" in line, (line, self.process.communicate(timeout=20))
        self.url = line.split(" at ")[1].strip()
        self.port = int(self.url.rpartition(":")[2])

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def memory(self) -> int:
        """Resident, in bytes."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Its exit code and what it said after a signal."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


def files(image: bytes) -> dict[str, tuple[str, bytes]]:
    """For a client's `files`."""
    return {"image": ("../../etc/passwd", image)}


def rows_of(answer: dict) -> Sequence[int]:
    return [one["row"] for one in answer["found"]]
