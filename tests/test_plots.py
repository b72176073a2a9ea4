"""Pictures: sheets to the pixel, curves from records with gaps."""

import re

import numpy as np
import pytest

from scratchgen.plots import (
    Panel,
    Reference,
    Surface,
    as_svg,
    bars,
    codes,
    curve,
    curves,
    histogram,
    image_grid,
    image_rows,
    latent_plane,
    overlaid,
    scatter,
    x_axis,
    zoom,
)


def grid(*args, **options):
    return np.asarray(image_grid(*args, **options))


def test_a_grid_has_every_image_in_its_place_with_white_between():
    levels = np.array([0, 51, 102, 153, 204]) / 255
    images = np.ones((5, 2, 3, 1), np.float32) * levels.astype(np.float32)[:, None, None, None]
    sheet = grid(images, columns=3)
    assert (sheet.shape, sheet.dtype) == ((2 * (2 + 2) + 2, 3 * (3 + 2) + 2), np.uint8)
    wanted = np.full_like(sheet, 255)
    for i, level in enumerate((0, 51, 102, 153, 204)):
        row, column = divmod(i, 3)
        wanted[2 + row * 4 : 4 + row * 4, 2 + column * 5 : 5 + column * 5] = level
    np.testing.assert_array_equal(sheet, wanted)


def test_a_grid_enlarges_pixels_and_keeps_their_order():
    image = np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1) / 255
    np.testing.assert_array_equal(grid(image, gap=0), image[0, ..., 0] * 255)
    np.testing.assert_array_equal(
        grid(image, scale=2, gap=1)[1:-1, 1:-1], np.kron(np.arange(6).reshape(2, 3), np.ones((2, 2)))
    )
    assert grid(image, scale=2, gap=1).shape == (6, 8)


def test_a_grid_of_coloured_images_and_of_two_channels():
    image = np.zeros((1, 1, 1, 3), np.float32)
    image[..., 0], image[..., 2] = 1, 0.5
    assert grid(image, gap=0).tolist() == [[[255, 0, 128]]]
    assert image_grid(image).mode == "RGB"
    two = np.array([0.2, 0.8], np.float32).reshape(1, 1, 1, 2)
    assert grid(two, gap=0).tolist() == [[51]]
    assert image_grid(two).mode == "L"


def test_numbers_that_are_no_pixels_are_black_or_at_the_nearest_end():
    odd = np.array([np.nan, -1, 0.5, 2, np.inf, -np.inf], np.float32).reshape(1, 1, 6, 1)
    assert grid(odd, gap=0).tolist() == [[0, 0, 128, 255, 255, 0]]
    assert np.isnan(odd[0, 0, 0, 0]), "the array was written into"


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (2, (1, 2)), (4, (2, 2)), (5, (2, 3)), (64, (8, 8))])
def test_a_grid_is_about_as_wide_as_high(count, shape):
    rows, columns = shape
    assert grid(np.zeros((count, 1, 1, 1)), gap=1).shape == (2 * rows + 1, 2 * columns + 1)


def test_zoom():
    assert [zoom((n, n, 1)) for n in (8, 28, 32, 56, 64, 500)] == [7, 2, 2, 1, 1, 1]


def pixels(figure) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def cells(sheet, rows, columns, cell, label) -> list[list[int]]:
    """The first channel in the middle of each image."""
    shown = np.asarray(sheet)
    shown = shown[..., 0] if shown.ndim == 3 else shown
    height, step = shown.shape[0] // rows, cell + 3
    return [
        [int(shown[int((r + 0.5) * height), label + 3 + c * step + cell // 2]) for c in range(columns)]
        for r in range(rows)
    ]


def test_rows_of_images_stand_in_their_places():
    images = np.zeros((3, 4, 4, 1), np.float32)
    images[1] = 1
    plain = image_rows([("", images), ("", images[::-1])], 12)
    assert plain.size == (3 * 87 + 3, 2 * 90)
    assert cells(plain, 2, 3, 84, 0) == [[0, 255, 0], [0, 255, 0]]
    labelled = image_rows([("first", images), ("second\nin two lines", images[::-1])], 12)
    label = labelled.width - plain.width
    assert 60 < label < 200
    assert cells(labelled, 2, 3, 84, label) == [[0, 255, 0], [0, 255, 0]]
    dark = np.asarray(labelled)[:, :label] < 128
    assert dark[:90].any()
    assert dark[90:].sum() > dark[:90].sum()
    assert not dark[:, -8:].any(), "a label touches the images"
    coloured = image_rows([("", np.full((2, 4, 8, 3), [1, 0, 0.5]))], 12)
    assert coloured.mode == "RGB"
    assert coloured.getpixel((20, 20)) == (255, 0, 128)


def test_rows_of_different_lengths_all_show_all_their_images():
    """A last row that is shorter takes nothing from the others."""
    images = np.zeros((5, 4, 4, 1), np.float32)
    sheet = image_rows([("", images), ("", images[:2])], 12)
    assert cells(sheet, 2, 5, 84, 0) == [[0] * 5, [0, 0, 255, 255, 255]]


# --- curves ---

LOSS = Panel("loss", {"loss": "training", "test_loss": "test"})
NORM = Panel("norm", {"gradient": "all"}, (Reference("½", 0.5),), log=True, limits=(0.1, 10))


def lines(figure, panel=0) -> dict:
    """The points of each curve by its label."""
    return {line.get_label(): [tuple(p) for p in line.get_xydata()] for line in figure.axes[panel].get_lines()}


def test_curves_of_steps_and_of_epochs():
    records = [
        {"kind": "steps", "epoch": 0.5, "loss": 4.0, "gradient": 1.0},
        {"kind": "steps", "epoch": 1.0, "loss": 3.0, "gradient": None},
        {"kind": "epoch", "epoch": 1, "loss": 3.5, "test_loss": 3.2},
        {"kind": "steps", "epoch": 1.5, "loss": 2.0, "gradient": 2.0},
        {"kind": "epoch", "epoch": 2, "loss": 2.5, "test_loss": None},
        {"kind": "epoch", "epoch": 3, "loss": 2.5, "test_loss": 2.9},
        {"kind": "end", "state": "finished"},
    ]
    figure = curves(records, (LOSS, NORM))
    assert lines(figure) == {
        "training": [(0.5, 4), (1, 3), (1.5, 2)],  # of the steps; the epochs' means say it again
        "test": [(1, 3.2), (3, 2.9)],
    }
    assert lines(figure, 1) == {"all": [(0.5, 1), (1.5, 2)], "½": [(0, 0.5), (1, 0.5)]}
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "norm"]
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "log"]
    assert figure.axes[1].get_ylim() == (0.1, 10)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["training", "test"]
    assert figure.axes[0].get_xlim()[0] == 0
    pixels(figure)


def test_curves_of_one_record_are_a_visible_dot():
    figure = curves([{"kind": "epoch", "epoch": 1, "loss": 2.0}], (LOSS, NORM))
    assert len(figure.axes) == 1
    assert [line.get_marker() for line in figure.axes[0].get_lines()] == ["o"]
    blue = np.abs(pixels(figure).astype(int) - [0x0B, 0x6F, 0xA4]).sum(axis=-1) < 30
    assert blue.sum() > 20


def test_curves_of_nothing():
    assert curves([], (LOSS,)) is None
    assert curves([{"kind": "end", "state": "stopped"}], (LOSS, NORM)) is None
    assert curves([{"kind": "epoch", "epoch": 1, "loss": None}], (LOSS,)) is None
    assert curves([{"kind": "epoch", "epoch": 1, "loss": 1.0}], ()) is None


def test_curves_of_zeros_and_of_records_without_a_kind():
    figure = curves(
        [{"epoch": e, "gradient": 0.0} for e in (1, 2, 3)], (Panel("norm", {"gradient": "all"}, log=True),)
    )
    assert lines(figure) == {"all": [(1, 0), (2, 0), (3, 0)]}
    pixels(figure)
    pixels(curves([{"epoch": e, "loss": 0.0} for e in (1, 2, 3)], (Panel("loss", {"loss": "l"}, limits=(0, None)),)))


# --- points, codes, classes ---


def test_points_and_codes_are_drawn_where_they_are():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((20, 2)).astype(np.float32)
    figure = scatter(z[:7] + 1, z, title="t")
    assert scatter(z, z, surface=Surface(np.eye(4), (-2, 2, -3, 3))).axes[0].get_xlim() == (-2, 2)
    data, generated = figure.axes[0].get_lines()
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["data, x", "samples, G(z)"]
    np.testing.assert_array_equal(data.get_xydata(), z)
    np.testing.assert_array_equal(generated.get_xydata(), z[:7] + 1)
    (low, high), _ = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert low < z[:, 0].min() < z[:, 0].max() < high
    labels = np.arange(20, dtype=np.uint8) % 4
    figure = codes(z, labels, classes=("a", "b", "c", "d", "e"))
    np.testing.assert_array_equal(figure.axes[0].collections[0].get_array(), labels)
    assert [text.get_text() for text in figure.axes[1].get_yticklabels()] == ["a", "b", "c", "d"]
    pixels(figure)
    pixels(codes(z, None))
    pixels(codes(z, np.arange(20, dtype=np.uint8) * 5))


def test_shares_of_classes_are_bars_in_percent():
    figure = histogram([0.5, 0.25, 0.25], ("a", "b", "c"), title="t")
    assert [bar.get_height() for bar in figure.axes[0].patches] == [50, 25, 25]
    assert figure.axes[0].get_lines()[0].get_ydata()[0] == pytest.approx(100 / 3)
    pixels(figure)
    assert [t.get_text() for t in histogram([0.5, 0.5], ()).axes[0].get_xticklabels()] == ["0", "1"]


def test_a_curve_of_many_points_is_one_of_means():
    records = [{"kind": "steps", "epoch": i / 100, "step": 30 * i, "loss": float(i % 2)} for i in range(1, 1001)]
    ((x, y),) = [line.get_data() for line in curve(records, LOSS).axes[0].get_lines()]
    assert len(x) == 250
    assert set(y) == {0.5}
    assert (x[0], x[-1]) == (0.04, 10)


@pytest.mark.parametrize(("per_epoch", "counted"), [(19, "step"), (20, "epoch"), (400, "epoch")])
def test_what_is_counted_along_a_curve(per_epoch, counted):
    records = [{"kind": "epoch", "epoch": e, "step": per_epoch * e, "loss": 1.0 / e} for e in (1, 2, 3)]
    assert x_axis(records) == counted
    axes = curve(records, LOSS).axes[0]
    assert axes.get_xlabel() == counted
    assert axes.get_lines()[0].get_xdata()[-1] == (3 if counted == "epoch" else 3 * per_epoch)


def test_a_reference_may_be_a_measure():
    panel = Panel("error", {"loss": "test"}, (Reference("PCA", "pca_test_mse", "loss"), Reference("one", 1.0)))
    records = [{"kind": "epoch", "epoch": e, "loss": 2.0} for e in (1, 2, 3)]
    assert "PCA" not in lines(curve(records, panel))
    figure = curve(records, panel, {"pca_test_mse": 0.25})
    assert lines(figure)["PCA"] == [(0, 0.25), (1, 0.25)]
    test, pca, one = figure.axes[0].get_lines()
    assert pca.get_color() == test.get_color() != one.get_color()
    assert pca.get_zorder() < test.get_zorder(), "it strikes through the curve"
    assert "PCA" not in lines(curve(records, panel, {"pca_test_mse": "x"}))


def test_the_axes_of_a_latent_plane_say_where_z_is():
    figure = latent_plane(lambda z: np.zeros((len(z), 2, 2, 1)))
    axes = figure.axes[0]
    at = dict(zip([t.get_text() for t in axes.get_xticklabels()], axes.get_xticks(), strict=True))
    assert at["0"] == 10
    assert at["−1"] == pytest.approx(20 * 0.1587, abs=1e-2)
    assert at["2"] == pytest.approx(20 * 0.9772, abs=1e-2)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("z₁", "z₂")


def test_codes_have_one_scale_and_the_prior_its_circles():
    z = np.random.default_rng(0).standard_normal((50, 2)) * [0.1, 3]
    for prior in (False, True):
        axes = codes(z, None, prior=prior).axes[0]
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert right - left == pytest.approx(top - bottom)
        box = axes.get_window_extent()
        assert box.width == pytest.approx(box.height)
        radii = {round(float(np.hypot(*line.get_data()).mean()), 6) for line in axes.get_lines()}
        assert radii == ({1.0, 2.0} if prior else set())
        assert left <= -2 or not prior


# --- inline SVG ---


def test_svg_for_a_page_has_its_colours_and_no_address():
    records = [{"kind": "epoch", "epoch": e, "loss": 2.0 / e, "test_loss": 3.0 / e} for e in (1, 2, 3)]
    svg = as_svg(curve(records, LOSS), "a")
    assert svg.startswith("<svg ")
    assert "http" not in svg
    assert not re.search(r"#[0-9a-f]{6}", svg), "a colour that does not follow the page"
    for variable in ("--ink", "--curve-1", "--curve-2"):
        assert f"var({variable})" in svg
    assert ">test<" in svg
    assert svg == as_svg(curve(records, LOSS), "a")
    ids = set(re.findall(r'\bid="([^"]+)"', svg))
    assert ids
    assert all(name.startswith("a-") for name in ids)
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) <= ids
    assert not ids & set(re.findall(r'\bid="([^"]+)"', as_svg(curve(records, LOSS), "b")))


def test_each_of_eight_runs_has_a_colour_of_the_page():
    svg = as_svg(overlaid([[(1, i), (2, i + 1)] for i in range(8)], "epoch", "nats"), "a")
    assert not re.search(r"#[0-9a-f]{6}", svg)
    for variable in ("curve-1", "curve-2", *(f"series-{i}" for i in range(3, 9))):
        assert len(re.findall(rf"stroke: var\(--{variable}\); stroke-width: 1.4", svg)) == 1
    assert svg.count("stroke-dasharray") == 4
    without_the_first = as_svg(overlaid([[], [(1, 2)]], "epoch", "nats"), "a")
    assert "var(--curve-2)" in without_the_first
    assert "var(--curve-1)" not in without_the_first


# --- legends and labels cover no data, and nothing is cut off ---

CORNERS = {
    "at the top left": [(0.1, 10), (1, 10), (2, 0.01)],
    "at the top right": [(0.1, 0.01), (1, 0.01), (2, 10)],
    "at the bottom": [(0.1, 10), (1, 0.01), (2, 0.01)],
    "everywhere": [(i / 20, (i * 7919 % 997) / 99 + 1e-3) for i in range(1, 41)],
    "constant at ½": [(0.1, 0.5), (1, 0.5), (2, 0.5)],
    "one point": [(1, 0.5)],
    "large": [(1, 2.5e7), (2, 1.25e6)],
    "tiny": [(1, 2.5e-7), (2, 1.25e-9)],
    "narrow": [(1, 0.123456), (2, 0.123457)],
    "negative": [(1, -1234.5), (2, -2000.25)],
    "of many decades": [(1, 1e-12), (2, 1e6)],
    "ten thousand epochs": [(1, 0.3), (9_999, 0.31), (10_000, 0.4)],
}
TWO = {"a": "discriminator D", "b": "generator G"}
SHAPES = {
    "plain": Panel("nats per image", TWO),
    "references": Panel(
        "nats per sample",
        TWO,
        (Reference("log 4 = 1.39, equilibrium", 1.386, "a"), Reference("log 2 = 0.69, equilibrium", 0.693, "b")),
        title="Losses of the two players",
    ),
    "probability": Panel("probability of being real", TWO, (Reference("½, equilibrium", 0.5),), limits=(0, 1)),
    "log": Panel("norm of the gradient", TWO, log=True, title="Gradient"),
    "counts": Panel("latent dimensions", {"a": "active, Var(μ) > 0.01"}, (Reference("all 20", 20),), whole=True),
}


def assert_nothing_is_covered(figure):
    """No legend and no text lies on the axes, where data are drawn, on another text, or beyond the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    inside = {id(text) for legend in legends for text in legend.findobj(Text)}
    boxes = [(legend, legend.get_window_extent(renderer)) for legend in legends]
    hidden = set()
    for axes in figure.axes:  # ticks beyond the limits are kept, and not drawn
        for axis in (axes.xaxis, axes.yaxis):
            drawn = {id(tick) for tick in axis._update_ticks()}
            ticks = [tick for tick in (*axis.majorTicks, *axis.minorTicks) if id(tick) not in drawn]
            hidden |= {id(label) for tick in ticks for label in (tick.label1, tick.label2)}
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and id(text) not in inside | hidden:
            boxes.append((text, text.get_window_extent(renderer)))
    assert len(boxes) >= 3
    for i, (what, box) in enumerate(boxes):
        assert box.x0 >= -0.5 and box.y0 >= -0.5, f"{what} is cut off"  # noqa: PT018
        assert box.x1 <= figure.bbox.x1 + 0.5 and box.y1 <= figure.bbox.y1 + 0.5, f"{what} is cut off"  # noqa: PT018
        for axes in figure.axes:
            assert not inner(box).overlaps(axes.get_window_extent(renderer)), f"{what} is on the data"
        for other, its in boxes[:i]:
            if getattr(what, "get_rotation", int)() == getattr(other, "get_rotation", int)() == 40:
                continue  # slanted side by side, where their boxes overlap and they do not
            assert not inner(box).overlaps(inner(its)), f"{what} is on {other}"


def inner(box):
    """The box without the pixel on each side in which letters are blurred."""
    from matplotlib.transforms import Bbox

    return Bbox([[box.x0 + 1, box.y0 + 1], [box.x1 - 1, box.y1 - 1]])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("where", CORNERS)
def test_legends_of_curves_cover_no_data(where, shape):
    records = [{"kind": "epoch", "epoch": x, "a": y, "b": y / 2} for x, y in CORNERS[where]]
    assert_nothing_is_covered(curve(records, SHAPES[shape]))
    if shape != "plain":
        assert_nothing_is_covered(curves(records, (SHAPES[shape], SHAPES["references"])))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("where", CORNERS)
def test_runs_laid_over_each_other_are_covered_by_nothing(where, log):
    series = [[(x, y * factor) for x, y in CORNERS[where]] for factor in (1, 0.5)]
    reference = Reference("log 4 = 1.39, equilibrium", 1.386)
    figure = overlaid(series, "epoch", "squared error per pixel", reference=reference, log=log)
    assert_nothing_is_covered(figure)


def test_the_assertion_sees_a_legend_on_the_data():
    records = [{"kind": "epoch", "epoch": x, "a": y, "b": y / 2} for x, y in CORNERS["everywhere"]]
    figure = curve(records, SHAPES["references"])
    figure.axes[0].get_legend().set_bbox_to_anchor((0, 0.6))
    with pytest.raises(AssertionError, match="is on the data"):
        assert_nothing_is_covered(figure)
    figure = curve(records, SHAPES["references"])
    figure.axes[0].set_ylabel("a label that is far longer than the axes are high, so that it is cut off")
    with pytest.raises(AssertionError, match="cut off"):
        assert_nothing_is_covered(figure)


NAMES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


@pytest.mark.parametrize("scale", [1e-3, 1, 1e4])
def test_legends_of_points_and_bars_cover_no_data(scale):
    rng = np.random.default_rng(0)
    z = (scale * rng.standard_normal((300, 2))).astype(np.float32)
    labels = np.arange(300, dtype=np.uint8) % 10
    surface = Surface(rng.random((8, 8)), (-2 * scale, 2 * scale, -2 * scale, 2 * scale))
    for figure in (
        scatter(z),
        scatter(z, z, title="title"),
        scatter(z, z, surface=surface),
        codes(z, labels),
        codes(z, labels, classes=NAMES),
        codes(z, labels, prior=True),
        codes(z, None, prior=True, title="title"),
        latent_plane(lambda z: np.zeros((len(z), 2, 2, 1)), 12),
        histogram(rng.dirichlet(np.ones(10)), NAMES, title="title"),
        histogram([1.0, 0.0], ()),
        bars(
            scale * rng.random(25),
            [str(k) for k in range(25)],
            "samples within 3σ",
            ("even", scale / 2),
            xlabel="mode",
        ),
        bars(scale * 10.0 ** -np.arange(64), [str(k) for k in range(64)], "variance of μ", ("0.01", 0.01), log=True),
    ):
        assert_nothing_is_covered(figure)
