"""The table of what the real CuPy has: every public function's parameters, every method's, every ufunc's numbers.

`python tests/standin/signatures.py` writes signatures.json beside it; run it where CuPy is installed, with or without
a GPU, after an upgrade. A parameter is kept as one string: "a", "axis=None", "*args", "**kwargs", and "/" and "*"
where positional-only ends and keyword-only begins.
"""

import inspect
import json
import re
import types
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("signatures.json")


@cache
def table() -> dict:
    """The table as it was last written."""
    return json.loads(TABLE.read_text())


def words(text: str) -> frozenset:
    """A set of names, from a text of them."""
    return frozenset(text.split())


def read() -> dict:
    """The table read from the CuPy that is installed."""
    import cupy
    import cupyx

    found = {"version": cupy.__version__, "ufuncs": {}, "functions": {}, "others": []}
    for name in public(cupy):
        value = getattr(cupy, name)
        if isinstance(value, cupy.ufunc):
            found["ufuncs"][name] = [value.name, value.nin, value.nout]
        elif (parameters := parameters_of(value)) is not None and not isinstance(value, type):
            found["functions"][name] = parameters
        else:
            found["others"].append(name)
    found["functions"] |= {
        f"linalg.{name}": parameters
        for name in public(cupy.linalg)
        if not isinstance(getattr(cupy.linalg, name), type)
        and (parameters := parameters_of(getattr(cupy.linalg, name))) is not None
    }
    found["classes"] = {
        f"{kind.__module__}.{kind.__name__}": members(kind) | {"__init__": constructor}
        for kind, constructor in (
            (cupy.ndarray, ["shape", "dtype=float", "memptr=None", "strides=None", "order='C'"]),
            (cupy.RawKernel, parameters_of_raw_kernel()),
            (cupy.RawModule, parameters_of_raw_module()),
            (cupy.cuda.Stream, parameters_of(cupy.cuda.Stream)),
            (cupy.cuda.Event, parameters_of(cupy.cuda.Event)),
            (cupy.cuda.Device, ["device=None"]),
            (cupy.cuda.MemoryPool, ["allocator=None"]),
        )
    }
    found["modules"] = {
        name: {member: parameters_of(getattr(module, member)) for member in public(module) if member[:4] != "cuda"}
        for name, module in (("cupy.cuda", cupy.cuda), ("cupy.cuda.runtime", cupy.cuda.runtime), ("cupyx", cupyx))
    }
    found["private"] = sorted(name for name in ("set_compute_type", "get_compute_type") if hasattr(cupy._core, name))
    return found


def parameters_of_raw_kernel():
    return ["code", "name", "options=()", "backend='nvrtc'", "*", *RAW_KEYWORDS]


def parameters_of_raw_module():
    return ["*", "code=None", "path=None", "options=()", "backend='nvrtc'", *RAW_KEYWORDS, "name_expressions=None"]


RAW_KEYWORDS = ["translate_cucomplex=False", "enable_cooperative_groups=False", "jitify=None"]


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


def write():
    """Read the installed CuPy into the table."""
    TABLE.write_text(json.dumps(read(), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    write()
