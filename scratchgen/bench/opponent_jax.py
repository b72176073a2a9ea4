"""JAX's side: the same five steps as somebody who knows JAX writes them, and the only file that imports it.

A step is one pure function of its state, the key of its noise included, compiled by `jax.jit` with the state
donated: weights, optax's Adam and running statistics are updated where they lie. Images are channels-last, as in
ours. The GAN's step is that of PyTorch's side, but that D's weights take no gradient in G's step, as in ours.

The first layer of a DCGAN's G and the last of its D, convolutions from and to one pixel, are matrix products: as
convolutions they would be padded, and most of their arithmetic done on zeros. BatchNorm takes both moments in one
pass, as Flax's does.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import lax

from scratchgen.bench.settings import SMALLEST, Setting, Step

Params: TypeAlias = list[tuple[jax.Array, ...]]  # a tuple for each layer with weights, in order
Update: TypeAlias = Callable[[Any, jax.Array, Any], tuple[Any, Any]]  # (state, batch, noise) → new state, losses

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


class Networks(NamedTuple):
    """What is trained: the state at first, and one step with its noise given."""

    state: Any
    update: Update


def make(setting: Setting, *, layout: str = "", seed: int = 0, backend: str = "numpy") -> Step:
    """The step of this setting, weights, batch and noise from `seed`; images are channels-last, there is no other
    `layout`."""
    weights, images, noise = jax.random.split(jax.random.key(seed), 3)
    shape = (setting.size, setting.size, setting.channels) if setting.convolutional else (784,)
    x = jax.random.uniform(images, (setting.batch, *shape))
    make_networks, noise_shape = {"ae": (_autoencoder, None), "vae": (_vae, (20,))}.get(setting.step, (_gan, (100,)))
    networks, parameters = make_networks(setting, weights)
    if make_networks is _gan:
        x = 2 * x - 1

    @partial(jax.jit, donate_argnums=0)
    def step(state: tuple[Any, jax.Array], x: jax.Array) -> tuple[tuple[Any, jax.Array], Any]:
        state, key = state
        key, drawn = jax.random.split(key)
        noise = None if noise_shape is None else jax.random.normal(drawn, (setting.batch, *noise_shape))
        state, losses = networks.update(state, x, noise)
        return (state, key), losses

    held = jax.tree.map(jnp.copy, networks.state), noise

    def run() -> Any:
        nonlocal held
        held, losses = jax.block_until_ready(step(held, x))
        return losses

    return Step(run, setting.batch, parameters, networks)


def _count(*params: Params) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


# --- layers ---


def _dense_layers(sizes: Sequence[int], key: jax.Array) -> Params:
    glorot, keys = jax.nn.initializers.glorot_uniform(), jax.random.split(key, len(sizes))
    return [
        (glorot(k, (n_in, n_out)), jnp.zeros(n_out)) for k, (n_in, n_out) in zip(keys, pairwise(sizes), strict=False)
    ]


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


def _autoencoder(setting: Setting, key: jax.Array) -> tuple[Networks, int]:
    down, up = jax.random.split(key)
    params = _dense_layers((784, 512, 128, 32), down), _dense_layers((32, 128, 512, 784), up)

    def loss(params: tuple[Params, Params], x: jax.Array, noise: None) -> jax.Array:
        encoder, decoder = params
        return _bernoulli(_mlp(decoder, _mlp(encoder, x)), x)

    return _minimised(loss, params)


def _vae(setting: Setting, key: jax.Array) -> tuple[Networks, int]:
    down, up = jax.random.split(key)
    params = _dense_layers((784, 400, 40), down), _dense_layers((20, 400, 784), up)

    def loss(params: tuple[Params, Params], x: jax.Array, eps: jax.Array) -> jax.Array:
        encoder, decoder = params
        mu, logvar = jnp.split(_mlp(encoder, x), 2, axis=1)
        z = mu + eps * jnp.exp(0.5 * logvar)
        kl = -0.5 * jnp.sum(1 + logvar - jnp.square(mu) - jnp.exp(logvar))
        return _bernoulli(_mlp(decoder, z), x) + kl / len(x)

    return _minimised(loss, params)


def _minimised(loss: Callable[..., jax.Array], params: Any) -> tuple[Networks, int]:
    adam = optax.adam(1e-3)

    def update(state: tuple[Any, Any], x: jax.Array, noise: Any) -> tuple[tuple[Any, Any], jax.Array]:
        params, adam_state = state
        value, gradients = jax.value_and_grad(loss)(params, x, noise)
        changes, adam_state = adam.update(gradients, adam_state, params)
        return (optax.apply_updates(params, changes), adam_state), value

    return Networks((params, adam.init(params)), update), _count(params)


# --- GANs ---


class Player(NamedTuple):
    """One network: its weights, its running statistics, the state of its Adam."""

    params: Params
    running: list[tuple[jax.Array, jax.Array]]
    adam: Any


Network: TypeAlias = Callable[[Params, Any, jax.Array], tuple[jax.Array, Any]]  # → output, new running statistics


def _gan(setting: Setting, key: jax.Array) -> tuple[Networks, int]:
    """The GAN's and both DCGANs'."""
    up, down = jax.random.split(key)
    if setting.convolutional:
        g, d, g_params, d_params = _dcgan(setting, up, down)
    else:
        g, d, g_params, d_params = _dense_gan(up, down)
    adam = optax.adam(2e-4, b1=0.5)

    def first(params: Params) -> Player:
        normalised = [layer[0].size for layer in params if len(layer) == 2 and layer[0].ndim == 1]
        return Player(params, [(jnp.zeros(n), jnp.ones(n)) for n in normalised], adam.init(params))

    def moved(player: Player, gradients: Params, running: Any) -> Player:
        changes, adam_state = adam.update(gradients, player.adam, player.params)
        return Player(optax.apply_updates(player.params, changes), running, adam_state)

    def judged(params: Params, running: Any, x: jax.Array, label: float) -> tuple[jax.Array, Any]:
        s, running = d(params, running, x)
        return optax.sigmoid_binary_cross_entropy(s, jnp.full_like(s, label)).mean(), running

    def update(state: tuple[Player, Player], real: jax.Array, z: jax.Array) -> tuple[tuple[Player, Player], Any]:
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
        discriminator = moved(discriminator, d_gradients, running)

        def g_loss(fake: jax.Array) -> tuple[jax.Array, Any]:
            return judged(discriminator.params, discriminator.running, fake, 1)

        (loss_of_g, running), dfake = jax.value_and_grad(g_loss, has_aux=True)(fake)
        (g_gradients,) = g_pullback(dfake)
        discriminator = discriminator._replace(running=running)
        return (moved(generator, g_gradients, g_running), discriminator), (loss_of_d, loss_of_g)

    return Networks((first(g_params), first(d_params)), update), _count(g_params, d_params)


def _dense_gan(up: jax.Array, down: jax.Array) -> tuple[Network, Network, Params, Params]:
    first, *middle, last = _dense_layers((100, 128, 256, 512, 1024, 784), up)
    g_params = [first]
    for W, b in middle:
        g_params += [(W, b), (jnp.ones_like(b), jnp.zeros_like(b))]
    g_params += [last]

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

    return generator, discriminator, g_params, _dense_layers((784, 512, 256, 1), down)


def _dcgan(setting: Setting, up: jax.Array, down: jax.Array) -> tuple[Network, Network, Params, Params]:
    assert setting.width is not None
    sizes = [setting.size]  # of the feature maps, from the image inwards
    while sizes[-1] > SMALLEST:
        sizes.append((sizes[-1] + 1) // 2)
    base, kernels = sizes[-1], [4 - n % 2 for n in sizes[:-1]]
    channels = [setting.channels, *(setting.width * 2**i for i in range(len(kernels)))]
    normal = jax.nn.initializers.normal(0.02)

    def drawn(key: jax.Array, shapes: Sequence[tuple[int, ...]]) -> list[jax.Array]:
        return [normal(k, shape) for k, shape in zip(jax.random.split(key, len(shapes)), shapes, strict=True)]

    def norm(n: int) -> tuple[jax.Array, jax.Array]:
        return jnp.ones(n), jnp.zeros(n)

    # from an image inwards: (kernel, kernel, nearer to the image, further), as D's layers have it and G's transposed
    shapes = [(k, k, near, far) for k, (near, far) in zip(kernels, pairwise(channels), strict=True)]
    first, *doubling = drawn(up, [(100, base, base, channels[-1]), *reversed(shapes)])
    g_params: Params = [(first,), norm(channels[-1])]
    for W in doubling:
        g_params += [(W,), norm(W.shape[2])]
    g_params.pop()  # after the image
    entrance, *halving, last = drawn(down, [*shapes, (base, base, channels[-1], 1)])
    d_params: Params = [(entrance,)]
    for W in halving:
        d_params += [(W,), norm(W.shape[3])]
    d_params += [(last,)]

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

    return generator, discriminator, g_params, d_params
