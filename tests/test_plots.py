"""Figures show the pixels they were given, and say so."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from matplotlib.colors import rgb_to_hsv, to_rgb
from PIL import Image

from within_epsilon import plots


def _rendered(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=figure.dpi)
    return np.asarray(Image.open(buffer).convert("RGB"))


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 28), (3, 224)])
def test_pictures_are_drawn_pixel_for_pixel(channels, side):
    generator = np.random.default_rng(0)
    levels = generator.integers(0, 256, size=(3, channels, side, side))
    figure = plots.pictures(list(levels / 255), ["a", "b", "c"])
    page = _rendered(figure)
    factor = (page.shape[1] - 2 * 20) // 3 // side
    assert factor >= 2
    for index, image in enumerate(levels):
        left = index * (side * factor + 20)
        seen = page[-side * factor :, left : left + side * factor]
        wanted = np.repeat(np.repeat(image.transpose(1, 2, 0), factor, 0), factor, 1)
        wanted = np.broadcast_to(wanted, seen.shape)
        assert np.abs(seen.astype(int) - wanted).max() <= 1


def test_a_triptych_states_its_amplification():
    clean = np.full((3, 8, 8), 0.5)
    changed = clean + 4 / 255
    figure = plots.triptych(clean, changed)
    texts = [text.get_text() for text in figure.texts]
    assert texts == ["clean", "perturbation × 31", "adversarial"]
    middle = figure.axes[1].get_images()[0].get_array()
    assert np.allclose(middle, 0.5 + 31 * 4 / 255)


def test_amplify_keeps_no_change_at_mid_grey_and_clips():
    assert np.allclose(plots.amplify([[[0.0, 0.1, -9.0]]], 2), [[[0.5, 0.7, 0.0]]])


def test_bars_mark_the_true_class_in_colour_and_in_words():
    panels = {"clean": [("cat", 0.8), ("dog", 0.2)], "attacked": [("dog", 0.9), ("cat", 0.1)]}
    figure = plots.probability_bars(panels, true="cat")
    colours = [[patch.get_facecolor() for patch in axes.patches] for axes in figure.axes]
    blue = colours[0][0]
    assert colours[1][1] == blue != colours[1][0]
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert words.count("cat (true)") == 2
    assert "90.0%" in words


def test_line_labels_do_not_overlap():
    x = np.linspace(0, 100, 5)
    figure = plots.lines(x, {"a": x, "b": x, "c": x + 0.1}, xlabel="ε", ylabel="error")
    figure.draw_without_rendering()
    labels = [text for text in figure.axes[0].texts if text.get_text() in "abc"]
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.y0)
    assert len(boxes) == 3
    assert all(low.y1 <= high.y0 + 1 for low, high in itertools.pairwise(boxes))


def test_a_series_without_a_value_has_no_name():
    nothing = [np.nan, np.nan]
    figure = plots.lines([0, 1], {"a": nothing, "b": [np.inf, 2]}, xlabel="x", ylabel="y")
    assert [text.get_text() for text in figure.axes[0].texts] == ["b"]


def test_single_observations_stand_where_they_were_made():
    points = ([1.0, 3.0], [20.0, 10.0])
    figure = plots.lines([0, 4], {"a": [0, 30]}, points=points, xlabel="x", ylabel="y")
    (dots,) = figure.axes[0].collections
    assert np.array_equal(dots.get_offsets(), np.transpose(points))
    (curve,) = figure.axes[0].lines
    assert dots.get_zorder() > curve.get_zorder()
    assert np.sqrt(dots.get_sizes()).min() > 2 * curve.get_linewidth()
    cloud = np.linspace(0, 4, 400)
    figure = plots.lines([0, 4], {"a": [0, 30]}, points=(cloud, cloud), xlabel="x", ylabel="y")
    assert figure.axes[0].collections[0].get_sizes() < dots.get_sizes()


def test_a_logarithmic_axis_has_plain_numbers():
    figure = plots.lines([1, 10, 400], {"a": [1, 2, 3]}, xlabel="n", ylabel="y", xscale="log")
    figure.draw_without_rendering()
    words = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert {"1", "10", "100"} <= set(words)


def test_an_axis_marks_what_was_asked_for_and_counts_in_whole_numbers():
    x, counts = [1, 3, 10, 30], {"a": [92, 91, 90, 90]}
    figure = plots.lines(
        x, counts, xlabel="draws", ylabel="digits", xscale="log", xticks=x, whole=True
    )
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "3", "10", "30"]
    assert len(axes.xaxis.get_minorticklocs()) == 0
    assert all(float(value).is_integer() for value in axes.get_yticks())
    halves = plots.lines(x, counts, xlabel="draws", ylabel="digits").axes[0].get_yticks()
    assert not all(float(value).is_integer() for value in halves)


@pytest.mark.parametrize("bad", [np.zeros((8, 8)), np.zeros((2, 3, 8, 8)), np.zeros((4, 8, 8))])
def test_something_that_is_no_picture_is_refused(bad):
    with pytest.raises(ValueError, match="expected a picture"):
        plots.pictures([bad], ["?"])


def test_a_matrix_writes_its_shares_and_leaves_unknown_squares_empty():
    shares = [[np.nan, 0.25], [1.0, np.nan]]
    figure = plots.matrix(shares, rows=["a", "b"], columns=["c", "d"], xlabel="x", ylabel="y")
    (axes,) = figure.axes
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(1, 0): "25", (0, 1): "100"}


def test_labels_can_be_read_on_white_and_keep_their_hue():
    def contrast(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)

    assert contrast(plots.style.UNKNOWN) < 2.5  # amber on white, as the palette has it
    series = {name: [1, 2] for name in "abcdef"}
    figure = plots.lines([0, 1], series, xlabel="x", ylabel="y")
    labels = figure.axes[0].texts
    assert len(labels) == 6
    for label, colour in zip(
        sorted(labels, key=lambda t: t.get_text()), plots.style.PALETTE, strict=True
    ):
        assert 4.5 <= contrast(label.get_color()) < 5.2
        hues = [rgb_to_hsv(to_rgb(c))[0] for c in (label.get_color(), colour)]
        assert abs(hues[0] - hues[1]) < 0.01


@pytest.mark.parametrize(
    ("columns", "fontsize", "on_a_phone"), [(3, 13, 9), (5, 13, 9), (5, 16, 11)]
)
def test_captions_are_wrapped_rather_than_shrunk(columns, fontsize, on_a_phone):
    caption = "PGD, ℓ2 ε = 2, 20 steps\na nine, 98%"
    figure = plots.pictures(
        [np.zeros((1, 8, 8))] * columns, [caption] * columns, columns=columns, fontsize=fontsize
    )
    # Of 390 pixels a page's margins leave 358, of which the notebook's take 40 in 1440.
    shrunk = 358 / (figure.get_figwidth() * figure.dpi + 40)
    assert on_a_phone - 0.1 <= fontsize / 72 * figure.dpi * shrunk < on_a_phone + 1
    words = [text.get_text() for text in reversed(figure.texts)]  # lines, from the last
    assert " ".join(words).split() == columns * caption.split()
    assert {text.get_fontsize() for text in figure.texts} == {fontsize}
    boxes = [text.get_window_extent() for text in figure.texts]
    starts = sorted({box.x0 // 20 for box in boxes})
    assert len(starts) == columns
    for box in boxes:
        assert all(20 * start >= box.x1 - 20 for start in starts if start > box.x0 // 20)


def test_captions_stand_on_one_baseline_whatever_their_letters():
    captions = ["clean", "(perturbing)", "ace\nace", "|gpy|\nℓ∞, jq"]
    figure = plots.pictures([np.zeros((1, 8, 8))] * 4, captions, columns=4)
    page = _rendered(figure)
    side = (page.shape[1] - 3 * 20) // 4
    heights = {}
    for text in figure.texts:
        x, y = text.get_transform().transform(text.get_position())
        assert text.get_va() == "baseline"
        heights.setdefault(round(x) // (side + 20), []).append(round(y, 6))
    first, second, third, fourth = heights.values()
    assert first == second == third[:1] == fourth[:1]
    assert third == fourth
    # No letter is under the picture's edge: the lowest, the bar's foot, leaves some white.
    foot = page[-side - 10 : -side]
    assert (foot == 255).all()


@pytest.mark.parametrize("columns", range(1, 6))
def test_no_line_of_a_caption_ends_beside_an_equals_sign(columns):
    for lead in itertools.accumulate("a word or two more", initial=""):
        caption = f"{lead} ℓ∞ ε = 0.25/255, PGD"
        figure = plots.pictures([np.zeros((1, 8, 8))] * columns, [caption] * columns,
                                columns=columns)  # fmt: skip
        lines = [text.get_text() for text in figure.texts]
        assert all("=" not in line or "ε = 0.25/255," in line for line in lines), lines
        assert sum("=" in line for line in lines) == columns


def test_surfaces_share_one_vertical_scale():
    x, y = np.linspace(-1, 1, 5), np.linspace(-1, 1, 7)
    hill = 10 - 10 * np.add.outer(y**2, x**2) / 2
    figure = plots.surfaces(
        x, y, {"hill": hill, "plain": hill / 10}, xlabel="x", ylabel="y", zlabel="z"
    )
    upper, lower = figure.axes
    assert upper.get_zlim() == lower.get_zlim() == (0, 10)
    assert [axes.get_title() for axes in (upper, lower)] == ["hill", "plain"]
    assert upper.get_position().y0 >= lower.get_position().y1  # a phone has no room beside
    for axes in figure.axes:  # in grey: colours have their meanings
        shades = axes.collections[0].get_facecolor()[:, :3]
        assert np.ptp(shades, axis=1).max() < 1e-6 < np.ptp(shades[:, 0])
        assert not axes.lines
    names = {"xlabel": "x", "ylabel": "y", "zlabel": "z"}
    (axes,) = plots.surfaces(x, y, {"a": hill}, **names, zlim=(0, 20), marked=True).axes
    assert axes.get_zlim() == (0, 20)
    assert [part.tolist() for part in axes.lines[0].get_data_3d()] == [[0], [0], [hill[3, 2]]]
    with pytest.raises(ValueError, match="shape"):
        plots.surfaces(x, y, {"turned": hill.T}, xlabel="x", ylabel="y", zlabel="z")


def test_marks_stand_at_their_values_and_say_them():
    figure = plots.marks({"far": -13.5, "near": 0.213}, xlabel="margin", colours={"far": "#E69F00"})
    (axes,) = figure.axes
    points = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "D"]
    assert np.allclose(points, [[-13.5, 0], [0.213, 1]])
    assert [text.get_text() for text in axes.texts] == ["−13.500", "0.213"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["far", "near"]
    low, high = axes.get_xlim()
    assert low < -13.5
    assert high > 0.213


def test_parts_are_where_they_are_and_two_signs_tell_their_kinds():
    proved = np.array([[[0.0, 0.0], [1.0, 2.0]], [[1.0, 0.0], [2.0, 2.0]]])
    figure = plots.partitions(
        {"a": (proved, proved[:0]), "b": (proved[:1], proved[1:])}, labels=("proved", "open")
    )
    left, right = figure.axes
    seen = [[patch.get_bbox().extents.tolist() for patch in axes.patches] for axes in figure.axes]
    assert seen == [[[0, 0, 1, 2], [1, 0, 2, 2]]] * 2
    assert [patch.get_hatch() for patch in right.patches] == ["", "////"]
    legends = [
        [text.get_text() for text in axes.get_legend().get_texts()] for axes in (left, right)
    ]
    assert legends == [["proved"], ["proved", "open"]]


def test_dumbbells_stand_at_their_counts_and_number_the_ends():
    rows = {"plain": {"few": 97, "many": 92}, "defended": {"few": 193, "many": 57, "best": 58}}
    figure = plots.dumbbells(rows, xlabel="counts", ringed="best", level=(92, 1))
    (axes,) = figure.axes
    marks = [line for line in axes.lines if len(line.get_xdata())]
    places = [line.get_xydata()[0].tolist() for line in marks]
    assert places == [[97, 0], [92, 0], [193, 1], [57, 1], [58, 1]]
    shapes = [line.get_marker() for line in marks]
    assert shapes[0] == shapes[2] != shapes[1] == shapes[3]
    assert marks[-1].get_markerfacecolor() == "none"  # a ring hides no mark within it
    assert [text.get_text() for text in axes.texts] == ["97", "193", "58", "92"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["plain", "defended"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["few", "many", "best"]
    spans = [each.get_segments() for each in axes.collections]
    assert np.allclose([each[0][:, 0] for each in spans], [[92, 97], [57, 193], [92, 92]])
    with pytest.raises(ValueError, match="at most 4 kinds"):
        plots.dumbbells({"one": dict.fromkeys("abcde", 1)}, xlabel="x", ringed="best")
