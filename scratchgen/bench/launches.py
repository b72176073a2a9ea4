"""What a step launches on the GPU, counted by PyTorch's profiler: it sees every kernel of its process, CuPy's too."""

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = 5
COPIES = ("gpu_memcpy", "gpu_memset")


def count(run: Callable[[], object], wait: Callable[[], None]) -> dict[str, Any]:
    """Kernels, and copies and fills, of one step: {"kernels": 102.0, "copies": 1.0}, or {"missing": why}."""
    try:
        from torch import cuda
        from torch.profiler import ProfilerActivity, profile

        cuda.synchronize()  # the profiler sees what comes after PyTorch has found the GPU
        for _ in range(2):
            run()
        found: list[dict[str, Any]] = []
        for _ in range(2):  # a first profile can lack what happens while it sets itself up
            wait()
            with profile(activities=[ProfilerActivity.CUDA]) as profiler:
                for _ in range(STEPS):
                    run()
                wait()
            found = _events(profiler)
    except Exception as error:  # this is about another program's profiler: whatever it is, the rest goes on
        return {"missing": f"PyTorch's profiler: {type(error).__name__}: {error}"}
    return counted(found, STEPS)


def _events(profiler: Any) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(file))
        return json.loads(file.read_text(encoding="utf-8"))["traceEvents"]


def counted(events: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    """See `count`; the events are those of Chrome's trace format, in which each kernel has the category "kernel"."""
    kinds = Counter(str(event.get("cat", "")).lower() for event in events)
    if not kinds["kernel"]:
        return {"missing": "PyTorch's profiler saw no kernel"}
    return {"kernels": kinds["kernel"] / steps, "copies": sum(kinds[kind] for kind in COPIES) / steps}
