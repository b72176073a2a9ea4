"""Export to PyTorch: weights under the names and in the layouts of torch.nn, and the module that loads them.

Every layer becomes one torch.nn module at the same index, so that decoder.layers[3].W is "decoder.3.weight" there.

                      here                    PyTorch
    images            (H, W, C)               (C, H, W)
    Dense W           (in, out)               (out, in)
    Conv2d W          (kh, kw, in, out)       (out, in, kh, kw)
    ConvTranspose2d W (kh, kw, out, in)       (in, out, kh, kw)

Flatten and Reshape keep the order of the elements in memory, here and there. So the features of a flattened image
come in the order (H, W, C) here and (C, H, W) there, and a weight that meets them is permuted once, on export. With
`order` for the permutation between the two, there[k] = here[order[k]] for the elements of one sample, a layer

    keeps any order              if elementwise, as Dropout is; BatchNorm of vectors, its parameters permuted alike;
                                 Flatten, and Reshape of vectors; RandomFlip and its like, which predict the identity
    takes any and gives any      if Dense: weight_ok = W[before[k], after[o]], bias_o = b[after[o]]
    needs and gives (C, H, W)    if a convolution, pooling or BatchNorm of images

A Dense gives the order that the next layer with a need asks for, as does the end of the network. Where no Dense
stands between two needs that differ (an image that is flattened, and that is all), there is no weight to permute: the
Flatten or Reshape becomes a `ChannelsLastReshape`, a few lines without weights, written out above the networks.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import indent
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from scratchgen import checks
from scratchgen.backend import backend_of, to_host, transfer
from scratchgen.files import atomic_write
from scratchgen.layers import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    MaxPool2d,
    RandomCutout,
    RandomFlip,
    RandomShift,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    Tanh,
)
from scratchgen.layers.module import Module
from scratchgen.models import GAN, VAE, Autoencoder, Bernoulli, Gaussian
from scratchgen.paths import as_path
from scratchgen.safetensors_file import serialised

Model: TypeAlias = Autoencoder | VAE | GAN
Shape: TypeAlias = tuple[int, ...]  # of one sample, channels last

ELEMENTWISE = (ReLU, LeakyReLU, Tanh, Sigmoid, Dropout, RandomFlip, RandomShift, RandomCutout)  # in `predict`
RESHAPING = (Flatten, Reshape)
COUNTERPARTS = (Dense, Conv2d, ConvTranspose2d, MaxPool2d, AvgPool2d, BatchNorm, *ELEMENTWISE, *RESHAPING)
BATCHNORM = {1: "BatchNorm1d", 2: "BatchNorm1d", 3: "BatchNorm2d", 4: "BatchNorm3d"}  # by the axes of a sample
NETWORKS: dict[type[Model], tuple[str, str]] = {
    Autoencoder: ("encoder", "decoder"),
    VAE: ("encoder", "decoder"),
    GAN: ("generator", "discriminator"),
}
PRODUCER = {"encoder": "decoder", "discriminator": "generator"}  # whose output a network takes
BARE = "network"  # what `input_shapes` calls a layer that is no part of a model
FIRST_WORDS = '"""Exported from scratchgen: '


def export_torch(
    model: Module, path: Path | str, *, input_shapes: Mapping[str, Shape] | None = None, force: bool = False
) -> list[Path]:
    """Write `path`, a .safetensors file that fits torch.nn modules, and beside it the .py file that builds these and
    whose `load()` gives them with the weights, in eval mode; returns both paths.

    `model` is an Autoencoder, VAE, GAN or any layer. `input_shapes` gives the shape of one sample, channels last, by
    the name of the network that takes it ("encoder", or "network" for a layer), where it cannot be derived from the
    model. A layer that stands in two places is written for each. What is exported is `predict`.

    TypeError for a layer without a counterpart in torch.nn; ValueError for weights that are not finite and shapes
    that do not fit; FileExistsError rather than replace what is no earlier export, which `force` does. Nothing is
    written then.
    """
    path = as_path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"export_torch: path is {str(path)!r}, needs a name that ends in .safetensors")
    script = path.with_suffix(".py")
    there = [file for file in (script, path) if file.exists()]
    if there and not force and not (script.is_file() and script.read_bytes().startswith(FIRST_WORDS.encode())):
        raise FileExistsError(f"export_torch: {there[0]} is there and no earlier export; force=True replaces it")

    kind, networks = _networks(model)
    for name, array in model.state().items():
        if not np.isfinite(to_host(array)).all():
            raise ValueError(f"export_torch: {name} holds elements that are not finite: not exported")
    traces = _traces(model, kind, networks, input_shapes)
    arrays = likelihood = _outside(model, networks)
    sources = {}
    for name, network in networks.items():
        prefix = f"{name}." if kind else ""
        codes = []
        for place, (before, after) in zip(traces[name].places, _orders(traces[name]), strict=True):
            code, weights = _counterpart(place, before, after)
            codes.append((code, f"  # {_batch(place.out)}"))
            arrays = arrays | {f"{prefix}{place.name}{key}": array for key, array in weights.items()}
        sources[name], _ = _source(network, iter(codes))

    weights_file = b"".join(serialised(arrays, {"format": "pt", "model": type(model).__name__}))
    text = _script(model, kind, traces, sources, likelihood)
    for file, content in ((script, text.encode()), (path, weights_file)):
        with atomic_write(file) as stream:
            stream.write(content)
    return [path, script]


# --- the networks, their layers, and the shapes between these ---


def _networks(model: Module) -> tuple[type[Model] | None, dict[str, Layer]]:
    """The kind of model, None for a layer, and its networks by name; TypeError where one has no counterpart."""
    kind = next((kind for kind in NETWORKS if isinstance(model, kind)), None)
    if kind is None and not isinstance(model, Layer):
        raise TypeError(f"export_torch: got a {type(model).__name__}, needs an Autoencoder, a VAE, a GAN or a layer")
    networks: dict[str, Any] = {name: getattr(model, name) for name in NETWORKS[kind]} if kind else {BARE: model}
    for network, layer in networks.items():
        for name, leaf in _leaves(layer):
            if type(leaf) not in COUNTERPARTS:  # nor does a subclass count: it may compute something else
                raise TypeError(
                    f"export_torch: {f'{network}.{name}'.rstrip('.')} is a {type(leaf).__name__}, which has no "
                    f"counterpart in torch.nn; needs Sequential, {', '.join(c.__name__ for c in COUNTERPARTS)}"
                )
    return kind, networks


def _leaves(layer: Layer, prefix: str = "") -> Iterator[tuple[str, Layer]]:
    """The layers in the order in which they act, each with the prefix of its names, as in "3.1."."""
    if type(layer) is not Sequential:
        yield prefix, layer
    else:
        for i, part in enumerate(layer.layers):
            yield from _leaves(part, f"{prefix}{i}.")


def _outside(model: Module, networks: Mapping[str, Layer]) -> dict[str, np.ndarray]:
    """What a model holds beside its networks: the parameters of a likelihood. TypeError for anything else."""
    if isinstance(model, Layer):
        return {}
    held = {name: to_host(a) for name, a in model.state().items() if name.partition(".")[0] not in networks}
    for name in held:
        if not name.startswith("likelihood.") or name.count(".") != 1:
            raise TypeError(f"export_torch: {type(model).__name__} holds {name}, which no network of it uses")
    return held


class _Place(NamedTuple):
    """A layer where it stands: the prefix of its names, and the shape of a sample before and after it."""

    name: str
    layer: Layer
    into: Shape
    out: Shape


class _Trace(NamedTuple):
    """The way of a sample through a network, which takes the shape `into`."""

    into: Shape
    places: list[_Place]

    @property
    def out(self) -> Shape:
        return self.places[-1].out if self.places else self.into


def _traces(
    model: Any, kind: type[Model] | None, networks: Mapping[str, Layer], given: Mapping[str, Shape] | None
) -> dict[str, _Trace]:
    """The way through each network; what it takes is given, or follows from the model."""
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"export_torch: input_shapes is {given!r}, needs {{name: shape}} for {' or '.join(networks)}")
    traces = {}

    def trace(name: str, shape: Shape) -> None:
        traces[name] = _trace(networks[name], name, shape)

    for name, shape in (given or {}).items():
        if name not in networks:
            raise ValueError(f"export_torch: input_shapes has {name!r}, needs names among {', '.join(networks)}")
        if not isinstance(shape, tuple | list) or not shape:
            raise ValueError(f"export_torch: input_shapes[{name!r}] is {shape!r}, needs the shape of one sample")
        trace(name, tuple(checks.integer("export_torch", f"input_shapes[{name!r}]", n) for n in shape))
    consumer = next((name for name in networks if name in PRODUCER), BARE)
    producer = PRODUCER.get(consumer, BARE)
    if producer not in traces:
        if kind in (VAE, GAN):
            trace(producer, (model.latent,))
        elif consumer in traces:
            trace(producer, traces[consumer].out)
        else:
            trace(producer, _vector(producer, networks[producer]))
    if consumer not in traces:
        trace(consumer, traces[producer].out)
    return traces


def _vector(name: str, network: Layer) -> Shape:
    """The shape of the vectors that a network takes whose first layer is Dense; ValueError for any other."""
    first = next((leaf for _, leaf in _leaves(network) if type(leaf) not in ELEMENTWISE), None)
    if type(first) is not Dense:
        raise ValueError(
            f"export_torch: what {name} takes does not follow from its first layer, {first}; needs the shape of one "
            f"sample: input_shapes={{{name!r}: (H, W, C)}}"
        )
    return (first.in_features,)


def _trace(network: Layer, name: str, shape: Shape) -> _Trace:
    """The way of a sample of zeros, which is predicted; ValueError where it does not go through."""
    like = next((p.value for p in network.parameters()), np.zeros(1, np.float32))
    x = transfer(np.zeros((1, *shape), like.dtype), backend_of(like))
    places = []
    for prefix, layer in _leaves(network):
        try:
            with np.errstate(all="ignore"):  # the shape alone counts
                y = layer.predict(x)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"export_torch: a sample of shape {shape} does not go through {name}: {error}"
            ) from error
        places.append(_Place(prefix, layer, x.shape[1:], y.shape[1:]))
        x = y
    return _Trace(shape, places)


# --- the order of the elements: there[k] = here[order[k]] ---


def _channels_first(shape: Shape) -> np.ndarray:
    """The order of a sample whose last axis here is its first one there; that of a vector is the same in both."""
    return np.moveaxis(np.arange(np.prod(shape)).reshape(shape), -1, 0).ravel()


def _orders(trace: _Trace) -> list[tuple[np.ndarray, np.ndarray]]:
    """The order before and after each layer; the network takes and gives channels first."""
    want: np.ndarray | None = _channels_first(trace.out)  # after a layer; None for any
    wanted = []
    for place in reversed(trace.places):
        wanted.append(want)
        if type(place.layer) is Dense:
            want = None
        elif not (_elementwise(place) or _by_shape(place)):
            want = _channels_first(place.into)
    orders, order = [], _channels_first(trace.into)
    for place, want in zip(trace.places, reversed(wanted), strict=True):
        before, order = order, _channels_first(place.out)
        if _elementwise(place):
            order = before
        elif type(place.layer) is Dense and want is not None:
            order = want
        elif _by_shape(place) and (want is None or np.array_equal(before, want)):
            order = before
        orders.append((before, order))
    return orders


def _elementwise(place: _Place) -> bool:
    """Whether each element of a sample is treated by itself, so that any order is kept."""
    return type(place.layer) in ELEMENTWISE or (type(place.layer) is BatchNorm and len(place.into) == 1)


def _by_shape(place: _Place) -> bool:
    """Whether it is nn.Flatten or nn.Unflatten, which know images on one side and vectors on the other."""
    return type(place.layer) in RESHAPING and 1 in (len(place.into), len(place.out))


# --- the counterpart of each layer ---


def _counterpart(place: _Place, before: np.ndarray, after: np.ndarray) -> tuple[str, dict[str, np.ndarray]]:
    """The code that builds the torch.nn module, and its weights by their names there."""
    layer = place.layer
    arrays = {name: to_host(array) for name, array in layer.state().items()}
    bias = {"bias": arrays["b"]} if "b" in arrays else {}
    match layer:
        case Dense():
            bias = {name: b[after] for name, b in bias.items()}
            return f"nn.{layer}".replace("Dense", "Linear"), {"weight": arrays["W"][before][:, after].T, **bias}
        case Conv2d() | ConvTranspose2d():  # (kh, kw, a, b) → (b, a, kh, kw); their repr is torch.nn's constructor
            return f"nn.{layer}", {"weight": arrays["W"].transpose(3, 2, 0, 1), **bias}
        case BatchNorm():
            axes = len(place.into)
            if axes not in BATCHNORM:
                raise ValueError(f"export_torch: {layer} acts on samples of {axes} axes; torch.nn has it for 1 to 4")
            names = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}
            order = before if axes == 1 else slice(None)  # of a vector each element is a channel
            vectors = {there: arrays[here][order].astype(arrays["gamma"].dtype) for there, here in names.items()}
            code = f"nn.{BATCHNORM[axes]}({layer.channels}, eps={layer.eps!r}, momentum={layer.momentum!r})"
            return code, {**vectors, "num_batches_tracked": np.array(0, np.int64)}
        case Flatten() | Reshape() if not np.array_equal(before, after) or not _by_shape(place):
            return f"ChannelsLastReshape({', '.join(map(str, place.out))})", {}
        case Reshape() if len(place.into) == 1:
            return f"nn.Unflatten(1, {_torch_shape(place.out)})", {}
        case Flatten() | Reshape():
            return "nn.Flatten()", {}
        case RandomFlip() | RandomShift() | RandomCutout():
            return "nn.Identity()", {}
        case _:
            return f"nn.{layer}", {}


def _torch_shape(shape: Shape) -> Shape:
    return (*shape[-1:], *shape[:-1])


def _batch(shape: Shape) -> str:
    """The shape of a batch there, in words."""
    return f"(N, {', '.join(map(str, _torch_shape(shape)))})"


# --- the module that loads them ---


def _source(layer: Layer, codes: Iterator[tuple[str, str]]) -> tuple[str, str]:
    """The code that builds a network, and the comment that follows it."""
    if type(layer) is not Sequential:
        return next(codes)
    parts = (_source(part, codes) for part in layer.layers)
    lines = "".join(indent(f"{code},{comment}\n", "    ") for code, comment in parts)
    return (f"nn.Sequential(\n{lines})" if lines else "nn.Sequential()"), ""


def _script(
    model: Any,
    kind: type[Model] | None,
    traces: Mapping[str, _Trace],
    sources: Mapping[str, str],
    likelihood: Mapping[str, np.ndarray],
) -> str:
    """The text of the .py file."""
    title = kind.__name__ if kind else BARE
    meanings = _meanings(model, kind, traces)
    networks = []
    for name in sources:
        networks.append(f"    {name}: {_batch(traces[name].into)} → {_batch(traces[name].out)}")
        networks += [f"        {meaning}" for meaning in meanings.get(name, ())]
    members = [f"self.{name} = {source}" for name, source in sources.items()]
    if likelihood:
        values = (f'"{n.partition(".")[2]}": nn.Parameter(torch.zeros({a.shape}))' for n, a in likelihood.items())
        members.append(f"self.likelihood = nn.ParameterDict({{{', '.join(values)}}})")
    build = CLASS.format(title=title, members=indent("\n".join(members), " " * 8))
    if kind is None:
        build = f"def {BARE}():\n    return {indent(sources[BARE], '    ').lstrip()}\n"
    return SCRIPT.format(
        first_words=FIRST_WORDS,
        title=title,
        networks="\n".join(networks),
        torch="import torch\n" if likelihood else "",
        reshape=RESHAPE if any("ChannelsLastReshape" in source for source in sources.values()) else "",
        build=build,
    )


def _meanings(model: Any, kind: type[Model] | None, traces: Mapping[str, _Trace]) -> dict[str, list[str]]:
    """What the networks of a model take and give, in lines of the docstring."""
    logits = "gives logits: torch.sigmoid of them is the expected pixels, in [0, 1]"
    if kind is Autoencoder:
        pixels = logits if model.loss_name == "bernoulli" else "gives the pixels themselves"
        return {"encoder": ["gives the code z of each sample"], "decoder": [pixels]}
    if kind is VAE:
        n, own = model.latent, model.likelihood
        pixels = "gives the parameters of the model's own density of pixels"
        if type(own) is Bernoulli:
            pixels = logits
        elif type(own) is Gaussian:
            variance = "exp(likelihood['logvar']), learned" if own.learn else f"{own.std!r} ** 2, fixed"
            pixels = f"gives the expected pixels; the variance of each is {variance}"
        z = "takes z: a draw from q(z|x), or from N(0, I) for a new image"
        code = f"gives h with h[:, :{n}] = mu and h[:, {n}:] = logvar of q(z|x) = N(mu, exp(logvar))"
        return {
            "encoder": [code],
            "decoder": [z, pixels],
        }
    if kind is GAN:
        prior = {"normal": "N(0, I)", "uniform": "the uniform density on [−1, 1]"}[model.prior]
        acting = [place.layer for place in traces["generator"].places if type(place.layer) not in RESHAPING]
        last = type(acting[-1]) if acting else None
        samples = "pixels in [−1, 1]" if last is Tanh else "pixels in [0, 1]" if last is Sigmoid else "samples"
        verdict = "gives logits: torch.sigmoid of them is the probability that a sample is real"
        return {"generator": [f"takes z, a draw from {prior}", f"gives {samples}"], "discriminator": [verdict]}
    return {}


SCRIPT = '''\
{first_words}{title} in torch.nn; `load()` gives it with its weights, in eval mode.

{networks}

Images are channels first, (N, C, H, W), and wherever one is flattened its elements come in that order: the weights in
the file are already permuted so. Vectors are what they were. The comments give the shape after each layer.
Needs PyTorch 2.1 or later, and safetensors.
"""

from pathlib import Path

{torch}from safetensors.torch import load_file
from torch import nn

{reshape}
{build}

def load(path=Path(__file__).with_suffix(".safetensors")):
    """The module with the weights of the file, in their dtype, in eval mode."""
    model = {title}()
    model.load_state_dict(load_file(Path(path).expanduser()), strict=True, assign=True)
    return model.eval()
'''

RESHAPE = '''
class ChannelsLastReshape(nn.Module):
    """Each sample in the shape (..., channels), its elements in that order; channels come in and go out first."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.movedim(1, -1).reshape(len(x), *self.shape).movedim(-1, 1)

'''

CLASS = """\
class {title}(nn.Module):
    def __init__(self):
        super().__init__()
{members}
"""
