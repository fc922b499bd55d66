"""What the command says where it cannot serve."""

import json
import socket
import stat
import subprocess
import sys

import pytest
from starlette.testclient import TestClient

from hybridhash_jax.retrieval.index import open_writer
from hybridhash_jax.retrieval.service import command
from hybridhash_jax.retrieval.service.web import server
from hybridhash_jax.retrieval.service.web.access import read_token
from input_pipeline.errors import DataError
from tests.retrieval.search.pictured import COLOURS, make_index


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_index(tmp_path_factory.mktemp("commanded"))


def error_of(capsys, *options) -> str:
    """The one line that a command which cannot serve prints."""
    assert command.main([*map(str, options)]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1, captured
    return captured.err


def test_a_missing_index(capsys, tmp_path):
    error = error_of(capsys, f"--index={tmp_path / 'none.idx'}", "--port=0")
    assert "none.idx" in error


def test_a_port_in_use(capsys, index):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        error = error_of(capsys, f"--index={index}", f"--port={port}")
    assert f"port {port} of 127.0.0.1 is in use" in error and "--port=0" in error


def test_other_machines_may_ask_only_with_a_token(capsys, index):
    error = error_of(capsys, f"--index={index}", "--host=0.0.0.0", "--port=0")
    assert "--token_file" in error and "--insecure" in error
    assert "no such address" in error_of(capsys, f"--index={index}", "--host=no.such.name.invalid")


@pytest.mark.parametrize(
    ("options", "answered"),
    [
        ([], {"localhost"}),
        (["--host=127.0.0.2"], {"localhost", "127.0.0.2"}),
        (["--served_as=a.example"], {"localhost", "a.example"}),
        (["--host=0.0.0.0", "--insecure"], {"localhost", "127.0.0.2", "a.example", "b.example"}),
        (["--host=0.0.0.0", "--insecure", "--served_as=a.example"], {"localhost", "a.example"}),
    ],
)
def test_by_which_names_it_can_be_asked(index, options, answered, monkeypatch):
    found = set()

    def ask_instead(app, sockets, seconds):
        client = TestClient(app)
        for host in ("localhost", "127.0.0.2", "a.example", "b.example"):
            if client.get("/v1/index", headers={"host": host}).status_code == 200:
                found.add(host)
        for one in sockets:
            one.close()

    monkeypatch.setattr(server, "serve", ask_instead)
    assert command.main([f"--index={index}", "--port=0", *options]) == 0
    assert found == answered


@pytest.mark.parametrize("name", ["", "https://a.example", "a.example:443", "a b"])
def test_what_no_request_can_name_is_refused(index, name, capsys):
    with pytest.raises(SystemExit):
        command.main([f"--index={index}", f"--served_as={name}"])
    assert "give a name alone" in capsys.readouterr().err


def test_which_addresses_are_this_machine_alone():
    for host in ("127.0.0.1", "127.9.9.9", "::1"):
        assert server.is_loopback(server.addresses_of(host, 0))
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        assert not server.is_loopback(server.addresses_of(host, 0))


def test_an_address_of_another_machine(capsys, index):
    error = error_of(capsys, f"--index={index}", "--host=192.0.2.1", "--port=0", "--insecure")
    assert "no address 192.0.2.1" in error


def test_a_token_file(tmp_path):
    file = tmp_path / "token"
    with pytest.raises(DataError, match="cannot be read"):
        read_token(file)
    file.write_text("0123456789abcdef\n")
    for mode in (0o644, 0o640, 0o602):
        file.chmod(mode)
        with pytest.raises(DataError, match=f"by others .mode {mode:o}.; run chmod 600"):
            read_token(file)
    file.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert read_token(file) == "0123456789abcdef"
    for text in ("", "short", "two words of a token", "0123456789abcdéf", "a" * 16 + "\n" + "b"):
        file.write_text(text)
        with pytest.raises(DataError, match="holds no token") as caught:
            read_token(file)
        assert not text or text not in str(caught.value)


def test_originals_that_are_not_there(capsys, tmp_path):
    index = make_index(tmp_path)
    (tmp_path / "images").rename(tmp_path / "moved")
    error = error_of(capsys, f"--index={index}", "--originals", "--port=0")
    assert "leave out --originals" in error and "hybridhash index move" in error
    header = json.loads((index / "index.json").read_text()) | {"root": None}
    (index / "index.json").write_text(json.dumps(header))
    assert "knows no folder" in error_of(capsys, f"--index={index}", "--originals", "--port=0")


def test_a_network_that_is_not_to_be_had(capsys, tmp_path, monkeypatch):
    """The service begins, for rows need no network, and ends with the reason."""
    message = "the run is gone; give where it is now: --workdir=RUN"

    def fail(index):
        raise DataError(message)

    monkeypatch.setattr(command, "_encoder_of", lambda options: fail)
    assert command.main([f"--index={make_index(tmp_path)}", "--port=0"]) == 1
    captured = capsys.readouterr()
    assert captured.err == f"error: {message}\n" and f"{len(COLOURS)} images" in captured.out


def test_what_is_damaged_is_told(capsys, tmp_path, monkeypatch):
    index = make_index(tmp_path)
    with open_writer(index) as writer:
        name = writer.index.segments[0].name
    (index / "segments" / name).write_bytes(b"damaged!")
    monkeypatch.setattr(server, "bind", lambda addresses: [])
    monkeypatch.setattr(server, "serve", lambda *_: None)
    assert command.main([f"--index={index}", "--port=0"]) == 0
    assert "damaged" in capsys.readouterr().err


def test_an_extra_that_is_not_installed(capsys, index, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    error = error_of(capsys, f"--index={index}")
    assert "pip install -r requirements-serve.txt" in error and "uvicorn" in error


@pytest.mark.parametrize(
    "option", ["--port=70000", "--timeout=0", "--cors=*", "--cors=https://a.example/page", "--k=1"]
)
def test_wrong_usage(capsys, index, option):
    with pytest.raises(SystemExit) as caught:
        command.main([f"--index={index}", option])
    assert caught.value.code == 2 and option.partition("=")[0] in capsys.readouterr().err


def test_its_help_loads_neither_the_framework_nor_jax():
    program = (
        "import sys; from hybridhash_jax.retrieval.service import command; "
        "print([name for name in ('fastapi', 'jax', 'uvicorn') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout == "[]\n", found
