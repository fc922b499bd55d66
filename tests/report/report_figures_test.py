"""Figures and the picture of neighbours: valid files that show what they are given."""

import base64
import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from hybridhash_jax.report import figure_style, figures, published, retrieval_grid, thumbnails
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
    with figure_style.figure(tmp_path / "f.png", title, height=4) as (drawing, (axes,)):
        axes.plot([0, 1], label="one of two long labels")
        axes.plot([1, 0], label="the other of two long labels")
        axes.set(xlabel="x", ylabel="y")
        figure_style.legend_below(drawing, axes, columns=1)
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
    before = drawn(figures.plot_over_bits, sweep, path=tmp_path / "m.png")
    sweep["published"] = published.published_for("imagenet100", 1000)
    after = drawn(figures.plot_over_bits, sweep, path=tmp_path / "m.png")
    assert pixels_of(before, VERMILLION) == 0
    assert pixels_of(after, VERMILLION) > 4 * 100
    assert after.shape[1] == before.shape[1] == 920


def test_a_sweep_of_one_length_is_drawn(tmp_path):
    sweep = cases.sweep()
    sweep["lengths"] = sweep["lengths"][:1]
    for key in ("best", "last"):
        sweep["lengths"][0][key] = None
    picture = drawn(figures.plot_over_bits, sweep, path=tmp_path / "m.png")
    assert pixels_of(picture, BLUE) > 200


def cells(picture, samples):
    """The cells of the neighbours, cut out of the picture of neighbours."""
    side, step = retrieval_grid._CELL, retrieval_grid._CELL + retrieval_grid._GAP
    for row, sample in enumerate(samples):
        top = retrieval_grid._HEADER + row * (step + retrieval_grid._CAPTION)
        for place, neighbour in enumerate(sample["neighbours"]):
            left = retrieval_grid._NEIGHBOURS + place * step
            yield picture[top : top + side, left : left + side], neighbour


@pytest.mark.parametrize("images", [cases.digit_images, dict], ids=["images", "names"])
def test_frames_of_neighbours_equal_their_relevance_in_colour_and_in_kind(images, tmp_path):
    report = cases.full_report()
    picture = drawn(retrieval_grid.draw_retrieval, report, images(), path=tmp_path / "r.png")
    found = list(cells(picture, report["samples"]))
    assert len(found) == 100
    for cell, neighbour in found:
        right, wrong = pixels_of(cell[:5], BLUE), pixels_of(cell[:5], VERMILLION)
        whole = 5 * cell.shape[1]
        if neighbour["relevant"]:
            assert (right, wrong) == (whole, 0)
        else:
            assert right == 0 and 0.4 * whole < wrong < 0.6 * whole


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_tiny_images_are_enlarged_as_blocks_of_pixels(scale):
    image = cases.digit_images(scale)[3]
    fitted = np.asarray(thumbnails.fit(image, 128))
    factor = 128 // image.shape[0]
    np.testing.assert_array_equal(fitted, image.repeat(factor, 0).repeat(factor, 1))


@pytest.mark.parametrize("shape", [(375, 500), (500, 333), (120, 480), (64, 64), (1, 900), (3, 5)])
def test_images_of_any_shape_fit_without_distortion(shape):
    fitted = thumbnails.fit(np.zeros((*shape, 3), np.uint8), 128)
    scale = max(fitted.size) / max(shape)
    assert 64 < max(fitted.size) <= 128
    assert fitted.size == (max(round(shape[1] * scale), 1), max(round(shape[0] * scale), 1))


def test_an_image_stands_in_its_cell_with_a_light_margin(tmp_path):
    report = cases.full_report()
    images = {i: np.zeros((16, 16, 3), np.uint8) for i in range(400)}
    picture = drawn(retrieval_grid.draw_retrieval, report, images, path=tmp_path / "r.png")
    for cell, _ in cells(picture, report["samples"]):
        assert (cell[11:-11, 11:-11] == 0).all()
        inner = cell[5:-5, 5:-5].copy()
        inner[6:-6, 6:-6] = 255
        assert (inner == 255).all()


def test_few_samples_short_lists_and_none_are_drawn(tmp_path):
    report = cases.full_report()
    report["samples"] = report["samples"][:2]
    del report["samples"][1]["neighbours"][3:]
    few = drawn(retrieval_grid.draw_retrieval, report, {}, path=tmp_path / "r.png")
    none = drawn(
        retrieval_grid.draw_retrieval, report | {"samples": []}, {}, path=tmp_path / "r.png"
    )
    assert none.shape[0] < few.shape[0] < 700


def test_a_thumbnail_of_a_photograph_is_a_small_file():
    content = base64.b64decode(thumbnails.data_uri(cases.photographs()[0]).partition(",")[2])
    assert len(content) < 8_000
    assert Image.open(io.BytesIO(content)).format == "JPEG"
