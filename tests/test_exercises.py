"""Exercises: right answers pass, wrong ones are rejected with their cause named, and skeletons are to be filled in.

`exercises/NAME/` holds answers to each: right.py, some in other ways too, and wrong_*.py, whose first line says what
a sentence that names the cause must contain, whatever way the checker comes to say it.
"""

import ast
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from scratchgen.exercises.table import EXERCISES

ANSWERS = Path(__file__).parent / "exercises"
SKELETONS = Path(importlib.util.find_spec("scratchgen.exercises").origin).parent / "skeletons"
BY_NAME = {exercise.name: exercise for exercise in EXERCISES}
RIGHT, WRONG = (
    [path.relative_to(ANSWERS).with_suffix("").as_posix() for path in sorted(ANSWERS.glob(f"*/{kind}*.py"))]
    for kind in ("right", "wrong_")
)


def load(path):
    spec = importlib.util.spec_from_file_location(f"answer_{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def proved(name, path, seed=0):
    return BY_NAME[name].prove(load(path), np.random.default_rng(seed))


def test_each_has_its_files_and_three_hints():
    names = [exercise.name for exercise in EXERCISES]
    assert len(set(names)) == len(names) >= 25
    assert sorted(names) == sorted(path.stem for path in SKELETONS.glob("*.py"))
    assert sorted(names) == sorted(path.name for path in ANSWERS.iterdir() if path.is_dir())
    for exercise in EXERCISES:
        assert len(set(exercise.hints)) == 3
        assert all(exercise.hints)
        assert (ANSWERS / exercise.name / "right.py").is_file()
        assert sum(answer.startswith(f"{exercise.name}/") for answer in WRONG) >= 3, exercise.name


@pytest.mark.parametrize("answer", RIGHT)
def test_a_right_answer_passes(answer):
    for seed in range(4):
        result = proved(answer.split("/")[0], ANSWERS / f"{answer}.py", seed)
        assert (result.ok, result.faults) == (True, []), "\n".join([*result.faults, result.details])
        assert result.details


@pytest.mark.parametrize("answer", WRONG)
def test_a_wrong_answer_is_rejected_and_its_cause_named(answer):
    path = ANSWERS / f"{answer}.py"
    cause = re.fullmatch("# cause: (.+)", path.read_text(encoding="utf-8").splitlines()[0])[1]
    named = []
    for seed in range(2):
        result = proved(answer.split("/")[0], path, seed)
        assert not result.ok
        assert result.faults
        assert all(len(fault.splitlines()) == 1 for fault in result.faults)
        assert "not written yet" not in "".join(result.faults)
        named.append(any(re.search(cause, fault) for fault in result.faults))
    assert all(named), f"needs {cause}, got " + "\n".join(result.faults)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_skeleton_says_what_to_do_and_is_not_written_yet(name):
    path = SKELETONS / f"{name}.py"
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    imported = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= {"numpy", "scratchgen", "math"}
    assert f"scratchgen exercise check {name}.py" in ast.get_docstring(tree)
    defined = [n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    assert BY_NAME[name].target in defined
    result = proved(name, path)
    assert not result.ok
    assert len(result.faults) == 1
    assert re.fullmatch(r".+ (is|are) not written yet", result.faults[0])


def test_what_an_answer_raises_is_a_fault_of_it(tmp_path):
    for body, said in (
        ("raise SystemExit(3)", "SystemExit"),
        ("return dy @ np.ones((9, 9))", "ValueError"),
        ("pass", "None"),
    ):
        text = (SKELETONS / "dense.py").read_text(encoding="utf-8")
        path = tmp_path / "dense.py"
        path.write_text(re.sub(r"raise NotImpl.*", body, text), encoding="utf-8")
        result = proved("dense", path)
        assert not result.ok
        assert said in "".join(result.faults)


@pytest.mark.parametrize("name", BY_NAME)
def test_an_answer_that_is_no_array_is_told_of_in_lines(name, tmp_path):
    text = (SKELETONS / f"{name}.py").read_text(encoding="utf-8")
    last = "loss, " if "# return loss" in text else ""
    for given in ("None", "'a'", "np.ones((2, 2))", "[[1], [2, 3]]", "{}", "np.nan", "lambda: 1"):
        path = tmp_path / f"{name}.py"
        path.write_text(re.sub(r"raise NotImpl.*", f"return {last}{given}", text), encoding="utf-8")
        result = proved(name, path)
        assert not result.ok
        assert result.faults
        assert all(fault and "\n" not in fault for fault in result.faults)
        assert "/scratchgen/" not in "".join(result.faults)


def test_a_forward_that_was_changed_is_told():
    dense = BY_NAME["dense"]
    module = load(ANSWERS / "dense" / "right.py")
    right = module.Dense.forward

    def forward(self, x):
        y, backward = right(self, x)
        return 2 * y, lambda dy: 2 * backward(dy)

    module.Dense.forward = forward
    result = dense.prove(module, np.random.default_rng(0))
    assert result.faults == ["forward no longer gives y = x W + b: leave it as it is in the skeleton"]
