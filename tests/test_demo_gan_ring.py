"""The demo of mode collapse: its pictures are made, its game is played by its rules, x·y moves as it must."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scratchgen.data import ring
from scratchgen.models import GAN


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("gan_ring", Path(__file__).parents[1] / "demos/gan_ring.py")
    module = sys.modules["gan_ring"] = importlib.util.module_from_spec(spec)  # where its dataclass looks for itself
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gan_ring"]


@pytest.fixture(scope="module")
def data():
    return ring(10_000, 1000, np.random.default_rng(0))


@pytest.fixture(scope="module")
def tiny(demo):
    return replace(demo.RECIPE, hidden=(8,), batch=16, steps=6)


def test_the_quick_form_makes_its_pictures(demo, tmp_path, capsys):
    demo.main(["--out", str(tmp_path / "new" / "folder"), "--steps", "5"])
    pictures = {path.name: path for path in (tmp_path / "new" / "folder").iterdir()}
    assert set(pictures) == {"gan_ring.gif", "gan_choices.png", "gan_descent.png"}
    told = capsys.readouterr().out
    for path in pictures.values():
        assert str(path) in told
        assert path.stat().st_size < 2_000_000
        with Image.open(path) as image:
            assert min(image.size) >= 400
    with Image.open(pictures["gan_ring.gif"]) as film:
        assert film.n_frames >= 6  # before each of the 5 steps, and after the last


def test_the_game_is_learned(demo, data):
    """Most samples lie near a centre after a short training: the circle's own median distance would be 0.19."""
    model = demo.play(replace(demo.RECIPE, hidden=(64, 64, 64), batch=128, steps=800), data, 1)
    distances = np.linalg.norm(demo.samples_of(model)[:, None] - data.centres, axis=2).min(axis=1)
    assert np.median(distances) < 0.1
    assert demo.score(model, data).modes >= 6


@pytest.mark.parametrize("k", [1, 3])
def test_k_updates_of_the_discriminator_for_one_of_the_generator(demo, data, tiny, monkeypatch, k):
    calls, rates = [], []
    for name in ("discriminator_step", "train_step"):
        original = getattr(GAN, name)

        def spied(self, real, z, *players, name=name, original=original):
            calls.append(name)
            rates.append({player.lr for player in players})
            assert real.shape == z.shape == (16, 2)
            return original(self, real, z, *players)

        monkeypatch.setattr(GAN, name, spied)
    seen = []
    demo.play(replace(tiny, k=k), data, 0, lambda step, model: seen.append(step))
    assert calls == (["discriminator_step"] * (k - 1) + ["train_step"]) * 6
    assert seen == [0, 1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose([list(r) for r in rates[::k]], 1e-3 * np.array([[6], [5], [4], [3], [2], [1]]) / 6)


def test_a_seed_makes_the_same_model(demo, data, tiny):
    first, again, other = (demo.samples_of(demo.play(tiny, data, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("change", [{"loss": "minimax"}, {"optimizer": "SGD"}, {"beta1": 0.9}, {"fade": False}])
def test_every_rule_matters(demo, data, tiny, change):
    tiny = replace(tiny, lr=0.01)
    assert (
        demo.samples_of(demo.play(replace(tiny, **change), data, 1)) != demo.samples_of(demo.play(tiny, data, 1))
    ).any()


def test_the_table(demo, tiny, capsys):
    data = ring(1000, 1000, np.random.default_rng(0), std=0.2)  # so wide that even these games hit something
    demo.table({"one": tiny, "other": replace(tiny, **demo.COLLAPSE)}, data, 3)
    lines = capsys.readouterr().out.splitlines()
    one, other = ([f"{name}:", "seed", "0", "1", "2", "median"] for name in ("one", "other"))
    assert [line.split()[0] for line in lines if line] == one + other
    assert "β₁ 0.5" in lines[0]
    found = demo.score(demo.play(tiny, data, 2), data)
    assert found.high_quality > 0.05
    numbers = f"{found.modes}", f"{100 * found.high_quality:.1f}", "%", f"{found.reverse_kl:.3f}"
    assert lines[4].split()[:5] == ["2", *numbers]
    modes = [int(line.split()[1]) for line in lines[2:5]]
    assert float(lines[5].split()[1]) == np.median(modes)


# --- x·y ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lr", [0.01, 0.1, 1.0])
def test_simultaneous_steps_diverge_at_their_exact_rate(demo, lr):
    path = demo.descent_ascent([lr] * 60, (0.3, -0.4))
    np.testing.assert_allclose(np.hypot(*path.T), 0.5 * np.sqrt(1 + lr**2) ** np.arange(61), rtol=1e-12)
    assert path[1, 0] == pytest.approx(0.3 + 0.4 * lr)  # x descends: ∂(x y)/∂x = y
    assert path[1, 1] == pytest.approx(-0.4 + 0.3 * lr)  # y ascends: ∂(x y)/∂y = x


@pytest.mark.parametrize("lr", [0.01, 0.1, 1.0])
def test_alternating_steps_stay_on_an_ellipse(demo, lr):
    x, y = demo.descent_ascent([lr] * 500, (0.3, -0.4), alternating=True).T
    conserved = x**2 + y**2 - lr * x * y
    np.testing.assert_allclose(conserved, conserved[0], rtol=1e-11)


def test_a_falling_rate_slows_divergence_but_does_not_stop_it(demo):
    rates = 0.5 / np.sqrt(1 + np.arange(400))
    path = demo.descent_ascent(rates)
    np.testing.assert_allclose(np.hypot(*path[-1]), np.sqrt(np.prod(1 + rates**2)), rtol=1e-12)


def test_the_mean_of_simultaneous_steps_by_its_closed_form(demo):
    rates = 0.5 / np.sqrt(1 + np.arange(400))
    path = demo.descent_ascent(rates)
    z = path @ [1, 1j]
    mean = demo.average(path, rates) @ [1, 1j]
    np.testing.assert_allclose(mean, (z[1:] - z[0]) / (1j * np.cumsum(rates)), atol=1e-12)
    assert abs(mean[-1]) < 0.2 < 1 < abs(z[-1])
