"""What every data set of this library is, whichever file format it came from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images for training and for testing.

    Images are uint8 in 0 … 255, channels last: `(N, H, W, C)`; labels are uint8 `(N,)`.

    Raises TypeError for another dtype, ValueError for shapes that do not fit together.
    """

    name: str
    train_images: NDArray[np.uint8] = field(repr=False)
    train_labels: NDArray[np.uint8] = field(repr=False)
    test_images: NDArray[np.uint8] = field(repr=False)
    test_labels: NDArray[np.uint8] = field(repr=False)

    def __post_init__(self) -> None:
        for part in "train", "test":
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            for kind, array in ("images", images), ("labels", labels):
                if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
                    found = getattr(array, "dtype", type(array).__name__)
                    raise TypeError(f"{self.name}: {part} {kind} must be a uint8 NumPy array, not {found}.")
            if images.ndim != 4:
                raise ValueError(f"{self.name}: {part} images need shape (N, H, W, C), not {images.shape}.")
            if labels.shape != images.shape[:1]:
                raise ValueError(
                    f"{self.name}: {len(images)} {part} images need labels of shape ({len(images)},), "
                    f"not {labels.shape}."
                )
        train, test = self.train_images.shape[1:], self.test_images.shape[1:]
        if train != test:
            raise ValueError(f"{self.name}: test images must be {train} as the training images, not {test}.")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(H, W, C)` of one image."""
        return self.train_images.shape[1:]
