"""Training a variational autoencoder."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from scratchgen.backend import Array, to_host, transfer
from scratchgen.data import Dataset, binarise, to_float
from scratchgen.data.binarise import compared
from scratchgen.measures import active_units
from scratchgen.measures.arrays import BLOCK, blocks
from scratchgen.models import conv_vae, dense_vae
from scratchgen.models.likelihood import LIKELIHOODS
from scratchgen.models.vae import VAE
from scratchgen.plots import Panel, Reference, codes, image_grid, image_rows, latent_plane, zoom
from scratchgen.progress import doing, over
from scratchgen.recipes import judgements
from scratchgen.recipes.encoder import SHOWN, EncoderRecipe, network_options
from scratchgen.recipes.options import Option, non_negative, positive
from scratchgen.recipes.recipe import Findings, typical
from scratchgen.schema import choice

ACTIVE = "active latent units"
LARGE_BETA = 1000  # above which β itself is what overflows


class VAERecipe(EncoderRecipe):
    model: VAE
    name = "vae"
    title = "variational autoencoder"
    help = "variational autoencoder: a density of images, with normal latent codes"
    description = "Train a variational autoencoder by its bound on the log-likelihood, the ELBO."
    hidden = [400]
    options = network_options(
        Option(positive, "latent dimension; 2 is drawn as a map", default=20, metavar="N"), hidden
    ) | {
        "likelihood": Option(choice(LIKELIHOODS), "of the pixels, given z", default="bernoulli"),
        "beta": Option(non_negative, "weight of the KL term; 1 is the ELBO", default=1.0, metavar="X"),
        "binarise": Option(
            choice(("none", "threshold", "dynamic")),
            "grey pixels to 0 and 1: unchanged, cut at one half, or drawn again each time with the grey as "
            "probability (default: dynamic for bernoulli, none for gaussian)",
        ),
    }
    defaults = {"epochs": 20, "batch_size": 128, "lr": 1e-3}
    builders = {"dense": dense_vae, "conv": conv_vae}
    of_model = ("likelihood", "beta")
    has_prior = True

    @classmethod
    def resolve_config(cls, given: dict[str, Any], data: Dataset) -> dict[str, Any]:
        config = super().resolve_config(given, data)
        config.setdefault("binarise", "dynamic" if config["likelihood"] == "bernoulli" else "none")
        return config

    @property
    def panels(self) -> Sequence[Panel]:
        beta = self.config["beta"]
        title = "Loss, −ELBO" if beta == 1 else f"Loss, with {beta:g} KL"
        first = {"reconstruction": "training", "test_reconstruction": "test"}
        return (
            Panel("nats per image", {"loss": "training", "test_loss": "test"}, title=title),
            Panel("nats per image", first, title="First term, reconstruction"),
            Panel("nats per image", {"kl": "training", "test_kl": "test"}, limits=(0, None), title="Second term, KL"),
        )

    @property
    def health(self) -> Sequence[Panel]:
        latent = self.config["latent"]
        active = Panel(
            "latent dimensions",
            {"active_units": "active, Var(μ) > 0.01"},
            (Reference(f"all {latent}", latent),),
            limits=(0, 1.1 * latent),
            title="Active latent units",
            whole=True,
        )
        return *super().health, active

    def describe(self) -> str:
        beta = f", β = {self.config['beta']:g}" if self.config["beta"] != 1 else ""
        return f"{super().describe()}, {self.config['likelihood']} pixels{beta}"

    def step(self, batch: Array, rng: np.random.Generator) -> dict[str, Array]:
        x = self._binary(batch, rng)
        eps = transfer(self.noise(len(x), rng), self.backend)
        terms, backward = self.model.terms_and_pullback(x, eps)
        backward()
        self.optimizers["optimizer"].step()
        return {**terms._asdict(), "loss": terms.loss(self.config["beta"])}

    def _binary(self, batch: Array, rng: np.random.Generator) -> Array:
        """The batch by `data.binarise`; on a GPU it is compared there, with the same draws, made on the host."""
        how = self.config["binarise"]
        if how == "none":
            return batch
        if self.backend == "numpy":
            return binarise(batch, how, rng)
        uniform = transfer(rng.random(tuple(batch.shape), batch.dtype), self.backend) if how == "dynamic" else None
        return compared(batch, how, uniform)

    def _test_batches(self, data: Dataset) -> Iterator[Array]:
        """The test images as the model sees images, by the same draws at each call."""
        rng = self.measure_rng()
        for x in blocks(data.test_images):
            yield transfer(binarise(x, self.config["binarise"], rng), self.backend)

    def test_terms(self, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Means over the test images of (reconstruction, KL), and the posterior means (N, latent)."""
        noise, sums, mus = self.picture_rng(), np.zeros(2), []
        for x in self._test_batches(data):
            eps = transfer(self.noise(len(x), noise), self.backend)
            terms = self.model.terms(x, eps)
            sums += len(x) * np.array([float(terms.reconstruction), float(terms.kl)])
            mus.append(to_host(self.model.encode(x)[0]))
        means, mu = sums / len(data.test_images), np.concatenate(mus)
        self.demand_finite(means, mu)
        return means, mu

    def epoch_measures(self, data: Dataset) -> Findings:
        found = Findings()
        with found.part("the test loss"):
            (reconstruction, kl), mu = self.test_terms(data)
            found.values = {
                "test_loss": reconstruction + self.config["beta"] * kl,
                "test_reconstruction": reconstruction,
                "test_kl": kl,
            }
            if len(mu) > 1:  # one image has no variance
                with found.part(ACTIVE):
                    found.values["active_units"] = active_units(mu)[0]
        return found

    def line(self, r: Mapping[str, Any]) -> str:
        test = "test –"
        if "test_kl" in r:
            test = (
                f"test −ELBO {r['test_reconstruction'] + r['test_kl']:7.2f} = "
                f"reconstruction {r['test_reconstruction']:.2f} + KL {r['test_kl']:.2f}"
            )
        return f"loss {r['loss']:7.2f}  {test}"

    def symptoms(self, epochs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        collapse = judgements.posterior_collapse(epochs, self.config)
        return ({"collapse": collapse} if collapse else {}) | super().symptoms(epochs)

    def advice(self, *, updated: bool) -> str:
        beta = self.config["beta"]
        if beta <= LARGE_BETA:
            return super().advice(updated=updated)
        return f"try a smaller --beta than {beta:g}" + (", or a lower learning rate" if updated else "")

    def encode(self, images: np.ndarray) -> np.ndarray:
        return self.on_host(lambda x: self.model.encode(x)[0], images)

    def noise(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return self.model.noise(count, rng)

    def generate(self, z: np.ndarray) -> np.ndarray:
        return self.decode(z)

    def sheet(self, data: Dataset) -> object:
        originals = to_float(data.test_images[typical(data, SHOWN)])
        drawn = self.decode(self.noise(3 * SHOWN, self.picture_rng()))
        return image_rows(
            [
                ("originals", originals),
                ("reconstructions", self.reconstruct(originals)),
                ("samples", drawn[:SHOWN]),
                ("", drawn[SHOWN : 2 * SHOWN]),
                ("", drawn[2 * SHOWN :]),
            ],
            SHOWN,
        )

    def measure(self, data: Dataset, *, importance: int = 500, progress: bool = True, **options: Any) -> Findings:
        binary = {"none": "grey pixels", "threshold": "pixels cut at one half", "dynamic": "pixels drawn as 0 or 1"}
        on = f"on the {len(data.test_images):,} test images, {binary[self.config['binarise']]}"
        found = Findings([("nats per image", on)])
        with found.part("the −ELBO"):
            with doing("−ELBO of the test images", progress=progress):
                (reconstruction, kl), mu = self.test_terms(data)
            elbo = -(reconstruction + kl)
            found.values = {"negative_elbo": -elbo, "reconstruction": reconstruction, "kl": kl}
            found.rows += [
                ("  −ELBO", f"{-elbo:.2f}"),
                ("    reconstruction", f"{reconstruction:.2f}"),
                ("    KL", f"{kl:.2f}"),
            ]
            with found.part(f"the importance-weighted NLL, K = {importance}"):
                noise = self.picture_rng()
                batches, count = self._test_batches(data), -(-len(data.test_images) // BLOCK)
                told = over(batches, f"importance-weighted NLL, K = {importance}", total=count, progress=progress)
                bounds = [self.model.log_likelihood(x, importance, noise) for x in told]
                nll = -float(np.concatenate(bounds).mean())
                found.values |= {"importance_samples": importance, "importance_weighted_nll": nll}
                found.rows += [
                    (f"  importance-weighted NLL, K = {importance}", f"{nll:.2f}"),
                    ("  gap", f"{-elbo - nll:.2f}"),
                ]
            if len(mu) > 1:
                with found.part(ACTIVE):
                    active, variances = active_units(mu)
                    found.values |= {"active_units": active, "variances_of_mu": [float(v) for v in variances]}
                    found.rows.append((ACTIVE, f"{active} of {self.config['latent']}"))
            if self.config["latent"] == 2:
                with found.part("codes.png"):
                    within = np.square(mu).sum(axis=1) <= 4
                    found.values["codes_within_2_sigma"] = float(within.mean())
                    found.pictures["codes.png"] = codes(mu, data.test_labels, classes=data.classes, prior=True)
        with found.part("reconstructions.png"):
            found.pictures["reconstructions.png"] = self.sheet(data)
        with found.part("samples.png"):
            drawn = self.decode(self.noise(100, self.picture_rng()))
            found.pictures["samples.png"] = image_grid(drawn, 10, scale=zoom(self.image_shape))
        if self.config["latent"] == 2:
            with found.part("plane.png"):
                found.pictures["plane.png"] = latent_plane(self.decode)
        return found
