"""Addresses of servers: where they lead, told without passwords, and why nobody answers there."""

import os
import re
import socket
from typing import Any
from urllib.parse import unquote, urlsplit

from hybridhash_jax.retrieval.export.errors import ExportError

TOKEN = "MILVUS_TOKEN"
# Without @, before which `errors.masked` hides what an address has.
_MILVUS = (
    f"http://HOST:19530, and, if it asks for a user, {TOKEN} in the environment (USER:PASSWORD)"
)
_POSTGRESQL = "postgresql://HOST:5432/DATABASE?user=USER, the password in PGPASSWORD or ~/.pgpass"


def postgresql_place(url: str) -> str:
    """Where an address leads to, without its password."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        raise ExportError(f"--url is no address of PostgreSQL; give {_POSTGRESQL}") from None
    host, port = str(parts.get("host") or "localhost"), str(parts.get("port") or 5432)
    database = str(parts.get("dbname") or "")
    if "@" in host + database or not re.fullmatch(r"[0-9,]*", port):
        raise _ambiguous("PostgreSQL")
    return f"PostgreSQL at {host}:{port}/{database}"


def postgresql_refusal(place: str, error: Exception) -> str:
    """What a connection failed at."""
    text = str(error)
    if "password authentication failed" in text:
        return f"{place} refuses this user or password; give {_POSTGRESQL}"
    if "no password supplied" in text:
        return f"{place} asks for a password; give {_POSTGRESQL}"
    if "FATAL" in text and "does not exist" in text:
        return f"{place} has no such database or user; make it, or give {_POSTGRESQL}"
    if "FATAL" in text:
        return f"{place} refuses the connection, see the server's log; give {_POSTGRESQL}"
    return f"{place} does not answer; start it, or give {_POSTGRESQL}"


def milvus_parts(url: str) -> tuple[str, dict[str, str]]:
    """Where an address leads to, without its password, and what `MilvusClient` takes."""
    token = os.environ.get(TOKEN, "")
    if url.startswith("unix:"):
        return f"Milvus at {url}", {"uri": url, "token": token}
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 19530
    except ValueError:
        host, port, parts = None, 0, None
    if parts is None or parts.scheme not in ("http", "https", "tcp") or not host:
        raise ExportError(f"--url is no address of Milvus; give {_MILVUS}")
    if "@" in parts.path:
        raise _ambiguous("Milvus")
    if parts.username:
        token = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    uri = f"{parts.scheme}://{host}:{port}"
    database = parts.path.strip("/")
    return f"Milvus at {uri}", {"uri": uri, "token": token, "db_name": database}


def milvus_refusal(place: str, uri: str, error: Any) -> str:
    """What a connection failed at."""
    if error.code == 800:
        return f"{place} has no such database; make it, or leave it out of --url"
    if _listens(uri):  # pymilvus says one thing for both
        return f"{place} refuses this user or password, or is no Milvus; give {_MILVUS}"
    return f"{place} does not answer; start it, or give {_MILVUS}"


def _listens(uri: str) -> bool:
    try:
        if uri.startswith("unix:"):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(uri.removeprefix("unix:"))
        else:
            parts = urlsplit(uri)
            socket.create_connection((parts.hostname, parts.port), 5).close()
    except OSError:
        return False
    return True


def _ambiguous(kind: str) -> ExportError:
    """For an address that cannot be told apart; no part of it is shown, for any may be a password."""
    return ExportError(
        f"--url is no address of {kind} that can be told apart; write / as %2F, @ as %40 and : as %3A "
        "in its user and password"
    )
