"""Training a GAN: fully connected on images or on points in the plane, or convolutional."""

import numpy as np

from scratchgen.backend import transfer
from scratchgen.data import Points, to_float, to_unit
from scratchgen.measures import mode_coverage, nearest_neighbours, sample_quality, train_classifier
from scratchgen.models import dcgan, dense_gan, point_gan
from scratchgen.models.gan import LOSSES, PRIORS
from scratchgen.optim import Adam
from scratchgen.plots import Panel, histogram, image_grid, image_rows, scatter, zoom
from scratchgen.recipes.options import fraction, positive, rate
from scratchgen.recipes.recipe import Findings, Recipe, RecipeError

SHOWN = 64  # generated images in a sheet
DRAWN = 2500  # generated points
NEIGHBOURS = 12  # generated images shown beside the nearest training images
BLOCK = 500  # images at a time


class GANRecipe(Recipe):
    name = "gan"
    title = "fully connected GAN"
    help = "generative adversarial network, fully connected: of images, or of points in the plane"
    description = "Train a generator against a discriminator, fully connected, on images or on points in the plane."
    defaults = {"epochs": 50, "batch_size": 64, "lr": 2e-4, "beta1": 0.5, "latent": 100}
    point_defaults = {"epochs": 20, "batch_size": 256, "lr": 1e-3, "beta1": 0.5, "latent": 2, "decay": "linear"}
    panels = (
        Panel("loss", {"d_loss": "discriminator", "g_loss": "generator"}),
        Panel("modes covered", {"modes": "modes"}, limits=(0, None)),
        Panel("Fréchet distance", {"frechet": "generator"}, limits=(0, None)),
    )
    health = (
        Panel("probability of being real", {"D(x)": "D(x)", "D(G(z))": "D(G(z))"}, ("½", 0.5), limits=(0, 1)),
        Panel("gradient norm", {"d_gradient": "discriminator", "g_gradient": "generator"}, log=True),
    )
    has_prior = True
    drop_last = True

    @classmethod
    def add_options(cls, option):
        option("--latent", type=positive, metavar="N", help=f"numbers in z {cls._either('latent')}")
        cls.add_game_options(option)

    @classmethod
    def add_game_options(cls, option):
        option("--loss", choices=LOSSES, default="non-saturating", help="of the generator")
        option("--k", type=positive, default=1, metavar="N", help="discriminator updates for each generator update")
        option(
            "--smoothing", type=fraction, default=0.0, metavar="X", help="takes this from the real samples' target 1"
        )
        option("--prior", choices=PRIORS, default="normal", help="density of z; uniform is on [−1, 1]")
        option("--beta1", type=fraction, metavar="X", help="Adam's β₁ (default: 0.5)")
        option("--d-lr", type=rate, metavar="X", help="the discriminator's learning rate (default: that of --lr)")

    @classmethod
    def _either(cls, name) -> str:
        return f"(default: {cls.defaults[name]} for images, {cls.point_defaults[name]} for points)"

    @classmethod
    def settled(cls, config, data):
        if not isinstance(data, Points):
            config = super().settled(config, data)
            if config["batch_size"] < 2:
                raise RecipeError("the batch size is 1, needs at least 2: one image alone has no batch statistics")
            return config
        # Networks learn best what lies in about [−1, 1]: a grid that reaches to 4 is shrunk by 4 for them.
        scale = max(1, round(float(np.abs(data.train).max())))
        config = cls.filled(config, cls.point_defaults, len(data.train))
        return config | {"dimensions": data.train.shape[1], "scale": scale}

    # --- the model ---

    @property
    def points(self) -> bool:
        return "dimensions" in self.config

    def _game(self, rng):
        c = self.config
        return {
            "latent": c["latent"],
            "loss": c["loss"],
            "smoothing": c["smoothing"],
            "prior": c["prior"],
            "rng": rng,
        }

    def build(self, rng):
        if self.points:
            self.model = point_gan(self.config["dimensions"], **self._game(rng))
        else:
            self.model = dense_gan(self.image_shape, **self._game(rng))

    def make_optimizers(self):
        c, betas = self.config, (self.config["beta1"], 0.999)
        return {
            "d": Adam(self.model.discriminator.parameters(), c.get("d_lr", c["lr"]), betas),
            "g": Adam(self.model.generator.parameters(), c["lr"], betas),
        }

    def describe(self):
        k = f", k = {self.config['k']}" if self.config["k"] > 1 else ""
        return f"{super().describe()}, {self.config['latent']} latent numbers, {self.config['loss']} loss{k}"

    def samples_of(self, data):
        return data.train if self.points else data.train_images

    def step(self, batch, rng, watch):
        real = batch * (1 / self.config["scale"]) if self.points else 2 * batch - 1  # images in the range of tanh
        z = transfer(self.noise(len(real), rng), self.backend)
        d, g = self.optimizers["d"], self.optimizers["g"]
        if (d.t + 1) % self.config["k"]:
            self.model.discriminator_step(real, z, d, watch=watch)
        else:
            self.model.train_step(real, z, d, g, watch=watch)

    # --- what users see ---

    def noise(self, count, rng):
        return self.model.noise(count, rng)

    def generate(self, z):
        """Points, or images in [0, 1]."""
        blocks = [self.on_host(self.model.generate, z[i : i + BLOCK]) for i in range(0, len(z), BLOCK)]
        x = np.concatenate(blocks)
        return x * self.config["scale"] if self.points else to_unit(x)

    def epoch_measures(self, data):
        if not self.points or data.centres is None:
            return {}
        found = mode_coverage(self._drawn(DRAWN), data.centres, data.std)
        return {"modes": found.modes, "high_quality": found.high_quality, "reverse_kl": found.reverse_kl}

    def line(self, r):
        text = f"D loss {r['d_loss']:.3f}  G loss {r.get('g_loss', float('nan')):.3f}  "
        text += f"D(x) {r['D(x)']:.2f}  D(G(z)) {r['D(G(z))']:.2f}"
        if "modes" in r:
            text += f"  modes {r['modes']}  high quality {100 * r['high_quality']:.0f} %"
        if "frechet" in r:
            text += f"  Fréchet {r['frechet']:.2f}  smallest class {100 * r['smallest_share']:.1f} %"
        return text

    def _drawn(self, count):
        """Samples from the noise of the measures."""
        return self.generate(self.noise(count, self.measure_rng()))

    def sheet(self, data):
        if self.points:
            return scatter(data.test[:DRAWN], self.generate(self.noise(DRAWN, self.picture_rng())))
        images = self.generate(self.noise(SHOWN, self.picture_rng()))
        return image_grid(images, scale=zoom(self.image_shape))

    def quality(self, data, *, progress=True) -> dict:
        """Classes and Fréchet distance by a classifier of the labelled images; nothing without labels."""
        if self.points or data.train_labels is None:
            return {}
        if getattr(self, "_classifier", None) is None:
            self._classifier = train_classifier(data, progress=progress)
            self._real = self._classifier.statistics(data.test_images)
        found = sample_quality(self._drawn(len(data.test_images)), self._classifier, self._real)
        return {
            "frechet": found.frechet,
            "smallest_share": found.smallest_share,
            "confident": found.confident,
            "histogram": [float(share) for share in found.histogram],
        }

    def measure(self, data, *, progress=True, **options):
        found = Findings()
        if self.points:
            self._measure_points(data, found)
            return found
        samples = self._drawn(100)
        found.pictures["samples.png"] = image_grid(samples, 10, scale=zoom(self.image_shape))
        numbers, distances = nearest_neighbours(samples[:NEIGHBOURS], data.train_images)
        nearest = to_float(data.train_images[numbers[:, 0]])
        found.pictures["neighbours.png"] = image_rows(
            [("generated", samples[:NEIGHBOURS]), ("nearest\ntraining image", nearest)], NEIGHBOURS
        )
        found.values["nearest_training_distances"] = [float(d) for d in distances[:, 0]]
        quality = self.quality(data, progress=progress)
        if quality:
            floor = sample_quality(data.train_images[: len(data.test_images)], self._classifier, self._real).frechet
            accuracy = self._classifier.accuracy(data.test_images, data.test_labels)
            shares = quality["histogram"]
            names = data.classes or [str(k) for k in range(len(shares))]
            found.rows = [
                (
                    f"{len(data.test_images):,} samples",
                    f"in the eyes of a classifier that is right on {100 * accuracy:.2f} %",
                ),
                ("  Fréchet distance", f"{quality['frechet']:.2f} (real training images: {floor:.2f})"),
                ("  confident, p ≥ 0.9", f"{100 * quality['confident']:.1f} %"),
                ("  shares of the classes", ""),
                *((f"    {name}", f"{100 * share:.1f} %") for name, share in zip(names, shares, strict=True)),
            ]
            found.values |= {**quality, "frechet_of_training_images": floor, "classifier_accuracy": accuracy}
            found.pictures["classes.png"] = histogram(shares, data.classes, title="classes of the samples")
        else:
            found.rows = [("classes", "none: the images have no labels")]
        found.rows.append(("distance to the nearest training image", f"{np.median(distances):.2f} (median)"))
        return found

    def _measure_points(self, data, found):
        points = self._drawn(DRAWN)
        found.pictures["samples.png"] = scatter(data.test[:DRAWN], points)
        if data.centres is None:
            found.rows = [("modes", "none to count")]
            return
        m = mode_coverage(points, data.centres, data.std)
        found.rows = [
            (f"{DRAWN:,} samples", ""),
            ("  modes covered", f"{m.modes} of {m.of}"),
            ("  high quality, within 3σ", f"{100 * m.high_quality:.1f} %"),
            ("  reverse KL", f"{m.reverse_kl:.3f} nats"),
        ]
        found.values = {"modes": m.modes, "of": m.of, "high_quality": m.high_quality, "reverse_kl": m.reverse_kl}
        found.values["counts"] = [int(n) for n in m.counts]


class DCGANRecipe(GANRecipe):
    name = "dcgan"
    title = "DCGAN"
    help = "deep convolutional GAN: of images of 28, 32, 64 or 128 pixels, your own too"
    description = "Train a deep convolutional GAN (Radford et al. 2016) on images."
    defaults = {"epochs": 15, "batch_size": 128, "lr": 2e-4, "beta1": 0.5, "latent": 100}

    @classmethod
    def add_options(cls, option):
        option("--latent", type=positive, metavar="N", help="numbers in z (default: 100)")
        option("--width", type=positive, default=64, metavar="N", help="channels next to the image")
        option("--smallest", type=positive, default=4, metavar="N", help="halve images until their side is at most N")
        cls.add_game_options(option)

    @classmethod
    def settled(cls, config, data):
        if isinstance(data, Points):
            raise RecipeError(f"train dcgan needs images, {data.name} are points: try train gan")
        return super().settled(config, data)

    def build(self, rng):
        c = self.config
        self.model = dcgan(self.image_shape, width=c["width"], smallest=c["smallest"], **self._game(rng))
