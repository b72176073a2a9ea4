"""What the tests of the CUDA kernels share: the kernels on the stand-in, their sources, and NVRTC without a GPU."""

import ctypes
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

FLOATS = (np.float32, np.float64)


@contextmanager
def kernels_on_the_standin():
    """The kernels of the backend "cupy", on the stand-in; small blocks under sanitizers, where barriers take long."""
    import standin

    with standin.installed(), pytest.MonkeyPatch.context() as patch:
        from scratchgen.backend import load_kernels

        ops = load_kernels("cupy")
        if os.environ.get("SCRATCHGEN_SHIM_FLAGS"):
            from scratchgen.backend.cupy_ops import convolution, launch, rows, tensors

            for module in (convolution, launch, rows, tensors):
                patch.setattr(module, "THREADS", 32)
            patch.setattr(rows, "LANES", 16)
        yield ops


@contextmanager
def changed_source(file: str, old: str, new: str):
    """Inside the block sources/FILE has `new` where it had `old`, and every kernel is compiled anew."""
    from scratchgen.backend.cupy_ops import launch, rows

    def forget():
        for kept in (launch.kernel, launch.compiled):
            kept.cache_clear()
        rows._kernels.clear()

    plain = launch._text
    assert plain(file).count(old) == 1, f"{file} has {old!r} {plain(file).count(old)} times"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_text", lambda name: plain(name).replace(old, new) if name == file else plain(name))
        forget()
        yield
    forget()


@contextmanager
def recorded_texts():
    """A list that fills with every CUDA text that is compiled inside the block, and what it is for."""
    from scratchgen.backend.cupy_ops import launch, rows

    texts: dict[str, str] = {}
    plain = launch.compiled

    def compiled(text, function):
        texts[text] = function
        return plain(text, function)

    with pytest.MonkeyPatch.context() as patch:
        for module in (launch, rows):
            patch.setattr(module, "compiled", compiled)
        launch.kernel.cache_clear()
        patch.setattr(rows, "_kernels", {})
        yield texts
    launch.kernel.cache_clear()


class NVRTC:
    """NVIDIA's compiler, from its wheel: it needs neither a GPU nor a driver."""

    def __init__(self):
        nvrtc = pytest.importorskip("nvidia.cuda_nvrtc", reason="needs the wheel of NVRTC: pip install .[gpu-proof]")
        folder = Path(next(iter(nvrtc.__path__))) / "lib"
        names = [p for p in sorted(folder.glob("libnvrtc.so.*")) if "alt" not in p.name]
        self.library = ctypes.CDLL(str(names[0]))

    def compile(self, text: str, arch: str, options) -> str:
        """The error messages, none if it compiles to machine code for that architecture."""
        program, size = ctypes.c_void_p(), ctypes.c_size_t()
        self._call("nvrtcCreateProgram", ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None)
        try:
            flags = [f"--gpu-architecture={arch}".encode(), *(o.encode() for o in options)]
            status = self.library.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
            self._call("nvrtcGetProgramLogSize", program, ctypes.byref(size))
            log = ctypes.create_string_buffer(size.value)
            self._call("nvrtcGetProgramLog", program, log)
            if status == 0:
                self._call("nvrtcGetCUBINSize", program, ctypes.byref(size))
                return "" if size.value > 100 else "no machine code"
            return log.value.decode() or f"status {status}"
        finally:
            self._call("nvrtcDestroyProgram", ctypes.byref(program))

    def _call(self, name: str, *args) -> None:
        status = getattr(self.library, name)(*args)
        assert status == 0, f"{name}: status {status}"
