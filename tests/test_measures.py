"""The measures: exact where there is a closed form, invariant where they must be, and a classifier worth asking."""

import os
from types import SimpleNamespace

import numpy as np
import pytest

from scratchgen.data import epoch_rng, load_mnist, to_float
from scratchgen.measures import (
    PCA,
    Classifier,
    FeatureStatistics,
    active_units,
    frechet_distance,
    mean_loss,
    mode_coverage,
    nearest_neighbours,
    reconstruction_error,
    sample_quality,
    train_classifier,
)
from scratchgen.measures.classifier import _shifted
from scratchgen.optim import Adam


def test_reconstruction_weights_every_image_alike_whatever_the_blocks(rng, monkeypatch):
    images = rng.random((23, 2, 2, 1)).astype(np.float32)
    monkeypatch.setattr("scratchgen.measures.arrays.BLOCK", 5)
    sizes = []
    assert reconstruction_error(np.zeros_like, images) == pytest.approx(np.mean(images.astype(float) ** 2))
    assert mean_loss(lambda x: sizes.append(len(x)) or x.mean(), images) == pytest.approx(images.mean())
    assert sizes == [5, 5, 5, 5, 3]


# --- modes ---

RING = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)


def test_all_points_at_one_centre_are_one_mode_and_log_K():
    found = mode_coverage(np.repeat(RING[3:4], 50, axis=0), RING, 0.01)
    assert (found.modes, found.of, found.high_quality) == (1, 8, 1.0)
    assert found.reverse_kl == pytest.approx(np.log(8))
    assert found.counts.tolist() == [0, 0, 0, 50, 0, 0, 0, 0]


def test_even_points_cover_all_and_diverge_by_nothing(rng):
    found = mode_coverage(np.repeat(RING, 5, axis=0), RING, 0.01)
    assert (found.modes, found.high_quality, found.reverse_kl) == (8, 1.0, 0.0)
    points = np.repeat(RING, 1000, axis=0) + rng.normal(0, 0.01, (8000, 2))
    found = mode_coverage(points.astype(np.float32), RING, 0.01)
    assert found.modes == 8
    assert found.high_quality == pytest.approx(1 - np.exp(-4.5), abs=0.005)  # P(|N(0, 1₂)| ≤ 3) = 1 − e^(−9/2)


def test_the_edge_of_a_mode_is_within_it():
    centres = np.array([[0.0, 0.0], [100.0, 0.0]])
    at = lambda x: np.array([[x, 0.0]])  # noqa: E731
    assert mode_coverage(at(1.5), centres, 0.5).modes == 1
    beyond = mode_coverage(at(np.nextafter(1.5, 2)), centres, 0.5)
    assert (beyond.modes, beyond.high_quality, beyond.counts.tolist()) == (0, 0.0, [0, 0])
    assert beyond.reverse_kl == pytest.approx(
        np.log(2)
    )  # of low quality, and counted for its nearest centre all the same
    assert mode_coverage(at(1.5), centres, 0.5, radius=2.9).modes == 0


def test_reverse_kl_counts_every_point_by_hand():
    centres = np.array([[0.0], [1.0], [2.0], [3.0]])
    points = np.array([[0.0], [0.1], [0.4], [1.0]])  # ¾ to the first, ¼ to the second; 0.4 is of low quality
    found = mode_coverage(points, centres, 0.05)
    assert found.reverse_kl == pytest.approx(0.75 * np.log(4 * 0.75) + 0.25 * np.log(4 * 0.25))
    assert found.counts.tolist() == [2, 1, 0, 0]
    assert (found.modes, found.high_quality) == (2, 0.75)


def test_modes_do_not_depend_on_order_position_or_blocks(rng, monkeypatch):
    points = RING[rng.integers(0, 6, 300)] + rng.normal(0, 0.02, (300, 2))
    whole = mode_coverage(points, RING, 0.01)
    monkeypatch.setattr("scratchgen.measures.modes.BLOCK", 7 * RING.size)
    moved = mode_coverage((points[::-1] + 1) * 2, (RING + 1) * 2, 0.02)
    assert 0 < whole.high_quality < 1
    np.testing.assert_array_equal(whole.counts, moved.counts)
    assert (whole.modes, whole.high_quality) == (moved.modes, moved.high_quality)
    assert whole.reverse_kl == pytest.approx(moved.reverse_kl, abs=1e-12)


@pytest.mark.parametrize(
    ("points", "std", "error", "words"),
    [
        ([[np.nan, 0]], 1, ValueError, "points holds elements that are not finite"),
        ([[np.inf, 0]], 1, ValueError, "points holds elements that are not finite"),
        ([[0.0]], 1, ValueError, "differ in dimension"),
        ([0.0, 0], 1, ValueError, r"shape \(2,\)"),
        (np.zeros((0, 2)), 1, ValueError, "N ≥ 1"),
        ([[0.0, 0]], 0, ValueError, "std is 0, needs a positive number"),
        ([[1j, 0]], 1, TypeError, "needs real numbers"),
    ],
)
def test_modes_refuse_what_they_cannot_count(points, std, error, words):
    with pytest.raises(error, match=words):
        mode_coverage(np.array(points), RING, std)
    with pytest.raises(ValueError, match="radius"):
        mode_coverage(RING, RING, 1, radius=-1)


# --- Fréchet distance ---


def rotation(rng, D):
    return np.linalg.qr(rng.standard_normal((D, D)))[0]


def test_frechet_of_normals_that_commute(rng):
    """With one set of axes Q the distance is |μa − μb|² + Σ (σa − σb)²."""
    Q, sa, sb = rotation(rng, 6), rng.random(6), rng.random(6) * 3
    a = FeatureStatistics(rng.standard_normal(6), Q * sa**2 @ Q.T)
    b = FeatureStatistics(rng.standard_normal(6), Q * sb**2 @ Q.T)
    expected = np.sum((a.mean - b.mean) ** 2) + np.sum((sa - sb) ** 2)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_frechet_of_normals_that_do_not_commute(rng):
    """In two dimensions tr (Σa Σb)^½ = √(tr Σa Σb + 2 √det Σa Σb)."""
    roots = rng.standard_normal((2, 2, 2))
    A, B = roots @ roots.transpose(0, 2, 1)
    trace = np.sqrt(np.trace(A @ B) + 2 * np.sqrt(np.linalg.det(A @ B)))
    expected = np.trace(A) + np.trace(B) - 2 * trace
    assert not np.allclose(A @ B, B @ A)
    got = frechet_distance(FeatureStatistics(np.zeros(2), A), FeatureStatistics(np.zeros(2), B))
    assert got == pytest.approx(expected, rel=1e-10)


def test_frechet_between_axes_without_full_rank():
    """Variance a along one axis and b along another share nothing: the distance is a + b."""
    a, b = FeatureStatistics(np.zeros(3), np.diag([4.0, 0, 0])), FeatureStatistics(np.zeros(3), np.diag([0, 9.0, 0]))
    assert frechet_distance(a, b) == pytest.approx(13)
    zero = FeatureStatistics(np.zeros(3), np.zeros((3, 3)))
    assert frechet_distance(zero, zero) == 0
    assert frechet_distance(a, zero) == pytest.approx(4)


def test_frechet_statistics_are_those_of_the_features(rng):
    f = rng.standard_normal((30, 4)).astype(np.float32)
    s = FeatureStatistics.of(f)
    np.testing.assert_allclose(s.mean, f.astype(float).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(s.covariance, np.cov(f.astype(float), rowvar=False), rtol=1e-12)
    g = rng.standard_normal((50, 4)) + 1
    assert frechet_distance(f, g) == frechet_distance(s, FeatureStatistics.of(g)) == frechet_distance(s, g)


@pytest.mark.parametrize("N", [2, 20, 64, 500])
@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
def test_frechet_of_a_set_from_itself_is_nothing_whatever_its_rank(N, scale, rng):
    f = rng.standard_normal((N, 64)) * scale
    assert 0 <= frechet_distance(f, f) <= 1e-12 * scale**2 * 64
    assert 0 <= frechet_distance(f, rng.permutation(f)) <= 1e-12 * scale**2 * 64
    shifted = frechet_distance(f, f + 2 * scale)
    assert shifted == pytest.approx(4 * 64 * scale**2, rel=1e-9)  # |μa − μb|² alone


def test_frechet_scales_as_the_square_and_knows_no_axes(rng):
    f, g = rng.standard_normal((10, 24)) * 2, rng.standard_normal((90, 24)) + 0.5  # f without full rank
    d = frechet_distance(f, g)
    assert d > 1
    assert frechet_distance(g, f) == pytest.approx(d, rel=1e-10)
    assert frechet_distance(3 * f, 3 * g) == pytest.approx(9 * d, rel=1e-10)
    Q = rotation(rng, 24)
    assert frechet_distance(f @ Q + 7, g @ Q + 7) == pytest.approx(d, rel=1e-10)


def test_frechet_refuses_what_has_no_statistics(rng):
    f = rng.standard_normal((5, 3))
    with pytest.raises(ValueError, match="N ≥ 2"):
        frechet_distance(f, f[:1])
    with pytest.raises(ValueError, match="features holds elements that are not finite"):
        frechet_distance(f, np.where(f > f.mean(), np.nan, f))
    with pytest.raises(ValueError, match="features of dimension 3 and 2"):
        frechet_distance(f, f[:, :2])
    with pytest.raises(TypeError, match="needs a numpy or cupy array"):
        frechet_distance(f, f.tolist())
    with pytest.raises(ValueError, match="covariance is not symmetric"):
        FeatureStatistics(np.zeros(2), np.array([[1.0, 1], [0, 1]]))
    with pytest.raises(ValueError, match=r"needs \(D,\) and \(D, D\)"):
        FeatureStatistics(np.zeros(3), np.eye(2))


# --- nearest neighbours ---


@pytest.mark.parametrize("count", [1, 3, 37])
def test_nearest_neighbours_are_those_of_brute_force(count, rng, monkeypatch):
    monkeypatch.setattr("scratchgen.measures.neighbours.PIXELS", 240)
    monkeypatch.setattr("scratchgen.measures.neighbours.SAMPLES", 4)
    samples, images = rng.random((9, 4, 3, 2), np.float32), rng.integers(0, 256, (37, 4, 3, 2), np.uint8)
    indices, distances = nearest_neighbours(samples, images, count=count)
    brute = np.sqrt(((samples[:, None] - images / 255.0) ** 2).sum(axis=(2, 3, 4)))
    assert indices.shape == distances.shape == (9, count)
    np.testing.assert_array_equal(indices, np.argsort(brute, axis=1)[:, :count])
    np.testing.assert_allclose(distances, np.sort(brute, axis=1)[:, :count], rtol=1e-5)


def test_a_copy_is_found_at_distance_zero_and_a_near_copy_near(rng):
    images = rng.integers(0, 256, (200, 28, 28, 1), np.uint8)
    indices, distances = nearest_neighbours(images[50:60], images)
    np.testing.assert_array_equal(indices[:, 0], np.arange(50, 60))
    assert not distances.any()  # ‖s‖² − 2 s·x + ‖x‖² in float32 would leave about 0.01
    near = images[:1] / 255.0
    near[0, 3, 4, 0] += 1e-4
    assert nearest_neighbours(near, images)[1][0, 0] == pytest.approx(1e-4, rel=1e-2)


def test_nearest_neighbours_refuse_what_cannot_be_compared(rng):
    x = rng.random((5, 2, 2, 1))
    for count in (0, 6):
        with pytest.raises(ValueError, match="count is"):
            nearest_neighbours(x, x, count=count)
    with pytest.raises(ValueError, match=r"needs \(2, 2, 1\) as the images are"):
        nearest_neighbours(x[:, :1], x)
    with pytest.raises(ValueError, match="samples holds elements that are not finite"):
        nearest_neighbours(x * np.inf, x)
    with pytest.raises(ValueError, match="at least one image"):
        nearest_neighbours(x, x[:0])


# --- active units ---


def test_active_units_vary_by_more_than_a_hundredth(rng):
    z = rng.standard_normal((1000, 1))
    z = (z - z.mean()) / z.std()
    active, variances = active_units((z * np.sqrt([1, 0.0101, 0.0099, 0]) + [0, 5, 5, 5]).astype(np.float32))
    assert active == 2
    np.testing.assert_allclose(variances, [1, 0.0101, 0.0099, 0], rtol=1e-3, atol=1e-12)
    assert active_units(z * 0.3, threshold=0.1)[0] == 0
    with pytest.raises(ValueError, match="N ≥ 2"):
        active_units(z[:1])
    with pytest.raises(ValueError, match="not finite"):
        active_units(z * np.nan)


# --- the classifier ---


def striped(rng, *, labels=(2, 5, 6), size=(8, 8, 3), N=240):
    """Images whose label says which third of the rows is bright, and noise: the four arrays and name of a Dataset."""

    def part(N):
        y = rng.permutation(np.resize(labels, N)).astype(np.uint8)
        x = rng.integers(0, 100, (N, *size), np.uint8)
        for k, label in enumerate(labels):
            x[y == label, 3 * k : 3 * k + 2] += 120
        return x, y

    (train, train_labels), (test, test_labels) = part(N), part(90)
    return SimpleNamespace(
        name="stripes", train_images=train, train_labels=train_labels, test_images=test, test_labels=test_labels
    )


@pytest.fixture(scope="module")
def stripes():
    return striped(np.random.default_rng(1))


@pytest.fixture(scope="module")
def judge(stripes, tmp_path_factory):
    return train_classifier(stripes, epochs=12, cache=tmp_path_factory.mktemp("cache"), progress=False)


def test_the_classifier_learns_small_colour_images_with_labels_of_any_number(judge, stripes):
    assert judge.labels.tolist() == [2, 5, 6]
    assert judge.accuracy(stripes.test_images, stripes.test_labels) >= 0.95
    assert judge.accuracy(stripes.test_images, (stripes.test_labels + 1) % 3) < 0.2
    p, f = judge.predict_proba(stripes.test_images), judge.features(stripes.test_images)
    assert (p.shape, p.dtype, f.shape, f.dtype) == ((90, 3), np.float32, (90, 128), np.float32)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
    assert f.min() >= 0
    np.testing.assert_array_equal(judge.classify(f), p)


def test_the_classifier_sees_bytes_and_floats_alike_in_blocks(judge, stripes, monkeypatch):
    images = stripes.test_images
    p = judge.predict_proba(images)
    np.testing.assert_array_equal(judge.predict_proba(np.divide(images, 255, dtype=np.float32)), p)
    np.testing.assert_allclose(judge.predict_proba(images / 255.0), p, atol=1e-6)
    monkeypatch.setattr("scratchgen.measures.arrays.BLOCK", 7)
    np.testing.assert_allclose(judge.predict_proba(images), p, atol=1e-5)


def test_the_classifier_takes_a_little_more_than_the_range_and_no_other(judge, stripes):
    x = np.divide(stripes.test_images, 255, dtype=np.float32)
    x[0, 0, 0] = 0
    x[0, 0, 1] = 1
    clipped = judge.features(x)
    x[0, 0, 0] = -0.2
    x[0, 0, 1] = 1.2
    np.testing.assert_array_equal(judge.features(x), clipped)
    for wrong in (x * 255, 2 * x - 1):
        with pytest.raises(ValueError, match=r"needs pixels in \[0, 1\]"):
            judge.features(wrong)
    for bad in (np.nan, np.inf):
        x[3, 2, 1] = bad
        with pytest.raises(ValueError, match="not finite"):
            judge.predict_proba(x)
    with pytest.raises(ValueError, match=r"needs \(N, 8, 8, 3\)"):
        judge.predict_proba(x[..., :1])
    with pytest.raises(ValueError, match="N ≥ 1"):
        judge.features(x[:0])
    with pytest.raises(TypeError, match="int64"):
        judge.features(np.zeros((2, 8, 8, 3), np.int64))
    with pytest.raises(ValueError, match="one an image"):
        judge.accuracy(stripes.test_images, stripes.test_labels[:-1])


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 9, 2), (28, 28, 1), (33, 17, 3)])
def test_the_classifier_fits_images_of_any_size_from_8(shape, rng):
    classifier = Classifier(shape, np.arange(4), rng=rng)
    assert classifier.predict_proba(rng.random((2, *shape))).shape == (2, 4)
    with pytest.raises(ValueError, match="needs at least 8×8"):
        Classifier((7, 8, 1), np.arange(4))
    with pytest.raises(ValueError, match="two or more"):
        Classifier(shape, np.zeros(9, int))


def test_the_classifier_is_differentiated_right(rng):
    classifier = Classifier((8, 8, 1), np.arange(3), rng=rng).astype(np.float64)
    for layer in classifier.body.layers:
        if hasattr(layer, "beta"):
            layer.beta.value = rng.uniform(0.5, 1, layer.beta.value.shape)
    x, index = rng.random((6, 8, 8, 1)), np.array([0, 1, 2, 2, 1, 0])
    classifier.zero_grad()
    _, backward = classifier.loss(x, index)
    backward()
    for name in ("body.0.W", "body.10.W", "body.11.gamma", "head.W", "head.b"):
        p = classifier.named_parameters()[name]
        value, direction = p.value, rng.standard_normal(p.value.shape)
        ends = []
        for h in (1e-5, -1e-5):
            p.value = value + h * direction
            ends.append(classifier.loss(x, index)[0])
        p.value = value
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(np.sum(p.grad * direction), rel=1e-4, abs=1e-8)


def weights(classifier):
    return {name: a.tobytes() for name, a in classifier.state().items()}


def test_the_same_call_is_read_from_the_cache_to_the_bit(stripes, tmp_path, monkeypatch):
    options = {"epochs": 1, "seed": 3, "progress": False}
    first = train_classifier(stripes, cache=tmp_path, **options)
    assert len(list(tmp_path.iterdir())) == 1
    with monkeypatch.context() as m:
        m.setattr("scratchgen.measures.classifier._train", None)  # a call would fail
        again = train_classifier(stripes, cache=tmp_path, **options)
    np.testing.assert_array_equal(first.predict_proba(stripes.test_images), again.predict_proba(stripes.test_images))
    assert weights(first) == weights(again)
    assert weights(first) == weights(train_classifier(stripes, cache=tmp_path / "other", **options))  # no luck in it
    monkeypatch.setenv("SCRATCHGEN_CACHE", str(tmp_path / "home"))
    train_classifier(stripes, **options)
    [file] = (tmp_path / "home" / "classifiers").iterdir()
    assert file.name in {f.name for f in tmp_path.iterdir()}


def test_the_classifier_is_trained_as_by_hand(stripes, tmp_path):
    """Bit for bit, so that published figures stay: the order, the shifts and the rates of the training loop."""
    images, index = stripes.train_images, np.searchsorted([2, 5, 6], stripes.train_labels)
    by_hand = Classifier(images.shape[1:], stripes.train_labels, rng=np.random.default_rng(3))
    optimizer = Adam(by_hand.parameters())
    for epoch in (1, 2, 3):  # six steps: on the first the rate still rises
        rng = epoch_rng(3, epoch)
        for batch in np.array_split(rng.permutation(len(images)), 2):  # 240 images, 128 a batch
            done = (optimizer.t + 0.5) / 6
            optimizer.lr = 3e-3 * min(done / 0.1, (1 - done) / 0.9)
            i, j = rng.integers(0, 3, 2)
            x = np.pad(to_float(images[batch]), ((0, 0), (1, 1), (1, 1), (0, 0)))[:, i : i + 8, j : j + 8]
            _, backward = by_hand.loss(x, index[batch])
            backward()
            optimizer.step()
    trained = train_classifier(stripes, epochs=3, seed=3, cache=tmp_path, progress=False).state()
    assert all(np.array_equal(trained[name], a) for name, a in by_hand.state().items())


def test_another_call_is_another_classifier(stripes, tmp_path):
    def names(data=stripes, **options):
        train_classifier(data, **{"epochs": 1, "cache": tmp_path, "progress": False} | options)
        return len(list(tmp_path.iterdir()))

    def with_(**arrays):
        return SimpleNamespace(**vars(stripes) | arrays)

    pixel, label = stripes.train_images.copy(), stripes.train_labels.copy()
    pixel[100, 4, 4, 1] ^= 1
    label[7] = 5 if label[7] != 5 else 6
    order = np.roll(np.arange(len(label)), 1)
    assert names() == 1
    assert names(seed=1) == 2
    assert names(epochs=2) == 3
    assert names(with_(train_images=pixel)) == 4
    assert names(with_(train_labels=label)) == 5
    assert names(with_(train_images=stripes.train_images[order], train_labels=stripes.train_labels[order])) == 6
    assert names(with_(test_images=stripes.test_images[:1], test_labels=None, name="other")) == 6  # never looked at
    assert names() == 6


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "other network", "not finite"])
def test_a_damaged_cache_file_is_replaced(damage, stripes, tmp_path, capsys):
    from safetensors.numpy import load_file, save_file

    options = {"epochs": 1, "cache": tmp_path, "progress": False}
    good = weights(train_classifier(stripes, **options))
    assert capsys.readouterr().err == ""
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    if damage in ("cut", "empty", "garbage"):
        path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "garbage": b"\xff" * 1000}[damage])
    elif damage == "other network":
        save_file({"W": np.zeros(3, np.float32)}, path)
    else:
        arrays = load_file(path)
        arrays["head.W"][0, 0] = np.nan
        save_file(arrays, path)
    assert weights(train_classifier(stripes, **options)) == good
    assert f"{path}" in (said := capsys.readouterr().err)
    assert "trained again" in said
    assert {name: array.tobytes() for name, array in load_file(path).items()} == good
    train_classifier(stripes, **options)
    assert capsys.readouterr().err == ""


def test_a_cache_that_cannot_be_written_is_done_without(stripes, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    classifier = train_classifier(stripes, epochs=1, cache=tmp_path / "file" / "folder", progress=False)
    assert classifier.predict_proba(stripes.test_images).shape == (90, 3)
    assert "not kept" in capsys.readouterr().err
    if os.name == "posix" and os.geteuid() != 0:
        (tmp_path / "shut").mkdir(mode=0o500)
        train_classifier(stripes, epochs=1, cache=tmp_path / "shut", progress=False)
        assert "not kept" in capsys.readouterr().err


def test_train_classifier_refuses_before_it_trains(stripes, tmp_path):
    for arrays, words in [
        ({"train_labels": None}, "stripes has no labels"),
        ({"train_labels": np.zeros(240, np.uint8)}, "two or more"),
        ({"train_images": stripes.train_images[:1], "train_labels": stripes.train_labels[:1]}, "needs two or more"),
        ({"train_images": stripes.train_images[:, :7]}, "needs at least 8×8"),
    ]:
        with pytest.raises(ValueError, match=words):
            train_classifier(SimpleNamespace(**vars(stripes) | arrays), cache=tmp_path, progress=False)
    for options in ({"epochs": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="needs at least"):
            train_classifier(stripes, cache=tmp_path, **options)
    assert not any(tmp_path.iterdir())


def test_a_last_batch_of_one_image_is_no_trouble(rng, tmp_path):
    data = striped(rng, N=129)
    train_classifier(data, epochs=1, cache=tmp_path, progress=False)


def test_training_shows_as_many_images_whatever_the_data(rng, stripes, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("scratchgen.measures.classifier._train", lambda *arguments: seen.append(arguments[3].epochs))
    train_classifier(stripes, cache=tmp_path, progress=False)
    train_classifier(striped(rng, N=239), cache=tmp_path, progress=False)
    assert seen == [750, 754]  # times 240, and at least 239, is 180,000


def test_training_images_move_by_at_most_a_pixel(stripes, tmp_path, monkeypatch):
    """A batch is moved as a whole, each of the nine ways about as often, and nothing wraps around."""
    x = np.zeros((2, 8, 8, 3), np.float32)
    x[:, 3, 4], x[0, 0, 0] = 1, 1
    rng, ways = np.random.default_rng(5), np.zeros((3, 3), int)
    for _ in range(900):
        y = _shifted(x, rng)
        assert y.shape == x.shape
        assert y.dtype == np.float32
        i, j = np.argwhere(y[1, :, :, 0])[0] - (2, 3)
        expected = np.zeros_like(x)
        expected[:, 2 + i, 3 + j] = 1
        if i and j:  # the pixel in the corner has not left
            expected[0, i - 1, j - 1] = 1
        np.testing.assert_array_equal(y, expected)
        ways[i, j] += 1
    assert ways.min() > 60

    shown = []
    monkeypatch.setattr("scratchgen.measures.classifier._shifted", lambda x, rng: shown.append(x) or x)
    train_classifier(stripes, epochs=1, cache=tmp_path, progress=False)
    assert [len(x) for x in shown] == [120, 120]  # and it is used


# --- sample quality ---


def test_quality_of_real_images_of_one_class_and_of_noise(judge, stripes, rng):
    real = sample_quality(stripes.test_images, judge, stripes.test_images)
    assert real.histogram.sum() == pytest.approx(1)
    np.testing.assert_allclose(real.histogram, 1 / 3, atol=0.05)
    assert real.smallest_share == real.histogram.min()
    assert 0 <= real.frechet < 1e-9
    fresh = sample_quality(stripes.train_images[:90], judge, stripes.test_images)
    collapsed = sample_quality(stripes.test_images[stripes.test_labels == 5], judge, stripes.test_images)
    assert collapsed.histogram[1] > 0.9  # class 5 is in column 1
    assert collapsed.smallest_share < 0.05
    noise = sample_quality(rng.random((90, 8, 8, 3)), judge, stripes.test_images)
    assert real.frechet < fresh.frechet < collapsed.frechet
    assert fresh.frechet < noise.frechet
    assert noise.confident < fresh.confident


def test_quality_counts_confidence_by_the_threshold(judge, stripes):
    top = judge.predict_proba(stripes.test_images).max(axis=1)
    for threshold in (0.0, float(np.sort(top)[45]), 0.9, 1.0):  # the second is reached exactly, and counts
        found = sample_quality(stripes.test_images, judge, stripes.test_images, confident=threshold)
        assert found.confident == np.mean(top >= threshold)
    with pytest.raises(ValueError, match="from 0 to 1"):
        sample_quality(stripes.test_images, judge, stripes.test_images, confident=90)


def test_quality_takes_the_real_side_once(judge, stripes):
    samples = stripes.train_images[:50]
    direct = sample_quality(samples, judge, stripes.test_images)
    statistics = judge.statistics(stripes.test_images)
    assert sample_quality(samples, judge, statistics).frechet == direct.frechet
    expected = frechet_distance(judge.features(samples), judge.features(stripes.test_images))
    assert direct.frechet == expected
    with pytest.raises(TypeError, match="needs a Classifier"):
        sample_quality(samples, statistics, judge)
    with pytest.raises(ValueError, match="N ≥ 2"):
        sample_quality(samples[:1], judge, statistics)


# --- all digits ---


def test_the_classifier_reads_985_of_1000_digits(tmp_path):
    """The acceptance figure on all 60,000 digits, in fewer epochs than the default."""
    if not os.environ.get("SCRATCHGEN_DATA"):
        pytest.skip("needs the 60,000 digits: set SCRATCHGEN_DATA to a folder with the four original files")
    data = load_mnist()
    if len(data.train_images) != 60_000:
        pytest.skip(f"needs the 60,000 digits, SCRATCHGEN_DATA has {len(data.train_images):,}")
    classifier = train_classifier(data, epochs=2, cache=tmp_path, progress=False)
    assert classifier.accuracy(data.test_images, data.test_labels) >= 0.985
    real = classifier.statistics(data.test_images)
    digits = sample_quality(data.train_images[:2000], classifier, real)
    assert digits.smallest_share > 0.07
    assert digits.confident > 0.9
    shuffled = np.random.default_rng(0).permuted(data.train_images[:2000].reshape(2000, -1), axis=1)
    assert sample_quality(shuffled.reshape(-1, 28, 28, 1), classifier, real).frechet > 10 * digits.frechet


def test_pca_of_many_pixels_is_that_of_few(rng, monkeypatch):
    """Subspace iteration against the eigenvectors, on images whose spectrum falls slowly."""
    images = (rng.standard_normal((300, 40)) * 0.9 ** np.arange(40)) @ np.linalg.qr(rng.standard_normal((40, 40)))[0]
    images = (0.5 + 0.05 * images).reshape(300, 5, 8, 1)
    exact = PCA(images, 6)
    monkeypatch.setattr("scratchgen.measures.reconstruction.EXACT", 10)
    found = PCA(images, 6)
    np.testing.assert_allclose(found.axes.T @ found.axes, np.eye(6), atol=1e-10)
    errors = [reconstruction_error(pca.reconstruct, images) for pca in (exact, found)]
    assert errors[0] <= errors[1] <= errors[0] * 1.001
