"""The autoencoder: its loss, its training step, and coding."""

import numpy as np
import pytest
from backends import host
from comparing import _refuse, assert_close, assert_equal, evaluate, fill_gradients, gradients
from layer_table import changed, randomised, snapshot

import scratchgen as sg
from scratchgen import Adam, Dense, Sequential, bce_with_logits, conv_autoencoder, dense_autoencoder, frozen

# --- the autoencoder ----------------------------------------------------------------------------------------------

MODELS = {
    "dense": lambda loss: dense_autoencoder(
        (4, 4, 1), latent=3, hidden=(8,), loss=loss, rng=np.random.default_rng(0)
    ),
    "conv": lambda loss: conv_autoencoder((6, 5, 1), latent=3, width=3, loss=loss, rng=np.random.default_rng(0)),
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
every_model_loss = pytest.mark.parametrize("loss", ["bernoulli", "squared-error"])


def _images(make, n=16):
    shape = (4, 4, 1) if make is MODELS["dense"] else (6, 5, 1)
    return np.random.default_rng(1).random((n, *shape)).astype(np.float32)


@every_model
@every_model_loss
def test_the_autoencoders_loss_returns_its_pullback(make, loss, backend):
    model, x = randomised(make(loss)).to(backend.name), backend.array(_images(make).astype(np.float64))
    value, backward = model.loss(x)
    y = model.decoder.predict(model.encoder.predict(x))
    expected, dy = (bce_with_logits if loss == "bernoulli" else sg.mse)(y, x)
    assert_close([value], [expected])
    before = fill_gradients(model)
    assert backward() is None
    added = [g - g0 for g, g0 in zip(gradients(model), before, strict=True)]
    _, dz, *decoder = evaluate(model.decoder, model.encoder.predict(x), dy)
    _, _, *encoder = evaluate(model.encoder, x, dz)
    assert_close(added, [*encoder, *decoder], rtol=1e-10)


@every_model
@every_model_loss
def test_a_training_step_moves_every_parameter(make, loss, backend):
    model, x = make(loss).to(backend.name), backend.array(_images(make))
    before = {name: p.value for name, p in model.named_parameters().items()}
    optimizer = Adam(model.parameters(), 0.01)
    expected, _ = model.loss(x)
    assert model.train_step(x, optimizer) == expected
    assert [name for name, p in model.named_parameters().items() if not (p.value != before[name]).any()] == []
    assert not any(g.any() for g in gradients(model))
    for _ in range(20):
        model.train_step(x, optimizer)
    assert model.loss(x)[0] < expected


@every_model
@every_model_loss
def test_coding_is_deterministic(make, loss, backend):
    model, x = make(loss).to(backend.name), backend.array(_images(make))
    before = snapshot(model)
    z = model.encode(x)
    assert z.shape == (16, 3)
    assert_equal([model.encode(x), model.reconstruct(x)], [z, model.decode(z)])
    y = model.decoder.predict(z)
    y = host(y)
    expected = 1 / (1 + np.exp(-y)) if loss == "bernoulli" else y
    np.testing.assert_allclose(host(model.decode(z)), expected, rtol=1e-5)
    assert changed(before, snapshot(model)) == set()


def test_the_autoencoder_asks_for_no_gradient_of_the_images(backend, monkeypatch):
    model = conv_autoencoder((4, 4, 1), width=2).to(backend.name)
    _, backward = model.loss(backend.array(np.ones((2, 4, 4, 1), np.float32)))
    calls, kernel = [], backend.ops.correlate_adjoint_x
    monkeypatch.setattr(backend.ops, "correlate_adjoint_x", lambda *a: calls.append(a) or kernel(*a))
    backward()
    assert len(calls) == 1  # the second convolution of the encoder


def test_the_frozen_entrance_of_a_model_costs_the_decoder_no_dz(backend, monkeypatch):
    model = sg.Autoencoder(Dense(3, 2), Sequential(sg.Reshape(1, 1, 2), sg.Conv2d(2, 3, 1), sg.Flatten()))
    model.to(backend.name)
    monkeypatch.setattr(backend.ops, "correlate_adjoint_x", _refuse)
    _, backward = model.loss(backend.array(np.ones((2, 3), np.float32)))
    with frozen(model.encoder):
        backward()
