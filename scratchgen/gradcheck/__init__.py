"""The gradient checker: is this backward really the derivative of this forward?

    from scratchgen import Dense, gradcheck
    report = gradcheck.check(Dense(3, 4), x)
    print(report)
    assert report.ok, report

On the command line `scratchgen gradcheck` proves every built-in layer, `scratchgen gradcheck file.py:MyLayer` yours,
and `scratchgen gradcheck --mutants` shows it layers that are wrong in well-known ways.

Read `adjoint.py` first: the whole idea in a few lines. `numeric.py` has the mathematics (central differences,
kinks), `check.py` the comparison, `contract.py` the sentences of the layer contract beside the gradient,
`hints.py` the guess at what went wrong, `report.py` the table.
"""

from scratchgen.gradcheck.adjoint import adjoint_error
from scratchgen.gradcheck.check import check
from scratchgen.gradcheck.report import Report, TensorReport

__all__ = ["Report", "TensorReport", "adjoint_error", "check"]
