"""Pictures: sheets to the pixel, curves from records with gaps."""

import numpy as np
import pytest

from scratchgen.plots import Panel, codes, curves, histogram, image_grid, image_rows, scatter, zoom


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


def test_rows_of_images_stand_in_their_places():
    images = np.zeros((3, 4, 4, 1), np.float32)
    images[1] = 1
    figure = image_rows([("first", images), ("second", images[::-1])], 12)
    shown = pixels(figure)
    label, cell = 1.75 * figure.dpi, 0.75 * figure.dpi
    assert shown.shape[:2] == (int(2 * cell), int(label + 3 * cell))
    for row in range(2):
        at = [shown[int((row + 0.5) * cell), int(label + (column + 0.5) * cell), 0] for column in range(3)]
        assert at == [0, 255, 0]
    assert [text.get_text() for text in figure.texts] == ["first", "second"]
    coloured = image_rows([("", np.full((2, 4, 8, 3), [1, 0, 0.5]))], 12)
    assert pixels(coloured)[int(0.19 * 160), int(label + 60)].tolist() == [255, 0, 127]


def test_rows_of_different_lengths_all_show_all_their_images():
    """A last row that is shorter takes nothing from the others."""
    images = np.zeros((5, 4, 4, 1), np.float32)
    figure = image_rows([("", images), ("", images[:2])], 12)
    shown = pixels(figure)
    label, cell = 1.75 * figure.dpi, 0.75 * figure.dpi
    assert shown.shape[1] == int(label + 5 * cell)
    black = [
        [int(shown[int((r + 0.5) * cell), int(label + (c + 0.5) * cell), 0]) for c in range(5)] for r in range(2)
    ]
    assert black == [[0] * 5, [0, 0, 255, 255, 255]]


# --- curves ---

LOSS = Panel("loss", {"loss": "training", "test_loss": "test"})
NORM = Panel("norm", {"gradient": "all"}, reference=("½", 0.5), log=True, limits=(0.1, 10))


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
    data, generated = figure.axes[0].collections
    np.testing.assert_array_equal(data.get_offsets(), z)
    np.testing.assert_array_equal(generated.get_offsets(), z[:7] + 1)
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
