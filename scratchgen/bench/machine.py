"""The machine in words."""

import platform
from pathlib import Path

from scratchgen.backend.threads import cores

CPUINFO = Path("/proc/cpuinfo")


def machine() -> dict[str, str | int]:
    """What the figures depend on beside the program."""
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _cpu() -> str:
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names[0] if names else platform.processor()) or "unknown"
