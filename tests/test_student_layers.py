"""The checker and other people's code: however a layer is written, whatever it does to the process that runs it."""

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import scratchgen as sg
from scratchgen.cli import main
from scratchgen.commands.gradcheck import _form
from scratchgen.gradcheck import check
from scratchgen.gradcheck.apart import check_apart
from scratchgen.gradcheck.student import check_file

FILE = Path(__file__).with_name("student_layers.py")
SOURCE = FILE.read_text(encoding="utf-8")


def checked(spec, forms=None, span=None, contract_too=True):
    """What is told of a layer in a file, checked in this process: the messages by kind of inputs."""
    told = {}

    def emit(**message):
        told[message["report"] if "report" in message else message["cannot"]] = message

    check_file(str(spec), seed=0, tolerance=1e-6, forms=forms, span=span, contract_too=contract_too, emit=emit)
    return told


def verdicts(told):
    return {kind: message.get("verdict", message.get("why")) for kind, message in told.items()}


# --- right layers are right, and wrong ones wrong, in every way of writing them ---

RIGHT = {  # what they are made for, and the gradients that they have
    "Add": ("vectors", "da db"),
    "Concat": ("vectors", "da db"),
    "Split": ("vectors", "dx"),
    "SplitOfTwo": ("vectors", "dx"),
    "LSTMCell": ("vectors", "dx dh dc Wx.grad Wh.grad b.grad"),
    "GRUCell": ("vectors", "dx dh W.grad U.grad"),
    "Attention": ("vectors", "dq dk dv"),
    "SelfAttention3D": ("sequences", "dx W.grad"),
    "Embedding": ("integers", "W.grad"),
    "TakeEmbedding": ("integers", "W.grad"),
    "MaxPool2": ("images", "dx"),
    "DropoutGiven": ("vectors", "dx"),
    "LayerNorm": ("images", "dx gamma.grad beta.grad"),
    "Residual": ("vectors", "dx inner.W.grad inner.b.grad"),
    "DataScale": ("vectors", "dx"),
    "DataDense": ("vectors", "dx w.grad"),
    "SumLoss": ("vectors", "dx"),
    "norm_squared": ("vectors", "dx"),
    "mse": ("vectors", "dy"),
    "DinputsDense": ("vectors", "dinputs weights.grad biases.grad"),
    "DinputsReLU": ("vectors", "dinputs"),
    "DinputsDropout": ("vectors", "dinputs"),
    "AffineWithLists": ("vectors", "dx params.0.grad params.1.grad"),
    "AffineWithDW": ("vectors", "dx W.grad b.grad"),
    "NetOfLists": ("vectors", "dx layers.0.params.0.grad layers.2.params.1.grad"),
    "SigmoidWithLists": ("vectors", "dx"),
    "LinearWithDLdW": ("vectors", "dA W.grad b.grad"),
    "LinearWithDicts": ("vectors", "dx params.weight.grad params.bias.grad"),
    "DenseWithGradsDict": ("vectors", "dx W.grad b.grad"),
    "DenseReturningAll": ("vectors", "dx W.grad b.grad"),
    "DenseThatSteps": ("columns", "dinput weights.grad bias.grad"),
    "DenseOfOwnParams": ("vectors", "dx W.data.grad b.data.grad"),
    "CallStyle": ("vectors", "dx"),
    "LinearWithGradWeight": ("vectors", "dx weight.grad bias.grad"),
    "DenseWithCache": ("vectors", "dx W.grad"),
    "BatchNormMethods": ("vectors", "dx gamma.grad beta.grad"),
    "LearnedSlope": ("vectors", "dx alpha.grad"),
    "MSELoss": ("vectors", "dy"),
    "RNNCellMethods": ("vectors", "dx dh Wx.grad Wh.grad b.grad"),
    "ConvNCHW": ("images with their channels first", "dx W.grad b.grad"),
    "PositionalEncoding": ("sequences", "dx"),
    "LazyDense": ("vectors", "dx W.grad"),
    "SoftmaxWithMethods": ("vectors", "dx"),
    "EmbeddingWithLists": ("integers", "params.0.grad"),
    "affine_forward": ("vectors", "dx dw db"),
    "relu_forward": ("images", "dx"),
    "layernorm_forward": ("vectors", "dx dgamma dbeta"),
    "softmax_loss": ("integers", "dx"),
    "rnn_step_forward": ("vectors", "dx dprev_h dWx dWh db"),
    "lstm_step_forward": ("vectors", "dx dprev_h dprev_c dWx dWh db"),
    "linear_forward": ("columns", "dA dW db"),
    "prelu": ("images", "dx da"),
    "word_embedding_forward": ("integers", "dW"),
    "with_global": ("vectors", "dx W_global.grad"),
    "masked": ("vectors", "dx"),
    "gather": ("vectors", "dx"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_layers_are_right(name):
    kind, gradients = RIGHT[name]
    told = checked(f"{FILE}:{name}")
    assert told[kind]["verdict"] == "right", told
    for gradient in gradients.split():
        assert f"\n  {gradient} " in told[kind]["text"]
    # Only a batch norm over the batch axis is another function on images, with other shapes.
    others = {v for k, v in verdicts(told).items() if k != kind}
    assert others <= {"right", "skipped"} or name == "BatchNormMethods"


WRONG = [
    ("Add", "(dy, dy)", "(dy, 2 * dy)"),
    ("Concat", "dy[..., n:].copy())", "dy[..., :n].copy())"),
    ("Split", "np.concatenate(dy, -1)", "np.concatenate(dy[::-1], -1)"),
    ("SplitOfTwo", "np.concatenate([da, db], -1)", "np.concatenate([da, da], -1)"),
    ("LSTMCell", "dc = dc + dh * o", "dc = dh * o"),
    ("LSTMCell", "self.Wh.grad += h.T @ dz", ""),
    ("LSTMCell", "dz @ Wh.T, dcp", "dz @ Wh.T, dc"),
    ("GRUCell", "dy * z + du @ U.T", "du @ U.T"),
    ("Attention", "ds = p * (dp - (dp * p).sum(-1, keepdims=True))", "ds = p * dp"),
    ("SelfAttention3D", "np.concatenate([ds @ k,", "np.concatenate([ds @ q,"),
    ("Embedding", "np.add.at(g, ids, dy)", "g[ids] += dy"),
    ("TakeEmbedding", "np.add.at(g, ids, dy)", "g[ids] = dy"),
    ("MaxPool2", " / m.sum((2, 4), keepdims=True)", ""),
    ("DropoutGiven", "lambda dy: dy * mask * s", "lambda dy: dy * mask"),
    ("LayerNorm", "- xh * (d * xh).mean(-1, keepdims=True)", ""),
    ("Residual", "dy + b1(b2(dy))", "b1(b2(dy))"),
    ("DataScale", "lambda dy: self.factor * dy", "lambda dy: dy"),
    ("DataDense", "return dy * w", "return dy"),
    ("SumLoss", "dy * np.ones_like(x)", "np.ones_like(x)"),
    ("norm_squared", "2 * dy * x", "dy * x"),
    ("mse", "2 * (y - t) / y.size", "2 * (y - t) / len(y)"),
    ("DinputsDense", "np.sum(dvalues, axis=0, keepdims=True)", "np.mean(dvalues, axis=0, keepdims=True)"),
    ("DinputsDense", "np.dot(dvalues, self.weights.T)", "np.dot(dvalues, -self.weights.T)"),
    ("DinputsReLU", "self.dinputs[self.inputs <= 0] = 0", "pass"),
    ("DinputsDropout", "dvalues * self.binary_mask", "dvalues"),
    ("AffineWithLists", "self.grads[1][...] = np.sum(dout, axis=0)", "pass"),
    ("AffineWithDW", "self.dW = np.dot(self.x.T, dout)", "self.dW = 2 * np.dot(self.x.T, dout)"),
    ("NetOfLists", "reversed(self.layers)", "[self.layers[2], self.layers[0]]"),
    ("LinearWithDLdW", "self.dLdb = dLdZ.T @ self.Ones", "self.dLdb = dLdZ.T @ self.Ones / self.N"),
    ("LinearWithDicts", "self.x.T @ dout,", "self.x.T @ dout / len(dout),"),
    ("DenseWithGradsDict", 'self.grads["db"] = dy.sum(0)', 'self.grads["db"] = dy.mean(0)'),
    ("DenseReturningAll", "self.x.T @ dy, dy.sum(0)", "self.x.T @ dy, -dy.sum(0)"),
    ("DenseThatSteps", "self.bias -= learning_rate * ", "self.bias -= 2 * learning_rate * "),
    ("DenseOfOwnParams", "self.b.grad += dy.sum(0)", ""),
    ("CallStyle", "(1 - self.y**2)", "(1 - self.y)"),
    ("DenseWithCache", "self.dW = x.T @ dy", "self.dW = -x.T @ dy"),
    ("BatchNormMethods", "self.dgamma = (dy * self.xh).sum(0)", "self.dgamma = dy.sum(0)"),
    ("LearnedSlope", "np.where(self.x > 0, 0, self.x)).sum()", "np.where(self.x > 0, 1, self.x)).sum()"),
    ("MSELoss", "return self.d", "return 2 * self.d"),
    ("RNNCellMethods", "self.dWh = self.h.T @ dz", "self.dWh = self.x.T[:2] @ dz"),
    ("affine_forward", "dout.sum(0)", "dout.mean(0)"),
    ("relu_forward", "(cache > 0)", "(cache > 1)"),
    ("layernorm_forward", "(dout * xh).sum(0)", "dout.sum(0)"),
    ("softmax_loss", "return loss, d / n", "return loss, d"),
    ("lstm_step_forward", "dc = dc + dh * o * (1 - t * t)", "dc = dc + dh * o"),
    ("linear_forward", "dZ.sum(axis=1, keepdims=True)", "dZ.mean(axis=1, keepdims=True)"),
    ("word_embedding_forward", "np.add.at(dW, x, dout)", "dW[x] = dout"),
    ("prelu", "np.minimum(x, 0)", "np.maximum(x, 0)"),
    ("with_global", "W_global.grad += x.T @ dy", "W_global.grad -= x.T @ dy"),
    ("masked", "np.where(mask, dy, 0)", "dy"),
    ("gather", "d[mask] = dy", "d[mask] = 0.5 * dy"),
    ("ConvNCHW", "self.db = dy.sum((0, 2, 3))", "self.db = dy.sum((0, 2))"),
    ("PositionalEncoding", "dy.copy()", "dy + self.table"),
    ("LazyDense", "self.dW = self.x.T @ dy", "self.dW = 0 * self.x.T @ dy"),
    ("SoftmaxWithMethods", "(grad - (grad * self.y).sum(-1, keepdims=True))", "(1 - self.y) * grad"),
    ("EmbeddingWithLists", "np.add.at(dW, self.idx, dout)", "dW[self.idx] = dout"),
]
# A gradient that is nowhere to be found is not wrong, but it is not right either.
MISSING = [
    ("DenseReturningAll", "self.x.T @ dy, dy.sum(0)", "self.x.T @ dy"),
    ("DenseThatSteps", "self.bias -= learning_rate * output_gradient.sum(axis=1, keepdims=True)", "pass"),
    ("LinearWithGradWeight", "self.grad_bias = grad_output.sum(0)", "self.grad_bias = None"),
    ("LinearWithGradWeight", "self.grad_bias = grad_output.sum(0)", "pass"),
    ("AffineWithDW", "self.db = np.sum(dout, axis=0)", "db = np.sum(dout, axis=0)"),
    ("with_global", "W_global.grad += x.T @ dy", "pass"),
    ("Add", "(dy, dy)", "(dy, None)"),
    ("Add", "(dy, dy)", "dy"),
]


def spoiled(name, old, new, folder):
    """The file with one thing changed in a layer, or in what belongs to it."""
    lines, changed = SOURCE.splitlines(), 0
    belong = {name, name.replace("forward", "backward"), "_scatter" if name == "gather" else name}
    for part in reversed(ast.parse(SOURCE).body):
        if getattr(part, "name", None) in belong:
            body = "\n".join(lines[part.lineno - 1 : part.end_lineno])
            changed += body.count(old)
            lines[part.lineno - 1 : part.end_lineno] = body.replace(old, new).split("\n")
    assert changed == 1, (name, old)
    path = folder / "spoiled.py"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"{path}:{name}"


def named(table):
    return [f"{name}: {new or 'nothing'}" for name, _, new in table]


@pytest.mark.parametrize(("name", "old", "new"), WRONG, ids=named(WRONG))
def test_wrong_layers_are_wrong(name, old, new, tmp_path):
    found = verdicts(checked(spoiled(name, old, new, tmp_path)))
    assert found[RIGHT[name][0]] == "WRONG", found


@pytest.mark.parametrize(("name", "old", "new"), MISSING, ids=named(MISSING))
def test_a_gradient_that_cannot_be_found_is_said_to_be_missing(name, old, new, tmp_path):
    told = checked(spoiled(name, old, new, tmp_path))[RIGHT[name][0]]
    assert told["verdict"] == "UNPROVED"
    assert "NOT CHECKED: " in told["text"]
    assert "all right" not in told["text"]


# --- what is learned and no Parameter, and what is a Parameter and not found ---

KEPT = """
import numpy as np
from scratchgen import Dense, Layer, Parameter

class Holder:
    def __init__(self, *parts): self.parts = parts

class ArrayWeight(Layer):
    def __init__(self): self.W = np.full(3, 2.0, np.float32)
    def forward(self, x): return x * self.W, lambda dy: dy * self.W

class ArrayInList(ArrayWeight):
    def __init__(self): self.weights = [np.full(3, 2.0, np.float32)]
    def forward(self, x):
        w = self.weights[0]
        return x * w, lambda dy: dy * w

class PlainWeight:
    def __init__(self): self.bias = np.zeros(3)
    def forward(self, x): return x + self.bias
    def backward(self, dy): return dy

class Constant(ArrayWeight):
    buffers = ("W",)

class Mask(Layer):
    def __init__(self): self.mask = np.array([1, 0, 1], np.float32)
    def forward(self, x): return x * self.mask, lambda dy: dy * self.mask

class Hidden(Layer):
    def __init__(self, rng): self.holder = Holder(Dense(3, 3, rng=rng))
    def forward(self, x): return self.holder.parts[0].forward(x)
    def predict(self, x): return self.holder.parts[0].predict(x)

class InSet(Layer):
    def __init__(self): self.b = {Parameter("b", np.zeros(3, np.float32))}
    def forward(self, x):
        b, = self.b
        def backward(dy):
            b.grad += dy.sum(axis=tuple(range(dy.ndim - 1)))
            return dy.copy()
        return x + b.value, backward

class TwoDeep(Layer):
    def __init__(self, rng): self.blocks = [[Dense(3, 3, rng=rng)], [Dense(3, 3, rng=rng)]]
    def forward(self, x):
        h, first = self.blocks[0][0].forward(x)
        y, second = self.blocks[1][0].forward(h)
        return y, lambda dy: first(second(dy))
    def predict(self, x): return self.blocks[1][0].predict(self.blocks[0][0].predict(x))

class Own(Layer):
    def __init__(self): self.W = np.full(3, 2.0)
    def forward(self, x):
        self.x = x
        return x * self.W.astype(x.dtype)
    def backward(self, dy):
        self.dW = (dy * self.x).sum(axis=tuple(range(dy.ndim - 1)))
        return dy * self.W.astype(dy.dtype)
"""


@pytest.fixture
def kept(tmp_path):
    path = tmp_path / "kept.py"
    path.write_text(KEPT, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "verdict", "says"),
    [
        ("ArrayWeight", "UNPROVED", ["NOT CHECKED: W", "self.W = Parameter('W', ...)", "`buffers`"]),
        ("ArrayInList", "UNPROVED", ["NOT CHECKED: weights.0", "make it a Parameter"]),
        ("PlainWeight", "UNPROVED", ["NOT CHECKED: bias", "as self.dbias"]),
        ("Constant", "right", []),
        ("Mask", "right", ["note: taken for constant: mask"]),
        ("Hidden", "WRONG", ["holder.parts.0", "derive Holder from Layer", "the gradients are right"]),
        ("InSet", "WRONG", ["in the set b", "hold it in a list"]),
        ("TwoDeep", "right", ["blocks.1.0.W.grad"]),
        ("Own", "WRONG", ["W: learned", "but no Parameter", "end in `return y, backward`"]),
    ],
)
def test_what_is_learned_and_not_found_is_said(name, verdict, says, kept):
    told = checked(f"{kept}:{name}")["vectors"]
    assert told["verdict"] == verdict, told["text"]
    for words in says:
        assert words in told["text"]


def test_gradients_only_checks_what_is_written_in_other_ways(kept):
    assert checked(f"{kept}:Own", contract_too=False)["vectors"]["verdict"] == "right"


# --- several inputs and outputs ---


def test_several_outputs_in_python(rng):
    def lstm(x, h, c):
        z = np.tanh(x + h)
        return (z * c, z + c), lambda dy: (
            (dy[0] * c + dy[1]) * (1 - z * z),
            (dy[0] * c + dy[1]) * (1 - z * z),
            dy[0] * z + dy[1],
        )

    x, h, c = rng.standard_normal((3, 4, 2))
    report = check(lstm, x, h, c)
    assert report.ok, report
    assert [t.name for t in report.tensors] == ["dx", "dh", "dc"]

    def scalars(x):
        return (x.sum(), x.mean(axis=0)), lambda ds, dm: ds + np.broadcast_to(dm / len(x), x.shape)

    assert check(scalars, x).ok

    def flat(x):
        return 2 * x, 3 * x, lambda da, db: 2 * da + 3 * db

    assert check(flat, x).ok

    def one_forgotten(x):
        return (2 * x, 3 * x), lambda dy: 2 * dy[0]

    assert not check(one_forgotten, x).ok


def test_each_output_is_float64(rng):
    x = rng.standard_normal((4, 2))
    with pytest.raises(TypeError, match="int64 of float64 inputs and parameters in its output 1"):
        check(lambda x: ((x, x.argmax(axis=1)), lambda da, db: da), x)


def test_the_contract_of_several_outputs(rng):
    class Writes(sg.Layer):
        def forward(self, x):
            def backward(dy):
                dy[1][...] *= 2
                return dy[0] + dy[1]

            return (x.copy(), 2 * x), backward

    class Buffered(sg.Layer):
        def __init__(self):
            self.y = None

        def forward(self, x):
            self.y = np.empty_like(x) if self.y is None or self.y.shape != x.shape else self.y
            np.multiply(x, 2, out=self.y)
            return (x.copy(), self.y), lambda dy: dy[0] + 2 * dy[1]

    class Single(sg.Layer):
        def forward(self, x):
            return (x.astype("d"), 2 * x), lambda dy: (dy[0] + 2 * dy[1]).astype(x.dtype)

    class Predicts(sg.Layer):
        def forward(self, x):
            return (x.copy(), 2 * x), lambda dy: dy[0] + 2 * dy[1]

        def predict(self, x):
            return x, x

    x = rng.standard_normal((4, 3))
    assert "writes into dy" in str(check(Writes(), x))
    assert "the y of the first" in str(check(Buffered(), x))
    assert "for float32 x, y[0] comes out as float64" in str(check(Single(), x))
    assert "predict does not give the y of forward" in str(check(Predicts(), x))


def test_a_layer_of_several_inputs_predicts(rng):
    class Add(sg.Layer):
        def forward(self, a, b):
            return a + b, lambda dy: (dy.copy(), dy.copy())

    a, b = rng.standard_normal((2, 5, 3))
    np.testing.assert_array_equal(Add().predict(a, b), a + b)
    assert check(Add(), a, b).ok


# --- each sentence of the contract by itself ---


class Good(sg.Layer):
    """A right layer; those below break one thing, and that alone may be told."""

    def __init__(self):
        self.w = sg.Parameter("w", np.array([1.5, -2, 3]))

    def forward(self, x):
        w = self.w.value
        return x * w, self.pullback(x * w, dx=lambda dy: dy * w, grads={self.w: lambda dy: (dy * x).sum(axis=0)})


class NoFloat32(Good):
    def forward(self, x):
        if x.dtype == np.float32:
            raise TypeError("float64 alone")
        return super().forward(x)


class TypoInPredict(Good):
    def predict(self, x):
        return self.wieghts * x


class LeavesInPredict(Good):
    def predict(self, x):
        sys.exit(0)


class OneBackward(Good):
    def forward(self, x):
        y, backward = super().forward(x)

        def picky(dy):
            if np.abs(dy).max() > 100:
                raise ValueError("dy is too large")
            return backward(dy)

        return y, picky


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (NoFloat32(), "with float32 arrays it raised TypeError: float64 alone"),
        (TypoInPredict(), "predict raised AttributeError"),
        (LeavesInPredict(), "predict raised SystemExit: 0"),
        (OneBackward(), "backward of −1000 times dy raised ValueError: dy is too large"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_raises_in_the_contract_is_one_fault_and_the_table_stays(layer, says, rng):
    report = check(layer, rng.standard_normal((4, 3)))
    assert [t.verdict for t in report.tensors] == ["right", "right"]
    assert len(report.faults) == 1, report
    assert says in report.faults[0]
    assert "test_student_layers.py, line" in report.faults[0]
    assert not report.ok


def test_every_sentence_is_checked_though_others_raise(rng):
    class Several(NoFloat32):
        predict = TypoInPredict.predict

        def forward(self, x):
            y, backward = super().forward(x)
            x[0, 0] += 1
            return y, backward

    faults = check(Several(), rng.standard_normal((4, 3))).faults
    assert len(faults) == 3
    for words in ("writes into x", "predict raised", "float32"):
        assert any(words in fault for fault in faults)


def test_integers_have_no_float32(rng):
    class Embedding(sg.Layer):
        def __init__(self):
            self.W = sg.Parameter("W", rng.standard_normal((5, 2)))

        def forward(self, ids):
            def backward(dy):
                np.add.at(self.W.grad, ids, dy)

            return self.W.value[ids], backward

    report = check(Embedding(), rng.integers(0, 5, (3, 4)))
    assert report.ok, report
    assert [t.name for t in report.tensors] == ["W.grad"]


# --- code that leaves, in this process ---

EXITS = {
    "SystemExit": SystemExit(0),
    "GeneratorExit": GeneratorExit(),
    "BaseException": BaseException("x"),
    "no words": type("Mute", (Exception,), {"__str__": lambda self: 1 / 0})(),
    "words that leave": type("Leaver", (Exception,), {"__str__": lambda self: sys.exit(0)})(),
}


@pytest.mark.parametrize("raised", EXITS.values(), ids=EXITS)
def test_what_leaves_is_an_error_in_python_too(raised, rng):
    def leave(*_):
        raise raised

    class InForward(Good):
        forward = leave

    class InBackward(Good):
        def forward(self, x):
            return 2 * x, leave

    class Copied(Good):
        __deepcopy__ = leave

    x = rng.standard_normal((4, 3))
    expected = type(raised) if isinstance(raised, Exception) else RuntimeError
    for layer in (InForward(), Copied()):
        with pytest.raises(expected):
            check(layer, x)
    report = check(InBackward(), x)
    assert not report.ok
    assert f"backward raised {type(raised).__name__}" in report.faults[0]


def test_ctrl_c_is_not_an_error_of_the_layer(rng):
    class Interrupted(Good):
        def forward(self, x):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(Interrupted(), rng.standard_normal((4, 3)))


def test_the_settings_of_numpy_are_as_before(rng):
    class Strict(Good):
        def forward(self, x):
            np.seterr(all="raise")
            return super().forward(x)

    before = np.geterr()
    assert check(Strict(), rng.standard_normal((4, 3))).ok
    assert np.geterr() == before


# --- and on the command line, in a process of its own ---


def run(capsys, path, *options):
    """Exit status, stdout and stderr of the check of `L` in a file."""
    capsys.readouterr()
    status = main(["gradcheck", f"{path}:L", *map(str, options)])
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    return status, said.out, said.err


def forward(body):
    return f"import os, sys, signal, time, ctypes\ndef L(x):\n    {body}\n    return 2 * x, lambda dy: 2 * dy\n"


def backward(body):
    return (
        f"import os, sys, signal, time, ctypes\ndef L(x):\n    def backward(dy):\n        {body}\n"
        "        return 2 * dy\n    return 2 * x, backward\n"
    )


LEAVERS = {
    "exit in import": ("import sys; sys.exit(0)", "SystemExit in line 1"),
    "_exit in import": ("import os; os._exit(0)", "loading ended the process, with exit status 0"),
    "loop in import": ("while True: pass", "loading took longer than 0.5 s"),
    "deep expression": (f"x = {'-' * 100_000}1", "load"),
    "no text": ("x = 1\0", "SyntaxError"),
    "exit in forward": (forward("sys.exit()"), "forward of L raised SystemExit"),
    "_exit in forward": (forward("os._exit(0)"), "forward ended the process, with exit status 0"),
    "_exit in backward": (backward("os._exit(0)"), "backward ended the process"),
    "_exit in the contract": (
        "import os\nfrom scratchgen import Layer\nclass L(Layer):\n"
        "    def forward(self, x): return 2 * x, lambda dy: 2 * dy\n"
        "    def predict(self, x): os._exit(0)\n",
        "predict ended the process",
    ),
    "abort": (forward("os.abort()"), "forward crashed the interpreter, SIGABRT"),
    "segfault": (backward("ctypes.string_at(0)"), "backward crashed the interpreter"),
    "kill": (forward("os.kill(os.getpid(), signal.SIGKILL)"), "was killed during forward"),
    "loop in forward": (forward("while True: pass"), "forward took longer than 0.5 s"),
    "sleep in backward": (backward("time.sleep(60)"), "backward took longer than 0.5 s"),
    "recursion": (forward("return L(x)"), "RecursionError"),
    "stdin": (forward("input()"), "EOFError"),
    "Ctrl-C of its own": (forward("raise KeyboardInterrupt"), "raised KeyboardInterrupt"),
    "closed files": ("import os; os.closerange(0, 100)\n", "closed files that it has not opened"),
    "another allclose": (
        "import numpy as np\nnp.allclose = lambda *a, **k: True\n" + forward("pass"),
        "replaces numpy.allclose",
    ),
    "another sum, late": (
        "import numpy as np\n" + forward("np.linalg.norm = lambda *a: 0.0"),
        "replaces numpy.linalg.norm",
    ),
}


@pytest.mark.parametrize(("source", "says"), LEAVERS.values(), ids=LEAVERS)
def test_nothing_but_a_finished_report_is_a_success(source, says, tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(source)
    status, out, err = run(capsys, path, *(["--timeout", 0.5] if "longer" in says else []))
    assert status in (1, 2)
    assert says in err
    assert err.count("\n") == 1
    if says.startswith("predict"):
        assert "dx" in out  # the gradients stay
        assert "UNFINISHED" in out
        assert "all right" not in out
    if "longer" in says or "crashed" in says:
        assert f"{path}, line" in err  # where it was


ONE = "def L(x):\n    {}\n    return 2 * x, lambda dy: {} * dy\n"
CHANGES = {
    "folder": ("import os\nos.chdir('/')\n", "os.chdir('/tmp')"),
    "state of NumPy": ("import numpy as np\nnp.seterr(all='raise')\n", "np.random.seed(1); np.seterr(all='raise')"),
    "stdout": ("import sys\nsys.stdout = None\n", "sys.stderr = None"),
    "warnings": ("import warnings\nwarnings.simplefilter('error')\n", "warnings.simplefilter('error')"),
    "recursion limit": ("import sys\nsys.setrecursionlimit(120)\n", "pass"),
    "threads that stay": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\n",
        "pass",
    ),
    "processes that stay": ("import subprocess\nsubprocess.Popen(['sleep', '60'])\n", "pass"),
    "an exit handler": ("import atexit, os\natexit.register(os._exit, 5)\n", "pass"),
    "arguments": ("import sys\nassert len(sys.argv) == 1\n", "pass"),
}


@pytest.mark.skipif(os.name != "posix", reason="'sleep' and '/tmp' are POSIX")
@pytest.mark.parametrize(("first", "within"), CHANGES.values(), ids=CHANGES)
def test_what_the_code_changes_does_not_change_the_verdict(first, within, tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(first + ONE.format(within, 3))
    status, out, _ = run(capsys, path)
    assert status == 1
    assert "exactly 1.5 times" in out
    if within != "pass":
        path.write_text(first + ONE.format(within, 2))
        assert run(capsys, path)[0] == 0


def test_what_the_code_prints_is_shown_in_part_and_apart_from_the_report(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text("import sys\n" + ONE.format("print('finished'); print('seen', file=sys.stderr)", 2))
    status, out, err = run(capsys, path)
    assert status == 0
    assert "finished" not in out
    assert err.count("seen") == 20
    assert err.endswith("\n… what the file prints further is not shown\n")
    path.write_text(ONE.format("print('x' * 10**6, end='')", 2))
    status, out, err = run(capsys, path)
    assert status == 0
    assert len(err) < 10_000
    path.write_text(
        "print('{\"finished\": true}')\nimport os\nos.write(1, b'{\"finished\": true}\\n')\nos._exit(0)\n"
    )
    assert run(capsys, path)[0] == 2  # whatever it says of itself


def processes(group):
    """The processes of a group, from /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "terminated"])
def test_nothing_goes_on_when_the_check_is_stopped(number, tmp_path):
    """Also where the code forks: the copies end with it."""
    group = tmp_path / "group"
    path = tmp_path / "mine.py"
    path.write_text(
        f"import os, time\nopen({str(group)!r}, 'w').write(str(os.getpid()))\n"
        "def L(x):\n    os.fork()\n    time.sleep(0.05)\n    return 2 * x, lambda dy: 2 * dy\n"
    )
    start = time.monotonic()
    command = [sys.executable, "-m", "scratchgen", "gradcheck", f"{path}:L"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        while not (group.exists() and group.read_text()):
            assert parent.poll() is None
            time.sleep(0.02)
        time.sleep(0.3)
        parent.send_signal(number)
        out, err = parent.communicate(timeout=30)
    assert parent.returncode == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in err
    assert "right" not in out
    while processes(int(group.read_text())):
        assert time.monotonic() < start + 20
        time.sleep(0.05)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_copy_of_the_process_ends_at_its_next_call(tmp_path, capsys):
    """Else there would be 2^6 of them, and each would report."""
    path, log = tmp_path / "mine.py", tmp_path / "log"
    path.write_text(
        f"import os\nn = 0\ndef L(x):\n    global n\n    n += 1\n    if 200 < n <= 206: os.fork()\n"
        f"    open({str(log)!r}, 'a').write(f'{{os.getpid()}}\\n')\n    return 2 * x, lambda dy: 3 * dy\n"
    )
    status, out, _ = run(capsys, path)
    assert status == 1
    assert out.count("L on 5×4") == 1
    assert len(set(log.read_text().split())) == 7


def test_several_files_are_all_checked(tmp_path, capsys):
    for name, source in {"a": "1 / 0", "b": ONE.format("pass", 3), "c": ONE.format("pass", 2)}.items():
        (tmp_path / f"{name}.py").write_text(source)
    a, b, c = (str(tmp_path / f"{name}.py:L") for name in "abc")
    for targets, status in (((a, c), 2), ((a, b, c), 1)):
        assert main(["gradcheck", *targets]) == status
        said = capsys.readouterr()
        assert "all right" in said.out
        assert "ZeroDivisionError in line 1" in said.err


SHAPES = [
    ("LSTMCell", ["4,3", "4,2", "4,2"], "right", "on 4×3, 4×2, 4×2"),
    ("Embedding(10, 4)", ["2,5:10"], "right", "on 2×5 of integers"),
    ("softmax_loss", ["5,4", "5:4"], "right", "dx"),
    ("gather", ["5,4", "5,4:bool"], "right", "on 5×4, 5×4 of truth values"),
    ("leaky", ["5,4", "5,4"], "UNPROVED", "say so, as in --input-shape 5,3:const"),
    ("leaky", ["5,4", "5,4:const"], "right", "dx"),
    ("layernorm_forward(ln_param={'eps': 0.01})", ["3,4", "4", "4"], "right", "dbeta"),
    ("LSTMCell", ["4,3"], "TypeError", "missing 2 required positional arguments: 'h' and 'c'"),
]


@pytest.mark.parametrize(("name", "shapes", "verdict", "says"), SHAPES)
def test_shapes_and_kinds_of_inputs(name, shapes, verdict, says):
    (told,) = checked(f"{FILE}:{name}", forms=list(map(_form, shapes))).values()
    assert (told.get("verdict") or told["why"]).startswith(verdict)
    assert says in (told.get("text") or told["why"])


def test_shapes_on_the_command_line(capsys):
    options = ["--input-shape", "4,3", "--input-shape", "4,2"]
    assert main(["gradcheck", f"{FILE}:GRUCell", *options]) == 0
    assert "GRUCell() on 4×3, 4×2\n" in capsys.readouterr().out
    for bad in ("5,3:", "5,3:x", "5,3:0", "5,3:1.5", ":4"):
        with pytest.raises(SystemExit) as stop:
            main(["gradcheck", "mine.py:f", "--input-shape", bad])
        assert stop.value.code == 2
        assert "is not a shape" in capsys.readouterr().err
    for bad in ("0", "-1", "nan", "1e9"):
        with pytest.raises(SystemExit) as stop:
            main(["gradcheck", "mine.py:f", "--timeout", bad])
        assert stop.value.code == 2
        assert "--timeout" in capsys.readouterr().err


def test_what_takes_no_inputs_says_what_to_give(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text("def L(x, gate):\n    assert x.shape == (2, 9) and gate.shape == (9,)\n    return x * gate, 1\n")
    status, _, err = run(capsys, path)
    assert status == 2
    assert "give --input-shape, once for each of (x, gate)" in err
    assert err.count("\n") == 1


NO_BACKWARD = {
    "a class": ("class L:\n    def forward(self, x): return x\n", "the method `backward(self, dy)` of L"),
    "a function": ("def L(x): return x\n", "`def L_backward(dy, cache)`"),
    "a layer": (
        "from scratchgen import Layer\nclass L(Layer):\n    def forward(self, x): return x\n",
        "the pair y, backward",
    ),
    "nothing": (
        "class L:\n    def forward(self, x): pass\n    def backward(self, dy): return dy\n",
        "returned nothing for y",
    ),
    "more for backward": (
        "class L:\n    def forward(self, x): return x\n    def backward(self, dy, y, z): return dy\n",
        "backward of L takes (dy, y, z), and is called with dy",
    ),
}


@pytest.mark.parametrize(("source", "says"), NO_BACKWARD.values(), ids=NO_BACKWARD)
def test_what_has_no_backward_is_told_what_to_write(source, says, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(source)
    (told,) = checked(f"{path}:L").values()
    assert says in told["why"]


def test_a_crash_on_images_is_not_a_success(tmp_path):
    """As of a gradient summed over the batch axis alone. For a layer of vectors, a matrix product, it is no fault."""
    path = tmp_path / "mine.py"
    path.write_text(
        "import numpy as np\nfrom scratchgen import Layer, Parameter\n"
        "class L(Layer):\n"
        "    def __init__(self): self.b = Parameter('b', np.zeros(3, np.float32))\n"
        "    def forward(self, x):\n"
        "        def backward(dy):\n"
        "            self.b.grad += dy.sum(axis=0)\n"
        "            return dy.copy()\n"
        "        return x + self.b.value, backward\n"
    )
    told = checked(f"{path}:L")
    assert verdicts(told) == {"vectors": "right", "images": "WRONG"}
    assert "or say what it is made for, as in --input-shape 5,3" in told["images"]["text"]
    dense = checked(f"{FILE}:AffineWithDW")["images"]
    assert dense["verdict"] == "skipped"
    assert "not counted: forward takes images, backward does not: ValueError" in dense["text"]


def damaged(rng):
    """The file of layers with a few bytes changed, and the name of one, near which most of the damage is."""
    source = bytearray(SOURCE.encode())
    layers = [part for part in ast.parse(SOURCE).body if isinstance(part, ast.ClassDef | ast.FunctionDef)]
    layer = layers[rng.integers(len(layers))]
    start = len("\n".join(SOURCE.splitlines()[: layer.lineno - 1]).encode())
    for _ in range(rng.integers(1, 4)):
        at = int(min(start + rng.integers(800), len(source) - 1))
        piece = [
            b"(",
            b")",
            b"[",
            b":",
            b"0",
            b"-",
            b"**",
            b"self.",
            b"return ",
            b"None",
            b"\n",
            b"    ",
            b"\0",
            b"\xff",
        ]
        piece += [b"while True: ", b"1e308", b"9" * 30, b"lambda: ", bytes([rng.integers(256)])]
        cut = int(rng.choice([0, 0, 1, 1, 3, 20, 80]))
        source[at : at + cut] = piece[rng.integers(len(piece))] if cut < 2 else b""
    return bytes(source), layer.name


def test_a_few_damaged_files(tmp_path, capfd):
    look_at_damaged(4, tmp_path, capfd)


@pytest.mark.slow
def test_many_damaged_files(tmp_path, capfd):
    look_at_damaged(400, tmp_path, capfd)


def look_at_damaged(count, folder, capfd):
    """However a file is damaged, the check comes to an end in time and says what it found, in sentences."""
    path = folder / "mine.py"
    options = {"seed": 0, "tolerance": 1e-6, "forms": None, "span": None, "contract_too": True}
    rng = np.random.default_rng(1)
    for _ in range(count):
        source, name = damaged(rng)
        path.write_bytes(source)
        outcome = check_apart({"spec": f"{path}:{name}", **options}, timeout=5)
        said = [outcome.why, *outcome.cannot, *(report["text"] for report in outcome.reports.values())]
        assert any(said)
        assert not any(f"{Path(sg.__file__).parent / 'gradcheck'}" in words for words in said), said
        assert all(words.count("\n") == 0 for words in outcome.cannot)
        assert "Traceback" not in capfd.readouterr().err
