"""Bad input to optimizers: their parameters, settings and states."""

import copy
from functools import partial

import numpy as np
import pytest
from layer_table import randomised
from refusals import every_bad_state, optimizer_of, refuses, refuses_state

from scratchgen import SGD, Adam, AdamW, Dense, RMSprop

OPTIMIZERS = {
    "SGD": lambda p: SGD(p, 0.1),
    "SGD with momentum": lambda p: SGD(p, 0.1, momentum=0.9),
    "Adam": Adam,
    "AdamW": AdamW,
    "RMSprop": RMSprop,
}
with_memory = pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "SGD"])


@with_memory
def test_parameters_moved_behind_an_optimizer(name, device):
    layer = randomised(Dense(2, 2))
    optimizer = OPTIMIZERS[name](layer.parameters())
    optimizer.step()
    layer.to(device.name)
    words = ["W", "moved", "numpy array", "afterwards"]
    refuses(optimizer.step, TypeError, name.split()[0], *words, owners=[layer, optimizer])


@pytest.mark.parametrize("betas", [(0.9,), (0.9, 0.99, 0.999), 0.9, None])
def test_betas_are_two(betas):
    error = ValueError if isinstance(betas, tuple) else TypeError
    refuses(partial(optimizer_of, Adam, betas=betas), error, "Adam", "betas", str(betas), "two")


# --- optimizers ---------------------------------------------------------------------------------------------------

LAYER = Dense(2, 2)
UNFIT = {
    "none": ([], ValueError, ["no parameters"]),
    "none, lazily": (iter(()), ValueError, ["no parameters"]),
    "an array": ([LAYER.W.value], TypeError, ["array", "Parameters"]),
    "None among them": ([LAYER.W, None], TypeError, ["None", "Parameters"]),
    "a layer among them": ([LAYER], TypeError, ["Dense(2, 2)", "Parameters"]),
    "one twice": ([LAYER.W, LAYER.b, LAYER.W], ValueError, ["twice"]),
    "a layer": (LAYER, TypeError, ["Dense(2, 2)", "Parameters"]),
    "a parameter": (LAYER.W, TypeError, ["Parameter('W'", "Parameters"]),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("bad", "error", "words"), UNFIT.values(), ids=UNFIT)
def test_what_an_optimizer_optimises(name, bad, error, words):
    refuses(partial(OPTIMIZERS[name], bad), error, name.split()[0], *words, owners=[LAYER])


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("lr", "error"), [(0, ValueError), (-1.0, ValueError), (None, TypeError)])
def test_a_learning_rate_that_is_set_later(name, lr, error):
    optimizer = OPTIMIZERS[name](Dense(2, 2).parameters())
    refuses(partial(setattr, optimizer, "lr", lr), error, name.split()[0], "lr", str(lr), owners=[optimizer])


@with_memory
def test_parameters_converted_behind_an_optimizer(name):
    layer = randomised(Dense(2, 2), np.float32)
    optimizer = OPTIMIZERS[name](layer.parameters())
    optimizer.step()
    layer.astype(np.float64)
    words = ["W", "float64", "float32", "afterwards"]
    refuses(optimizer.step, TypeError, name.split()[0], *words, owners=[layer, optimizer])


@with_memory
@every_bad_state
def test_a_state_that_does_not_fit_an_optimizer(name, spoil, error, words, backend):
    layer = randomised(Dense(2, 2), np.float32).to(backend.name)
    optimizer, other = (OPTIMIZERS[name](copy.deepcopy(layer).parameters()) for _ in range(2))
    for p in other.parameters:
        p.grad[...] = 1
    other.step()
    refuses_state(optimizer, other.state(), spoil, error, words)


@pytest.mark.parametrize(("mine", "other"), [("Adam", "SGD"), ("SGD", "Adam"), ("SGD with momentum", "Adam")])
def test_a_state_of_another_optimizer(mine, other):
    mine, other = (OPTIMIZERS[name](randomised(Dense(2, 2)).parameters()) for name in (mine, other))
    refuses(partial(mine.load_state, other.state()), ValueError, type(mine).__name__, "does not fit", "m.0")


@pytest.mark.parametrize(
    ("t", "error", "words"),
    [
        (None, ValueError, ["lacks t"]),
        (np.array(2.0), TypeError, ["t", "float64"]),
        (np.ones(1, int), ValueError, ["(1,)"]),
        (np.array(-1), ValueError, ["-1"]),
    ],
    ids=["missing", "a float", "an array", "negative"],
)
def test_a_state_without_the_number_of_steps(t, error, words):
    optimizer = optimizer_of(Adam)
    state = {name: a for name, a in optimizer.state().items() if name != "t"} | ({} if t is None else {"t": t})
    refuses(partial(optimizer.load_state, state), error, "Adam", *words, owners=[optimizer])
