"""The window that slides over an image: its sizes, each an int or a pair (height, width)."""

from __future__ import annotations

from typing import TypeAlias

from scratchgen import checks
from scratchgen.backend.geometry import Geometry, correlated_size

Size: TypeAlias = int | tuple[int, int]


class Window:
    """Kernel size, stride, padding and dilation as pairs, checked once."""

    def __init__(self, layer: str, kernel_size: Size, stride: Size, padding: Size, dilation: Size):
        self.kernel = pair(layer, "kernel_size", kernel_size, least=1)
        self.stride = pair(layer, "stride", stride, least=1)
        self.padding = pair(layer, "padding", padding, least=0)
        self.dilation = pair(layer, "dilation", dilation, least=1)

        self.taps = self.kernel[0] * self.kernel[1]
        self.stride_area = self.stride[0] * self.stride[1]

    def over(self, H: int, W: int, *, layer: object) -> Geometry:
        """The window on a large map (H, W), which has a small one of (OH, OW) places. ValueError, which names the
        layer, where there is none."""
        OH, OW = map(correlated_size, (H, W), self.kernel, self.stride, self.padding, self.dilation)
        if min(OH, OW) < 1:
            raise ValueError(
                f"{layer}: x is {H}×{W}, {H + 2 * self.padding[0]}×{W + 2 * self.padding[1]} with padding; "
                f"needs at least {self.extent[0]}×{self.extent[1]}, the extent of the kernel"
            )
        return self.geometry(large=(H, W), small=(OH, OW))

    def geometry(self, large: tuple[int, int], small: tuple[int, int]) -> Geometry:
        return Geometry(self.kernel, self.stride, self.padding, self.dilation, large=large, small=small)

    @property
    def extent(self) -> tuple[int, int]:
        """Pixels from the first tap to the last: d(k − 1) + 1."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return dh * (kh - 1) + 1, dw * (kw - 1) + 1

    def __repr__(self) -> str:
        parts = [f"kernel_size={short(self.kernel)}"]
        parts += [f"stride={short(self.stride)}"] * (self.stride != (1, 1))
        parts += [f"padding={short(self.padding)}"] * (self.padding != (0, 0))
        parts += [f"dilation={short(self.dilation)}"] * (self.dilation != (1, 1))
        return ", ".join(parts)


def pair(layer: str, name: str, value: Size, least: int) -> tuple[int, int]:
    """A size as (height, width). TypeError or ValueError unless it is whole numbers of `least` or more."""
    sizes = value if isinstance(value, tuple | list) else (value, value)
    if len(sizes) != 2:
        raise ValueError(f"{layer}: {name} is {value!r}, needs an integer or a pair of them")
    return checks.integer(layer, name, sizes[0], least), checks.integer(layer, name, sizes[1], least)


def short(sizes: tuple[int, int]) -> str:
    """A pair as one writes it: one number where both are equal."""
    return str(sizes[0]) if sizes[0] == sizes[1] else str(sizes)
