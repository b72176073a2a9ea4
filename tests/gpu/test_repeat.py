"""The same seed twice gives the same bits: nothing on the GPU depends on which thread comes first."""

import numpy as np
import pytest
from reference_models import KINDS, train


def assert_repeats(kind: str, *, small: bool, steps: int) -> None:
    first, second = (train(kind, small=small, backend="cupy", dtype=np.float32, steps=steps) for _ in range(2))
    assert first.losses.tobytes() == second.losses.tobytes()
    assert first.bits.keys() == second.bits.keys()
    different = [name for name, bits in first.bits.items() if bits != second.bits[name]]
    assert not different


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_model_repeats_bit_for_bit(kind, device):
    assert_repeats(kind, small=True, steps=3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_true_model_repeats_bit_for_bit(kind, gpu):
    assert_repeats(kind, small=False, steps=30)


def test_another_seed_is_another_run(device):
    runs = [train("gan", small=True, backend="cupy", dtype=np.float32, steps=1, seed=seed) for seed in (0, 1)]
    assert runs[0].bits["generator.0.W"] != runs[1].bits["generator.0.W"]
