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

from scratchgen.exercises.numpy_errors import in_plain_words
from scratchgen.exercises.table import EXERCISES
from scratchgen.exercises.withheld import without_formula

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
        for left in map(without_formula, result.faults):  # what a student sees who has not asked for all hints
            assert not re.search(r"; the gradient is |: d\w+ = ", left)
            assert len(left) > 15
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
        ("return dy @ np.ones((9, 9))", "sizes 4 and 9"),
        ("raise ValueError(3)", "ValueError: 3"),
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


def test_what_is_said_is_said_once():
    result = proved("dense", ANSWERS / "dense" / "wrong_bias_not_summed.py")
    assert len(result.faults) == 1
    assert "self.b.grad" not in result.details
    result = proved("reparameterise", ANSWERS / "reparameterise" / "wrong_noise_forgotten.py")
    assert len(result.faults) == 1
    assert "backward gives" not in result.details  # which the sentence of the exercise is in the place of
    assert "eps: backward gives no gradient" not in result.details
    (dlogvar,) = [row for row in result.gradients if row.name == "dlogvar"]
    assert (dlogvar.verdict, dlogvar.hint) == ("WRONG", result.faults[0].removeprefix("dlogvar: "))
    result = proved("relu", ANSWERS / "relu" / "wrong_writes_into_dy.py")
    assert result.faults == ["backward writes into dy, which belongs to the caller"]
    assert "FAULT" not in result.details


def test_the_table_names_its_case():
    result = proved("conv2d", ANSWERS / "conv2d" / "right.py")
    heads = [line for line in result.details.splitlines() if line.startswith("Conv2d(")]
    assert heads == ["Conv2d(kernel (3, 2), stride 2, padding 1)", "Conv2d(kernel (3, 2), stride 1, padding 0)"]
    result = proved("max_pool", ANSWERS / "max_pool" / "right.py")
    heads = [line for line in result.details.splitlines() if line.startswith("MaxPool2d(")]
    assert heads == ["MaxPool2d(kernel 3, stride 2)", "MaxPool2d(kernel 2, stride 3)"]


def test_figures_of_a_walk_are_those_that_are_wrong():
    right = proved("adam", ANSWERS / "adam" / "right.py")
    assert (right.figures, right.details.count("\n")) == ("", 0)
    wrong = proved("adam", ANSWERS / "adam" / "wrong_power_forgotten.py")
    assert wrong.figures.startswith("W after step 2:\n")
    assert "\nexpected:\n" in wrong.figures
    assert wrong.figures.count("\n") == 3


def test_a_loss_with_more_gradients_than_asked_for_is_right(tmp_path):
    source = (ANSWERS / "mse" / "right.py").read_text(encoding="utf-8")
    for given in ("return loss, dy, -dy", "return loss, (dy, -dy)", "return [loss, dy]"):
        path = tmp_path / "mse.py"
        path.write_text(source.replace("return loss, dy", given), encoding="utf-8")
        assert proved("mse", path).ok


FORMULAS = {  # sentences, and what is left of them
    "dx: backward gives dy · y; the gradient is dy · 2": "dx: backward gives dy · y, which is not the gradient",
    "dx: the factor y is missing: backward gives dy; the gradient is dy · y": "dx: the factor y is missing: "
    "backward gives dy",
    "dx: backward gives dy over axis 0; the gradient is dy over axis 1 (each element acts on every output)": "dx: "
    "backward gives dy over axis 0, which is not the gradient (each element acts on every output)",
    "dx: what is missing is dy: backward gives a; the gradient is a + dy; right 0.001 beside it": "dx: what is "
    "missing is dy: backward gives a; right 0.001 beside it",
    "dx, dq: gamma is left out: dx = (d − mean(d)) / σ, d = dy · gamma, means over axis 1": "dx, dq: gamma is left "
    "out",
    "dq: softmax by its diagonal: ds = p · (dp − Σ dp·p over the row)": "dq: softmax by its diagonal",
    "dlogvar: the noise eps is missing: ∂z/∂logvar = eps · ½ σ": "dlogvar: the noise eps is missing",
    "only the last dy is in it; np.add.at(W.grad, ids, dy) adds them all": "only the last dy is in it",
    "dx: the sign is wrong": "dx: the sign is wrong",
}


@pytest.mark.parametrize(("sentence", "left"), FORMULAS.items())
def test_the_formula_is_withheld(sentence, left):
    assert without_formula(sentence) == left


def raised_in(source, tmp_path):
    """The words on what a line raises, where a has shape (5, 4), b (4,), c (4, 5) and d (5,)."""
    path = tmp_path / "raising.py"
    path.write_text(source, encoding="utf-8")
    names = {"np": np, "a": np.ones((5, 4)), "b": np.ones(4), "c": np.ones((4, 5)), "d": np.ones(5)}
    with pytest.raises(ValueError) as caught:  # noqa: PT011  any of NumPy's
        exec(compile(source, str(path), "exec"), names)
    return in_plain_words(f"backward raised ValueError: {caught.value} ({path}, line 1)")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("b += a", "b has shape (4,), what is added has (5, 4): sum over the samples, axis 0"),
        ("b -= np.ones((2, 5, 4))", "b has shape (4,), what is subtracted has (2, 5, 4): sum over the first 2 axes"),
        ("b += d", "b has shape (4,), what is added has (5,): is a sum taken over the wrong axis?"),
        (
            "a += c",
            "a has shape (5, 4), what is added has (4, 5): one is the other transposed, so a .T is missing or",
        ),
        ("b[:] = a", "an array of shape (5, 4) does not fit into the place, of shape (4,): sum over the samples"),
        ("a - d", "arrays of shapes (5, 4) and (5,) do not go together element by element: a sum over the last axis"),
        ("a * np.ones((3, 4))", "(5, 4) and (3, 4) do not go together element by element: is the product @ meant?"),
        ("a @ a", "these have sizes 4 and 5: is a .T missing or too much, or the order exchanged?"),
        ("np.dot(a, a)", "a product of shapes (5, 4) and (5, 4) sums over the last axis of the first"),
        ("c * np.ones((4, 3, 2))", "compare them axis by axis, from the last"),
    ],
)
def test_shapes_that_do_not_fit_are_explained(source, said, tmp_path):
    words = raised_in(source, tmp_path)
    assert words.startswith(f"line 1, `{source}`: ")
    assert said in words


def test_other_errors_stay_as_they_are():
    for fault in (
        "dx: the sign is wrong",
        "backward raised ValueError: 3 (a.py, line 1)",
        "KeyError: 'x' (a.py, line 2)",
    ):
        assert in_plain_words(fault) == fault
