"""What the installed CuPy has: every public function's parameters, every method's, every ufunc's numbers.

They are read from CuPy itself, which needs no GPU for that. Where it is not installed, NumPy's take their place: the
stand-in works, but takes what NumPy takes, and the tests that compare it with CuPy are skipped. A parameter is kept
as one string: "a", "axis=None", "*args", "**kwargs", and "/" and "*" where positional-only ends and keyword-only
begins.
"""

import inspect
import re
import types
import warnings
from functools import cache

import numpy as np
import pytest

try:
    with warnings.catch_warnings(action="ignore"):  # of CuPy's own
        import cupy
        import cupyx
except ImportError:
    cupy = None

needs_cupy = pytest.mark.skipif(
    cupy is None, reason="needs CuPy's own signatures to compare with: pip install '.[gpu-proof]'"
)


def words(text: str) -> frozenset:
    """A set of names, from a text of them."""
    return frozenset(text.split())


@cache
def table() -> dict:
    """version, functions (linalg's too, as "linalg.norm"), ufuncs, others, and where CuPy is, classes and modules."""
    library = cupy or np
    found = {"version": library.__version__, "ufuncs": {}, "functions": {}, "others": []}
    for name in public(library):
        value = getattr(library, name)
        if isinstance(value, library.ufunc):
            found["ufuncs"][name] = [getattr(value, "name", name), value.nin, value.nout]
        elif (parameters := parameters_of(value)) is not None and not isinstance(value, type):
            found["functions"][name] = parameters
        else:
            found["others"].append(name)
    for name in public(library.linalg):
        value = getattr(library.linalg, name)
        if not isinstance(value, type) and (parameters := parameters_of(value)) is not None:
            found["functions"][f"linalg.{name}"] = parameters
    if cupy:
        found["classes"] = {
            kind.__name__: members(kind) for kind in (cupy.ndarray, cupy.cuda.Stream, cupy.cuda.Event)
        }
        found["modules"] = {
            name: set(public(module))
            for name, module in (("cupy.cuda", cupy.cuda), ("cupy.cuda.runtime", cupy.cuda.runtime), ("cupyx", cupyx))
        }
    return found


def method(name: str) -> list[str]:
    """The parameters of a method of ndarray, which is a function, too."""
    return table()["classes"]["ndarray"][name] if cupy else parameters_of(getattr(np, name))[1:]


def public(module) -> list[str]:
    return [name for name in dir(module) if not name.startswith("_")]


def members(kind: type) -> dict:
    """Every attribute of a class: the parameters of a method, null for what is none or does not tell."""
    return {
        name: parameters_of(getattr(kind, name), bound=True)
        for name in dir(kind)
        if name not in dir(object) and not name.startswith("__pyx")
    }


def parameters_of(function, bound: bool = False) -> list[str] | None:
    """The parameters without annotations, or None where they cannot be told; without self for a method."""
    if isinstance(function, types.ModuleType) or not callable(function):
        return None
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        return parameters_of_docstring(function)
    written, kind = [], None
    for parameter in parameters[bound and parameters[0].name == "self" :]:
        if kind == parameter.POSITIONAL_ONLY != parameter.kind:
            written.append("/")
        if parameter.kind == parameter.KEYWORD_ONLY and kind not in (
            parameter.KEYWORD_ONLY,
            parameter.VAR_POSITIONAL,
        ):
            written.append("*")
        kind = parameter.kind
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(kind, "")
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        written.append(stars + parameter.name + default)
    if kind == inspect.Parameter.POSITIONAL_ONLY:
        written.append("/")
    return written


def parameters_of_docstring(function) -> list[str] | None:
    """A compiled method says its parameters in the first line of its docstring, each perhaps with a C type."""
    line = (getattr(function, "__doc__", None) or "").partition("\n")[0]
    if not (found := re.search(r"\w\((.*)\)( ->.*)?$", line)):
        return None
    parts = [part.strip() for part in found[1].split(", ") if part.strip()]
    names = [re.sub(r"^[\w\[\]]+ (?=\w)", "", part) for part in parts]
    return [name for name in names if name != "self"]
