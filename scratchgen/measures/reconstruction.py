"""How well images are reproduced, and the linear figure to beat."""

from collections.abc import Callable

import numpy as np

from scratchgen.backend import Array, transfer
from scratchgen.data import to_float
from scratchgen.measures.arrays import blocks

EXACT = 2048  # pixels
MORE, ROUNDS = 16, 8  # directions, products of the subspace iteration


class PCA:
    """Principal component analysis: the best *linear* autoencoder, and so the figure for a deep one to beat.

    Fitted to images (N, H, W, C) by the eigenvectors of their covariance (Eckart & Young 1936). Above EXACT pixels
    that matrix would be too large, and the axes are found by subspace iteration: a few more directions than asked for
    are multiplied by the covariance and made orthonormal again, ROUNDS times (Halko et al. 2011, algorithm 4.4).
    """

    def __init__(self, images: np.ndarray, components: int):
        pixels = int(np.prod(images.shape[1:]))
        if not 1 <= components <= min(pixels, len(images)):
            raise ValueError(
                f"PCA: components is {components}, needs 1 to {min(pixels, len(images))} for images {images.shape}"
            )
        self.mean = sum(x.reshape(len(x), -1).sum(axis=0, dtype=np.float64) for x in blocks(images)) / len(images)
        if pixels <= EXACT:
            covariance = self._times_covariance(images, None)
            self.axes = np.linalg.eigh(covariance)[1][:, -components:]  # (pixels, components), orthonormal
            return
        width = min(components + MORE, pixels, len(images))
        axes = np.random.default_rng(0).standard_normal((pixels, width))
        for _ in range(ROUNDS):
            axes = np.linalg.qr(self._times_covariance(images, axes))[0]
        within = axes.T @ self._times_covariance(images, axes)  # the covariance of the coordinates
        self.axes = axes @ np.linalg.eigh((within + within.T) / 2)[1][:, -components:]

    def _times_covariance(self, images: np.ndarray, axes: np.ndarray | None) -> np.ndarray:
        """The covariance of the images (pixels, pixels), times the axes unless these are None."""
        centred = (x.reshape(len(x), -1) - self.mean for x in blocks(images))
        products = (x.T @ (x if axes is None else x @ axes) for x in centred)
        return sum(products, start=np.zeros(())) / len(images)

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """The images as their projection on mean + axes; same shape."""
        x = to_float(images).reshape(len(images), -1) - self.mean
        return (x @ self.axes @ self.axes.T + self.mean).reshape(images.shape)


def reconstruction_error(reconstruct: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> float:
    """Mean squared error per pixel of `reconstruct(batch)` over images (N, H, W, C) in [0, 1]."""
    total = sum(float(np.sum(np.square(reconstruct(x) - x, dtype=np.float64))) for x in blocks(images))
    return total / images.size


def mean_loss(predict_loss: Callable[[Array], Array], images: np.ndarray, backend: str = "numpy") -> float:
    """Mean over images of a loss per sample, `predict_loss(batch)`, taken in blocks."""
    total = sum(float(predict_loss(transfer(x, backend))) * len(x) for x in blocks(images))
    return total / len(images)
