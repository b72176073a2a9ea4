"""Imports point one way: `python tests/test_house.py` draws them, a part of the package a line, lowest first."""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import scratchgen

PACKAGE = Path(__file__).parents[1] / "scratchgen"

# Each part, a folder or a file, imports from those before it alone.
ORDER = """
    version starting blas paths files errors progress table notebook schema interpolation
    backend checks functions init layers losses optim schedules models safetensors_file weights export gradcheck
    exercises data plots training measures recipes report bench commands cli __init__ __main__
""".split()  # noqa: SIM905


def imports(tree) -> set[str]:
    """The modules that run when this one is loaded, or when one of its functions runs; not what only types need."""
    found, inside = set(), list(ast.iter_child_nodes(tree))
    for node in inside:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            if node.module == "scratchgen" and not {alias.name for alias in node.names} <= set(ORDER):
                found.add("scratchgen.__init__")  # a name of the root, which imports everything below it
        inside.extend(ast.iter_child_nodes(node))
    return found


def of_files() -> dict[Path, set[str]]:
    return {
        file.relative_to(PACKAGE): imports(ast.parse(file.read_text(encoding="utf-8")))
        for file in sorted(PACKAGE.rglob("*.py"))
        if file.parent.name != "skeletons"  # of exercises: files for students, which nothing imports
    }


def of_parts() -> dict[str, set[str]]:
    """What each part of the package imports of the others."""
    parts = defaultdict(set)
    for file, modules in of_files().items():
        part = file.parts[0].removesuffix(".py")
        for words in (f"{module}.__init__".split(".") for module in modules):  # `import scratchgen` is of the root
            if words[0] == "scratchgen" and words[1] != part:
                parts[part] |= {words[1]} & set(ORDER)
    return parts


def files_that_import(name: str) -> list[str]:
    return [str(file) for file, modules in of_files().items() if any(m.split(".")[0] == name for m in modules)]


def test_no_arrow_goes_up():
    parts = of_parts()
    assert sorted(parts.keys() - ORDER) == []
    up = [(part, other) for part in parts for other in parts[part] if ORDER.index(other) > ORDER.index(part)]
    assert up == []


def test_nothing_imports_the_benchmark_but_its_command():
    found = [str(f) for f, modules in of_files().items() if any(m.startswith("scratchgen.bench") for m in modules)]
    assert [name for name in found if not name.startswith("bench/")] == ["commands/bench.py"]


def test_cupy_is_imported_in_one_file():
    assert files_that_import("cupy") == ["backend/cupy_ops/device.py"]


def test_arguments_are_read_in_the_commands():
    assert [name for name in files_that_import("argparse") if not name.startswith("commands/")] == []


def test_no_framework_is_imported():
    assert files_that_import("tensorflow") == []
    assert files_that_import("jax") == files_that_import("optax") == ["bench/opponent_jax.py"]
    assert [name for name in files_that_import("torch") if not name.startswith("bench/")] == []


# --- what `import scratchgen` loads ---

LATER = """
    scratchgen.gradcheck scratchgen.exercises scratchgen.export scratchgen.data scratchgen.training
    scratchgen.measures scratchgen.plots
    scratchgen.recipes scratchgen.report scratchgen.bench scratchgen.commands scratchgen.cli
    scratchgen.backend.numpy_ops scratchgen.backend.cupy_ops
    cupy numba matplotlib PIL tqdm pooch safetensors argparse subprocess
    numpy.random numpy.typing concurrent.futures multiprocessing asyncio
""".split()  # noqa: SIM905


def in_a_new_python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_what_a_training_run_does_without_is_not_imported():
    program = "import numpy, sys; old = set(sys.modules); import scratchgen; new = sys.modules.keys() - old\n"
    assert in_a_new_python(program + f"print(sorted(new & set({LATER})))") == "[]\n"


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("import scratchgen", "scratchgen.gradcheck.check"),
        ("import scratchgen", "scratchgen.export_torch"),
        ("import scratchgen.gradcheck", "scratchgen.gradcheck.check"),
        ("from scratchgen import gradcheck", "gradcheck.check"),
        ("from scratchgen import export_torch", "export_torch"),
        ("from scratchgen import *", "gradcheck.check"),
        ("from scratchgen import *", "export_torch"),
    ],
)
def test_what_is_imported_later_is_there_as_ever(how, what):
    assert in_a_new_python(f"{how}\nprint({what}.__name__)") == what.rpartition(".")[2] + "\n"


def test_every_public_name_is_listed_and_another_is_none():
    assert set(scratchgen.__all__) <= set(dir(scratchgen))
    assert {name: getattr(scratchgen, name) for name in scratchgen.__all__}
    with pytest.raises(AttributeError, match="module 'scratchgen' has no attribute 'gradchek'"):
        _ = scratchgen.gradchek


if __name__ == "__main__":
    parts = of_parts()
    for part in ORDER:
        print(f"{part:18}", *sorted(parts.get(part, ()), key=ORDER.index))
