"""Layers that draw: what they draw, that each pass draws anew, and that a resumed run draws what it would have."""

import copy

import numpy as np
import pytest
from backends import host
from comparing import assert_equal
from layer_table import changed, snapshot

import scratchgen as sg
from scratchgen import BatchNorm, Dense, Dropout, RandomCutout, RandomFlip, RandomShift, Sequential, gradcheck
from scratchgen.training import Settings, Training

LAYERS = {
    "Dropout": lambda seed=0: Dropout(0.4, rng=np.random.default_rng(seed)),
    "RandomFlip": lambda seed=0: RandomFlip(rng=np.random.default_rng(seed)),
    "RandomShift": lambda seed=0: RandomShift(0.3, rng=np.random.default_rng(seed)),
    "RandomCutout": lambda seed=0: RandomCutout(0.4, rng=np.random.default_rng(seed)),
}
every_random_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
IMAGES = np.random.default_rng(1).standard_normal((12, 7, 6, 2))


def passes(layer, count=3, x=IMAGES) -> list:
    return [host(layer.forward(x)[0]) for _ in range(count)]


# --- what all have in common --------------------------------------------------------------------------------------


@every_random_layer
def test_every_pass_draws_anew_by_the_seed(make):
    first, second, third = passes(make())
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, third)
    assert_equal(passes(make()), [first, second, third])
    assert not np.array_equal(passes(make(seed=1))[0], first)


@every_random_layer
def test_the_global_generator_is_left_alone(make):
    np.random.seed(3)  # noqa: NPY002  the state that must stay
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    passes(make())
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@every_random_layer
def test_a_device_draws_what_the_host_draws(make, device):
    layer = make().to(device.name)
    assert_equal(passes(layer, x=device.array(IMAGES)), passes(make()))
    assert all(type(a) is np.ndarray for a in layer.state().values())


@every_random_layer
def test_either_float_draws_the_same(make):
    single = make().forward(IMAGES.astype(np.float32))[0]
    np.testing.assert_allclose(single, make().forward(IMAGES)[0], rtol=1e-6)
    layer = make().astype(np.float32)
    assert {a.dtype for a in layer.state().values()} == {np.dtype(np.int64)}


@every_random_layer
def test_a_backward_is_that_of_its_own_pass(make, backend):
    """Called late, after another pass: moving x by one element at a time shows the map that was drawn."""
    layer, x = make().to(backend.name), IMAGES[:3, :4, :3, :1]
    again = copy.deepcopy(layer)
    y, backward = layer.forward(backend.array(x))
    layer.forward(backend.array(x))
    dy = np.random.default_rng(2).standard_normal(x.shape)
    dx, expected = host(backward(backend.array(dy))), np.zeros(x.size)
    for i in range(x.size):
        one = np.zeros(x.size)
        one[i] = 1
        expected[i] = (host(copy.deepcopy(again).forward(backend.array(one.reshape(x.shape)))[0]) * dy).sum()
    np.testing.assert_allclose(dx.ravel(), expected, rtol=1e-12)
    assert host(y).shape == x.shape


@every_random_layer
def test_predict_is_the_identity_and_counts_nothing(make, backend):
    layer, x = make().to(backend.name), backend.array(IMAGES)
    before = snapshot(layer)
    assert_equal([layer.predict(x)], [x])
    assert changed(before, snapshot(layer)) == set()


@every_random_layer
def test_a_state_goes_on_where_it_was_taken(make):
    layer, other = make(), make(seed=5)
    passes(layer, 2)
    state = {name: a.copy() for name, a in layer.state().items()}
    assert {name: int(a) for name, a in state.items()} == {"seed": int(layer.seed), "passes": 2}
    expected = passes(layer)
    other.load_state(state)
    assert_equal(passes(other), expected)


@pytest.mark.parametrize("name", ["seed", "passes"])
def test_a_count_is_a_whole_number_from_zero(name):
    layer = Sequential(Dense(2, 2), Dropout())
    before = snapshot(layer)
    for bad, error in ((np.array(-1), ValueError), (np.array(1.0), TypeError), (np.array(1, np.uint8), TypeError)):
        with pytest.raises(error, match=f"1.{name}"):
            layer.load_state(layer.state() | {f"1.{name}": bad})
    assert changed(before, snapshot(layer)) == set()


@every_random_layer
def test_a_pass_that_fails_is_not_counted(make):
    network = Sequential(make(), Sequential(sg.Flatten(), Dense(3, 2)))
    before = snapshot(network)
    with pytest.raises(ValueError, match="Dense"):
        network.forward(IMAGES.astype(np.float32))
    assert changed(before, snapshot(network)) == set()


def test_two_layers_of_one_generator_draw_apart():
    rng = np.random.default_rng(0)
    x = np.ones((4, 50))
    one, other = Dropout(rng=rng), Dropout(rng=rng)
    assert not np.array_equal(one.forward(x)[0], other.forward(x)[0])


def test_frozen_makes_no_difference():
    one, other = LAYERS["Dropout"](), LAYERS["Dropout"]()
    with sg.frozen(one):
        y = passes(one)
    assert_equal(y, passes(other))


# --- what each draws ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean(rate, rng):
    mask = Dropout(rate, rng=rng).forward(np.ones((400, 500)))[0]
    assert set(np.unique(mask)) <= {0.0, 1 / (1 - rate)}
    assert (mask == 0).mean() == pytest.approx(rate, abs=3 * (rate * (1 - rate) / mask.size) ** 0.5)
    assert mask.mean() == pytest.approx(1, abs=4 * (rate / (1 - rate) / mask.size) ** 0.5)


def test_a_flip_mirrors_about_half_of_the_images(rng):
    x = rng.random((400, 2, 5, 1))
    y = RandomFlip(rng=rng).forward(x)[0]
    same, mirrored = ((y == z).all(axis=(1, 2, 3)) for z in (x, x[:, :, ::-1]))
    assert (same ^ mirrored).all()
    assert 150 < mirrored.sum() < 250


def test_a_shift_moves_each_image_and_zeros_move_in(rng):
    x = 1 + rng.random((600, 8, 10, 2))
    y = RandomShift(0.2, rng=rng).forward(x)[0]
    ways = []
    for image, moved in zip(x, y, strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
        fits = [
            (r, q)
            for r in range(-2, 3)
            for q in range(-2, 3)
            if np.array_equal(padded[2 - r : 10 - r, 2 - q : 12 - q], moved)
        ]
        assert len(fits) == 1
        ways += fits
    assert set(ways) == {(r, q) for r in range(-2, 3) for q in range(-2, 3)}  # 0.2 · 8 rounds to 2
    assert not np.array_equal(*map(np.array, (ways[:300], ways[300:])))


def test_a_cutout_is_a_rectangle_around_any_pixel(rng):
    x = np.ones((800, 6, 9, 2))
    y = RandomCutout(0.5, rng=rng).forward(x)[0]
    centres = set()
    for image in y:
        rows, columns = np.flatnonzero((image == 0).any(axis=(1, 2))), np.flatnonzero((image == 0).any(axis=(0, 2)))
        cut = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert not cut.any()
        assert (image == 0).sum() == cut.size
        assert len(rows) <= 3
        assert len(columns) <= 5  # 0.5 · 9 rounds up
        centres.add((rows[0], rows[-1], columns[0], columns[-1]))
    assert len(centres) == 6 * 9  # one for each centre
    assert not RandomCutout(0, rng=rng).forward(x)[0].min() < 1


# --- in a run, and in the checker ---------------------------------------------------------------------------------


class Recipe:
    """A network with every layer that draws, and a BatchNorm, trained by Adam."""

    def __init__(self):
        rng = np.random.default_rng(0)
        layers = [make() for make in LAYERS.values()]
        network = [*layers[1:], sg.Flatten(), Dense(24, 6, rng=rng), BatchNorm(6), sg.ReLU(), layers[0]]
        self.model = Sequential(*network, Dense(6, 24, rng=rng), sg.Reshape(3, 4, 2))
        self.optimizers = {"optimizer": sg.Adam(self.model.parameters(), 0.05)}

    def step(self, batch, rng):
        y, backward = self.model.forward(batch)
        loss, dy = sg.mse(y, batch)
        backward(dy, need_dx=False)
        self.optimizers["optimizer"].step()
        return {"loss": loss}

    def advice(self, *, updated):
        return ""


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path):
    samples = np.random.default_rng(4).random((20, 3, 4, 2)).astype(np.float32)

    def training():
        return Training(Recipe(), samples, Settings(epochs=3, batch_size=4, seed=0, warmup=7, decay="cosine"))

    whole, first, second = training(), training(), training()
    list(whole.train(progress=False))
    with pytest.raises(sg.training.Stopped):
        list(first.train(progress=False, on_pause=lambda: first.steps == 8))
    first.save(tmp_path / "checkpoint")
    second.load(tmp_path / "checkpoint")
    assert int(second.recipe.model.layers[0].passes) == 8
    list(second.train(progress=False))
    assert_equal(second.recipe.model.state().values(), whole.recipe.model.state().values())


def test_the_checker_leaves_the_counts_alone():
    layer = LAYERS["Dropout"]()
    passes(layer, 2)
    dense = Dense(3, 4)
    before = snapshot(layer)
    x = np.random.default_rng(0).standard_normal((5, 3))

    def closing_over(x):
        h, back = dense.forward(x)
        y, backward = layer.forward(h)
        return y, lambda dy: back(backward(dy))

    for report in (
        gradcheck.check(layer, x),
        gradcheck.check(Sequential(dense, layer), x),
        gradcheck.check(closing_over, x),
        gradcheck.check(closing_over, x, parameters=Sequential(dense, layer)),
    ):
        assert report.ok, report
        assert changed(before, snapshot(layer)) == set()


def test_the_losses_of_a_game_whose_discriminator_draws(rng):
    generator = Sequential(Dense(3, 4 * 5 * 2, rng=rng), sg.Tanh(), sg.Reshape(4, 5, 2))
    drawing = [make() for name, make in LAYERS.items() if name != "Dropout"]
    last = (sg.Conv2d(2, 3, 3, rng=rng), sg.LeakyReLU(), sg.Flatten(), LAYERS["Dropout"](), Dense(18, 1, rng=rng))
    gan = sg.GAN(generator, Sequential(*drawing, *last), 3)
    real, z = rng.uniform(-1, 1, (6, 4, 5, 2)), rng.standard_normal((5, 3))
    for report in (gradcheck.check(gan.discriminator_loss, real, z), gradcheck.check(gan.generator_loss, z)):
        assert report.ok, report
        assert report.error < 1e-6
    assert int(drawing[0].passes) == 0


def test_weights_go_into_a_file_and_back(tmp_path):
    layer, other = Sequential(Dense(3, 2), LAYERS["Dropout"]()), Sequential(Dense(3, 2), LAYERS["Dropout"](7))
    passes(layer, 2, np.ones((4, 3), np.float32))
    sg.save_weights(layer, tmp_path / "weights.safetensors")
    sg.load_weights(other, tmp_path / "weights.safetensors")
    assert_equal(other.state().values(), layer.state().values())


def test_the_checker_still_refuses_what_draws_otherwise():
    rng = np.random.default_rng(0)

    class Noise(sg.Layer):
        def forward(self, x):
            return x + rng.standard_normal(x.shape), lambda dy: dy

    with pytest.raises(ValueError, match="two values at one point"):
        gradcheck.check(Noise(), np.ones((2, 3)))


def test_a_layer_of_ones_own_that_draws_is_checked_like_these():
    class Noise(sg.Random):
        """y = x · (1 + ε) with ε drawn for each element."""

        def forward(self, x):
            self.check_input(x, "N", ...)
            factor = (1 + self.draw().standard_normal(x.shape)).astype(x.dtype)
            return x * factor, self.pullback(x, dx=lambda dy: dy * factor)

    assert gradcheck.check(Noise(), np.ones((2, 3))).ok
