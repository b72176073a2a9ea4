"""The check of objectives: it finds and names what is wrong, and calls nothing wrong that is right."""

import copy
import re

import numpy as np
import pytest
import student_models as students
from small_models import randomised

import scratchgen as sg
from scratchgen import gradcheck, models
from scratchgen.cli import main
from scratchgen.gradcheck import grid
from scratchgen.gradcheck.gallery import games
from scratchgen.gradcheck.gallery.objectives import BUGS

OBJECTIVES = [bug for bug in BUGS if bug.caught_by == "objective"]
GRADIENTS = [bug for bug in BUGS if bug.caught_by == "gradient"]
OPTIONAL = (
    "not checked: the model has no",
    "D gives real samples the lower",
    "without its constant",
    "for its constant",
)


def named(bugs):
    return pytest.mark.parametrize("bug", bugs, ids=lambda bug: bug.name)


def assert_right(report):
    assert report.ok, report
    assert report.findings == []
    assert report.unchecked == []


# --- the gallery ---


@named(OBJECTIVES)
def test_a_bug_of_an_objective_is_caught_and_named(bug):
    report = gradcheck.objective(bug.make(np.random.default_rng(0)).wrong)
    assert report.verdict == "WRONG"
    assert not report.ok
    assert any(re.search(bug.cause, str(finding)) for finding in report.findings), report
    assert all(finding.why and finding.expected != finding.found for finding in report.findings)
    text = str(report)
    assert all(finding.says in text and finding.why in text for finding in report.findings)
    others = [other for other in OBJECTIVES if other.cause != bug.cause and re.search(other.cause, text)]
    assert others == []


@pytest.mark.parametrize("seed", range(3))
@named(OBJECTIVES)
def test_its_right_counterpart_passes(bug, seed):
    rng = np.random.default_rng(seed)
    assert_right(gradcheck.objective(bug.make(rng).right, rng=rng))


@named(OBJECTIVES)
def test_a_gradient_check_does_not_see_it(bug, rng):
    """Which is why there is a check of objectives."""
    model = bug.make(rng).wrong
    if hasattr(model, "loss"):
        checks = {"loss": (rng.random((4, 6)), rng.standard_normal((4, 3)))}
        if hasattr(model, "bound"):
            checks["bound"] = rng.random((3, 6)), rng.standard_normal((5, 3, 3))
    else:
        shape = getattr(model, "shape", (2,))
        real, fake, z = rng.random((4, *shape)), rng.random((4, *shape)), rng.standard_normal((4, 2))
        checks = {"discriminator_loss": (real, z), "generator_loss": (z,)}
        if hasattr(model, "gradient_penalty") and not isinstance(model, games.DrawsAlpha):
            checks["gradient_penalty"] = real, fake, rng.random((4, 1, 1, 1))
    for name, inputs in checks.items():
        report = gradcheck.check(getattr(model, name), *inputs)
        assert report.ok, report


@named(GRADIENTS)
def test_what_a_gradient_check_sees_is_said_to_be_seen_by_it(bug):
    case = bug.make(np.random.default_rng(0))
    wrong = gradcheck.check(case.wrong, *case.inputs)
    assert wrong.verdict == "WRONG"
    assert re.search(bug.cause, str(wrong))
    assert gradcheck.check(case.right, *case.inputs).ok


@pytest.mark.parametrize("model", [games.PenaltyWithoutGradient, games.PenaltyNaN])
def test_a_penalty_that_a_gradient_check_sees_is_seen_here_as_well(model, rng):
    found = [finding.says for finding in gradcheck.objective(model(rng)).findings]
    assert len(found) == 1
    assert re.search("has no gradient|is not finite", found[0])


def test_every_entry_says_what_it_is():
    assert len({bug.name for bug in BUGS}) == len(BUGS)
    for bug in BUGS:
        assert all((bug.title, bug.right, bug.wrong, bug.symptom)), bug.name
        assert bug.right != bug.wrong
        assert all(source.startswith("https://github.com/") for source in bug.sources)


@pytest.mark.parametrize("name", ["kl-sign", "wgan-upside-down", "penalty-nan", "penalty-alpha-normal"])
def test_what_a_training_shows(name):
    bug = next(bug for bug in BUGS if bug.name == name)
    wrong, right = bug.train(True), bug.train(False)
    assert np.isfinite([*wrong, *right]).all()
    assert wrong[0] == right[0]  # they begin alike
    if name == "penalty-nan":
        assert len(wrong) < len(right)
        assert right[-1] == pytest.approx(1, abs=0.2)
    elif name == "penalty-alpha-normal":  # hides
        assert (wrong[-1], right[-1]) == pytest.approx((1, 1), abs=0.4)
    else:
        assert wrong[-1] > 5 * right[-1]


# --- nothing that is right is called wrong ---


@pytest.mark.parametrize("seed", range(4))
def test_every_model_of_the_library_passes(seed):
    rng = np.random.default_rng(seed)
    for _, model in grid.models(rng):
        report = gradcheck.objective(model, rng=rng)
        assert_right(report)
        assert all(note.startswith(OPTIONAL) for note in report.notes)


BUILDERS = {
    "dense_vae": lambda rng: sg.dense_vae(rng=rng),
    "gaussian": lambda rng: sg.dense_vae((8, 8, 1), likelihood="gaussian", latent=30, rng=rng),
    "one latent dimension": lambda rng: sg.dense_vae((3, 3, 1), latent=1, likelihood="gaussian", rng=rng),
    "one feature": lambda rng: sg.dense_vae((1, 1, 1), latent=2, likelihood="gaussian", rng=rng),
    "conv_vae": lambda rng: sg.conv_vae((12, 8, 3), width=4, rng=rng),
    "beta 0": lambda rng: sg.dense_vae((4, 4, 1), beta=0, rng=rng),
    "beta 1/latent": lambda rng: sg.dense_vae((4, 4, 1), latent=4, beta=0.25, likelihood="gaussian", rng=rng),
    "beta 1/features": lambda rng: sg.dense_vae((4, 4, 1), latent=4, beta=1 / 16, rng=rng),
    "conv_autoencoder": lambda rng: sg.conv_autoencoder((9, 7, 2), width=3, rng=rng),
    "dcgan": lambda rng: sg.dcgan((16, 8, 1), width=4, rng=rng),
    "uniform prior, hardly any label": lambda rng: sg.dcgan(
        (8, 8, 3), latent=5, width=4, prior="uniform", smoothing=0.9, rng=rng
    ),
    "minimax": lambda rng: sg.dense_gan((6, 6, 1), loss="minimax", smoothing=0.1, rng=rng),
    "points": lambda rng: models.point_gan(3, latent=4, hidden=(8,), rng=rng),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_models_as_they_are_built_pass(name, rng):
    report = gradcheck.objective(BUILDERS[name](rng))
    assert_right(report)
    assert all(note.startswith(OPTIONAL) for note in report.notes), report.notes


def test_dropout_is_no_noise_of_the_models_own(rng):
    layers = sg.Dense(6, 5, rng=rng), sg.Dropout(0.5, rng=rng), sg.BatchNorm(5), sg.Dense(5, 4, rng=rng)
    model = sg.VAE(sg.Sequential(*layers), sg.Dense(2, 6, rng=rng), 2)
    before = model.state()["encoder.1.passes"].copy()
    assert_right(gradcheck.objective(model))
    assert model.state()["encoder.1.passes"] == before


def test_the_weight_of_the_kl_is_the_models_beta(rng):
    """Two right values of one attribute, and a loss that takes it from elsewhere."""

    class Deaf(sg.VAE):
        def loss(self, x, eps):
            terms, backward = self.terms_and_pullback(x, eps)
            return terms.loss(self.fixed), backward

    model = Deaf(sg.Dense(6, 4, rng=rng), sg.Dense(2, 6, rng=rng), 2, beta=0.5)
    model.fixed = 0.5
    (finding,) = gradcheck.objective(model).findings
    assert "does not follow beta" in finding.says


class WithPenalty(games.WGANGP):
    """The penalty is part of D's loss, whose third argument is α."""

    def discriminator_loss(self, real, z, alpha):
        loss, backward = super().discriminator_loss(real, z)
        penalty, penalty_backward = self.gradient_penalty(real, self.generator.predict(z), alpha)
        return loss + penalty, lambda: (backward(), penalty_backward())


class RealisticGenerator(games.Relativistic):
    """G's relativistic loss takes real samples, too, and its backward one argument."""

    def generator_loss(self, real, z):
        fake, generator_backward = self.generator.forward(z)
        with sg.frozen(self.discriminator):
            s_real, s_fake = self.discriminator.predict(real), self.discriminator.forward(fake)
        loss, _, ds = self.of_d(-s_real, -s_fake[0])
        return loss, lambda dy: generator_backward(s_fake[1](-dy * ds))


@pytest.mark.parametrize("model", [WithPenalty, RealisticGenerator])
def test_losses_that_ask_for_more_pass(model, rng):
    assert_right(gradcheck.objective(model(rng)))


# --- other people's models ---


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("model", students.RIGHT)
def test_a_students_right_model_passes(model, seed):
    rng = np.random.default_rng(seed)
    assert_right(gradcheck.objective(model(rng), rng=rng))


@pytest.mark.parametrize("model", students.WRONG)
def test_a_students_wrong_model_is_caught_and_named(model, rng):
    report = gradcheck.objective(model(rng))
    assert any(re.search(students.WRONG[model], finding.says) for finding in report.findings), report


@pytest.mark.parametrize("model", students.PARTLY)
def test_what_cannot_be_seen_is_neither_right_nor_wrong(model, rng):
    report = gradcheck.objective(model(rng))
    assert report.verdict == "UNPROVED"
    assert not report.ok
    assert re.search(students.PARTLY[model], "\n".join(report.unchecked)), report
    assert "NOT CHECKED" in str(report)


class WrittenVAE:
    """Of the library's layers, with a backward of one's own, in which `bug` is wrong."""

    def __init__(self, rng, bug=""):
        self.encoder = sg.Sequential(sg.Dense(16, 8, rng=rng), sg.Tanh(), sg.Dense(8, 4, rng=rng))
        self.decoder = sg.Sequential(sg.Dense(2, 8, rng=rng), sg.Tanh(), sg.Dense(8, 16, rng=rng))
        self.bug = bug

    def loss(self, x, eps):
        h, encoder_backward = self.encoder.forward(x)
        mu, logvar = h[:, :2], h[:, 3 if self.bug == "column" else 2 :]
        std = np.exp(0.5 * logvar)
        y, decoder_backward = self.decoder.forward(mu + std * eps)
        reconstruction, dy = sg.bce_with_logits(y, x)
        kl = 0.5 * (mu**2 + std**2 - 1 - logvar).sum() / len(x)

        def backward():
            dz = decoder_backward(dy)
            half = 1 if self.bug == "half" else 0.5
            n = 1 if self.bug == "mean" else len(x)
            weight = 0 if self.bug == "kl" else 1
            dlogvar = dz * eps * half * std + weight * 0.5 * (std**2 - 1) / len(x)
            if self.bug == "column":
                dlogvar = np.concatenate([np.zeros((len(x), 1)), dlogvar.sum(axis=1, keepdims=True)], axis=1)
            encoder_backward(np.concatenate([dz + mu / n, dlogvar], axis=1))

        return reconstruction + kl, backward


class WrittenGAN:
    def __init__(self, rng, bug="", frozen=True):
        self.generator = sg.Sequential(sg.Dense(3, 8, rng=rng), sg.Tanh(), sg.Dense(8, 4, rng=rng))
        self.discriminator = sg.Sequential(sg.Dense(4, 8, rng=rng), sg.Tanh(), sg.Dense(8, 1, rng=rng))
        self.bug = bug

    def discriminator_loss(self, real, z):
        s_real, back_real = self.discriminator.forward(real)
        s_fake, back_fake = self.discriminator.forward(self.generator.predict(z))
        (a, da), (b, db) = sg.bce_with_logits(s_real, np.ones_like(s_real)), sg.bce_with_logits(s_fake, 0 * s_fake)
        return a + b, lambda: (back_real(da), None if self.bug == "fakes" else back_fake(db))

    def generator_loss(self, z):
        fake, generator_back = self.generator.forward(z)
        with sg.frozen(self.discriminator):
            s, back = self.discriminator.forward(fake)
        loss, ds = sg.bce_with_logits(s, np.ones_like(s))
        return loss, lambda: generator_back(back(ds))


@pytest.mark.parametrize(
    ("model", "bug", "says"),
    [
        (WrittenVAE, "half", r"dlogvar: ½ · d\(input of decoder\) · exp\(logvar/2\)·eps is too much"),
        (WrittenVAE, "mean", "backward is not the derivative of loss: encoder"),
        (WrittenVAE, "kl", "backward is not the derivative of loss: encoder"),
        (WrittenGAN, "fakes", "discriminator, in its call 2, and the backward of that call is never used"),
    ],
)
def test_wrong_gradients_are_seen_as_well(model, bug, says, rng):
    assert_right(gradcheck.objective(model(rng)))
    report = gradcheck.objective(model(rng, bug))
    assert report.verdict == "WRONG"
    (finding,) = report.findings
    assert finding.check in ("loss: gradients", "discriminator_loss: gradients")
    assert re.search(says, str(finding)), finding


@pytest.mark.parametrize("factor", [-1, 0.5, 2])
def test_what_is_no_float64_is_checked_by_a_small_step(factor, rng):
    """Which is a property: the change is −lr ‖gradient‖² and not only downwards."""

    class Scaled(students.Single):
        def loss(self, x, eps):
            value, backward = super().loss(x, eps)

            def scaled():
                layers = [layer for net in (self.encoder, self.decoder) for layer in net.layers]
                before = [(layer.dW.copy(), layer.db.copy()) for layer in layers]
                backward()
                for layer, (dW, db) in zip(layers, before, strict=True):
                    layer.dW[...] = dW + factor * (layer.dW - dW)
                    layer.db[...] = db + factor * (layer.db - db)

            return value, scaled

    report = gradcheck.objective(Scaled(rng))
    assert [finding.check for finding in report.findings] == ["loss: small step"]
    assert_right(gradcheck.objective(students.Single(rng)))


def test_a_spread_that_is_broadcast_is_seen(rng):
    (finding,) = gradcheck.objective(WrittenVAE(rng, "column")).findings
    assert "the encoder's spread 1 sets the spread of z in dimension 0, 1" in finding.says
    assert "the encoder's spread 0 is not used" in finding.says


def test_a_model_that_draws_its_own_noise_is_no_autoencoder(rng):
    class Draws(WrittenVAE):
        def loss(self, x):
            return super().loss(x, np.random.standard_normal((len(x), 2)))  # noqa: NPY002

    report = gradcheck.objective(Draws(rng))
    assert report.name == "Draws, a model of 16 features that draws noise of its own"
    assert "Noise is an argument, loss(x, eps)" in str(report)


# --- it leaves everything as it was ---


def arrays_of(owner, seen):
    """Every array that an object holds, with copies."""
    if isinstance(owner, np.ndarray):
        yield owner, owner.copy()
    elif isinstance(owner, sg.Parameter):
        yield owner.value, owner.value.copy()
        yield owner.grad, owner.grad.copy()
    elif id(owner) not in seen and not isinstance(owner, str | int | float | type):
        seen.add(id(owner))
        held = owner.values() if isinstance(owner, dict) else owner if isinstance(owner, list | tuple) else None
        for value in list(held if held is not None else getattr(owner, "__dict__", {}).values()):
            yield from arrays_of(value, seen)


@pytest.mark.parametrize(
    "build",
    [
        lambda rng: randomised(sg.dense_vae((3, 3, 1), latent=2, hidden=(4,), likelihood="gaussian", rng=rng), rng),
        lambda rng: sg.dcgan((8, 8, 1), latent=3, width=2, rng=rng),
        students.StudentVAE,
        students.StudentGAN,
        games.WGANGP,
        students.WrongSample,
    ],
)
def test_the_model_is_as_it_was(build, rng):
    model = build(rng)
    for p in model.parameters() if hasattr(model, "parameters") else ():
        p.grad = np.full_like(p.value, 0.25)
    held = {name: id(value) for name, value in vars(model).items()}
    arrays = list(arrays_of(model, set()))
    assert len(arrays) > 3
    state = str(np.random.get_state())  # noqa: NPY002
    gradcheck.objective(model)
    assert str(np.random.get_state()) == state  # noqa: NPY002
    assert {name: id(value) for name, value in vars(model).items()} == held
    now = list(arrays_of(model, set()))
    assert len(now) == len(arrays)
    for (array, before), (same, _) in zip(arrays, now, strict=True):
        assert same is array
        assert array.dtype == before.dtype
        np.testing.assert_array_equal(array, before)


def test_the_model_is_as_it_was_when_it_raises(rng):
    class Raises(students.StudentVAE):
        def loss(self, x, eps):
            self.encoder.layers[0].W += 1
            raise KeyError("never")

    model = Raises(rng)
    before = copy.deepcopy(model.encoder.layers[0].W)
    with pytest.raises(ValueError, match=r"found no batch that Raises takes, .*KeyError: 'never'"):
        gradcheck.objective(model)
    np.testing.assert_array_equal(model.encoder.layers[0].W, before)


def test_a_model_stays_where_it_lives(backend, rng):
    model = sg.dense_vae((3, 3, 1), latent=2, hidden=(4,), rng=rng).to(backend.name)
    values = [p.value for p in model.parameters()]
    assert_right(gradcheck.objective(model))
    assert all(p.value is value for p, value in zip(model.parameters(), values, strict=True))


def test_two_checks_say_the_same(rng):
    model = students.WrongSample(rng)
    assert str(gradcheck.objective(model)) == str(gradcheck.objective(model))


# --- bad input ---


class Half:
    def discriminator_loss(self, real, z):
        return 0.0, None


class Conditional:
    def loss(self, x, labels, eps):
        return 0.0, None


class OfArray:
    def loss(self, x):
        return x, None


class Exits(students.StudentGAN):
    def generator_loss(self, z):
        raise SystemExit(3)


class Lock(students.StudentVAE):
    def __deepcopy__(self, memo):
        raise RuntimeError("there is only one")


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (lambda rng: 5, TypeError, "got a int, needs a model: loss\\(x\\), loss\\(x, eps\\), or"),
        (lambda rng: sg.Dense(3, 4, rng=rng), TypeError, "got a Dense, needs a model"),
        (lambda rng: sg.VAE, TypeError, "got the class VAE, needs an instance"),
        (lambda rng: Half(), TypeError, "Half has discriminator_loss and no generator_loss"),
        (lambda rng: Conditional(), TypeError, "Conditional.loss takes 3 arguments"),
        (lambda rng: OfArray(), ValueError, "loss gave an array .*, needs loss, backward with one number"),
        (Exits, ValueError, "found no batch that Exits takes, .*SystemExit: 3"),
        (Lock, TypeError, "Lock cannot be copied: RuntimeError: there is only one"),
    ],
)
def test_what_is_no_model_is_refused_in_a_sentence(model, error, words, rng):
    with pytest.raises(error, match=words) as caught:
        gradcheck.objective(model(rng))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        ([[0.5]], TypeError, "x is a list, needs a NumPy float array"),
        (np.ones((4, 9), int), TypeError, "x is a int64 array, needs a NumPy float array"),
        (np.ones(9), ValueError, r"x has shape \(9,\), needs \(N, \.\.\.\) with two samples or more"),
        (np.ones((1, 9)), ValueError, "two samples or more"),
        (np.full((4, 9), np.nan), ValueError, "x holds values that are not finite"),
        (np.ones((4, 8)), ValueError, r"StudentVAE does not take the batch x of shape \(4, 8\)"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_in_a_sentence(x, error, words, rng):
    with pytest.raises(error, match=words) as caught:
        gradcheck.objective(students.StudentVAE(rng), x)
    assert "\n" not in str(caught.value)


def test_a_batch_may_be_given(rng):
    x = rng.uniform(0, 1, (50, 9)).astype(np.float32)
    assert_right(gradcheck.objective(students.StudentVAE(rng), x))


# --- the command ---


def run(capsys, *arguments):
    capsys.readouterr()
    status = main(["gradcheck", "--objective", *map(str, arguments)])
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    return status, said.out, said.err


def test_the_command_checks_built_in_models(capsys):
    status, out, _ = run(capsys)
    assert status == 0
    assert re.search(r"16 models, \d+ properties, \d+ s: all right", out)
    status, out, _ = run(capsys, "vae", "-v")
    assert status == 0
    assert "4 models" in out
    assert "KL, beside that of z's distribution" in out
    assert run(capsys, "Dense")[0] == 2


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("StudentVAE", 0, "all right"),
        ("WrongSample", 1, "but the KL has the variance σ:"),
        ("InOne(features=5)", 1, "UNPROVED"),
        ("Linear(2, 3)", 2, "got a Linear, needs a model"),
        ("Nothing", 2, "has no Nothing"),
    ],
)
def test_the_command_checks_a_model_in_a_file(name, status, words, capsys):
    found, out, err = run(capsys, f"{students.__file__}:{name}")
    assert found == status, out + err
    assert words in out + err


def test_a_file_may_do_as_it_likes(capsys, tmp_path):
    file = tmp_path / "mine.py"
    body = {
        "leaves": "os._exit(0)",
        "sleeps": "time.sleep(60)",
        "exits": "sys.exit(0)",
        "loud": "print('x' * 100000)",
    }
    for name, line in body.items():
        file.write_text(
            f"import os, sys, time\nclass M:\n    def loss(self, x):\n        {line}\n        return 0.0, None\n"
        )
        status, out, err = run(capsys, f"{file}:M", "--timeout", "1")
        assert status == (1 if name == "loud" else 2), name
        assert len(out + err) < 20_000


def test_shapes_are_for_layers(capsys):
    status, _, err = run(capsys, "--input-shape", "3,4", f"{students.__file__}:StudentVAE")
    assert status == 2
    assert "--objective finds a batch for your model" in err
    assert run(capsys, "--mutants")[0] == 2
