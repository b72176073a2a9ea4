"""What a value needs to be, said once: for a text, as the command line has it, and for what JSON of a file says."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from sys import float_info
from typing import Any, TypeGuard

from scratchgen.files import shown

MOST = 2**31 - 1  # of anything that is counted: what C takes for a size everywhere


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of value: `form` says in words what `fits`, and `read` makes a value of a text, or raises ValueError."""

    form: str
    fits: Callable[[Any], bool]
    read: Callable[[str], Any] = str
    most: float = float("inf")  # a number that is larger has a message of its own
    choices: tuple = ()  # all values, where they are few

    def parse(self, text: str) -> Any:
        """The value of a text. ValueError where it has none of this kind."""
        try:
            value = self.read(text)
        except ValueError:
            value = self.most + 1 if text.strip().isdecimal() else None  # of more digits than Python reads
        if self.fits(value):
            return value
        if _is_whole(value) and value > self.most:
            raise ValueError(f"{shown(text)} is too large: {self.most:,} is the most")
        raise ValueError(f"{shown(text)} is not {self.form}")

    def check(self, value: object) -> None:
        """ValueError unless the value is of this kind; the message continues the name of the value."""
        if not self.fits(value):
            too_large = _is_whole(value) and value > self.most
            raise ValueError(f"is {shown(value)}, needs {f'at most {self.most:,}' if too_large else self.form}")


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def whole(least: int, most: int = MOST) -> Kind:
    """A whole number from `least` to `most`."""
    form = f"a whole number of at least {least}"
    return Kind(form, lambda value: _is_whole(value) and least <= value <= most, int, most)


def real(within: Callable[[float], bool], form: str) -> Kind:
    """A number that `within` says yes to, in words `form`; never infinite, whatever that says."""

    def fits(value: Any) -> bool:
        number = _is_whole(value) or isinstance(value, float)
        return number and abs(value) <= float_info.max and within(value)  # whole numbers reach beyond any float

    return Kind(form, fits, float)


def several(kind: Kind, form: str, count: int | None = None) -> Kind:
    """A list of values of one kind, between commas in a text; `count` of them, or one and more."""

    def fits(value: Any) -> bool:
        right = isinstance(value, list) and (len(value) == count if count else len(value) > 0)
        return right and all(map(kind.fits, value))

    return Kind(form, fits, lambda text: [kind.read(part) for part in text.split(",")])


def choice(choices: Iterable) -> Kind:
    """One of a few values of one type."""
    known = tuple(choices)

    def fits(value: Any) -> bool:
        return any(type(value) is type(one) and value == one for one in known)

    return Kind(f"one of {', '.join(map(str, known))}", fits, type(known[0]), choices=known)


text = Kind("a text", lambda value: isinstance(value, str))
flag = Kind("true or false", lambda value: isinstance(value, bool))


def check(content: object, schema: Mapping[str, Kind], required: Collection[str] = ()) -> None:
    """ValueError unless the content, as JSON has it, is an object in which each key of the schema is of its kind."""
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    for key in required:
        if key not in content:
            raise ValueError(f"it lacks {key}")
    for key, kind in schema.items():
        if key in content:
            try:
                kind.check(content[key])
            except ValueError as error:
                raise ValueError(f"{key} {error}") from None
