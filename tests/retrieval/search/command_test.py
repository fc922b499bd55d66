"""`hybridhash search`: what it prints and writes, and its exit codes."""

import csv
import io
import json
import os
from pathlib import Path

import pytest

from hybridhash_jax.retrieval import Encoder
from hybridhash_jax.retrieval.encoding.errors import EncoderError
from hybridhash_jax.retrieval.index import create_index, open_index
from hybridhash_jax.retrieval.search.command import main
from tests.report.report_html import Page
from tests.retrieval.search.pictured import ODD, FakeEncoder, make_index, picture


@pytest.fixture(autouse=True)
def needs_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(Encoder, "from_index", lambda index: FakeEncoder())
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def index(tmp_path):
    return make_index(tmp_path)


@pytest.fixture
def blue(tmp_path):
    return picture(tmp_path / "blue.png", (0, 0, 255))


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_text(index, blue, capsys):
    assert run(f"--index={index}", blue, "--k=2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{blue}: 2 of 5 images, codes of 24 bits",
        "  rank  distance  path       label",
        "     1         0  sea/1.png  sea",
        "     2         1  sea/2.png  sea",
        "  1 more image is at distance 1, too; of equal ones the first in the index are shown",
    ]


def test_text_escapes_names_and_lines_them_up(index, capsys):
    assert run(f"--index={index}", f"--name={ODD}", "--k=3", "--where=label=sea") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6  # the last one tells of a tie
    assert lines[0].startswith("sea/a,\\n\\xff.png: 3 of 4 images")
    assert len({line.rindex("sea") for line in lines[2:5]}) == 1


def test_text_escapes_labels_once(tmp_path, capsys):
    index = make_index(tmp_path, {"caf\udce9/1.png": (0, 0, 1)})
    assert run(f"--index={index}", "--name=caf\udce9/1.png") == 0
    assert r"  caf\xe9/1.png  caf\xe9" in capsys.readouterr().out


def test_radius_alone_gives_all_within_it_and_none_is_said(index, blue, capsys):
    assert run(f"--index={index}", blue, "--radius=1") == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert run(f"--index={index}", blue, "--radius=3", "--where", "label=wood") == 0
    assert capsys.readouterr().out == f"{blue}: none of 1 image within distance 3\n"


def test_more_than_ten_within_a_radius(tmp_path, capsys):
    index = make_index(tmp_path, {f"{n}.png": (0, 0, n) for n in range(12)})
    for arguments, found in ((["--radius=24"], 12), ([], 10), (["--radius=24", "--k=3"], 3)):
        assert run(f"--index={index}", "--name=1.png", *arguments) == 0
        assert f"{found} of 12 images" in capsys.readouterr().out


def test_json(index, blue, capsys):
    assert run(f"--index={index}", blue, "--name", ODD, "--k=1", "--format=json") == 0
    text = capsys.readouterr().out
    content = json.loads(text)
    assert list(content) == sorted(content)
    assert content["index"]["images"] == content["index"]["searched"] == 5
    assert content["index"]["fingerprint"] == "abcd"
    first, second = content["queries"]
    assert first == {
        "query": str(blue), "row": None, "error": None, "exact": True, "at_last": 1, "left_out": 0,
        "found": [{"rank": 1, "row": 0, "path": "sea/1.png", "distance": 0, "label": "sea",
                   "width": 16, "height": 12}],
    }  # fmt: skip
    assert second["row"] == 4
    assert os.fsencode(second["found"][0]["path"]) == os.fsencode(ODD)


def test_csv_has_the_names_as_they_are(index, blue, capfdbinary, tmp_path):
    asked = (f"--index={index}", blue, f"--name={ODD}", "--format=csv")
    assert run(*asked, f"--output={tmp_path / 'found.csv'}") == 0
    assert b"2 queries answered with 10 images of 5\n" in capfdbinary.readouterr().out
    data = (tmp_path / "found.csv").read_bytes()
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")))
    assert len(rows) == 10
    assert rows[5] == {"query": ODD, "rank": "1", "distance": "0", "path": ODD, "label": "sea",
                       "row": "4", "width": "16", "height": "12"}  # fmt: skip


def test_csv_on_standard_output_is_that_of_a_file(index, capfdbinary, tmp_path):
    asked = (f"--index={index}", f"--name={ODD}", "--format=csv")
    assert run(*asked, f"--output={tmp_path / 'found.csv'}") == 0
    capfdbinary.readouterr()
    assert run(*asked) == 0
    assert capfdbinary.readouterr().out == (tmp_path / "found.csv").read_bytes()


def test_a_folder_is_many_queries_and_bad_ones_are_listed_at_the_end(index, blue, capsys):
    folder = blue.parent / "queries"
    picture(folder / "b/1.png", (0, 255, 0))
    (folder / "a.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("")
    assert run(f"--index={index}", folder, "gone.png", blue, "--k=1") == 1
    out, err = capsys.readouterr()
    heads = [line.partition(": 1 of")[0] for line in out.splitlines() if ": 1 of" in line]
    assert heads == [str(folder / "b/1.png"), str(blue)]
    assert f"{folder / 'a.jpg'}: not an image" in err
    assert "error: gone.png: there is no such file\n" in err


def test_failed_queries_are_in_json(index, capsys):
    assert run(f"--index={index}", "gone.png", "--format=json") == 1
    (query,) = json.loads(capsys.readouterr().out)["queries"]
    assert (query["error"], query["found"]) == ("there is no such file", [])


def test_page(tmp_path, blue, capsys):
    index = make_index(tmp_path, thumbnails=True)
    (tmp_path / "gone.jpg").write_bytes(b"")
    page = tmp_path / "found.html"
    asked = (f"--index={index}", blue, tmp_path / "gone.jpg", f"--html={page}", "--k=2")
    assert run(*asked) == 1
    assert f"page: {page}" in capsys.readouterr().out
    found = Page(page.read_text())
    pictures = found.named("img")
    assert [one.attributes["alt"] for one in pictures[1:]] == ["sea/1.png (sea)", "sea/2.png (sea)"]
    kept = "data:image/jpeg;base64,/9h0aHVtYm5haWw="  # that of the index, not made anew
    assert [one.attributes["src"] == kept for one in pictures] == [False, True, True]
    assert "1 more image at distance 1" in found.text
    assert "the file is empty" in found.text
    assert not found.named("script")


def test_a_page_of_files_without_thumbnails_and_of_lost_files(index, tmp_path):
    (tmp_path / "images/sea/2.png").unlink()
    page = tmp_path / "found.html"
    assert run(f"--index={index}", "--name=sea/1.png", f"--html={page}", "--k=3") == 0
    found = Page(page.read_text())
    assert [one.attributes["alt"] for one in found.named("img")] == [
        "sea/1.png (query)", "sea/1.png (sea)", "sea/3.png (sea)",
    ]  # fmt: skip
    assert len(found.of_class("tile")) == 1


def test_names_on_the_page_are_escaped(tmp_path):
    name = '"><b>&.png'
    index = make_index(tmp_path, {name: (1, 2, 3)})
    page = tmp_path / "found.html"
    assert run(f"--index={index}", f"--name={name}", f"--html={page}") == 0
    found = Page(page.read_text())
    assert not found.named("b")
    assert name in [one.attributes.get("title") for one in found.elements]


def test_damage_is_said_in_all_outputs(index, tmp_path, blue, capsys):
    with open_index(index) as opened:
        name = opened.segments[1].name
    (index / "segments" / name).unlink()
    page = tmp_path / "found.html"
    assert run(f"--index={index}", "--name=sea/1.png", f"--html={page}", "--format=json") == 0
    out, err = capsys.readouterr()
    assert name in err and name in page.read_text()
    content = json.loads(out)
    assert name in content["warnings"][0]
    assert content["index"]["searched"] == 4
    for file in (index / "segments").glob("*.codes"):
        file.unlink()
    assert run(f"--index={index}", blue) == 1
    assert "has nothing to search: 5 damaged files in" in capsys.readouterr().err


def test_what_is_no_index_or_has_no_images(tmp_path, blue, capsys):
    assert run(f"--index={tmp_path / 'none'}", blue) == 1
    assert "none is no index" in capsys.readouterr().err.replace("is not there", "is no index")
    create_index(tmp_path / "empty", FakeEncoder().model, None)
    assert run(f"--index={tmp_path / 'empty'}", blue) == 1
    assert "holds no images; fill it with hybridhash encode" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["sea/1.png", "top.png"], "its labels are: sea; label= finds images without a label"),
        (["top.png"], "has label=(none); label= finds images without a label"),
    ],
)
def test_images_without_a_label_are_asked_for_as_the_message_says(tmp_path, capsys, names, told):
    index = make_index(tmp_path, {name: (0, 0, place) for place, name in enumerate(names)})
    asked = [f"--index={index}", "--name=top.png", "--format=csv"]
    assert run(*asked, "--where", "label=(none)") == 1
    assert capsys.readouterr().err.endswith(f"{told}\n")
    assert run(*asked, "--where", "label=") == 0
    assert [line.split(",")[3] for line in capsys.readouterr().out.splitlines()[1:]] == ["top.png"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--name=1.pgn"], "has no image 1.pgn"),
        (["--name=sea/1.png", "--radius=25"], "give 0 to 24"),
        (["--name=sea/1.png", "--where=label=see"], "its labels are: sea, wood"),
        (["--name=sea/1.png", "--where=size=3"], "label or path"),
        (["--name=sea/1.png", "label=sea"], "give each condition its own --where"),
        (["{folder}"], "has no images but 1 file that is no image by its name"),
    ],
)
def test_errors_are_one_line(index, tmp_path, capsys, arguments, part):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("")
    arguments = [one.format(folder=tmp_path / "texts") for one in arguments]
    assert run(f"--index={index}", *arguments) == 1
    err = capsys.readouterr().err
    assert part in err
    assert err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "nothing to search for"),
        (["x", "--k=0"], "--k=0; give 1 or more"),
        (["x", "--radius=-1"], "--radius=-1; give 0 or more"),
        (["x", "--where=label"], "KEY=VALUE"),
        (["x", "--html=/nowhere/x.html"], "cannot be written"),
    ],
)
def test_usage(index, capsys, arguments, part):
    with pytest.raises(SystemExit) as exit:
        run(f"--index={index}", *arguments)
    assert exit.value.code == 2
    assert part in capsys.readouterr().err


def test_the_run_may_have_moved(index, tmp_path, blue, capsys, monkeypatch):
    def from_workdir(path, checkpoint):
        assert checkpoint == "selected"
        if path != str(tmp_path):
            raise EncoderError(f"{path} is no folder")
        return FakeEncoder()

    monkeypatch.setattr(Encoder, "from_workdir", from_workdir)
    assert run(f"--index={index}", blue, f"--workdir={tmp_path}") == 0
    assert run(f"--index={index}", blue, "--workdir=elsewhere") == 1
    assert "elsewhere is no folder" in capsys.readouterr().err


def test_a_page_on_standard_output_has_a_name(index, blue, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(f"--index={index}", blue, "--html=-")
    assert "--html=-; give the name of a file" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--html", "--output"])
def test_an_answer_does_not_replace_an_image(index, blue, option, capsys):
    before = Path(blue).read_bytes()
    with pytest.raises(SystemExit, match="2"):
        run(f"--index={index}", blue, f"{option}={blue}")
    assert "is an image, which would be lost" in capsys.readouterr().err
    assert Path(blue).read_bytes() == before


def test_two_outputs_are_two_files_and_a_pipe_is_no_image(index, tmp_path, capsys):
    file = tmp_path / "x"
    with pytest.raises(SystemExit, match="2"):
        run(f"--index={index}", "--name=sea/1.png", f"--html={file}", f"--output={file}")
    assert "--output and --html name one file" in capsys.readouterr().err
    os.mkfifo(tmp_path / "pipe.png")
    assert run(f"--index={index}", tmp_path / "pipe.png") == 1
    assert "no regular file" in capsys.readouterr().err
    assert run(f"--index={index}", "--name=./sea/1.png", "--output=-") == 0
    assert "sea/1.png" in capsys.readouterr().out


def test_files_may_be_written_to_the_home_folder(index, blue, tmp_path):
    (tmp_path / "home").mkdir()
    assert run(f"--index={index}", blue, "--output=~/found.txt", "--html=~/found.html") == 0
    written = {path.name for path in (tmp_path / "home").iterdir()}
    assert written >= {"found.txt", "found.html"}
