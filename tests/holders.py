"""The ways to keep an eye on an array's memory: by names, views, buffers, and from other libraries."""

import copy
import ctypes
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

N = 1000  # numbers in an array here


class Holder:
    """Something of another library that tells where its numbers are, and keeps the array that they are in."""

    def __init__(self, array):
        self.array, self.__array_interface__ = array, array.__array_interface__


def _buffer_of_c(a):
    return (ctypes.c_char * a.nbytes).from_buffer(a)


class Subclass(np.ndarray):
    pass


def _closure(a):
    return lambda: a


def _generator(a):
    def generate():
        yield a

    made = generate()
    return made, next(made)


def _cycle(a):
    ring = [a]
    ring.append(ring)
    return ring


def _structured(a):
    return a.view([("first", a.dtype), ("second", a.dtype)])["second"]


HOLDERS = {  # what somebody may keep of an array; each reads the numbers through it afterwards
    "itself": lambda a: a,
    "a view": lambda a: a[:],
    "a view of a view of a view": lambda a: a[1:][1:][1:],
    "one number's view": lambda a: a[3:4],
    "a reshaped transpose": lambda a: a.reshape(20, -1).T,
    "a diagonal": lambda a: a[:900].reshape(30, 30).diagonal(),
    "a flat iterator": lambda a: a.flat,
    "another dtype": lambda a: a.view(np.uint16),
    "the real part": lambda a: a.view(np.complex64).real,
    "a field": _structured,
    "a subclass": lambda a: a.view(Subclass),
    "a masked array": lambda a: np.ma.array(a, copy=False),
    "a broadcast": lambda a: np.broadcast_to(a, (2, len(a))),
    "strides": lambda a: np.lib.stride_tricks.sliding_window_view(a, 5),
    "its base": lambda a: a.base,
    "the base of its base": lambda a: a.base.base if type(a.base) is np.ndarray else None,
    "a split": lambda a: np.split(a, 4)[2],
    "rows": lambda a: list(a.reshape(20, -1)),
    "a memoryview": memoryview,
    "a memoryview of a view": lambda a: memoryview(a[5:])[5:],
    "a cast memoryview": lambda a: memoryview(a).cast("B"),
    "frombuffer": lambda a: np.frombuffer(a, np.float32),
    "frombuffer of a memoryview": lambda a: np.frombuffer(memoryview(a)[8:], np.float32),
    "asarray of a memoryview": lambda a: np.asarray(memoryview(a)),
    "ndarray over it": lambda a: np.ndarray((5,), np.float32, buffer=a, offset=40),
    "the array interface": lambda a: np.asarray(Holder(a)),
    "dlpack": np.from_dlpack,
    "ctypes": lambda a: a.ctypes,
    "ctypes pointer": lambda a: a.ctypes.data_as(ctypes.c_void_p),
    "ctypes buffer": _buffer_of_c,
    "nditer": lambda a: np.nditer(a),
    "a list": lambda a: [a],
    "a dict": lambda a: {"a": a},
    "an attribute": lambda a: SimpleNamespace(a=a),
    "an object array": lambda a: np.array([a[:7], None], object),
    "a closure": _closure,
    "a generator": _generator,
    "a cycle": _cycle,
    "a bound method": lambda a: a.sum,
    "pickle's buffer": lambda a: pickle.PickleBuffer(a),
    "a shallow copy of a list": lambda a: copy.copy([a]),
}


def _torch():
    return pytest.importorskip("torch").zeros(N)


FOREIGN = {  # memory that is not NumPy's, and whose holders nobody can count: the first holds it, the second looks
    "a bytearray": (lambda: bytearray(4 * N), lambda held: np.frombuffer(held, np.float32)),
    "bytes": (lambda: bytes(4 * N), lambda held: np.frombuffer(held, np.float32)),
    "bytes in another shape": (lambda: bytes(4 * N), lambda held: np.frombuffer(held, np.float32).reshape(20, -1)),
    "a memoryview": (lambda: np.zeros(N, np.float32), lambda held: np.asarray(memoryview(held))),
    "strides": (lambda: np.zeros(N, np.float32), lambda held: np.lib.stride_tricks.as_strided(held, (5,), (4,))),
    "windows": (lambda: np.zeros(N, np.float32), lambda held: np.lib.stride_tricks.sliding_window_view(held, 5)),
    "the array interface": (lambda: np.zeros(N, np.float32), lambda held: np.asarray(Holder(held))),
    "dlpack": (lambda: np.zeros(N, np.float32), np.from_dlpack),
    "ctypes": (lambda: (ctypes.c_float * N)(), lambda held: np.ctypeslib.as_array(held)),
    "torch": (_torch, lambda held: held.numpy()),
    "a view of torch": (_torch, lambda held: held.view(20, -1).numpy()),
    "torch without its gradient": (_torch, lambda held: held.detach().numpy()),
}
