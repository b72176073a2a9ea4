"""Every kernel beside its reference, and under NVIDIA's compute-sanitizer where that is installed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import all_kernels
import pytest

SCRIPT = Path(all_kernels.__file__)
FOUND = 9  # exit status of the sanitizer where it found something
TOOLS = {
    "memcheck": "steps out of arrays, misaligned ones",
    "racecheck": "two threads at one number of shared memory without a barrier between",
    "initcheck": "memory read before it was written",
    "synccheck": "barriers that not all threads reach",
}


def test_every_kernel_is_launched_and_gives_what_its_reference_does(device):
    real = hasattr(sys.modules["cupy"], "__file__")
    ran = _run([] if real else ["--standin"])
    assert ran.returncode == 0, _end(ran)
    assert set(ran.stdout.split()) == {"launched", *all_kernels.kernel_names()}


@pytest.mark.parametrize(
    "name",
    ["elementwise", "channel_sums", "sum_with_map", "mean_and_variance", "im2col", "col2im", "adam", "square_sums"],
)
def test_a_result_that_is_off_is_named(name, device, monkeypatch):
    plain = getattr(device.ops, name)

    def off(*arguments):
        found = plain(*arguments)
        if isinstance(found, list | tuple):
            return [*found[:-1], found[-1] + 0.01]
        return found + 0.01

    monkeypatch.setattr(device.ops, name, off)
    with pytest.raises(AssertionError, match=rf"^{name} .*: off by up to 0\.0[01]"):
        all_kernels.run(device.ops)


@pytest.mark.parametrize("tool", TOOLS, ids=str)
def test_the_sanitizer_finds_nothing(tool, gpu):
    sanitizer = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if sanitizer is None:
        pytest.skip("compute-sanitizer is neither in PATH nor in /usr/local/cuda/bin: it comes with the CUDA toolkit")
    ran = _run([], sanitizer, "--tool", tool, "--error-exitcode", str(FOUND))
    if "Device not supported" in ran.stdout:  # as in some virtual machines
        pytest.skip("compute-sanitizer does not work on this device")
    found = of_our_kernels(ran.stdout)
    assert not found, "\n".join([TOOLS[tool], *found[:40]])
    assert ran.returncode in (0, FOUND), _end(ran)  # FOUND alone: in a library's kernel, which is not ours to mend
    assert f"launched {' '.join(sorted(all_kernels.kernel_names()))}" in ran.stdout, _end(ran)


def of_our_kernels(said: str) -> list[str]:
    """The sanitizer's lines that name one of our kernels."""
    name = re.compile(rf"\b({'|'.join(all_kernels.kernel_names())})\b")
    return [line for line in said.splitlines() if line.startswith("=========") and name.search(line)]


def test_the_sanitizers_words_on_our_kernels_are_found():
    said = """\
========= COMPUTE-SANITIZER
========= Invalid __global__ read of size 4 bytes
=========     at im2col+0x2b0
=========     by thread (3,0,0) in block (0,0,0)
========= Uninitialized __global__ memory read of size 4 bytes
=========     at cublas_kernel+0x10
launched adam im2col
========= ERROR SUMMARY: 2 errors
"""
    assert of_our_kernels(said) == ["=========     at im2col+0x2b0"]


def _run(arguments, *before):
    """The script in a process of its own; what it says on both streams in order."""
    root = str(SCRIPT.parents[2])
    return subprocess.run(
        [*before, sys.executable, str(SCRIPT), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": root},
    )


def _end(ran) -> str:
    return f"exit status {ran.returncode}: …{ran.stdout[-3000:]}"
