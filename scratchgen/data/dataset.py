"""What every data set of this library is, whichever file format it came from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scratchgen.files import printable


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images for training and for testing, with labels or without.

    Images are uint8 in 0 … 255, channels last: `(N, H, W, C)`; labels are uint8 `(N,)`, or None in both parts.
    `classes[label]` is the name of a label, as far as there are names; `notes` are sentences to show the user. In
    these and in the name control characters are written out.

    Raises TypeError for another dtype, ValueError for shapes or labels that do not fit together.
    """

    name: str
    train_images: NDArray[np.uint8] = field(repr=False)
    train_labels: NDArray[np.uint8] | None = field(repr=False)
    test_images: NDArray[np.uint8] = field(repr=False)
    test_labels: NDArray[np.uint8] | None = field(repr=False)
    classes: tuple[str, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", printable(self.name))  # files and folders have any names
        object.__setattr__(self, "notes", tuple(map(printable, self.notes)))
        if (self.train_labels is None) != (self.test_labels is None):
            raise ValueError(f"{self.name}: labels are needed in both parts or in none.")
        if self.train_labels is None and self.classes:
            raise ValueError(f"{self.name}: names of classes need labels.")
        for part in "train", "test":
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            for kind, array in ("images", images), ("labels", labels):
                if kind == "labels" and array is None:
                    continue
                if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
                    found = getattr(array, "dtype", type(array).__name__)
                    raise TypeError(f"{self.name}: {part} {kind} must be a uint8 NumPy array, not {found}.")
            if images.ndim != 4:
                raise ValueError(f"{self.name}: {part} images need shape (N, H, W, C), not {images.shape}.")
            if labels is not None and labels.shape != images.shape[:1]:
                raise ValueError(
                    f"{self.name}: {len(images)} {part} images need labels of shape ({len(images)},), "
                    f"not {labels.shape}."
                )
            if self.classes and labels.max(initial=0) >= len(self.classes):
                raise ValueError(
                    f"{self.name}: {part} labels go up to {labels.max()}; {len(self.classes)} classes are named."
                )
        train, test = self.train_images.shape[1:], self.test_images.shape[1:]
        if train != test:
            raise ValueError(f"{self.name}: test images must be {train} as the training images, not {test}.")

    @property
    def samples(self) -> NDArray[np.uint8]:
        """What is trained on."""
        return self.train_images

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(H, W, C)` of one image."""
        return self.train_images.shape[1:]


def short_name(name: str) -> str:
    """The name of a data set without its counts and the place where it lies."""
    return printable(name.partition(" (")[0])
