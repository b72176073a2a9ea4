"""Sentences on a mistake without the right formula, which is the last of an exercise's hints."""

import re

# What a sentence ends with, or goes on with before the next part: what the gradient is, or how it is written.
ANSWERS = (
    r"; the gradient is [^;]*?(?= \(each element |;|$)",
    r": (?:d[A-Za-z]*(?:\.grad)?|∂\S+) = [^;]*",
    r", so ∂[^;]* = [^;]*",
    r"; np\.[^;]*",
)


def without_formula(sentence: str) -> str:
    """The sentence with what is wrong, the part that is missing, the axis, the mask, or the sign, and without what is
    right in full."""
    shorter = sentence
    for answer in ANSWERS:
        shorter = re.sub(answer, "", shorter)
    if shorter != sentence and re.fullmatch(r"([\w.]+(, [\w.]+)*: )?backward gives [^:;]*", shorter):
        given, bracket, why = shorter.partition(" (each element ")
        shorter = f"{given}, which is not the gradient{bracket}{why}"
    return shorter
