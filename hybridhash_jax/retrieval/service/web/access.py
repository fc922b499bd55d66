"""Who may ask: whoever knows the token; without one, whoever names this server."""

import base64
import hmac
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from hybridhash_jax.retrieval.names import shown
from hybridhash_jax.retrieval.service.problems import Problem
from input_pipeline.errors import DataError

_OPEN = ("/healthz", "/readyz")  # for who watches over the service
_LEAST = 16
_CHALLENGE = {"www-authenticate": 'Basic realm="hybridhash", charset="UTF-8", Bearer'}


def read_token(path: Path) -> str:
    """The token in a file that only its owner can read.

    Raises:
      DataError: it cannot be read, others can read it, or it is too short.
    """
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(10_000).decode("ascii", "replace").strip()
    except OSError as error:
        raise DataError(f"the token file {shown(path)} cannot be read: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise DataError(
            f"the token file {shown(path)} can be read by others (mode {stat.S_IMODE(mode):o}); run "
            f"chmod 600 {shown(path)}"
        )
    if len(text) < _LEAST or not text.isprintable() or not text.isascii() or " " in text:
        raise DataError(
            f"the token file {shown(path)} holds no token: give one line of at least {_LEAST} letters "
            "and digits, such as openssl rand -hex 32 writes"
        )
    return text


class Access:
    """Lets requests through that may ask."""

    def __init__(self, app: ASGIApp, token: str | None, hosts: Sequence[str]):
        """Without a token only requests to `hosts` pass; none of them means all pass.

        A page of another site can lead a browser here under a name of that site's own, and read the
        answers. The name that the browser then sends tells them apart.
        """
        self._app, self._token, self._hosts = app, token, [name.lower() for name in hosts]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or raises a problem: 401 or 421."""
        if scope["type"] == "http" and scope["path"] not in _OPEN:
            headers = Headers(scope=scope)
            if self._token is not None:
                if not _shows(headers.get("authorization", ""), self._token):
                    raise Problem(401, "a token is needed; send it as Authorization: Bearer TOKEN, or as the password", _CHALLENGE)  # fmt: skip
            elif self._hosts and _name(headers.get("host", "")) not in self._hosts:
                raise Problem(421, f"this service answers to {', '.join(self._hosts)}; start it with --served_as=NAME for another name")  # fmt: skip
        await self._app(scope, receive, send)


def _shows(authorization: str, token: str) -> bool:
    kind, _, value = authorization.partition(" ")
    given = value.strip()
    if kind.lower() == "basic":  # what a browser asks for; the user's name may be any
        try:
            given = base64.b64decode(value, validate=True).decode().partition(":")[2]
        except ValueError:  # no Base64, or no UTF-8 in it
            return False
    elif kind.lower() != "bearer":
        return False
    return hmac.compare_digest(given.encode(), token.encode())


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host.partition("]")[0][1:].lower()
    return host.partition(":")[0].lower()
