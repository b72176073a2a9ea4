"""Which parameters a layer finds in its attributes, and what it says of those that it overlooks."""

from collections import defaultdict, deque, namedtuple
from dataclasses import dataclass
from functools import partial
from itertools import chain
from types import MappingProxyType

import numpy as np
import pytest
from comparing import Scale, assert_equal
from layer_table import every_layer

import scratchgen as sg
from scratchgen import Adam, Autoencoder, Dense, Layer, Parameter, Sequential, Tanh, frozen
from scratchgen.layers import pullback


def test_parts_of_a_layer_of_ones_own_are_found():
    class Sum(Layer):
        def __init__(self):
            self.parts = [Scale(), Sequential(Scale())]
            self.gain = Parameter("gain", np.ones(1))
            self.pair = (Parameter("left", np.ones(1)), Parameter("right", np.ones(1)))

    assert [*Sum().named_parameters()] == ["parts.0.w", "parts.1.0.w", "gain", "pair.0", "pair.1"]
    assert [*Sum().state()] == [*Sum().named_parameters()]


# --- what is found, and what is overlooked --------------------------------------------------------------------------


class Holder(Layer):
    """A layer of one parameter with any attributes beside."""

    def __init__(self, **held):
        vars(self).update(held)
        self.gain = Parameter("gain", np.ones(1))

    def forward(self, x):
        return x, lambda dy: dy


@dataclass
class Block:
    first: object
    second: object = None


@dataclass(frozen=True, slots=True)
class Record:
    part: object


Pair = namedtuple("Pair", "left right")


class Plain:
    """No Module."""

    def __init__(self, **held):
        vars(self).update(held)


class Slotted:
    __slots__ = ("part",)

    def __init__(self, part):
        self.part = part


def _in_itself():
    parts = [Scale()]
    parts.append(parts)
    return parts


FOUND = {  # what is held as `held`, and the names
    "a list of lists": (lambda: [[Scale()], [Scale(), Scale()]], ["0.0.w", "1.0.w", "1.1.w"]),
    "a tuple in a dict in a list": (lambda: [{"a": (Scale(),), 3: None}], ["0.a.0.w"]),
    "five deep": (lambda: [[[[[Scale()]]]]], ["0.0.0.0.0.w"]),
    "bare parameters": (lambda: {"W": [Parameter("W", np.ones(2))]}, ["W.0"]),
    "a dataclass": (lambda: Block(Scale(), [Scale()]), ["first.w", "second.0.w"]),
    "dataclasses in a list": (lambda: [Block(Scale()), Record(Scale())], ["0.first.w", "1.part.w"]),
    "a named tuple": (lambda: Pair(Scale(), [Scale()]), ["0.w", "1.0.w"]),
    "a deque": (lambda: deque([Scale(), [Scale()]]), ["0.w", "1.0.w"]),
    "a read-only mapping": (lambda: MappingProxyType({"a": Scale()}), ["a.w"]),
    "a default dictionary": (lambda: defaultdict(list, a=[Scale()]), ["a.0.w"]),
    "layers of layers": (lambda: [[Sequential(Scale(), Sequential(Scale()))]], ["0.0.0.w", "0.0.1.0.w"]),
    "a list in itself": (_in_itself, ["0.w"]),
}


@pytest.mark.parametrize(("make", "names"), FOUND.values(), ids=FOUND)
def test_parts_in_containers_are_found_at_any_depth(make, names):
    layer = Holder(held=make())
    names = [f"held.{name}" for name in names] + ["gain"]
    assert [*layer.named_parameters()] == [*layer.state()] == names
    assert [*map(id, layer.parameters())] == [*map(id, layer.named_parameters().values())]
    assert layer.overlooked() == {}
    with frozen(layer):
        assert all(p.frozen for p in layer.named_parameters().values())
    layer.astype(np.float32)
    assert {a.dtype for a in layer.state().values()} == {np.dtype(np.float32)}


def test_what_is_held_twice_counts_once():
    scale, p = Scale(), Parameter("p", np.ones(1))
    layer = Holder(one=[scale, [scale, p]], other={"again": [[scale], p]})
    layer.me = [[layer]]
    assert [*layer.named_parameters()] == ["one.0.w", "one.1.1", "gain"]
    assert len(layer.parameters()) == 3
    shared = [Scale()]
    for _ in range(60):  # one path of 2^60 to each
        shared = [shared, shared]
    assert len(Holder(held=shared).parameters()) == 2


class Ladder(Layer):
    """Dense layers in lists of lists."""

    def __init__(self, rng):
        self.blocks = [[Dense(3, 4, rng=rng), Tanh()], [Dense(4, 1, rng=rng)]]

    def forward(self, x):
        return Sequential(*chain(*self.blocks)).forward(x)


def test_layers_in_lists_of_lists_are_trained_and_saved(tmp_path):
    rng = np.random.default_rng(0)
    layer, copy = Ladder(rng), Ladder(rng)
    before = [p.value for p in layer.parameters()]
    optimizer = Adam(layer.parameters(), 1e-2)
    x = rng.standard_normal((32, 3), np.float32)
    for _ in range(3):
        y, backward = layer.forward(x)
        backward(sg.mse(y, x[:, :1])[1])
        optimizer.step()
    assert len(before) == 4
    assert all((p.value != value).all() for p, value in zip(layer.parameters(), before, strict=True))
    assert not any(p.grad.any() for p in layer.blocks[0][0].parameters())  # they do not pile up
    sg.save_weights(layer, tmp_path / "net.safetensors")
    sg.load_weights(copy, tmp_path / "net.safetensors")
    assert_equal([copy.predict(x)], [layer.predict(x)])


OVERLOOKED = {  # what is held as `held`, and of each thing that is overlooked the name and a word of the reason
    "an object": (lambda: Plain(part=Scale()), {"held.part": "Plain, which is not a Module"}),
    "its list": (lambda: Plain(parts=[[Scale()], Scale()]), {"held.parts.0.0": "Plain", "held.parts.1": "Plain"}),
    "objects in a list": (lambda: [Plain(w=Parameter("w", np.ones(2)))], {"held.0.w": "in held.0, a Plain"}),
    "an object in an object": (lambda: Plain(a=Plain(b=Scale())), {"held.a.b": "in held.a, a Plain"}),
    "an object with slots": (lambda: Slotted(Scale()), {"held.part": "Slotted, which is not a Module"}),
    "a set": (lambda: {Scale()}, {"held.0": "in the set held, which has no order"}),
    "an array of objects": (lambda: np.array([Scale(), None]), {"held.0": "in the array held"}),
    "a bound method": (lambda: Scale().forward, {"held.__self__": "in the function held"}),
    "a partial function": (lambda: partial(map, Scale()), {"held.0": "in the function held"}),
}


@pytest.mark.parametrize(("make", "expected"), OVERLOOKED.values(), ids=OVERLOOKED)
def test_what_cannot_be_found_is_said(make, expected, tmp_path):
    layer = Sequential(Holder(held=make()))
    expected = {f"0.{name}": word.replace("held", "0.held") for name, word in expected.items()}
    found = layer.overlooked()
    assert found.keys() == expected.keys()
    assert [name for name, word in expected.items() if word not in found[name]] == []
    path = tmp_path / "net.safetensors"
    for call in (layer.parameters, layer.named_parameters, layer.state, partial(sg.save_weights, layer, path)):
        with pytest.warns(UserWarning, match=r"^Sequential: not found, so neither trained nor saved: 0\.held\."):
            call()
    model = Autoencoder(layer, Dense(2, 2).astype(np.float64))
    with pytest.warns(UserWarning, match="^Autoencoder: not found"):
        optimizer = Adam(model.parameters())
    with frozen(layer):  # a training step says nothing
        model.train_step(np.ones((1, 2)), optimizer)
        model.zero_grad()


@pytest.mark.parametrize("name", ["W", "W1", "b", "b2", "W_x", "Wxh", "weight", "weights", "bias", "gamma", "kernel"])
def test_arrays_with_the_name_of_a_weight_are_said(name):
    layer = Holder(**{name: np.ones(3, np.float32)})
    assert [*layer.overlooked()] == [name]
    with pytest.warns(UserWarning, match=rf": {name} \(a plain array: make it a Parameter, or name it in `buffers`"):
        layer.parameters()
    layer.buffers = (name,)
    assert layer.overlooked() == {}
    assert name in layer.state()


def test_arrays_of_weights_in_containers_and_objects_are_said():
    layer = Holder(params={"W1": np.ones(2)}, cell=Plain(W=np.ones(2)), layers=[[{"bias": np.ones(2)}]])
    assert [*layer.overlooked()] == ["params.W1", "cell.W", "layers.0.0.bias"]


def test_many_are_said_in_one_sentence():
    layer = Holder(**{f"W{i}": np.ones(2) for i in range(5)}, box=Plain(part=Scale()))
    with pytest.warns(UserWarning, match="W0, W1, W2 and 2 more") as caught:
        layer.parameters()
    (warning,) = caught
    assert "2 more (a plain array: " in str(warning.message)
    assert "; box.part (in box, a Plain, which is not a Module: derive Plain from Layer" in str(warning.message)
    assert warning.filename == __file__


def test_layers_of_the_class_are_said():
    class Shared(Layer):
        inner = Dense(2, 2)
        both = [[Scale()]]
        W = np.ones(2)

    found = Shared().overlooked()
    assert found.keys() == {"inner", "W", "both.0.0"}
    assert "an attribute of the class Shared, which all its instances share: set it in __init__" in found["inner"]
    layer = Shared()
    layer.inner, layer.both, layer.W = Dense(2, 2), [], Parameter("W", np.ones(2))
    assert layer.overlooked() == {}


def _hidden(layer):
    return lambda: layer


def _watched(layer):
    layer.trainer = Plain(model=Sequential(layer, Scale()), optimizer=Adam(layer.parameters()))
    return layer


QUIET = {
    "constants": lambda: Holder(mask=np.ones(3), noise=np.ones(3), table=np.ones((2, 2)), mean=np.ones(3)),
    "what a forward kept": lambda: Holder(x=np.ones(3), dW=np.ones(3), y=[np.ones(3)]),
    "labels and numbers": lambda: Holder(W=3.0, b=np.arange(3), weights=[0.5, 0.5], bias=True, kernel=(3, 3)),
    "a function that holds a network": lambda: Holder(teacher=_hidden(Scale())),
    "a trainer that holds the network": lambda: _watched(Holder()),
    "an optimizer": lambda: _watched(Holder(parts=[[Scale()]])).trainer.model,
    "a generator and a class": lambda: Holder(rng=np.random.default_rng(0), kind=Scale, made=iter([1])),
}


@pytest.mark.parametrize("make", QUIET.values(), ids=QUIET)
def test_nothing_is_said_of_what_is_not_learned(make):
    assert make().overlooked() == {}


@every_layer
def test_nothing_is_overlooked_in_the_layers(row):
    layer, x, _ = row.draw()
    layer.forward(x)
    assert layer.overlooked() == {}


def test_a_figure_on_a_layer_costs_no_search_without_end():
    layer = Holder(figure=[Plain(a=[Plain()]) for _ in range(20_000)])
    assert layer.overlooked() == {}


def test_two_parts_of_one_name_are_refused():
    """A file would hold one of them."""
    layer = Holder(parts={1: Scale(), "1": Scale()})
    assert len(layer.parameters()) == 3
    for call in (layer.named_parameters, layer.state):
        with pytest.raises(ValueError, match=r"Holder: two parts have the name 'parts\.1'"):
            call()


def test_a_layer_may_list_its_own_parameters():
    class Lister(Holder):
        def parameters(self):
            return [*super().parameters(), self.hidden().w]

    scale = Scale()
    layer = Lister(hidden=lambda: scale)
    with frozen(layer):
        assert scale.w.frozen
    scale.w.grad[...] = 1
    layer.zero_grad()
    assert not scale.w.grad.any()


def test_a_sequential_of_ones_own_keeps_its_own_parameters():
    class Scaled(Sequential):
        def __init__(self, *layers):
            super().__init__(*layers)
            self.scale = Parameter("scale", np.ones(2, np.float32))

    assert list(Scaled(Dense(2, 2)).named_parameters()) == ["0.W", "0.b", "scale"]


# --- a block that fails leaves every buffer as it was ---------------------------------------------------------------


def norms():
    return Sequential(sg.BatchNorm(2)), Sequential(sg.BatchNorm(2))


def evaluate(network):
    network.forward(np.random.default_rng(0).standard_normal((3, 2), np.float32))


def fail(network, *work):
    """A block over the network in which this is done, and which then fails."""

    def block():
        with network.unchanged_on_error():
            for step in work:
                step()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        block()


def kept(*networks):
    return [array for network in networks for name, array in network.state().items() if "running" in name]


def test_a_block_inside_that_fails_leaves_what_was_there_before_it():
    first, second = norms()
    both = Sequential(first, second)
    with both.unchanged_on_error():
        evaluate(first)
        before = kept(both)
        fail(second, lambda: evaluate(second), lambda: evaluate(second))
        assert_equal(kept(both), before)
    assert_equal(kept(both), before)


def test_what_ended_well_inside_is_undone_with_the_whole():
    first, second = norms()
    both = Sequential(first, second)
    before = kept(both)
    inside = [lambda: evaluate(first), lambda: fail(second, lambda: evaluate(second)), lambda: evaluate(second)]
    fail(both, *inside, lambda: evaluate(first))
    assert_equal(kept(both), before)


def test_other_networks_keep_what_they_learned_in_the_block():
    mine, other = norms()
    before = kept(mine)
    fail(mine, lambda: evaluate(other), lambda: evaluate(mine))
    assert_equal(kept(mine), before)
    assert not np.array_equal(kept(other)[0], before[0])
    evaluate(mine)  # after it, nothing is undone
    assert_equal(kept(mine), kept(other))


def test_a_buffer_of_ones_own_is_put_back():
    class Counting(Layer):
        buffers = ("count",)

        def forward(self, x):
            self.count = getattr(self, "count", 0) + 1
            self.seen = self.count  # is no buffer
            return x, lambda dy: dy

    layer = Counting()
    layer.forward(1)
    fail(layer, lambda: layer.forward(1))
    assert (layer.count, layer.seen) == (1, 2)


@pytest.mark.parametrize("need_dx", [True, False])
def test_a_chain_of_nothing_is_the_identity(need_dx):
    x = np.ones((2, 3))
    y, backward = pullback.chain(x)
    assert y is x
    assert backward(x, need_dx=need_dx) is x
