"""What a run's records are said to mean: each case by made-up records, and silence where they do not decide."""

from math import log

import numpy as np
import pytest

from scratchgen.data import Dataset, toys
from scratchgen.recipes import RECIPES, build, judgements
from scratchgen.report.words import words_of

GAME = {"epochs": 20, "loss": "non-saturating", "smoothing": 0.0, "k": 1, "lr": 1e-3}
VAE = {"epochs": 20, "beta": 1.0, "latent": 20}


def epochs(**values):
    """Records of as many epochs as there are values."""
    rows = zip(*values.values(), strict=True)
    return [
        {"kind": "epoch", "epoch": e, "step": 100 * e, **dict(zip(values, row, strict=True))}
        for e, row in enumerate(rows, 1)
    ]


def constant(value, n=6):
    return [value] * n


# --- all models ---


def test_the_course_of_a_loss():
    def said(*values):
        return judgements.course(epochs(test_loss=values), "test_loss", "The test loss", "nats")

    assert said(200.0) == "The test loss is 200 nats after epoch 1."
    assert said(200.0, 150.0) == "The test loss fell from 200 after epoch 1 to 150 nats after epoch 2."
    assert said(200, 180, 165, 150, 140, 130, 120).endswith("was still falling: more epochs would lower it further.")
    assert said(200, 120, 105, 102, 100.3, 100.2, 100.1, 100.0).endswith(
        "is level now: more epochs would change little."
    )
    assert "still falling" not in said(200, 120, 105, 102, 100.3, 100.2, 100.1, 100.0)
    assert said(200, 120, 100, 106, 107, 108).endswith("and was least, 100, after epoch 3.")
    assert "has not fallen" in said(100, 110, 120)
    assert said(200, None, 100) == "The test loss fell from 200 after epoch 1 to 100 nats after epoch 3."
    assert judgements.course(epochs(a=[1.0]), "test_loss", "The test loss") == ""
    assert said(44.32, 44.28) == "The test loss has hardly changed: 44.3 nats after epoch 1, 44.3 after epoch 2."
    assert "has hardly changed" in said(200, 199.5, 199.1)
    assert "has hardly changed" in said(200, 200.5)
    assert said(0.104, 0.101).startswith("The test loss has hardly changed: 0.10 nats")
    assert "has hardly changed" in said(100.0, 100.0, 100.0, 100.0, 100.0, 100.0)
    assert said(200, 100, 199, 201, 200).endswith("and was least, 100, after epoch 2.")
    assert "fell from" in said(200, 198.9)
    assert "fell from −120 after epoch 1 to −260" in said(-120.0, -260.0)  # a density of pixels may be above 1


def test_learning_by_heart():
    falling = [200.0, 150, 120, 100, 90, 80]
    assert judgements.overfit(epochs(loss=falling, test_loss=[200.0, 150, 130, 140, 150, 160]), VAE) == (
        "the test loss has risen since epoch 3 (from 130 to 160) while the training loss fell: the model memorises "
        "the training images; try fewer --epochs, a smaller network, or more images"
    )
    for test_loss in (
        [200.0, 150, 130, 120, 115, 110],  # falls
        [200.0, 150, 130, 120, 119, 120.5],  # wavers
        [200.0, 150, 130, 131, 130.5, 130.8],  # by little
        [1671.0, 1670, 1669, 1679, 1680, 1679],  # by little of what it is
        [130.0, 140, 150, 160, 170, 180],  # never fell: another trouble
        [200.0, 150, 130, None, None, 160],
    ):
        assert judgements.overfit(epochs(loss=falling, test_loss=test_loss), VAE) == ""
    rising = epochs(loss=[200.0, 150, 120, 140, 150, 160], test_loss=[200.0, 150, 130, 140, 150, 160])
    assert judgements.overfit(rising, VAE) == "", "both rise: it diverges, and memorises nothing"
    assert judgements.overfit(epochs(loss=[1.0]), VAE) == ""


def test_vanishing_gradients():
    def of_g(*norms, **config):
        return judgements.vanished(epochs(d_gradient=constant(1.0, len(norms)), g_gradient=norms), GAME | config)

    dead = (2.0, 1.0, 1e-5, 1e-6, 1e-6)
    assert "the gradient of G is 1.0e−06 and was 2.00: nothing more is learnt (vanishing gradients)" in of_g(*dead)
    assert of_g(*dead, loss="minimax").endswith("try --loss non-saturating, whose gradient stays when D is sure")
    assert of_g(*dead).endswith("--d-lr 0.00025")
    assert of_g(2.0, 1.0, 1e-5, 1e-6, 0.1) == ""
    assert of_g(2.0, 1e-6) == ""
    assert of_g(2.0, 0.1, 0.05, 0.04, 0.02) == ""
    assert "try a lower --lr" in judgements.vanished(epochs(gradient=[50.0, 3.0, 0.0, 0.0, 0.0]), VAE)
    assert judgements.vanished(epochs(gradient=[50.0, 9.0, 5.0, 4.0, 3.0]), VAE) == ""
    assert judgements.vanished(epochs(gradient=constant(0.0)), VAE) == "", "it never was anything"


# --- autoencoder ---


def test_an_autoencoder_beside_pca():
    def said(n, error, pca, step=None):
        records = epochs(test_mse=constant(0.1, n))
        records[-1]["step"] = step or 100 * n
        return judgements.beside_pca(records, {"latent": 2}, {"test_mse": error, "pca_test_mse": pca})

    assert said(2, 0.031, 0.017) == (
        "After two epochs this is early: PCA is ahead (0.0310 against 0.0170); autoencoders pass it after about ten "
        "epochs."
    )
    assert said(1, 0.031, 0.017).startswith("After one epoch this is early")
    assert said(40, 0.031, 0.017, step=120).startswith("After 120 steps this is early")
    assert said(40, 0.031, 0.017) == (
        "PCA is ahead (0.0310 against 0.0170): try more --epochs, a larger network, or a higher --lr."
    )
    assert said(30, 0.006, 0.012).startswith("The error is 50 % below that of PCA")
    measures = {"test_mse": 0.031, "pca_test_mse": 0.017}
    stopped = judgements.beside_pca([], {"latent": 2}, measures | {"step": 120, "epoch": 1})
    assert stopped.startswith("After 120 steps this is early: PCA is ahead")
    records = epochs(test_mse=[0.2, 0.1])
    within = judgements.beside_pca(records, {"latent": 2}, measures | {"step": 2500, "epoch": 3})
    assert within.startswith("After 2,500 steps this is early")
    assert within.endswith("after about ten epochs.")
    at_end = judgements.beside_pca(records, {"latent": 2}, measures | {"step": 200, "epoch": 2})
    assert at_end.startswith("After two epochs this is early")
    for measures in (None, {}, {"test_mse": 0.1}, {"test_mse": "x", "pca_test_mse": 0.1}):
        assert judgements.beside_pca(epochs(test_mse=[0.1]), {}, measures) == ""


# --- VAE ---


def test_a_dead_kl():
    dead = epochs(kl=constant(0.001))
    said = judgements.posterior_collapse(dead, VAE)
    assert said.startswith("the KL is 0.001 nats: z tells the decoder nothing of the image (posterior collapse)")
    assert said.endswith("try --beta 0.1")
    assert judgements.posterior_collapse(dead, VAE | {"beta": 0}) == "", "β = 0 asks for no KL"
    assert judgements.posterior_collapse(dead[:2], VAE) == ""
    assert judgements.posterior_collapse(epochs(kl=[0.001, 0.001, 0.5, 3.0]), VAE) == ""
    assert "z says nothing" in judgements.information(dead, VAE)
    assert judgements.information(epochs(test_kl=[5.0, 10.0]), VAE) == (
        "The KL is 10.0 nats after epoch 2: z tells at most 14.4 bits of an image."
    )
    assert judgements.information(epochs(loss=[1.0]), VAE) == ""


@pytest.mark.parametrize(
    ("active", "latent", "says"),
    [
        (20, 20, "All 20"),
        (17, 20, "17 of 20"),
        (0, 20, "None of the 20"),
        (1, 1, "The one"),
        (1, 2, "1 of 2 latent dimensions is used; in the other the mean"),
    ],
)
def test_used_dimensions(active, latent, says):
    records = epochs(active_units=[0, active])
    assert judgements.used_dimensions(records, VAE | {"latent": latent}).startswith(says)
    said = judgements.used_dimensions(records, VAE | {"latent": latent})
    assert said.endswith("the mean of z hardly depends on the image.") is (active < latent)
    assert judgements.used_dimensions(epochs(loss=[1.0]), VAE) == ""


def test_codes_and_variances():
    assert "86 %: many are" in judgements.codes_in_prior({"codes_within_2_sigma": 0.4})
    assert judgements.codes_in_prior({"codes_within_2_sigma": 0.91}) == (
        "91 % of the codes lie within 2σ; of N(0, I) it is 86 %."
    )
    assert "of z₂ 3.00" in judgements.spread_of_codes({"std_of_codes": [7.5, 3.0]})
    variances = {"variances_of_mu": [0.001, 0.9], "active_units": 1}
    assert judgements.active_by_variance(variances) == "1 of 2 are above 0.01; the largest is 0.90."
    for of in (judgements.codes_in_prior, judgements.spread_of_codes, judgements.active_by_variance):
        for measures in (None, {}, {"codes_within_2_sigma": "x", "std_of_codes": [1], "variances_of_mu": ["x"]}):
            assert of(measures) == ""


# --- GAN ---


def test_the_equilibrium():
    """By the formula of the loss with labels t and 0, at the D that makes it least."""
    assert judgements.equilibrium(GAME) == pytest.approx((0.5, log(4), log(2)))
    assert judgements.equilibrium(GAME | {"loss": "minimax"}) == pytest.approx((0.5, log(4), -log(2)))
    d, d_loss, g_loss = judgements.equilibrium(GAME | {"smoothing": 0.1})

    def loss(d):
        return -0.9 * log(d) - 0.1 * log(1 - d) - log(1 - d)

    least = min((k / 10_000 for k in range(1, 10_000)), key=loss)
    assert d == pytest.approx(least, abs=1e-4)
    assert d_loss == pytest.approx(loss(least), abs=1e-6)
    assert g_loss == pytest.approx(-log(0.45))


def game(real, fake, **config):
    return judgements.game(epochs(**{"D(x)": real, "D(G(z))": fake}), GAME | {"epochs": len(real)} | config)


def test_how_the_game_stands():
    assert "D can hardly tell" in game(constant(0.52), constant(0.48))
    assert "both near 0.45" in game(constant(0.45), constant(0.44), smoothing=0.1)
    falling = [0.45, 0.48, 0.5, 0.5, 0.48, 0.35, 0.25, 0.18, 0.12]
    assert game([0.6] * 9, falling) == "D(G(z)) ended at 0.12 and has fallen since epoch 4: D is winning."
    under_way = game([0.6] * 9, falling, epochs=20)
    assert under_way == "D(G(z)) is at 0.12 and has fallen since epoch 4: D is winning."
    assert "D tells every sample" in game(constant(0.999), constant(0.001))
    assert "D tells every sample" in game(constant(0.897), constant(0.001), smoothing=0.1)
    assert "G deceives D" in game(constant(0.6), constant(0.7))
    assert "D is ahead" in game(constant(0.9), constant(0.1))
    assert "both players learn" in game(constant(0.7), constant(0.3))
    assert "winning" not in game(constant(0.7, 9), [0.5, 0.3, 0.5, 0.2, 0.45, 0.3, 0.2, 0.4, 0.2]), "up and down"
    assert judgements.game(epochs(d_loss=[1.0]), GAME) == ""


def test_d_has_won():
    records = epochs(**{"D(x)": constant(0.999), "D(G(z))": constant(0.0004)})
    said = judgements.won(records, GAME | {"k": 3, "loss": "minimax"})
    assert said.startswith("D is sure of every sample (D(x) 1.00, D(G(z)) 0.00)")
    assert said.endswith("try --k 1 or --loss non-saturating or --smoothing 0.1 or --d-lr 0.00025")
    assert judgements.won(records[:2], GAME) == ""
    assert judgements.won(records[:2], GAME | {"epochs": 2}) != "", "a run of two epochs is over"
    assert judgements.won(epochs(**{"D(x)": constant(0.9), "D(G(z))": constant(0.1)}), GAME) == ""


def test_mode_collapse_on_the_ring():
    collapsed = epochs(modes=constant(2), reverse_kl=constant(log(4)), high_quality=constant(0.9))
    said = judgements.collapsed(collapsed, GAME, 8)
    assert said == "G makes 2 of the 8 modes only (mode collapse); try --k 2, --lr 0.0005 or another --seed"
    assert "--loss non-saturating" in judgements.collapsed(collapsed, GAME | {"loss": "minimax"}, 8)
    early = epochs(modes=constant(2), reverse_kl=constant(0.3), high_quality=constant(0.01))
    for records, modes in (
        (early, 8),  # samples lie anywhere
        (collapsed[:2], 8),
        (collapsed, None),  # there are no modes
        (epochs(modes=constant(6), reverse_kl=constant(0.8)), 8),
        (epochs(modes=[2, 2, 4, 7], reverse_kl=[1.4, 1.4, 0.7, 0.1]), 8),
        (epochs(modes=constant(0), reverse_kl=constant(2.0)), 8),  # nothing of quality yet
        (epochs(d_loss=constant(1.0)), 8),
    ):
        assert judgements.collapsed(records, GAME, modes) == ""


def test_modes_and_quality():
    def covered(*modes):
        return judgements.covered(epochs(modes=modes), GAME, 8)

    assert covered(3, 7, 8, 8, 8) == "All 8 modes are reached, since epoch 3."
    assert covered(3, 8, 7, 8) == "All 8 modes are reached, since epoch 4."
    assert covered(3, 6) == "6 of 8 modes are reached so far."
    assert covered(3, 8, 5) == "5 of 8 modes are reached, and there were 8 after epoch 2: G has lost some."
    assert judgements.covered(epochs(modes=[8]), GAME, None) == ""
    assert judgements.quality(epochs(high_quality=[0.2, 0.985]), GAME).startswith("98 % of the samples")
    assert "lie between modes" in judgements.quality(epochs(high_quality=[0.8]), GAME)
    assert judgements.evenness({"modes": 8, "of": 8, "reverse_kl": 0.004}).endswith("0.004 nats: nearly even.")
    assert "of at most log 8 = 2.08" in judgements.evenness({"modes": 2, "of": 8, "reverse_kl": 1.4})
    assert judgements.evenness({"modes": 8}) == ""


def test_losses_of_the_game():
    def said(d, g, **config):
        return judgements.losses_of_the_game(epochs(d_loss=[d], g_loss=[g]), GAME | {"epochs": 1} | config)

    assert said(1.38, 0.70) == (
        "D's loss ended at 1.38, at equilibrium it is 1.39; G's at 0.70, at equilibrium 0.69: D is close to guessing."
    )
    assert said(0.02, 6.0).endswith("D makes hardly a mistake.")
    assert "worse than guessing" in said(2.5, 0.3)
    assert "at equilibrium −0.69" in said(0.5, -0.1, loss="minimax")
    assert "G's" not in judgements.losses_of_the_game(epochs(d_loss=[1.0]), GAME)
    assert judgements.losses_of_the_game(epochs(loss=[1.0]), GAME) == ""


def test_classes_and_copies():
    def classes(*shares, **more):
        return judgements.classes_made({"histogram": list(shares), **more})

    assert classes(0.5, 0.5) == "Every class is made; the rarest is 0, 50.0 %."
    assert (
        classes(0.5, 0.5, 0.0, classes=["a", "b", "c"]) == "No sample is taken for c: G leaves out part of the data."
    )
    assert "The rarest is 2, 1.0 %" in classes(0.5, 0.49, 0.01)
    assert classes(0.9, 0.1, 0.0).startswith("90 % of the samples are taken for 0: ")
    assert judgements.classes_made(None) == judgements.classes_made({"histogram": "x"}) == ""
    near = {"nearest_training_image": 1.0, "nearest_of_test_images": 5.0}
    assert judgements.copies(near).endswith("the samples are copies of training images, or blank.")
    assert judgements.copies(near | {"nearest_training_image": 4.9}).endswith("the samples are not copies.")
    assert judgements.copies(near | {"nearest_training_image": 3.5}).endswith("a test image 5.00.")
    assert judgements.copies({}) == ""


def test_the_terminal_and_the_page_have_their_symptoms_from_here():
    ring = {
        **GAME,
        "model": "gan",
        "data": "ring",
        "dimensions": 2,
        "scale": 1,
        "latent": 2,
        "hidden": [4],
        "prior": "normal",
        "beta1": 0.5,
        "decay": "none",
        "seed": 0,
        "batch_size": 8,
        "backend": "numpy",
    }
    recipe = build(ring)
    records = epochs(
        modes=constant(1),
        reverse_kl=constant(log(8)),
        g_loss=constant(9.0),
        d_loss=constant(0.001),
        **{"D(x)": constant(0.999), "D(G(z))": constant(0.001), "g_gradient": [5.0, 5.0, 1e-5, 1e-5, 1e-5, 1e-5]},
    )
    assert recipe.symptoms(records).keys() == {"won", "vanished", "collapse"}
    assert recipe.modes == 8
    assert build(ring | {"data": "moons"}).modes is None


# --- all of them ---


def recipe_of(name, size=(8, 8), **given):
    """A small recipe as `train` builds it, of images, or of the ring."""
    data = toys.ring(64, 20, np.random.default_rng(0))
    if name != "ring":
        images = np.zeros((20, *size, 1), np.uint8)
        data = Dataset(
            "digits", images, (np.arange(20) % 4).astype(np.uint8), images[:4], np.arange(4, dtype=np.uint8)
        )
    recipe = RECIPES["gan" if name == "ring" else name].of_data(data)
    return build(recipe.resolve_config({"data": name, "threads": 1, **given}, data))


SMALL = {
    "ae": {"latent": 2, "hidden": [4]},
    "vae": {"latent": 2, "hidden": [4]},
    "gan": {"latent": 2},
    "dcgan": {"latent": 2, "width": 1},
    "ring": {"latent": 2, "hidden": [4]},
}
MEASURED = {
    "data": "digits",
    "rows": [],
    "step": 5,
    "epoch": 1,
    "test_mse": 0.2,
    "pca_test_mse": 0.1,
    "std_of_codes": [2.0, 1.0],
    "negative_elbo": 9.0,
    "importance_weighted_nll": 8.0,
    "active_units": 1,
    "variances_of_mu": [0.9, 0.001],
    "codes_within_2_sigma": 0.5,
    "histogram": [0.5, 0.5],
    "nearest_training_image": 1.0,
    "nearest_of_test_images": 2.0,
    "modes": 3,
    "of": 8,
    "reverse_kl": 1.0,
    "counts": [1, 2],
}
KEYS = "loss test_loss test_mse reconstruction test_reconstruction kl test_kl active_units gradient frechet modes"
KEYS += " d_loss g_loss D(x) D(G(z)) d_gradient g_gradient high_quality reverse_kl"


@pytest.mark.parametrize("name", SMALL)
def test_every_caption_is_of_whatever_there_is(name):
    """Without epochs, as of a run stopped before its first mark, and without measures."""
    words = words_of(recipe_of(name, **SMALL[name]))
    captions = [words.sheet, *words.panels.values(), *words.pictures.values()]
    records = epochs(**{key: constant(0.4) for key in KEYS.split()})
    for some, measures in (([], MEASURED), ([], None), (records, None), (records, MEASURED)):
        for caption in captions:
            said = caption.this_run(some, measures)
            assert isinstance(said, str)
            assert said == "" or said.endswith(".")
            assert some or measures or said == ""


@pytest.mark.parametrize("model", ["gan", "dcgan"])
@pytest.mark.parametrize(("size", "count"), [((32, 32), 64), ((16, 48), 25), ((47, 47), 64)])
def test_a_sheet_of_samples_is_of_as_many_as_its_caption_says(model, size, count, monkeypatch):
    recipe = recipe_of(model, size, **SMALL[model])
    drawn = []
    monkeypatch.setattr("scratchgen.recipes.gan.image_grid", lambda images, **options: drawn.append(len(images)))
    recipe.sheet(None)
    assert drawn == [count]
    assert f" {count} draws of z" in words_of(recipe).sheet.what
