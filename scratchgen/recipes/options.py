"""Values of command-line options: each function turns a text into a value, or says what is wrong with it."""

import argparse


def positive(text: str) -> int:
    return _number(int, text, lambda n: n >= 1, "a whole number of at least 1")


def seed(text: str) -> int:
    return _number(int, text, lambda n: n >= 0, "a whole number of at least 0")


def rate(text: str) -> float:
    return _number(float, text, lambda x: 0 < x < float("inf"), "a positive number")


def non_negative(text: str) -> float:
    return _number(float, text, lambda x: 0 <= x < float("inf"), "a number of at least 0")


def fraction(text: str) -> float:
    return _number(float, text, lambda x: 0 <= x < 1, "a number of at least 0 and below 1")


def sizes(text: str) -> list[int]:
    """Whole numbers between commas."""
    return [
        _number(int, part, lambda n: n >= 1, "whole numbers of at least 1, as in 512,128") for part in text.split(",")
    ]


def _number(kind, text, fits, form):
    try:
        value = kind(text)
        if fits(value):
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not {form}")
