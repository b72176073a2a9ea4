"""cupy.ufunc: NumPy's, on device arrays, with the three keywords that CuPy's have; and Python's operators by them."""

import numpy as np

from standin.arrays import lower, ndarray, wrap
from standin.ledger import ledger
from standin.signatures import table

_errstate = np.errstate
KNOWN = (ndarray, np.ndarray, np.generic)


class ufunc:
    """A function of numbers, applied elementwise. (cupy.ufunc.)"""

    __module__ = "cupy"
    __slots__ = ("__name__", "_numpy", "name", "nargs", "nin", "nout")

    def __init__(self, name: str, nin: int, nout: int, numpy_function):
        self.name = self.__name__ = name
        self.nin, self.nout, self.nargs = nin, nout, nin + nout
        self._numpy = numpy_function

    def __repr__(self):
        return f"<ufunc {self.name!r}>"

    def __call__(self, *args, **kwargs):
        if kwargs or len(args) != self.nin:
            return self._general(args, **_checked(kwargs, self, args))
        hosts = [lower(arg) for arg in args]
        with _errstate(all="ignore"):
            result = self._numpy(*hosts, order="C")
        ledger.launched()
        return wrap(result) if self.nout == 1 else tuple(map(wrap, result))

    def _general(self, args, out=None, dtype=None, casting="same_kind"):
        """With outputs given, or a dtype, or a casting."""
        outputs = args[self.nin :]
        if out is not None:
            if outputs:
                raise ValueError("Cannot specify 'out' as both a positional and keyword argument")
            outputs = out if isinstance(out, tuple) else (out,)
        hosts = [lower(arg) for arg in args[: self.nin]]
        targets = None
        if outputs:
            if len(outputs) != self.nout:
                raise ValueError("'out' must be a tuple of arrays")
            for output in outputs:
                if output is not None and not isinstance(output, ndarray):
                    raise TypeError("return arrays must be of ArrayType")
            targets = tuple(None if output is None else lower(output) for output in outputs)
        keywords = {} if dtype is None else {"dtype": dtype}
        with _errstate(all="ignore"):
            result = self._numpy(*hosts, out=targets, casting=casting, order="C", **keywords)
        ledger.launched()
        results = (result,) if self.nout == 1 else result
        given = outputs or (None,) * self.nout
        wrapped = tuple(wrap(r) if o is None else o for r, o in zip(results, given, strict=True))
        return wrapped[0] if self.nout == 1 else wrapped


def _checked(kwargs, function, args):
    if wrong := kwargs.keys() - {"out", "dtype", "casting"}:
        raise TypeError(f"Wrong arguments {sorted(wrong)}")
    if not function.nin <= len(args) <= function.nargs:
        raise TypeError(
            f"Wrong number of arguments for {function.name!r}. It must be either {function.nin} or {function.nargs} "
            f"(with outputs), but given {len(args)}."
        )
    return kwargs


def _where(condition, x, y, order, out=None, casting=None):
    if out is not None:
        raise NotImplementedError("the stand-in's where has no out")
    return np.where(condition, x, y)


UFUNCS = {
    name: ufunc(real_name, nin, nout, getattr(np, name))
    for name, (real_name, nin, nout) in table()["ufuncs"].items()
    if isinstance(getattr(np, name, None), np.ufunc)
}
where_ufunc = ufunc("cupy_where", 3, 1, _where)


class GUFunc:
    """cupy.matmul: one launch of a matrix product; `out` must be C-contiguous and of the result's dtype."""

    __module__ = "cupy"
    __slots__ = ("__name__",)

    def __init__(self):
        self.__name__ = "matmul"

    def __call__(self, *args, **kwargs):
        if wrong := kwargs.keys() - {"axes", "axis", "keepdims", "casting", "dtype", "signature", "order", "out"}:
            raise TypeError(f"Wrong arguments {sorted(wrong)}")
        if kwargs.keys() - {"out"} or not 2 <= len(args) <= 3:
            raise NotImplementedError("the stand-in's matmul takes two arrays and out")
        out = args[2] if len(args) == 3 else kwargs.get("out")
        a, b = args[:2]
        for operand in (a, b):
            if not isinstance(operand, ndarray):
                raise TypeError(f"Unsupported type {type(operand)}")
        hosts = lower(a), lower(b)
        if out is None:
            result = wrap(np.matmul(*hosts, order="C"))
        else:
            if not isinstance(out, ndarray):
                raise TypeError("return arrays must be of ArrayType")
            if not out.flags.c_contiguous or out.dtype != np.result_type(a.dtype, b.dtype):
                raise ValueError("out must be C-contiguous and of the dtype of the product")
            result = out
            np.matmul(*hosts, out=lower(out))
        ledger.launched()
        return result


UFUNCS["matmul"] = matmul = GUFunc()


def _operator(name):
    """The methods for an operator, its reflection and its in-place form."""
    function = UFUNCS[name]

    def forward(self, other):
        if not isinstance(other, KNOWN) and (theirs := getattr(type(other), "__array_ufunc__", KNOWN)) is not KNOWN:
            return NotImplemented if theirs is None else getattr(np, name)(self, other)  # a class with its own ufuncs
        return function(self, other)

    def reflected(self, other):
        return function(other, self)

    def in_place(self, other):
        return function(self, other, out=self)

    return forward, reflected, in_place


def _comparison(name, of_none):
    forward, _, _ = _operator(name)

    def compare(self, other):
        if other is None and of_none is not None:
            return wrap(np.full(self.shape, of_none))
        return forward(self, other)

    return compare


for _short, _name in {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
}.items():
    _forward, _reflected, _in_place = _operator(_name)
    setattr(ndarray, f"__{_short}__", _forward)
    setattr(ndarray, f"__r{_short}__", _reflected)
    setattr(ndarray, f"__i{_short}__", _in_place)

for _short, _name, _of_none in (
    ("lt", "less", None),
    ("le", "less_equal", None),
    ("gt", "greater", None),
    ("ge", "greater_equal", None),
    ("eq", "equal", False),
    ("ne", "not_equal", True),
):
    setattr(ndarray, f"__{_short}__", _comparison(_name, _of_none))

ndarray.__matmul__ = lambda self, other: matmul(self, other)
ndarray.__rmatmul__ = lambda self, other: matmul(other, self)
ndarray.__divmod__ = lambda self, other: UFUNCS["divmod"](self, other)
ndarray.__rdivmod__ = lambda self, other: UFUNCS["divmod"](other, self)
ndarray.__neg__ = lambda self: UFUNCS["negative"](self)
ndarray.__pos__ = lambda self: UFUNCS["positive"](self)
ndarray.__abs__ = lambda self: UFUNCS["absolute"](self)
ndarray.__invert__ = lambda self: UFUNCS["invert"](self)
