"""How good a model is, in figures that can be compared.

`reconstruction.py` for autoencoders, with PCA as the figure to beat; `latent.py` for the latent dimensions that a VAE
uses; `modes.py` for mode collapse on mixtures whose centres are known; for generated images `classifier.py`,
`frechet.py` and `quality.py`, and `neighbours.py` for what was memorised.
"""

from scratchgen.measures.classifier import Classifier, train_classifier
from scratchgen.measures.frechet import FeatureStatistics, frechet_distance
from scratchgen.measures.latent import active_units
from scratchgen.measures.modes import ModeCoverage, mode_coverage
from scratchgen.measures.neighbours import nearest_neighbours
from scratchgen.measures.quality import SampleQuality, sample_quality
from scratchgen.measures.reconstruction import PCA, mean_loss, reconstruction_error

__all__ = [
    "PCA",
    "Classifier",
    "FeatureStatistics",
    "ModeCoverage",
    "SampleQuality",
    "active_units",
    "frechet_distance",
    "mean_loss",
    "mode_coverage",
    "nearest_neighbours",
    "reconstruction_error",
    "sample_quality",
    "train_classifier",
]
