"""Gradients are arrays of their own; values are never written into.

Whatever a layer's adjoint makes of dy, p.grad is what `grad += gradient` gives, and no array of the user's is written
into. An array that p.grad was stays as it is from the next zero_grad on.
"""

import copy
import ctypes
import pickle
from itertools import product

import numpy as np
import pytest
from drawn import LAYOUTS, laid
from holders import FOREIGN, HOLDERS, N
from layer_table import every_layer_that_learns

from scratchgen import SGD, Adam, Dense, Layer, Parameter, frozen, mse
from scratchgen.backend.numpy_ops import memory


def address(array) -> int:
    return array.__array_interface__["data"][0]


# --- whatever an adjoint returns ------------------------------------------------------------------------------------


class Subclass(np.ndarray):
    pass


class Own:
    """A layer of the user's: `gradient(dy)` is what its adjoint makes of dy."""

    shape = (4,)  # of the parameter


class New(Own):
    def gradient(self, dy):
        return dy.sum(axis=0)


class DyItself(Own):
    shape = (3, 4)

    def gradient(self, dy):
        return dy


class DyTurned(Own):
    shape = (4, 3)

    def gradient(self, dy):
        return dy.T


class ARowOfDy(Own):
    def gradient(self, dy):
        return dy[1]


class OneNumberEverywhere(Own):
    """Read-only, and all in one place."""

    def gradient(self, dy):
        return np.broadcast_to(dy.sum(), (4,))


class ReadOnly(Own):
    def gradient(self, dy):
        gradient = dy.sum(axis=0)
        gradient.flags.writeable = False
        return gradient


class DoublePrecision(Own):
    def gradient(self, dy):
        return dy.sum(axis=0, dtype=np.float64)


class ABytesObject(Own):
    def gradient(self, dy):
        return np.frombuffer(dy.sum(axis=0).tobytes(), np.float32)


class ASubclass(Own):
    def gradient(self, dy):
        return dy.sum(axis=0).view(Subclass)


class AScalar(Own):
    """NumPy's sums over everything are no arrays."""

    shape = ()

    def gradient(self, dy):
        return dy.sum()


class AnArrayOfNoAxes(Own):
    shape = ()

    def gradient(self, dy):
        return np.asarray(dy.sum())


class FortranOrder(Own):
    shape = (3, 4)

    def gradient(self, dy):
        return np.asfortranarray(2 * dy)


class ARealPart(Own):
    def gradient(self, dy):
        return (dy.sum(axis=0) * np.complex64(1 + 2j)).real


class ItsOwnValue(Own):
    """Weight decay."""

    def gradient(self, dy):
        return self.p.value


class ItsOwnGradient(Own):
    def gradient(self, dy):
        return self.p.grad


KINDS = list(Own.__subclasses__())
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def a_layer_with(kind):
    """The user's arrays, and a Layer around them with one parameter."""
    own = kind()

    class Odd(Layer):
        def __init__(self):
            self.p = own.p = Parameter("p", np.arange(np.prod(kind.shape), dtype=np.float32).reshape(kind.shape))

        def forward(self, x):
            y = 2 * x
            return y, self.pullback(y, dx=lambda dy: 2 * dy, grads={self.p: own.gradient})

    return own, Odd()


def the_gradient_of(kind, dy, grad, value):
    """What is added, by the layer's formula alone."""
    if kind is ItsOwnValue:
        return value
    if kind is ItsOwnGradient:
        return grad
    own = kind()
    own.p = Parameter("p", np.zeros(kind.shape, np.float32))
    return np.array(own.gradient(dy))


@every_kind
def test_grad_is_what_adding_gives_whatever_happens_in_between(kind):
    """B: a backward; Z: zero_grad; R: somebody looks at p.grad; H: and keeps it, or a view of it; F: a backward while
    frozen. All orders of four of them."""
    for events in product("BZRHF", repeat=4):
        if "B" not in events:
            continue
        _, layer = a_layer_with(kind)
        p, held, let_go = layer.p, [], []
        value = p.value.copy()
        expected = np.zeros(kind.shape, np.float32)
        for turn, event in enumerate(events):
            dy = (np.arange(12, dtype=np.float32).reshape(3, 4) - turn) * (turn + 1)
            before, x = dy.copy(), np.ones((3, 4), np.float32)
            if event == "B":
                expected += the_gradient_of(kind, dy, expected, value)
                layer.forward(x)[1](dy)
            elif event == "F":
                with frozen(layer):
                    layer.forward(x)[1](dy)
            elif event == "Z":
                let_go += [(array, array.copy()) for array in held]
                held.clear()
                p.zero_grad()
                expected[...] = 0
            elif event == "R":
                assert p.grad.dtype == np.float32
            else:
                held.append(p.grad if turn % 2 else p.grad[...])
            np.testing.assert_array_equal(dy, before)
            for array in held:
                np.testing.assert_array_equal(array, expected, err_msg=str(events))
            for array, was in let_go:
                np.testing.assert_array_equal(array, was, err_msg=str(events))
        np.testing.assert_array_equal(p.grad, expected, err_msg=str(events))
        np.testing.assert_array_equal(p.value, value)


@every_kind
def test_grad_is_an_array_of_its_own(kind):
    """The user may write into it; that is no other number's, and nobody else's."""
    _, layer = a_layer_with(kind)
    layer.zero_grad()
    dy = np.ones((3, 4), np.float32)
    layer.forward(dy)[1](dy)
    grad = layer.p.grad
    assert type(grad) is np.ndarray
    assert grad.dtype == np.float32
    before = grad.copy()
    for index in np.ndindex(grad.shape):
        grad[index] += 1 + sum(index)
        before[index] += 1 + sum(index)
        np.testing.assert_array_equal(grad, before)
    np.testing.assert_array_equal(layer.p.grad, before)
    np.testing.assert_array_equal(dy, 1)


def test_one_array_for_two_parameters():
    """However it is passed on: computed by `shared`, kept by a closure, handed from one adjoint to the other."""

    class Twins(Layer):
        def __init__(self, how):
            self.how = how
            self.a, self.b = (Parameter(name, np.zeros(4, np.float32)) for name in "ab")

        def forward(self, x):
            y, made = x + 0, []

            def first(dy):
                made.append(dy.sum(axis=0))
                return made[0]

            if self.how == "shared":
                grads, shared = {self.a: lambda dy, g: g, self.b: lambda dy, g: g}, lambda dy: (dy.sum(axis=0),)
            elif self.how == "kept":
                grads, shared = {self.a: first, self.b: lambda dy: made[0]}, None
            else:
                grads, shared = {self.a: first, self.b: lambda dy: made.pop()}, None
            return y, self.pullback(y, dx=lambda dy, *_: dy, grads=grads, shared=shared)

    for how in ("shared", "kept", "handed on"):
        layer = Twins(how)
        dy = np.arange(12, dtype=np.float32).reshape(3, 4)
        for zeroed in (True, False):
            if zeroed:
                layer.zero_grad()
            _, backward = layer.forward(dy)
            backward(dy)
            layer.a.grad += 100
            times = 1 if zeroed else 2
            np.testing.assert_array_equal(layer.b.grad, times * dy.sum(axis=0), err_msg=how)
            np.testing.assert_array_equal(layer.a.grad, times * (dy.sum(axis=0) + 100), err_msg=how)


def test_add_grad_by_hand():
    """What is handed over is p.grad from then on; what cannot be, is copied."""
    p, mine = Parameter("p", np.zeros(3, np.float32)), np.ones(3, np.float32)
    p.add_grad(mine)
    assert p.grad is mine
    p.add_grad(np.ones(3, np.float32))
    np.testing.assert_array_equal(p.grad, 2)
    p.zero_grad()
    np.testing.assert_array_equal(p.grad, 0)
    np.testing.assert_array_equal(mine, 2)
    p.zero_grad()
    p.add_grad(p.value)
    assert p.grad is not p.value
    with frozen(p):
        p.add_grad(np.ones(3, np.float32))
        np.testing.assert_array_equal(p.grad, 0)
        p.grad += 1
    np.testing.assert_array_equal(p.grad, 0)
    with pytest.raises(ValueError, match=r"p: gradient has shape \(2,\), needs \(3,\)"):
        p.add_grad(np.ones(2, np.float32))
    np.testing.assert_array_equal(p.grad, 0)


@pytest.mark.parametrize("parameters", [1, 2, 3])
def test_a_backward_gives_its_gradients_away(parameters):
    """No pass over memory: all of them, the last too."""

    class Some(Layer):
        def __init__(self):
            self.all = [Parameter(f"p{i}", np.zeros(N, np.float32)) for i in range(parameters)]

        def forward(self, x):
            y, self.made = x + 0, {}
            return y, self.pullback(y, dx=lambda dy: dy, grads={p: lambda dy, p=p: self.make(p) for p in self.all})

        def make(self, p):
            gradient = memory.empty((N,), np.float32)
            self.made[p.name] = address(gradient)
            return gradient

    layer = Some()
    for _ in range(2):
        layer.forward(np.ones(3, np.float32))[1](np.ones(3, np.float32))
        assert [address(p.grad) for p in layer.all] == list(layer.made.values())
        layer.zero_grad()


# --- what the user assigns ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FOREIGN)
def test_an_assigned_grad_is_the_one_that_is_written_into(kind):
    """Memory of another library's: it is seen to change there, until it is let go of."""
    make, look = FOREIGN[kind]
    held = make()
    array = look(held)
    if not array.flags.writeable or array.shape != (N,):
        pytest.skip("nothing can be written into it, or it lies in several places of the memory")
    del array
    p = Parameter("p", np.zeros(N, np.float32))
    p.grad = look(held)
    p.add_grad(np.ones(N, np.float32))
    p.add_grad(np.ones(N, np.float32))
    np.testing.assert_array_equal(look(held), 2)
    p.zero_grad()
    np.testing.assert_array_equal(p.grad, 0)
    p.add_grad(np.ones(N, np.float32))
    np.testing.assert_array_equal(look(held), 2)  # it has been let go of


def test_a_parameter_is_copied_and_pickled_with_its_gradient():
    for p in (Parameter("p", np.zeros(3, np.float32)), Dense(3, 1).W):
        for change in (lambda p: None, lambda p: p.add_grad(np.ones(p.value.shape, np.float32)), Parameter.zero_grad):
            change(p)
            for other in (copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
                np.testing.assert_array_equal(other.grad, p.grad)
                other.grad += 5
                other.add_grad(np.ones(p.value.shape, np.float32))
            assert p.grad.max() <= 1


def test_conversion_takes_the_gradient_along():
    layer = Dense(3, 2, rng=np.random.default_rng(0))
    layer.zero_grad()
    layer.astype(np.float64)
    assert layer.W.grad.dtype == np.float64
    layer.W.add_grad(np.ones((3, 2)))
    layer.astype(np.float32)
    assert layer.W.grad.dtype == np.float32
    np.testing.assert_array_equal(layer.W.grad, 1)
    layer.W.add_grad(np.ones((3, 2)))
    assert layer.W.grad.dtype == np.float32
    np.testing.assert_array_equal(layer.W.grad, 2)


# --- every layer ----------------------------------------------------------------------------------------------------


@every_layer_that_learns
def test_every_layer_adds_as_if_nothing_were_taken_over(row, monkeypatch):
    """Bit for bit, and without a trace in x, y, dy or dx, though the user writes into every p.grad in between."""

    def run():
        layer, x, dy = row.draw()
        layer.zero_grad()
        y, backward = layer.forward(x)
        given = [a.copy() for a in (x, y, dy)]
        seen = []
        for turn in range(4):
            dx = backward(dy)
            seen += [dx.copy(), *(p.grad.copy() for p in layer.parameters())]
            if turn == 1:
                layer.zero_grad()
            elif turn == 2:
                for p in layer.parameters():
                    p.grad[...] = 1e3
            np.testing.assert_array_equal(dx, seen[0])
        for a, b in zip((x, y, dy), given, strict=True):
            np.testing.assert_array_equal(a, b)
        return seen

    def adds(self, gradient):
        if not self.frozen:
            self.grad = self.grad + gradient

    found = run()
    monkeypatch.setattr(Parameter, "add_grad", adds)
    for a, b in zip(found, run(), strict=True):
        np.testing.assert_array_equal(a, b)


# --- values ---------------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "SGD": lambda p: SGD(p, 0.5),
    "SGD with momentum": lambda p: SGD(p, 0.5, momentum=0.9),
    "Adam": lambda p: Adam(p, 0.5),
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


def steps(make, values, count=3) -> list[np.ndarray]:
    """What some steps make of a parameter that starts with each of the values in turn."""
    results = []
    for value in values:
        box = [value()]
        p = Parameter("p", np.zeros(box[0].shape, box[0].dtype))
        optimizer = make([p])
        p.value = box.pop()
        for turn in range(count):
            p.add_grad(np.full(p.value.shape, turn + 1, p.value.dtype))
            optimizer.step()
        results.append(np.array(p.value))
        assert p.value.shape == results[-1].shape
    return results


@every_optimizer
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("read_only", [False, True])
def test_a_value_takes_its_steps_however_it_lies_in_memory(make, layout, read_only):
    """Also one that nobody else holds, and that may be written into where it lies."""
    start = np.arange(12, dtype=np.float32).reshape(3, 4)

    def value():
        a = laid(layout, start)
        return a if read_only else LAYOUTS[layout](start.copy())

    plain, found = steps(make, [lambda: start.copy(), value])
    np.testing.assert_array_equal(found, plain)
    assert (found != start).all()
    np.testing.assert_array_equal(start, np.arange(12).reshape(3, 4))


@every_optimizer
@pytest.mark.parametrize(
    "value",
    [
        lambda: np.broadcast_to(np.float32(2), (3, 4)),
        lambda: np.lib.stride_tricks.as_strided(np.full(1, 2, np.float32), (3, 4), (0, 0)),
        lambda: np.frombuffer(np.full(12, 2, np.float32).tobytes(), np.float32).reshape(3, 4),
        lambda: np.full((3, 4), 2, np.float32).view(Subclass),
        lambda: np.full((3, 8), 2, np.float32)[:, ::2],
    ],
    ids=["a broadcast", "strides of zero", "bytes", "a subclass", "every other"],
)
def test_a_value_takes_its_steps_whatever_it_is_made_of(make, value):
    plain, found = steps(make, [lambda: np.full((3, 4), 2, np.float32), value])
    np.testing.assert_array_equal(found, plain)


@every_optimizer
@pytest.mark.parametrize("holder", HOLDERS)
def test_a_value_that_is_held_in_any_way_stays_as_it_is(make, holder):
    """A pullback that has not run yet is only one who may hold it."""
    p = Parameter("p", np.full(N, 7, np.float32))
    optimizer = make([p])
    held = HOLDERS[holder](p.value)
    if held is None:
        pytest.skip("there is none")
    old = address(p.value)
    for _ in range(2):
        p.add_grad(np.ones(N, np.float32))
        optimizer.step()
    assert address(p.value) != old
    assert all(value == 7 for value in (ctypes.c_float * N).from_address(old))
    assert (p.value < 7).all()
    del held


@every_optimizer
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_value_of_another_librarys_stays_as_it_is(make, kind):
    """Weights that were taken from a torch module, say, are still that module's."""
    held_by, look = FOREIGN[kind]
    held = held_by()
    shape = look(held).shape
    p = Parameter("p", np.zeros(shape, np.float32))
    optimizer = make([p])
    p.value = look(held)
    p.add_grad(np.ones(shape, np.float32))
    optimizer.step()
    np.testing.assert_array_equal(look(held), 0)
    assert (p.value < 0).all()


@every_optimizer
def test_a_step_changes_no_array_that_state_gave(make):
    layer = Dense(3, 2, rng=np.random.default_rng(0))
    optimizer = make(layer.parameters())
    kept = layer.state()
    before = {name: a.copy() for name, a in kept.items()}
    x = np.ones((4, 3), np.float32)
    y, backward = layer.forward(x)
    backward(y)
    optimizer.step()
    for name, a in kept.items():
        np.testing.assert_array_equal(a, before[name])
        assert not np.shares_memory(a, layer.state()[name])


@every_optimizer
def test_two_parameters_with_one_value(make):
    """They part at the first step, as values are replaced."""
    a, b = (Parameter(name, np.zeros(4, np.float32)) for name in "ab")
    a.value = b.value
    optimizer = make([a])
    for _ in range(2):
        a.add_grad(np.ones(4, np.float32))
        optimizer.step()
    np.testing.assert_array_equal(b.value, 0)
    assert (a.value < 0).all()


@every_optimizer
def test_a_pullback_from_before_two_steps(make):
    """It holds the weights of its evaluation, which later steps pass by."""
    rng = np.random.default_rng(0)
    layer = Dense(5, 3, rng=rng)
    x, dy = rng.standard_normal((4, 5)).astype(np.float32), rng.standard_normal((4, 3)).astype(np.float32)
    optimizer = make(layer.parameters())
    _, backward = layer.forward(x)
    wanted = backward(dy)
    layer.zero_grad()
    for _ in range(2):
        late, other = layer.forward(x)
        other(mse(late, dy)[1])
        del other, late
        optimizer.step()
    np.testing.assert_array_equal(backward(dy), wanted)
