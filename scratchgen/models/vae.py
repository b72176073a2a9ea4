"""The variational autoencoder: a latent-variable model of images, trained by a lower bound on log p(x)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from scratchgen import checks
from scratchgen.backend import Array, array_library, backend_of, formula, to_host, transfer
from scratchgen.layers import Layer
from scratchgen.layers.pullback import chain
from scratchgen.losses import gaussian_kl
from scratchgen.models.likelihood import likelihood_of
from scratchgen.models.model import Model
from scratchgen.models.networks import conv_networks, dense_networks
from scratchgen.optim import Optimizer

BLOCK = 2**22  # pixels decoded at a time for the importance-weighted bound


class Terms(NamedTuple):
    """The two terms of −ELBO, in nats per image: −log p(x|z) at the draw of z, and KL(q(z|x) ‖ p(z))."""

    reconstruction: Array
    kl: Array

    @property
    def elbo(self) -> Array:
        return -self.loss(1)

    def loss(self, beta: float) -> Array:
        return self.reconstruction + beta * self.kl


@formula
def standard_deviation(logvar):
    return np.exp(0.5 * logvar)


@formula
def sample_of(mu, std, eps):
    return mu + std * eps


@formula
def dlogvar_of(dz, std, eps):
    return dz * eps * (0.5 * std)


@formula
def add_scaled(a, b, weight):
    return a + weight * b


def reparameterise(mu: Array, logvar: Array, eps: Array) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    """z = mu + σ · eps with σ = e^{½ logvar}: normal with mean mu and variance e^logvar where eps ~ N(0, I).

    All (N, latent). Returns z, backward; backward(dz) gives dmu = dz and dlogvar = dz · eps · ½σ, as ∂σ/∂logvar = ½σ.
    """
    std = standard_deviation(logvar)
    return sample_of(mu, std, eps), lambda dz: (dz, dlogvar_of(dz, std, eps))


class VAE(Model):
    """z ~ N(0, I), x ~ p(x|z). The posterior p(z|x) is intractable; q(z|x) = N(mu, diag σ²) stands in for it.

    p(x) = ∫ p(x|z) p(z) dz = E_q[w] with w = p(x|z) p(z) / q(z|x). The logarithm is concave, so log p(x) is at least
    E_q[log w] (Jensen's inequality), the evidence lower bound, which is, as KL(q ‖ p) = E_q[log q − log p],

        ELBO = E_q[log p(x|z)] − KL(q(z|x) ‖ p(z))

    `encoder(x)` is `[mu, logvar]` side by side, (N, 2·latent), with σ² = e^logvar. q depends on these, so that the
    gradient may not be taken under E_q. With z = mu + σ·eps, eps ~ N(0, I), the expectation is over eps, with a fixed
    density, and it may; one draw of eps per image estimates loss and gradient without bias. The KL is exact.

    The loss is −ELBO with the KL weighted by β. With σ = e^{½ logvar} and KL = ½ Σ (mu² + σ² − 1 − logvar)

        dmu = dz + β mu / N,    dlogvar = dz · eps · ½σ + β ½ (σ² − 1) / N        for a batch of N

    For β > 1 the codes get simpler (Higgins et al. 2017) and −loss is a looser bound, ELBO − (β − 1) KL; for β < 1 it
    need not be one.
    `likelihood` is "bernoulli", "gaussian", or one of your own with the methods of `models.likelihood`.
    (Kingma & Welling 2014, eq. 3, §2.4 and appendix B; Rezende et al. 2014.)

    Chapter: demos/book/11-vae.md
    """

    _instead = (
        "use reconstruct(x), encode(x), decode(z) or sample(count), or loss(x, eps) for the loss and its pullback"
    )
    inputs_like = MappingProxyType({"encoder": "decoder"})

    def __init__(
        self, encoder: Layer, decoder: Layer, latent: int, *, likelihood: Any = "bernoulli", beta: float = 1.0
    ):
        self.check_networks(encoder=encoder, decoder=decoder)
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood_of("VAE", likelihood)
        self.latent = checks.integer("VAE", "latent", latent)
        self.beta = checks.real("VAE", "beta", beta, lambda x: x >= 0, "a number of at least 0")

    # --- training ---

    def loss(self, x: Array, eps: Array) -> tuple[Array, Callable[[], None]]:
        """loss, backward for a batch x and noise eps (N, latent): −ELBO per sample, its KL weighted by β.

        ValueError where the likelihood is Bernoulli and pixels are not in [0, 1]; on a GPU the loss is NaN then.
        """
        terms, backward = self.terms_and_pullback(x, eps)
        return terms.loss(self.beta), backward

    def train_step(self, x: Array, eps: Array, optimizer: Optimizer) -> Array:
        """One update on a batch; returns its loss before the update."""
        self.check_optimizer("optimizer", optimizer)
        loss, backward = self.loss(x, eps)
        with self.no_gradient_on_error():
            backward()
        optimizer.step()
        return loss

    def terms_and_pullback(self, x: Array, eps: Array) -> tuple[Terms, Callable[[], None]]:
        """The two terms of the loss, and the pullback of their sum with the KL weighted by β."""
        self._check_batch(x, eps)
        with self.unchanged_on_error():
            h, encoder_backward = chain(x, self.encoder)  # (N, 2·latent); chain, not forward, for `need_dx`
            mu, logvar = self._halves(h)
            z, sample_backward = reparameterise(mu, logvar, eps)  # (N, latent)
            y, decoder_backward = chain(z, self.decoder)
            reconstruction, likelihood_backward = self.likelihood.nll(y, x)
            kl, dmu_kl, dlogvar_kl = gaussian_kl(mu, logvar)

        def backward():
            dz = decoder_backward(likelihood_backward())  # which adds the gradient of a learned variance, too
            dmu, dlogvar = sample_backward(dz)
            dmu = add_scaled(dmu, dmu_kl, self.beta)
            dlogvar = add_scaled(dlogvar, dlogvar_kl, self.beta)
            dh = array_library(h).concatenate([dmu, dlogvar], axis=1)  # the adjoint of taking halves
            encoder_backward(dh, need_dx=False)

        return Terms(reconstruction, kl), backward

    # --- use ---

    def encode(self, x: Array) -> tuple[Array, Array]:
        """mu, logvar of q(z|x): two arrays (N, latent)."""
        return self._halves(self.encoder.predict(x))

    def decode(self, z: Array) -> Array:
        """The expected pixels of each z (N, latent)."""
        return self.likelihood.mean(self.decoder.predict(z))

    def reconstruct(self, x: Array, eps: Array | None = None) -> Array:
        """The expected pixels at the mean of q(z|x), or at its sample mu + σ·eps when noise is given."""
        mu, logvar = self.encode(x)
        if eps is None:
            return self.decode(mu)
        self._check_noise(x, eps)
        return self.decode(reparameterise(mu, logvar, eps)[0])

    def sample(self, count: int, rng: np.random.Generator | None = None) -> Array:
        """The expected pixels of `count` draws of z from the prior; rng is a numpy.random.Generator."""
        count, rng = checks.integer("VAE.sample", "count", count), checks.generator("VAE.sample", rng)
        return self.decode(self._at_home(self.noise(count, rng)))

    def noise(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` draws of eps, or of z from the prior: (count, latent), standard normal, on the host: float32, or
        what the model was converted to."""
        count = checks.integer("VAE.noise", "count", count)
        dtype = next((p.value.dtype for p in self._parameters()), np.dtype(np.float32))
        return checks.generator("VAE.noise", rng).standard_normal((count, self.latent), dtype)

    def terms(self, x: Array, eps: Array) -> Terms:
        """Both terms of −ELBO for inference: nothing kept, BatchNorm by its running statistics. β plays no part."""
        self._check_batch(x, eps)
        mu, logvar = self.encode(x)
        y = self.decoder.predict(reparameterise(mu, logvar, eps)[0])
        reconstruction, _ = self.likelihood.nll(y, x)
        return Terms(reconstruction, gaussian_kl(mu, logvar)[0])

    def predict_loss(self, x: Array, eps: Array) -> Array:
        """The loss for inference."""
        return self.terms(x, eps).loss(self.beta)

    def log_likelihood(self, x: Array, samples: int = 500, rng: np.random.Generator | None = None) -> np.ndarray:
        """An unbiased estimate of the importance-weighted bound L_K on log p(x) of each image, in nats: (N,), NumPy
        float64.

            L_K = E log(1/K Σ_k w_k),   w_k = p(x|z_k) p(z_k) / q(z_k|x),   z_k = mu + σ·eps_k
            log w_k = log p(x|z_k) + ½ Σ (eps_k² + logvar − z_k²)

        for log p(z) = −½ Σ (z² + log 2π) and log q = −½ Σ (eps² + logvar + log 2π). L_1 is the ELBO, L_K does not
        fall as K grows, and L_K → log p(x). (Burda et al. 2016, eq. 8 and theorem 1.) The weights would underflow, so
        their sum is carried from block to block as its logarithm.
        """
        K = checks.integer("VAE.log_likelihood", "samples", samples)
        rng = checks.generator("VAE.log_likelihood", rng)
        checks.float_array("VAE.log_likelihood", "x", x)
        if x.size == 0:
            raise ValueError(f"VAE.log_likelihood: x is empty, shape {x.shape}; needs at least one image")
        self._check_pixels(x)
        rows = max(1, BLOCK * len(x) // x.size)  # decoded images at a time
        images = max(1, rows // K)
        return np.concatenate(
            [self._log_mean_weight(x[i : i + images], K, rows, rng) for i in range(0, len(x), images)]
        )

    def _log_mean_weight(self, x: Array, K: int, rows: int, rng: np.random.Generator) -> np.ndarray:
        mu, logvar = self.encode(x)
        n, shape = len(x), x.shape
        total = np.full(n, -np.inf)  # log Σ w so far
        for start in range(0, K, rows):
            k = min(rows, K - start)
            eps = self._at_home(self.noise(n * k, rng))  # k draws for each image
            mus, logvars = (array_library(a).repeat(a, k, axis=0) for a in (mu, logvar))
            z, _ = reparameterise(mus, logvars, eps)
            y = self.decoder.predict(z)
            if y.shape[1:] != shape[1:]:
                raise ValueError(f"VAE.log_likelihood: x has shape {shape}, the decoder makes {y.shape}")
            log_w = self.likelihood.log_prob(y.reshape(n, k, -1), x.reshape(n, 1, -1))  # (n, k)
            log_w = log_w + 0.5 * (eps * eps + logvars - z * z).sum(axis=1).reshape(n, k)
            log_w = to_host(log_w).astype(np.float64)
            total = np.logaddexp(total, np.logaddexp.reduce(log_w, axis=1))
        return total - log(K)

    def _halves(self, h: Array) -> tuple[Array, Array]:
        if h.ndim != 2 or h.shape[1] != 2 * self.latent:
            raise ValueError(
                f"VAE: the encoder gave shape {h.shape}, needs (N, {2 * self.latent}): "
                f"mu and logvar of {self.latent} latent dimensions side by side"
            )
        return h[:, : self.latent], h[:, self.latent :]

    def _check_batch(self, x: Array, eps: Array) -> None:
        self._check_noise(x, eps)
        self._check_pixels(x)

    def _check_pixels(self, x: Array) -> None:
        domain = getattr(self.likelihood, "domain", None)
        if domain is not None:
            low, high = domain
            checks.between("VAE", "x", x, low, high, checks.UNIT)

    def _check_noise(self, x: Array, eps: Array) -> None:
        checks.float_array("VAE", "x", x)
        checks.float_array("VAE", "eps", eps)
        needed = (*x.shape[:1], self.latent)
        if eps.shape != needed:
            raise ValueError(f"VAE: eps has shape {eps.shape}, needs {needed}, a row for each sample")
        checks.like("VAE", "eps", eps, "x", dtype=x.dtype, home=backend_of(x))
        checks.finite("VAE", "eps", eps)

    def _at_home(self, eps: Array) -> Array:
        """Noise in the parameters' library."""
        return transfer(eps, next((backend_of(p.value) for p in self._parameters()), "numpy"))


def dense_vae(
    image_shape: Sequence[int] = (28, 28, 1),
    *,
    latent: int = 20,
    hidden: Sequence[int] = (400,),
    likelihood: Any = "bernoulli",
    beta: float = 1.0,
    rng: np.random.Generator | None = None,
) -> VAE:
    """Fully connected: pixels → hidden … → [mu, logvar], and latent → … hidden → pixels, with ReLU between.

    The default is 784-400-(20+20), 20-400-784.
    """
    rng = checks.generator("dense_vae", rng)
    networks = dense_networks("dense_vae", image_shape, heads=2, latent=latent, hidden=hidden, rng=rng)
    return VAE(*networks, latent, likelihood=likelihood, beta=beta)


def conv_vae(
    image_shape: Sequence[int] = (28, 28, 1),
    *,
    latent: int = 20,
    width: int = 32,
    likelihood: Any = "bernoulli",
    beta: float = 1.0,
    rng: np.random.Generator | None = None,
) -> VAE:
    """Convolutional: two strided convolutions down and a Dense, a Dense and two fractional-stride ones back up.

    Channels are width and 2·width; images of any size from 4×4 pixels. ReLU between.
    """
    rng = checks.generator("conv_vae", rng)
    networks = conv_networks("conv_vae", image_shape, heads=2, latent=latent, width=width, rng=rng)
    return VAE(*networks, latent, likelihood=likelihood, beta=beta)
