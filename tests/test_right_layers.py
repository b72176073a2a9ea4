"""No right layer is called wrong: a hundred of them, each at three seeds."""

import numpy as np
import pytest
from right_layers import CASES

from scratchgen import gradcheck


@pytest.mark.parametrize("name", CASES)
def test_a_right_layer_is_called_right_and_nothing_is_said_against_it(name):
    for seed in range(3):
        rng = np.random.default_rng([seed, 7])
        report = gradcheck.check(CASES[name].make(rng), *CASES[name].inputs(rng), rng=np.random.default_rng(seed))
        assert report.ok, report
        assert [t.hint for t in report.tensors if t.hint] == [], report
        assert (report.faults, report.unchecked) == ([], []), report
