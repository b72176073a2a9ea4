"""How good and how varied generated images are, measured with a classifier."""

from dataclasses import dataclass

import numpy as np

from scratchgen import checks
from scratchgen.backend import Array
from scratchgen.measures.classifier import Classifier
from scratchgen.measures.frechet import FeatureStatistics, frechet_distance


@dataclass(frozen=True, eq=False)
class SampleQuality:
    """What `sample_quality` found; `histogram (K,)` is in the order of the classifier's `labels`."""

    histogram: np.ndarray
    smallest_share: float
    confident: float
    frechet: float


def sample_quality(
    samples: Array, classifier: Classifier, real_images: Array | FeatureStatistics, *, confident: float = 0.9
) -> SampleQuality:
    """Generated images as a classifier of the real ones sees them.

        histogram       shares of the samples by their most probable class, which sum to 1
        smallest_share  the least of them: 0 when a class is missing
        confident       the share of samples whose largest probability is at least `confident`
        frechet         `frechet_distance` between the classifier's features of samples and of real images

    `frechet` lives in the features of this one classifier: compare it between models measured by the same classifier
    (same data, epochs and seed) against the same real images, never with an FID from Inception features. It is biased
    upwards, the more so the fewer the samples: compare at equal counts; between two sets of unseen real images of
    such counts it is what perfect samples would have. `confident` says that samples look like some class to a network
    that saw only real images, not that a person would agree, and says nothing about variety.

    `samples (N, H, W, C)`, N ≥ 2, as `Classifier` takes them. `real_images` are such images too, usually the test
    images, or `classifier.statistics(test_images)`, to be computed once where many sets of samples follow.
    TypeError or ValueError for anything else.
    """
    if not isinstance(classifier, Classifier):
        raise TypeError(f"sample_quality: classifier is {classifier!r}, needs a Classifier: train_classifier(data)")
    threshold = checks.real("sample_quality", "confident", confident, lambda x: 0 <= x <= 1, "a number from 0 to 1")
    features = classifier.features(samples)
    generated = FeatureStatistics.of(features)
    real = real_images if isinstance(real_images, FeatureStatistics) else classifier.statistics(real_images)
    p = classifier.classify(features)  # (N, K)
    histogram = np.bincount(p.argmax(axis=1), minlength=p.shape[1]) / len(p)
    return SampleQuality(
        histogram=histogram,
        smallest_share=float(histogram.min()),
        confident=float((p.max(axis=1) >= threshold).mean()),
        frechet=frechet_distance(generated, real),
    )
