"""What can be asked, by path."""

from typing import Annotated, Any

from fastapi import FastAPI, Query
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from hybridhash_jax.retrieval.service import metrics, problems, schemas
from hybridhash_jax.retrieval.service.problems import Problem, answer, busy
from hybridhash_jax.retrieval.service.schemas import Asked, SearchFields
from hybridhash_jax.retrieval.service.service import Service
from hybridhash_jax.retrieval.service.web.pages import FILES, Pages, tagged
from hybridhash_jax.retrieval.service.web.uploads import Form, read_form
from hybridhash_jax.retrieval.service.work.files import ImageFile, in_chunks
from hybridhash_jax.retrieval.service.work.groups import check_radius

_PROBLEM = {
    "description": "A problem: its detail says what was given, and what is accepted.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
}  # fmt: skip
_JPEG = {200: {"description": "A JPEG.", "content": {"image/jpeg": {}}}}
_IMAGE = {200: {"description": "The image file as it is.", "content": {"image/*": {}}}}


class _FileResponse(StreamingResponse):
    """A file, closed also where the client has gone before it was read."""

    def __init__(self, image: ImageFile):
        headers = {"content-length": str(image.size), "cache-control": "no-cache"}
        super().__init__(in_chunks(image), media_type=image.media_type, headers=headers)
        self._file = image.file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": schemas.ProblemDetails, **_PROBLEM} for status in statuses}


def add_routes(app: FastAPI, service: Service) -> None:
    """Adds all of them."""
    _add_search(app, service)
    _add_items(app, service)
    _add_duplicates(app, service)
    _add_watching(app, service)
    pages = Pages()
    for path in FILES:
        app.add_api_route(path, pages.answer, methods=["GET", "HEAD"], include_in_schema=False)


def _add_search(app: FastAPI, service: Service) -> None:
    @app.get("/v1/index", summary="What is served", response_model=schemas.IndexFacts)
    async def index() -> Response:
        return answer(await service.facts())

    @app.post(
        "/v1/search",
        summary="Images similar to an image, a row, or a code: exactly one of them",
        response_model=schemas.Answer,
        responses=_refusals(400, 404, 408, 413, 415, 422, 503),
        openapi_extra={"requestBody": _search_body()},
    )
    async def search(request: Request) -> Response:
        with service.room.taken() as share:
            form = await read_form(request, service.settings.upload_bytes, share)
            return answer(await service.search(form, _fields(form)))


def _add_items(app: FastAPI, service: Service) -> None:
    @app.get(
        "/v1/items/{row}",
        summary="An image of the index",
        response_model=schemas.ItemDetails,
        responses=_refusals(404, 422),
    )
    async def item(row: int) -> Response:
        return answer(await service.item(row))

    @app.get(
        "/v1/items/{row}/similar",
        summary="Images similar to one of the index",
        response_model=schemas.Answer,
        responses=_refusals(404, 422, 503),
    )
    async def similar(row: int, asked: Annotated[Asked, Query()]) -> Response:
        return answer(await service.similar(row, asked))

    @app.get(
        "/v1/items/{row}/thumbnail",
        summary="A small picture of an image",
        response_class=Response,
        responses={**_JPEG, **_refusals(404, 422)},
    )
    async def thumbnail(request: Request, row: int) -> Response:
        return tagged(request, await service.thumbnail(row), "image/jpeg")

    @app.get(
        "/v1/items/{row}/image",
        summary="An image file; only where the service was started with --originals",
        response_class=Response,
        responses={**_IMAGE, **_refusals(404, 422)},
    )
    async def image(row: int) -> Response:
        found = await service.original(row)
        return _FileResponse(found)


def _add_duplicates(app: FastAPI, service: Service) -> None:
    @app.get(
        "/v1/duplicates",
        summary="Groups of near-duplicates, looked for when they are first asked for",
        response_model=schemas.Groups,
        responses=_refusals(409, 422, 500, 503),
    )
    async def duplicates(
        radius: Annotated[int | None, Query(ge=0)] = None,
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=200)] = 20,
    ) -> Response:
        return answer(await service.duplicates(check_radius(radius), offset, limit))


def _add_watching(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Whether the service runs", response_class=Response)
    async def healthz() -> Response:
        return answer({"status": "ok"})

    @app.get(
        "/readyz",
        summary="Whether it can encode images",
        response_class=Response,
        responses=_refusals(503),
    )
    async def readyz() -> Response:
        if not service.encoder.is_ready:
            raise busy(service.encoder.error or "the network is still being made ready")
        return answer({"status": "ok"})

    @app.get("/metrics", summary="Counters and times for Prometheus", response_class=Response)
    async def measured() -> Response:
        return Response(service.metrics.text(), headers={"content-type": metrics.CONTENT_TYPE})


def _fields(form: Form) -> SearchFields:
    try:
        fields = SearchFields.model_validate(form.fields)
    except ValidationError as error:
        raise problems.of_fields(error.errors()) from error
    given = [name for name in ("row", "code") if getattr(fields, name) is not None]
    given += ["image"] if form.image is not None else []
    if len(given) != 1:
        told = f"{' and '.join(given)} are given" if given else "none is given"
        raise Problem(422, f"exactly one of image (a file), row and code is searched with; {told}")
    return fields


def _search_body() -> dict[str, Any]:
    schema = SearchFields.model_json_schema()
    image = {"type": "string", "contentMediaType": "application/octet-stream", "description": "an image file"}  # fmt: skip
    schema["properties"] = {"image": image, **schema["properties"]}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
