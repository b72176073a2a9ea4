"""A layer or function out of somebody's own file, and inputs to try it on."""

import ast
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from scratchgen.gradcheck.subject import Subject, told
from scratchgen.paths import as_path

WIDTHS = (4, 3, 1, 2, 8, 10, 16, 784)  # tried where no parameter tells how wide an input is


class CannotCheck(ValueError):
    """The target cannot be loaded, built or called; the message says why and what to write instead."""


def load(spec: str, rng: np.random.Generator):
    """The object that "path/to/file.py:Name" or "path/to/file.py:Name(3, stride=2)" names.

    A Layer class is built with the arguments given (and rng, where it takes one), a function without arguments is
    called for the layer that it returns. Raises CannotCheck.
    """
    path, _, expression = spec.rpartition(":")
    if not path or not expression:
        raise CannotCheck(f"{spec!r} names no layer: write it as path/to/file.py:MyLayer")
    module = _import(as_path(path))
    name, args, options = _parse(expression)
    if not hasattr(module, name):
        mine = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__]
        raise CannotCheck(f"{path} has no {name}" + (f"; it has {', '.join(mine)}" if mine else ""))
    found = getattr(module, name)
    called = expression != name
    if inspect.isclass(found) or called or (inspect.isfunction(found) and not _required(found)):
        return _build(path, name, found, args, options, rng)
    return found


def trial_inputs(target, draw: Callable) -> Iterator[tuple[str, tuple | None, str]]:
    """For a small batch of vectors and one of images: (which, inputs that it accepts, "") or (which, None, why).

    `draw(shape)` makes the inputs. Widths are those that the parameters' shapes suggest, then some usual ones.
    """
    try:
        subject = Subject(target)
    except Exception as error:
        raise CannotCheck(f"it cannot be checked: {type(error).__name__}: {error}") from error
    count = max(1, len(_required(subject.function)))
    widths = dict.fromkeys([n for p in subject.parameters.values() for n in p.value.shape] + list(WIDTHS))
    for which, batch in (("vectors", (5,)), ("images", (3, 6, 5))):
        why = ""
        for width in widths:
            inputs = tuple(draw((*batch, width)) for _ in range(count))
            try:
                with np.errstate(all="ignore"):
                    subject.evaluate(list(inputs))
            except Exception as error:
                why = why or told(error)
                continue
            yield which, inputs, ""
            break
        else:
            yield which, None, why


def _import(path: Path):
    if not path.is_file():
        raise CannotCheck(f"{path} is not a file")
    spec = importlib.util.spec_from_file_location(f"checked_{path.stem}", path.resolve())
    if spec is None:
        raise CannotCheck(f"{path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # so that it can import its neighbours
    sys.modules[spec.name] = module  # dataclasses and pickles look their module up
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise CannotCheck(f"{path} does not load: SyntaxError in line {error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = [f.lineno for f in frames if f.filename == spec.origin][-1]
        raise CannotCheck(f"{path} does not load: {type(error).__name__} in line {line}: {error}") from error
    finally:
        sys.path.pop(0)
    return module


def _parse(expression: str) -> tuple[str, list, dict]:
    """Name, arguments and keyword arguments of `Name` or `Name(3, stride=2)`; the arguments are literals."""
    try:
        tree = ast.parse(expression, mode="eval").body
        if isinstance(tree, ast.Name):
            return tree.id, [], {}
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and all(k.arg for k in tree.keywords):
            options = {k.arg: ast.literal_eval(k.value) for k in tree.keywords}
            return tree.func.id, [ast.literal_eval(a) for a in tree.args], options
    except (SyntaxError, ValueError):
        pass
    raise CannotCheck(f"{expression!r} is not a name, or a call with plain values as in MyLayer(3, stride=2)")


def _build(path, name, factory, args, options, rng):
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        raise CannotCheck(f"{name} in {path} cannot be called, it is a {type(factory).__name__}") from None
    if "rng" in signature.parameters and "rng" not in options:
        options["rng"] = rng
    try:
        signature.bind(*args, **options)
    except TypeError as error:
        needs = ", ".join(n for n in signature.parameters if n != "rng")
        raise CannotCheck(
            f"{name} takes ({needs}): {error}; write {path}:{name}(...) with values for them"
        ) from error
    try:
        return factory(*args, **options)
    except Exception as error:
        raise CannotCheck(f"{name} cannot be built: {type(error).__name__}: {error}") from error


def _required(function) -> list[str]:
    """The positional parameters without a default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ["x"]
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in kinds and p.default is p.empty]
