"""Serves an index: a page for people, and a JSON API for programs (docs/serve.md).

Listens on this machine alone. Another address needs --token_file, or --insecure. It ends with
Ctrl-C or SIGTERM, after what runs; a new generation of the index is served without a restart.
"""

import argparse
import contextlib
import ipaddress
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hybridhash_jax.retrieval.names import shown
from input_pipeline.commands import local_path, make_parser, run_command
from input_pipeline.errors import DataError

if TYPE_CHECKING:  # they take time to import
    from hybridhash_jax.retrieval.encoding.encoder import Encoder
    from hybridhash_jax.retrieval.index import Index
    from hybridhash_jax.retrieval.service.settings import Settings

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_EXAMPLES = """\
  hybridhash serve --index=pictures.idx
  hybridhash serve --index=pictures.idx --originals --port=8080
  hybridhash serve --index=pictures.idx --host=0.0.0.0 --token_file=token
"""


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit code."""
    options = _parse(arguments)
    return run_command(lambda: _serve(options), "nothing was changed")


def _serve(options: argparse.Namespace) -> str:
    _check_installed()
    from hybridhash_jax.retrieval.service.app import create_app
    from hybridhash_jax.retrieval.service.web import server

    addresses = server.addresses_of(options.host, options.port)
    own = [str(address[0]) for _, address in addresses]
    settings = _settings(options, own, local=server.is_loopback(addresses))
    app = create_app(settings, _encoder_of(options))
    service = app.state.service
    with service.generations.current() as now:
        _check_originals(options, now.index)
        count = len(now.index)
    sockets = server.bind(addresses)
    for line in service.generations.warnings():
        print(f"warning: {line}", file=sys.stderr)
    places = " ".join(map(server.url_of, sockets))
    print(f"{count:,} images of {shown(options.index)} at {places}", flush=True)
    server.serve(app, sockets, settings.seconds)
    return "stopped"


def _encoder_of(options: argparse.Namespace):
    def make(index: "Index") -> "Encoder":
        from hybridhash_jax.retrieval.search.query_codes import make_encoder

        return make_encoder(index, options.workdir)

    return make


def _settings(options: argparse.Namespace, own: Sequence[str], *, local: bool) -> "Settings":
    from hybridhash_jax.retrieval.service.settings import Settings
    from hybridhash_jax.retrieval.service.web.access import read_token

    token = read_token(options.token_file) if options.token_file else None
    if not (local or token or options.insecure):
        raise DataError(f"--host={options.host} can be reached by other machines: give --token_file=FILE, so that only those who know the token may ask, or --insecure where something else sees to that")  # fmt: skip
    # Whoever must show a token need not be told apart by the name that they use; and on an address
    # that others reach, this server's names are known only where they are given.
    named = not token and (local or options.served_as)
    hosts = dict.fromkeys((*_LOOPBACK_NAMES, *own, *options.served_as)) if named else ()
    return Settings(
        index=options.index,
        workdir=options.workdir,
        originals=options.originals,
        token=token,
        hosts=tuple(hosts),
        origins=tuple(options.cors),
        seconds=options.timeout,
    )


def _check_originals(options: argparse.Namespace, index: "Index") -> None:
    if options.originals and (index.root is None or not index.root.is_dir()):
        where = "knows no folder of its images" if index.root is None else f"has its images in {shown(index.root)}, which is not there"  # fmt: skip
        raise DataError(f"{shown(options.index)} {where}: leave out --originals, or note where they are with hybridhash index move {shown(options.index)} FOLDER")  # fmt: skip


def _check_installed() -> None:
    try:
        import fastapi  # noqa: F401
        import httptools  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise DataError(f"{error.name} is not installed, which the service needs: pip install -r requirements-serve.txt") from error  # fmt: skip


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("hybridhash_jax.retrieval.service", __doc__, _EXAMPLES)
    parser.prog = "hybridhash serve"
    add = parser.add_argument
    add("--index", required=True, type=local_path, metavar="INDEX", help="the index, a folder that hybridhash encode made")  # fmt: skip
    add("--workdir", type=local_path, metavar="RUN", help="where the run is that encoded the index, if it has moved")  # fmt: skip
    add("--originals", action="store_true", help="also serve the image files themselves")
    add("--timeout", type=float, default=10.0, metavar="SECONDS", help="that a request may take (default 10)")  # fmt: skip
    group = parser.add_argument_group("who may ask")
    add = group.add_argument
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (default 127.0.0.1, this machine alone)")  # fmt: skip
    add("--port", type=int, default=8000, help="default 8000; 0 takes one that is free")
    add("--token_file", type=local_path, metavar="FILE", help="a file with the token that requests must show, which only you can read")  # fmt: skip
    add("--insecure", action="store_true", help="listen on any address without a token")
    add("--served_as", action="append", type=_server_name, default=[], metavar="NAME", help="a name under which a proxy passes requests on; may be repeated")  # fmt: skip
    add("--cors", action="append", default=[], metavar="ORIGIN", help="another origin whose pages may ask, such as https://example.org; may be repeated")  # fmt: skip
    options = parser.parse_args(arguments)
    if not 0 <= options.port < 65536:
        parser.error(f"--port={options.port}; give 0 to 65535")
    if not 0 < options.timeout <= 3600:
        parser.error(f"--timeout={options.timeout:g}; give seconds, more than 0, at most 3600")
    for origin in options.cors:
        if not _is_origin(origin):
            parser.error(f"--cors={origin}; give an origin without a path, such as https://example.org")  # fmt: skip
    return options


def _server_name(text: str) -> str:
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(text))
    if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", text):
        raise argparse.ArgumentTypeError(
            f"{text!r}; give a name alone, such as pictures.example.org, without https:// and port"
        )
    return text


def _is_origin(text: str) -> bool:
    scheme, _, rest = text.partition("://")
    return scheme in ("http", "https") and bool(rest) and "/" not in rest and "*" not in rest


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
