"""cupy's functions: NumPy's, by name, with no more parameters than the real ones have (signatures.py).

`Function` does that for most. Written out below it are those that differ: in where their numbers come from, in what
they return, or in what they do with a wrong index. A function that CuPy has and this file cannot do raises
NotImplementedError when it is called.
"""

import operator

import numpy as np

from standin import arrays, signatures, streams
from standin.arrays import lower, ndarray, wrap
from standin.ledger import ledger
from standin.memory import poison
from standin.signatures import table, words
from standin.ufuncs import UFUNCS, where_ufunc

# Parameters that are arrays: a list of numbers is none, and nothing of NumPy's is.
ARRAYS = words(
    "a a1 a2 arr array ary ar ar1 ar2 b condition element fp indices m mask out p sorter test_elements v val values "
    "weights x x1 x2 xp y z bins prototype"
)
LISTS = frozenset({"tup", "arrays", "arys", "args", "xi", "operands"})  # of arrays
SYNCHRONISE = words(  # the shape of the result, or an error, depends on the numbers
    "argwhere bincount compress extract flatnonzero histogram histogram2d histogramdd in1d intersect1d nonzero "
    "piecewise setdiff1d setxor1d trim_zeros union1d unique unique_all unique_counts unique_inverse "
    "unique_values"
)
ON_THE_HOST = words(  # the result is no array
    "can_cast common_type iscomplexobj isfortran isrealobj isscalar issubdtype isdtype may_share_memory "
    "min_scalar_type mintypecode ndim promote_types result_type shape shares_memory size typename broadcast_shapes "
    "base_repr binary_repr"
)
NOT_HERE = words(  # NumPy has them, but they would not act as CuPy's
    "apply_along_axis apply_over_axes append array2string array_repr array_str choose delete diag_indices disp "
    "fill_diagonal frombuffer fromfile fromfunction fromiter fromstring from_dlpack genfromtxt get_printoptions "
    "ix_ load loadtxt place poly polyfit polyval put put_along_axis putmask ravel_multi_index real_if_close roots "
    "save savetxt savez savez_compressed select set_printoptions show_config unravel_index vectorize"
)


class Function:
    """One of NumPy's functions with the parameters of CuPy's."""

    __slots__ = ("__name__", "_numpy", "_what", "keywords", "most", "names", "required")

    def __init__(self, name: str, parameters: list[str], numpy_function):
        self.__name__ = name
        self._numpy = numpy_function
        self.names = [p.partition("=")[0] for p in parameters if p != "/"]
        positional = self.names[: self.names.index("*")] if "*" in self.names else self.names
        self.required = sum("=" not in p and p[0] not in "*/" for p in parameters)
        self.most = len(positional)
        self.keywords = frozenset(self.names)
        self._what = name.rpartition(".")[2]
        if positional and positional[-1].startswith("**"):
            self.most -= 1
            self.keywords = None  # the function's own business
        if any(p[0] == "*" and p[1:2].isalpha() for p in positional):
            self.most = None

    def __repr__(self):
        return f"<function {self.__name__}>"

    def __call__(self, *args, **kwargs):
        if self.keywords is not None:
            for name in kwargs:
                if name not in self.keywords:
                    raise TypeError(f"{self.__name__}() got an unexpected keyword argument {name!r}")
        if self.most is None:
            named = [(self.names[0].strip("*"), arg) for arg in args]
            positional, rest = [self._lowered(name, arg) for name, arg in named], {}
        elif len(args) > self.most:
            raise TypeError(f"{self.__name__}() takes {self.most} positional arguments but {len(args)} were given")
        else:
            named = list(zip(self.names, args, strict=False))
            positional = [self._lowered(name, arg) for name, arg in named[: self.required]]
            rest = {name: self._lowered(name, arg) for name, arg in named[self.required :]}
            for name in self.names[len(positional) : self.required]:
                if name not in kwargs:
                    raise TypeError(f"{self.__name__}() missing 1 required positional argument: {name!r}")
                positional.append(self._lowered(name, kwargs.pop(name)))
        for name, arg in kwargs.items():
            if name in rest or name in self.names[: len(positional)]:
                raise TypeError(f"{self.__name__}() got multiple values for argument {name!r}")
            rest[name] = self._lowered(name, arg)
        if self._what in SYNCHRONISE:
            ledger.synchronised(f"cupy.{self.__name__}")
            streams.finished(streams._current)
        with np.errstate(all="ignore"):
            result = self._numpy(*positional, **rest)
        given = [arg for _, arg in named] + list(kwargs.values())
        return result if self._what in ON_THE_HOST else raised(result, given, kwargs.get("out"))

    def _lowered(self, name, arg):
        if type(arg) is ndarray:
            return lower(arg)
        if isinstance(arg, np.ndarray):
            raise TypeError(f"Unsupported type {np.ndarray}")
        if isinstance(arg, list | tuple):
            if name.strip("*") in LISTS:
                return [lower(part) for part in arg]
            if name in ARRAYS:
                raise TypeError(f"Unsupported type {type(arg)}")
            for part in arg:
                if isinstance(part, ndarray | np.ndarray):
                    raise TypeError(f"Unsupported type {type(part)} in {name}")
        elif name in ARRAYS and name == self.names[0] and self._what not in ON_THE_HOST:
            raise TypeError(f"Unsupported type {type(arg)}: cupy.{self.__name__} takes a cupy.ndarray")
        return arg


def raised(result, given, out=None):
    """What NumPy returned, on the device again: a view where it is one, `out` where that was given."""
    if isinstance(result, list | tuple):
        parts = [raised(part, given) for part in result]
        return type(result)(parts) if type(result) in (list, tuple) else tuple(parts)
    if out is not None:
        ledger.launched()
        return out
    if isinstance(result, np.ndarray):
        for array in _device_arrays(given):
            if result is array._host:
                return array
            if result.base is not None and result.base is array._memory.root:
                return arrays._view(array, result)
    ledger.launched()
    return wrap(result)


def _device_arrays(given):
    for arg in given:
        if type(arg) is ndarray:
            yield arg
        elif isinstance(arg, list | tuple):
            yield from _device_arrays(arg)


# New arrays


def empty(shape, dtype=float, order="C"):
    return ndarray(shape, dtype, order=order)


def zeros(shape, dtype=float, order="C"):
    return arrays._launched(np.zeros(_host_value(shape), dtype, order), order="K")


def ones(shape, dtype=float, order="C"):
    return arrays._launched(np.ones(_host_value(shape), dtype, order), order="K")


def full(shape, fill_value, dtype=None, order="C"):
    return arrays._launched(np.full(_host_value(shape), lower(fill_value), dtype, order), order="K")


def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    return wrap(poison(_like(prototype, dtype, order, subok, shape)), order="K")


def zeros_like(a, dtype=None, order="K", subok=None, shape=None):
    return full_like(a, 0, dtype, order, subok, shape)


def ones_like(a, dtype=None, order="K", subok=None, shape=None):
    return full_like(a, 1, dtype, order, subok, shape)


def full_like(a, fill_value, dtype=None, order="K", subok=None, shape=None):
    host = _like(a, dtype, order, subok, shape)
    host.fill(lower(fill_value))
    return arrays._launched(host, order="K")


def _like(array, dtype, order, subok, shape):
    if not isinstance(array, ndarray):
        raise TypeError(f"Unsupported type {type(array)}")
    if subok is not None:
        raise TypeError("subok is not supported yet")
    return np.empty_like(array._host, dtype, order, shape=shape)


def arange(start, stop=None, step=1, dtype=None):
    host = (start, step) if stop is None else (start, stop, step)
    values = [_host_value(value) for value in host]
    return arrays._launched(np.arange(0, values[0], values[1], dtype) if stop is None else np.arange(*values, dtype))


def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0):
    result = np.linspace(_host_value(start), _host_value(stop), num, endpoint, retstep, dtype, axis)
    return (arrays._launched(result[0]), result[1]) if retstep else arrays._launched(result)


def eye(N, M=None, k=0, dtype=float, order="C"):
    return arrays._launched(np.eye(N, M, k, dtype, order), order="K")


def identity(n, dtype=float):
    return eye(n, dtype=dtype)


def _host_value(value):
    if isinstance(value, ndarray | np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}: this needs numbers on the host")
    return value


# From the host, and back


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    if subok:
        raise NotImplementedError("the stand-in has no subok")
    if isinstance(obj, ndarray):
        result = obj.astype(obj.dtype if dtype is None else dtype, order, copy=bool(copy))
    elif (parts := list(_device_arrays([obj]))) and isinstance(obj, list | tuple):
        if any(not isinstance(part, ndarray) for part in obj):
            raise TypeError(f"Unsupported type {type(obj)}: a list of arrays and others")
        host = np.stack([lower(part) for part in parts])
        result = arrays._launched(host if dtype is None else host.astype(dtype))
    elif copy is False:
        raise ValueError("Unable to avoid copy while creating an array as requested.")
    else:
        result = _sent(np.array(obj, dtype, order=order), obj)
    return result if result.ndim >= ndmin else result.reshape((1,) * (ndmin - result.ndim) + result.shape)


def _sent(host, obj):
    """A device array of the host's; where the host's is page-locked, it is read after this returns."""
    ledger.to_device += 1
    ledger.tick += 1
    device = wrap(host, order="K")
    same = isinstance(obj, np.ndarray) and obj.dtype == host.dtype and obj.flags.forc
    if same and arrays.is_pinned(obj):
        arrays.send(obj, device, streams._current)
    return device


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    return array(a, dtype, copy, order or "K", blocking=blocking)


def asanyarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    return array(a, dtype, copy, order or "K", blocking=blocking)


def ascontiguousarray(a, dtype=None):
    return _laid_out(a, dtype, "C")


def asfortranarray(a, dtype=None):
    return _laid_out(a, dtype, "F")


def _laid_out(a, dtype, order):
    a = asarray(a, dtype)
    a = a if a.ndim else a.reshape(1)
    fits = a._host.flags.c_contiguous if order == "C" else a._host.flags.f_contiguous
    return a if fits else a.copy(order)


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    if isinstance(a, ndarray):
        return a.get(stream=stream, order=order, out=out, blocking=blocking)
    host = np.asarray(a, order=order)
    if out is None:
        return host
    out[...] = host
    return out


def copy(a, order="K"):
    return _device(a).copy(order=order)


def astype(x, dtype, /, *, copy=True):
    return _device(x).astype(dtype, copy=copy)


def _device(a):
    if not isinstance(a, ndarray):
        raise TypeError(f"Unsupported type {type(a)}")
    return a


# Choosing


def where(condition, x=None, y=None):
    if (x is None) != (y is None):
        raise ValueError("Must provide both 'x' and 'y' or neither.")
    if x is None:
        return FUNCTIONS["nonzero"](condition)
    return where_ufunc(condition.astype("?", copy=False), x, y)


def clip(a, a_min, a_max, out=None):
    return a.clip(a_min, a_max, out=out)


def _clip(self, min=None, max=None, out=None):
    if min is None and max is None:
        raise ValueError("array_clip: must set either max or min")
    with np.errstate(all="ignore"):
        low, high = (None if limit is None else lower(limit) for limit in (min, max))
        result = lower(self).clip(low, high, out=None if out is None else lower(out))
    return raised(result, [], out)


def take(a, indices, axis=None, out=None):
    indices = np.asarray(_host_value(indices)) if not isinstance(indices, ndarray) else lower(indices)
    result = np.take(lower(_device(a)), indices, axis, mode="wrap")
    if out is not None:
        lower(out)[...] = result
    return raised(result, [], out)


def take_along_axis(a, indices, axis):
    _device(a), _device(indices)
    n = a.size if axis is None else a.shape[axis]
    result = np.take_along_axis(lower(a), lower(indices) % max(n, 1), axis)
    return arrays._launched(result)


def nonzero(a):
    return _nonzero(_device(a))


def _nonzero(self):
    ledger.synchronised("nonzero()")
    streams.finished(streams._current)
    return tuple(arrays._launched(part) for part in np.nonzero(lower(self)))


def searchsorted(a, v, side="left", sorter=None):
    return raised(np.searchsorted(lower(_device(a)), lower(v), side, None if sorter is None else lower(sorter)), [])


# Shapes


def reshape(a, newshape, order="C", *, copy=None):
    return _device(a).reshape(newshape, order=order, copy=copy)


def ravel(a, order="C"):
    return _device(a).ravel(order)


def broadcast_to(array, shape):
    """A view that nobody may write to: CuPy lets one, and every number of a row would land on one place."""
    host = np.broadcast_to(_device(array)._host, shape)
    return array if host.shape == array.shape else arrays._view(array, host)


def broadcast_arrays(*args):
    shape = np.broadcast_shapes(*(_device(arg).shape for arg in args))
    return [broadcast_to(arg, shape) for arg in args]


def ndim(a):
    return a.ndim if isinstance(a, ndarray) else np.ndim(a)


def shape(a):
    return a.shape if isinstance(a, ndarray) else np.shape(a)


def size(a, axis=None):
    return _device(a).size if axis is None else a.shape[axis]


def repeat(a, repeats, axis=None):
    if isinstance(repeats, ndarray):
        raise ValueError("repeats on the device is not supported")
    return arrays._launched(np.repeat(lower(_device(a)), _host_value(repeats), axis))


# Products


def dot(a, b, out=None):
    result = np.dot(lower(_device(a)), lower(_device(b)))
    if out is not None:
        lower(out)[...] = result
    return raised(result, [], out)


def einsum(*operands, **kwargs):
    if wrong := kwargs.keys() - {"dtype", "optimize"}:
        raise TypeError(f"Did not understand the following kwargs: {list(wrong)}")
    return arrays._launched(np.einsum(*(x if isinstance(x, str) else lower(x) for x in operands), **kwargs))


def array_equal(a1, a2, equal_nan=False):
    return arrays._launched(np.array_equal(lower(a1), lower(a2), equal_nan))


def result_type(*arrays_and_dtypes):
    return np.result_type(*(x._host if isinstance(x, ndarray) else _host_value(x) for x in arrays_and_dtypes))


def get_array_module(*args):
    import sys

    return sys.modules["cupy"] if any(isinstance(arg, ndarray) for arg in args) else np


def copyto(dst, src, casting="same_kind", where=None):
    if where is not None:
        raise NotImplementedError("the stand-in has no copyto(where=)")
    with np.errstate(all="ignore"):
        np.copyto(lower(_device(dst)), lower(src), casting)
    ledger.launched()


WRITTEN_OUT = [
    *(empty, zeros, ones, full, empty_like, zeros_like, ones_like, full_like, arange, linspace, eye, identity),
    *(array, asarray, asanyarray, ascontiguousarray, asfortranarray, asnumpy, copy, astype, copyto),
    *(where, clip, take, take_along_axis, nonzero, searchsorted),
    *(reshape, ravel, broadcast_to, broadcast_arrays, ndim, shape, size, repeat),
    *(dot, einsum, array_equal, result_type, get_array_module),
]


def missing(name: str):
    """A function that the real CuPy has and the stand-in has not."""

    def function(*args, **kwargs):
        raise NotImplementedError(f"the stand-in has no {name}: write it in tests/standin")

    function.__name__ = name
    return function


def _functions() -> dict:
    found = {}
    for name, parameters in table()["functions"].items():
        try:
            numpy_function = operator.attrgetter(name)(np)
        except AttributeError:
            numpy_function = None
        known = numpy_function is not None and name not in NOT_HERE
        found[name] = Function(name, parameters, numpy_function) if known else missing(f"cupy.{name}")
    written_out = {function.__name__: function for function in WRITTEN_OUT}
    return found | written_out | UFUNCS


FUNCTIONS = _functions()


def _method(name: str):
    """The method of the same name as a function, with the array first."""
    function = Function(name, ["self", *signatures.method(name)], getattr(np, name))

    def method(self, *args, **kwargs):
        return function(self, *args, **kwargs)

    method.__name__ = name
    return method


for _name in words(
    "all any argmax argmin argpartition argsort cumprod cumsum max mean min prod ptp round std sum trace var"
):
    setattr(ndarray, _name, _method(_name))

ndarray.clip = _clip
ndarray.nonzero = _nonzero
ndarray.dot = lambda self, b, out=None: dot(self, b, out)
ndarray.repeat = lambda self, repeats, axis=None: repeat(self, repeats, axis)
ndarray.searchsorted = lambda self, v, side="left", sorter=None: searchsorted(self, v, side, sorter)


def _sort(self, axis=-1, kind=None):
    lower(self).sort(axis, kind)
    ledger.launched()


ndarray.sort = _sort
