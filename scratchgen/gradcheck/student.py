"""The check of a layer or function out of somebody's own file, on inputs that are given or found."""

import ast
import importlib.util
import inspect
import itertools
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from scratchgen.gradcheck.arrays import is_float, places
from scratchgen.gradcheck.check import check
from scratchgen.gradcheck.guard import Left, guarded, told, words
from scratchgen.gradcheck.report import Report
from scratchgen.gradcheck.styles import NoPair, required
from scratchgen.gradcheck.subject import Subject

WIDTHS = (4, 3, 1, 2, 8, 10, 16, 784)  # tried where no parameter tells how wide an input is
WEIGHTS = re.compile(r"(w|weights?|kernel|gamma|theta|bias|beta|b)\d*$", re.IGNORECASE)  # arguments that are no batch
FLAGS = ("training", "train", "is_training", "train_flg", "training_mode")  # arguments that are simply True


class CannotCheck(ValueError):
    """The target cannot be loaded, built or called; the message says why and what to write instead."""


@dataclass(frozen=True)
class Form:
    """An input: its shape, and `below` for integers from 0, 2 for truth values, None for floats."""

    shape: tuple[int, ...]
    below: int | None = None
    truth: bool = False

    def __str__(self):
        kind = "" if self.below is None else f" of integers below {self.below}"
        return "×".join(map(str, self.shape)) + (" of truth values" if self.truth else kind)


@dataclass(frozen=True)
class Trial:
    """Inputs for a target, and what they are ("vectors"); or None, and why none were accepted."""

    which: str
    inputs: tuple | None
    why: str = ""


def check_file(spec: str, *, seed: int, tolerance: float, forms, span, contract_too: bool, emit: Callable) -> None:
    """Check what `spec` names, on inputs of the `forms` given, or on those that it accepts (`trial_inputs`).

    `emit` is called with report=, text=, verdict= for each kind of inputs, as soon as there is something to tell, and
    again when there is more; with cannot=, why= for what could not be checked, where cannot="" is for all of it.
    """
    mine = _numpy()
    try:
        target = load(spec, np.random.default_rng(seed))
        _demand_same(mine)
        rng = np.random.default_rng([seed, 1])
        if forms:
            trials = [Trial("the inputs given", tuple(drawn(Form(*form), rng, span) for form in forms))]
        else:
            trials = _accepted(target, spec, rng, span)
        for trial in trials:
            try:
                _check_on(target, trial, not forms, contract_too, emit, rng=[seed, 2], tolerance=tolerance)
            except Exception as error:
                hint = "; --input-range and --input-shape choose the inputs" if isinstance(error, ValueError) else ""
                emit(cannot=trial.which, why=f"it cannot be checked on {_shapes(trial.inputs)}: {told(error)}{hint}")
        _demand_same(mine)
    except CannotCheck as error:
        emit(cannot="", why=str(error))


def _check_on(target, trial: Trial, chosen: bool, contract_too: bool, emit, *, rng, **settings) -> None:
    def show(report: Report) -> None:
        report.name = f"{name} on {_shapes(trial.inputs)}"
        emit(report=trial.which, text=str(report), verdict=report.verdict, advice=_advice(report, trial, chosen))

    name = Subject(target).name
    rng = np.random.default_rng(rng)
    show(check(target, *trial.inputs, rng=rng, contract_too=contract_too, on_progress=show, **settings))


def _advice(report: Report, trial: Trial, chosen: bool) -> str:
    """What to do where forward takes inputs that were chosen here, and backward does not."""
    refused = any(fault.startswith("backward raised") for fault in report.faults)
    if not (chosen and (refused or any("backward gave shape" in t.hint for t in report.tensors))):
        return ""
    return (
        f"forward takes {trial.which}, backward does not. If the layer is not made for {trial.which}, let forward "
        "refuse them, as self.check_input(x, 'N', 3) does in a Layer, or say what it is made for: --input-shape 5,3"
    )


def _shapes(inputs) -> str:
    """5×3, 5×3 of integers"""
    kinds = {"i": " of integers", "b": " of truth values"}
    return ", ".join("×".join(map(str, x.shape)) + kinds.get(x.dtype.kind, "") for x in inputs if x is not True)


def _numpy() -> dict[str, object]:
    """The functions that the check relies on, by name."""
    return {f"{m.__name__}.{n}": f for m in (np, np.linalg) for n, f in vars(m).items() if callable(f)}


def _demand_same(before: dict[str, object]) -> None:
    """Raises CannotCheck where the file has put others in their places."""
    now = _numpy()
    changed = [name for name, function in before.items() if now.get(name) is not function]
    if changed:
        raise CannotCheck(
            f"the file replaces {', '.join(changed)}, which the check relies on: give yours another name"
        )


# --- the target ---


def load(spec: str, rng: np.random.Generator):
    """The object that "path/to/file.py:Name" or "path/to/file.py:Name(3, stride=2)" names.

    A Layer class is built with the arguments given (and rng, where it takes one). A function without arguments is
    called for the layer that it returns; of one that is called with some of its arguments by name, the others are the
    inputs. Raises CannotCheck.
    """
    path, expression = parted(spec)
    name, args, options = _parse(expression)
    module = _import(Path(path))
    if not hasattr(module, name):
        mine = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__]
        raise CannotCheck(f"{path} has no {name}" + (f"; it has {', '.join(mine)}" if mine else ""))
    found = getattr(module, name)
    called = expression != name
    if inspect.isclass(found) or called or (inspect.isfunction(found) and not required(found)):
        return _build(path, name, found, args, options, rng)
    return found


def parted(spec: str) -> tuple[str, str]:
    """The file and the expression of "path/to/file.py:Name(...)". Raises CannotCheck."""
    path, found, expression = spec.partition(".py:")
    path = path + ".py" if found else spec.rpartition(":")[0]
    expression = expression if found else spec.rpartition(":")[2]
    if not path or not expression:
        raise CannotCheck(f"{spec!r} names no layer: write it as path/to/file.py:MyLayer")
    return path, expression


def _import(path: Path):
    if not path.is_file():
        raise CannotCheck(f"{path} is not a file")
    spec = importlib.util.spec_from_file_location(f"checked_{path.stem}", path.resolve())
    if spec is None:
        raise CannotCheck(f"{path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # so that it can import its neighbours
    sys.modules[spec.name] = module  # dataclasses and pickles look their module up
    try:
        guarded("loading", spec.loader.exec_module, module)
    except SyntaxError as error:
        raise CannotCheck(f"{path} does not load: SyntaxError in line {error.lineno}: {error.msg}") from error
    except Exception as error:
        raised = error.__cause__ if isinstance(error, Left) else error
        lines = [f.lineno for f in traceback.extract_tb(raised.__traceback__) if f.filename == spec.origin]
        where = f" in line {lines[-1]}" if lines else ""
        raise CannotCheck(f"{path} does not load: {type(raised).__name__}{where}: {words(raised)}") from error
    finally:
        sys.path.remove(folder)
        sys.path.append(folder)  # for what it imports later; without hiding anybody else's modules
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
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    raise CannotCheck(f"{expression[:80]!r} is not a name, or a call with plain values as in MyLayer(3, stride=2)")


def _build(path, name, factory, args, options, rng):
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        raise CannotCheck(f"{name} in {path} cannot be called, it is a {type(factory).__name__}") from None
    if inspect.isfunction(factory) and options and not args and not set(required(factory)) <= {*options, "rng"}:
        return partial(factory, **options)
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
        return guarded("building", factory, *args, **options)
    except Exception as error:
        raise CannotCheck(f"{name} cannot be built: {told(error)}") from error


# --- inputs ---


def drawn(form: Form, rng: np.random.Generator, span: tuple[float, float] | None = None) -> np.ndarray:
    """An input of this form; floats are normal numbers, or even ones in a span."""
    if form.truth:
        return rng.random(form.shape) < 0.7
    if form.below is not None:
        return rng.integers(0, form.below, form.shape)
    return rng.standard_normal(form.shape) if span is None else rng.uniform(*span, form.shape)


def _accepted(target, spec, rng, span) -> list[Trial]:
    """The inputs that the target accepts; CannotCheck where there are none."""
    tried = trial_inputs(target, rng, span)
    accepted = [trial for trial in tried if trial.inputs is not None]
    if accepted:
        return accepted
    names = required(_subject(target).function)
    each = f", once for each of ({', '.join(names)})" if len(names) > 1 else ""
    raise CannotCheck(
        f"{spec} took none of the inputs that were tried ({', '.join(trial.which for trial in tried)}): "
        f"{next(trial.why for trial in tried)}. If that is for their shape, give --input-shape{each}"
    )


def trial_inputs(target, rng: np.random.Generator, span: tuple[float, float] | None = None) -> list[Trial]:
    """Inputs that the target accepts: a small batch of vectors and one of images; where it takes neither, the first
    of other forms, integers last. Widths are those that the shapes of its parameters suggest, then some usual ones.

    Several inputs are taken if the gradients fit them too. Raises CannotCheck where it is not for the inputs.
    """
    tried = [_trial(target, which, forms, rng, span) for which, forms in _forms(target, USUAL)]
    if all(trial.inputs is None for trial in tried):
        for which, forms in _forms(target, OTHERS):
            tried.append(_trial(target, which, forms, rng, span))
            if tried[-1].inputs is not None:
                break
    return tried


def _trial(target, which, candidates, rng, span) -> Trial:
    """The first of the candidates that the target accepts. Several inputs may be accepted by mistake, broadcast, so
    that of these the first is taken whose gradients have their shapes."""
    subject, first, why = _subject(target), None, ""
    for forms in candidates:
        inputs = tuple(form if form is True else drawn(form, rng, span) for form in forms)
        try:
            with subject.in_float64():
                y, backward = subject.evaluate(inputs)
        except NoPair as error:
            raise CannotCheck(str(error)) from error
        except Exception as error:
            why = why or told(error)
            continue
        first = first or inputs
        if len(forms) == 1 or _fit(subject, y, backward, inputs):
            return Trial(which, inputs)
    return Trial(which, first, why)


def _fit(subject, y, backward, inputs) -> bool:
    """Whether the gradients have the shapes of the inputs."""
    try:
        with subject.in_float64():
            dxs = subject.pull(backward, np.ones(y.shape))
    except Exception:  # told by the check, if there are no other inputs
        return False
    return all(dx is None or np.shape(dx) == np.shape(x) for dx, x in zip(dxs, inputs, strict=False) if is_float(x))


def _subject(target) -> Subject:
    try:
        return Subject(target)
    except Exception as error:
        raise CannotCheck(f"it cannot be checked: {told(error)}") from error


# The shapes of a batch of width w. Integers are told by the number of axes alone.
USUAL = {"vectors": lambda w: (5, w), "images": lambda w: (3, 6, 5, w)}
OTHERS = {
    "sequences": lambda w: (3, 6, w),
    "images with their channels first": lambda w: (3, w, 6, 5),
    "images of 28×28": lambda w: (2, 28, 28, w),
    "images of 28×28 with their channels first": lambda w: (2, w, 28, 28),
    "columns": lambda w: (w, 5),
    "a column": lambda w: (w, 1),
    "a vector": lambda w: (w,),
    "integers": None,
}


def _forms(target, kinds) -> Iterator[tuple[str, Iterator]]:
    """For each kind its name and the candidates: for every one a Form, or True, for each input."""
    subject = _subject(target)
    names = required(subject.function) or ["x"]
    held = [value for _, value in places(subject.module)] if subject.module is not None else []
    arrays = [p.value for p in subject.parameters.values()] + [a for a in held if isinstance(a, np.ndarray)]
    arrays += [p.value for p in subject.closed_over.values()]
    known = list(dict.fromkeys(n for a in arrays for n in a.shape if n))
    rows = min((len(a) for a in arrays if a.ndim > 1), default=WIDTHS[0])  # of the tables that ids may point into
    for which, shape in kinds.items():
        yield which, _candidates(names, shape, known, rows)


def _candidates(names, shape, known, rows) -> Iterator[tuple]:
    widths = list(dict.fromkeys((*known, *WIDTHS)))
    batch = [n for n in names if n not in FLAGS]

    def arranged(forms):
        forms = iter(forms)
        return tuple(True if n in FLAGS else next(forms) for n in names)

    if shape is None:  # integers: of all inputs, or labels beside vectors, or ids beside them
        for ids in ((5,), (3, 6)):
            yield arranged([Form(ids, rows)] * len(batch))
            for w in widths if len(batch) > 1 else ():
                yield arranged([Form((5, w))] * (len(batch) - 1) + [Form(ids, w)])
                yield arranged([Form(ids, rows)] + [Form((5, w))] * (len(batch) - 1))
        return
    if any(map(WEIGHTS.match, batch[1:])) and batch[0] not in ("a", "w"):
        for w in widths:
            for of_weight, of_bias, x in (((w, 3), (3,), shape(w)), ((w,), (w,), shape(w)), ((3, w), (3, 1), (w, 5))):
                sizes = {"w": of_weight, "k": of_weight, "b": of_bias, "g": (w,), "t": (w,)}
                yield arranged(
                    Form(x) if not WEIGHTS.match(n) else Form((w,) if n == "beta" else sizes[n[0].lower()])
                    for n in batch
                )
        return
    for w in widths:
        yield arranged([Form(shape(w))] * len(batch))
        if any("mask" in n for n in batch):
            yield arranged(Form(shape(w), truth="mask" in n) for n in batch)
    if len(batch) > 1:  # (x, h) of a cell: each width may be its own
        for each in itertools.product(known[:4], repeat=len(batch)):
            yield arranged(Form(shape(w)) for w in each)
