"""The book: its chapters run, their equations hold, and what they say of the library is so."""

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import gradcheck, init, losses, optim, schedules
from scratchgen.book import CHAPTERS as TABLE
from scratchgen.book import page as path_of
from scratchgen.exercises.table import EXERCISES

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "demos/book"
sys.path.append(str(BOOK))
proof = importlib.import_module("proof")

CHAPTERS = {path.stem: path.read_text(encoding="utf-8") for path in proof.chapters()}
each_chapter = pytest.mark.parametrize("name", CHAPTERS)


def fenced(page: str) -> list[tuple[str, str]]:
    """(what follows the fence, content) of every block of code."""
    return re.findall(r"^```(\S+.*)\n((?:.*\n)*?)^```$", page, re.MULTILINE)


def prose(page: str) -> str:
    return re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)


@each_chapter
def test_a_chapter_runs_and_its_equations_hold(name, monkeypatch):
    monkeypatch.chdir(BOOK)
    monkeypatch.delenv(proof.WRITE, raising=False)
    there = set((BOOK / "pictures").iterdir())
    try:
        proof.run(BOOK / f"{name}.md")
    except AssertionError as error:
        pytest.fail(str(error), pytrace=False)
    new = {path.name for path in set((BOOK / "pictures").iterdir()) - there}
    assert new == set(), "pictures that were not there before: look at them, and commit them"


@each_chapter
def test_every_displayed_equation_has_a_tag_of_its_own(name):
    tags = [tag for tag, _ in proof.equations(CHAPTERS[name])]
    number = str(int(name[:2]))
    for tag, text in proof.equations(CHAPTERS[name]):
        assert re.fullmatch(rf"{number}\.\d+", tag), f"{tag or 'no tag'}: {text}"
    assert tags == [f"{number}.{i}" for i in range(1, len(tags) + 1)], "numbered from top to bottom, each once"
    assert CHAPTERS[name].count(r"\tag{") == len(tags)


@each_chapter
def test_what_is_proved_stands_in_the_chapter(name):
    tags = {tag for tag, _ in proof.equations(CHAPTERS[name])}
    code = "".join(source for _, source in proof.cells(CHAPTERS[name]))
    proved = set(re.findall(r"\b(?:equal|true)\(\s*\"([\d.]+)\"", code))
    assert proved <= tags
    assert proved, "it proves nothing"
    mentioned = set(re.findall(r"\((\d+\.\d+)\)", prose(CHAPTERS[name])))
    assert {tag for tag in mentioned if tag.split(".")[0] == str(int(name[:2]))} <= tags


@each_chapter
def test_lines_of_the_library_stand_there_exactly_so(name):
    """In a block whose first line is `# from scratchgen/...`: contiguous, and dedented as a whole at most."""
    blocks = [content for kind, content in fenced(CHAPTERS[name]) if kind == "python"]
    assert blocks, "it shows no line of the library"
    for block in blocks:
        head, _, shown = block.partition("\n")
        match = re.fullmatch(r"# from (scratchgen/[\w/]+\.(?:py|cu|c))", head)
        assert match, f"{head}: of which file are these lines?"
        assert shown.strip()
        source = (ROOT / match[1]).read_text(encoding="utf-8").splitlines()
        lines = shown.rstrip("\n").split("\n")
        at = [i for i in range(len(source)) if stands(lines, source[i : i + len(lines)])]
        assert at, f"{match[1]} has no longer these lines:\n{shown}"


def stands(shown: list[str], source: list[str]) -> bool:
    """Whether these are the source's lines, but for an indentation that all of them lack."""
    if len(shown) != len(source):
        return False
    indent = next((s[: len(s) - len(t)] for s, t in zip(source, shown, strict=True) if t), "")
    return not indent.strip() and all(s == (indent + t if t else "") for s, t in zip(source, shown, strict=True))


@each_chapter
def test_pictures_and_files_exist(name):
    text = prose(CHAPTERS[name])
    pictures = re.findall(r"!\[(.*?)\]\((.*?)\)", text)
    for words, path in pictures:
        assert len(words) > 15, f"{path}: what does one see?"
        file = BOOK / path
        assert file.is_file(), path
        assert file.stat().st_size < {".svg": 150_000, ".png": 200_000}[file.suffix], path
        assert file.name.startswith(name[:2]) or file.name[:2] in {n[:2] for n in CHAPTERS}, path
    for path in re.findall(r"(?<!!)\[[^\]]*\]\(([^)#\s]+)", text):
        planned = path.removesuffix(".md") in TABLE  # other chapters: they are all there, as another test says
        assert path.startswith("https://") or planned or (BOOK / path).exists(), path
    made = set(re.findall(r"picture\(\s*\"(.*?)\"", CHAPTERS[name]))
    assert made <= {Path(path).name for _, path in pictures}


def test_every_picture_is_shown():
    shown = set(re.findall(r"\]\(pictures/(.*?)\)", "".join(CHAPTERS.values())))
    assert {path.name for path in (BOOK / "pictures").iterdir()} == shown


@each_chapter
def test_exercises_exist_and_files_are_named(name):
    page = CHAPTERS[name]
    known = {exercise.name for exercise in EXERCISES}
    assert set(re.findall(r"scratchgen exercise (\w+)", page)) <= known
    assert "](../../scratchgen/" in page.partition("\n## Files")[2], (
        "a section `## Files` with links to the library's"
    )
    assert "\n## Sources" in page


@each_chapter
def test_a_chapter_reads_everywhere(name):
    """On the repository's page, in Jupyter and on the site: what one of them does not know is not used."""
    page = CHAPTERS[name]
    assert page.startswith("---\njupytext:\n")
    assert "format_name: myst" in page.partition("\n---\n")[0]
    for kind, _ in fenced(page):
        assert kind in ("{code-cell} ipython3", "python", "sh", "text"), kind
    text = prose(page)
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1
    assert not re.search(r"\\(newcommand|def|begin\{(?!(aligned|cases|pmatrix|bmatrix)\})|label|eqref|ref\b)", text)
    assert not re.search(r"<(?!!--)/?[a-z]+[^>$]*>", re.sub(r"\$.*?\$", "", text)), "HTML"
    assert not re.search(r"^\s*[%!]", "".join(source for _, source in proof.cells(page)), re.MULTILINE), "a magic"


# --- the book as a whole ---


def test_the_table_the_chapters_and_the_first_page_agree():
    assert list(TABLE) == list(CHAPTERS)
    assert [int(name[:2]) for name in TABLE] == list(range(1, len(TABLE) + 1))
    files = [file for explained in TABLE.values() for file in explained]
    assert len(files) == len(set(files)), "a file has one chapter"
    for name, explained in TABLE.items():
        listed = CHAPTERS[name].partition("\n## Files")[2]
        for file in explained:
            assert (ROOT / "scratchgen" / file).is_file(), file
            assert f"](../../scratchgen/{file})" in listed, f"{name} names not {file}"
    first_page = (BOOK / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\d+\. \[.*?\]\((.*?)\.md\): .+", first_page, re.MULTILINE) == list(TABLE)
    for name, title in re.findall(r"^\d+\. \[(.*?)\]\((.*?)\.md\)", first_page, re.MULTILINE):
        assert f"\n# {name}\n" in CHAPTERS[title], f"{title} has another title there"


def test_docstrings_name_their_chapter():
    models = {sg.Autoencoder, sg.VAE, sg.GAN, sg.Bernoulli, sg.Gaussian}
    public = [getattr(sg, name) for name in sg.__all__]
    layers = {a for a in public if isinstance(a, type) and issubclass(a, sg.Layer)}
    assert len(layers) > 15
    chapters = {file: name for name, files in TABLE.items() for file in files}
    for a in (*layers, *models, sg.dcgan):
        name = chapters[a.__module__.removeprefix("scratchgen.").replace(".", "/") + ".py"]
        assert f"\n\nChapter: {path_of(name)}" in inspect.getdoc(a), a
    for module in (losses, optim, schedules, init):
        name = chapters[module.__name__.removeprefix("scratchgen.") + ".py"]
        assert f"\n\nChapter: {path_of(name)}" in module.__doc__, module


def test_a_wrong_gradient_names_the_chapter_that_explains_it():
    def norm(x):
        y = (x - x.mean(axis=0)) / x.std(axis=0)
        return y, lambda dy: dy / x.std(axis=0)

    x = np.random.default_rng(0).standard_normal((6, 3))
    said = str(gradcheck.check(norm, x))
    assert said.endswith("\n  read: demos/book/05-batch-normalisation.md")
    assert "read:" not in str(gradcheck.check(sg.BatchNorm(3).astype(np.float64), x))
    for name, hint, chapter in (
        ("mine.py:MyConv2d(3, 4)", "", "04-convolution"),
        ("VAE(2)", "", "11-vae"),
        ("f", "the derivative of tanh is 1 − tanh²", "03-activations"),
        ("f", "", "09-gradient-check"),
        ("Normal", "", "09-gradient-check"),
    ):
        tensors = [gradcheck.TensorReport("dx", (3,), verdict="WRONG", hint=hint)]
        assert gradcheck.Report(name, tensors).sentences()[-1] == f"read: {path_of(chapter)}"
    assert gradcheck.Report("f", faults=["writes into x"]).sentences()[-1] == "read: demos/book/01-pullback.md"


@each_chapter
def test_a_chapter_opens_as_a_notebook(name):
    """With the cells that are run here."""
    jupytext = pytest.importorskip("jupytext", reason="needs jupytext: the extra `book`")
    notebook = jupytext.reads(CHAPTERS[name], fmt="md:myst")
    sources = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert sources == [source.strip("\n") for _, source in proof.cells(CHAPTERS[name])]
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


# --- a sign that is changed in the library ---

MISTAKES = {  # chapter: file, what stands there, what then stands there
    "01-pullback": ("layers/activations.py", "dy * (1 - y * y)", "dy * (1 + y * y)"),
    "02-dense": ("layers/dense.py", "matmul(x.T, dy)", "-matmul(x.T, dy)"),
    "03-activations": ("layers/activations.py", "dy * y * (1 - y)", "dy * y * (1 + y)"),
    "04-convolution": ("layers/conv.py", "dx=A.adjoint,", "dx=lambda dy: -A.adjoint(dy),"),
    "05-batch-normalisation": ("layers/batchnorm.py", "dbeta / m - x_hat", "dbeta / m + x_hat"),
    "06-losses": ("losses.py", "z * inv_std * (1 / N)", "-z * inv_std * (1 / N)"),
    "07-optimizers": ("optim.py", "p.value - self.lr * u", "p.value + self.lr * u"),
    "08-initialisation": ("init.py", "(2 / fan_in)", "(2 * fan_in)"),
    "09-gradient-check": ("gradcheck/numeric.py", "s_narrow / RATIO - s", "s_narrow / RATIO + s"),
    "10-autoencoder": ("losses.py", "r * (2 / N)", "-r * (2 / N)"),
    "11-vae": ("models/vae.py", "dz * eps * (0.5 * std)", "-dz * eps * (0.5 * std)"),
    "12-likelihood": ("models/vae.py", "+ logvars - z * z", "+ logvars + z * z"),
    "13-gan": ("models/gan.py", "full_like(s, label)", "full_like(s, 1 - label)"),
}


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """The library again, to change it."""
    folder = tmp_path_factory.mktemp("library")
    shutil.copytree(ROOT / "scratchgen", folder / "scratchgen", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize(
    "name", [name if n % 4 == 0 else pytest.param(name, marks=pytest.mark.slow) for n, name in enumerate(MISTAKES)]
)
def test_a_changed_sign_in_the_library_fails_its_chapter(name, copied):
    file, right, wrong = MISTAKES[name]
    source = copied / "scratchgen" / file
    text = source.read_text(encoding="utf-8")
    assert text.count(right) == 1, f"{file}: {right}"
    source.write_text(text.replace(right, wrong), encoding="utf-8")
    paths = {"PYTHONPATH": str(copied), "PYTHONDONTWRITEBYTECODE": "1", "SCRATCHGEN_FAST": "0"}
    command = [sys.executable, BOOK / "proof.py", name]
    try:
        done = subprocess.run(command, env=os.environ | paths, capture_output=True, text=True)
    finally:
        source.write_text(text, encoding="utf-8")
    assert done.returncode == 1, done.stdout
    assert re.match(rf"{name}.md, line \d+: equation \({int(name[:2])}\.\d+\) does not hold\n", done.stderr), (
        done.stderr
    )


# --- the proofs themselves ---


@pytest.fixture
def small_book(tmp_path, monkeypatch):
    monkeypatch.setattr(proof, "BOOK", tmp_path)
    page = "# T\n\n$$ dx = W^\\top dy \\tag{3.1} $$\n\n```{code-cell} ipython3\n:tags: [x]\nx = 1\n```\n\ntext\n"
    page += "```{code-cell} ipython3\nfrom proof import equal\n\nequal('3.1', [1.0, 2.0 + x], [1.0, 2.5])\n```\n"
    (tmp_path / "03-t.md").write_text(page, encoding="utf-8")
    return tmp_path / "03-t.md"


def test_a_failure_shows_chapter_line_equation_and_difference(small_book):
    with pytest.raises(AssertionError) as failure:
        proof.run(small_book)
    assert str(failure.value) == (
        "03-t.md, line 14: equation (3.1) does not hold\n    dx = W^\\top dy\n"
        "  largest difference 0.5 at (1,): left 3, right 2.5"
    )


def test_a_cell_shows_what_it_prints_and_what_it_ends_in(small_book, capsys):
    page = "```{code-cell} ipython3\nprint(1)\nx = [2]\n\nx\n```\n\n```{code-cell} ipython3\nx.append(3)\n```\n"
    small_book.write_text(page, encoding="utf-8")
    assert proof.run(small_book) == ["1\n[2]\n", ""]
    assert capsys.readouterr().out == "1\n[2]\n"
    for wrong, said in (
        ("1 / 0", "4: ZeroDivisionError: division by zero"),
        ("x = = 1", "4: SyntaxError: invalid syntax"),
    ):
        small_book.write_text(f"# T\n\n```{{code-cell}} ipython3\n{wrong}\n```\n", encoding="utf-8")
        with pytest.raises(AssertionError, match=f"03-t.md, line {said}"):
            proof.run(small_book)


def test_equal_and_true(small_book, capsys):
    proof.equal("3.1", [1.0, 2.0], [1.0, 2.0 + 1e-10])
    proof.equal("3.1", 1e-17, 0, atol=1e-15)
    proof.true("3.1", [True, True], "all is well")
    assert capsys.readouterr().out.split("\n")[0] == "(3.1) holds to 5e-11"
    nan, inf = float("nan"), float("inf")
    for wrong in (
        (1.0, 1.0 + 1e-8),
        (nan, 1.0),
        (inf, 5.0),
        (inf, inf),
        ([1.0, nan], [1.0, nan]),
        ([1.0], [1.0, 1.0]),
        (1e-17, 0),
    ):
        with pytest.raises(AssertionError, match=r"W\^\\top dy"):
            proof.equal("3.1", *wrong)
    with pytest.raises(AssertionError, match="not so that all is well"):
        proof.true("3.1", [True, False], "all is well")
    with pytest.raises(LookupError, match=r"03-t.md: no equation with \\tag{3.2}"):
        proof.equal("3.2", 1, 1)
    with pytest.raises(ValueError, match="no chapter shows"):
        proof.picture("03-none.svg", None)
