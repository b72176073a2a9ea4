"""BLAS's kernels are chosen before NumPy loads them: such as the processor has, and never over the user's word."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info

from scratchgen import blas
from scratchgen.cli import main

ROOT = Path(__file__).parents[1]
NAMES = ("OPENBLAS_CORETYPE", "OPENBLAS_THREAD_TIMEOUT", "SCRATCHGEN_BLAS")
AVX512 = "avx512f avx512dq avx512cd avx512bw avx512vl"
ALL = f"fpu sse2 avx2 fma {AVX512} avx512_vnni"


def cpuinfo(*cores, vendor="AuthenticAMD"):
    """The text of /proc/cpuinfo, with the flags of each core."""
    return "\n".join(
        f"processor\t: {i}\nvendor_id\t: {vendor}\nmodel name\t: A processor with avx512f in its name\nbugs\t\t: "
        f"spectre\nflags\t\t: {flags}\nvmx flags\t: {ALL}\npower management:\n"
        for i, flags in enumerate(cores)
    )


@pytest.fixture
def x86(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


# --- the processor --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "vendor", "flags"),
    [
        (cpuinfo(ALL, ALL), "AuthenticAMD", set(ALL.split())),
        (cpuinfo(ALL, vendor="GenuineIntel"), "GenuineIntel", set(ALL.split())),
        (cpuinfo("fpu sse2 avx2"), "AuthenticAMD", {"fpu", "sse2", "avx2"}),
        (cpuinfo(ALL, "fpu avx2", ALL), "AuthenticAMD", {"fpu", "avx2"}),
        (cpuinfo("fpu avx2", ALL), "AuthenticAMD", {"fpu", "avx2"}),
        (cpuinfo(ALL, ""), "AuthenticAMD", set()),
        (cpuinfo(), "", set()),
        ("", "", set()),
        ("\n\n:\n: flags\nflags\nvendor_id", "", set()),
        (f"model name: flags : {AVX512}\nflagsy: {AVX512}\n", "", set()),
        ("processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd sve\nCPU implementer\t: 0x41\n", "", set()),
        ("\x00\ufffd garbage : : : flags : avx512f", "", set()),
    ],
    ids=[
        "AMD Zen 5",
        "Intel",
        "no AVX-512",
        "one core without",
        "the first core without",
        "a core with no flags",
        "no core",
        "empty",
        "nothing after the colons",
        "other lines that speak of flags",
        "ARM",
        "garbage",
    ],
)
def test_what_proc_cpuinfo_says(text, vendor, flags, tmp_path, x86):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert blas.processor(path) == (vendor, flags)


def test_bytes_that_are_no_text(tmp_path, x86):
    path = tmp_path / "cpuinfo"
    path.write_bytes(b"\xff\xfe\x00flags : avx512f\nvendor_id : \xc3\nflags : avx2 \xff\n")
    _, flags = blas.processor(path)
    assert "avx2" in flags
    assert "avx512f" not in flags


def test_no_proc_cpuinfo(tmp_path, x86):
    assert blas.processor(tmp_path / "none") == ("", set())
    assert blas.processor(tmp_path) == ("", set())


def test_another_kind_of_processor(tmp_path, monkeypatch):
    """Whatever its flags are called, they are not x86's."""
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo(ALL))
    for machine, known in (("x86_64", True), ("AMD64", True), ("aarch64", False), ("arm64", False), ("", False)):
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        assert (blas.processor(path) != ("", set())) == known, machine


# --- what is chosen -------------------------------------------------------------------------------------------------

SELECT = """
import json, os, pathlib, platform, runpy, sys
text = sys.argv[2]
pathlib.Path.read_text = lambda path, **options: text
platform.machine = lambda: "x86_64"
if sys.argv[3]:
    sys.modules["numpy"] = None
before = set(sys.modules)
blas = runpy.run_path(sys.argv[1])
print(json.dumps([
    {name: os.environ.get(name) for name in json.loads(sys.argv[4])},
    blas["select"](),
    blas["threads_rest"](),
    sorted(name for name in set(sys.modules) - before if name.startswith(("numpy", "scratchgen"))),
    blas["chosen"],
]))
"""


def select(text, *, loaded=False, **environment):
    """The environment after blas.py has run in a Python of its own on a machine with this
    /proc/cpuinfo; what select() says; whether threads rest. It imported nothing of NumPy or the package."""
    names = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", SELECT, blas.__file__, text, "loaded" * loaded, json.dumps(NAMES)],
        env={**names, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    variables, selected, rest, imported, put = json.loads(done.stdout)
    assert imported == []
    assert put == {name: value for name, value in variables.items() if value is not None and name not in environment}
    return variables, selected, rest


def chosen(core=None, timeout=None, switch=None):
    return dict(zip(NAMES, (core, timeout, switch), strict=True))


ZEN5, INTEL = cpuinfo(ALL, ALL), cpuinfo(ALL, ALL, vendor="GenuineIntel")


@pytest.mark.parametrize(
    ("text", "core"),
    [
        (ZEN5, "SkylakeX"),
        (INTEL, None),
        (cpuinfo("fpu sse2 avx2 fma"), None),
        (cpuinfo(ALL, "fpu sse2 avx2 fma"), None),
        (cpuinfo(), None),
        ("garbage", None),
        *((cpuinfo(ALL.replace(flag + " ", "")), None) for flag in AVX512.split()),
    ],
    ids=[
        "Zen 5",
        "Intel",
        "no AVX-512",
        "one core without",
        "no core",
        "garbage",
        *(f"no {f}" for f in AVX512.split()),
    ],
)
def test_avx512_is_chosen_only_where_it_is_there_and_openblas_may_miss_it(text, core):
    assert select(text) == (chosen(core, "20"), True, True)


@pytest.mark.parametrize("value", ["Haswell", "SkylakeX", "Zen", ""])
def test_the_users_own_kernels_stay(value):
    assert select(ZEN5, OPENBLAS_CORETYPE=value) == (chosen(value, "20"), True, True)


@pytest.mark.parametrize(
    ("value", "rest"), [("4", True), ("22", True), ("23", False), ("26", False), ("x", False), ("", False)]
)
def test_the_users_own_timeout_stays(value, rest):
    assert select(ZEN5, OPENBLAS_THREAD_TIMEOUT=value) == (chosen("SkylakeX", value), True, rest)


def test_nothing_is_set_when_numpy_is_loaded():
    """Too late: a child process would have what this one has not."""
    assert select(ZEN5, loaded=True) == (chosen(), False, False)
    mine = {"OPENBLAS_CORETYPE": "Zen", "OPENBLAS_THREAD_TIMEOUT": "20"}
    assert select(ZEN5, loaded=True, **mine) == (chosen("Zen", "20"), False, True)


def test_nothing_is_set_when_the_user_wants_the_default():
    assert select(ZEN5, SCRATCHGEN_BLAS="default") == (chosen(switch="default"), False, False)
    mine = {"OPENBLAS_THREAD_TIMEOUT": "18"}
    assert select(ZEN5, SCRATCHGEN_BLAS="default", **mine) == (chosen(None, "18", "default"), False, True)


def test_it_imports_nothing_of_the_package_and_not_numpy():
    """Which would be too late then."""
    select(ZEN5)


# --- before NumPy ---------------------------------------------------------------------------------------------------

WATCH = """
import json, os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            found = ["scratchgen.blas" in sys.modules, os.environ.get("OPENBLAS_THREAD_TIMEOUT")]
            print(json.dumps(found), file=sys.stderr)
sys.meta_path.insert(0, Watch())
"""


def python(*arguments, **environment):
    names = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**names, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    "entrance",
    [
        "import scratchgen",
        "from scratchgen.layers import Dense",
        "import scratchgen.backend.numpy_ops",
        "from scratchgen.cli import main; main(['info'])",
        "import runpy; sys.argv = ['scratchgen', 'info']; runpy.run_module('scratchgen', run_name='__main__')",
    ],
)
def test_numpy_is_loaded_after_the_choice(entrance):
    said = python("-c", f"{WATCH}\ntry:\n    {entrance}\nexcept SystemExit as stop:\n    assert not stop.code").stderr
    assert [json.loads(line) for line in said.splitlines()] == [[True, "20"]]


def test_what_is_set_lasts_for_child_processes_and_a_second_import_changes_nothing():
    script = (
        "import scratchgen, os, importlib; before = dict(os.environ); importlib.reload(scratchgen.blas); "
        "assert dict(os.environ) == before; "
        "print(os.environ['OPENBLAS_THREAD_TIMEOUT'], scratchgen.blas.threads_rest())"
    )
    assert python("-c", script).stdout.split() == ["20", "True"]


# --- what is said of it ---------------------------------------------------------------------------------------------

SLOW = (
    "the processor has AVX-512 but OpenBLAS runs its Haswell kernels, at about half the speed: "
    "set OPENBLAS_CORETYPE=SkylakeX before Python starts"
)
AWAKE = (
    "OpenBLAS keeps its threads awake beside the library's, which therefore leaves them alone: "
    "set OPENBLAS_THREAD_TIMEOUT=20 before Python starts, or import scratchgen before numpy"
)


@pytest.mark.parametrize(
    ("flags", "architectures", "timeout", "core", "said"),
    [
        (ALL, ["Haswell"], "", None, [f"{SLOW}, or import scratchgen before numpy", AWAKE]),
        (ALL, ["Haswell"], "20", None, [f"{SLOW}, or import scratchgen before numpy"]),
        (ALL, ["Haswell"], "20", "SkylakeX", [f"{SLOW}, or import scratchgen before numpy"]),
        (ALL, ["Haswell"], "20", "Haswell", [f"{SLOW}, in place of what it says now"]),
        (ALL, ["SkylakeX"], "20", None, []),
        (ALL, ["Cooperlake"], "20", None, []),
        (ALL, ["SapphireRapids"], "20", None, []),
        (ALL, ["Zen5"], "20", None, []),
        (ALL, ["SkylakeX"], "", None, [AWAKE]),
        (ALL, ["Zen5"], "26", None, [AWAKE]),
        ("avx2 avx512f", ["Haswell"], "20", None, []),
        ("avx2", ["Zen"], "20", None, []),
        ("avx2", ["Zen"], "", None, [AWAKE]),
        ("", ["neoversen1"], "20", None, []),
        (ALL, [], "", None, []),
        (ALL, ["Haswell", "SkylakeX"], "20", None, []),
    ],
)
def test_advice(flags, architectures, timeout, core, said, monkeypatch):
    monkeypatch.setattr(blas, "processor", lambda: ("AuthenticAMD", set(flags.split())))
    monkeypatch.setattr(blas, "_timeout", timeout)
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    if core:
        monkeypatch.setenv("OPENBLAS_CORETYPE", core)
    assert blas.advice(architectures) == said


def test_advice_where_the_user_wanted_the_default(monkeypatch):
    monkeypatch.setattr(blas, "processor", lambda: ("AuthenticAMD", set(ALL.split())))
    monkeypatch.setattr(blas, "_timeout", "")
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    monkeypatch.setenv("SCRATCHGEN_BLAS", "default")
    slow, awake = blas.advice(["Haswell"])
    assert slow == f"{SLOW}, or unset SCRATCHGEN_BLAS"
    assert awake == AWAKE.replace("or import scratchgen before numpy", "or unset SCRATCHGEN_BLAS")


def test_info_says_what_is_lost_and_what_mends_it(monkeypatch, capsys):
    library = {"user_api": "blas", "internal_api": "openblas", "version": "1", "num_threads": 2}
    openmp = {"user_api": "openmp", "internal_api": "openmp", "version": "1", "num_threads": 2}
    infos = [openmp, {**library, "architecture": "Haswell"}]
    monkeypatch.setattr("scratchgen.commands.info.threadpool_info", lambda: infos)
    monkeypatch.setattr(blas, "processor", lambda: ("AuthenticAMD", set(ALL.split())))
    monkeypatch.setattr(blas, "_timeout", "")
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert f"{SLOW}, or import scratchgen before numpy\n" in text
    assert f"{AWAKE}\n" in text
    infos[1]["architecture"] = "SkylakeX"
    monkeypatch.setattr(blas, "_timeout", "20")
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert "kernels for SkylakeX" in text
    assert "before numpy" not in text


def test_info_knows_other_libraries(monkeypatch, capsys):
    """MKL has no architecture, and is not advised on; nor is there always a library."""
    mkl = {"user_api": "blas", "internal_api": "mkl", "version": "2025", "num_threads": 2}
    monkeypatch.setattr(blas, "_timeout", "")
    for infos in ([mkl], []):
        monkeypatch.setattr("scratchgen.commands.info.threadpool_info", lambda infos=infos: infos)
        assert main(["info"]) == 0
        assert "OPENBLAS" not in capsys.readouterr().out


# --- that it reaches OpenBLAS ---------------------------------------------------------------------------------------

ARCHITECTURES = [
    library.get("architecture") for library in threadpool_info() if library["internal_api"] == "openblas"
]
FLAGS = blas.processor()[1]
openblas = pytest.mark.skipif(not ARCHITECTURES or "avx2" not in FLAGS, reason="needs OpenBLAS on an x86 with AVX2")
LOADED = (
    "import scratchgen, json; from threadpoolctl import threadpool_info; "
    "print(json.dumps([b['architecture'] for b in threadpool_info() if b['internal_api'] == 'openblas']))"
)


@openblas
def test_openblas_runs_the_kernels_that_the_user_asked_for():
    assert set(json.loads(python("-c", LOADED, OPENBLAS_CORETYPE="Haswell").stdout)) == {"Haswell"}


@openblas
@pytest.mark.skipif(not FLAGS >= blas.AVX512, reason="this processor has no AVX-512")
def test_openblas_runs_the_kernels_that_are_chosen():
    """As if this processor were not Intel's; and "Haswell" in the place of what is chosen, to see that it is this."""
    script = (
        "import pathlib; read = pathlib.Path.read_text\n"
        "def read_text(path, **options):\n"
        "    text = read(path, **options)\n"
        "    return text.replace('GenuineIntel', 'AuthenticAMD') if path.name == 'cpuinfo' else text\n"
        "pathlib.Path.read_text = read_text\n"
    )
    assert set(json.loads(python("-c", script + LOADED).stdout)) == {"SkylakeX"}
    other = (
        "import os; kind = type(os.environ); put = kind.__setitem__\n"
        "kind.__setitem__ = lambda self, name, value: put(self, name, value.replace('SkylakeX', 'Haswell'))\n"
    )
    assert set(json.loads(python("-c", script + other + LOADED).stdout)) == {"Haswell"}


@openblas
def test_numpy_first_is_what_info_speaks_of():
    """On a processor that OpenBLAS knows nothing is lost but the rest of its threads."""
    script = "import numpy; from scratchgen.cli import main; main(['info'])"
    text = python("-c", script, OPENBLAS_CORETYPE="Haswell").stdout
    assert ("set OPENBLAS_CORETYPE=SkylakeX before Python starts" in text) == (FLAGS >= blas.AVX512)
    assert "set OPENBLAS_THREAD_TIMEOUT=20 before Python starts, or import scratchgen before numpy" in text
    text = python("-c", script.removeprefix("import numpy; ")).stdout
    assert "OPENBLAS_THREAD_TIMEOUT" not in text
