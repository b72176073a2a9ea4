"""The shortest proof, ⟨dy, J t⟩ = ⟨Jᵀ dy, t⟩: every layer passes, and wrong ones do not."""

import numpy as np
import pytest

from scratchgen import gradcheck
from scratchgen.gradcheck.gallery import find
from scratchgen.gradcheck.grid import cases
from scratchgen.layers import Layer

LAYERS = [case for case in cases(np.random.default_rng(0)) if isinstance(case.target, Layer)]
WRONG_DX = [
    "a-thousandth-off",
    "wrong-sign",
    "dx-without-transpose",
    "batch-norm-mean-term",
    "batch-norm-sums-for-means",
]
WRONG_DX += [
    "kernel-unflipped-in-dx",
    "stride-forgotten-in-dx",
    "dx-shifted",
    "last-row-forgotten",
    "holes-stay-zero",
]


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.label)
def test_every_backward_is_the_adjoint(case):
    rng = np.random.default_rng(1)
    layer = case.target.astype(np.float64)
    for p in layer.parameters():
        p.value = p.value + 0.3 * rng.standard_normal(p.value.shape)
    assert gradcheck.adjoint_error(layer.forward, case.inputs[0], rng) < 1e-6


@pytest.mark.parametrize("name", WRONG_DX)
def test_a_wrong_dx_is_not(name):
    rng = np.random.default_rng(1)
    case = find(name).make(rng)
    assert gradcheck.adjoint_error(case.wrong.astype(np.float64).forward, case.inputs[0], rng) > 1e-4
    assert gradcheck.adjoint_error(case.right.astype(np.float64).forward, case.inputs[0], rng) < 1e-6


def test_it_is_told_by_a_gradient_a_thousandth_too_large():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((4, 3))
    assert gradcheck.adjoint_error(lambda x: (x * x, lambda dy: 2 * dy * x), x, rng) < 1e-9
    wrong = gradcheck.adjoint_error(lambda x: (x * x, lambda dy: 2.002 * dy * x), x, rng)
    assert wrong == pytest.approx(1e-3, rel=0.01)
