"""JAX's side of the benchmark: the same steps as ours, from the same weights to the same weights."""

import subprocess
import sys
import warnings
from dataclasses import asdict
from math import isqrt, prod

import numpy as np
import pytest
from bench_sides import SMALL, by_hand, quick  # noqa: F401  fixtures

from scratchgen.bench import steps
from scratchgen.bench.children import WORKER, Child
from scratchgen.bench.settings import SETTINGS
from scratchgen.optim import Adam

jax = pytest.importorskip("jax", reason="JAX is not installed, which the extra [jax] brings")
pytest.importorskip("optax", reason="optax is not installed, which the extra [jax] brings")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scratchgen.bench import opponent_jax

# 36 → 18 → 9 → 5 pixels: kernels of 4 and of 3; dcgan28 and dcgan64 are the same lines
TINY = {name: SMALL[name] for name in ("ae", "vae", "gan")} | {
    "dcgan": SETTINGS["dcgan28"].vary(batch=3, size=36, width=3)
}


@pytest.fixture(scope="module", autouse=True)
def on_one_thread():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of JAX's own
        opponent_jax.prepare(1)
        yield


def as_in_jax(arrays) -> list[np.ndarray]:
    """The first layer of a DCGAN's generator is a matrix product there: (in, height, width, out)."""
    arrays = [np.array(a) for a in arrays]
    if arrays[0].ndim == 4 and arrays[0].shape[3] == 100:
        arrays[0] = np.moveaxis(arrays[0], 3, 0)
    return arrays


def in_double(tree):
    return jax.tree.map(lambda a: a.astype(np.float64) if a.dtype == np.float32 else a, tree)


@pytest.mark.parametrize("name", TINY)
def test_jax_does_our_step(name):
    """From the same weights, batch and noise: the same losses, gradients, new weights and running statistics; in
    float64, to rounding."""
    setting, rng = TINY[name], np.random.default_rng(5)
    ours, theirs = steps.make(setting, seed=3), opponent_jax.make(setting)
    assert (ours.images, ours.parameters) == (theirs.images, theirs.parameters)
    model = ours.model.astype(np.float64)
    for p in model.parameters():  # away from their first values, at which much would go unseen
        p.value = p.value + 0.05 * rng.standard_normal(p.value.shape)
    if "ae" not in name:
        networks = [(model.generator,), (model.discriminator,)]
        optimizers = [ours.optimizers["generator"], ours.optimizers["discriminator"]]
    else:
        networks, optimizers = [(model.encoder, model.decoder)], [*ours.optimizers.values()]
    parameters = [[p for network in player for p in network.parameters()] for player in networks]
    optimizers = [Adam(ps, o.lr, o.betas, o.eps) for ps, o in zip(parameters, optimizers, strict=True)]
    before = [as_in_jax(p.value for p in ps) for ps in parameters]
    x = rng.random((setting.batch, setting.size, setting.size, setting.channels))
    noise = None if name == "ae" else rng.standard_normal((setting.batch, model.latent))
    wanted = model.train_step(x, *([] if noise is None else [noise]), *reversed(optimizers))

    with jax.enable_x64(True):
        step, state = theirs.networks
        players = list(in_double(state))
        for i, (player, values) in enumerate(zip(players, before, strict=True)):
            leaves, form = jax.tree.flatten(player.params)
            assert [leaf.shape for leaf in leaves] == [value.shape for value in values]
            players[i] = player._replace(params=jax.tree.unflatten(form, map(jax.numpy.asarray, values)))
        x = x if setting.convolutional else x.reshape(setting.batch, -1)
        players, found = jax.jit(step.update)(tuple(players), x, noise)
    np.testing.assert_allclose(np.array(found), np.array(wanted), rtol=1e-10)
    for i, player in enumerate(players):
        slots = optimizers[i].state()
        m = as_in_jax(slots[f"m.{k}"] for k in range(len(parameters[i])))  # a part of the gradient
        largest = max(abs(a).max() for a in m)
        assert largest > 0
        for gradient, moment in zip(m, jax.tree.leaves(player.adam[0].mu), strict=True):
            np.testing.assert_allclose(moment, gradient, rtol=1e-7, atol=1e-9 * largest)
        new = as_in_jax(p.value for p in parameters[i])
        for value, leaf, gradient, old in zip(new, jax.tree.leaves(player.params), m, before[i], strict=True):
            told = abs(gradient) > 1e-6 * largest  # a bias before BatchNorm has none but rounding
            assert (value != old)[told].all()
            np.testing.assert_allclose(leaf[told], value[told], rtol=0, atol=1e-10)
        norms = [layer for network in networks[i] for layer in network.layers if hasattr(layer, "running_mean")]
        for layer, (mean, var) in zip(norms, player.running, strict=True):
            np.testing.assert_allclose(mean, layer.running_mean, rtol=1e-7, atol=1e-10)
            np.testing.assert_allclose(var, layer.running_var, rtol=1e-7, atol=1e-10)


def operations(jaxpr) -> int:
    """Those of the products and convolutions of a program; of a convolution in direct form: a multiplication for each
    pixel of the small map, element of the kernel, sample and pair of channels, whichever of the maps it is."""
    total = 0
    for eqn in jaxpr.eqns:
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            total += operations(inner) if hasattr(inner, "eqns") else 0
        shapes = [v.aval.shape for v in (*eqn.invars, *eqn.outvars)]
        if eqn.primitive.name == "dot_general":
            contracted = eqn.params["dimension_numbers"][0][0]
            total += 2 * prod(shapes[-1]) * prod(shapes[0][i] for i in contracted)
        elif eqn.primitive.name == "conv_general_dilated":
            dims = [
                [shape[i] for i in spec] for shape, spec in zip(shapes, eqn.params["dimension_numbers"], strict=True)
            ]
            kernel, small, _ = sorted(prod(d[2:]) for d in dims)
            each_twice = prod(d[0] * d[1] for d in dims)  # samples and channels, in two of the three each
            total += 2 * kernel * small * isqrt(each_twice)
    return total


@pytest.mark.parametrize("name", SETTINGS)
def test_jax_does_the_same_arithmetic(name):
    setting = SMALL[name]
    step = opponent_jax.make(setting)
    model, state = step.networks
    shape = (setting.size, setting.size, setting.channels) if setting.convolutional else (784,)
    noise = np.zeros((setting.batch, 20 if name == "vae" else 100), np.float32)
    program = jax.make_jaxpr(model.update)(state, np.zeros((setting.batch, *shape), np.float32), noise)
    assert operations(program.jaxpr) == by_hand(setting)


def test_a_step_is_that_of_its_seed_with_new_noise_each_time(monkeypatch):
    """And the state is donated: the arrays of before a step are gone after it."""
    vae = SMALL["vae"]
    step, again, other = (opponent_jax.make(vae, seed=seed) for seed in (1, 1, 2))
    before = jax.tree.leaves(step.networks[1])
    first = float(step.run())
    assert all(array.is_deleted() for array in before)
    assert first == float(again.run()) != float(other.run())

    def noise_alone(setting):
        return opponent_jax.Model(lambda rng: (), lambda weights: (), lambda state, x, noise: (state, noise))

    monkeypatch.setattr(opponent_jax, "_vae", noise_alone)
    still = opponent_jax.make(vae)
    a, b = (np.array(still.run()) for _ in range(2))
    assert a.shape == (vae.batch, 20)
    assert (a != b).all()
    assert abs(a).max() > 1, "normal, not uniform"


def test_a_process_of_its_own():
    """As the benchmark uses it."""
    with Child("jax", threads=1) as child:
        assert child.about["threads"] == 1
        assert child.about["jax"] == jax.__version__
        made = child.ask("make", lane="a", what=asdict(SMALL["vae"]), layout="", seed=0)
        assert (made["images"], made["parameters"]) == (3, steps.make(SMALL["vae"]).parameters)
        assert len(child.ask("turn", lane="a", steps=4)) == 4
        child.ask("clear")
        assert set(child.ask("first", what=asdict(SMALL["ae"]), layout="", seed=0)) == {"build", "step"}
        held = child.ask("memory", what=asdict(SMALL["ae"]), layout="", seed=0)
        assert held["peak"] is None or held["peak"] > held["before"]


def test_one_thread_is_one_core():
    """XLA's pool has as many threads as asked for, and with one of them a process takes no more than one core."""
    for threads in (1, 2):
        program = f"""
import sys, time
sys.path.insert(0, {str(WORKER.parents[2])!r})
import runpy
load = runpy.run_path({str(WORKER)!r})["load"]
side = load("jax")
print(side.prepare({threads})["threads"])
import jax
product = jax.jit(lambda a: a @ a)
a = jax.numpy.ones((1024, 1024))
product(a).block_until_ready()
start, spent = time.perf_counter(), time.process_time()
for _ in range(10):
    product(a).block_until_ready()
print((time.process_time() - spent) / (time.perf_counter() - start))
"""
        ran = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
        pool, cores = ran.stdout.split()
        assert pool == str(threads)
        if threads == 1:
            assert float(cores) < 1.15
