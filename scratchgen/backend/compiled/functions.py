"""exp, log and tanh for loops: formulas without branches, so that a processor does sixteen of them at a time.

Those of the C library are called one element at a time, and take ten times as long. Errors are in units in the last
place, against float64, the largest of some million drawn over the whole range: exp 1.0, expm1 1.6, log 0.9, log1p
1.5, tanh 1.4 (`tests/test_compiled.py` holds them to that). Infinities, NaN, zeros and the smallest numbers come out
as NumPy has them. They are for float32: what is float64 is left to NumPy.

Polynomials: Moshier's Cephes library (expf, logf, tanhf), 1992; each leaves out less than float32 can hold.
"""

import numpy as np


def scaled(x, k):
    """x · 2ᵏ for a whole number k from −252 to 254, in two steps, as 2ᵏ itself may not be a float32."""
    half = np.int32(k) >> np.int32(1)
    rest = np.int32(k) - half
    one = np.int32((half + np.int32(127)) << np.int32(23)).view(np.float32)  # the bits of 2^half
    two = np.int32((rest + np.int32(127)) << np.int32(23)).view(np.float32)
    return x * one * two


def reduced(x):
    """k and r with x = k log 2 + r, |r| ≤ ½ log 2; log 2 in two parts, so that k times the first is exact."""
    k = np.rint(x * np.float32(1.4426950408889634))
    r = (x - k * np.float32(0.693359375)) + k * np.float32(2.12194440e-4)
    return k, r


def exp_minus_one_of(r):
    """eʳ − 1 = r + r² P(r) for |r| ≤ ½ log 2."""
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    return p * (r * r) + r


def exp(x):
    """eˣ = 2ᵏ eʳ."""
    bounded = x if x > np.float32(-104) else np.float32(-104)  # below and above it is 0 or infinite
    bounded = bounded if bounded < np.float32(89) else np.float32(89)
    k, r = reduced(bounded)
    y = scaled(exp_minus_one_of(r) + np.float32(1), k)
    return y if x == x else x


def expm1(x):
    """eˣ − 1 = 2ᵏ (eʳ − 1) + (2ᵏ − 1)."""
    bounded = x if x > np.float32(-20) else np.float32(-20)
    bounded = bounded if bounded < np.float32(89) else np.float32(89)
    k, r = reduced(bounded)
    power = scaled(np.float32(1), k - np.float32(1))  # half of it: 2¹²⁸ is no float32
    y = np.float32(2) * (power * exp_minus_one_of(r) + (power - np.float32(0.5)))
    y = y if k != np.float32(0) else exp_minus_one_of(r)
    return np.copysign(y, x) if x == x else x


def log(x):
    """log x = k log 2 + log m with x = 2ᵏ m, √½ ≤ m < √2, and log(1 + f) = f − ½ f² + f³ P(f)."""
    tiny = x < np.float32(1.1754944e-38)
    lifted = x * np.float32(8388608) if tiny else x  # 2²³: then its bits have an exponent
    bits = np.float32(lifted).view(np.int32)
    exponent = ((bits >> np.int32(23)) & np.int32(255)) - np.int32(126)
    m = np.int32((bits & np.int32(0x007FFFFF)) | np.int32(0x3F000000)).view(np.float32)  # from ½ to 1
    low = m < np.float32(0.70710678)
    f = m + m - np.float32(1) if low else m - np.float32(1)
    k = np.float32(exponent - np.int32(1) if low else exponent)
    k = k - np.float32(23) if tiny else k
    z = f * f
    p = np.float32(7.0376836292e-2)
    p = p * f + np.float32(-1.1514610310e-1)
    p = p * f + np.float32(1.1676998740e-1)
    p = p * f + np.float32(-1.2420140846e-1)
    p = p * f + np.float32(1.4249322787e-1)
    p = p * f + np.float32(-1.6668057665e-1)
    p = p * f + np.float32(2.0000714765e-1)
    p = p * f + np.float32(-2.4999993993e-1)
    p = p * f + np.float32(3.3333331174e-1)
    y = p * (z * f) + k * np.float32(-2.12194440e-4) - np.float32(0.5) * z
    y = f + y + k * np.float32(0.693359375)
    y = y if x < np.float32(np.inf) else x  # infinity and NaN stay
    none = np.float32(-np.inf) if x == np.float32(0) else np.float32(np.nan)
    return y if x > np.float32(0) else none


def log1p(x):
    """log(1 + x) = log u + (x − (u − 1)) / u with u = 1 + x rounded: the second part is what the rounding took."""
    u = np.float32(1) + x
    y = log(u) + (x - (u - np.float32(1))) / u
    y = y if u != np.float32(1) else x
    return y if x < np.float32(np.inf) and x > np.float32(-1) else log(u)


def tanh(x):
    """x + x³ P(x²) for |x| < 0.625, and ±(1 − 2 / (e^(2|x|) + 1)) beyond."""
    a = abs(x)
    z = x * x
    p = np.float32(-5.70498872745e-3)
    p = p * z + np.float32(2.06390887954e-2)
    p = p * z + np.float32(-5.37397155531e-2)
    p = p * z + np.float32(1.33314422036e-1)
    p = p * z + np.float32(-3.33332819422e-1)
    small = p * z * x + x
    bounded = a if a < np.float32(10) else np.float32(10)  # from where on it is 1
    large = np.float32(1) - np.float32(2) / (exp(bounded + bounded) + np.float32(1))
    y = abs(small) if a < np.float32(0.625) else large
    return np.copysign(y, x) if x == x else x
