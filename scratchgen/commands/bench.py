"""scratchgen bench: how fast a training step is, beside PyTorch's and JAX's on the same machine at the same time."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from scratchgen.backend import BACKENDS, load_kernels
from scratchgen.backend.threads import asked_for, cores
from scratchgen.bench import printed, results
from scratchgen.bench.compare import Options, Tell, compare, profiled
from scratchgen.bench.scaling import AXES, scaling
from scratchgen.bench.settings import SETTINGS, Setting
from scratchgen.bench.startup import ROUNDS, STEPS, startup
from scratchgen.commands import UsageError, did_you_mean
from scratchgen.commands.arguments import Commands, add_force, check_precision, path, typed
from scratchgen.commands.results import check_new
from scratchgen.files import atomic_write
from scratchgen.recipes.options import PRECISIONS, positive, rate, threads
from scratchgen.table import markdown_table, text_table
from scratchgen.training import save_picture


def _batch(setting: Setting) -> str:
    batch, on_gpu = setting.batch, setting.on_gpu().batch
    return str(batch) if batch == on_gpu else f"{batch} ({on_gpu} on a GPU)"


SECONDS = {"compare": 12.0, "profile": 4.0, "scaling": 3.0}  # for a step, and for a point of an axis
DESCRIPTION = f"""\
Time one training step of each reference model: from a fixed batch to updated weights, noise drawn anew each step.
Ours, PyTorch's and JAX's run in processes of their own and take turns, so that drift hits all alike, with equal
threads; PyTorch in both memory formats where they differ, ours with and without its extra [fast] where that is
installed. The machine's own rate is that of a large matrix product, sgemm.
With --backend cupy ours and PyTorch's run on the GPU, in equal precision; a turn is then timed as a whole, as steps
are queued.

steps:
{chr(10).join(f"  {s.step:<8} {s.about}, batch {_batch(s)}" for s in SETTINGS.values())}

Exit status: 0, or 2 when it could not be run.
"""


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "bench",
        help="time training steps, beside PyTorch's and JAX's where they are installed",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("steps", nargs="*", metavar="STEP", help="which steps (default: all that fit)")
    parser.add_argument("--backend", choices=BACKENDS, default="numpy", help="cupy runs on an NVIDIA GPU")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="of matrix products and convolutions on the GPU, for every side (default: float32)",
    )
    parser.add_argument(
        "--threads",
        type=typed(threads),
        metavar="N",
        help="of every side (default: SCRATCHGEN_THREADS, or all cores)",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--rounds", type=typed(positive), metavar="R", help="how many turns each side has at a step")
    length.add_argument(
        "--seconds",
        type=typed(rate),
        metavar="S",
        help="how long to time a step, at least three rounds (default: {compare:g}; {profile:g} with --profile, "
        "{scaling:g} for each point of --scaling)".format(**SECONDS),
    )
    parser.add_argument("--batch-size", type=typed(positive), metavar="N", help="instead of each step's own")
    parser.add_argument("--no-torch", action="store_true", help="do not compare with PyTorch")
    parser.add_argument("--no-jax", action="store_true", help="do not compare with JAX (slow at DCGANs on a CPU)")
    parser.add_argument("--fast-only", action="store_true", help="do not time ours without its extra [fast], too")
    parser.add_argument(
        "--busy",
        type=typed(positive),
        metavar="N",
        default=0,
        help="beside N busy loops, which take cores for themselves",
    )
    parser.add_argument(
        "--skip-memory",
        action="store_true",
        help="do not measure memory, nor count launches on a GPU, which takes more processes",
    )
    parser.add_argument(
        "--blas",
        choices=("selected", "default"),
        help="who chooses the BLAS kernels for this CPU: scratchgen, or NumPy's BLAS itself "
        "(default: as SCRATCHGEN_BLAS says, or scratchgen)",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--profile", action="store_true", help="where a step's time goes, by layer and direction")
    mode.add_argument("--scaling", choices=tuple(AXES), help="how a step's time grows along an axis")
    mode.add_argument(
        "--startup",
        action="store_true",
        help=f"from the start of a process to the end of a first step ({', '.join(STEPS)}, or STEP), and of a first "
        f"short training: train vae --epochs 1; --rounds processes of each side (default: {ROUNDS})",
    )
    parser.add_argument("--json", type=path, metavar="FILE", help="write every figure, with each round's")
    parser.add_argument(
        "--record",
        type=path,
        metavar="FILE",
        help="put what was found on a GPU into a file of results; what else is in it stays",
    )
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    parser.add_argument("--picture", type=path, metavar="FILE.png", help="draw --scaling")
    add_force(parser)
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    settings, options = _settings(args), _options(args)
    _check_files(args)
    load_kernels(args.backend)  # complains before any process starts
    table = markdown_table if args.markdown else text_table
    with _progress() as tell:
        if args.profile:
            report = profiled(settings, options, tell)
            lines = printed.profile(report, table)
        elif args.scaling:
            report = scaling(args.scaling, settings, options, batch=args.batch_size, tell=tell)
            lines = printed.scaling(report, table)
        elif args.startup:
            report = startup(settings, options, tell)
            lines = printed.startup(report, table)
        else:
            report = compare(settings, options, tell)
            lines = printed.comparison(report, table)
    print(*lines, sep="\n")
    if args.json:
        with atomic_write(args.json) as file:
            file.write(json.dumps(report, indent=1, ensure_ascii=False).encode() + b"\n")
    if args.record:
        kind = "profile" if args.profile else "bench"
        results.record(args.record, kind, {"report": results.summary(report)}, precision=args.precision)
    if args.picture:
        from scratchgen.bench.picture import scaling_picture

        save_picture(scaling_picture(report), args.picture)
    return 0


def _settings(args: argparse.Namespace) -> list[Setting]:
    for name in args.steps:
        if name not in SETTINGS:
            raise UsageError(
                f"there is no step {name}; there are {', '.join(SETTINGS)}{did_you_mean(name, SETTINGS)}"
            )
    names = dict.fromkeys(args.steps or (STEPS if args.startup else SETTINGS))
    settings = [SETTINGS[name].on_gpu() if args.backend == "cupy" else SETTINGS[name] for name in names]
    if args.scaling == "batch" and args.batch_size is not None:
        raise UsageError("--batch-size and --scaling batch are two batch sizes, leave one out")
    if args.scaling in ("size", "width"):
        dense = [s.step for s in settings if not s.convolutional]
        if dense and args.steps:
            raise UsageError(
                f"--scaling {args.scaling} is for dcgan28 and dcgan64: {dense[0]} is fully connected, "
                f"its {args.scaling} is fixed"
            )
        settings = [s for s in settings if s.convolutional]
    if args.batch_size is not None and args.scaling is None:
        try:
            settings = [s.vary(batch=args.batch_size) for s in settings]
        except ValueError as error:
            raise UsageError(f"--batch-size is {args.batch_size}: {error}") from error
    return settings


def _options(args: argparse.Namespace) -> Options:
    if args.profile and args.rounds is not None:
        raise UsageError("--profile has no rounds, --seconds says for how long it looks")
    if args.startup and args.seconds is not None:
        raise UsageError("--startup has no --seconds, --rounds says how many processes each side has")
    if args.startup and args.backend == "cupy":
        raise UsageError("--startup is for the CPU")
    check_precision(args.backend, args.precision)
    if args.scaling == "threads" and args.backend == "cupy":
        raise UsageError("--scaling threads is for the CPU, on a GPU threads do not divide the work")
    count = args.threads or asked_for() or cores()
    if count > cores():
        raise UsageError(f"--threads is {count}, this process may use {cores()} cores")
    mode = "profile" if args.profile else "scaling" if args.scaling else "compare"
    only_time = args.profile or args.scaling or args.startup
    return Options(
        threads=count,
        rounds=args.rounds,
        seconds=args.seconds or SECONDS[mode],
        torch=not (args.no_torch or args.profile),
        jax=not (args.no_jax or args.profile),
        plain=not (args.fast_only or args.profile or args.scaling),
        memory=not (args.skip_memory or only_time),
        blas=args.blas,
        backend=args.backend,
        precision=args.precision,
        busy=args.busy,
    )


def _check_files(args: argparse.Namespace) -> None:
    """Complains of a file that cannot be written before minutes are spent on what goes into it."""
    if args.picture is not None and args.scaling is None:
        raise UsageError("--picture goes with --scaling")
    if args.picture is not None and args.picture.suffix != ".png":
        raise UsageError(f"--picture is {args.picture}, needs a name that ends in .png")
    if args.record is not None and (args.backend == "numpy" or args.scaling):
        raise UsageError("--record is for steps timed or profiled with --backend cupy")
    for option, file in (("--json", args.json), ("--picture", args.picture), ("--record", args.record)):
        if file is not None:
            check_new(file, option, force=args.force or option == "--record")  # which takes in what is there
    if args.record is not None:
        results.read(args.record)


@contextmanager
def _progress() -> Iterator[Tell]:
    """A function that says on one line of the terminal, if there is one, how far it is."""
    shown = sys.stderr.isatty()

    def tell(text: str) -> None:
        if shown:
            print(f"\r{text:<60}", end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if shown:
            print(f"\r{'':<60}\r", end="", file=sys.stderr, flush=True)
