"""The process: its sockets, its end, and what it says."""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence

import uvicorn
from fastapi import FastAPI

from hybridhash_jax.retrieval.service.web.protocol import Protocol
from input_pipeline import signals
from input_pipeline.errors import DataError

_BACKLOG = 512


class Server(uvicorn.Server):
    """uvicorn's, with signals left to `input_pipeline.signals`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


def addresses_of(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple]]:
    """What a host and a port mean; DataError where nothing."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise DataError(f"--host={host}: there is no such address; give 127.0.0.1, or an address of this machine") from error  # fmt: skip
    return list(dict.fromkeys((one[0], one[4]) for one in found))


def is_loopback(addresses: Sequence[tuple[socket.AddressFamily, tuple]]) -> bool:
    """Do they all reach this machine alone?"""
    return all(ipaddress.ip_address(str(one[0]).partition("%")[0]).is_loopback for _, one in addresses)  # fmt: skip


def bind(addresses: Sequence[tuple[socket.AddressFamily, tuple]]) -> list[socket.socket]:
    """Sockets of these addresses; DataError where one is in use or not ours."""
    bound: list[socket.socket] = []
    for family, address in addresses:
        # asyncio sends at once only where the protocol is said, and else waits for the client's word
        # between the head and the body of an answer: 40 ms.
        one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.append(one)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            one.bind(address)
            one.listen(_BACKLOG)  # so that a second service sees at once that it is taken
        except OSError as error:
            for each in bound:
                each.close()
            raise DataError(_why_not(address, error)) from error
    return bound


def url_of(one: socket.socket) -> str:
    """Where a browser finds it."""
    host, port = one.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: FastAPI, sockets: list[socket.socket], seconds: float) -> None:
    """Answers until a signal comes, then finishes what runs.

    Raises:
      DataError: the network that encodes images is not to be had.
    """
    for name in ("uvicorn.error", "python_multipart"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # As of a malformed form, clients are told of a damaged image; nobody else need be.
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="PIL")
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(seconds) + 2,
        backlog=_BACKLOG,
    )
    server = Server(config)
    encoder = app.state.service.encoder
    encoder.on_error = lambda error: server.handle_exit(0, None)
    with signals.answered_by(_stopping(server)):
        asyncio.run(server.serve(sockets))
    if encoder.error is not None:
        raise DataError(encoder.error)


def _stopping(server: Server) -> signals.Answer:
    told = threading.Event()

    def stop(number: int) -> None:
        if told.is_set():
            signals.end(number)
        told.set()
        print("stopping: what runs is finished first", file=sys.stderr, flush=True)
        server.should_exit = True

    return stop


def _why_not(address: tuple, error: OSError) -> str:
    host, port = address[:2]
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use; give another one as --port, or --port=0 for any that is free"  # fmt: skip
    if error.errno == errno.EACCES:
        return f"port {port} may not be used; give one above 1023 as --port"
    return f"this machine has no address {host}; give --host=127.0.0.1, or an address of its own"
