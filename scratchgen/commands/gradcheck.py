"""scratchgen gradcheck: prove the built-in layers, or somebody's own."""

import argparse
import time

import numpy as np

from scratchgen.commands import UsageError
from scratchgen.files import shown
from scratchgen.gradcheck import Report, check
from scratchgen.gradcheck.grid import cases, kinds
from scratchgen.gradcheck.mutants import mutants
from scratchgen.gradcheck.report import table
from scratchgen.gradcheck.student import CannotCheck, load, trial_inputs
from scratchgen.gradcheck.subject import told
from scratchgen.recipes.options import seed

DESCRIPTION = """\
Compare hand-written gradients with central differences in float64.

Without TARGET: every built-in layer, loss and model, over a grid of configurations.
With built-in names (Conv2d, mse, ...): only those.
With path/to/file.py:MyLayer: yours. MyLayer may be a subclass of scratchgen.Layer, an instance of one, or any
function that returns the pair y, backward; where it takes arguments, write file.py:'MyLayer(3, stride=2)'.

Exit status: 0 all gradients are right, 1 something is wrong, 2 the check could not be run.
"""


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "gradcheck",
        help="check gradients: the built-in layers', or those of your own file",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", nargs="*", metavar="TARGET", help="built-in names, or path/to/file.py:MyLayer")
    parser.add_argument(
        "--input-shape",
        action="append",
        type=_shape,
        metavar="N,...",
        help="shape of the input of your layer, as in 5,3 or 2,8,8,3; once for each input. "
        "By default a small batch of vectors and one of images are tried",
    )
    parser.add_argument(
        "--input-range",
        type=_range,
        metavar="LOW,HIGH",
        help="draw the inputs of your layer evenly between these, as in 0.1,5 for a logarithm "
        "(default: normal numbers)",
    )
    parser.add_argument("--seed", type=seed, default=0, help="of inputs, parameters and dy (default 0)")
    parser.add_argument(
        "--tolerance", type=float, default=1e-6, help="largest relative error of a right gradient (default 1e-6)"
    )
    parser.add_argument(
        "--gradients-only", action="store_true", help="leave out the rest of the layer contract: caches, += and so on"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="print a table for every configuration")
    parser.add_argument(
        "--mutants", action="store_true", help="show what the checker says of layers with well-known bugs"
    )
    parser.set_defaults(run=run)


def run(args) -> int:
    if not 0 < args.tolerance < 1:
        raise UsageError(f"--tolerance is {args.tolerance}, needs a number between 0 and 1")
    if args.mutants:
        if args.target:
            raise UsageError("--mutants shows the whole gallery, leave out the names")
        return _show_mutants(args)
    own = [t for t in args.target if ":" in t or t.endswith(".py") or "/" in t]
    if 0 < len(own) < len(args.target):
        raise UsageError("built-in layers and your own are checked in calls of their own")
    if own:
        return max(_check_own(t, args) for t in args.target)
    if args.input_shape or args.input_range:
        raise UsageError("--input-shape and --input-range go with a layer of your own, path/to/file.py:MyLayer")
    return _check_built_in(args)


def _check_built_in(args) -> int:
    """One line a kind of layer: how many configurations, and the worst of them."""
    known = {kind.lower(): kind for kind in kinds()}
    for name in args.target:
        if name.lower() not in known:
            raise UsageError(
                f"there is no built-in {name}; there are {', '.join(known.values())}. "
                "A layer of your own is path/to/file.py:MyLayer"
            )
    wanted = {known[name.lower()] for name in args.target} or set(known.values())
    start = time.perf_counter()
    by_kind: dict[str, list[Report]] = {}
    for case in cases(np.random.default_rng(args.seed)):
        if case.kind in wanted:
            report = _checked(case.target, case.inputs, args, name=case.label)
            by_kind.setdefault(case.kind, []).append(report)
            if args.verbose or not report.ok:
                print(report, end="\n\n")
    rows = []
    for kind, reports in by_kind.items():
        worst = max(reports, key=lambda r: r.error)
        tensors = sum(len(r.tensors) for r in reports)
        kinks = sum(t.kinks for r in reports for t in r.tensors)
        wrong = sum(not r.ok for r in reports)
        verdict = f"{wrong} WRONG" if wrong else f"right but for {kinks} kinks" if kinks else "right"
        rows.append((kind, len(reports), tensors, f"{worst.error:.1e}", verdict, worst.name))
    print(*table(("", "cases", "gradients", "rel. error", "verdict", "largest error in"), rows), sep="\n")
    reports = [r for rs in by_kind.values() for r in rs]
    wrong = sum(not r.ok for r in reports)
    print(
        f"\n{len(reports)} configurations, {sum(len(r.tensors) for r in reports)} gradients, "
        f"largest relative error {max(r.error for r in reports):.1e}, {time.perf_counter() - start:.0f} s: "
        + (f"{wrong} WRONG" if wrong else "all right")
    )
    return 1 if wrong else 0


def _check_own(spec: str, args) -> int:
    try:
        target = load(spec, np.random.default_rng(args.seed))
        rng = np.random.default_rng([args.seed, 1])
        low, high = args.input_range or (None, None)

        def draw(shape):
            return rng.standard_normal(shape) if low is None else rng.uniform(low, high, shape)

        if args.input_shape:
            tried = [("", tuple(map(draw, args.input_shape)), "")]
        else:
            tried = list(trial_inputs(target, draw))
    except CannotCheck as error:
        raise UsageError(str(error)) from error
    accepted = [(which, inputs) for which, inputs, _ in tried if inputs is not None]
    if not accepted:
        why = "; ".join(dict.fromkeys(reason for _, _, reason in tried))
        raise UsageError(
            f"{spec} took neither a small batch of vectors nor one of images: {why}. "
            "If that is for their shape, give --input-shape"
        )
    reports = [(which, _report_own(target, inputs, args)) for which, inputs in accepted]
    fits = [report for _, report in reports if report.tensors]
    for which, report in reports:
        print(report)
        if fits and not report.tensors:
            print(f"  not counted: forward takes {which}, backward does not. If the layer is not made for {which},")
            print("  let forward refuse them, as in self.check_input(x, 'N', 3); else mend backward\n")
        else:
            print(f"  {'all right' if report.ok else 'WRONG'}\n")
    return 0 if all(report.ok for report in fits) and fits else 1


def _report_own(target, inputs, args) -> Report:
    shapes = ", ".join("×".join(map(str, x.shape)) for x in inputs)
    try:
        report = _checked(target, inputs, args)
    except Exception as error:
        hint = "; --input-range and --input-shape choose the inputs" if isinstance(error, ValueError) else ""
        raise UsageError(f"it cannot be checked on {shapes}: {told(error)}{hint}") from error
    report.name += f" on {shapes}"
    return report


def _show_mutants(args) -> int:
    missed = 0
    for mutant in mutants(np.random.default_rng(args.seed)):
        report = _checked(mutant.target, mutant.inputs, args, name=mutant.bug)
        missed += report.ok
        print(report, end="\n\n")
    print("MISSED some" if missed else "every one was found")
    return 1 if missed else 0


def _checked(target, inputs, args, name=None) -> Report:
    rng = np.random.default_rng([args.seed, 2])
    return check(target, *inputs, rng=rng, tolerance=args.tolerance, contract_too=not args.gradients_only, name=name)


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(n) for n in text.replace("x", ",").strip("()").split(",") if n.strip())
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{shown(text)} is no shape, write it as 5,3 or 2,8,8,3")
    return shape


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(number) for number in text.split(","))
    except ValueError:
        low = high = 0.0
    if not (low < high and np.isfinite([low, high]).all()):
        raise argparse.ArgumentTypeError(f"{shown(text)} is no range, write it as 0.1,5")
    return low, high
