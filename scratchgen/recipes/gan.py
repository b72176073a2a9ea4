"""Training a GAN: of points in the plane, of images fully connected, of images by convolutions."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from scratchgen.backend import Array, transfer
from scratchgen.data import Dataset, Points, to_float, to_unit
from scratchgen.functions import sigmoid
from scratchgen.layers import RandomCutout, RandomFlip, RandomShift, Sequential
from scratchgen.measures import (
    Classifier,
    FeatureStatistics,
    frechet_distance,
    mode_coverage,
    nearest_neighbours,
    sample_quality,
    train_classifier,
)
from scratchgen.models import dcgan, dense_gan, point_gan
from scratchgen.models.gan import GAN, LOSSES, PRIORS, mean_probability
from scratchgen.optim import Optimizer
from scratchgen.plots import Panel, Reference, Surface, bars, histogram, image_grid, image_rows, scatter, zoom
from scratchgen.plots.plane import view
from scratchgen.progress import doing
from scratchgen.recipes import judgements
from scratchgen.recipes.judgements import WITHIN_3_SIGMA, number
from scratchgen.recipes.options import Option, fraction, positive, rate, sizes, some_of
from scratchgen.recipes.recipe import LEAST, D, Findings, Recipe, RecipeError, formatted
from scratchgen.schema import choice

SHOWN, SHOWN_OF_LARGE = 64, 25  # generated images in a sheet
LARGE = 48  # pixels of a side
DRAWN = 2500  # generated points, to show and to measure
SURFACE = 64  # points at which D is taken, in each direction
COMPARED = 100  # generated images compared with all training images
CONFIDENT = 0.9  # probability of a class
MODES = {"ring": 8, "grid": 25}  # where a config of an earlier version does not say
NEIGHBOURS = 12  # of these, shown beside the nearest training image
AT_D = {"flip": RandomFlip, "shift": RandomShift, "cutout": RandomCutout}  # by --d-augment
BEFORE_SMALLEST = 7  # as DCGANs were built before there was the setting


GAME_OPTIONS = {
    "loss": Option(choice(LOSSES), "of the generator", default="non-saturating"),
    "k": Option(
        positive,
        "discriminator updates for each update of the generator, the k of Goodfellow's Algorithm 1",
        default=1,
        metavar="N",
    ),
    "smoothing": Option(
        fraction, "one-sided label smoothing: target 1 − X for real samples", default=0.0, metavar="X"
    ),
    "prior": Option(choice(PRIORS), "density of z; uniform is on [−1, 1]", default="normal"),
    "beta1": Option(fraction, "β₁ of adam and adamw", default=0.5, metavar="X"),
    "d_lr": Option(rate, "the discriminator's learning rate; without it that of --lr", metavar="X"),
}


def at_equilibrium(config: Mapping[str, Any]) -> dict[str, Reference]:
    """What the measures of a game are where neither player gains by a change, for those that are then known."""
    d, d_loss, g_loss = judgements.equilibrium(config)
    names = number(d_loss), number(g_loss)
    if config["smoothing"] == 0:
        names = f"log 4 = {names[0]}", f"{'−' if g_loss < 0 else ''}log 2 = {names[1]}"
    even = Reference("½, equilibrium" if d == 0.5 else f"{d:g}, equilibrium", d)
    return {
        "D(x)": even,
        "D(G(z))": even,
        "d_loss": Reference(f"{names[0]}, equilibrium", d_loss, "d_loss"),
        "g_loss": Reference(f"{names[1]}, equilibrium", g_loss, "g_loss"),
    }


class Game(Recipe[D]):
    """What all GANs share: the options of the game, its two optimizers, and a step."""

    model: GAN
    has_prior = True
    drop_last = True

    @property
    def panels(self) -> Sequence[Panel]:
        lines = at_equilibrium(self.config)
        losses = Panel(
            "nats per sample",
            {"d_loss": "discriminator D", "g_loss": "generator G"},
            (lines["d_loss"], lines["g_loss"]),
            title="Losses of the two players",
        )
        return losses, *self.own_panels()

    @property
    def health(self) -> Sequence[Panel]:
        probabilities = {"D(x)": "D(x), data", "D(G(z))": "D(G(z)), samples"}
        even = at_equilibrium(self.config)["D(x)"]
        norms = {"d_gradient": "discriminator D", "g_gradient": "generator G"}
        return (
            Panel("probability of being real", probabilities, (even,), limits=(0, 1), title="What D says"),
            Panel("norm of the gradient", norms, log=True, title="Gradients"),
        )

    def own_panels(self) -> Sequence[Panel]:
        """What is drawn beside the losses."""
        return ()

    @classmethod
    def resolve_config(cls, given: dict[str, Any], data: Any) -> dict[str, Any]:
        config = super().resolve_config(given, data)
        if "lr" in given and "d_lr" not in given:
            config.pop("d_lr", None)  # a default that goes with the default of lr
        return config

    def builder_arguments(self, rng: np.random.Generator) -> dict[str, Any]:
        """The arguments that every builder takes."""
        return {"rng": rng, **{name: self.config[name] for name in ("latent", "loss", "smoothing", "prior")}}

    def make_optimizers(self) -> dict[str, Optimizer]:
        c, model = self.config, self.model
        return {
            "d": self.optimizer(model.discriminator.parameters(), c.get("d_lr", c["lr"]), c["beta1"]),
            "g": self.optimizer(model.generator.parameters(), c["lr"], c["beta1"]),
        }

    def describe(self) -> str:
        k = f", k = {self.config['k']}" if self.config["k"] > 1 else ""
        return f"{super().describe()}, latent dimension {self.config['latent']}, {self.config['loss']} loss{k}"

    def to_model(self, batch: Array) -> Array:
        """A batch of data in the generator's range."""
        raise NotImplementedError

    def from_model(self, x: np.ndarray) -> np.ndarray:
        """What the generator made, in the data's range."""
        raise NotImplementedError

    def step(self, batch: Array, rng: np.random.Generator) -> dict[str, Array]:
        real = self.to_model(batch)
        z = transfer(self.noise(len(real), rng), self.backend)
        d, g = self.optimizers["d"], self.optimizers["g"]
        both = (d.t + 1) % self.config["k"] == 0
        played = self.model.play(real, z, d, g if both else None)
        losses = {
            "D(x)": mean_probability(played.s_real),
            "D(G(z))": mean_probability(played.s_fake),
            "d_loss": played.d_loss,
        }
        return losses | {"g_loss": played.g_loss} if both else losses

    def noise(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return self.model.noise(count, rng)

    def generate(self, z: np.ndarray) -> np.ndarray:
        return self.from_model(self.on_host(self.model.generate, z))

    def drawn(self, count: int) -> np.ndarray:
        """Samples from the noise of the measures."""
        return self.generate(self.noise(count, self.measure_rng()))

    def line(self, r: Mapping[str, Any]) -> str:
        text = f"D loss {r['d_loss']:.3f}  G loss {formatted(r, 'g_loss', '5.3f')}"  # none while only D was updated
        return f"{text}  D(x) {r['D(x)']:.2f}  D(G(z)) {r['D(G(z))']:.2f}"

    def symptoms(self, epochs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        found = {"idle": judgements.idle, "won": judgements.won, "vanished": judgements.vanished}
        return {name: text for name, judge in found.items() if (text := judge(epochs, self.config))}


class PointGANRecipe(Game[Points]):
    name = "gan"
    title = "GAN of points"
    options = {
        "latent": Option(positive, "dimension of z", metavar="N"),
        "hidden": Option(sizes, "layer sizes", metavar="N,N"),
        **GAME_OPTIONS,
    }
    sheet_steps = 1000
    defaults = {
        "epochs": 20,
        "batch_size": 256,
        "lr": 1e-3,
        "decay": "linear",
        "latent": 2,
        "hidden": [128, 128, 128],
    }

    @property
    def modes(self) -> int | None:
        """Of the data, where it is a mixture."""
        return self.config.get("modes", MODES.get(self.config["data"]))

    def own_panels(self) -> Sequence[Panel]:
        if self.modes is None:
            return ()
        whole = Reference(f"all {self.modes}", self.modes)
        data = Reference(f"{WITHIN_3_SIGMA:.3f}, the data", WITHIN_3_SIGMA)
        top = 1.1 * self.modes
        return (
            Panel(
                "modes", {"modes": "reached by samples"}, (whole,), limits=(0, top), title="Modes covered", whole=True
            ),
            Panel(
                "share of the samples",
                {"high_quality": "within 3σ of a mode"},
                (data,),
                limits=(0, 1.05),
                title="High quality",
            ),
        )

    def symptoms(self, epochs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        collapse = judgements.collapsed(epochs, self.config, self.modes)
        return super().symptoms(epochs) | ({"collapse": collapse} if collapse else {})

    @classmethod
    def resolve_config(cls, given: dict[str, Any], data: Points) -> dict[str, Any]:
        # Networks learn best what lies in about [−1, 1]: a grid that reaches to 4 is shrunk by 4 for them.
        scale = max(1, round(float(np.abs(data.train).max())))
        modes = {} if data.centres is None else {"modes": len(data.centres)}
        return super().resolve_config(given, data) | {"scale": scale, **modes}

    def build(self, rng: np.random.Generator) -> None:
        c = self.config
        self.model = point_gan(c["dimensions"], hidden=tuple(c["hidden"]), **self.builder_arguments(rng))

    def to_model(self, batch: Array) -> Array:
        return batch * (1 / self.config["scale"])

    def from_model(self, x: np.ndarray) -> np.ndarray:
        return x * self.config["scale"]

    def epoch_measures(self, data: Points) -> Findings:
        found = Findings()
        if data.centres is not None and data.std is not None:
            with found.part("the modes"):
                m = mode_coverage(self.drawn(DRAWN), data.centres, data.std)
                found.values = {"modes": m.modes, "high_quality": m.high_quality, "reverse_kl": m.reverse_kl}
        return found

    def line(self, r: Mapping[str, Any]) -> str:
        text = super().line(r)
        return f"{text}  modes {r['modes']}  high quality {100 * r['high_quality']:.0f} %" if "modes" in r else text

    def sheet(self, data: Points) -> object:
        samples, real = self.generate(self.noise(DRAWN, self.picture_rng())), data.test[:DRAWN]
        return scatter(samples, real, surface=self.surface(real))

    def surface(self, points: np.ndarray) -> Surface:
        """D(x) over the square in which these points lie."""
        extent = left, right, bottom, top = view(points)
        x, y = (
            np.linspace(left, right, SURFACE, dtype=np.float32),
            np.linspace(bottom, top, SURFACE, dtype=np.float32),
        )
        plane = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        logits = self.on_host(self.model.discriminator.predict, self.to_model(plane))
        return Surface(sigmoid(logits).reshape(SURFACE, SURFACE), extent)

    def measure(self, data: Points, **options: Any) -> Findings:
        found, points = Findings(), self.drawn(DRAWN)
        real = data.test[:DRAWN]
        with found.part("samples.png"):
            found.pictures["samples.png"] = scatter(points, real, surface=self.surface(real))
        if data.centres is None or data.std is None:
            found.rows = [("modes", "none to count: the data is not a mixture of Gaussians")]
            return found
        with found.part("the modes"):
            m = mode_coverage(points, data.centres, data.std)
            found.rows = [
                (f"{DRAWN:,} samples", ""),
                ("  modes covered", f"{m.modes} of {m.of}"),
                ("  high quality, within 3σ", f"{100 * m.high_quality:.1f} %"),
                ("  reverse KL", f"{m.reverse_kl:.3f} nats"),
            ]
            found.values = {"modes": m.modes, "of": m.of, "high_quality": m.high_quality, "reverse_kl": m.reverse_kl}
            found.values["counts"] = [int(n) for n in m.counts]
            names = [str(k) for k in range(1, m.of + 1)]
            even = (f"even: {DRAWN / m.of:.4g}", DRAWN / m.of)
            found.pictures["modes.png"] = bars(
                [int(n) for n in m.counts], names, "samples within 3σ", even, xlabel="mode"
            )
        return found


class GANRecipe(Game[Dataset]):
    name = "gan"
    title = "fully connected GAN"
    help = "generative adversarial network, fully connected: of images, or of points in the plane"
    description = "Train a generator against a discriminator, fully connected, on images or on points in the plane."
    defaults = {"epochs": 50, "batch_size": 64, "lr": 2e-4, "latent": 100}
    few = {"steps": 4000, "batch_size": 32}
    points: ClassVar[type[Recipe[Points]] | None] = PointGANRecipe
    options = PointGANRecipe.options
    measured_by_epoch = True
    _classifier: tuple[Classifier, FeatureStatistics] | None = None  # see classifier_of

    @classmethod
    def resolve_config(cls, given: dict[str, Any], data: Dataset) -> dict[str, Any]:
        config = super().resolve_config(given, data)
        if len(data.train_images) < 2:
            raise RecipeError("there is 1 training image, needs at least 2: one image alone has no batch statistics")
        if config["batch_size"] < 2:
            raise RecipeError("the batch size is 1, needs at least 2: one image alone has no batch statistics")
        if "hidden" in config:
            raise RecipeError("--hidden is for points; for images the layer sizes are fixed")
        return config

    def expectations(self, data: Dataset) -> list[str]:
        count = len(data.train_images)
        if count >= LEAST:
            return []
        return [
            f"{count:,} training images are few, and the discriminator soon memorises them: expect the colours "
            f"and shapes of such images, and variations of them, but few details; from {LEAST:,} on it gets better"
        ]

    def own_panels(self) -> Sequence[Panel]:
        data = Reference("between halves of the test images", "frechet_between_test_halves")
        return (Panel("distance", {"frechet": "samples"}, (data,), limits=(0, None), title="Fréchet distance"),)

    def build(self, rng: np.random.Generator) -> None:
        self.model = dense_gan(self.image_shape, **self.builder_arguments(rng))

    def to_model(self, batch: Array) -> Array:
        return 2 * batch - 1  # the range of tanh

    def from_model(self, x: np.ndarray) -> np.ndarray:
        return to_unit(x)

    def line(self, r: Mapping[str, Any]) -> str:
        text = super().line(r)
        if "frechet" in r:
            text += f"  Fréchet {r['frechet']:.2f}  smallest class {100 * r['smallest_share']:.1f} %"
        return text

    @property
    def shown(self) -> int:
        """Samples in a sheet."""
        return SHOWN if max(self.image_shape[:2]) < LARGE else SHOWN_OF_LARGE

    def sheet(self, data: Dataset) -> object:
        images = self.generate(self.noise(self.shown, self.picture_rng()))
        return image_grid(images, scale=zoom(self.image_shape))

    def quality(self, data: Dataset, *, progress: bool = True) -> dict[str, Any]:
        """Classes and Fréchet distance by a classifier of the labelled images; nothing without labels."""
        if data.train_labels is None:
            return {}
        classifier, real = self.classifier_of(data, progress)
        found = sample_quality(self.drawn(len(data.test_images)), classifier, real, confident=CONFIDENT)
        return {
            "frechet": found.frechet,
            "smallest_share": found.smallest_share,
            "confident": found.confident,
            "histogram": [float(share) for share in found.histogram],
        }

    def classifier_of(self, data: Dataset, progress: bool) -> tuple[Classifier, FeatureStatistics]:
        """A classifier of the images, and its statistics of the test images: made once."""
        if self._classifier is None:
            classifier = train_classifier(data, progress=progress)
            self._classifier = classifier, classifier.statistics(data.test_images)
        return self._classifier

    def measure(self, data: Dataset, *, progress: bool = True, **options: Any) -> Findings:
        found = Findings()
        samples = self.drawn(COMPARED)
        with found.part("samples.png"):
            found.pictures["samples.png"] = image_grid(samples, 10, scale=zoom(self.image_shape))
        by = "classes and Fréchet distance, by a classifier that is trained once"
        with found.part("the classes"), doing(by, progress=progress):
            self._measure_classes(data, found, progress)
        with found.part("the nearest training images"), doing("nearest training images", progress=progress):
            self._measure_copies(data, samples, found)
        return found

    def _measure_classes(self, data: Dataset, found: Findings, progress: bool) -> None:
        quality = self.quality(data, progress=progress)
        if not quality:
            found.rows.append(("classes", "none: the images have no labels"))
            return
        classifier, _ = self.classifier_of(data, progress)
        features = classifier.features(data.test_images)
        halves = frechet_distance(features[::2], features[1::2])
        p = classifier.classify(features)
        sure = float((p.max(axis=1) >= CONFIDENT).mean())
        accuracy = float((classifier.labels[p.argmax(axis=1)] == data.test_labels).mean())
        shares = quality["histogram"]
        names = data.classes or [str(k) for k in range(len(shares))]
        confidence = f"{100 * quality['confident']:.1f} % (test images: {100 * sure:.1f} %)"
        by = f"by a classifier that is right on {100 * accuracy:.2f} % of the test images"
        found.rows += [
            (f"{len(data.test_images):,} samples", by),
            ("  Fréchet distance", f"{quality['frechet']:.2f} (between halves of the test images: {halves:.2f})"),
            (f"  confident, p ≥ {CONFIDENT}", confidence),
            ("  shares of the classes", ""),
            *((f"    {name}", f"{100 * share:.1f} %") for name, share in zip(names, shares, strict=True)),
        ]
        found.values |= {**quality, "frechet_between_test_halves": halves, "confident_of_test_images": sure}
        found.values |= {"classifier_accuracy": accuracy, "classes": list(names)}
        found.pictures["classes.png"] = histogram(shares, data.classes, title="classes of the samples")

    def _measure_copies(self, data: Dataset, samples: np.ndarray, found: Findings) -> None:
        """Generated images that lie nearer to training images than unseen real ones do would be copies."""
        indices, distances = nearest_neighbours(samples, data.train_images)
        _, unseen = nearest_neighbours(data.test_images[:COMPARED], data.train_images)
        nearest = to_float(data.train_images[indices[:NEIGHBOURS, 0]])
        found.pictures["neighbours.png"] = image_rows(
            [("generated", samples[:NEIGHBOURS]), ("nearest\ntraining image", nearest)], NEIGHBOURS
        )
        medians = float(np.median(distances)), float(np.median(unseen))
        found.values |= dict(zip(("nearest_training_image", "nearest_of_test_images"), medians, strict=True))
        text = f"{medians[0]:.2f} (of test images: {medians[1]:.2f}; far below that would be copies, or blanks)"
        found.rows.append(("median distance to the nearest training image", text))


class DCGANRecipe(GANRecipe):
    name = "dcgan"
    title = "DCGAN"
    help = "deep convolutional GAN: of images of any size, your own too"
    description = "Train a deep convolutional GAN, in the style of Radford et al. 2016, on images."
    defaults = {"epochs": 15, "batch_size": 128, "lr": 2e-4, "latent": 100}
    # Few images are soon memorised: a D that learns slower and sees each image in another way, and a rate that falls,
    # keep the game going.
    few = {
        "steps": 4000,
        "batch_size": 16,
        "lr": 1e-3,
        "d_lr": 2.5e-4,
        "decay": "linear",
        "width": 24,
        "latent": 64,
        "d_augment": ["shift", "cutout"],
    }
    before = {"smallest": BEFORE_SMALLEST}
    points = None
    options = {
        "latent": Option(positive, "dimension of z", metavar="N"),
        "width": Option(positive, "channels next to the image", default=64, metavar="N"),
        "smallest": Option(positive, "halve images until their side is at most N", default=4, metavar="N"),
        "d_augment": Option(
            some_of(AT_D),
            "random layers before the discriminator, for real and generated images alike, so that it cannot memorise "
            "few of them: flip, shift (by up to an eighth), cutout (a square is set to 0), more than one as in "
            "shift,cutout; or none",
            metavar="NAME,NAME",
        ),
        **GAME_OPTIONS,
    }

    def build(self, rng: np.random.Generator) -> None:
        size = {"width": self.config["width"], "smallest": self.config.get("smallest", BEFORE_SMALLEST)}
        self.model = dcgan(self.image_shape, **size, **self.builder_arguments(rng))
        random = [AT_D[name](rng=rng) for name in self.config.get("d_augment", ())]
        if random:
            self.model.discriminator = Sequential(*random, self.model.discriminator)

    def describe(self) -> str:
        random = self.config.get("d_augment", ())
        return super().describe() + (f", D sees images with a random {' and '.join(random)}" if random else "")
