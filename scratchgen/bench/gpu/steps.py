"""Our side on the GPU: the steps of `bench.steps`, all on the device but the noise, which is moved each time."""

from scratchgen.backend import load_kernels
from scratchgen.bench import steps
from scratchgen.bench.gpu.device import MIB, about, wait
from scratchgen.bench.settings import Setting

__all__ = ["held", "make", "prepare", "wait"]


def prepare(threads: int, precision: str) -> dict:
    """Multiply in this precision; says what runs here."""
    load_kernels("cupy").set_precision(precision)
    return {**steps.prepare(threads), **about(), "precision": precision}


def make(setting: Setting, *, layout: str = "", seed: int = 0) -> steps.Step:
    """As `bench.steps.make`."""
    return steps.make(setting, layout=layout, seed=seed, backend="cupy")


def held(run, count: int) -> float:
    """MiB that CuPy's memory pool has taken from the GPU for steps, without what only the first of them needed."""
    pool = load_kernels("cupy").xp.get_default_memory_pool()
    for _ in range(count):
        run()
    wait()
    pool.free_all_blocks()
    for _ in range(count):
        run()
    wait()
    return pool.total_bytes() / MIB
