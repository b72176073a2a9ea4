"""What is compiled is kept and found again; whatever is in the way of that costs time alone, and no Ctrl-C waits."""

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest

from scratchgen.backend import compiled, fast, formula
from scratchgen.backend.compiled import compiler
from scratchgen.backend.compiled.compiler import Loop
from scratchgen.training import stop_request

ROOT = Path(__file__).parents[1]
SINGLE = np.dtype(np.float32)
MESSAGE = "scratchgen: compiling loops for this machine, once: some seconds in all, half a second each\n"
needs_numba = pytest.mark.skipif(not fast.available() or fast.numba() is None, reason="needs Numba: the extra `fast`")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of its own, for a process that has said nothing yet."""
    monkeypatch.setenv("SCRATCHGEN_CACHE", str(tmp_path))
    compiler._announce.cache_clear()
    yield tmp_path / "kernels"
    with redirect_stderr(io.StringIO()):
        compiler._announce()


def twice(text="2 * x[i]"):
    """A new loop, as another process would have it."""
    body = f"def twice(x, y):\n    for i in range(x.size):\n        y[i] = {text}\n"
    return Loop("twice", body, [("in", 1), ("out", 1)])


def works(loop) -> bool:
    """Whether it was there, rather than compiled; it is right in any case."""
    function = loop.of(SINGLE)
    x, y = np.arange(5, dtype=np.float32), np.empty(5, np.float32)
    function(x, y)
    np.testing.assert_array_equal(y, 2 * x)
    return sum(function.stats.cache_hits.values()) == 1


def silent(capsys) -> bool:
    compiler._announce.cache_clear()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err in ("", MESSAGE)
    return said.err == ""


# --- kept, and found again ---

PROGRAM = """
import sys
import numpy as np
import scratchgen
from scratchgen.backend import load_kernels, fast, reference
ops = load_kernels("numpy")
x = np.random.default_rng(0).standard_normal((5000, 7)).astype(np.float32)
for found, wanted in zip(ops.mean_and_variance(x), reference.mean_and_variance(x)):
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
assert np.array_equal(scratchgen.ReLU().predict(x), np.maximum(x, 0))
loops = [] if "numba" not in sys.modules or fast.numba() is None else [
    l for m in list(sys.modules.values()) if m.__name__ == "scratchgen.backend.compiled.loops"
    for l in [m.mean_and_squares.of(x.dtype)]
]
print(ops.__name__.rpartition(".")[2], "numba" in sys.modules, [sum(l.stats.cache_hits.values()) for l in loops])
"""


def begin(first="", **env):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", **env}
    env = {name: value for name, value in env.items() if value is not None}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", first + PROGRAM], env=env, text=True, **streams)


def ended(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.strip(), err


@needs_numba
def test_a_second_process_compiles_nothing(cache):
    """The first says so, once for all that it compiles."""
    assert ended(begin()) == ("compiled True [0]", MESSAGE)
    assert ended(begin()) == ("compiled True [1]", "")
    assert sorted(folder.name.rpartition("_")[0] for folder in cache.iterdir()) == [
        "mean_and_squares_float32",
        "relu_loop_float32",
    ]


@needs_numba
def test_two_processes_at_once(cache):
    for process in [begin() for _ in range(2)]:
        out, err = ended(process)
        assert out.startswith("compiled True")
        assert err in ("", MESSAGE)
    assert ended(begin()) == ("compiled True [1]", "")
    assert len(list(cache.iterdir())) == 2


@needs_numba
def test_it_is_kept_whole_and_nothing_else_is_left(cache, capsys):
    assert not works(twice())
    assert not silent(capsys)
    assert works(twice())
    assert silent(capsys)
    (folder,) = cache.iterdir()
    assert sorted(file.suffix for file in folder.rglob("*") if file.is_file()) == [".json", ".nbc", ".nbi", ".py"]
    assert not works(twice("x[i] + x[i]"))  # another text
    assert len(list(cache.iterdir())) == 2


DAMAGE = {
    "cut": lambda b: b[: len(b) // 2],
    "empty": lambda b: b"",
    "flipped": lambda b: b[:40] + bytes(byte ^ 0xFF for byte in b[40:60]) + b[60:],
    "longer": lambda b: b + b"\0",
    "another": lambda b: b"[1, 2]",
    "gone": None,
}


@needs_numba
@pytest.mark.parametrize("what", ["loop.py", "sums.json", "*.nbi", "*.nbc"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_made_anew(what, damage, cache, capsys):
    works(twice())
    (file,) = cache.rglob(what)
    if DAMAGE[damage] is None:
        file.unlink()
    else:
        file.write_bytes(DAMAGE[damage](file.read_bytes()))
    silent(capsys)
    assert not works(twice())
    assert not silent(capsys)
    assert works(twice())
    assert silent(capsys)
    assert len(list(cache.iterdir())) == 1


@needs_numba
def test_whole_files_that_are_no_loop_are_made_anew(cache, capsys):
    """Their sums are right: what Numba says of them is an exception."""
    works(twice())
    (folder,) = cache.iterdir()
    (index,) = folder.rglob("*.nbi")
    index.write_bytes(b"no pickle")
    (folder / "sums.json").unlink()
    compiler._keep(folder, folder.with_name("moved"))
    (folder.with_name("moved")).rename(folder)
    assert compiler._whole(folder)
    assert not works(twice())
    assert works(twice())


# --- where nothing can be kept ---


@needs_numba
@pytest.mark.parametrize("place", ["kernels", "the loop's folder", "cache"])
def test_a_file_where_a_folder_should_be(place, cache, capsys, monkeypatch):
    if place == "cache":
        cache.parent.joinpath("file").touch()
        monkeypatch.setenv("SCRATCHGEN_CACHE", str(cache.parent / "file"))
    elif place == "kernels":
        cache.touch()
    else:
        works(twice())
        (folder,) = cache.iterdir()
        shutil.rmtree(folder)
        folder.touch()
    assert not works(twice())
    assert not silent(capsys)
    assert works(twice()) == (place == "the loop's folder")  # which is nobody's


FAILS = [
    *[(Path, name, number) for name in ("mkdir", "write_text", "rename") for number in (errno.ENOSPC, errno.EROFS)],
    *[(os, name, number) for name in ("replace", "mkdir") for number in (errno.ENOSPC, errno.EACCES)],
]


@needs_numba
@pytest.mark.parametrize(("owner", "name", "number"), FAILS)
def test_a_full_disk_and_a_read_only_folder_cost_the_cache_alone(owner, name, number, cache, capsys, monkeypatch):
    """Whatever cannot be written; nothing is left behind, and it is compiled once, not twice."""
    numba, compiles = fast.numba(), []
    dispatcher = type(numba.njit(lambda: None))
    plain = dispatcher.compile
    monkeypatch.setattr(dispatcher, "compile", lambda self, sig: compiles.append(sig) or plain(self, sig))

    def fails(*args, **options):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fails)
        assert not works(twice())
    assert len(compiles) == 1
    assert not silent(capsys)
    assert not list(cache.parent.rglob("*.part"))
    assert not works(twice())
    assert works(twice())


@needs_numba
@pytest.mark.parametrize("home", ["/dev/null/home", "", None])
def test_a_home_that_is_none(home, monkeypatch, tmp_path, capsys):
    for name in ("SCRATCHGEN_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.chdir(tmp_path)
    works(twice())
    silent(capsys)


@needs_numba
def test_a_cache_folder_of_nobody(monkeypatch):
    monkeypatch.setenv("SCRATCHGEN_CACHE", "~no-such-user/cache")
    assert not works(twice())


@needs_numba
def test_numbas_own_cache_folder_stays_the_users(cache, tmp_path, monkeypatch):
    theirs = str(tmp_path / "theirs")
    monkeypatch.setattr(fast.numba().config, "CACHE_DIR", theirs)
    works(twice())
    assert works(twice())
    assert theirs == fast.numba().config.CACHE_DIR
    assert not os.path.exists(theirs)


@needs_numba
@pytest.mark.parametrize("stream", ["none", "closed"])
def test_nowhere_to_say_it(stream, monkeypatch, tmp_path, capsys):
    with (tmp_path / "said").open("w") as file:
        pass
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", None if stream == "none" else file)
        works(twice())
    assert works(twice())
    assert capsys.readouterr() == ("", "")


# --- where nothing compiles ---


@pytest.mark.parametrize("how", ["not installed", "refused", "broken", "told not to"])
def test_without_numba_numpy_does_it(how, tmp_path, cache):
    """A Numba that does not know this Python raises at its import, and is named; else nothing is said."""
    first, env = "", {}
    if how == "not installed":
        first = "import sys; sys.modules['numba'] = None\n"
    elif how == "refused":
        env["SCRATCHGEN_FAST"] = "0"
    elif how == "broken":
        (tmp_path / "fake" / "numba").mkdir(parents=True)
        (tmp_path / "fake" / "numba" / "__init__.py").write_text("raise ImportError('Numba needs Python 2.7')")
        env["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "fake"), str(ROOT)])
    elif fast.installed():
        env["NUMBA_DISABLE_JIT"] = "1"
    said, err = ended(begin(first, **env))
    if how == "broken" and os.environ.get("SCRATCHGEN_FAST") != "0":
        assert (
            err.count("Numba is installed and does not work here, so NumPy does its work: Numba needs Python 2.7")
            == 1
        )
    else:
        assert err == ""
    module = "numpy_ops" if how in ("not installed", "refused") or not fast.installed() else "compiled"
    module = "compiled" if how == "broken" and os.environ.get("SCRATCHGEN_FAST") != "0" else module
    if os.environ.get("SCRATCHGEN_FAST") != "0":
        assert said.split()[0] == module
    assert said.endswith("[]")
    assert not cache.exists()


@needs_numba
def test_a_loop_that_does_not_compile_is_numpys(capsys):
    loop = twice("nobody(x[i])")
    with pytest.warns(
        RuntimeWarning, match=r"^Numba cannot compile twice for float32, so NumPy does it: TypingError: "
    ):
        assert loop.of(SINGLE) is None
    assert loop.of(SINGLE) is None  # without another word: warnings are errors here


@needs_numba
@pytest.mark.parametrize("error", [RuntimeError("LLVM"), MemoryError(), AssertionError("inside Numba")])
def test_a_formula_that_does_not_compile_is_numpys(error, monkeypatch):
    def fails(*args):
        raise error

    monkeypatch.setattr(compiler, "_function", fails)
    f = formula(lambda x: x * 3 - 1)
    x = np.ones((100, 100), np.float32)
    with pytest.warns(RuntimeWarning, match="cannot compile"):
        np.testing.assert_array_equal(compiled.elementwise(f, x), 2 * x)
    np.testing.assert_array_equal(f(x), 2 * x)


def test_no_more_threads(monkeypatch):
    def none_left(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    assert twice().of(SINGLE) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_was_forked_while_numba_was_at_work(monkeypatch):
    """It would wait for ever for a lock that a thread of its parent's holds."""
    monkeypatch.setattr(compiler, "_compiling", threading.Lock())
    monkeypatch.setattr(compiler, "_torn", False)
    compiler._after_fork()
    assert not compiler._torn
    with compiler._compiling:
        compiler._after_fork()
    assert not compiler._compiling.locked()
    assert twice().of(SINGLE) is None


# --- threads and signals ---


class Slow:
    """Stands for the compiler: takes a while, and counts."""

    def __init__(self, monkeypatch, seconds=0.5):
        self.seconds, self.begun, self.count = seconds, threading.Event(), 0
        monkeypatch.setattr(compiler, "_compiled", self)
        monkeypatch.setattr(fast, "numba", lambda: "there is one")

    def __call__(self, loop, dtype):
        self.count += 1
        self.begun.set()
        time.sleep(self.seconds)
        return self

    def then(self, action):
        """What happens once it is at work."""
        thread = threading.Thread(target=lambda: self.begun.wait() and time.sleep(0.1) is None and action())
        thread.start()
        return thread


def test_two_threads_that_want_one_loop_have_it_compiled_once(monkeypatch):
    slow, loop, found = Slow(monkeypatch, 0.2), twice(), []
    users = [threading.Thread(target=lambda: found.append(loop.of(SINGLE))) for _ in range(4)]
    for thread in users:
        thread.start()
    for thread in users:
        thread.join()
    assert found == [slow] * 4
    assert slow.count == 1


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_does_not_wait_for_the_compiler(monkeypatch):
    """And leaves it alone: the next call has what it made."""
    slow, loop = Slow(monkeypatch, 2), twice()
    signalled, started = slow.then(interrupt), time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        loop.of(SINGLE)
    assert time.monotonic() - started < 1.5
    signalled.join()
    assert loop.of(SINGLE) is slow
    assert slow.count == 1


def test_a_step_that_is_asked_to_stop_does_not_wait_for_the_compiler(monkeypatch):
    """Neither for what is under way, nor for what is still to be compiled; what is compiled it has."""
    slow, loop, other, ready = Slow(monkeypatch, 2), twice(), twice(), twice()
    ready._compiled[SINGLE] = slow
    signalled = slow.then(interrupt)
    with stop_request() as stop:
        started = time.monotonic()
        assert loop.of(SINGLE) is None
        assert stop.is_set()
        assert other.of(SINGLE) is None
        assert ready.of(SINGLE) is slow
        assert time.monotonic() - started < 1.5
        assert sum(thread.name == "scratchgen-compiler" for thread in threading.enumerate()) == 1
        assert slow.count == 1
    signalled.join()
    assert loop.of(SINGLE) is slow
    assert other.of(SINGLE) is slow
    assert slow.count == 2


@needs_numba
@pytest.mark.parametrize("moment", [0.0, 0.02, 0.1, 0.3])
def test_ctrl_c_at_any_moment_tears_nothing(moment, cache):
    """Of Numba itself, in memory and on disk."""
    loop = twice()
    timer = threading.Timer(moment, interrupt)
    try:
        timer.start()
        loop.of(SINGLE)
        timer.join()
        time.sleep(0.2)
    except KeyboardInterrupt:
        pass
    works(loop)
    assert works(twice())
    assert not list(cache.rglob("*.part"))


@needs_numba
def test_a_training_run_that_is_stopped_while_it_compiles(tmp_path):
    """A real Ctrl-C when it says that it compiles: the step ends by NumPy, and all is saved."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = ["train", "vae", "--epochs", "2", "--quiet", "--out", "run"]
    first = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{first}\nfrom scratchgen.cli import main\nraise SystemExit(main({argv!r}))"
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=env, text=True, **streams)
    said = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    said += process.communicate(timeout=120)[1]
    assert said.startswith(MESSAGE)
    assert "Traceback" not in said
    assert process.returncode == 130
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()
    assert not list(tmp_path.rglob("*.part"))
