"""The shape arithmetic of a sliding window, shared by both faces of a convolution."""

from collections.abc import Iterator
from dataclasses import dataclass

Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """How a window of `kernel` taps slides over a large map (H, W) and meets each pixel of a small one (OH, OW).

    Tap (i, j) at small pixel (r, c) reads large pixel (r·s + i·d − p, c·s + j·d − p); what lies outside reads 0.
    Conv2d maps large → small, ConvTranspose2d small → large, both with one and the same geometry.
    """

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    large: Pair  # (H, W)
    small: Pair  # (OH, OW)

    @property
    def padded(self) -> Pair:
        """Size of the large map with its zero border: (H + 2p, W + 2p)."""
        return self.large[0] + 2 * self.padding[0], self.large[1] + 2 * self.padding[1]

    @property
    def interior(self) -> tuple[slice, slice]:
        """Where the large map lies within its padded self."""
        (top, left), (H, W) = self.padding, self.large
        return slice(top, top + H), slice(left, left + W)

    @property
    def one_window(self) -> bool:
        """Whether a single window covers the whole image, so that the convolution is a Dense layer."""
        return self.kernel == self.large and self.padding == (0, 0) and self.dilation == (1, 1)

    @property
    def whole(self) -> bool:
        """Whether the patches are the images, just as they lie: one window on all of it, or each pixel by itself."""
        pixels = self.kernel == self.stride == (1, 1) and self.padding == (0, 0) and self.small == self.large
        return self.one_window or pixels

    def taps(self) -> Iterator[tuple[int, int, slice, slice]]:
        """Every tap (i, j) with the rows and columns of the padded map that it reads, one per small pixel."""
        (kh, kw), (sh, sw), (dh, dw), (oh, ow) = self.kernel, self.stride, self.dilation, self.small
        for i in range(kh):
            rows = slice(i * dh, i * dh + sh * (oh - 1) + 1, sh)
            for j in range(kw):
                yield i, j, rows, slice(j * dw, j * dw + sw * (ow - 1) + 1, sw)


def correlated_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Length that a convolution makes of `size`: ⌊(size + 2p − d(k − 1) − 1) / s⌋ + 1; below 1 nothing fits."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def transposed_size(size: int, kernel: int, stride: int, padding: int, dilation: int, output_padding: int) -> int:
    """Length that a transposed convolution makes of `size`: (size − 1)s − 2p + d(k − 1) + 1 + output_padding."""
    return (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 + output_padding
