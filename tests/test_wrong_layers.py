"""Wrong layers as people write them: each is found, nothing false is said of it, and put right it is right."""

import numpy as np
import pytest
from blind import judged
from wrong_layers import WRONG, mended

from scratchgen.gradcheck import check


@pytest.mark.parametrize("name", WRONG)
def test_it_is_found_and_nothing_false_is_said_of_it(name):
    entry = WRONG[name]
    target, inputs = entry.make(np.random.default_rng(0))
    assert judged(check(target, *inputs, rng=np.random.default_rng([0, 2])), entry) not in ("not found", "FALSE")


@pytest.mark.slow
def test_two_in_three_are_named_though_they_were_written_without_a_look_at_the_hints():
    named = 0
    for entry in WRONG.values():
        target, inputs = entry.make(np.random.default_rng(0))
        named += judged(check(target, *inputs, rng=np.random.default_rng([0, 2])), entry) == "right"
    assert named >= 2 / 3 * len(WRONG)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_put_right_it_is_right(name):
    target, inputs = mended(name)(np.random.default_rng(0))
    report = check(target, *inputs, rng=np.random.default_rng([0, 2]))
    assert report.ok, report
