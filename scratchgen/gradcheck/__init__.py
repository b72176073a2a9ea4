"""The gradient checker: is this backward really the derivative of this forward?

    from scratchgen import Dense, gradcheck
    report = gradcheck.check(Dense(3, 4), x)
    print(report)
    assert report.ok, report

On the command line `scratchgen gradcheck` proves every built-in layer, `scratchgen gradcheck file.py:MyLayer` yours,
and `scratchgen gradcheck --mutants` shows it layers that are wrong in well-known ways.

The proof: `numeric.py` has the mathematics (central differences, kinks), `points.py` where they are taken,
`compare.py` the comparison at a point, `check.py` the whole, `contract.py` the sentences of the layer contract beside
the gradient, `hints.py` the guess at what went wrong, `report.py` the table.

What is proved: `subject.py` brings it into one form, whatever way it is written in (`styles.py`) and wherever it
keeps what it learns (`arrays.py`, `learned.py`). `student.py` takes it out of a file, `trials.py` finds inputs for
it, `apart.py` does that in a process of its own, and `guard.py` makes the calls.
"""

from scratchgen.gradcheck.check import check
from scratchgen.gradcheck.report import Report, TensorReport

__all__ = ["Report", "TensorReport", "check"]
