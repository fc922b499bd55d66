"""The page's files, from memory."""

import hashlib
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response

from hybridhash_jax.retrieval.service.problems import Problem

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/script.js": ("script.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


class Pages:
    """Reads the files once."""

    def __init__(self):
        """Those that are not installed are not served."""
        folder = resources.files("hybridhash_jax.retrieval.service").joinpath("page")
        self._files = {
            path: (file.read_bytes(), media_type)
            for path, (name, media_type) in FILES.items()
            if (file := folder.joinpath(name)).is_file()
        }

    def answer(self, request: Request) -> Response:
        """The file of a request's path."""
        path = request.url.path
        if path not in self._files:
            raise Problem(404, f"{path} is not installed; the API is described by /openapi.json")
        return tagged(request, *self._files[path])


def tagged(request: Request, content: bytes, media_type: str) -> Response:
    """Content with its ETag; 304 without it where the client has it already."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": "no-cache"}
    known = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]  # fmt: skip
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)
