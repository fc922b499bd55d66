"""Refusals as problem+json (RFC 9457), whose detail is a sentence for people."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

RETRY_SECONDS = 1
_SHOWN = 60  # letters of what a client gave


class Problem(Exception):
    """Ends a request with a status and a sentence."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None):
        """`headers` go with the response."""
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


def busy(detail: str, seconds: int = RETRY_SECONDS) -> Problem:
    """The client may try again in some seconds."""
    return Problem(503, detail, {"retry-after": str(seconds)})


def as_json(content: Any) -> bytes:
    """ASCII: what is not UTF-8 in a name is an escaped lone surrogate, so the bytes are valid."""
    return json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()


def answer(content: Any) -> Response:
    """Content as a response."""
    return Response(as_json(content), media_type="application/json")


def response(problem: Problem) -> Response:
    """The response of a problem."""
    return Response(
        body_of(problem.status, problem.detail),
        problem.status,
        problem.headers,
        media_type="application/problem+json",
    )


def body_of(status: int, detail: str) -> bytes:
    """The JSON of a problem."""
    title = HTTPStatus(status).phrase
    return as_json({"type": "about:blank", "title": title, "status": status, "detail": detail})


async def check_given_once(request: Request) -> None:
    """Refuses a query that gives a parameter twice, of which the framework would take the last."""
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name in seen:
            raise given_twice(name)
        seen.add(name)


def given_twice(name: str) -> Problem:
    """A parameter or field of a request counts once."""
    return Problem(422, f"{_short(name)} is given twice; give it once")


def of_framework(request: Request, error: HTTPException) -> Problem:
    """What the framework refuses, in our words."""
    place = _short(request.url.path)
    if error.status_code == 404:
        detail = f"there is nothing at {place}; /openapi.json lists what there is"
    elif error.status_code == 405:
        methods = Headers(error.headers).get("allow", "GET")
        detail = f"{_short(request.method)} is not accepted at {place}; accepted: {methods}"
    else:
        detail = f"the request to {place} is refused; /openapi.json says what is accepted"
    return Problem(error.status_code, detail, error.headers)


def of_fields(errors: Sequence[Any]) -> Problem:
    """What pydantic finds wrong with the fields of a request, in our words."""
    return Problem(422, "; ".join(dict.fromkeys(map(_wrong, errors[:3]))))


def _wrong(error: Mapping[str, Any]) -> str:
    name = str(error["loc"][-1]) if error["loc"] else "the request"
    kind, limits = error["type"], error.get("ctx", {})
    given = f"{_short(name)}={_short(error.get('input'))}"
    if kind == "missing":
        return f"{name} is missing; give it"
    if name == "image":
        return "image is text; send it as a file"
    if kind == "extra_forbidden":
        return f"{_short(name)} is no field of this request; /openapi.json lists those there are"
    if kind.startswith("int_"):
        return f"{given} is no whole number; give one"
    if kind == "greater_than_equal":
        return f"{given} is too small; give {limits['ge']} or more"
    if kind == "less_than_equal":
        return f"{given} is too large; give {limits['le']} or less"
    if kind == "string_too_long":
        return f"{name} is too long; give at most {limits['max_length']} letters"
    return f"{given} is not accepted; /openapi.json says what is"


def _short(given: Any) -> str:
    text = given if isinstance(given, str) else str(given)
    text = text[:_SHOWN] + "..." if len(text) > _SHOWN else text
    return text if text.isprintable() else repr(text)
