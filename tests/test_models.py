"""What the models have in common: evaluations, steps that wait for nothing, one float, inference, state."""

import copy
import gc
import re
import weakref
from contextlib import nullcontext

import numpy as np
import pytest
import standin
from backends import host, like
from refusals import ones
from small_models import (
    BUILDERS,
    LIKELIHOODS,
    assert_allclose,
    assert_array_equal,
    every_gan,
    every_gan_loss,
    gan_and_batch,
    moved,
    normed_gan,
    normed_vae,
    randomised,
    small_vae,
    snapshot,
)

import scratchgen as sg
from scratchgen import (
    GAN,
    SGD,
    VAE,
    Adam,
    Autoencoder,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Layer,
    Sequential,
    conv_autoencoder,
    conv_vae,
    dcgan,
    dcgan_optimizers,
    dense_vae,
    frozen,
    point_gan,
)
from scratchgen.models.gan import mean_probability


def test_a_backward_belongs_to_its_evaluation(backend, rng):
    """D is called twice before either backward, and parameters change in between: the gradients are as they were."""
    model = normed_gan(rng).to(backend.name)
    real, z = backend.arrays(rng.uniform(-0.5, 0.5, (4, 4)), rng.standard_normal((5, 3)))
    for evaluate in (lambda: model.discriminator_loss(real, z), lambda: model.generator_loss(z)):
        model.zero_grad()
        evaluate()[1]()
        expected = [p.grad.copy() for p in model.parameters()]
        model.zero_grad()
        _, backward = evaluate()
        model.discriminator_loss(2 * real, -z), model.generator_loss(-z)
        before = [p.value for p in model.parameters()]
        for p in model.parameters():
            p.value = p.value + 1
        backward()
        for p, e, value in zip(model.parameters(), expected, before, strict=True):
            assert_array_equal(p.grad, e)
            p.value = value


def an_autoencoders_step(backend, rng):
    model = conv_autoencoder((6, 5, 1), latent=3, width=2, rng=rng).to(backend.name)
    x, optimizer = backend.array(rng.random((4, 6, 5, 1), np.float32)), Adam(model.parameters())
    return lambda: model.train_step(x, optimizer)


def a_vaes_step(backend, rng):
    model = conv_vae((6, 5, 1), latent=3, width=2, likelihood="gaussian", rng=rng).to(backend.name)
    batch = backend.arrays(rng.random((4, 6, 5, 1), np.float32), rng.standard_normal((4, 3), np.float32))
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
    return lambda: model.train_step(*batch, optimizer)


def a_gans_step(backend, rng):
    model = dcgan((12, 12, 1), 3, 2, smallest=3, smoothing=0.1, rng=rng).to(backend.name)
    batch = backend.arrays(rng.random((4, 12, 12, 1), np.float32), model.noise(4, rng))
    optimizers = dcgan_optimizers(model)
    return lambda: model.train_step(*batch, *optimizers)


STEPS = {"autoencoder": an_autoencoders_step, "VAE": a_vaes_step, "DCGAN": a_gans_step}


@pytest.mark.parametrize("kind", STEPS)
def test_a_step_does_not_wait_for_the_device(kind, strict, rng):
    """Nothing of a step is brought to the host, no number and no shape: all of it can be queued."""
    step = STEPS[kind](strict, rng)
    step()  # kernels are compiled in the first
    with standin.no_sync():
        step()


@pytest.mark.parametrize("layer", [Conv2d(3, 4, 4, stride=2, padding=1), ConvTranspose2d(3, 4, 4)], ids=repr)
def test_columns_are_kept_for_the_gradient_of_a_kernel_that_learns_alone(layer, strict, rng, monkeypatch):
    """They are many times as large as the pixels: D's, while G learns, would be held for nothing."""
    made, patches = [], strict.ops.patches

    def noted(*arguments):
        columns = patches(*arguments)
        made.append(weakref.ref(columns))
        return columns

    monkeypatch.setattr(strict.ops, "patches", noted)
    layer = copy.deepcopy(layer).to("cupy")
    x = strict.array(rng.standard_normal((2, 6, 6, 3), np.float32))
    for learns in (False, True):
        made.clear()
        with nullcontext() if learns else frozen(layer):
            y, backward = layer.forward(x)
        gc.collect()
        assert any(columns() is not None for columns in made) == (learns and isinstance(layer, Conv2d))
        backward(y)
        gc.collect()
        assert len(made) == 1, "once for both maps that read them"
        assert made[0]() is None


def test_inference_keeps_nothing_and_batchnorm_uses_its_running_statistics(backend, rng):
    model = normed_vae(rng).to(backend.name)
    x, eps = backend.arrays(rng.random((8, 6)), rng.standard_normal((8, 2)))
    model.loss(x, eps)
    before = snapshot(model)
    terms = [*map(host, model.terms(x, eps))]
    per_image = [[*map(host, model.terms(x[i : i + 1], eps[i : i + 1]))] for i in range(8)]
    assert_allclose(terms, np.mean(per_image, axis=0))  # of one image alone it is the same
    model.encode(x), model.reconstruct(x), model.reconstruct(x, eps), model.sample(3, rng), model.log_likelihood(x, 3)
    gan, real, z = gan_and_batch("normed", rng, backend)
    gan_before = snapshot(gan)
    gan.generate(z), gan.value(real, z)
    assert_allclose(gan.generate(z)[:1], gan.generate(z[:1]))
    coder = randomised(Autoencoder(Sequential(BatchNorm(6), Dense(6, 2)), Sequential(BatchNorm(2), Dense(2, 6))), rng)
    coder.to(backend.name)
    coder_before = snapshot(coder)
    each = [float(coder.predict_loss(x[i : i + 1])) for i in range(8)]
    assert host(coder.predict_loss(x)) == pytest.approx(np.mean(each), rel=1e-12)
    assert_allclose(coder.reconstruct(x)[:1], coder.reconstruct(x[:1]))
    assert moved(model, before) | moved(gan, gan_before) | moved(coder, coder_before) == set()


# --- one float only -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("build", [dense_vae, conv_vae])
def test_a_vae_knows_one_float(build, likelihood, dtype, backend, rng, monkeypatch):
    model = build((5, 4, 1), latent=2, likelihood=LIKELIHOODS[likelihood](), beta=0.5, rng=rng).astype(dtype)
    model.to(backend.name)
    optimizer = Adam(model.parameters(), np.float64(0.01))
    x, eps = backend.arrays(rng.random((4, 5, 4, 1)).astype(dtype), rng.standard_normal((4, 2)).astype(dtype))
    inside = record_dtypes(monkeypatch, model)
    found = [
        model.train_step(x, eps, optimizer),
        *model.terms_and_pullback(x, eps)[0],
        *model.terms(x, eps),
        model.predict_loss(x, eps),
        model.loss(x, eps)[0],
    ]
    found += [*model.encode(x), model.reconstruct(x), model.reconstruct(x, eps), model.sample(2, rng)]
    found += [*model.state().values(), *optimizer.m, *optimizer.v, *(p.grad for p in model.parameters())]
    assert {a.dtype for a in found} | inside == {np.dtype(dtype)}
    assert model.log_likelihood(x, 2, rng).dtype == np.float64  # a measure


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_gan
@every_gan_loss
def test_a_gan_knows_one_float(kind, loss, dtype, backend, rng, monkeypatch):
    model, real, z = gan_and_batch(kind, rng, backend, loss=loss, smoothing=0.1)
    model.astype(dtype)
    real, z = real.astype(dtype), z.astype(dtype)
    d, g = dcgan_optimizers(model, np.float64(1e-3))
    inside = record_dtypes(monkeypatch, model)
    played = model.play(real, z, d, g)
    found = [*played, mean_probability(played.s_real), *model.train_step(real, z, d, g)]
    found += [model.discriminator_step(real, z, d), model.generate(z), model.value(real, z)]
    found += [*model.state().values(), *d.m, *d.v, *g.m, *g.v, *(p.grad for p in model.parameters())]
    assert {a.dtype for a in found} | inside == {np.dtype(dtype)}


def record_dtypes(monkeypatch, model) -> set:
    """The dtypes of all that goes in and out of any layer of the model, forwards and backwards."""
    seen = set()
    for layer in [m for m in model.modules() if isinstance(m, Layer) and not isinstance(m, Sequential)]:

        def forward(x, original=layer.forward):
            y, backward = original(x)
            seen.update((x.dtype, y.dtype))

            def recorded(dy):
                dx = backward(dy)
                seen.update((dy.dtype, dx.dtype))
                return dx

            return y, recorded

        monkeypatch.setattr(layer, "forward", forward, raising=False)
    return seen


@pytest.mark.parametrize("kind", ["VAE", "GAN"])
def test_a_step_writes_into_nothing_it_is_given(kind, backend, rng):
    """Batches and noise are as they were, and the arrays that the parameters held before."""
    if kind == "GAN":
        model, *batch = gan_and_batch("DCGAN", rng, backend)
        optimizers = dcgan_optimizers(model)
    else:
        model = conv_vae((5, 4, 1), latent=2, likelihood="gaussian", rng=rng).astype(np.float64)
        batch = backend.arrays(rng.random((4, 5, 4, 1)), rng.standard_normal((4, 2)))
        optimizers = [Adam(model.to(backend.name).parameters())]
    arrays = [*batch, *model.state().values()]
    before = [a.copy() for a in arrays]
    for a in arrays if backend.is_host else ():
        a.flags.writeable = False
    model.train_step(*batch, *optimizers)
    for a, b in zip(arrays, before, strict=True):
        assert_array_equal(a, b)


def test_state_holds_the_whole_model(backend, rng):
    """Weights, running statistics and the learned variance go round, and the copy gives the same pixels."""
    for make, latent in (
        (lambda: dense_vae((3, 2, 1), latent=2, hidden=(4,), likelihood="gaussian"), 2),
        (lambda: dcgan((8, 8, 1), 3, 2), 3),
    ):
        model, other = make().to(backend.name), make()
        for p in model.parameters():
            p.value = p.value + like(p.value, rng.standard_normal(p.value.shape))
        z = backend.array(rng.standard_normal((4, latent), np.float32))
        if isinstance(model, GAN):
            model.generator_loss(z)
            assert "generator.2.running_mean" in model.state()
        else:
            assert "likelihood.logvar" in model.state()
        other.load_state(model.state())  # from here to there, and moved only then
        other.to(backend.name)
        use = GAN.generate if isinstance(model, GAN) else VAE.decode
        assert_array_equal(use(model, z), use(other, z))


def test_global_random_state_is_left_alone(rng):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    for build in BUILDERS.values():
        build()
    model = small_vae()
    model.sample(2), model.log_likelihood(ones(3, 6), 2)
    point_gan().noise(2, rng)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


class Stuck(Layer):
    """Its backward pass ends as when Ctrl-C comes."""

    def forward(self, x):
        def dx(dy):
            raise KeyboardInterrupt

        return x + 0, self.pullback(x, dx=dx)


def test_a_step_that_ends_half_way_back_leaves_no_gradient():
    x, z = np.full((4, 3), 0.5, np.float32), np.ones((4, 2), np.float32)
    ae = Autoencoder(Sequential(Dense(3, 2), Stuck(), Dense(2, 2)), Dense(2, 3))
    vae = VAE(Sequential(Dense(3, 2), Stuck(), Dense(2, 4)), Dense(2, 3), 2)
    gan = GAN(Sequential(Dense(2, 2), Stuck(), Dense(2, 3)), Dense(3, 1), 2)
    for model, step in (
        (ae, lambda: ae.train_step(x, Adam(ae.parameters()))),
        (vae, lambda: vae.train_step(x, z, Adam(vae.parameters()))),
        (gan, lambda: gan.train_step(x, z, *dcgan_optimizers(gan))),
    ):
        with pytest.raises(KeyboardInterrupt):
            step()
        assert not any(p.grad.any() for p in model.parameters())


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda: sg.Sequential(sg.Dense(2, 2)), "Sequential is not called itself; use predict(x), or forward(x) for"),
        (lambda: sg.dense_autoencoder((4, 4, 1)), "Autoencoder is not called itself; use reconstruct(x), encode(x)"),
        (lambda: sg.dense_vae((4, 4, 1)), "VAE is not called itself; use reconstruct(x), encode(x), decode(z)"),
        (lambda: sg.point_gan(2), "GAN is not called itself; use generate(z), or discriminator_loss(real, z)"),
    ],
)
def test_what_is_called_says_what_to_use_instead(model, says):
    with pytest.raises(TypeError, match=re.escape(says)):
        model()(np.zeros((1, 4, 4, 1), np.float32))
    used = re.findall(r"(\w+)\(", says)
    assert all(hasattr(model(), name) for name in used)


def test_a_layer_may_be_called_where_its_author_says_how():
    class Net(sg.Dense):
        def __call__(self, x):
            return self.predict(x)

    net = Net(3, 2, rng=np.random.default_rng(0))
    x = np.ones((1, 3), np.float32)
    assert np.array_equal(net(x), net.predict(x))
