"""What a value needs to be, said once: for a switch of the command line, a text, and for a file, JSON.

A kind is called with a text, as argparse does, and returns its value; `kind.check(value)` takes what a file says.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping
from sys import float_info

from scratchgen.files import shown

MOST = 2**31 - 1  # of anything that is counted: what C takes for a size everywhere


class Kind:
    """A kind of value. `form` says in words what it needs to be."""

    form: str
    most = float("inf")  # a number that is larger has a sentence of its own

    def fits(self, value) -> bool:
        raise NotImplementedError

    def read(self, text: str):
        """The value of a text. ValueError where it has none."""
        raise NotImplementedError

    def check(self, value) -> None:
        """ValueError unless the value is of this kind; it reads on after the value's name."""
        if not self.fits(value):
            large = _whole(value) and value > self.most
            raise ValueError(f"is {shown(value)}, needs {f'at most {self.most:,}' if large else self.form}")

    def switch(self) -> dict:
        """What argparse needs to know of an option of this kind."""
        return {"type": self}

    def __call__(self, text: str):
        try:
            value = self.read(text)
        except ValueError:
            value = self.most + 1 if text.strip().isdecimal() else None  # of more digits than Python reads
        if self.fits(value):
            return value
        if _whole(value) and value > self.most:
            raise argparse.ArgumentTypeError(f"{shown(text)} is too large: {self.most:,} is the most")
        raise argparse.ArgumentTypeError(f"{shown(text)} is not {self.form}")


def _whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class Whole(Kind):
    """A whole number from `least` to `most`."""

    read = int

    def __init__(self, least: int, most: int = MOST):
        self.least, self.most = least, most
        self.form = f"a whole number of at least {least}"

    def fits(self, value):
        return _whole(value) and self.least <= value <= self.most


class Real(Kind):
    """A number that `within` says yes to, in words `form`; never infinite, whatever that says."""

    read = float

    def __init__(self, within: Callable[[float], bool], form: str):
        self.within, self.form = within, form

    def fits(self, value):
        number = _whole(value) or isinstance(value, float)
        return number and abs(value) <= float_info.max and self.within(value)  # whole numbers reach beyond any float


class Several(Kind):
    """A list of values of one kind, between commas on the command line; `count` of them, or one and more."""

    def __init__(self, kind: Kind, form: str, count: int | None = None):
        self.kind, self.form, self.count = kind, form, count

    def read(self, text):
        return [self.kind.read(part) for part in text.split(",")]

    def fits(self, value):
        many = isinstance(value, list) and (len(value) == self.count if self.count else value)
        return bool(many) and all(map(self.kind.fits, value))


class ImageSize(Kind):
    """N for N×N pixels, [H, W] for others; on the command line N or HxW."""

    form = "a size in pixels, N for squares or HEIGHTxWIDTH, as in 64 or 32x64"
    most = MOST

    def read(self, text):
        sides = [int(side) for side in text.lower().replace("×", "x").split("x")]
        return sides[0] if len(sides) == 1 or (sides[0] == sides[-1] and len(sides) == 2) else sides

    def fits(self, value):
        side = Whole(1)
        return side.fits(value) or (isinstance(value, list) and len(value) == 2 and all(map(side.fits, value)))


class Choice(Kind):
    """One of a few values."""

    def __init__(self, choices: Iterable):
        self.choices = tuple(choices)
        self.form = f"one of {', '.join(map(str, self.choices))}"

    def switch(self):
        return {"type": type(self.choices[0]), "choices": self.choices}

    def fits(self, value):
        return any(type(value) is type(choice) and value == choice for choice in self.choices)


class Text(Kind):
    """Any text."""

    form = "a text"
    read = str

    def fits(self, value):
        return isinstance(value, str)


class Flag(Kind):
    """Yes or no: a switch that is there or not."""

    form = "true or false"

    def switch(self):
        return {"action": "store_true"}

    def fits(self, value):
        return isinstance(value, bool)


class Pairs(Kind):
    """A list of pairs of texts."""

    form = "a list of pairs of texts"

    def fits(self, value):
        return isinstance(value, list) and all(
            isinstance(row, list) and len(row) == 2 and all(isinstance(text, str) for text in row) for row in value
        )


text, flag = Text(), Flag()


def check(content, schema: Mapping[str, Kind], required: Iterable[str] = ()) -> None:
    """ValueError unless the content, as JSON has it, is an object in which each key of the schema is of its kind."""
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    for key in required:
        if key not in content:
            raise ValueError(f"it lacks {key}")
    for key, kind in schema.items():
        if key in content:
            try:
                kind.check(content[key])
            except ValueError as error:
                raise ValueError(f"{key} {error}") from None
