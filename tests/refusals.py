"""Bad input is refused at once, by name, with what was got and what is needed; and nothing has changed."""

from functools import partial

import numpy as np
import pytest
from backends import like
from layer_table import changed, snapshot

from scratchgen import Dense, Module


def refuses(call, error, *words, owners=()) -> str:
    """The call raises this error with these words in its message, and leaves its owners as they were: the message."""
    for p in (p for owner in owners if isinstance(owner, Module) for p in owner.parameters()):
        p.grad[...] = like(p.grad, np.random.default_rng(3).standard_normal(p.grad.shape))
    before = snapshot(*owners)
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert caught.type in (error if isinstance(error, tuple) else (error,))
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert changed(before, snapshot(*owners)) == set()
    return str(caught.value)


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def optimizer_of(make, **how):
    return make(Dense(2, 2).parameters(), **how)


def binary(*shape, seed=0):
    """Images of 0 and 1, a fifth of them ink."""
    return (np.random.default_rng(seed).random(shape) < 0.2).astype(np.float32)


OUTSIDE = {  # how images of [0, 1] come to lie elsewhere, and the range that is said
    "[-1, 1]": (lambda u: 2 * u - 1, "from -1 to 1"),
    "0 … 255": (lambda u: 255 * u, "from 0 to 255"),
    "standardised": (lambda u: (u - 0.13) / 0.31, "from -0.4194 to 2.806"),
    "overshoot of a resize": (lambda u: u * 1.02, "from 0 to 1.02"),
    "inverted": (lambda u: -u, "from -1 to "),
    "a NaN": (lambda u: np.where(np.arange(u.size).reshape(u.shape) == 1, np.nan, u), "holds 1 of "),
    "infinity": (lambda u: np.where(u == 1, np.inf, u), "not finite"),
}
every_outside = pytest.mark.parametrize(("spoil", "said"), OUTSIDE.values(), ids=OUTSIDE)


EITHER = (ValueError, TypeError)
STATES = {  # how a state is spoilt in its last array, the error and its words
    "nothing": (lambda state, last: {}, ValueError, ["lacks"]),
    "one missing": (lambda state, last: {k: a for k, a in state.items() if k != last}, ValueError, ["lacks"]),
    "one more": (lambda state, last: state | {"other": ones(2)}, ValueError, ["other"]),
    "shape": (lambda state, last: state | {last: state[last][None]}, ValueError, ["shape"]),
    "broadcastable": (lambda state, last: state | {last: ones(*[1] * (state[last].ndim + 1))}, ValueError, ["shape"]),
    "integers": (lambda state, last: state | {last: state[last].astype(int)}, EITHER, ["int64", "float32"]),
    "float16": (lambda state, last: state | {last: state[last].astype("e")}, EITHER, ["float16", "float32"]),
    "list": (lambda state, last: state | {last: state[last].tolist()}, EITHER, ["list", "array"]),
    "None": (lambda state, last: state | {last: None}, EITHER, ["NoneType", "array"]),
}
every_bad_state = pytest.mark.parametrize(("spoil", "error", "words"), STATES.values(), ids=STATES)


def refuses_state(owner, state, spoil, error, words):
    last = [name for name, a in state.items() if a.dtype.kind == "f"][-1]
    words = words if "other" in words else [last, *words]
    refuses(partial(owner.load_state, spoil(state, last)), error, type(owner).__name__, *words, owners=[owner])
