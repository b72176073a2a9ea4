"""The check of a layer or function out of somebody's own file, on inputs that are given or found."""

import ast
import builtins
import codecs
import difflib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from scratchgen.gradcheck.arrays import is_float
from scratchgen.gradcheck.check import check
from scratchgen.gradcheck.guard import Exited, described, guarded, message, shortened
from scratchgen.gradcheck.learned import moved
from scratchgen.gradcheck.objective import ObjectiveReport, objective
from scratchgen.gradcheck.objective.batch import GRADIENTS
from scratchgen.gradcheck.objective.specimen import LOSSES, specimen_of
from scratchgen.gradcheck.report import Report
from scratchgen.gradcheck.styles import required
from scratchgen.gradcheck.subject import Subject
from scratchgen.gradcheck.trials import CannotCheck, Form, Span, Trial, has_matrix, trials
from scratchgen.layers.layer import Layer
from scratchgen.paths import as_path

PASSED_OVER = "skipped"  # beside the verdicts of a report
CONSTANT = re.compile("mask|target|label|true|noise|eps|drop", re.IGNORECASE)  # arguments that take no gradient
BUILTINS = "abs all any bool float int isinstance len list max min sum tuple zip".split()  # noqa: SIM905
REFUSE = "let forward refuse them, as self.check_input(x, 'N', 3) does in a Layer"


def check_file(
    spec: str, *, seed: int, tolerance: float, forms: list | None, span: Span, contract_too: bool, emit: Callable
) -> None:
    """Check what `spec` names, on inputs of the `forms` given, or on those that it takes (see `trials`).

    `emit` is called with report=, text=, verdict= for each kind of inputs, as soon as there is something to tell, and
    again when there is more; with cannot=, why= where the check could not be made: on what inputs, or "" for none.
    """
    mine = relied_on()
    try:
        target = load(spec, np.random.default_rng(seed))
        demand_same(mine)
        rng = np.random.default_rng([seed, 1])
        losses = [] if forms else _on_batches(target, rng, span)
        if not losses and (names := losses_of(target)):
            hint = f"; with --input-shape name one of them, as {spec}.{names[0]}" if forms else ""
            raise CannotCheck(f"{spec} is a model, of which {' and '.join(names)} can be checked{hint}")
        for loss, trial in losses:
            _check_loss(loss, trial, contract_too, emit, np.random.default_rng([seed, 2]), tolerance)
        if losses:
            demand_same(mine)
            return
        taken = [_given(forms, rng, span)] if forms else trials(target, rng, span)
        options = {"tolerance": tolerance, "parameters_only": _is_loss(target)}
        # A matrix product takes images, too; the backward of a layer of vectors need not.
        fitting = [trial for trial in taken if trial.fits]
        only_fitting = 0 < len(fitting) < len(taken) and has_matrix(target, fitting[0])
        for trial in taken:
            if only_fitting and not trial.fits:
                emit(report=trial.which, text=_passed_over(target, trial), verdict=PASSED_OVER)
                continue
            try:
                rng = np.random.default_rng([seed, 2])
                _check_on(target, trial, bool(fitting), contract_too, emit, rng, **options)
            except Exception as error:
                hint = "; --input-range and --input-shape choose the inputs" if isinstance(error, ValueError) else ""
                emit(cannot=_shapes(trial.inputs), why=described(error) + hint)
        demand_same(mine)
    except CannotCheck as error:
        emit(cannot="", why=str(error))


def check_objective(spec: str, *, seed: int, emit: Callable) -> None:
    """Check the objective of the model that `spec` names; `emit` as in `check_file`."""
    mine = relied_on()
    try:
        report = objective(load(spec, np.random.default_rng(seed)), rng=np.random.default_rng([seed, 1]))
        demand_same(mine)
        text = f"{report}\n  {_conclusion(report)}"
        if any(finding.check.endswith(GRADIENTS) for finding in report.findings):
            text += f"\n  every gradient by itself: scratchgen gradcheck {spec}"
        emit(report="model", text=text, verdict=report.verdict)
    except CannotCheck as error:
        emit(cannot="", why=str(error))
    except (TypeError, ValueError) as error:
        emit(cannot="", why=message(error))


def losses_of(target: Any) -> list[str]:
    """The names of the losses of a model; none of a layer, which may have such methods, too."""
    if isinstance(target, Layer) or callable(getattr(target, "backward", None)) or inspect.isroutine(target):
        return []
    return [name for name in LOSSES if callable(getattr(target, name, None))]


def _is_loss(target: Any) -> bool:
    """Whether it is a loss of a model, as MyVAE().loss."""
    return inspect.ismethod(target) and target.__name__ in losses_of(target.__self__)


def _on_batches(target: Any, rng: np.random.Generator, span: Span) -> list[tuple[Callable, Trial]]:
    """The losses of a model, or the one that the target is, each with a batch that the model takes; none for anything
    else. Raises CannotCheck for a model that takes none."""
    names = losses_of(target)
    model, wanted = target, names
    if not names and _is_loss(target):
        model, wanted = target.__self__, [target.__name__]
    if not wanted:
        return []
    try:
        specimen = specimen_of(model, None, rng)
    except (TypeError, ValueError) as error:
        if not names:
            return []  # the one method is tried like any function
        raise CannotCheck(message(error).removeprefix("objective: ")) from error
    x = specimen.x if span is None else np.asarray(rng.uniform(*span, specimen.x.shape))
    batches = {name: specimen.arguments(name, x, specimen.eps) for name in wanted}
    return [(getattr(model, name), Trial("a batch", tuple(batch), fits=True)) for name, batch in batches.items()]


def _check_loss(loss: Callable, trial: Trial, contract_too: bool, emit: Callable, rng, tolerance: float) -> None:
    which = loss.__name__
    try:
        options = {"tolerance": tolerance, "parameters_only": True}
        _check_on(loss, replace(trial, which=which), True, contract_too, emit, rng, **options)
    except Exception as error:
        emit(cannot=which, why=described(error))


def _given(forms: list, rng: np.random.Generator, span: Span) -> Trial:
    """Inputs of the forms given, as (shape, kind) for each."""
    inputs = tuple(Form(tuple(shape), kind).draw(rng, span) for shape, kind in forms)
    constant = frozenset(i for i, (_, kind) in enumerate(forms) if kind == "const")
    return Trial("the inputs given", inputs, fits=True, constant=constant)


def _check_on(
    target: Any,
    trial: Trial,
    any_fits: bool,
    contract_too: bool,
    emit: Callable,
    rng: np.random.Generator,
    **options: Any,
) -> None:
    def show(report: Report, finished: bool = False) -> None:
        report.name = _title(target, trial)
        report.unchecked += [what for what in without if what not in report.unchecked and report.tensors]
        text = str(report)
        if any_fits and not trial.fits:
            text += f"\n  If it is not made for {trial.which}, {REFUSE},\n"
            text += "  or say what it is made for, as in --input-shape 5,3"
        conclusion = _conclusion(report) if finished else "UNFINISHED"
        emit(report=trial.which, text=f"{text}\n  {conclusion}", verdict=report.verdict if finished else "UNFINISHED")

    without = _without_gradient(target, trial)
    report = check(target, *trial.inputs, rng=rng, contract_too=contract_too, on_progress=show, **options)
    show(report, finished=True)


def _without_gradient(target: Any, trial: Trial) -> list[str]:
    """The inputs after the first that move y and for which backward gives no gradient, apart from those that take
    none. Beside a scalar, a loss, there are targets."""
    subject, inputs = Subject(target), list(trial.inputs)
    try:
        with subject.in_float64():
            y, backward = subject.evaluate(inputs)
            dxs = subject.pull(backward, np.ones(y.shape))
            without = [
                name
                for k, (name, x) in enumerate(zip(subject.input_names(len(inputs)), inputs, strict=True))
                if k and (k >= len(dxs) or dxs[k] is None) and k not in trial.constant and is_float(x)
                if not CONSTANT.search(name) and y.ndim
                if not np.array_equal(y, subject.evaluate([*inputs[:k], moved(x), *inputs[k + 1 :]])[0])
            ]
    except Exception:  # the check itself meets it again, and tells of it
        return []
    return [
        f"{name}: y depends on it, and backward gives no gradient for it: return one for each input, or, if it takes "
        "none, give the shapes of all and say so, as in --input-shape 5,3:const"
        for name in without
    ]


def _conclusion(report: Report | ObjectiveReport) -> str:
    if report.verdict == "right":
        return "all right"
    if report.verdict == "UNPROVED":
        return "UNPROVED: neither right nor wrong, since not everything could be checked"
    if isinstance(report, Report) and report.tensors and all(t.ok for t in report.tensors):
        return "WRONG: the gradients are right, but the rest of what a layer promises is not kept"
    return "WRONG"


def _passed_over(target: Any, trial: Trial) -> str:
    return (
        f"{_title(target, trial)}\n  not counted: forward takes {trial.which}, backward does not: {trial.why}\n"
        f"  If it is not made for {trial.which}, {REFUSE}; else mend backward"
    )


def _title(target: Any, trial: Trial) -> str:
    return f"{Subject(target).name} on {_shapes(trial.inputs)}"


def _shapes(inputs: tuple) -> str:
    """5×3, 5×3 of integers"""
    kinds = {"i": " of integers", "b": " of truth values"}
    return ", ".join("×".join(map(str, x.shape)) + kinds.get(x.dtype.kind, "") for x in inputs if x is not True)


def relied_on() -> dict[str, object]:
    """What the check relies on, by name: functions of NumPy, Python and the library, its classes and constants."""
    library = [m for n, m in list(sys.modules.items()) if n.partition(".")[0] == "scratchgen" and m is not None]
    modules = (np, np.linalg, np.random, *library)
    found: dict[str, object] = {module.__name__: sys.modules.get(module.__name__) for module in modules}
    for module in modules:
        for name, value in list(vars(module).items()):
            if callable(value) or name.isupper():
                found[f"{module.__name__}.{name}"] = value
            if module in library:
                found.update(_code(f"{module.__name__}.{name}", value))
    return found | {f"builtins.{name}": getattr(builtins, name) for name in BUILTINS}


def _code(name: str, value: object) -> dict[str, object]:
    """The code of a function, and that of a class's methods."""
    if isinstance(value, FunctionType):
        return {f"the code of {name}": value.__code__}
    if not isinstance(value, type) or value.__module__.partition(".")[0] != "scratchgen":
        return {}
    own = [(f"{name}.{n}", v) for n, v in list(vars(value).items()) if isinstance(v, FunctionType | property)]
    return dict(own) | {key: code for n, v in own for key, code in _code(n, v).items()}


def demand_same(before: dict[str, object]) -> None:
    """Raises CannotCheck where the file has put others in their places."""
    now = relied_on()
    changed = [name for name, function in before.items() if now.get(name) is not function]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise CannotCheck(
            f"the file replaces {', '.join(changed[:3])}{more}, which the check relies on: give yours another name"
        )


# --- the target ---


def load(spec: str, rng: np.random.Generator) -> Any:
    """The object that "path/to/file.py:Name" or "path/to/file.py:Name(3, stride=2)" names, or what comes after a dot
    of it, as in "path/to/file.py:MyVAE.loss".

    A Layer class is built with the arguments given (and rng, where it takes one). A function without arguments is
    called for the layer that it returns; of one that is called with some of its arguments by name, the others are the
    inputs. Raises CannotCheck.
    """
    path, expression = file_and_expression(spec)
    name, args, options, within = _parse(expression)
    module = load_module(as_path(path))
    if not hasattr(module, name):
        mine = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__]
        near = difflib.get_close_matches(name, mine, 1)
        known = ", ".join(mine[:10]) + (f" and {len(mine) - 10} more" if len(mine) > 10 else "")
        hint = f"; did you mean {near[0]}?" if near else f"; it has {known}" if mine else ""
        raise CannotCheck(f"{path} has no {name}{hint}")
    found = getattr(module, name)
    called = "(" in expression
    if inspect.isclass(found) or called or (inspect.isfunction(found) and not required(found)):
        found = _build(path, name, found, args, options, rng)
    for part in within:
        if not hasattr(found, part):
            raise CannotCheck(f"{name} in {path} has no {part}")
        found = getattr(found, part)
    return found


def file_and_expression(spec: str) -> tuple[str, str]:
    """The file and the expression of "path/to/file.py:Name(...)". Raises CannotCheck."""
    path, found, expression = spec.partition(".py:")
    path = path + ".py" if found else spec.rpartition(":")[0]
    expression = expression if found else spec.rpartition(":")[2]
    if not path or not expression:
        raise CannotCheck(f"{spec!r} names no layer: write it as path/to/file.py:MyLayer")
    return path, expression


def load_module(path: Path) -> ModuleType:
    """The module that a file makes. Raises CannotCheck."""
    if not path.is_file():
        raise CannotCheck(f"{path} is not a file")
    package, *folders = _package(path.resolve().parent)
    spec = importlib.util.spec_from_file_location(f"{package}checked_{path.stem}", path.resolve())
    if spec is None or spec.loader is None:
        raise CannotCheck(f"{path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.path[:0] = folders  # so that it can import its neighbours
    sys.modules[spec.name] = module  # dataclasses and pickles look their module up
    try:
        guarded("loading", spec.loader.exec_module, module)
    except SyntaxError as error:
        raise CannotCheck(f"{path} does not load: {not_python(path.read_bytes(), error)}") from error
    except Exception as error:
        raised: BaseException = (error.__cause__ or error) if isinstance(error, Exited) else error
        lines = [f.lineno for f in traceback.extract_tb(raised.__traceback__) if f.filename == spec.origin]
        where = f" in line {lines[-1]}" if lines else ""
        deep = isinstance(raised, MemoryError | RecursionError) and not lines
        said = ": an expression is nested too deep" if deep else f": {message(raised)}" if message(raised) else ""
        if isinstance(raised, ImportError) and "no known parent package" in said:
            said += "; an empty __init__.py makes its folder one"
        raise CannotCheck(f"{path} does not load: {type(raised).__name__}{where}{said}") from error
    finally:
        for folder in folders:
            sys.path.remove(folder)
            sys.path.append(folder)  # for what it imports later; without hiding anybody else's modules
    return module


def not_python(source: bytes, error: Exception) -> str:
    """Why a source does not compile, by what was raised."""
    if source.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "it is UTF-16, save it as UTF-8"
    where = f" in line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
    return f"SyntaxError{where}: {shortened(error.msg if isinstance(error, SyntaxError) else str(error))}"


def _package(folder: Path) -> list[str]:
    """What is before the names of a package's modules, "lab.layers." say, or nothing where the folder is no package;
    the folder, and that of the package, in which Python finds it."""
    name, top = "", folder
    while (top / "__init__.py").is_file() and top.name.isidentifier():
        name, top = f"{top.name}.{name}", top.parent
    return [name, str(folder), *([str(top)] if name else [])]


def _parse(expression: str) -> tuple[str, list, dict, list[str]]:
    """Name, arguments and keyword arguments of `Name` or `Name(3, stride=2)`; the arguments are literals. Then the
    attributes of it that follow, as in `Name(3).loss`."""
    try:
        tree = ast.parse(expression, mode="eval").body
        within: list[str] = []
        while isinstance(tree, ast.Attribute):
            within.insert(0, tree.attr)
            tree = tree.value
        if isinstance(tree, ast.Name):
            return tree.id, [], {}, within
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and all(k.arg for k in tree.keywords):
            options = {k.arg: ast.literal_eval(k.value) for k in tree.keywords}
            return tree.func.id, [ast.literal_eval(a) for a in tree.args], options, within
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    raise CannotCheck(
        f"{expression[:80]!r} is not a name, a call with plain values as in MyLayer(3, stride=2), or a method as in "
        "MyVAE.loss"
    )


def _build(path: str, name: str, factory: Any, args: list, options: dict, rng: np.random.Generator) -> Any:
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
        raise CannotCheck(f"{name} cannot be built: {described(error)}") from error
