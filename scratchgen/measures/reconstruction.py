"""How well images are reproduced, and the linear figure to beat."""

import numpy as np

from scratchgen.backend import transfer
from scratchgen.data import to_float
from scratchgen.measures.arrays import blocks


class PCA:
    """Principal component analysis: the best *linear* autoencoder, and so the figure for a deep one to beat.

    Fitted to images (N, H, W, C) by the eigenvectors of their covariance. (Eckart & Young 1936.)
    """

    def __init__(self, images, components: int):
        pixels = int(np.prod(images.shape[1:]))
        if not 1 <= components <= min(pixels, len(images)):
            raise ValueError(
                f"PCA: components is {components}, needs 1 to {min(pixels, len(images))} for images {images.shape}"
            )
        total, products = np.zeros(pixels), np.zeros((pixels, pixels))
        for x in blocks(images):
            x = x.reshape(len(x), -1).astype(np.float64)
            total += x.sum(axis=0)
            products += x.T @ x
        self.mean = total / len(images)
        covariance = products / len(images) - np.outer(self.mean, self.mean)
        self.axes = np.linalg.eigh(covariance)[1][:, -components:]  # (pixels, components), orthonormal

    def reconstruct(self, images) -> np.ndarray:
        """The images as their projection on mean + axes; same shape."""
        x = to_float(images).reshape(len(images), -1) - self.mean
        return (x @ self.axes @ self.axes.T + self.mean).reshape(images.shape)


def reconstruction_error(reconstruct, images) -> float:
    """Mean squared error per pixel of `reconstruct(batch)` over images (N, H, W, C) in [0, 1]."""
    total = sum(float(np.sum(np.square(reconstruct(x) - x, dtype=np.float64))) for x in blocks(images))
    return total / images.size


def mean_loss(predict_loss, images, backend: str = "numpy") -> float:
    """Mean over images of a loss per sample, `predict_loss(batch)`, taken in blocks."""
    total = sum(float(predict_loss(transfer(x, backend))) * len(x) for x in blocks(images))
    return total / len(images)
