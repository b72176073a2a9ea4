"""The errors that NumPy raises where shapes do not fit, in words that say what it usually means."""

import ast
import linecache
import re
from collections.abc import Callable

Shape = tuple[int, ...]

RAISED = re.compile(
    r"(?P<where>.*?)(?:backward raised )?ValueError: (?P<said>.+) \((?P<file>.+), line (?P<line>\d+)\)"
)
SHAPE = r"\(([\d, ]*)\)"
LONGEST = 90  # characters of a line of somebody's file


def in_plain_words(fault: str) -> str:
    """The fault, which may be NumPy's words on shapes: then the line, the shapes, and what is probably wrong."""
    raised = RAISED.fullmatch(fault)
    if raised is None:
        return fault
    source = linecache.getline(raised["file"], int(raised["line"])).strip()
    for pattern, said in SAID:
        if found := re.search(pattern, raised["said"]):
            shown = source if len(source) <= LONGEST else f"{source[: LONGEST - 1]}…"
            code = f", `{shown}`" if shown else ""
            return f"{raised['where']}line {raised['line']}{code}: {said(found, source)}"
    return fault


def _shape(text: str) -> Shape:
    return tuple(int(size) for size in text.replace(" ", "").split(",") if size)


def _into_smaller(found: re.Match, source: str) -> str:
    """Something is added, in place, to an array that is smaller."""
    place, added = _shape(found[1]), _shape(found[2])
    what, how = _in_place(source)
    return f"{what} has shape {place}, what is {how} has {added}{_lost(place, added)}"


def _lost(place: Shape, added: Shape) -> str:
    """Over what to sum so that it fits, or ""."""
    fewer = len(added) - len(place)
    if fewer < 0 or any(p not in (1, a) for p, a in zip(place, added[fewer:], strict=True)):
        return ""
    if fewer:
        return ": sum over the samples, axis 0" if fewer == 1 else f": sum over the first {fewer} axes"
    axes = [str(k) for k, (p, a) in enumerate(zip(place, added, strict=True)) if p != a]
    return f": sum over axis {' and '.join(axes)}, with keepdims=True"


def _in_place(source: str) -> tuple[str, str]:
    """What a line changes in place, and the word for how."""
    try:
        (statement,) = ast.parse(source).body
    except (SyntaxError, ValueError):
        return "what is changed in place", "put there"
    if isinstance(statement, ast.AugAssign):
        words = {ast.Add: "added", ast.Sub: "subtracted"}
        return ast.unparse(statement.target), words.get(type(statement.op), "put there")
    return "what is changed in place", "put there"


def _elementwise(found: re.Match, source: str) -> str:
    shapes = [_shape(text) for text in re.findall(SHAPE, found[0])]
    what, how = _in_place(source)
    a, b = shapes[:2]
    if how != "put there" and len(shapes) == 3:
        head = f"{what} has shape {shapes[0]}, what is {how} has {b}"
    else:
        head = f"arrays of shapes {a} and {b} do not go together element by element"
    return head + _why(a, b)


def _into(found: re.Match, source: str) -> str:
    """A slice is assigned what does not fit."""
    given, place = _shape(found[1]), _shape(found[2])
    why = _lost(place, given) or _why(place, given)
    return f"an array of shape {given} does not fit into the place, of shape {place}{why}"


def _why(a: Shape, b: Shape) -> str:
    """What it usually means that these two meet."""
    if len(a) > 1 and a == b[::-1]:
        return ": one is the other transposed, so a .T is missing or too much"
    for large, small in ((a, b), (b, a)):
        if len(large) == len(small) + 1 and large[:-1] == small:
            kept = (*small, 1)
            return f": a sum over the last axis loses it, and keepdims=True keeps it, as {kept}"
        if len(large) > len(small) > 0 and large[: len(small)] == small:
            missing = "an axis" if len(large) - len(small) == 1 else f"{len(large) - len(small)} axes"
            return f": axes are matched from the last, so {small} needs {missing} of size 1 behind"
    if len(a) == len(b) == 1:
        return ": is a sum taken over the wrong axis?"
    return ": is the product @ meant?" if len(a) == len(b) == 2 else ": compare them axis by axis, from the last"


def _product(found: re.Match, source: str) -> str:
    """The sizes that a matrix product sums over."""
    second, axis, here, other = int(found[1]), int(found[2]), int(found[3]), int(found[4])
    if (second, axis) != (1, 0):
        return f"the sizes {here} and {other} of the two operands of @ must be equal"
    return (
        f"@ sums over the last axis of the left operand and the first of the right one, and these have sizes {other} "
        f"and {here}: is a .T missing or too much, or the order exchanged?"
    )


def _not_aligned(found: re.Match, source: str) -> str:
    a, b = _shape(found[1]), _shape(found[2])
    return (
        f"a product of shapes {a} and {b} sums over the last axis of the first and the first of the second, whose "
        "sizes differ: is a .T missing or too much, or the order exchanged?"
    )


SAID: tuple[tuple[str, Callable[[re.Match, str], str]], ...] = (
    (f"non-broadcastable output operand with shape {SHAPE} doesn't match the broadcast shape {SHAPE}", _into_smaller),
    (f"operands could not be broadcast together with shapes( {SHAPE})+", _elementwise),
    (f"could not broadcast input array from shape {SHAPE} into shape {SHAPE}", _into),
    (
        r"Input operand (\d) has a mismatch in its core dimension (\d), .*\(size (\d+) is different from (\d+)",
        _product,
    ),
    (f"shapes {SHAPE} and {SHAPE} not aligned", _not_aligned),
)
