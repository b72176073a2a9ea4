"""Axes, indices and places, as a sentence names them."""

from collections.abc import Sequence


def axes_named(axes: Sequence[int]) -> str:
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {', '.join(map(str, axes))}"


def indices_named(hit: Sequence[int]) -> str:
    """The first six of them."""
    more = " …" if len(hit) > 6 else ""
    return f"index {hit[0]}" if len(hit) == 1 else f"indices {', '.join(map(str, hit[:6]))}{more}"


def places_named(n: int) -> str:
    return "one place" if n == 1 else f"{n} places"
