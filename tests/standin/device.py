"""cupy.cuda: one device that is none, its streams and events, its memory pools and its page-locked memory."""

import numpy as np

from standin import streams
from standin.ledger import ledger
from standin.memory import MemoryPointer, PinnedMemoryPointer
from standin.streams import Event, Stream, get_current_stream, get_elapsed_time

MEMORY = 1 << 34  # bytes; what such a device would have
PROPERTIES = {"name": b"Stand-in for a GPU", "totalGlobalMem": MEMORY, "major": 9, "minor": 0}
PROPERTIES |= {"multiProcessorCount": 4, "warpSize": 32, "maxThreadsPerBlock": 1024, "sharedMemPerBlock": 48 << 10}
PROPERTIES |= {"l2CacheSize": 1 << 25, "clockRate": 1_000_000, "memoryClockRate": 1_000_000, "memoryBusWidth": 256}


class Device:
    """The one device. (cupy.cuda.Device.)"""

    __module__ = "cupy.cuda"

    def __init__(self, device=None):
        if device not in (None, 0):
            raise runtime.CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        self.id = 0

    def __int__(self):
        return self.id

    def __eq__(self, other):
        return isinstance(other, Device)

    __hash__ = object.__hash__

    def __repr__(self):
        return "<CUDA Device 0>"

    def __enter__(self):
        return self

    def __exit__(self, *args):
        pass

    def use(self):
        return self

    compute_capability = "90"
    pci_bus_id = "0000:00:00.0"
    mem_info = property(lambda self: runtime.memGetInfo())

    def synchronize(self):
        ledger.synchronised("Device.synchronize()")
        streams.everything_finished()


class UnownedMemory:
    """Memory that another library allocated: there is none here. (cupy.cuda.UnownedMemory.)"""

    __module__ = "cupy.cuda"


class MemoryPool:
    """The pool that arrays come from: here it knows what is in use, and keeps nothing. (cupy.cuda.MemoryPool.)"""

    __module__ = "cupy.cuda"

    def __init__(self, allocator=None):
        self._limit = 0

    def used_bytes(self):
        return ledger.live

    def total_bytes(self):
        return ledger.live

    def free_bytes(self):
        return 0

    def n_free_blocks(self):
        return 0

    def free_all_blocks(self, stream=None):
        pass

    def set_limit(self, size=None, fraction=None):
        if (size is None) == (fraction is None):
            raise ValueError("size and fraction cannot be specified at one time, and one of them must be")
        self._limit = int(fraction * MEMORY) if size is None else size

    def get_limit(self):
        return self._limit


class PinnedMemoryPool:
    """The pool of page-locked memory: keeps nothing. (cupy.cuda.PinnedMemoryPool.)"""

    __module__ = "cupy.cuda"

    def n_free_blocks(self):
        return 0

    def free_all_blocks(self):
        pass


class runtime:
    """cupy.cuda.runtime: what is asked of the driver."""

    class CUDARuntimeError(RuntimeError):
        """The driver's refusal."""

    is_hip = False

    @staticmethod
    def getDeviceCount():
        return 1

    @staticmethod
    def getDevice():
        return 0

    @staticmethod
    def getDeviceProperties(device):
        return dict(PROPERTIES)

    @staticmethod
    def driverGetVersion():
        return 12090

    @staticmethod
    def runtimeGetVersion():
        return 12090

    @staticmethod
    def deviceSynchronize():
        Device().synchronize()

    @staticmethod
    def memGetInfo():
        return MEMORY - ledger.live, MEMORY


_pool, _pinned_pool = MemoryPool(), PinnedMemoryPool()


def get_default_memory_pool():
    return _pool


def get_default_pinned_memory_pool():
    return _pinned_pool


def is_available():
    return True


def get_local_runtime_version():
    return 12090


def get_device_id():
    return 0


def alloc_pinned_memory(size):
    return PinnedMemoryPointer(b"\xa5" * max(size, 1))


CUDA = {
    "Device": Device,
    "Event": Event,
    "MemoryPointer": MemoryPointer,
    "MemoryPool": MemoryPool,
    "PinnedMemoryPointer": PinnedMemoryPointer,
    "PinnedMemoryPool": PinnedMemoryPool,
    "UnownedMemory": UnownedMemory,
    "Stream": Stream,
    "alloc_pinned_memory": alloc_pinned_memory,
    "get_current_stream": get_current_stream,
    "get_device_id": get_device_id,
    "get_elapsed_time": get_elapsed_time,
    "get_local_runtime_version": get_local_runtime_version,
    "is_available": is_available,
}


# cupyx


def empty_pinned(shape, dtype=float, order="C"):
    from standin.memory import poison

    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    dtype = np.dtype(dtype)
    buffer = alloc_pinned_memory(int(np.prod(shape, dtype=int)) * dtype.itemsize)
    return poison(np.ndarray(shape, dtype, buffer, order=order))


def zeros_pinned(shape, dtype=float, order="C"):
    array = empty_pinned(shape, dtype, order)
    array.fill(0)
    return array


CUPYX = {"empty_pinned": empty_pinned, "zeros_pinned": zeros_pinned}


# cupy._core: how exactly matrix products are done

_compute_types: dict[str, int] = {}
COMPUTE_TYPES = {
    "COMPUTE_TYPE_TBD": 0,
    "COMPUTE_TYPE_DEFAULT": 1,
    "COMPUTE_TYPE_PEDANTIC": 2,
    "COMPUTE_TYPE_FP16": 3,
    "COMPUTE_TYPE_FP32": 4,
    "COMPUTE_TYPE_FP64": 5,
    "COMPUTE_TYPE_BF16": 6,
    "COMPUTE_TYPE_TF32": 7,
}


def _character(dtype):
    character = np.dtype(dtype).char
    if character not in "efFdD":
        raise TypeError(f"dtype is not supported: {dtype}")
    return character.lower()


def set_compute_type(dtype, compute_type):
    if compute_type not in COMPUTE_TYPES.values():
        raise ValueError(f"Unknown compute type: {compute_type}")
    _compute_types[_character(dtype)] = compute_type


def get_compute_type(dtype):
    """Unset, it becomes the default when it is asked for, as CuPy's does where CUPY_TF32 is not set."""
    return _compute_types.setdefault(_character(dtype), COMPUTE_TYPES["COMPUTE_TYPE_DEFAULT"])


CORE = {"set_compute_type": set_compute_type, "get_compute_type": get_compute_type}
