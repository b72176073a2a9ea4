"""Tests of the CUDA kernels on a GPU: `python -m pytest -m gpu`, with all others that take `backend` or `device`.

When the whole of them has passed on a real one, in one process, this is put on record in RESULTS.
"""

import sys
from collections import Counter

import backends
import pytest

from scratchgen.backend import BackendUnavailable, load_kernels
from scratchgen.bench import results

RESULTS = "demos/gpu_results.json"


@pytest.fixture(params=[pytest.param("cupy", marks=pytest.mark.gpu)])
def gpu(request):
    """CuPy on a real GPU, for what would take too long elsewhere."""
    yield from backends._installed(request.param)


def pytest_sessionfinish(session, exitstatus):
    """Record a whole run that passed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or exitstatus != 0 or not _whole(session.config):
        return
    if hasattr(session.config, "workerinput"):  # one of several processes, which knows of its own tests alone
        return
    found = summary(reporter.stats)
    if found["passed"] and _real_gpu():
        path = session.config.rootpath / RESULTS
        results.record(path, "tests", found)
        reporter.write_line(f"on record: {path}")


def _whole(config) -> bool:
    """Whether all tests marked `gpu` were asked for, and no others."""
    options = config.option
    narrowed = (
        options.keyword or options.deselect or getattr(options, "lf", False) or getattr(options, "last_failed", 0)
    )
    return options.markexpr == "gpu" and not narrowed and config.args_source is config.ArgsSource.TESTPATHS


def _real_gpu() -> bool:
    try:
        load_kernels("cupy")
    except BackendUnavailable:
        return False
    return hasattr(sys.modules["cupy"], "__file__")  # the stand-in has no file


def summary(stats: dict) -> dict:
    """What passed, by file, what was skipped and why, and the figures that tests have left."""
    passed = [report for report in stats.get("passed", []) if report.when == "call"]
    skipped = [report for report in stats.get("skipped", []) if "gpu" in report.keywords]
    parity = {}
    for report in passed:
        for name, value in report.user_properties:
            if name == "parity":
                parity |= value
    return {
        "passed": len(passed),
        "skipped": len(skipped),
        "files": dict(sorted(Counter(report.nodeid.partition("::")[0] for report in passed).items())),
        "reasons": sorted({_reason(report) for report in skipped}),
        "parity": parity,
    }


def _reason(report) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
