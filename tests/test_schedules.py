"""Learning-rate schedules: their values, and that a run keeps to them."""

import numpy as np
import pytest

import scratchgen as sg
from scratchgen.schedules import SCHEDULES, constant, cosine, linear, share
from scratchgen.training import Settings, Training


@pytest.mark.parametrize(
    ("schedule", "at"),
    [
        (constant, {0: 1, 0.3: 1, 1: 1}),
        (linear, {0: 1, 0.25: 0.75, 0.5: 0.5, 1: 0}),
        (cosine, {0: 1, 1 / 3: 0.75, 0.5: 0.5, 2 / 3: 0.25, 1: 0}),
    ],
)
def test_values_at_the_ends_and_between(schedule, at):
    assert [schedule(t) for t in at] == pytest.approx(list(at.values()), abs=1e-15)


def test_the_cosine_is_half_a_period():
    t = np.linspace(0, 1, 50)
    np.testing.assert_allclose([cosine(s) for s in t], (1 + np.cos(np.pi * t)) / 2, rtol=0, atol=1e-15)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_warmup_grows_to_the_full_rate_and_the_rest_is_the_schedule(schedule):
    shares = [share(schedule, step, 10, warmup=4) for step in range(10)]
    assert shares[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
    assert shares[4:] == [share(schedule, step, 6) for step in range(6)]


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 1000, 10**9])
def test_the_last_step_still_has_a_rate(schedule, steps):
    optimizer = sg.SGD(sg.Dense(1, 1).parameters(), 1)
    for warmup in {0, steps - 1}:
        optimizer.lr = share(schedule, steps - 1, steps, warmup=warmup)
        assert 0 < optimizer.lr <= 1


@pytest.mark.parametrize(
    ("step", "steps", "warmup", "error", "said"),
    [
        (10, 10, 0, ValueError, "step is 10, needs to be below 10"),
        (-1, 10, 0, ValueError, "step is -1, needs at least 0"),
        (0, 0, 0, ValueError, "steps is 0, needs at least 1"),
        (0, 10, 10, ValueError, "warmup is 10, needs to be below 10"),
        (0, 10, -1, ValueError, "warmup is -1, needs at least 0"),
        (0.5, 10, 0, TypeError, "step is 0.5, needs an integer"),
    ],
)
def test_steps_that_there_are_not(step, steps, warmup, error, said):
    with pytest.raises(error, match=said):
        share(linear, step, steps, warmup=warmup)


# --- in a run -----------------------------------------------------------------------------------------------------


class Players:
    """Two optimizers, as a GAN has them; notes their rates."""

    def __init__(self):
        self.model = sg.Sequential(sg.Dense(1, 1), sg.Dense(1, 1))
        parts = zip(("d", "g"), self.model.layers, (0.8, 0.2), strict=True)
        self.optimizers = {key: sg.SGD(part.parameters(), lr) for key, part, lr in parts}
        self.rates = []

    def step(self, batch, rng):
        self.rates.append([optimizer.lr for optimizer in self.optimizers.values()])
        return {"loss": np.float32(1)}

    def advice(self, *, updated):
        return ""


def rates(**settings):
    recipe = Players()
    training = Training(recipe, np.zeros((10, 1), np.float32), Settings(2, 2, 0, **settings))
    list(training.train(progress=False))
    return np.array(recipe.rates)


@pytest.mark.parametrize("decay", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 3])
def test_a_run_scales_the_rate_of_every_optimizer(decay, warmup):
    shares = [share(SCHEDULES[decay], step, 10, warmup=warmup) for step in range(10)]
    np.testing.assert_allclose(rates(decay=decay, warmup=warmup), np.outer(shares, [0.8, 0.2]), rtol=1e-15)


def test_a_rate_of_ones_own_is_left_alone_where_there_is_no_schedule():
    recipe = Players()
    recipe.optimizers["g"].lr = 0.3
    training = Training(recipe, np.zeros((4, 1), np.float32), Settings(1, 2, 0))
    recipe.optimizers["g"].lr = 0.1
    list(training.train(progress=False))
    assert recipe.rates == [[0.8, 0.1]] * 2


def test_a_warmup_is_a_number_of_steps():
    for bad, error in ((-1, ValueError), (0.5, TypeError)):
        with pytest.raises(error, match="Training: warmup is"):
            rates(warmup=bad)
    with pytest.raises(ValueError, match="warmup is 10, needs to be below 10"):
        rates(warmup=10)
