"""The model under check: a copy in float64, the batches that it takes, and calls of its losses."""

import copy
import inspect
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.arrays import is_float, places
from scratchgen.gradcheck.guard import described, guarded
from scratchgen.gradcheck.learned import gradient_place
from scratchgen.gradcheck.objective.standin import CannotStandIn, answer_of
from scratchgen.gradcheck.styles import required
from scratchgen.gradcheck.subject import PLAYERS, converted
from scratchgen.layers.module import Module
from scratchgen.layers.parameter import Parameter
from scratchgen.layers.random import Random

LOSSES = ("loss", "discriminator_loss", "generator_loss")  # the methods of the contract
N = 6  # samples in a batch
WIDTHS = (2, 3, 4, 8, 10, 16, 20, 32, 64, 100, 784, 1)  # tried where nothing tells the size of a sample or a code
NAMES = {  # what networks are called
    "encoder": ("encoder", "enc", "E"),
    "decoder": ("decoder", "dec"),
    **PLAYERS,
}
LATENT = ("latent", "latent_dim", "latent_size", "n_latent", "z_dim", "zdim", "nz", "noise_dim", "noise_size")
NOISE = re.compile("eps|noise")  # in the name of an argument of a VAE's loss
MEETS = ("norm", "batch", "stat")  # in the name of a layer in which the samples of a batch are meant to meet
NEEDS = "a model: loss(x), loss(x, eps), or discriminator_loss(real, z) beside generator_loss(z)"


@dataclass
class Specimen:
    """A copy of a model, in float64 and with nothing drawn at random; `x` a batch of data, `eps` of noise.

    `kind` is "autoencoder", "VAE" or "GAN". Losses are called by name, with what they ask for.
    """

    model: Any
    kind: str
    x: Array
    eps: Array
    tolerance: float = 1e-8

    def copy(self) -> "Specimen":
        return replace(self, model=copy.deepcopy(self.model))

    # --- its parts ---

    @property
    def losses(self) -> list[str]:
        if self.kind == "GAN":
            return ["discriminator_loss", "generator_loss"]
        return ["loss"]

    @property
    def networks(self) -> dict[str, Any]:
        """The model's networks by what they are for: those that there are."""
        roles = ("generator", "discriminator") if self.kind == "GAN" else ("encoder", "decoder")
        return {role: getattr(self.model, self.attribute(role)) for role in roles if self.attribute(role)}

    def attribute(self, role: str) -> str:
        """What the model calls a network, "" where it has none."""
        is_weight = lambda held: isinstance(held, Parameter | np.ndarray)  # noqa: E731  E may be an encoder, or a weight
        named = (n for n in NAMES[role] if hasattr(self.model, n) and not is_weight(getattr(self.model, n)))
        return next(named, "")

    def put(self, **networks: Any) -> None:
        """Put stand-ins in the places of networks; this is a copy."""
        for role, network in networks.items():
            try:
                setattr(self.model, self.attribute(role) if role in NAMES else role, network)
            except Exception as error:
                raise CannotStandIn(f"its {role} cannot be replaced: {described(error)}") from error

    @property
    def features(self) -> int:
        return prod(self.x.shape[1:])

    @property
    def latent(self) -> int:
        return self.eps.shape[1] if self.eps.ndim > 1 else 0

    # --- its losses ---

    def arguments(self, name: str, x: Array, eps: Array) -> list:
        """What a loss asks for, of a batch x, noise eps, and what draws the lines between real and fake."""
        if self.kind == "autoencoder":
            return [x]
        if self.kind == "VAE":
            return [x, eps]
        takes = len(required(getattr(self.model, name)))
        if name == "generator_loss":
            return [eps] if takes == 1 else [x, eps]
        return [x, eps] if takes <= 2 else [x, eps, segment(len(x), x.ndim)]

    def value(self, name: str, x: Array | None = None, eps: Array | None = None) -> float:
        """The value of a loss."""
        return self.evaluate(name, x, eps)[0]

    def evaluate(self, name: str, x: Array | None = None, eps: Array | None = None) -> tuple[float, Callable | None]:
        """The value of a loss, and its backward, None where it has none."""
        arguments = self.arguments(name, self.x if x is None else x, self.eps if eps is None else eps)
        return as_loss(name, self.call(name, *arguments))

    def call(self, name: str, *arguments: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of data that are none
            return guarded(name, getattr(self.model, name), *arguments)

    def near(self, a: float, b: float, scale: float = 0.0) -> bool:
        """Whether a and b are equal but for rounding, beside values of this scale."""
        return bool(abs(a - b) <= self.tolerance * max(abs(a), abs(b), scale, 1e-300))

    # --- what learns ---

    def learned(self, part: Any) -> list["Learned"]:
        """Everything in a part of the model that takes a gradient."""
        found = []
        for place, held in places(part):
            if isinstance(held, Parameter):
                value, gradient = partial(getattr, held, "value"), partial(getattr, held, "grad")
                found.append(Learned(place.path, value, gradient, partial(setattr, held, "value")))
            elif isinstance(held, np.ndarray) and (left := gradient_place(place)) is not None:
                found.append(Learned(place.path, place.get, left.get, place.put))
        return found

    def gradients(self, part: Any) -> list[Array]:
        return [np.array(learned.gradient()) for learned in self.learned(part)]


class Learned(NamedTuple):
    """An array that learns: how to get its value and its gradient, and how to set it."""

    name: str
    value: Callable[[], Array]
    gradient: Callable[[], Array]
    change: Callable[[Array], None]


def as_loss(name: str, result: Any) -> tuple[float, Callable | None]:
    """(value, backward) of what a loss returned. ValueError unless it is one number."""
    value, backward = (result[0], result[1]) if isinstance(result, tuple) and len(result) == 2 else (result, None)
    try:
        number = float(np.asarray(value).item())
    except (TypeError, ValueError):
        what = f"an array {np.shape(value)}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        raise ValueError(f"{name} gave {what}, needs loss, backward with one number for the loss") from None
    return number, backward if callable(backward) else None


def segment(n: int, ndim: int) -> Array:
    """An α from 0 to 1 for each of n samples, in a shape that is broadcast over their features; the same ones when a
    batch is given twice."""
    return np.resize(np.random.default_rng(7).random(N), n).reshape(n, *[1] * (ndim - 1))


# --- from the model that was given ---


def specimen_of(model: Any, x: Any, rng: np.random.Generator) -> Specimen:
    """A specimen of somebody's model, and a batch that it takes. TypeError, ValueError."""
    if inspect.isclass(model):
        raise TypeError(f"objective: got the class {model.__name__}, needs an instance: {model.__name__}(...)")
    kind = kind_of(model)
    if x is not None:
        x = _given(x)
    try:
        own = copy.deepcopy(model)
    except Exception as error:
        raise TypeError(f"objective: {type(model).__name__} cannot be copied: {described(error)}") from error
    converted(own, np.float64)
    _deterministic(own)
    specimen = _with_batch(own, kind, x, rng)
    if not _precise(specimen):
        specimen.tolerance = 1e-4
    return specimen


def kind_of(model: Any) -> str:
    """ "GAN", "VAE" or "autoencoder", by the methods that there are."""
    has = [n for n in LOSSES if callable(getattr(model, n, None))]
    if "discriminator_loss" in has and "generator_loss" in has:
        return "GAN"
    if "discriminator_loss" in has or "generator_loss" in has:
        missing = "generator_loss" if "discriminator_loss" in has else "discriminator_loss"
        raise TypeError(f"objective: {type(model).__name__} has {has[-1]} and no {missing}, needs {NEEDS}")
    if "loss" in has:
        takes = len(required(model.loss))
        if takes == 1 and any(NOISE.search(name) for name in inspect.signature(model.loss).parameters):
            takes = 2  # it may be given, and is drawn otherwise
        if takes in (1, 2):
            return ("autoencoder", "VAE")[takes - 1]
        raise TypeError(f"objective: {type(model).__name__}.loss takes {takes} arguments, needs {NEEDS}")
    raise TypeError(f"objective: got a {type(model).__name__}, needs {NEEDS}")


def _given(x: Any) -> Array:
    if not is_float(x) or not isinstance(x, np.ndarray):
        kind = f"{x.dtype} array" if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f"objective: x is a {kind}, needs a NumPy float array (N, ...) of samples")
    if x.ndim < 2 or x.size == 0 or len(x) < 2:
        raise ValueError(f"objective: x has shape {x.shape}, needs (N, ...) with two samples or more")
    if not np.isfinite(x).all():
        raise ValueError("objective: x holds values that are not finite")
    return x[:N].astype(np.float64)


def _deterministic(model: Any) -> None:
    """Layers that draw at random leave their input as it is: noise that is no argument hides what is looked for."""
    parts = model.modules() if isinstance(model, Module) else [p for _, p in places(model)]
    for part in parts:
        if isinstance(part, Random):
            part.forward = lambda x: (x, lambda dy, **options: dy)  # type: ignore[method-assign]


def _precise(specimen: Specimen) -> bool:
    """Whether a loss is computed in float64 from end to end: it moves when its batch moves by a little."""
    name = specimen.losses[0]
    before = specimen.value(name)
    return any(specimen.value(name, specimen.x * (1 + d), specimen.eps * (1 + d)) != before for d in (1e-9, 3e-9))


def _with_batch(model: Any, kind: str, x: Array | None, rng: np.random.Generator) -> Specimen:
    last: Exception | None = None
    tried: list[str] = []
    for shape, latent in _sizes(model, kind, x):
        batch = (rng.uniform(0.05, 0.95, (N, *shape))) if x is None else x
        n = len(batch)
        # within [−1, 1], for a prior may be uniform; and a VAE's noise is as good
        specimen = Specimen(model, kind, batch, rng.uniform(-1, 1, (n, latent) if latent else (n,)))
        try:
            values = [specimen.value(name) for name in specimen.losses]
        except Exception as error:
            last = last or error
            tried.append("×".join(map(str, shape)))
            continue
        if not np.isfinite(values).all():
            last = ValueError(f"the loss is {values[0]:g}")
            continue
        return specimen
    name = type(model).__name__
    if x is not None:
        why = described(last) if last else "nothing says how many latent dimensions it has"
        raise ValueError(f"objective: {name} does not take the batch x of shape {x.shape}: {why}") from last
    raise ValueError(
        f"objective: found no batch that {name} takes, give one, objective(model, x); "
        f"samples of {', '.join(dict.fromkeys(tried[:6])) or 'no size'} were tried: "
        + (described(last) if last else "no size is known")
    ) from last


def _sizes(model: Any, kind: str, x: Array | None) -> Iterator[tuple[tuple[int, ...], int]]:
    """Shapes of a sample, and latent dimensions, likely ones first."""
    held = [np.shape(v.value if isinstance(v, Parameter) else v) for _, v in places(model)]
    widths = list(dict.fromkeys([s for shape in held for s in shape if s > 1] + [*WIDTHS]))
    said = [int(v) for n in LATENT if isinstance(v := getattr(model, n, None), int | np.integer) and v > 0]
    latents = [0] if kind == "autoencoder" else said or widths
    channels = dict.fromkeys([shape[2] for shape in held if len(shape) == 4] + [1])
    images = [(h, w, c) for c in channels for h, w in ((28, 28), (8, 8), (16, 16), (32, 32), (4, 4), (64, 64))]
    shapes = [(w,) for w in widths] + (images if any(len(s) == 4 for s in held) else [])
    names = NAMES["generator" if kind == "GAN" else "decoder"]
    maker = next((getattr(model, name) for name in names if hasattr(model, name)), None)
    for latent in latents if maker is not None else ():
        if made := _made_by(maker, latent):
            yield x.shape[1:] if x is not None else made, latent
    if x is None and kind == "autoencoder" and maker is not None:
        for width in widths:
            if made := _made_by(maker, width):
                yield made, 0
    for count, (shape, latent) in enumerate(product([x.shape[1:]] if x is not None else shapes, latents)):
        if count < 2000:
            yield tuple(shape), latent


def _made_by(network: Any, latent: int) -> tuple[int, ...] | None:
    """The shape of a sample that a network makes of a code of so many dimensions."""
    if not latent:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y = guarded("forward", answer_of, network, np.full((N, latent), 0.3)).y
        return y.shape[1:] if isinstance(y, np.ndarray) and y.ndim > 1 and len(y) == N else None
    except Exception:
        return None
