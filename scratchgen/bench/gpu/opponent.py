"""PyTorch's side on the GPU: the steps of `bench.opponent`, everything on the device, noise drawn there.

Equal precision is said to both of its libraries: products (cuBLAS) take TF32 only when told to, convolutions (cuDNN)
unless told not to. cuDNN tries its algorithms at first and keeps the fastest.
"""

import torch

from scratchgen.bench import opponent
from scratchgen.bench.settings import Setting

DEVICE = "cuda"
MIB = 2**20


def prepare(threads: int, precision: str) -> dict:
    """Multiply in this precision; says what runs here. ImportError where this PyTorch has no GPU."""
    if not torch.cuda.is_available():
        raise ImportError(f"PyTorch {torch.__version__} finds no GPU")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True
    return opponent.prepare(threads) | {
        "device": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "tf32_products": torch.backends.cuda.matmul.allow_tf32,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


def make(setting: Setting, *, layout: str = "", seed: int = 0) -> opponent.Step:
    """As `bench.opponent.make`."""
    return opponent.make(setting, layout=layout, seed=seed, device=DEVICE)


def wait() -> None:
    """Return when all that is queued is done."""
    torch.cuda.synchronize()


def held(run, count: int) -> float:
    """MiB that PyTorch's memory pool has taken from the GPU for steps, without what only the first of them needed."""
    for _ in range(count):
        run()
    wait()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(count):
        run()
    wait()
    return torch.cuda.max_memory_reserved() / MIB
