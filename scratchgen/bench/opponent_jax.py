"""JAX's side: the same five steps as somebody who knows JAX writes them, and the only file that imports it.

A step is one pure function of its state, the key of its noise included, compiled by `jax.jit` with the state
donated: weights, optax's Adam and running statistics are updated where they lie. Images are channels-last, as in
ours. The GAN's step is that of PyTorch's side, but that D's weights take no gradient in G's step, as in ours.

The first layer of a DCGAN's G and the last of its D, convolutions from and to one pixel, are matrix products: as
convolutions they would be padded, and most of their arithmetic done on zeros. BatchNorm takes both moments in one
pass, as Flax's does. First weights are NumPy's draws: for its own JAX would compile for seconds.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from scratchgen.bench.settings import SMALLEST, Setting, Step

Params: TypeAlias = list[tuple[Any, ...]]  # a tuple of arrays for each layer with weights, in order

TASKS = Path("/proc/self/task")
WORKERS = "tf_XLAEigen"  # the name that the threads of XLA's pool have
NHWC = ("NHWC", "HWIO", "NHWC")


def prepare(threads: int, backend: str = "numpy", precision: str = "float32") -> dict[str, Any]:
    """Use so many threads, which is settled when a process first computes; says what runs here, and how many threads
    it has by the system's account, None where that says nothing. On a CPU alone."""
    jax.config.update("jax_platforms", "cpu")
    os.environ["PJRT_NPROC"] = os.environ["NPROC"] = str(threads)  # the size of XLA's pool, by its new name and old
    jax.devices()
    return {"jax": jax.__version__, "optax": optax.__version__, "threads": _pool()}


def _pool() -> int | None:
    """How many threads compute in this process."""
    try:
        names = [(task / "comm").read_text().strip() for task in TASKS.iterdir()]
    except OSError:
        return None
    return names.count(WORKERS) or None


class Player(NamedTuple):
    """What one optimizer moves: weights, the running statistics that go with them, the state of Adam."""

    params: Any
    running: list[tuple[jax.Array, jax.Array]]
    adam: Any


State: TypeAlias = tuple[Player, ...]


class Model(NamedTuple):
    """First weights, those of each player; the state that they make; one step with its noise given."""

    weights: Callable[[np.random.Generator], tuple[Any, ...]]
    init: Callable[[tuple[Any, ...]], State]
    update: Callable[[State, jax.Array, Any], tuple[State, Any]]  # (state, batch, noise) → state, losses


def make(setting: Setting, *, layout: str = "", seed: int = 0, backend: str = "numpy") -> Step:
    """The step of this setting, weights, batch and noise from `seed`; images are channels-last, there is no other
    `layout`. `networks` are the step's model and its state at first, which the first run uses up."""
    shape = (setting.size, setting.size, setting.channels) if setting.convolutional else (784,)
    make_model, latent = {"ae": (_autoencoder, 0), "vae": (_vae, 20)}.get(setting.step, (_gan, 100))
    model = make_model(setting)

    @jax.jit
    def start(weights: tuple[Any, ...]) -> tuple[State, jax.Array]:
        return model.init(weights), jax.random.key(seed)

    @partial(jax.jit, donate_argnums=0)
    def step(held: tuple[State, jax.Array], x: jax.Array) -> tuple[tuple[State, jax.Array], Any]:
        state, key = held
        key, drawn = jax.random.split(key)
        state, losses = model.update(state, x, jax.random.normal(drawn, (setting.batch, latent)))
        return (state, key), losses

    rng = np.random.default_rng(seed)
    held, batch = start(model.weights(rng)), rng.random((setting.batch, *shape), np.float32)
    x = jax.device_put(2 * batch - 1 if make_model is _gan else batch)

    def run() -> Any:
        nonlocal held
        held, losses = jax.block_until_ready(step(held, x))
        return losses

    parameters = sum(leaf.size for player in held[0] for leaf in jax.tree.leaves(player.params))
    return Step(run, setting.batch, parameters, (model, held[0]))


# --- layers ---


def _dense_layers(sizes: Sequence[int], rng: np.random.Generator) -> Params:
    return [
        (_normal(rng, (n_in, n_out), (2 / (n_in + n_out)) ** 0.5), np.zeros(n_out, np.float32))
        for n_in, n_out in pairwise(sizes)
    ]


def _normal(rng: np.random.Generator, shape: Sequence[int], std: float) -> Any:
    return np.float32(std) * rng.standard_normal(shape, np.float32)


def _norm(n: int) -> tuple[Any, Any]:
    """gamma and beta."""
    return np.ones(n, np.float32), np.zeros(n, np.float32)


def _dense(params: tuple[jax.Array, ...], x: jax.Array) -> jax.Array:
    W, b = params
    return x @ W + b


def _mlp(params: Params, x: jax.Array, activation: Callable[[jax.Array], jax.Array] = jax.nn.relu) -> jax.Array:
    for layer in params[:-1]:
        x = activation(_dense(layer, x))
    return _dense(params[-1], x)


def _leaky(x: jax.Array) -> jax.Array:
    return jax.nn.leaky_relu(x, 0.2)


def _batch_norm(
    params: tuple[jax.Array, ...], running: tuple[jax.Array, jax.Array], x: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    gamma, beta = params
    axes, m = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    mean = x.mean(axes)
    var = jnp.maximum(0, jnp.square(x).mean(axes) - jnp.square(mean))
    y = (x - mean) * (lax.rsqrt(var + 1e-5) * gamma) + beta
    return y, (0.9 * running[0] + 0.1 * mean, 0.9 * running[1] + 0.1 * var * (m / (m - 1)))


def _conv(W: jax.Array, x: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(x, W, (2, 2), [(1, 1), (1, 1)], dimension_numbers=NHWC)


def _conv_transpose(W: jax.Array, x: jax.Array) -> jax.Array:
    """W is (kh, kw, out, in), that of the convolution whose transpose this is."""
    pad = W.shape[0] - 2
    return lax.conv_transpose(x, W, (2, 2), [(pad, pad)] * 2, dimension_numbers=NHWC, transpose_kernel=True)


# --- autoencoder and VAE ---


def _bernoulli(logits: jax.Array, x: jax.Array) -> jax.Array:
    return optax.sigmoid_binary_cross_entropy(logits, x).sum() / len(x)


def _autoencoder(setting: Setting) -> Model:
    def loss(params: tuple[Params, Params], x: jax.Array, noise: jax.Array) -> jax.Array:
        encoder, decoder = params
        return _bernoulli(_mlp(decoder, _mlp(encoder, x)), x)

    return _minimised(loss, (784, 512, 128, 32), (32, 128, 512, 784))


def _vae(setting: Setting) -> Model:
    def loss(params: tuple[Params, Params], x: jax.Array, eps: jax.Array) -> jax.Array:
        encoder, decoder = params
        mu, logvar = jnp.split(_mlp(encoder, x), 2, axis=1)
        z = mu + eps * jnp.exp(0.5 * logvar)
        kl = -0.5 * jnp.sum(1 + logvar - jnp.square(mu) - jnp.exp(logvar))
        return _bernoulli(_mlp(decoder, z), x) + kl / len(x)

    return _minimised(loss, (784, 400, 40), (20, 400, 784))


def _minimised(loss: Callable[..., jax.Array], *sizes: Sequence[int]) -> Model:
    """Of networks of these sizes."""
    adam = optax.adam(1e-3)

    def weights(rng: np.random.Generator) -> tuple[Any, ...]:
        return (tuple(_dense_layers(some, rng) for some in sizes),)

    def init(weights: tuple[Any, ...]) -> State:
        (params,) = weights
        return (Player(params, [], adam.init(params)),)

    def update(state: State, x: jax.Array, noise: jax.Array) -> tuple[State, jax.Array]:
        (player,) = state
        value, gradients = jax.value_and_grad(loss)(player.params, x, noise)
        return (_moved(adam, player, gradients, []),), value

    return Model(weights, init, update)


def _moved(adam: Any, player: Player, gradients: Any, running: Any) -> Player:
    changes, adam_state = adam.update(gradients, player.adam, player.params)
    return Player(optax.apply_updates(player.params, changes), running, adam_state)


# --- GANs ---

Weights: TypeAlias = Callable[[np.random.Generator], tuple[Params, Params]]  # → G's, D's
Network: TypeAlias = Callable[[Params, Any, jax.Array], tuple[jax.Array, Any]]  # → output, new running statistics


def _gan(setting: Setting) -> Model:
    """The GAN's and both DCGANs'."""
    weights, g, d = _dcgan(setting) if setting.convolutional else _dense_gan()
    adam = optax.adam(2e-4, b1=0.5)

    def init(weights: tuple[Any, ...]) -> State:
        players = []
        for params in weights:
            normalised = [layer[0].size for layer in params if layer[0].ndim == 1]
            running = [(jnp.zeros(n), jnp.ones(n)) for n in normalised]
            players.append(Player(params, running, adam.init(params)))
        return tuple(players)

    def judged(params: Params, running: Any, x: jax.Array, label: float) -> tuple[jax.Array, Any]:
        s, running = d(params, running, x)
        return optax.sigmoid_binary_cross_entropy(s, jnp.full_like(s, label)).mean(), running

    def update(state: State, real: jax.Array, z: jax.Array) -> tuple[State, Any]:
        generator, discriminator = state
        fake, g_pullback, g_running = jax.vjp(
            lambda params: g(params, generator.running, z), generator.params, has_aux=True
        )

        def d_loss(params: Params, fake: jax.Array) -> tuple[jax.Array, Any]:
            on_real, running = judged(params, discriminator.running, real, 1)
            on_fake, running = judged(params, running, fake, 0)
            return on_real + on_fake, running

        (loss_of_d, running), d_gradients = jax.value_and_grad(d_loss, has_aux=True)(
            discriminator.params, lax.stop_gradient(fake)
        )
        discriminator = _moved(adam, discriminator, d_gradients, running)

        def g_loss(fake: jax.Array) -> tuple[jax.Array, Any]:
            return judged(discriminator.params, discriminator.running, fake, 1)

        (loss_of_g, running), dfake = jax.value_and_grad(g_loss, has_aux=True)(fake)
        (g_gradients,) = g_pullback(dfake)
        discriminator = discriminator._replace(running=running)
        return (_moved(adam, generator, g_gradients, g_running), discriminator), (loss_of_d, loss_of_g)

    return Model(weights, init, update)


def _dense_gan() -> tuple[Weights, Network, Network]:
    def weights(rng: np.random.Generator) -> tuple[Params, Params]:
        first, *middle, last = _dense_layers((100, 128, 256, 512, 1024, 784), rng)
        normalised = [part for W, b in middle for part in ((W, b), _norm(b.size))]
        return [first, *normalised, last], _dense_layers((784, 512, 256, 1), rng)

    def generator(params: Params, running: Any, z: jax.Array) -> tuple[jax.Array, Any]:
        first, *middle, last = params
        x, moved = _leaky(_dense(first, z)), []
        for layer, norm, before in zip(middle[::2], middle[1::2], running, strict=True):
            x, after = _batch_norm(norm, before, _dense(layer, x))
            x = _leaky(x)
            moved.append(after)
        return jnp.tanh(_dense(last, x)), moved

    def discriminator(params: Params, running: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        return _mlp(params, x, _leaky), running

    return weights, generator, discriminator


def _dcgan(setting: Setting) -> tuple[Weights, Network, Network]:
    assert setting.width is not None
    sizes = [setting.size]  # of the feature maps, from the image inwards
    while sizes[-1] > SMALLEST:
        sizes.append((sizes[-1] + 1) // 2)
    base, kernels = sizes[-1], [4 - n % 2 for n in sizes[:-1]]
    channels = [setting.channels, *(setting.width * 2**i for i in range(len(kernels)))]

    def weights(rng: np.random.Generator) -> tuple[Params, Params]:
        # from an image inwards, as D has them; those of a transposed convolution are (…, out, in)
        shapes = [(k, k, near, far) for k, (near, far) in zip(kernels, pairwise(channels), strict=True)]
        g_shapes = [(100, base, base, channels[-1]), *reversed(shapes)]
        d_shapes = [*shapes, (base, base, channels[-1], 1)]
        first, *doubling = (_normal(rng, shape, 0.02) for shape in g_shapes)
        g_params: Params = [(first,), _norm(channels[-1])]
        for W in doubling:
            g_params += [(W,), _norm(W.shape[2])]
        g_params.pop()  # after the image
        entrance, *halving, last = (_normal(rng, shape, 0.02) for shape in d_shapes)
        d_params: Params = [(entrance,)]
        for W in halving:
            d_params += [(W,), _norm(W.shape[3])]
        return g_params, [*d_params, (last,)]

    def generator(params: Params, running: Any, z: jax.Array) -> tuple[jax.Array, Any]:
        (W,), *rest, (last,) = params
        x, moved = jnp.tensordot(z, W, 1), []
        for norm, (W,), before in zip(rest[::2], [*rest[1::2], (last,)], running, strict=True):
            x, after = _batch_norm(norm, before, x)
            x = _conv_transpose(W, jax.nn.relu(x))
            moved.append(after)
        return jnp.tanh(x), moved

    def discriminator(params: Params, running: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        (entrance,), *middle, (last,) = params
        x, moved = _leaky(_conv(entrance, x)), []
        for (W,), norm, before in zip(middle[::2], middle[1::2], running, strict=True):
            x, after = _batch_norm(norm, before, _conv(W, x))
            x = _leaky(x)
            moved.append(after)
        return jnp.tensordot(x, last, 3), moved

    return weights, generator, discriminator
