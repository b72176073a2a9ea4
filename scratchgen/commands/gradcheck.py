"""scratchgen gradcheck: prove the built-in layers, or somebody's own."""

import argparse
import sys
import time
from typing import Any

import numpy as np

from scratchgen.commands import UsageError, did_you_mean
from scratchgen.commands.arguments import Commands, add_force, path, seconds, typed
from scratchgen.files import shown
from scratchgen.gradcheck import Report, check, objective
from scratchgen.gradcheck.apart import check_apart
from scratchgen.gradcheck.grid import cases, kinds, models
from scratchgen.gradcheck.student import PASSED_OVER
from scratchgen.recipes.options import seed
from scratchgen.schema import real
from scratchgen.table import text_table

DESCRIPTION = """\
Compare hand-written gradients with central differences in float64.

Without TARGET: every built-in layer, loss and model, over a grid of configurations.
With built-in names (Conv2d, mse, ...): only those.
With path/to/file.py:MyLayer: yours, in a process of its own. MyLayer may be

  a subclass of scratchgen.Layer, an instance of one, or any function, that returns the pair y, backward;
  a class with forward(x) and backward(dy), which leaves the gradient of self.W in self.dW, self.grads["W"], ...;
  a function f_forward(x, w) that returns y, cache, beside f_backward(dy, cache) in the same file;
  a model with loss(x), loss(x, eps), or discriminator_loss(real, z) and generator_loss(z), each of which returns
  loss, backward: each loss is checked, on a batch that is found. MyVAE.loss is one of them.

Where it takes arguments, write file.py:'MyLayer(3, stride=2)'. With several inputs backward returns as many
gradients; with several outputs it takes as many.

With --objective: is the loss of a model the objective that it is meant to be, which no gradient check can see? Of
every built-in model, or of yours, path/to/file.py:MyVAE. Its gradients are checked, too, along a few directions.

Exit status: 0 all gradients are right, 1 something is wrong or could not be proved, 2 the check could not be made.
"""


def add_parser(commands: Commands) -> None:
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
        type=typed(_form),
        metavar="N,...[:KIND]",
        help="shape of the input of your layer, as in 5,3 or 2,8,8,3; once for each input. 5,3:10 are integers below "
        "10, as an embedding or labels need, 5,3:bool is a mask, 5,3:const takes no gradient. "
        "By default a small batch of vectors and one of images are tried, then other forms",
    )
    parser.add_argument(
        "--input-range",
        type=typed(_range),
        metavar="LOW,HIGH",
        help="draw the inputs of your layer evenly between these, as in 0.1,5 for a logarithm "
        "(default: normally distributed)",
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=30,
        metavar="SECONDS",
        help="how long a single call of your code may take (default 30)",
    )
    parser.add_argument("--seed", type=typed(seed), default=0, help="of inputs, parameters and dy (default 0)")
    parser.add_argument(
        "--tolerance",
        type=typed(real(lambda x: 0 < x < 1, "a number between 0 and 1")),
        default=1e-6,
        help="largest relative error of a right gradient (default 1e-6)",
    )
    parser.add_argument(
        "--gradients-only", action="store_true", help="leave out the rest of the layer contract: caches, += and so on"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="print a table for every configuration")
    parser.add_argument(
        "--gallery",
        nargs="?",
        const="",
        metavar="NAME",
        help="list the bugs that published code has had; with the NAME of one show it: its formulas, what the check "
        "says, and a training with it and without",
    )
    parser.add_argument(
        "--mutants", action="store_true", help="show what the check says of all of these that it can see"
    )
    parser.add_argument("--output", type=path, metavar="FILE", help="draw that training as a picture, .png")
    add_force(parser)
    parser.add_argument(
        "--objective", action="store_true", help="check what models minimise, and its gradients in short"
    )
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    if args.objective and (args.mutants or args.gallery is not None):
        raise UsageError("--mutants and --gallery show bugs, --objective checks models: ask for one of them")
    if args.mutants and (args.target or args.gallery is not None):
        raise UsageError("--mutants shows the whole gallery, leave out the names")
    if args.gallery is not None and args.target:
        raise UsageError("--gallery NAME shows one bug, leave out the other names")
    if (args.output or args.force) and not args.gallery:
        raise UsageError("--output and --force go with --gallery NAME, whose picture they are of")
    if args.mutants or args.gallery is not None:
        from scratchgen.commands import gallery  # which nothing else needs

        return gallery.show_all(args) if args.mutants else gallery.show(args) if args.gallery else gallery.list_bugs()
    own = [t for t in args.target if ":" in t or t.endswith(".py") or "/" in t]
    if 0 < len(own) < len(args.target):
        raise UsageError("built-in layers and your own are checked in calls of their own")
    if args.objective and (args.input_shape or args.input_range):
        raise UsageError("--input-shape and --input-range go with a layer, --objective finds a batch for your model")
    if own:
        return max(
            [_check_own(target, args) for target in args.target], key=(0, 2, 1).index
        )  # a wrong one before all
    if args.objective:
        return _check_built_in_objectives(args)
    if args.input_shape or args.input_range:
        raise UsageError("--input-shape and --input-range go with a layer of your own, path/to/file.py:MyLayer")
    return _check_built_in(args)


def _check_built_in(args: argparse.Namespace) -> int:
    """One line a kind of layer: how many configurations, and the worst of them."""
    known = {kind.lower(): kind for kind in kinds()}
    for name in args.target:
        if name.lower() not in known:
            raise UsageError(
                f"there is no built-in {name}; there are {', '.join(known.values())}"
                f"{did_you_mean(name, known.values()) or '.'} A layer of your own is path/to/file.py:MyLayer"
            )
    wanted = {known[name.lower()] for name in args.target} or set(known.values())
    start = time.perf_counter()
    by_kind: dict[str, list[Report]] = {}
    for case in cases(np.random.default_rng(args.seed)):
        if case.kind in wanted:
            report = checked(case.target, case.inputs, args, name=case.label)
            by_kind.setdefault(case.kind, []).append(report)
            if args.verbose or not report.ok:
                print(report, end="\n\n")
    rows = []
    for kind, reports in by_kind.items():
        worst = max(reports, key=lambda r: r.error)
        tensors = sum(len(r.tensors) for r in reports)
        kinks = sum(t.kinks for r in reports for t in r.tensors)
        verdict = _failures(reports) or (f"right but for {kinks} kinks" if kinks else "right")
        rows.append((kind, str(len(reports)), str(tensors), f"{worst.error:.1e}", verdict, worst.name))
    head = ("", "cases", "gradients", "rel. error", "verdict", "largest error in")
    print(*(f"  {line}" for line in text_table(head, rows, left=range(len(head)))), sep="\n")
    reports = [r for rs in by_kind.values() for r in rs]
    failures = _failures(reports)
    print(
        f"\n{len(reports)} configurations, {sum(len(r.tensors) for r in reports)} gradients, "
        f"largest relative error {max(r.error for r in reports):.1e}, {time.perf_counter() - start:.0f} s: "
        + (failures or "all right")
    )
    return 1 if failures else 0


def _failures(reports: list[Report]) -> str:
    """How many are wrong, and how many could not be proved; "" where there are none."""
    counts = {verdict: sum(r.verdict == verdict for r in reports) for verdict in ("WRONG", "UNPROVED")}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)


def _check_built_in_objectives(args: argparse.Namespace) -> int:
    """One line a model: how many properties, and what is wrong."""
    found = list(models(np.random.default_rng(args.seed)))
    known = {kind.lower(): kind for kind, _ in found}
    for name in args.target:
        if name.lower() not in known:
            raise UsageError(f"there is no built-in model {name}; there are {', '.join(known.values())}")
    wanted = {known[name.lower()] for name in args.target} or set(known.values())
    start, rows, reports = time.perf_counter(), [], []
    for kind, model in found:
        if kind in wanted:
            report = objective(model, rng=np.random.default_rng([args.seed, 1]))
            reports.append(report)
            rows.append((report.name.replace(type(model).__name__, kind, 1), str(len(report.checks)), report.verdict))
            if args.verbose or not report.ok:
                print(report, end="\n\n")
    print(*(f"  {line}" for line in text_table(("", "properties", "verdict"), rows, left=(0, 1, 2))), sep="\n")
    failures = sum(not report.ok for report in reports)
    count = sum(len(report.checks) for report in reports)
    verdict = f"{failures} of them not right" if failures else "all right"
    print(f"\n{len(reports)} models, {count} properties, {time.perf_counter() - start:.0f} s: {verdict}")
    return 1 if failures else 0


def _check_own(spec: str, args: argparse.Namespace) -> int:
    request = {"spec": spec, "seed": args.seed}
    if not args.objective:
        request |= {
            "tolerance": args.tolerance,
            "forms": args.input_shape,
            "span": args.input_range,
            "contract_too": not args.gradients_only,
        }
    outcome = check_apart(request, args.timeout, objective=args.objective)
    for report in outcome.reports.values():
        print(report["text"], end="\n\n")
    why = [
        f"it cannot be checked on {' nor on '.join(inputs)}: {reason}" if all(inputs) else reason
        for reason, inputs in outcome.cannot.items()
    ]
    why += [f"{spec}: {outcome.why}"] if outcome.why else []
    for reason in why:
        print(f"scratchgen: {reason}", file=sys.stderr)
    verdicts = {report["verdict"] for report in outcome.reports.values()} - {PASSED_OVER}
    if "WRONG" in verdicts:
        return 1
    return 2 if why or not verdicts else 1 if verdicts != {"right"} else 0


def checked(target: Any, inputs: tuple, args: argparse.Namespace, name: str) -> Report:
    """The report on a target under the command's options."""
    rng = np.random.default_rng([args.seed, 2])
    return check(target, *inputs, rng=rng, tolerance=args.tolerance, contract_too=not args.gradients_only, name=name)


def _form(text: str) -> tuple[tuple[int, ...], str | int]:
    """Shape and kind of an input, see `Form`."""
    sizes, _, word = text.partition(":")
    kind: str | int = word
    try:
        shape = tuple(int(n) for n in sizes.replace("x", ",").strip("()").split(",") if n.strip())
        kind = word if word in ("bool", "const") or ":" not in text else int(word)
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1 or (isinstance(kind, int) and kind < 1):
        raise ValueError(
            f"{shown(text)} is not a shape: write 5,3 or 2,8,8,3, for integers below 10 5,3:10, for a mask 5,3:bool"
        )
    return shape, kind


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = 0.0
    if not (low < high and np.isfinite([low, high]).all()):
        raise ValueError(f"{shown(text)} is not a range: write it as 0.1,5")
    return low, high
