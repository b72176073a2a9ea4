"""Export to PyTorch: weights under the names and in the layouts of torch.nn, and the module that loads them.

Every layer becomes one torch.nn module at the same index, so that decoder.layers[3].W is "decoder.3.weight" there.

                      here                    PyTorch
    images            (H, W, C)               (C, H, W)
    Dense W           (in, out)               (out, in)
    Conv2d W          (kh, kw, in, out)       (out, in, kh, kw)
    ConvTranspose2d W (kh, kw, out, in)       (in, out, kh, kw)

Flatten and Reshape keep the order of the numbers in memory, here and there. So the features of a flattened image
come in the order (H, W, C) here and (C, H, W) there, and a weight that meets them is permuted once, on export. With
`order` for the permutation between the two, there[k] = here[order[k]] for one sample's numbers, a layer

    keeps any order              if a function of each number; BatchNorm of vectors, its own ones permuted alike;
                                 Flatten, and Reshape of vectors
    takes any and gives any      if Dense: weight_ok = W[before[k], after[o]], bias_o = b[after[o]]
    needs and gives (C, H, W)    if a convolution or BatchNorm of images

A Dense gives the order that the next layer with a need asks for, as does the end of the network. Where no Dense
stands between two needs that differ (an image that is flattened, and that is all), there is no weight to permute: the
Flatten or Reshape becomes a `ChannelsLastReshape`, a few lines without weights, written out above the networks.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import indent
from typing import NamedTuple

import numpy as np

from scratchgen import checks
from scratchgen.backend import backend_of, to_host, transfer
from scratchgen.files import atomic_write
from scratchgen.layers import (
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Flatten,
    Layer,
    LeakyReLU,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    Tanh,
)
from scratchgen.models import GAN, VAE, Autoencoder, Bernoulli, Gaussian
from scratchgen.paths import as_path
from scratchgen.safetensors_file import serialised

ELEMENTWISE = (ReLU, LeakyReLU, Tanh, Sigmoid)
COUNTERPARTS = (Dense, Conv2d, ConvTranspose2d, BatchNorm, *ELEMENTWISE, Flatten, Reshape)
BATCHNORM = {1: "BatchNorm1d", 2: "BatchNorm1d", 3: "BatchNorm2d", 4: "BatchNorm3d"}  # by the axes of a sample
NETWORKS = {
    Autoencoder: ("encoder", "decoder"),
    VAE: ("encoder", "decoder"),
    GAN: ("generator", "discriminator"),
}
MAKER = {"encoder": "decoder", "discriminator": "generator"}  # who makes what a network takes
BARE = "network"  # what `input_shapes` calls a layer that is no part of a model
FIRST_WORDS = '"""Exported from scratchgen: '


def export_torch(
    model, path, *, input_shapes: Mapping[str, tuple[int, ...]] | None = None, force: bool = False
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
            raise ValueError(f"export_torch: {name} holds numbers that are not finite: not exported")
    shapes = _input_shapes(model, kind, networks, input_shapes)

    arrays = _outside(model, networks)
    traces, sources = {}, {}
    for name, network in networks.items():
        trace = traces[name] = _trace(network, name, shapes[name])
        prefix = f"{name}." if kind else ""
        codes = []
        for place, orders in zip(trace, _orders(trace, shapes[name]), strict=True):
            code, weights = _twin(place, *orders)
            codes.append((code, f"  # {_batch(place.out)}"))
            arrays |= {f"{prefix}{place.name}{key}": array for key, array in weights.items()}
        sources[name], _ = _source(network, iter(codes))

    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    weights = b"".join(serialised(arrays, {"format": "pt", "model": type(model).__name__}))
    text = _script(model, kind, shapes, traces, sources, arrays)
    for file, content in ((script, text.encode()), (path, weights)):
        with atomic_write(file) as stream:
            stream.write(content)
    return [path, script]


# --- the networks, their layers, and the shapes between these ---


def _networks(model) -> tuple[type | None, dict[str, Layer]]:
    """The kind of model, None for a layer, and its networks by name; TypeError where one has no counterpart."""
    kind = next((kind for kind in NETWORKS if isinstance(model, kind)), None)
    if kind is None and not isinstance(model, Layer):
        raise TypeError(f"export_torch: got a {type(model).__name__}, needs an Autoencoder, a VAE, a GAN or a layer")
    networks = {name: getattr(model, name) for name in NETWORKS[kind]} if kind else {BARE: model}
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


def _outside(model, networks) -> dict[str, np.ndarray]:
    """What a model holds beside its networks: the parameters of a likelihood. TypeError for anything else."""
    if isinstance(model, Layer):
        return {}
    held = {name: to_host(a) for name, a in model.state().items() if name.partition(".")[0] not in networks}
    for name in held:
        if not name.startswith("likelihood.") or name.count(".") != 1:
            raise TypeError(f"export_torch: {type(model).__name__} holds {name}, which no network of it uses")
    return held


def _input_shapes(model, kind, networks, given) -> dict[str, tuple[int, ...]]:
    """The shape of one sample, channels last, that each network takes."""
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"export_torch: input_shapes is {given!r}, needs {{name: shape}} for {' or '.join(networks)}")
    shapes = {}
    for name, shape in (given or {}).items():
        if name not in networks:
            raise ValueError(f"export_torch: input_shapes has {name!r}, needs names among {', '.join(networks)}")
        if not isinstance(shape, tuple | list) or not shape:
            raise ValueError(f"export_torch: input_shapes[{name!r}] is {shape!r}, needs the shape of one sample")
        shapes[name] = tuple(checks.integer("export_torch", f"input_shapes[{name!r}]", n) for n in shape)
    if kind is None:
        return shapes or {BARE: _vector(BARE, model)}

    taker, maker = next((taker, maker) for taker, maker in MAKER.items() if taker in networks)
    if maker not in shapes:
        if kind is not Autoencoder:
            shapes[maker] = (model.latent,)
        elif taker in shapes:
            shapes[maker] = _output(_trace(networks[taker], taker, shapes[taker]), shapes[taker])
        else:
            shapes[maker] = _vector(maker, networks[maker])
    if taker not in shapes:
        shapes[taker] = _output(_trace(networks[maker], maker, shapes[maker]), shapes[maker])
    return shapes


def _vector(name: str, network: Layer) -> tuple[int]:
    """The shape of the vectors that a network takes whose first layer is Dense; ValueError for any other."""
    first = next((leaf for _, leaf in _leaves(network) if type(leaf) not in ELEMENTWISE), None)
    if type(first) is not Dense:
        raise ValueError(
            f"export_torch: what {name} takes does not follow from its first layer, {first}; needs the shape of one "
            f"sample: input_shapes={{{name!r}: (H, W, C)}}"
        )
    return (first.in_features,)


class _Place(NamedTuple):
    """A layer where it stands: the prefix of its names, and the shape of a sample before and after it."""

    name: str
    layer: Layer
    into: tuple[int, ...]
    out: tuple[int, ...]


def _trace(network: Layer, name: str, shape) -> list[_Place]:
    """Each layer with its shapes, found by predicting a sample of zeros; ValueError where it does not go through."""
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
    return places


def _output(trace: list[_Place], shape) -> tuple[int, ...]:
    """The shape of what a network gives for a sample of the given shape."""
    return trace[-1].out if trace else shape


# --- the order of the numbers: there[k] = here[order[k]] ---


def _channels_first(shape) -> np.ndarray:
    """The order of a sample whose last axis here is its first one there; that of a vector is the same in both."""
    return np.moveaxis(np.arange(np.prod(shape)).reshape(shape), -1, 0).ravel()


def _orders(trace: list[_Place], shape) -> list[tuple[np.ndarray, np.ndarray]]:
    """The order before and after each layer; the network takes and gives channels first."""
    wanted = [_channels_first(_output(trace, shape))]  # after each layer, from the last backwards; None for any
    for place in reversed(trace):
        if type(place.layer) is Dense:
            wanted.append(None)
        else:
            wanted.append(wanted[-1] if _by_number(place) or _by_shape(place) else _channels_first(place.into))
    orders, order = [], _channels_first(shape)
    for place, want in zip(trace, wanted[-2::-1], strict=True):
        before, order = order, _channels_first(place.out)
        if _by_number(place):
            order = before
        elif type(place.layer) is Dense and want is not None:
            order = want
        elif _by_shape(place) and (want is None or np.array_equal(before, want)):
            order = before
        orders.append((before, order))
    return orders


def _by_number(place: _Place) -> bool:
    """Whether the layer treats the numbers of a sample one by one, so that it keeps any order."""
    return type(place.layer) in ELEMENTWISE or (type(place.layer) is BatchNorm and len(place.into) == 1)


def _by_shape(place: _Place) -> bool:
    """Whether it is nn.Flatten or nn.Unflatten, which know images on one side and vectors on the other."""
    return type(place.layer) in (Flatten, Reshape) and 1 in (len(place.into), len(place.out))


# --- the counterpart of each layer ---


def _twin(place: _Place, before: np.ndarray, after: np.ndarray) -> tuple[str, dict[str, np.ndarray]]:
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
            return _batchnorm(place, arrays, before)
        case Flatten() | Reshape() if not np.array_equal(before, after) or not _by_shape(place):
            return f"ChannelsLastReshape({', '.join(map(str, place.out))})", {}
        case Reshape() if len(place.into) == 1:
            return f"nn.Unflatten(1, {_torch_shape(place.out)})", {}
        case Flatten() | Reshape():
            return "nn.Flatten()", {}
        case _:
            return f"nn.{layer}", {}


def _batchnorm(place: _Place, arrays, order) -> tuple[str, dict[str, np.ndarray]]:
    """BatchNorm of vectors has one channel per number, in their order; that of images has whole maps."""
    layer, axes = place.layer, len(place.into)
    if axes not in BATCHNORM:
        raise ValueError(f"export_torch: {layer} acts on samples of {axes} axes; torch.nn has it for 1 to 4")
    names = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}
    channels = order if axes == 1 else slice(None)
    vectors = {there: arrays[here][channels].astype(arrays["gamma"].dtype) for there, here in names.items()}
    code = f"nn.{BATCHNORM[axes]}({layer.channels}, eps={layer.eps!r}, momentum={layer.momentum!r})"
    return code, {**vectors, "num_batches_tracked": np.array(0, np.int64)}


def _torch_shape(shape) -> tuple[int, ...]:
    return (*shape[-1:], *shape[:-1])


def _batch(shape) -> str:
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


def _script(model, kind, shapes, traces, sources, arrays) -> str:
    """The text of the .py file."""
    title = kind.__name__ if kind else "network"
    meanings = _meanings(model, kind, traces)
    networks = [
        f"    {name}: {_batch(shapes[name])} → {_batch(_output(trace, shapes[name]))}{meanings.get(name, '')}"
        for name, trace in traces.items()
    ]
    likelihood = {name.partition(".")[2]: a.shape for name, a in arrays.items() if name.startswith("likelihood.")}
    parts = [HEAD.format(first_words=FIRST_WORDS, title=title, networks="\n".join(networks))]
    parts.append(IMPORTS.format(torch="import torch\n" if likelihood else ""))
    if any("ChannelsLastReshape" in source for source in sources.values()):
        parts.append(RESHAPE)
    if kind is None:
        parts.append(f"\ndef network():\n    return {indent(sources[BARE], '    ').lstrip()}\n")
    else:
        members = [f"self.{name} = {source}" for name, source in sources.items()]
        if likelihood:
            values = ", ".join(f'"{name}": nn.Parameter(torch.zeros({shape}))' for name, shape in likelihood.items())
            members.append(f"self.likelihood = nn.ParameterDict({{{values}}})")
        parts.append(CLASS.format(title=title, members=indent("\n".join(members), "        ")))
    parts.append(LOAD.format(build=f"{title}()"))
    return "\n".join(parts)


def _meanings(model, kind, traces) -> dict[str, str]:
    """What the networks of a model take and give, each as a line of the docstring."""
    logits = "gives logits: torch.sigmoid of them is the expected pixels, in [0, 1]"
    if kind is Autoencoder:
        pixels = logits if model.loss_name == "bernoulli" else "gives the pixels themselves"
        said = {"encoder": "gives the code z of each sample", "decoder": pixels}
    elif kind is VAE:
        n, own = model.latent, model.likelihood
        if type(own) is Bernoulli:
            pixels = logits
        elif type(own) is Gaussian:
            variance = "exp(likelihood['logvar']), learned" if own.learn else f"{own.std!r} ** 2, fixed"
            pixels = f"gives the expected pixels; the variance of each is {variance}"
        else:
            pixels = "gives the parameters of the model's own density of pixels"
        code = f"gives h with h[:, :{n}] = mu and h[:, {n}:] = logvar of q(z|x) = N(mu, exp(logvar))"
        said = {
            "encoder": code,
            "decoder": f"takes z: a draw from q(z|x), or from N(0, I) for a new image\n        {pixels}",
        }
    elif kind is GAN:
        prior = {"normal": "N(0, I)", "uniform": "the uniform density on [−1, 1]"}[model.prior]
        last = next((p.layer for p in reversed(traces["generator"]) if type(p.layer) not in (Flatten, Reshape)), None)
        samples = {Tanh: "pixels in [−1, 1]", Sigmoid: "pixels in [0, 1]"}.get(type(last), "samples")
        verdict = "gives logits: torch.sigmoid of them is the probability that a sample is real"
        said = {"generator": f"takes z, a draw from {prior}\n        gives {samples}", "discriminator": verdict}
    else:
        said = {}
    return {name: f"\n        {text}" for name, text in said.items()}


HEAD = '''\
{first_words}{title} in torch.nn; `load()` gives it with its weights, in eval mode.

{networks}

Images are channels first, (N, C, H, W), and wherever one is flattened its numbers come in that order: the weights in
the file are already permuted so. Vectors are what they were. The comments give the shape after each layer.
Needs PyTorch 2.1 or later, and safetensors.
"""
'''

IMPORTS = """\
from pathlib import Path

{torch}from safetensors.torch import load_file
from torch import nn
"""

RESHAPE = '''
class ChannelsLastReshape(nn.Module):
    """Each sample in the shape (..., channels), its numbers in that order; channels come in and go out first."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.movedim(1, -1).reshape(len(x), *self.shape).movedim(-1, 1)
'''

CLASS = """
class {title}(nn.Module):
    def __init__(self):
        super().__init__()
{members}
"""

LOAD = '''
def load(path=Path(__file__).with_suffix(".safetensors")):
    """The module with the weights of the file, in their dtype, in eval mode."""
    model = {build}
    model.load_state_dict(load_file(Path(path).expanduser()), strict=True, assign=True)
    return model.eval()
'''
