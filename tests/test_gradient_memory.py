"""Gradients: an adjoint returns an array of its own, which becomes p.grad; values are never written into.

What may not be written into, or is dy's, is copied; what is somebody else's, the gradient checker finds. p.grad is
what `grad += gradient` gives, in one array from one zero_grad to the next; who holds it then keeps what it was.
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
from scratchgen.gradcheck import check


def address(array) -> int:
    return array.__array_interface__["data"][0]


# --- whatever an adjoint returns ------------------------------------------------------------------------------------


class Subclass(np.ndarray):
    pass


class Own:
    """What an adjoint returns: `gradient(dy)` for a parameter of this shape."""

    shape = (4,)


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


class WritableStridesOfZero(Own):
    def gradient(self, dy):
        return np.lib.stride_tricks.as_strided(dy.sum(axis=0), (4,), (0,))


class ReadOnly(Own):
    def gradient(self, dy):
        gradient = dy.sum(axis=0)
        gradient.flags.writeable = False
        return gradient


class DoublePrecision(Own):
    def gradient(self, dy):
        return dy.sum(axis=0, dtype=np.float64)


class DyThroughOtherEyes(Own):
    """NumPy names another array, or none, as the base of these."""

    shape = (3, 4)

    def gradient(self, dy):
        return np.asarray(memoryview(dy)) if self.turn() else np.lib.stride_tricks.as_strided(dy, (3, 4), dy.strides)

    turns = 0

    def turn(self):
        self.turns += 1
        return self.turns % 2


class AnotherLibrarys(Own):
    """It may be written into, but who knows who holds it."""

    def __init__(self):
        self.tensor = pytest.importorskip("torch").zeros(4)

    def gradient(self, dy):
        self.tensor.numpy()[...] = dy.sum(axis=0)
        return self.tensor.numpy()


class Bytes(Own):
    def __init__(self):
        self.bytes = bytearray(16)

    def gradient(self, dy):
        np.frombuffer(self.bytes, np.float32)[...] = dy.sum(axis=0)
        return np.frombuffer(self.bytes, np.float32)


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


class ItsOwnGradient(Own):
    def gradient(self, dy):
        return self.p.grad


KINDS = list(Own.__subclasses__())
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def a_layer_with(kind):
    """A Layer with one parameter, whose adjoint returns that."""
    own = kind()

    class Odd(Layer):
        def __init__(self):
            self.p = own.p = Parameter("p", np.arange(np.prod(kind.shape), dtype=np.float32).reshape(kind.shape))

        def forward(self, x):
            y = 2 * x
            return y, self.pullback(y, dx=lambda dy: 2 * dy, grads={self.p: own.gradient})

    return Odd()


def the_gradient_of(kind, dy, grad):
    """What is added, by the layer's formula alone."""
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
        layer = a_layer_with(kind)
        p, held = layer.p, []  # and what each of these should be
        value = p.value.copy()
        expected = np.zeros(kind.shape, np.float32)
        for turn, event in enumerate(events):
            dy = (np.arange(12, dtype=np.float32).reshape(3, 4) - turn) * (turn + 1)
            before, x = dy.copy(), np.ones((3, 4), np.float32)
            if event == "B":
                expected += the_gradient_of(kind, dy, expected)
                layer.forward(x)[1](dy)
            elif event == "F":
                with frozen(layer):
                    layer.forward(x)[1](dy)
            elif event == "Z":
                p.zero_grad()
                expected = np.zeros(kind.shape, np.float32)
            elif event == "R":
                assert p.grad.dtype == np.float32
            else:
                held.append((p.grad if turn % 2 else p.grad[...], expected))
            np.testing.assert_array_equal(dy, before)
            for array, wanted in held:
                np.testing.assert_array_equal(array, wanted, err_msg=str(events))
            dy[...] = np.nan  # it is the caller's, who may use its memory again
        np.testing.assert_array_equal(p.grad, expected, err_msg=str(events))
        np.testing.assert_array_equal(p.value, value)


@every_kind
def test_grad_is_an_array_of_its_own(kind):
    """The user may write into it; that is no other element's, and nobody else's."""
    layer = a_layer_with(kind)
    layer.zero_grad()
    dy = np.ones((3, 4), np.float32)
    layer.forward(dy)[1](dy)
    grad = layer.p.grad
    assert type(grad) is np.ndarray
    assert grad.dtype == np.float32
    assert not np.shares_memory(grad, dy)
    before = grad.copy()
    for index in np.ndindex(grad.shape):
        grad[index] += 1 + sum(index)
        before[index] += 1 + sum(index)
        np.testing.assert_array_equal(grad, before)
    np.testing.assert_array_equal(layer.p.grad, before)
    np.testing.assert_array_equal(dy, 1)


@pytest.mark.parametrize(
    "dx",
    [
        lambda dy: dy,
        lambda dy: dy[:],
        lambda dy: dy.reshape(2, 2, 3).reshape(3, 4),
        lambda dy: dy[::-1],
        lambda dy: np.broadcast_to(dy[:1], (3, 4)),
        lambda dy: np.asarray(memoryview(dy)),
        lambda dy: np.lib.stride_tricks.as_strided(dy, dy.shape, dy.strides),
    ],
)
@pytest.mark.parametrize("whole", [True, False], ids=["an array", "a part of one"])
def test_dx_is_an_array_of_its_own(dx, whole):
    """Also where dy is itself a part of a larger array."""

    class Passing(Layer):
        def forward(self, x):
            y = x + 0
            return y, self.pullback(y, dx=dx)

    larger = np.arange(24, dtype=np.float32).reshape(6, 4)
    dy = larger[:3].copy() if whole else larger[:3]
    _, backward = Passing().forward(dy)
    wanted = np.array(dx(dy))
    found = backward(dy)
    np.testing.assert_array_equal(found, wanted)
    assert not np.shares_memory(found, dy)
    found += 1  # and it may be written into
    np.testing.assert_array_equal(larger, np.arange(24).reshape(6, 4))


@pytest.mark.parametrize("first", ["a part", "the array"])
def test_results_that_look_at_one_array_are_arrays_of_their_own(first):
    parts = {"a part": lambda dy, a: a[0], "the array": lambda dy, a: a}
    order = sorted(parts, key=lambda name: name != first)

    class Looking(Layer):
        def __init__(self):
            shapes = {"a part": (4,), "the array": (3, 4)}
            self.p = {name: Parameter(name, np.zeros(shape, np.float32)) for name, shape in shapes.items()}

        def forward(self, x):
            y = x + 0
            grads = {self.p[name]: parts[name] for name in order}
            return y, self.pullback(y, shared=lambda dy: (2 * dy,), dx=parts["the array"], grads=grads)

    layer, dy = Looking(), np.ones((3, 4), np.float32)
    _, backward = layer.forward(dy)
    for _ in range(2):
        dx = backward(dy)
        dx += 100
    for p in layer.parameters():
        np.testing.assert_array_equal(p.grad, np.full(p.grad.shape, 4))


def test_what_adjoints_compute_is_not_copied():
    """No pass over memory: this is what the rule is for."""
    made = []

    def note(array):
        made.append(array)
        return array

    class Two(Layer):
        def __init__(self):
            self.a, self.b = (Parameter(name, np.zeros(N, np.float32)) for name in "ab")

        def forward(self, x):
            y = x + 0
            adjoints = {self.a: lambda dy: note(dy.sum() * np.ones(N, np.float32)), self.b: lambda dy: note(kept(dy))}
            return y, self.pullback(y, dx=lambda dy: note(2 * dy), grads=adjoints)

    def kept(dy):
        array = memory.empty((N,), np.float32)
        array[...] = dy.sum()
        return array

    layer, dy = Two(), np.ones(3, np.float32)
    dx = layer.forward(dy)[1](dy)
    assert [id(array) for array in (layer.a.grad, layer.b.grad, dx)] == [id(array) for array in made]


def test_add_grad_by_hand():
    """What it is given becomes grad itself, to which others are added."""
    p, mine = Parameter("p", np.zeros(3, np.float32)), np.ones(3, np.float32)
    p.add_grad(mine)
    assert p.grad is mine
    p.add_grad(np.ones(3, np.float32))
    assert p.grad is mine
    np.testing.assert_array_equal(mine, 2)
    p.zero_grad()
    np.testing.assert_array_equal(p.grad, 0)
    np.testing.assert_array_equal(mine, 2)
    p.add_grad(mine)  # somebody has looked: grad is an array
    assert p.grad is not mine
    np.testing.assert_array_equal(p.grad, 2)
    p.zero_grad()
    with frozen(p):
        p.add_grad(np.ones(3, np.float32))
        np.testing.assert_array_equal(p.grad, 0)
        p.grad += 1
    np.testing.assert_array_equal(p.grad, 0)
    with pytest.raises(ValueError, match=r"p: gradient has shape \(2,\), needs \(3,\)"):
        p.add_grad(np.ones(2, np.float32))
    np.testing.assert_array_equal(p.grad, 0)


# --- what is not the adjoint's own, the checker finds ---------------------------------------------------------------


class Biases(Layer):
    """y = x + a + b, with right gradients in wrong arrays."""

    buffers = ("kept",)

    def __init__(self):
        self.a, self.b = (Parameter(name, np.zeros(4)) for name in "ab")
        self.kept = np.zeros((2, 4))

    def forward(self, x):
        y = x + self.a.value + self.b.value
        return y, self.pullback(y, **self.adjoints(x, y))

    def adjoints(self, x, y):
        return {"dx": lambda dy: dy, "grads": {self.a: lambda dy: dy.sum(axis=0), self.b: lambda dy: dy.sum(axis=0)}}


def _in_a_buffer(self, part):
    def adjoint(dy):
        return dy.sum(axis=0, out=self.kept[0])[part]

    return adjoint


class ABuffer(Biases):
    def adjoints(self, x, y):
        return super().adjoints(x, y) | {
            "grads": {self.a: _in_a_buffer(self, ...), self.b: lambda dy: dy.sum(axis=0)}
        }


class ABufferForTwo(Biases):
    def adjoints(self, x, y):
        return super().adjoints(x, y) | {"grads": {self.a: _in_a_buffer(self, ...), self.b: _in_a_buffer(self, ...)}}


class OneForTwo(Biases):
    def adjoints(self, x, y):
        same = lambda dy, db: db  # noqa: E731
        return {
            "shared": lambda dy: (dy.sum(axis=0),),
            "dx": lambda dy, db: dy,
            "grads": {self.a: same, self.b: same},
        }


class HandedOn(Biases):
    def adjoints(self, x, y):
        made = []
        first = lambda dy: made.append(dy.sum(axis=0)) or made[-1]  # noqa: E731
        return super().adjoints(x, y) | {"grads": {self.a: first, self.b: lambda dy: made.pop()}}


class PartsOfOne(Biases):
    """The one looks at the other's memory, turned."""

    def adjoints(self, x, y):
        made = []
        first = lambda dy: made.append(dy.sum(axis=0)) or made[-1]  # noqa: E731
        return super().adjoints(x, y) | {"grads": {self.a: first, self.b: lambda dy: made.pop()[:]}}


class OfEveryCall(Biases):
    """Computed once, and returned again."""

    def adjoints(self, x, y):
        known = {}
        once = lambda dy: known.setdefault(dy.tobytes(), dy.sum(axis=0))  # noqa: E731
        return super().adjoints(x, y) | {"grads": {self.a: once, self.b: lambda dy: dy.sum(axis=0)}}


class DxOfEveryCall(Biases):
    def adjoints(self, x, y):
        known = {}
        return super().adjoints(x, y) | {"dx": lambda dy: known.setdefault(dy.tobytes(), 1 * dy)}


class InX(Biases):
    """In the place of the input, which nobody needs any more."""

    def adjoints(self, x, y):
        return super().adjoints(x, y) | {"dx": lambda dy: np.multiply(dy, 1, out=x)}


class InY(Biases):
    def adjoints(self, x, y):
        return super().adjoints(x, y) | {"dx": lambda dy: np.multiply(dy, 1, out=y)}


class DxIsTheGradient(Biases):
    """A bias for each element: y = x + a."""

    def __init__(self):
        self.a, self.kept = Parameter("a", np.zeros((5, 4))), np.zeros(1)

    def forward(self, x):
        y = x + self.a.value
        same = lambda dy, d: d  # noqa: E731
        return y, self.pullback(y, shared=lambda dy: (1 * dy,), dx=same, grads={self.a: same})


MENDED = (OneForTwo, HandedOn, PartsOfOne, DxIsTheGradient)  # in one backward, where a pullback sees both


@pytest.mark.parametrize("layer", MENDED, ids=lambda layer: layer.__name__)
def test_a_pullback_makes_arrays_of_their_own(layer):
    report = check(layer(), np.random.default_rng(0).standard_normal((5, 4)))
    assert report.ok, str(report)


@pytest.mark.parametrize(
    "layer", [kind for kind in Biases.__subclasses__() if kind not in MENDED], ids=lambda layer: layer.__name__
)
def test_a_gradient_that_is_not_its_own_is_found(layer):
    report = check(layer(), np.random.default_rng(0).standard_normal((5, 4)))
    assert any("a gradient must be an array of its own" in fault for fault in report.faults), report


class PlainFunction(Biases):
    def forward(self, x):
        y = x + self.a.value + self.b.value

        def backward(dy):
            self.a.grad += dy.sum(axis=0)
            self.b.grad += dy.sum(axis=0)
            return dy

        return y, backward


@pytest.mark.parametrize("layer", [Biases, PlainFunction], ids=lambda layer: layer.__name__)
def test_dy_itself_is_no_fault(layer):
    """A pullback copies it, and what calls a plain function does not write into what it returns."""
    assert check(layer(), np.random.default_rng(0).standard_normal((5, 4))).ok


# --- what the user assigns ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FOREIGN)
def test_an_assigned_grad_is_the_one_that_is_written_into(kind):
    """Memory of another library's: it is seen to change there, until zero_grad lets go of it."""
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
    p.add_grad(np.ones(N, np.float32))
    np.testing.assert_array_equal(look(held), 2)
    np.testing.assert_array_equal(p.grad, 1)


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_grad_that_is_held_in_any_way_is_added_to_until_zero_grad_lets_go_of_it(holder):
    p = Parameter("p", np.zeros(N, np.float32))
    p.add_grad(np.full(N, 2, np.float32))
    where = address(p.grad)
    held = HOLDERS[holder](p.grad)
    if held is None:
        pytest.skip("there is none")
    p.add_grad(np.full(N, 3, np.float32))
    assert address(p.grad) == where
    np.testing.assert_array_equal(p.grad, 5)
    p.zero_grad()
    np.testing.assert_array_equal(p.grad, 0)
    p.add_grad(np.full(N, 3, np.float32))
    assert address(p.grad) != where
    assert all(value == 5 for value in (ctypes.c_float * N).from_address(where))
    del held


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

    def added(self, gradient):
        if not self.frozen:
            self.grad = self.grad + gradient

    found = run()
    monkeypatch.setattr(Parameter, "add_grad", added)
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
