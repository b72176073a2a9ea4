"""A path means the same in every option and every function: `~`, text or pathlib, a slash at its end, relative."""

import os
from pathlib import Path

import answers
import numpy as np
import pytest
import tiny
from PIL import Image
from safetensors.numpy import load_file

import scratchgen as sg
from scratchgen.bench import results
from scratchgen.cli import parser
from scratchgen.commands.arguments import path
from scratchgen.data import load, load_cifar10, load_folder, load_mnist, read_idx, write_idx
from scratchgen.data.download import data_folder
from scratchgen.files import atomic_write
from scratchgen.gradcheck import student
from scratchgen.paths import as_path
from scratchgen.recipes import load_run
from scratchgen.training import RunFolder, load_checkpoint, save_checkpoint, save_picture


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder; the working folder is another, and stays empty."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.delenv("SCRATCHGEN_DATA", raising=False)
    monkeypatch.setenv("SCRATCHGEN_CACHE", "~/cache")
    monkeypatch.chdir(work)
    yield home
    assert list(work.iterdir()) == []


# --- what it means ---


def test_a_path(home, tmp_path):
    for given in ("~/a/b", Path("~/a/b"), "~/a/b/", "~//a/./b"):
        assert as_path(given) == home / "a" / "b", given
    assert as_path("~") == as_path("~/") == home
    for given, wanted in (("a/b/", "a/b"), (Path("a"), "a"), ("./a", "a"), (tmp_path, tmp_path), ("a~", "a~")):
        assert as_path(given) == Path(wanted), given


def test_what_is_called_tilde(home, monkeypatch):
    """pathlib makes ~ of ./~: it must not become the home folder on its way through a second function."""
    here = Path.cwd()
    for given in ("./~", "./~x", "./~/a"):
        assert as_path(as_path(given)) == here / given[2:]


@pytest.mark.parametrize("given", ["~nobody-at-all", "~nobody-at-all/run"])
def test_the_home_of_nobody(given):
    with pytest.raises(ValueError, match=r"there is no user nobody-at-all; a file of that name here is \./~nobody"):
        as_path(given)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("", ValueError),
        ("a\0b", ValueError),
        (b"a", TypeError),
        (3, TypeError),
        (None, TypeError),
        (["a"], TypeError),
    ],
)
def test_what_is_no_path(given, error):
    with pytest.raises(error):
        as_path(given)


# --- every function ---


def weights(file):
    sg.save_weights(sg.Dense(2, 3), file)
    sg.load_weights(sg.Dense(2, 3), file)


def checkpoint(file):
    model = sg.Dense(2, 3)
    optimizers = {"optimizer": sg.Adam(model.parameters())}
    save_checkpoint(file, model, optimizers, {})
    load_checkpoint(file, model, optimizers)


def run_folder(folder):
    RunFolder.create(folder, {"model": "ae"})
    assert RunFolder.open(folder).config() == RunFolder(folder).config() == {"model": "ae"}
    assert RunFolder.unused(as_path(folder).parent, "file").name == "file-2"


def export(file):
    file = type(file)(f"{file}.safetensors")
    assert all(written.is_absolute() for written in sg.export_torch(sg.Dense(2, 3), file))
    assert load_file(as_path(file)).keys() == {"weight", "bias"}


def idx(file):
    write_idx(file, np.zeros(3, np.uint8))
    assert len(read_idx(file)) == 3


def pictures(folder):
    as_path(folder).mkdir()
    for i in range(2):
        save_picture(Image.new("L", (4, 4)), Path(folder) / f"{i}.png")
    for read in (load, load_folder):
        assert len(read(folder, progress=False).train_images) == 1


def digits(folder):
    tiny.digits(as_path(folder))
    assert len(load(folder).train_images) == len(load_mnist(folder).train_images) == 60
    with pytest.raises((FileNotFoundError, ValueError), match="home"):
        load_cifar10(folder)


def arrays(file):
    file = type(file)(f"{file}.npy")
    np.save(as_path(file), np.zeros((12, 5, 5), np.uint8))
    assert load(file).image_shape == (5, 5, 1)


def layer(file):
    as_path(f"{file}.py").write_text("def double(x):\n    return 2 * x, lambda dy: 2 * dy\n")
    assert student.load(f"{file}.py:double", np.random.default_rng(0))


def written(file):
    with atomic_write(file) as stream:
        stream.write(b"x")


def gpu_results(file):
    assert results.read(as_path(file)) == {}
    as_path(file).touch()


FUNCTIONS = (weights, checkpoint, run_folder, export, idx, pictures, digits, arrays, layer, written, gpu_results)


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_every_function_takes_every_path(function, kind, home):
    function(kind("~/file"))
    assert any(p.name.startswith("file") for p in home.iterdir())


def test_the_cache_of_downloads(home):
    assert data_folder(None, "mnist") == (home / "cache" / "mnist").resolve()
    assert data_folder("~/there", "mnist") == (home / "there").resolve()


# --- every option ---


AE = ("train", "ae", "--image-size", "8", "--hidden", "4", "--latent", "2", "--epochs", "1", "--quiet")


def succeeds(*argv):
    assert tiny.run(*argv) == 0, argv


@pytest.mark.parametrize("form", ["~/{}", "~/{}/", "{home}/{}/", "../home/{}", "../home/{}/"])
def test_every_option_takes_every_path(form, home, monkeypatch, capsys):
    tiny.no_pictures(monkeypatch)
    tiny.digits(home / "digits")

    def at(name, *, slash=True):
        text = form.format(name, home=home)
        return text if slash else text.rstrip("/")

    succeeds(*AE, f"--data={at('digits')}", f"--out={at('run')}")
    config = RunFolder(home / "run").config()
    assert config["data"] == str(home / "digits")  # so that it means the same from another folder
    succeeds("train", "ae", "--resume", at("run"), "--epochs", "2", "--quiet")
    files = {"reconstruct": "r.npy", "interpolate": "i.npy", "export": "e.safetensors", "metrics": "m.csv"}
    for command, file in files.items():
        succeeds(command, at("run"), f"--output={at(file, slash=False)}")
        assert (home / file).is_file()
    succeeds("evaluate", at("run"), "--data", at("digits"), "--quiet")
    assert load_run(at("run")).encode(np.zeros((1, 8, 8, 1), np.float32)).shape == (1, 2)
    monkeypatch.setenv("SCRATCHGEN_DATA", at("digits"))
    succeeds(*AE, "--out", at("second"))
    (home / "mine.py").write_text("def double(x):\n    return 2 * x, lambda dy: 2 * dy\n")
    succeeds("gradcheck", at("mine.py", slash=False) + ":double")
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "~" not in printed.out


def test_the_files_of_the_benchmark(home, capsys):
    argv = ("bench", "ae", "--no-torch", "--rounds", "1", "--batch-size", "2", "--threads", "1", "--skip-memory")
    succeeds(*argv, "--scaling", "threads", "--json=~/a.json", "--picture=~/a.png")
    assert {p.name for p in home.iterdir()} >= {"a.json", "a.png"}


def test_the_files_of_exercises(home, capsys):
    (home / "in").mkdir()
    (home / "in" / "dense.py").write_text(answers.RIGHT, encoding="utf-8")
    succeeds("exercise", "check", "~/in/dense.py")
    succeeds("exercise", "grade", "~/in", "--csv", "~/grades.csv")
    assert (home / "grades.csv").is_file()
    assert (home / "cache" / "exercises" / "record.json").is_file()


def test_no_option_that_is_a_path_was_forgotten():
    """What stands for a file or folder in the help is read by `path`; --data may be a name too."""
    found = set()

    def look(parser):
        for action in parser._actions:
            if hasattr(action, "choices") and isinstance(action.choices, dict):
                for sub in action.choices.values():
                    look(sub)
            elif any(word in str(action.metavar or action.dest) for word in ("FILE", "DIR", "RUN")):
                name = (action.option_strings or [action.dest])[0]
                found.add(name)
                assert action.type is path or name in ("--data", "words"), f"{parser.prog} {name}"

    look(parser())
    options = {"--data", "--out", "--resume", "--output", "--json", "--record", "--picture", "--tensorboard"}
    assert found == {*options, "--csv", "RUN", "words"}


@pytest.mark.parametrize("option", ["--out", "--resume"])
def test_a_path_that_is_none_is_one_sentence(option, home, capsys):
    for given in ("", "~nobody-at-all/run"):
        assert tiny.run(*AE, f"{option}={given}") == 2
        said = capsys.readouterr().err
        assert f"argument {option}: " in said
        assert "is not a path" in said
        assert said.count("\n") == 1


def test_nothing_of_the_library_expands_a_path_by_itself():
    """One function decides what a path means."""
    package = Path(sg.__file__).parent
    others = [p for p in package.rglob("*.py") if "expanduser" in p.read_text(encoding="utf-8")]
    assert {str(p.relative_to(package)).replace(os.sep, "/") for p in others} == {
        "paths.py",
        "export.py",  # in the file that it writes, which has no library beside it
    }
