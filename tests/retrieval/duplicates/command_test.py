"""`hybridhash duplicates`: over folders and indexes, what it prints and writes, its exit codes."""

import base64
import csv
import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from hybridhash_jax.retrieval.duplicates.accepted import default_file
from hybridhash_jax.retrieval.duplicates.command import main
from hybridhash_jax.retrieval.encoding import folder as encoding
from hybridhash_jax.retrieval.encoding import making
from hybridhash_jax.retrieval.encoding.request import Request
from hybridhash_jax.retrieval.index import Entry, Model, create_index, open_writer
from input_pipeline.near_duplicates.hashing import perceptual_hash
from tests.input_pipeline.near_duplicates.scenes import crop, scene
from tests.retrieval.encoding.fakes import FakeEncoder


def save(path: Path, picture: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, "png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten scenes; 0 is there again smaller and mirrored, and a crop of 1."""
    place = tmp_path / "pictures"
    for seed in range(10):
        save(place / f"{seed}.png", scene(seed))
    save(place / "copies" / "small.png", scene(0).resize((120, 90)))
    save(place / "copies" / "mirrored.png", ImageOps.mirror(scene(0)))
    save(place / "copies" / "part.png", crop(scene(1), 0.8, 0.5, 0.5))
    return place


def printed(capfdbinary, *arguments: str, code: int = 0) -> bytes:
    assert main([*arguments, "--num_workers=2"]) == code
    return capfdbinary.readouterr().out


def paths(content: dict) -> set[frozenset[str]]:
    return {frozenset(one["path"] for one in group["images"]) for group in content["groups"]}


EXPECTED = {
    frozenset({"0.png", "copies/small.png", "copies/mirrored.png"}),
    frozenset({"1.png", "copies/part.png"}),
}


def test_groups_of_a_folder_as_text(folder, capfdbinary):
    text = printed(capfdbinary, str(folder)).decode()
    assert f"13 images in {folder}: 2 groups of near-duplicates with 5 images" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["copies/small.png", "120", "x", "90"] in [line[:4] for line in lines]
    assert any(line[-1] == "mirrored" for line in lines if line)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["pictures"]
    assert len(list(folder.rglob("*.png"))) == 13  # nothing is deleted


def test_json_has_groups_and_pairs(folder, capfdbinary):
    content = json.loads(printed(capfdbinary, str(folder), "--format=json"))
    assert paths(content) == EXPECTED
    assert len(content["pairs"]) == 4 and content["first"]["images"] == 13
    part = next(pair for pair in content["pairs"] if pair["second"] == "copies/part.png")
    assert part["first"] == "1.png" and part["relation"] == "cropped" and part["similarity"] > 0.84


def test_members_are_told_by_what_they_are_to_the_first(tmp_path, capfdbinary):
    place = tmp_path / "parts"
    save(place / "whole.png", scene(1))
    save(place / "a.png", crop(scene(1), 0.7, 0, 0))
    save(place / "b.png", crop(scene(1), 0.7, 1, 1))  # shares little with a.png
    content = json.loads(printed(capfdbinary, str(place), "--format=json"))
    (group,) = content["groups"]
    told = [(one["path"], one["relation"]) for one in group["images"]]
    assert told == [("whole.png", ""), ("a.png", "cropped"), ("b.png", "cropped")]


def test_views_and_radius_decide_what_is_found(folder, capfdbinary):
    plain = json.loads(printed(capfdbinary, str(folder), "--format=json", "--view=plain"))
    assert paths(plain) == {frozenset({"0.png", "copies/small.png"})}
    turned = json.loads(printed(capfdbinary, str(folder), "--format=json", "--view=dihedral"))
    assert paths(turned) == {next(iter(group for group in EXPECTED if len(group) == 3))}


def test_csv_keeps_names_byte_for_byte(tmp_path, capfdbinary):
    place = tmp_path / "odd"
    names = [b'comma, "quote"\n.png', b"\xff\xfe.png"]
    for name in names:
        save(place / "x.png", scene(0))
        os.rename(place / "x.png", os.path.join(os.fsencode(place), name))
    data = printed(capfdbinary, str(place), "--format=csv")
    rows = list(csv.reader(io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")))
    assert rows[0] == ["group", "first", "second", "similarity", "distance", "relation"]
    assert [os.fsencode(name) for name in rows[1][1:3]] == names
    assert rows[1][5] == "equal" and len(rows) == 2
    text = printed(capfdbinary, str(place)).decode()
    assert '  comma, "quote"\\n.png  ' in text and "  \\xff\\xfe.png  " in text


def test_output_and_page_are_written(folder, tmp_path, capfdbinary):
    page, output = tmp_path / "page.html", tmp_path / "found.json"
    out = printed(
        capfdbinary, str(folder), f"--html={page}", f"--output={output}", "--format=json"
    ).decode()
    assert str(page) in out and str(output) in out and "2 groups" in out
    assert paths(json.loads(output.read_bytes())) == EXPECTED
    html = page.read_text()
    assert html.count("data:image/") == 5 and "copies/" in html and "mirrored" in html


def test_against_another_folder_only_pairs_between_the_two_count(folder, tmp_path, capfdbinary):
    queries = tmp_path / "queries"
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 77)):
        save(queries / name, scene(seed).resize((100, 75)))
    content = json.loads(
        printed(capfdbinary, str(queries), f"--against={folder}", "--format=json", "--view=plain")
    )
    assert {(pair["first"], pair["second"]) for pair in content["pairs"]} == {
        ("a.png", "1.png"),
        ("b.png", "1.png"),
    }
    images = content["groups"][0]["images"]
    assert {(one["path"], one["against"]) for one in images} == {
        ("a.png", False),
        ("b.png", False),
        ("1.png", True),
    }


def test_fail_if_found_exits_3_until_all_is_accepted(folder, capfdbinary):
    fail = (str(folder), "--fail_if_found", "--format=json")
    content = json.loads(printed(capfdbinary, *fail, code=3))
    first = content["groups"][0]["id"]
    assert b"1 group accepted in" in printed(capfdbinary, str(folder), f"--accept={first}")
    content = json.loads(printed(capfdbinary, *fail, code=3))
    assert len(content["groups"]) == 1 and content["accepted_pairs"] == 3
    printed(capfdbinary, str(folder), "--accept=all", "--fail_if_found")
    assert json.loads(printed(capfdbinary, *fail))["groups"] == []
    assert (folder.parent / "pictures.accepted.json").is_file()


def test_accepted_groups_come_back_with_what_is_new(folder, capfdbinary):
    printed(capfdbinary, str(folder), "--accept=all")
    save(folder / "again.png", scene(0).convert("L"))
    content = json.loads(printed(capfdbinary, str(folder), "--format=json"))
    assert all("again.png" in (pair["first"], pair["second"]) for pair in content["pairs"])
    assert len(content["groups"]) == 1
    # Another image under an accepted name is not the one that was accepted.
    (folder / "again.png").unlink()
    save(folder / "copies" / "part.png", crop(scene(5), 0.9, 0.5, 0.5))
    content = json.loads(printed(capfdbinary, str(folder), "--format=json"))
    assert paths(content) == {frozenset({"5.png", "copies/part.png"})}


def test_an_index_gives_the_groups_of_its_folder(folder, tmp_path, capfdbinary):
    index = make_index(tmp_path / "pictures.idx", folder)
    content = json.loads(printed(capfdbinary, str(index), "--format=json"))
    assert paths(content) == EXPECTED
    sizes = {one["path"]: one["width"] for group in content["groups"] for one in group["images"]}
    assert sizes["0.png"] == 200  # of the image, not of its thumbnail
    for file in folder.rglob("*.png"):
        file.unlink()  # thumbnails are enough
    assert paths(json.loads(printed(capfdbinary, str(index), "--format=json"))) == EXPECTED


def test_an_index_without_thumbnails_reads_the_files(folder, tmp_path, capfdbinary):
    index = make_index(tmp_path / "pictures.idx", folder, thumbnails=False)
    assert paths(json.loads(printed(capfdbinary, str(index), "--format=json"))) == EXPECTED
    (folder / "1.png").unlink()
    content = json.loads(printed(capfdbinary, str(index), "--format=json"))
    assert [one["path"] for one in content["first"]["unreadable"]] == ["1.png"]


def test_an_index_without_hashes_is_refused(folder, tmp_path, capsys):
    index = make_index(tmp_path / "pictures.idx", folder, hashes=False)
    assert main([str(index)]) == 1
    error = capsys.readouterr().err
    assert "no perceptual hashes" in error and "give the folder" in error


def test_unreadable_images_are_told_and_left_out(folder, capfdbinary):
    (folder / "bad.png").write_bytes(b"nothing")
    assert main([str(folder), "--format=json"]) == 0
    out, err = capfdbinary.readouterr()
    assert b"left out: bad.png: " in err
    content = json.loads(out)
    assert paths(content) == EXPECTED and content["first"]["unreadable"][0]["path"] == "bad.png"


def save_deep(path: Path, seed: int) -> None:
    """A scene of 16 bits a pixel, none of them below 256."""
    Image.fromarray((np.asarray(scene(seed).convert("L"), np.uint16) + 2) * 200).save(path)


def test_different_images_that_cut_levels_make_white_are_not_called_equal(
    folder, tmp_path, capfdbinary
):
    names = ["deep5.png", "deep6.png"]
    for name in names:
        save_deep(folder / name, int(name[4]))
    index = make_index(tmp_path / "pictures.idx", folder)
    for place in (str(folder), str(index)):
        assert main([place, "--format=json"]) == 0
        out, err = capfdbinary.readouterr()
        content = json.loads(out)
        assert paths(content) == EXPECTED
        assert [one["path"] for one in content["first"]["unreadable"]] == names
        assert b"left out: deep5.png: its grey levels are of more than 8 bits" in err
    assert b"5 images; 2 images left out" in printed(capfdbinary, str(folder))


def test_a_folder_that_cannot_be_read_is_told_and_the_others_are_compared(
    folder, monkeypatch, capfdbinary
):
    closed, scandir, stat = [str(folder / "copies")], os.scandir, os.stat

    def listed(place):
        if str(place) in closed:
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    def looked_at(place, **options):
        if os.path.dirname(str(place)) in closed:
            raise PermissionError(13, "Permission denied", str(place))
        return stat(place, **options)

    monkeypatch.setattr(os, "scandir", listed)
    monkeypatch.setattr(os, "stat", looked_at)
    save(folder / "again.png", scene(0))
    assert main([str(folder), "--format=json"]) == 0
    out, err = capfdbinary.readouterr()
    assert paths(json.loads(out)) == {frozenset({"0.png", "again.png"})}
    assert err.decode() == "warning: the folder copies is left out: Permission denied\n"
    closed.append(str(folder))
    assert main([str(folder)]) == 1
    assert (
        f"cannot read the folder {folder} (Permission denied)"
        in capfdbinary.readouterr().err.decode()
    )


def test_an_index_that_lost_its_header_is_called_no_folder_of_images(folder, tmp_path, capfdbinary):
    index = make_index(tmp_path / "pictures.idx", folder)
    (index / "index.json").unlink()
    assert main([str(index)]) == 1
    assert "is no index: it is a folder without index.json" in capfdbinary.readouterr().err.decode()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["{tmp}/nothing"], "is neither a folder of images nor an index"),
        (["{tmp}/empty"], "has no image files"),
        (["{folder}", "--accept=12345678"], "there is no group '12345678'"),
        (["{folder}", "--accepted={tmp}/other.json"], "is no list of accepted groups"),
    ],
)
def test_mistakes_are_told_in_one_line(folder, tmp_path, capsys, arguments, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.json").write_text("[1]")
    given = [one.format(tmp=tmp_path, folder=folder) for one in arguments]
    assert main([*given, "--view=plain"]) == 1
    error = capsys.readouterr().err.strip()
    assert words in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    "option",
    [
        "--radius=40",
        "--similarity=2",
        "--num_workers=0",
        "--html=/nowhere/x.html",
        "--against=",
        "--accept=,",
    ],
)
def test_values_that_make_no_sense_are_usage_errors(folder, option, capsys):
    with pytest.raises(SystemExit) as ended:
        main([str(folder), option])
    assert ended.value.code == 2 and option.split("=")[0] in capsys.readouterr().err


def test_the_list_of_accepted_groups_is_never_overwritten(folder, capfdbinary):
    printed(capfdbinary, str(folder), "--accept=all")
    for name in ("output", "html"):
        with pytest.raises(SystemExit):
            main([str(folder), f"--{name}={folder.parent / 'pictures.accepted.json'}"])
        error = capfdbinary.readouterr().err.decode()
        assert f"--{name}=" in error and "notes the accepted groups" in error
    with pytest.raises(SystemExit):
        main([str(folder), "--accept=all", f"--html={folder.parent / 'x.html'}"])
    assert "--accept writes no results" in capfdbinary.readouterr().err.decode()


def test_the_root_of_the_disk_has_a_list_of_its_own():
    assert default_file("/") == Path("/.accepted.json")


def test_where_nothing_can_be_read_nothing_was_found_to_be_different(folder, tmp_path, capfdbinary):
    index = make_index(tmp_path / "pictures.idx", folder, thumbnails=False)
    folder.rename(tmp_path / "elsewhere")
    for places in ([str(index), f"--against={tmp_path}/elsewhere"], [str(index)]):
        assert main([*places, "--fail_if_found"]) == 1
        assert b"none of 13 images of" in capfdbinary.readouterr().err


def test_a_link_is_no_duplicate_of_what_it_leads_to(folder, capfdbinary):
    (folder / "9link.png").symlink_to(folder / "9.png")
    assert paths(json.loads(printed(capfdbinary, str(folder), "--format=json"))) == EXPECTED


def make_index(path: Path, root: Path, *, hashes: bool = True, thumbnails: bool = True) -> Path:
    model = Model("ab" * 16, 8, "a test", "float32", "cpu", {})
    create_index(path, model, root)
    files = sorted(root.rglob("*.png"))
    pictures = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    entries = [
        Entry(os.fsencode(file.relative_to(root)), 1, 1, x.shape[1], x.shape[0])
        for file, x in zip(files, pictures, strict=True)
    ]
    with open_writer(path) as writer:
        writer.add(
            entries,
            np.zeros((len(files), 1), np.uint8),
            np.array([perceptual_hash(x) for x in pictures]) if hashes else None,
            [jpeg_thumbnail(x) for x in pictures] if thumbnails else None,
        )
    return path


def jpeg_thumbnail(pixels: np.ndarray) -> bytes:
    picture, content = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail((160, 160))
    picture.save(content, "jpeg", quality=85)
    return content.getvalue()


def test_a_file_on_both_sides_is_no_duplicate_of_itself(folder, capfdbinary):
    both = printed(capfdbinary, str(folder), f"--against={folder}", "--format=json")
    pairs = json.loads(both)["pairs"]
    assert pairs
    assert not [pair for pair in pairs if pair["first"] == pair["second"]]


def test_what_is_accepted_in_a_folder_or_against_one_is_still_told_against_another(
    tmp_path, capfdbinary
):
    queries, databases = tmp_path / "queries", [tmp_path / "one", tmp_path / "two"]
    save(queries / "a.png", scene(0))
    save(queries / "b.png", scene(0).resize((120, 90)))
    for database in databases:
        save(database / "a.png", scene(0))  # the same name and content on the other side
    options = ("--fail_if_found", "--view=plain")
    against = [(str(queries), f"--against={database}", *options) for database in databases]
    printed(capfdbinary, str(queries), "--accept=all")
    for arguments in against:
        assert b"1 group of near-duplicates" in printed(capfdbinary, *arguments, code=3)
    printed(capfdbinary, *against[0], "--accept=all")
    assert b"2 accepted pairs not shown" in printed(capfdbinary, *against[0])
    printed(capfdbinary, *against[1], code=3)
    assert b"1 accepted pair not shown" in printed(capfdbinary, str(queries), *options)


def test_groups_that_an_earlier_version_accepted_are_read(tmp_path, capfdbinary):
    place = tmp_path / "pictures"
    for name in ("a.png", "b.png"):
        save(place / name, scene(0))
    hash_ = f"{perceptual_hash(np.asarray(scene(0).convert('RGB'))):016x}"
    groups = [[["a.png", hash_], ["b.png", hash_]]]
    file = tmp_path / "pictures.accepted.json"
    file.write_text(json.dumps({"format": 1, "groups": groups}))
    assert b"1 accepted pair not shown" in printed(capfdbinary, str(place), "--fail_if_found")
    save(place / "c.png", scene(0))
    printed(capfdbinary, str(place), "--accept=all")
    assert json.loads(file.read_bytes())["groups"][0] == groups[0]


def test_equal_images_of_two_sides_are_told_so_and_stay_in_one_group(tmp_path, capfdbinary):
    queries, database = tmp_path / "queries", tmp_path / "database"
    save(queries / "a.png", scene(0))
    save(queries / "a again.png", scene(0))
    save(queries / "small.png", scene(0).resize((120, 90)))
    save(database / "b.png", scene(0))
    arguments = (str(queries), f"--against={database}", "--format=json", "--view=plain")
    (group,) = json.loads(printed(capfdbinary, *arguments))["groups"]
    told = [(one["path"], one["relation"]) for one in group["images"]]
    # small.png is paired with b.png alone, which the founder equals.
    assert told == [
        ("a again.png", ""), ("a.png", "equal"), ("b.png", "equal"), ("small.png", "same view"),
    ]  # fmt: skip
    similarities = [one["similarity"] for one in group["images"]]
    assert similarities[:3] == [1, 1, 1] and 0.84 < similarities[3] < 1


def test_a_turned_photograph_is_found_in_an_index_of_a_run_that_does_not_turn(
    tmp_path, monkeypatch, capfdbinary
):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("queries", "database"):
        (tmp_path / name).mkdir()
        scene(0).save(tmp_path / name / f"{name}.jpg", exif=exif)
    encoder = FakeEncoder()
    assert not encoder.transform.options.apply_orientation
    monkeypatch.setattr(making, "new_encoder", lambda *_: encoder)
    index, page = tmp_path / "database.idx", tmp_path / "page.html"
    encoding.encode(Request(str(tmp_path / "database"), index, num_workers=1))
    arguments = (str(tmp_path / "queries"), f"--against={index}", "--view=plain", "--format=json")
    out = printed(capfdbinary, *arguments, f"--html={page}", f"--output={tmp_path}/found.json")
    assert b"1 group of near-duplicates with 2 images" in out
    (group,) = json.loads((tmp_path / "found.json").read_bytes())["groups"]
    assert [(one["width"], one["height"]) for one in group["images"]] == [(150, 200)] * 2
    shown = re.findall(r"data:image/[a-z]+;base64,([A-Za-z0-9+/=]+)", page.read_text())
    sizes = [Image.open(io.BytesIO(base64.b64decode(one))).size for one in shown]
    assert len(sizes) == 2 and all(width < height for width, height in sizes)


def test_files_may_be_written_to_the_home_folder(folder, tmp_path, monkeypatch, capfdbinary):
    monkeypatch.setenv("HOME", str(tmp_path))
    files = {"--output=~/groups.txt", "--html=~/groups.html"}
    printed(capfdbinary, str(folder), *files)
    assert (tmp_path / "groups.txt").exists() and (tmp_path / "groups.html").exists()
