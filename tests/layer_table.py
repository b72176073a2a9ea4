"""The one table of layers that every generic test runs over: a row is a layer and the shape of its input.

    @every_layer
    def test_something(row, backend):
        layer, x, dy = row.draw(backend)  # a fresh one there, float64, everything random; in NumPy: row.draw()

A new layer is one more line in TABLE.
"""

import copy
import pickle
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import pytest
from backends import NUMPY, Backend, host

from scratchgen import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LayerNorm,
    LeakyReLU,
    MaxPool2d,
    Module,
    Parameter,
    Random,
    RandomCutout,
    RandomFlip,
    RandomShift,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    Tanh,
)


@dataclass(frozen=True)
class Row:
    """A layer and the shape of its input; `name` where the layer's own is too long to read."""

    made: Layer
    shape: tuple[int, ...]
    name: str = ""

    def layer(self, backend: Backend = NUMPY, dtype=np.float64, seed: int = 0) -> Layer:
        """A fresh copy, with every parameter and statistic drawn at random: at its start a zero bias hides faults."""
        return randomised(copy.deepcopy(self.made), dtype, seed).to(backend.name)

    def data(self, backend: Backend = NUMPY, dtype=np.float64, seed: int = 1) -> list:
        """x and dy, drawn at random."""
        rng = np.random.default_rng(seed)
        x = rng.standard_normal(self.shape).astype(dtype)
        dy = rng.standard_normal(self.layer(dtype=dtype).predict(x).shape).astype(dtype)
        return backend.arrays(x, dy)

    def draw(self, backend: Backend = NUMPY, dtype=np.float64, seed: int = 1) -> list:
        """A fresh layer, x and dy."""
        return [self.layer(backend, dtype), *self.data(backend, dtype, seed)]

    @property
    def normalises(self) -> bool:
        """Whether there is a BatchNorm in it."""
        return any(isinstance(m, BatchNorm) for m in self.made.modules())

    @property
    def predicts_otherwise(self) -> bool:
        """Than it trains: what normalises, and what draws at random."""
        return any(isinstance(m, BatchNorm | Random) for m in self.made.modules())

    def __str__(self):
        return f"{self.name or self.made} on {'x'.join(map(str, self.shape))}"


def randomised(layer: Layer, dtype=np.float64, seed: int = 0) -> Layer:
    """The layer itself, in the dtype, with every parameter, statistic and counter drawn anew."""
    rng = np.random.default_rng(seed)
    layer.astype(dtype)
    for p in layer.parameters():
        p.value = rng.normal(0, 0.7, p.value.shape).astype(dtype)
    for module in layer.modules():
        for name in module.buffers:
            setattr(module, name, rng.uniform(0.5, 2, getattr(module, name).shape).astype(dtype))
        for name in type(module).counters:
            setattr(module, name, np.array(rng.integers(1000)))
    return layer


def _shared() -> Sequential:
    """One layer in two places, and two layers with one W."""
    twice, one, other = Dense(4, 4), Dense(4, 4), Dense(4, 4)
    other.W = one.W
    return Sequential(twice, Tanh(), twice, one, other)


TABLE = [
    Row(Dense(3, 4), (5, 3)),
    Row(Dense(7, 2, bias=False), (4, 7)),
    Row(Dense(1, 2), (1, 1)),
    Row(Conv2d(2, 3, 3), (2, 5, 6, 2)),
    Row(Conv2d(2, 4, 4, stride=2, padding=1), (3, 8, 6, 2)),
    Row(Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(0, 1), dilation=(1, 2)), (2, 7, 5, 2)),
    Row(Conv2d(3, 2, 2, stride=3, bias=False), (2, 6, 5, 3)),
    Row(Conv2d(2, 3, 1), (4, 3, 3, 2)),
    Row(Conv2d(1, 5, (3, 4)), (1, 3, 4, 1)),
    Row(ConvTranspose2d(3, 2, 3), (2, 4, 3, 3)),
    Row(ConvTranspose2d(4, 2, 4, stride=2, padding=1), (3, 4, 3, 4)),
    Row(ConvTranspose2d(3, 2, (3, 2), stride=(2, 3), padding=(1, 0), output_padding=(1, 2)), (2, 3, 4, 3)),
    Row(ConvTranspose2d(2, 3, 3, dilation=2, output_padding=1, bias=False), (2, 3, 3, 2)),
    Row(ConvTranspose2d(5, 2, 7), (2, 1, 1, 5)),
    Row(BatchNorm(3), (8, 3)),
    Row(BatchNorm(3), (2, 3, 4, 3)),
    Row(BatchNorm(2, eps=0.1, momentum=0.5), (1, 2, 1, 2)),
    Row(LayerNorm(4), (5, 4)),
    Row(LayerNorm(3, eps=0.1), (2, 3, 4, 3)),
    Row(ReLU(), (6, 5)),
    Row(ReLU(), (2, 3, 4, 2)),
    Row(LeakyReLU(), (6, 5)),
    Row(LeakyReLU(0), (2, 3, 4, 2)),
    Row(LeakyReLU(1.5), (6,)),
    Row(Tanh(), (6, 5)),
    Row(Sigmoid(), (2, 3, 4, 2)),
    Row(Flatten(), (3, 2, 4, 2)),
    Row(Flatten(), (3, 5)),
    Row(Reshape(2, 4, 2), (3, 16)),
    Row(Reshape(6), (3, 2, 3)),
    Row(MaxPool2d(2), (2, 4, 6, 3)),
    Row(MaxPool2d(3, stride=2, padding=1), (2, 6, 5, 2)),
    Row(MaxPool2d((2, 3), stride=1, padding=(1, 0)), (1, 3, 4, 2)),
    Row(MaxPool2d(2, stride=3), (2, 6, 5, 1)),
    Row(AvgPool2d(2), (2, 4, 6, 3)),
    Row(AvgPool2d(3, stride=2, padding=1), (2, 6, 5, 2)),
    Row(AvgPool2d((2, 3), stride=1, padding=(1, 0)), (1, 3, 4, 2)),
    Row(AvgPool2d(1, stride=2), (2, 3, 3, 1)),
    Row(Dropout(), (6, 5)),
    Row(Dropout(0.2), (2, 3, 4, 2)),
    Row(Dropout(0), (6,)),
    Row(RandomFlip(), (5, 3, 4, 2)),
    Row(RandomShift(0.4), (5, 4, 5, 2)),
    Row(RandomShift(0), (2, 3, 3, 1)),
    Row(RandomCutout(0.4), (5, 4, 5, 2)),
    Row(RandomCutout(1), (3, 3, 2, 1)),
    Row(Sequential(), (3, 2), "no layers"),
    Row(Sequential(Dense(6, 5), BatchNorm(5), ReLU(), Dense(5, 3), Sigmoid()), (8, 6), "perceptron"),
    Row(Sequential(Sequential(Dense(4, 5), Tanh()), Sequential(Dense(5, 2), LeakyReLU())), (3, 4), "nested"),
    Row(Sequential(Flatten(), Dense(12, 4), BatchNorm(4), Reshape(2, 2, 1)), (4, 2, 3, 2), "shapes"),
    Row(
        Sequential(
            Conv2d(2, 4, 4, stride=2, padding=1, bias=False),
            BatchNorm(4),
            LeakyReLU(),
            Sequential(ConvTranspose2d(4, 3, 4, stride=2, padding=1), BatchNorm(3), ReLU()),
            Conv2d(3, 2, 3, padding=1),
            Tanh(),
        ),
        (3, 6, 8, 2),
        "convolutions",
    ),
    Row(
        Sequential(RandomFlip(), Conv2d(2, 4, 3), MaxPool2d(2), BatchNorm(4), Dropout(0.3), AvgPool2d(2), Flatten()),
        (4, 8, 7, 2),
        "pooling",
    ),
    Row(_shared(), (5, 4), "shared"),
]


def over(rows):
    """Run a test over some rows of the table."""
    return pytest.mark.parametrize("row", rows, ids=str)


every_layer = over(TABLE)
every_layer_that_learns = over([row for row in TABLE if row.made.parameters()])


# --- what changed -------------------------------------------------------------------------------------------------


class _Freezer(pickle.Pickler):
    """Bytes of all that a value holds; a module inside it counts by identity, as it is listed for itself."""

    def persistent_id(self, held):
        return id(held) if isinstance(held, Module) else None

    def reducer_override(self, held):
        if isinstance(held, Parameter):
            return tuple, ([getattr(held, name) for name in OF_A_PARAMETER],)
        if host(held) is not held:  # an array of a device
            return tuple, ([host(held)],)
        return NotImplemented


OF_A_PARAMETER = ("name", "value", "grad", "frozen")  # what others see: a gradient of zero may be any array inside


def snapshot(*owners) -> dict[str, bytes]:
    """Every attribute of every module, optimizer or parameter, and of the modules below, down to the last bit."""
    kept = {}
    for i, owner in enumerate(owners):
        for j, part in enumerate(owner.modules() if isinstance(owner, Module) else [owner]):
            names = OF_A_PARAMETER if isinstance(part, Parameter) else vars(part)
            for name in names:
                _Freezer(frozen := BytesIO()).dump(getattr(part, name))
                kept[f"{i}.{j} {type(part).__name__}.{name}"] = frozen.getvalue()
    return kept


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    """The names of the attributes that differ, came or went."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
