"""What a notebook shows: reports, networks and models as tables, sheets of images, progress bars."""

import io
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from layer_table import every_layer
from PIL import Image

import scratchgen as sg
from scratchgen import gradcheck
from scratchgen.gradcheck import Report, TensorReport
from scratchgen.layers.summary import output_shape, rows
from scratchgen.notebook import GROUNDS, block, indented, label, listed, picture, strong, table

OF_TABLES = ("table", "thead", "tbody", "tr", "th", "td")


def shown(html):
    """The text of each cell, title and sentence; the HTML must be whole, without a script or another file."""
    root = ElementTree.fromstring(re.sub(r"(<img [^>]*)>", r"\1/>", html))
    assert {e.tag for e in root.iter()} <= {*("div", "p", "b", "span", "ul", "li", "img"), *OF_TABLES}
    assert not any(name.startswith("on") or name == "href" for e in root.iter() for name in e.attrib)
    assert all(e.attrib["src"].startswith("data:image/png;base64,") for e in root.iter("img"))
    return ["".join(e.itertext()) for e in root.iter() if e.tag in ("p", "th", "td", "li")]


# --- what all of it is made of ---


def test_text_is_escaped_everywhere():
    evil = "<script>alert('&')</script>"
    marked = [label(evil, "good"), indented(evil, 1), strong(evil)]
    html = block(evil, table([evil], [[evil, *marked]]), listed([evil]), picture(b"", evil + '"'), about=evil)
    assert "<script" not in html
    assert shown(html) == [f"{evil} {evil}", *[evil] * 6]


@pytest.mark.parametrize("kind", GROUNDS)
def test_labels_are_read_on_light_and_dark_pages(kind):
    levels = np.array([int(GROUNDS[kind][i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 4.5  # white letters (WCAG 2)


def test_nothing_else_has_a_colour():
    html = sg.dense_vae()._repr_html_() + block("a", listed("b"), table(["c"], [["d"]]), about="e")
    assert "#" not in html
    assert set(re.findall(r"rgba\([^)]*\)", html)) == {"rgba(127,127,127,.4)"}


# --- reports ---


def test_a_report_shows_what_it_prints(rng):
    report = gradcheck.check(lambda x: (x * x, lambda dy: 3 * dy * x), rng.standard_normal((3, 2)), name="<f> & g")
    report.faults.append("a fault")
    report.unchecked.append("b")
    report.notes.append("a <note>")
    report.points.append("other inputs")
    title, head, row, *sentences = (line.strip() for line in str(report).splitlines())
    assert len(sentences) == 6
    cells = [cell for line in (head, row) for cell in re.split(r"\s{2,}", line)]
    assert shown(report._repr_html_()) == [f"{title} WRONG", *cells, *sentences]
    assert repr(report).startswith("Report(name='<f> & g'")


@pytest.mark.parametrize(
    ("verdict", "kind"), [("right", "good"), ("kink", "good"), ("WRONG", "bad"), ("UNPROVED", "open")]
)
def test_the_verdict_is_a_label(verdict, kind):
    html = Report("f", [TensorReport("dx", (2,), verdict=verdict)])._repr_html_()
    assert html.count(GROUNDS[kind]) == 2
    assert shown(html)[0] == f"f {verdict if verdict != 'kink' else 'right'}"


def test_a_report_of_nothing_shows_too():
    assert shown(Report("f")._repr_html_()) == ["f UNPROVED"]


# --- networks and models ---


@every_layer
def test_output_shapes_are_those_that_come_out(row):
    layer, x, dy = row.draw()
    assert output_shape(layer, x.shape[1:]) == dy.shape[1:]


MODELS = {  # what goes into each network
    "dense_autoencoder": {"encoder": (28, 28, 1), "decoder": (32,)},
    "conv_autoencoder": {"encoder": (28, 28, 1), "decoder": (32,)},
    "dense_vae": {"encoder": (28, 28, 1), "decoder": (20,)},
    "conv_vae": {"encoder": (28, 28, 1), "decoder": (20,)},
    "dense_gan": {"generator": (100,), "discriminator": (28, 28, 1)},
    "dcgan": {"generator": (100,), "discriminator": (28, 28, 1)},
    "point_gan": {"generator": (2,), "discriminator": (2,)},
}


def count(module):
    return f"{sum(p.value.size for p in module.parameters()):,}" if module.parameters() else ""


@pytest.mark.parametrize("name", MODELS)
def test_every_shape_and_count_of_a_model_is_known_and_right(name):
    model = getattr(sg, name)()
    found, wanted = list(rows(model)), []
    for network, shape in MODELS[name].items():
        y, own = np.zeros((1, *shape), np.float32), []
        for i, layer in enumerate(getattr(model, network).layers):
            y = layer.predict(y)
            own.append((1, str(i), repr(layer), f"(N, {', '.join(map(str, y.shape[1:]))})", count(layer), False))
        wanted.append((0, network, "Sequential", own[-1][3], count(getattr(model, network)), True))
        wanted += own
    assert found[1 : 1 + len(wanted)] == wanted
    assert [row[1] for row in found[1 + len(wanted) :]] == ["likelihood"] * ("vae" in name)
    html = model._repr_html_()
    assert shown(html)[0] == f"{type(model).__name__} {count(model)} parameters, float32"
    assert len(html) < 15_000


class Block(sg.Layer):
    def __init__(self):
        self.inside = sg.Sequential(sg.Dense(4, 4), sg.Tanh())
        self.gate = sg.Parameter("gate", np.zeros(1, np.float32))


def test_what_is_not_known_is_left_open():
    network = sg.Sequential(sg.Conv2d(1, 3, 3), sg.MaxPool2d(2), sg.Flatten(), sg.Dense(27, 4), Block(), sg.ReLU())
    found = [(row.depth, row.name, row.shape, row.parameters) for row in rows(network)][1:]
    assert found == [
        (0, "0", "(N, ?, ?, 3)", "30"),
        (0, "1", "(N, ?, ?, 3)", ""),
        (0, "2", "(N, ?)", ""),
        (0, "3", "(N, 4)", "112"),
        (0, "4", "", "21"),
        (1, "inside", "(N, 4)", "20"),
        (2, "0", "(N, 4)", "20"),
        (2, "1", "(N, 4)", ""),
        (0, "5", "", ""),
    ]


@pytest.mark.parametrize(
    "network",
    [
        sg.Sequential(sg.Dense(3, 4), sg.Dense(5, 2)),
        sg.Sequential(sg.Dense(3, 4), sg.Reshape(5), sg.Dense(5, 2)),
        sg.Sequential(sg.Dense(3, 4), sg.Conv2d(1, 2, 3), sg.Flatten(), sg.Dense(5, 2)),
        sg.Sequential(sg.Reshape(2, 2, 1), sg.Conv2d(1, 1, 3), sg.Flatten(), sg.Dense(5, 2)),
        sg.Sequential(sg.Reshape(2, 2, 1), sg.BatchNorm(2), sg.Flatten(), sg.Dense(5, 2)),
    ],
    ids=range(5),
)
def test_layers_that_do_not_fit_show_all_the_same(network):
    assert list(rows(network))[-1].shape == "(N, 2)"
    assert next(rows(network)).shape == ""
    assert shown(network._repr_html_())[-2:] == ["(N, 2)", "12"]


def test_what_another_network_makes_is_no_input_where_it_does_not_fit():
    """A likelihood may need more channels than the data have."""
    model = sg.Autoencoder(sg.Sequential(sg.Dense(3, 2)), sg.Sequential(sg.Dense(2, 6)), loss="squared-error")
    assert [row.shape for row in rows(model)] == ["", "(N, 2)", "(N, 2)", "(N, 6)", "(N, 6)"]


def test_what_is_shared_counts_once():
    twice, other = sg.Dense(4, 4), sg.Dense(4, 4)
    other.W = twice.W
    network = sg.Sequential(twice, sg.Tanh(), twice, other)
    assert [row.parameters for row in rows(network)] == ["24", "20", "", "shared", "4"]


def test_a_layer_with_its_own_forward_is_not_taken_for_the_librarys():
    class Twice(sg.Dense):
        def forward(self, x):
            raise NotImplementedError

    class Reversed(sg.Sequential):
        def forward(self, x):
            raise NotImplementedError

    assert output_shape(Twice(2, 3), (2,)) is None
    assert output_shape(Reversed(sg.Dense(2, 3)), (2,)) is None


def test_a_part_that_leads_back_to_the_whole_is_left_out():
    network = sg.Sequential(Block())
    network.layers[0].owner = network
    assert [row.name for row in rows(network)] == ["", "0", "inside", "0", "1"]


def test_a_long_network_is_cut():
    html = sg.Sequential(*(sg.ReLU() for _ in range(5000)))._repr_html_()
    assert "and 4,900 more" in html
    assert len(html) < 60_000


def test_a_layer_alone_shows_its_repr():
    assert sg.Dense(2, 3)._repr_html_() is None
    assert sg.Sequential()._repr_html_() is None


def test_where_a_network_is_is_said(backend):
    network = sg.Sequential(sg.Dense(2, 3)).astype(np.float64).to(backend.name)
    said = "Sequential 9 parameters, float64" + ("" if backend.is_host else " on a GPU")
    assert shown(network._repr_html_())[0] == said


def test_names_of_parts_are_escaped():
    class Named(sg.Layer):
        def __init__(self):
            self.parts = {"<b>": sg.ReLU()}

        def __repr__(self):
            return "<i>"

    assert "<b>" in shown(sg.Sequential(Named(), Named())._repr_html_())[9]


# --- sheets of images ---


def pixels(sheet):
    return np.asarray(sheet)


@pytest.mark.parametrize(
    ("shape", "count", "one"),
    [
        ((5, 28, 28, 1), 5, (28, 28, 1)),
        ((5, 8, 6, 3), 5, (8, 6, 3)),
        ((5, 8, 6), 5, (8, 6, 1)),
        ((5, 64), 5, (8, 8, 1)),
        ((5, 192), 5, (8, 8, 3)),
        ((8, 6, 3), 1, (8, 6, 3)),
        ((8, 6, 1), 1, (8, 6, 1)),
        ((8, 6), 1, (8, 6, 1)),
        ((8, 8), 1, (8, 8, 1)),
        ((64, 64), 1, (64, 64, 1)),
        ((64,), 1, (8, 8, 1)),
        ((192,), 1, (8, 8, 3)),
        ((1, 28, 28), 1, (28, 28, 1)),
    ],
    ids=str,
)
def test_every_form_of_images_is_shown(shape, count, one, rng, backend):
    images = rng.random(shape).astype(np.float32)
    sheet = sg.show(backend.array(images), columns=count)
    H, W, C = one
    scale = max(1, round((280 if count == 1 else 84) / max(H, W)))
    assert sheet.size == (count * (W * scale + 2) + 2, H * scale + 4)
    assert sheet.mode == ("L" if C == 1 else "RGB")
    first = pixels(sheet)[2 : 2 + H * scale : scale, 2 : 2 + W * scale : scale]
    assert np.array_equal(first.reshape(one), np.rint(255 * images.reshape(-1, *one)[0]))


def test_bytes_and_truth_values_are_shown_as_they_are(rng):
    images = rng.integers(0, 256, (4, 84, 84, 1), dtype=np.uint8)
    assert np.array_equal(pixels(sg.show(images))[2:86, 2:86], images[0, ..., 0])
    assert np.array_equal(pixels(sg.show(images > 99))[2:86, 2:86], 255 * (images[0, ..., 0] > 99))
    assert np.array_equal(pixels(sg.show(list(images))), pixels(sg.show(images)))
    assert np.array_equal(pixels(sg.show((images / 255).astype(">f8"))), pixels(sg.show(images)))


def test_about_as_wide_as_high_or_as_many_columns_as_asked_for():
    images = np.zeros((9, 84, 84))
    assert sg.show(images).size == (260, 260)
    assert sg.show(images, columns=5).size == (432, 174)
    assert sg.show(images, columns=np.int64(99)).size == (776, 88)


def test_titles_stand_above_and_long_ones_are_cut():
    images = np.ones((3, 28, 28))
    plain, titled = (
        sg.show(images, columns=2),
        sg.show(images, columns=2, titles=["7", 'a "very" long <title>\n' * 3, ""]),
    )
    assert titled.size == (plain.width, plain.height + 2 + 2 * 18)  # each row with a gap of its own below
    above = [pixels(titled)[r : r + 18, c : c + 84] for r, c in ((0, 2), (0, 88), (106, 2))]
    assert [int(np.any(strip < 128)) for strip in above] == [1, 1, 0]
    assert (pixels(titled)[:, :2] == 255).all()
    assert sg.show(images[0], titles=np.array([3])).height == 280 + 4 + 18
    assert sg.show(np.ones((8, 8, 3)), titles=["x"]).mode == "RGB"


def test_titles_may_be_greek_and_mathematics():
    """A letter that a font has not is drawn as a box, all of them alike."""
    sheets = {sg.show(np.ones((8, 8)), titles=[letter]).tobytes() for letter in "μσ∂∞ñЖ"}
    assert len(sheets) == 6


def test_large_sheets_are_reduced():
    assert sg.show(np.zeros((4, 1200, 1000))).size == (1600, round(1600 * 2406 / 2006))
    assert sg.show(np.zeros((1024, 28, 28))).width <= 1600
    assert sg.show(np.zeros((500, 28, 28)), columns=1).height == 6400


def test_a_sheet_shows_itself_and_can_be_saved(tmp_path):
    sheet = sg.show(np.zeros((2, 8, 8)))
    assert Image.open(io.BytesIO(sheet._repr_png_())).size == sheet.size
    sheet.save(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 0


SIGMOID = r"goes from -3 to 2, needs 0 to 1: of logits show the sigmoid .*divide pixels .*take \(x \+ 1\) / 2"


@pytest.mark.parametrize(
    ("images", "options", "error", "said"),
    [
        (np.array([[-3.0, 2], [0, 0]]), {}, ValueError, SIGMOID),
        (np.full((2, 2), np.nan), {}, ValueError, "holds 4 of 4 elements that are not finite"),
        (
            np.full((8, 8), 255),
            {},
            TypeError,
            r"dtype int64, needs floats in \[0, 1\] or uint8: images.astype\(np.uint8",
        ),
        (np.zeros((8, 8), complex), {}, TypeError, r"dtype complex128, needs floats in \[0, 1\] or uint8$"),
        (np.array([["a"]]), {}, TypeError, "dtype <U1, needs floats"),
        (np.zeros((0, 8, 8)), {}, ValueError, r"shape \(0, 8, 8\), which has no pixels"),
        ([], {}, ValueError, "got no images"),
        ([np.zeros((8, 8)), np.zeros((8, 9))], {}, ValueError, r"have shapes \(8, 8\) and \(8, 9\), needs one shape"),
        (np.zeros((5, 3, 8, 8)), {}, ValueError, r"channels come last, images.transpose\(0, 2, 3, 1\)"),
        (np.zeros((5, 8, 8, 4)), {}, ValueError, r"1 channel or 3, not 4: choose some, as in images\[..., :3\]"),
        (np.zeros((8, 8, 4)), {}, ValueError, r"1 channel or 3, not 4: choose some, as in images\[..., :3\]"),
        (np.zeros((5, 8, 8, 2)), {}, ValueError, r"not 2: choose some, as in images\[..., :1\]"),
        (np.zeros(10), {}, ValueError, "the pixels of a square image, and 10 is no square"),
        (np.zeros((1, 2, 8, 8, 1)), {}, ValueError, r"needs \(N, H, W, C\), \(N, H, W\) or \(N, H·W\)"),
        (np.float64(0.5), {}, ValueError, r"shape \(\), needs \(N, H, W, C\)"),
        (
            np.zeros((2000, 8, 8)),
            {},
            ValueError,
            r"2,000 images are too many for a sheet: choose some, as in images\[:64\]",
        ),
        ("photo.png", {}, TypeError, "images: got a str, needs a numpy or cupy array"),
        ([None], {}, TypeError, "images: got a NoneType"),
        (np.ma.zeros((8, 8)), {}, TypeError, "got a MaskedArray"),
        (np.zeros((2, 8, 8)), {"columns": 0}, ValueError, "columns is 0, needs at least 1"),
        (np.zeros((2, 8, 8)), {"columns": 2.0}, TypeError, "columns is 2.0, needs an integer"),
        (np.zeros((2, 8, 8)), {"titles": "ab"}, TypeError, r"titles is 'ab', needs one for each image"),
        (np.zeros((2, 8, 8)), {"titles": ["a"]}, ValueError, "got 1 titles for 2 images, needs one for each"),
    ],
    ids=str,
)
def test_what_cannot_be_shown_is_said(images, options, error, said):
    with pytest.raises(error, match=f"^show: .*{said}"):
        sg.show(images, **options)


# --- progress bars ---

KERNEL = """
import sys, types

class Shell:
    kernel = object()

IPython = types.ModuleType("IPython")
IPython.get_ipython = Shell
IPython.display = types.ModuleType("IPython.display")
IPython.display.display = lambda thing: print("shown", type(thing).__name__)
sys.modules |= {"IPython": IPython, "IPython.display": IPython.display, "ipykernel.zmqshell": types.ModuleType("z")}
"""
WIDGETS = """
class Widget:
    bar_style = ""
    def __init__(self, **options):
        self.layout = self.style = types.SimpleNamespace()
        vars(self).update(options)
    def close(self):
        print("closed")

ipywidgets = types.ModuleType("ipywidgets")
ipywidgets.HTML = ipywidgets.FloatProgress = ipywidgets.HBox = Widget
sys.modules["ipywidgets"] = ipywidgets
"""
BARS = """
from scratchgen.progress import doing, over, tqdm
for i in over(range(3), "reading"):
    tqdm.write(f"line {i}")
with doing("drawing"):
    pass
assert list(over(range(3), "quietly", progress=False)) == [0, 1, 2]
"""
NO_WIDGETS = "sys.modules |= {'ipywidgets': None, 'IPython.html': None}\n"


def output_of(program):
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_bars_in_a_notebook_are_widgets():
    shown = output_of(KERNEL + WIDGETS + BARS)
    assert shown.split("\n") == [
        "shown TqdmHBox",
        "line 0",
        "line 1",
        "line 2",
        "closed",
        "shown TqdmHBox",
        "closed",
        "",
    ]


def test_bars_in_a_notebook_without_widgets_are_text_and_no_warning():
    shown = output_of(KERNEL + NO_WIDGETS + BARS)
    assert "reading:   0%|" in shown
    assert "drawing …" in shown
    assert "quietly" not in shown
    assert [f"line {i}" in shown for i in range(3)] == [True] * 3


def test_no_bar_elsewhere_where_there_is_no_terminal():
    assert output_of(BARS) == "line 0\nline 1\nline 2\n"
