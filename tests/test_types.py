"""What users call says its types, and a script of theirs is checked by them."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import scratchgen as sg


def of_users():
    """Every function and method that `from scratchgen import …` gives, by name."""
    for name in sg.__all__:
        thing = getattr(sg, name)
        if inspect.isclass(thing):
            for attribute, member in inspect.getmembers(thing):
                mine = inspect.unwrap(member.fget if isinstance(member, property) else member)
                ours = inspect.isfunction(mine) and mine.__module__.startswith("scratchgen")
                if ours and (attribute == "__init__" or not attribute.startswith("_")):
                    yield f"{name}.{attribute}", mine
        elif inspect.isfunction(thing):
            yield name, thing


USERS = dict(of_users())


@pytest.mark.parametrize("name", USERS)
def test_every_argument_and_result_has_a_type(name):
    signature = inspect.signature(USERS[name])
    bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name != "self"]
    if signature.return_annotation is signature.empty and not name.endswith("__init__"):
        bare.append("the result")
    assert bare == []


WRONG = {  # and what mypy says of each
    "sg.Dense('3', 4)": 'Argument 1 to "Dense" has incompatible type "str"',
    "sg.mse([1.0], np.zeros(3))": 'Argument 1 to "mse" has incompatible type "list[float]"',
    "loss, dy, dz = sg.mse(np.zeros(3), np.zeros(3))": "Need more than 2 values to unpack",
    "sg.Adam(sg.Dense(3, 4))": 'Argument 1 to "Adam" has incompatible type "Dense"',
    "sg.Sequential(sg.relu)": 'Module has no attribute "relu"',
}


def test_scripts_of_the_guide_pass_mypy_and_wrong_calls_do_not(tmp_path):
    pytest.importorskip("mypy", reason="needs mypy: pip install '.[lint]'")
    pages = sorted((Path(__file__).parents[1] / "demos/guide").glob("*.md"))
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    scripts = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    scripts += [f"import numpy as np\nimport scratchgen as sg\n{call}\n" for call in WRONG]
    for i, script in enumerate(scripts):
        (tmp_path / f"script{i:02d}.py").write_text(script, encoding="utf-8")
    strict = ["--strict", "--allow-untyped-defs", "--allow-untyped-calls", "--follow-imports=silent"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=", *strict, "."],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(Path(sg.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    errors = sorted(line for line in done.stdout.splitlines() if ": error:" in line)
    assert len(scripts) >= len(WRONG) + 6
    for error, (i, said) in zip(errors, enumerate(WRONG.values(), len(scripts) - len(WRONG)), strict=True):
        assert error.startswith(f"script{i:02d}.py:3:"), done.stdout
        assert said in error
