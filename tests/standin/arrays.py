"""cupy.ndarray: an array whose numbers are out of the host's reach.

It holds a NumPy array, and is none: no buffer, no conversion, no mixing. Every function of the stand-in takes the
NumPy arrays out with `lower`, which notes their use on the current stream, and puts its result back with `wrap`.
"""

import numpy as np

from standin import streams
from standin.ledger import ledger
from standin.memory import Memory, MemoryPointer, is_pinned, poison
from standin.signatures import words

DTYPES = "?bBhHiIlLqQefdFD"  # the codes of what the device can hold
SCALARS = frozenset({bool, int, float, complex} | {np.dtype(code).type for code in DTYPES})
# The ufuncs behind Python's binary operators: NumPy's scalars call these for `scalar * array`.
COMPARISONS = words("less less_equal equal not_equal greater greater_equal")
OPERATORS = COMPARISONS | words(
    "add subtract multiply divide floor_divide remainder power divmod matmul bitwise_and bitwise_or bitwise_xor "
    "left_shift right_shift"
)


class Flags:
    """The layout of an array: C-contiguous, Fortran-contiguous, and whether it owns its memory."""

    __slots__ = ("c_contiguous", "f_contiguous", "fnc", "forc", "owndata")

    def __init__(self, array):
        flags = array._host.flags
        self.c_contiguous, self.f_contiguous = flags.c_contiguous, flags.f_contiguous
        self.owndata = array._base is None
        self.fnc = self.f_contiguous and not self.c_contiguous
        self.forc = self.f_contiguous or self.c_contiguous

    def __getitem__(self, name):
        return getattr(self, {"C": "c_contiguous", "F": "f_contiguous"}.get(name, name.lower()))


class ndarray:
    """An array in the device's memory. (cupy.ndarray.)"""

    __module__ = "cupy"
    __slots__ = ("__weakref__", "_base", "_host", "_memory")
    __hash__ = None
    __array_priority__ = 100

    def __new__(cls, shape, dtype=float, memptr=None, strides=None, order="C"):
        if memptr is not None or strides is not None:
            raise NotImplementedError("the stand-in has no arrays on given memory")
        return wrap(poison(np.empty(shape, dtype, order)), order="K")

    # What it is

    @property
    def shape(self):
        return self._host.shape

    @shape.setter
    def shape(self, shape):
        self._host = self._host.reshape(shape, copy=False)

    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    strides = property(lambda self: self._host.strides)
    flags = property(Flags)
    base = property(lambda self: self._base)

    @property
    def data(self):
        return MemoryPointer(self._memory, address(self._host))

    @property
    def device(self):
        from standin.device import Device

        return Device(0)

    def __len__(self):
        return len(self._host)

    def __sizeof__(self):
        return self._memory.nbytes

    # Views: no kernel, no use of the memory

    T = property(lambda self: self.transpose())
    mT = property(lambda self: _view(self, self._host.mT))

    def reshape(self, *shape, order="C", copy=None):
        if copy is not None:
            raise NotImplementedError("the stand-in has no reshape(copy=)")
        return _view_or_copy(self, self._host.reshape(*_plain(shape), order=order))

    def ravel(self, order="C"):
        return _view_or_copy(self, self._host.ravel(order))

    def transpose(self, *axes):
        return _view(self, self._host.transpose(*_plain(axes)))

    def swapaxes(self, axis1, axis2):
        return _view(self, self._host.swapaxes(axis1, axis2))

    def squeeze(self, axis=None):
        return _view(self, self._host.squeeze(axis))

    def diagonal(self, offset=0, axis1=0, axis2=1):
        return _view(self, self._host.diagonal(offset, axis1, axis2))

    def view(self, dtype=None, type=None):
        if type is not None:
            raise NotImplementedError("the stand-in has no view(type=)")
        return _view(self, self._host.view() if dtype is None else self._host.view(dtype))

    # Copies within the device

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if not copy and self._host.dtype == dtype:
            return self
        with np.errstate(all="ignore"):
            return _launched(lower(self).astype(dtype, order=order, casting=casting or "unsafe"), order="K")

    def copy(self, order="C"):
        return _launched(lower(self).copy(order), order="K")

    def flatten(self, order="C"):
        return _launched(lower(self).flatten(order))

    def fill(self, value):
        lower(self).fill(lower(value))
        ledger.launched()

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    # To and from the host

    def get(self, stream=None, order="C", out=None, blocking=True):
        """A copy in the host's memory, which waits for it unless blocking=False: then it is NaN until waited for."""
        if out is not None:
            if not isinstance(out, np.ndarray):
                raise TypeError("Only numpy.ndarray can be obtained from cupy.ndarray")
            if out.dtype != self.dtype:
                raise TypeError(f"{out.dtype} array cannot be obtained from {self.dtype} array")
            if out.shape != self.shape:
                raise ValueError(f"Shape mismatch. Expected shape: {self.shape}, actual shape: {out.shape}")
            if not (out.flags.c_contiguous or out.flags.f_contiguous):
                raise RuntimeError("`out` cannot be specified when copying to non-contiguous ndarray")
        stream = streams._current if stream is None else stream
        ledger.to_host += 1
        if blocking:
            return _fetched(self, ".get()", order, out, stream)
        host = np.empty(self.shape, self.dtype, order) if out is None else out
        source = lower(self, stream).copy()
        streams.Copy(stream, source, poison(host))
        return host

    def set(self, arr, stream=None):
        """Copy an array of the host's to the device: at once on the null stream, when it is waited for on another."""
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not (self._host.flags.c_contiguous or self._host.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        ledger.to_device += 1
        send(arr, self, streams._current if stream is None else stream)

    def item(self):
        return _fetched(self, ".item()").item()

    def tolist(self):
        return _fetched(self, ".tolist()").tolist()

    def tobytes(self, order="C"):
        return _fetched(self, ".tobytes()").tobytes(order)

    def __float__(self):
        return float(_fetched(self, "float()"))

    def __int__(self):
        return int(_fetched(self, "int()"))

    def __complex__(self):
        return complex(_fetched(self, "complex()"))

    def __bool__(self):
        return bool(_fetched(self, "bool()"))

    def __repr__(self):
        return repr(_fetched(self, "repr()"))

    def __str__(self):
        return str(_fetched(self, "str()"))

    def __format__(self, format_spec):
        host = _fetched(self, "format()")
        return format(host.item() if host.ndim == 0 else host, format_spec)

    def __reduce__(self):
        return _from_host, (_fetched(self, "pickle"),)

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        """NumPy's scalars come through here, as in `np.float32(2) * array`, and no array of NumPy's."""
        if any(not isinstance(x, ndarray | np.generic | np.ndarray | int | float | complex) for x in inputs):
            return NotImplemented  # another library's class may know what to do
        operator = method == "__call__" and ufunc.__name__ in OPERATORS and len(inputs) == 2 and not kwargs
        left = inputs[0]
        if operator and ufunc.__name__ in COMPARISONS and isinstance(left, np.ndarray) and left.ndim == 0:
            left = left.item()  # how NumPy hands over `scalar < array`
        if operator and not isinstance(left, ndarray | np.ndarray):
            from standin.ufuncs import UFUNCS

            return UFUNCS[ufunc.__name__](left, inputs[1])
        if operator and isinstance(left, np.ndarray):
            raise TypeError(f"Unsupported type {np.ndarray}")
        raise TypeError(f"numpy.{ufunc.__name__} was called with a cupy.ndarray: call cupy.{ufunc.__name__}")

    def __array_function__(self, func, types, args, kwargs):
        raise TypeError(f"numpy.{func.__name__} was called with a cupy.ndarray: call cupy.{func.__name__}")

    # Parts

    def __iter__(self):
        if self._host.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self._host)))

    def __getitem__(self, slices):
        key, advanced = _key(self, slices)
        if not advanced:
            return _view(self, self._host[key])
        if advanced == "mask":
            ledger.synchronised("indexing with a mask")
            streams.finished(streams._current)
        return _launched(lower(self)[key])

    def __setitem__(self, slices, value):
        key, advanced = _key(self, slices)
        if isinstance(value, ndarray):
            if advanced == "mask" and value.ndim:
                ledger.synchronised("indexing with a mask")
                streams.finished(streams._current)
            target = None if advanced else self._host[key]
            if target is not None and same_place(target, value._host):
                return  # the second half of `a[key] += b`
        with np.errstate(all="ignore"):
            lower(self)[key] = lower(value)
        ledger.launched()

    def take(self, indices, axis=None, out=None):
        from standin.functions import take

        return take(self, indices, axis, out)


def _key(array, slices):
    """The index for NumPy's array, and whether it is basic (False), has integer arrays ("indices") or a mask."""
    parts = slices if isinstance(slices, tuple) else (slices,)
    advanced, key, ellipsis, axis = False, [], False, 0
    for i, part in enumerate(parts):
        if part is None or isinstance(part, slice):
            axis += part is not None
        elif part is Ellipsis:
            ellipsis = True
            axis = array.ndim - sum(_axes(later) for later in parts[i + 1 :])
        elif isinstance(part, bool | np.bool_ | float | np.floating | np.ndarray) or not isinstance(
            part, int | np.integer | ndarray | list
        ):
            raise TypeError(f"Unsupported type {type(part)} as an index")
        elif isinstance(part, ndarray | list):
            host = lower(part) if isinstance(part, ndarray) else np.array(part, dtype=np.intp if not part else None)
            ledger.to_device += isinstance(part, list)
            if host.dtype.kind == "b":
                advanced = "mask"
                axis += host.ndim
            elif host.dtype.kind in "iu":
                advanced = advanced or "indices"
                host = host % array.shape[axis] if array.shape[axis] else host  # out of range wraps round
                axis += 1
            else:
                raise IndexError(
                    f"arrays used as indices must be of integer or boolean type (actual: {host.dtype.type})"
                )
            part = host
        else:
            axis += 1
        key.append(part)
    return (*key, Ellipsis) if not (ellipsis or advanced) else tuple(key), advanced


def _axes(part) -> int:
    """How many axes a part of an index takes up."""
    if part is None:
        return 0
    return part.ndim if isinstance(part, ndarray) and part.dtype.kind == "b" else 1


def _plain(values):
    """Numbers for shapes and axes: a device array among them would have to be fetched."""
    for value in values:
        if isinstance(value, ndarray):
            raise TypeError("'cupy.ndarray' object cannot be interpreted as an integer")
    return values


# The host's side of it


def lower(x, stream=None):
    """The NumPy array behind a device array, about to be used by a kernel; a scalar as it is."""
    if type(x) is ndarray:
        memory = x._memory
        if memory.watch is None:
            memory.stream, memory.tick = stream or streams._current, ledger.tick
        else:
            memory.watch.used(stream or streams._current)
        return x._host
    if type(x) in SCALARS:
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def wrap(host, order: str = "C") -> ndarray:
    """A device array of what NumPy computed, with memory of its own, C-ordered unless the order is "K"."""
    if type(host) is not np.ndarray:
        host = np.asarray(host)
    elif host.base is not None or (order == "C" and not host.flags.c_contiguous):
        host = np.array(host, order=order)
    if host.dtype.char not in DTYPES:
        raise ValueError(f"Unsupported dtype {host.dtype}")
    array = object.__new__(ndarray)
    array._host = host
    array._memory = Memory(host)
    array._base = None
    return array


def _launched(host, order: str = "C") -> ndarray:
    ledger.launched()
    return wrap(host, order)


def _view(array, host) -> ndarray:
    """A device array on the same memory."""
    view = object.__new__(ndarray)
    view._host = host
    view._memory = array._memory
    view._base = array if array._base is None else array._base
    return view


def _view_or_copy(array, host) -> ndarray:
    """The result of a function of NumPy's that makes a view where it can."""
    if host is array._host or host.base is array._memory.root:
        return _view(array, host)
    lower(array)
    return _launched(host)


def address(host: np.ndarray) -> int:
    return host.__array_interface__["data"][0]


def same_place(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are the same numbers in the same memory."""
    return a.shape == b.shape and a.strides == b.strides and a.dtype == b.dtype and address(a) == address(b)


def send(source: np.ndarray, array: ndarray, stream):
    """Copy from the host to a device array on the stream."""
    memory = array._memory
    if stream is streams.Stream.null and not is_pinned(source):
        lower(array)[...] = source
        ledger.tick += 1
        return
    watch = memory.watched()
    watch.overwritten(stream)
    watch.copy = streams.Copy(stream, source, array._host)
    if stream is streams.Stream.null:
        watch.copy.run()
    else:
        poison(array._host)


def _fetched(array: ndarray, what: str, order="C", out=None, stream=None) -> np.ndarray:
    """A copy on the host, which has waited for it."""
    stream = streams._current if stream is None else stream
    ledger.synchronised(what)
    host = lower(array, stream)
    if what != ".get()":
        ledger.to_host += 1
    streams.finished(stream)
    if out is None:
        return host.copy(order)
    out[...] = host
    return out


def _from_host(host: np.ndarray) -> ndarray:
    """A device array with the numbers of the host's."""
    ledger.to_device += 1
    array = wrap(np.array(host, order="K"), order="K")
    return array
