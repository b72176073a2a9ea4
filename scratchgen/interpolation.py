"""Walks through a latent space, from one code to another."""

import numpy as np


def linear(a: np.ndarray, b: np.ndarray, t: float | np.ndarray) -> np.ndarray:
    """(1 − t) a + t b."""
    return (1 - t) * a + t * b


def spherical(a: np.ndarray, b: np.ndarray, t: float | np.ndarray) -> np.ndarray:
    """Spherical linear interpolation, slerp: along the great circle from a to b, the length changing evenly.

    Normal draws of many dimensions lie near one sphere; a straight line between two runs through its inside, where no
    draw ever is. Codes lie along the last axis of a and b; t, from 0 to 1, is broadcast. A walk from 0 or to it is
    straight. (White 2016; Shoemake 1985.)
    """
    length_a, length_b = (np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b))
    a, b = a / np.where(length_a > 0, length_a, 1), b / np.where(length_b > 0, length_b, 1)
    a, b = np.where(length_a > 0, a, b), np.where(length_b > 0, b, a)  # 0 has no direction of its own
    angle = np.arccos(np.clip((a * b).sum(axis=-1, keepdims=True), -1, 1))
    s = np.sin(angle)
    bent = s > 1e-4  # where it is not, the two directions are one, or opposite with no circle between them
    s = np.where(bent, s, 1)
    circle = np.sin((1 - t) * angle) / s * a + np.sin(t * angle) / s * b
    return np.where(bent, circle, linear(a, b, t)) * linear(length_a, length_b, t)
