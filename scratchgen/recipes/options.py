"""Values of command-line options: each function turns a text into a value, or says what is wrong with it."""

import argparse
from pathlib import Path

from scratchgen.backend.threads import MOST as MOST_THREADS
from scratchgen.paths import as_path

MOST = 2**31 - 1  # of anything that is counted: what C takes for a size everywhere
MOST_SEED = 2**128 - 1  # the bits of entropy that NumPy's own seeds have


def positive(text: str) -> int:
    return _number(int, text, lambda n: n >= 1, "a whole number of at least 1", most=MOST)


def threads(text: str) -> int:
    return _number(int, text, lambda n: n >= 1, "a whole number of at least 1", most=MOST_THREADS)


def seed(text: str) -> int:
    return _number(int, text, lambda n: n >= 0, "a whole number of at least 0", most=MOST_SEED)


def rate(text: str) -> float:
    return _number(float, text, lambda x: 0 < x < float("inf"), "a positive number")


def non_negative(text: str) -> float:
    return _number(float, text, lambda x: 0 <= x < float("inf"), "a number of at least 0")


def fraction(text: str) -> float:
    return _number(float, text, lambda x: 0 <= x < 1, "a number of at least 0 and below 1")


def sizes(text: str) -> list[int]:
    """Whole numbers between commas."""
    form = "whole numbers of at least 1, as in 512,128"
    return [_number(int, part, lambda n: n >= 1, form, most=MOST) for part in text.split(",")]


def image_size(text: str) -> int | list[int]:
    """N for squares, or H×W as a list, which is how JSON gives it back."""
    form = "a size in pixels, N for squares or HEIGHTxWIDTH, as in 64 or 32x64"
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) > 2:
        raise argparse.ArgumentTypeError(f"{_short(text)} is not {form}")
    pixels = [_number(int, part, lambda n: n >= 1, form, most=MOST, whole=text) for part in parts]
    return pixels[0] if len(set(pixels)) == 1 else pixels


def path(text: str) -> Path:
    try:
        return as_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _number(kind, text, fits, form, *, most=None, whole=None):
    whole = text if whole is None else whole
    try:
        value = kind(text)
    except ValueError:
        more = text.strip().isdecimal()  # of more digits than Python reads
        value = float("inf") if more and most is not None else None
    if value is None or not fits(value):
        raise argparse.ArgumentTypeError(f"{_short(whole)} is not {form}")
    if most is not None and value > most:
        raise argparse.ArgumentTypeError(f"{_short(whole)} is too large: {most:,} is the most")
    return value


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
