"""The application: routes, and the layers around them."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from hybridhash_jax import __version__
from hybridhash_jax.retrieval.index import Index
from hybridhash_jax.retrieval.service import problems
from hybridhash_jax.retrieval.service.problems import Problem
from hybridhash_jax.retrieval.service.routes import add_routes
from hybridhash_jax.retrieval.service.service import Service
from hybridhash_jax.retrieval.service.settings import Settings
from hybridhash_jax.retrieval.service.web.access import Access
from hybridhash_jax.retrieval.service.web.guard import Guard

if TYPE_CHECKING:  # it needs JAX
    from hybridhash_jax.retrieval.encoding.encoder import Encoder


def create_app(settings: Settings, make_encoder: "Callable[[Index], Encoder]") -> FastAPI:
    """The application of an index; its `state.service` is what works.

    Args:
      settings: what is served.
      make_encoder: gives the encoder of the index; called in the encoder's thread.

    Raises:
      IndexFileError: there is no such index.
    """
    service = Service(settings, make_encoder)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="hybridhash",
        summary="Search in an index of images.",
        version=__version__,
        lifespan=lifespan,
        dependencies=[Depends(problems.check_given_once)],
        docs_url=None,  # it would load scripts of another origin
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    add_routes(app, service)
    _add_refusals(app)
    app.add_middleware(Access, token=settings.token, hosts=settings.hosts)
    app.add_middleware(
        Guard,
        metrics=service.metrics,
        seconds=settings.seconds,
        same_origin=not settings.origins,
    )
    if settings.origins:  # around all others, whose refusals are to be read as well
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization"],
            expose_headers=["retry-after"],
        )
    return app


def _add_refusals(app: FastAPI) -> None:
    """Every error is a problem+json."""

    @app.exception_handler(Problem)
    async def refuse(request: Request, error: Problem) -> Response:
        return problems.response(error)

    @app.exception_handler(HTTPException)
    async def refuse_framework(request: Request, error: HTTPException) -> Response:
        return problems.response(problems.of_framework(request, error))

    @app.exception_handler(RequestValidationError)
    async def refuse_fields(request: Request, error: RequestValidationError) -> Response:
        return problems.response(problems.of_fields(error.errors()))
