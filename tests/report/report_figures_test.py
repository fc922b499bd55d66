"""Figures and the picture of neighbours: valid files that show what they are given."""

import base64
import io
import itertools
import math

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from hybridhash_jax.report import figures, files, page, published, retrieval_grid, sweep_figure
from tests.report import report_cases as cases

BLUE, VERMILLION = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)
PLOTS = (
    figures.plot_precision_recall,
    figures.plot_precision_at_n,
    figures.plot_training,
    figures.plot_bit_balance,
)


def drawn(draw, *arguments, path):
    draw(*arguments, path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def pixels_of(picture, colour):
    return int((picture == np.array(colour)).all(axis=-1).sum())


@pytest.mark.parametrize("plot", PLOTS)
def test_every_figure_is_a_small_picture_of_legible_width_with_nothing_cut_off(plot, tmp_path):
    picture = drawn(plot, cases.multi_label_report(), path=tmp_path / "figure.png")
    assert picture.shape[1] == 920
    assert 600 <= picture.shape[0] <= 1200
    assert (tmp_path / "figure.png").stat().st_size < 200_000
    assert pixels_of(picture, BLUE) > 500
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == 255).all()


def test_the_same_report_gives_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        figures.plot_bit_balance(cases.full_report(16), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_titles_with_dollar_signs_foreign_letters_and_broken_bytes_are_drawn(tmp_path):
    report = cases.collapsed_report()
    report["title"] = "$x^ {bad$ \\frac 類別 \udce9"
    drawn(figures.plot_bit_balance, report, path=tmp_path / "figure.png")
    drawn(retrieval_grid.draw_retrieval, report, {}, path=tmp_path / "grid.png")


def test_bits_that_never_change_look_different(tmp_path):
    counts = [
        pixels_of(drawn(figures.plot_bit_balance, report, path=tmp_path / "b.png"), VERMILLION)
        for report in (cases.full_report(16), cases.collapsed_report())
    ]
    assert counts[0] == 0 < counts[1]


def test_the_training_figure_is_a_picture_even_before_the_first_evaluation(tmp_path):
    report = cases.full_report()
    for training in (None, report["training"][:1]):
        report |= {"training": training, "evaluations": None, "selection": None}
        drawn(figures.plot_training, report, path=tmp_path / "t.png")


def test_a_single_spike_among_thousands_of_steps_is_not_thinned_away():
    steps = [{"epoch": i / 160, "loss": 0.5} for i in range(4000)]
    steps[2000]["loss"] = 100.0
    axes = Figure().subplots()
    figures._draw_loss(axes, steps)
    assert axes.dataLim.y1 == 100.0
    assert np.size(axes.lines[0].get_xdata()) <= 300


def test_title_axes_and_legend_lie_above_one_another(tmp_path):
    title = "A TITLE THAT IS LONG ENOUGH TO BE BROKEN INTO TWO LINES OF CAPITALS"
    with figures.figure(tmp_path / "f.png", title, height=4) as (drawing, (axes,)):
        axes.plot([0, 1], label="one of two long labels")
        axes.plot([1, 0], label="the other of two long labels")
        axes.set(xlabel="x", ylabel="y")
        figures.legend_below(drawing, axes, columns=1)
    drawing.draw_without_rendering()
    (heading,) = (text for text in drawing.findobj(Text) if "CAPITALS" in text.get_text())
    parts = [heading, axes.xaxis.label, drawing.legends[0]]
    boxes = [part.get_window_extent() for part in parts]
    assert boxes[0].y0 >= axes.get_window_extent().y1
    assert drawing.bbox.y1 >= boxes[0].y1 and boxes[1].y0 >= boxes[2].y1 and boxes[2].y0 >= 0
    assert heading.get_text().count("\n") == 1
    assert boxes[0].x0 >= 0 and boxes[0].x1 <= drawing.bbox.x1


def test_the_sweep_figure_gains_a_marker_for_each_published_number(tmp_path):
    sweep = cases.sweep()
    before = drawn(sweep_figure.plot_over_bits, sweep, path=tmp_path / "m.png")
    sweep["published"] = published.published_for("imagenet100", 1000)
    after = drawn(sweep_figure.plot_over_bits, sweep, path=tmp_path / "m.png")
    assert pixels_of(before, VERMILLION) == 0
    assert pixels_of(after, VERMILLION) > 4 * 100
    assert after.shape[1] == before.shape[1] == 920


@pytest.mark.parametrize(
    ("protocol", "top_k", "method"),
    [("cifar10-1", None, "adsh"), ("imagenet100", 1000, "csq"), ("nuswide_21", 5000, "hashnet")],
)
def test_a_series_of_published_numbers_is_of_one_network_and_source(
    protocol, top_k, method, tmp_path, monkeypatch
):
    """These methods have numbers of several of both, some at one length."""
    series = []
    monkeypatch.setattr(
        sweep_figure, "legend_below", lambda drawn, axes, columns: series.extend(axes.lines)
    )
    rows = published.published_for(protocol, top_k, method)
    sweep_figure.plot_over_bits(cases.sweep() | {"published": rows}, tmp_path / "m.png")
    lengths = [list(line.get_xdata()) for line in series]
    assert all(len(set(one)) == len(one) for one in lengths)
    labels = [line.get_label() for line in series if not str(line.get_label()).startswith("_")]
    assert len(set(labels)) == len(labels) > 4


def test_the_sweep_figure_gains_a_line_for_a_baseline(tmp_path):
    sweep = cases.sweep()
    before = drawn(sweep_figure.plot_over_bits, sweep, path=tmp_path / "m.png")
    sweep["baselines"] = [cases.BASELINE]
    after = drawn(sweep_figure.plot_over_bits, sweep, path=tmp_path / "m.png")
    grey = (0x5A, 0x5A, 0x5A)
    assert pixels_of(before, grey) < 100  # of letters
    assert pixels_of(after, grey) > 1000


def test_a_sweep_of_one_length_is_drawn(tmp_path):
    sweep = cases.sweep()
    sweep["lengths"] = sweep["lengths"][:1]
    for key in ("best", "last"):
        sweep["lengths"][0][key] = None
    picture = drawn(sweep_figure.plot_over_bits, sweep, path=tmp_path / "m.png")
    assert pixels_of(picture, BLUE) > 200


def frames_and_captions(figure):
    """Frames from left to right and from top to bottom, and all texts with where they stand."""
    (axes,) = figure.axes
    frames = sorted(axes.patches, key=lambda frame: (frame.get_y(), frame.get_x()))
    return frames, axes


@pytest.mark.parametrize("images", [cases.digit_images, dict], ids=["images", "names"])
def test_frames_and_marks_of_neighbours_equal_their_relevance(images):
    report = cases.full_report()
    figure = retrieval_grid.retrieval_figure(report, images())
    frames, axes = frames_and_captions(figure)
    assert len(frames) == 110
    captions = {text.get_position(): text for text in axes.texts}
    for row, sample in enumerate(report["samples"]):
        query, *found = frames[11 * row : 11 * (row + 1)]
        assert to_hex(query.get_edgecolor()).upper() == figures.GREY
        for frame, neighbour in zip(found, sample["neighbours"], strict=True):
            right = neighbour["relevant"]
            assert to_hex(frame.get_edgecolor()).upper() == (
                figures.GREEN if right else figures.VERMILLION
            )
            assert (frame.get_linestyle() == "-") == right
            centre, bottom = frame.get_x() + frame.get_width() / 2, frame.get_bbox().y1
            _, caption = min(
                captions.items(), key=lambda item: math.dist(item[0], (centre, bottom))
            )
            assert caption.get_text() == f"{'✓' if right else '✗'} {neighbour['distance']}"


@pytest.mark.parametrize("shape", [(375, 500), (500, 333), (120, 480), (64, 64), (16, 16), (3, 5)])
def test_images_of_any_shape_fit_in_their_frames_without_distortion(shape):
    report = cases.full_report()
    report["samples"] = report["samples"][:2]
    images = {i: np.zeros((*shape, 3), np.uint8) for i in range(400)}
    figure = retrieval_grid.retrieval_figure(report, images)
    frames, axes = frames_and_captions(figure)
    placed = sorted(axes.images, key=lambda image: (image.get_extent()[3], image.get_extent()[0]))
    figure.draw_without_rendering()
    for frame, image in zip(frames, placed, strict=True):
        outer, inner = frame.get_window_extent(), image.get_window_extent()
        assert inner.width / inner.height == pytest.approx(shape[1] / shape[0])
        assert max(inner.width, inner.height) > 0.8 * outer.width
        for side in ("x0", "y0"):
            assert getattr(outer, side) + 4 < getattr(inner, side)
        for side in ("x1", "y1"):
            assert getattr(inner, side) < getattr(outer, side) - 4
        assert inner.x0 + inner.x1 == pytest.approx(outer.x0 + outer.x1)
        assert inner.y0 + inner.y1 == pytest.approx(outer.y0 + outer.y1)


def test_tiny_images_are_enlarged_as_blocks_of_pixels_and_photographs_are_not():
    report = cases.full_report()
    report["samples"] = report["samples"][:2]
    for images, kind in (
        (cases.digit_images(), "nearest"),
        (cases.photographs(400), "antialiased"),
    ):
        (axes,) = retrieval_grid.retrieval_figure(report, images).axes
        assert {image.get_interpolation() for image in axes.images} == {kind}


def test_texts_of_the_picture_of_neighbours_lie_inside_it_and_apart():
    report = cases.multi_label_report()
    figure = retrieval_grid.retrieval_figure(report, cases.photographs())
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    for box in boxes:
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)


def test_few_samples_short_lists_and_none_are_drawn(tmp_path):
    report = cases.full_report()
    report["samples"] = report["samples"][:2]
    del report["samples"][1]["neighbours"][3:]
    few = drawn(retrieval_grid.draw_retrieval, report, {}, path=tmp_path / "r.png")
    none = drawn(
        retrieval_grid.draw_retrieval, report | {"samples": []}, {}, path=tmp_path / "r.png"
    )
    assert none.shape[0] < few.shape[0] < 900


def test_a_thumbnail_of_a_photograph_is_a_small_file():
    content = base64.b64decode(page.data_uri(cases.photographs()[0]).partition(",")[2])
    assert len(content) < 8_000
    assert Image.open(io.BytesIO(content)).format == "JPEG"


def test_a_single_logged_step_is_a_point(tmp_path):
    report = cases.full_report() | {"evaluations": None, "selection": None, "training": None}
    empty = drawn(figures.plot_training, report, path=tmp_path / "t.png")
    report["training"] = cases.full_report()["training"][:1]
    point = drawn(figures.plot_training, report, path=tmp_path / "t.png")
    assert pixels_of(empty, BLUE) == 0 < 20 < pixels_of(point, BLUE)


def test_the_pictures_of_a_page_leave_the_title_to_the_page(tmp_path):
    report = cases.full_report()
    files.write_report(tmp_path, report, {}, draw=True)
    page = (tmp_path / "report.html").read_text()
    for name, plot in (
        ("pr_curve", figures.plot_precision_recall),
        ("training", figures.plot_training),
    ):
        without = io.BytesIO()
        plot(report | {"title": ""}, without)
        assert base64.b64encode(without.getvalue()).decode() in page
        assert without.getvalue() != (tmp_path / f"{name}.png").read_bytes()
