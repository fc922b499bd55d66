"""How fast and how large `hybridhash serve` is: start, latency of a search by image, memory.

    python -m benchmarks.service --out=benchmarks/results/service_cpu.json
    python -m benchmarks.service --networks=tiny_32px --rows=100000 --requests=500

The network has random parameters (tiny_32px, of a run that is made here) or is label-free (lite0);
the index has so many clustered codes. Clients are threads of this process, on the same processor.
Ready is measured at the second start, when the compiled programs are kept. Memory is resident,
before and after the last requests, which eight clients send.
"""

import argparse
import concurrent.futures
import contextlib
import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import simplejpeg
from flax import nnx

from benchmarks.measure import record_file, run_and_exit, write_record
from benchmarks.retrieval import make_codes
from configs import lists
from hybridhash_jax import configured
from hybridhash_jax.retrieval.encoding.encoder import Encoder
from hybridhash_jax.retrieval.encoding.making import keep_programs
from hybridhash_jax.retrieval.index import Entry, create_index, open_writer
from hybridhash_jax.workdir import names
from hybridhash_jax.workdir.checkpoints import CheckpointStore
from hybridhash_jax.workdir.config import save_config

_BITS, _AT_ONCE, _CLIENTS, _SAMPLE = 64, 2**17, 8, 96
_BOUNDARY = b"hybridhash"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--networks", nargs="+", choices=list(_ENCODERS), default=list(_ENCODERS))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=2_000, help="between the two memories")
    parser.add_argument("--out", type=record_file)
    parser.add_argument("--note", default="")
    args = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        # One for all: JAX looks at it once.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(folder) / "programs")
        keep_programs(None)
        for network in args.networks:
            place = Path(folder) / network
            place.mkdir()
            _make_index(place / "index", _ENCODERS[network](place), args.rows)
            figures[network] = _measure(place / "index", args.requests)
            print(network, " ".join(f"{key}={value}" for key, value in figures[network].items()))
    if args.out:
        packages = ("jax", "numpy", "fastapi", "uvicorn")
        write_record(args.out, packages, note=args.note, rows=args.rows, **figures)


def _random_run(folder: Path) -> Encoder:
    """tiny_32px with random parameters, in a workdir as training makes it."""
    config = lists.get_config()
    config.update_from_flattened_dict({"bits": (_BITS,), "num_devices": 1, "data.dir": "none"})
    workdir = folder / "run"
    workdir.mkdir()
    save_config(workdir, config.lock())
    method = configured.create_method(config)
    network = configured.network_that_encodes(config, method, _BITS, None, jax.random.key(0))
    store = CheckpointStore(workdir / names.CHECKPOINTS)
    store.save(0, {"params": nnx.split(network)[1]}, {"history": []})
    store.close()
    return Encoder.from_workdir(workdir)


def _label_free(folder: Path) -> Encoder:
    del folder
    return Encoder.unsupervised([_picture(seed) for seed in range(_SAMPLE)], bits=_BITS)


_ENCODERS = {"tiny_32px": _random_run, "lite0": _label_free}


def _picture(seed: int, width: int = 640, height: int = 480) -> np.ndarray:
    """Coarse noise, uint8 [h, w, 3], which costs about as much to decode as a photograph."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return np.ascontiguousarray(coarse.repeat(8, 0).repeat(8, 1))


def _make_index(path: Path, encoder: Encoder, rows: int) -> None:
    create_index(path, encoder.model, None, encoder.files)
    packed = make_codes(rows, 1, np.random.default_rng(0)).view(np.uint8)
    with open_writer(path) as writer:
        for start in range(0, rows, _AT_ONCE):
            part = packed[start : start + _AT_ONCE]
            numbers = range(start, start + len(part))
            entries = [Entry(b"%04d/%07d.jpg" % (n // 1000, n), 1, 1, 640, 480) for n in numbers]
            writer.add(entries, part)


def _measure(index: Path, requests: int) -> dict[str, Any]:
    with _served(index):
        pass
    with _served(index) as (port, pid, ready):
        _latencies(port, 1, 50)
        one = _latencies(port, 1, 200)
        _latencies(port, _CLIENTS, 100)
        several = _latencies(port, _CLIENTS, 400)
        before = _memory(pid)
        _latencies(port, _CLIENTS, requests)
        after = _memory(pid)
    return {
        "ready_seconds": round(ready, 2),
        "p50_ms_1_client": round(1000 * statistics.median(one), 1),
        "p50_ms_8_clients": round(1000 * statistics.median(several), 1),
        "p95_ms_8_clients": round(1000 * float(np.quantile(several, 0.95)), 1),
        "memory_mb": round(before / 1e6, 1),
        "memory_growth": round(after / before - 1, 4),
    }


@contextlib.contextmanager
def _served(index: Path) -> Iterator[tuple[int, int, float]]:
    """A service: its port, its process, and the seconds until it was ready."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "hybridhash_jax", "serve", f"--index={index}", "--port=0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        port = int(process.stdout.readline().rpartition(":")[2])
        while not _is_ready(port):
            time.sleep(0.02)
        yield port, process.pid, time.perf_counter() - started
    finally:
        process.terminate()
        process.communicate()


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/readyz")
    status = connection.getresponse().status
    connection.close()
    return status == 200


def _latencies(port: int, clients: int, count: int) -> list[float]:
    """Seconds of so many searches by image, by clients that each wait for their answer."""

    def ask(client: int) -> list[float]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        bodies = [_body(100 * client + seed) for seed in range(4)]
        seconds = []
        for number in range(-(-count // clients)):
            started = time.perf_counter()
            connection.request("POST", "/v1/search", bodies[number % len(bodies)], _HEADERS)
            response = connection.getresponse()
            response.read()
            seconds.append(time.perf_counter() - started)
            assert response.status == 200, response.status
        connection.close()
        return seconds

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        return [one for found in pool.map(ask, range(clients)) for one in found]


_HEADERS = {"content-type": f"multipart/form-data; boundary={_BOUNDARY.decode()}"}


def _body(seed: int) -> bytes:
    image = simplejpeg.encode_jpeg(_picture(seed), quality=85)
    disposition = b'content-disposition: form-data; name="image"; filename="query.jpg"'
    return b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n" % (_BOUNDARY, disposition, image, _BOUNDARY)


def _memory(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    run_and_exit(main)
