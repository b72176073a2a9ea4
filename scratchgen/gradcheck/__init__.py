"""The gradient checker: is this backward really the derivative of this forward?

    from scratchgen import Dense, gradcheck
    report = gradcheck.check(Dense(3, 4), x)
    print(report)
    assert report.ok, report

On the command line `scratchgen gradcheck` proves every built-in layer, `scratchgen gradcheck file.py:MyLayer` yours,
and `scratchgen gradcheck --gallery` shows bugs that published code has had, and what it says of them.

The proof, in the order to read it:

    adjoint.py   the whole idea in a few lines
    numeric.py   slopes by central differences, each with a bound on its own error
    judge.py     which of several steps to believe, and when a difference counts
    compare.py   the gradients at one point beside such slopes
    points.py    other points, where a gradient that looks right may be wrong
    check.py     the whole check
    contract.py  the rules of the layer contract beside the gradient
    diagnosis/   what is wrong with a gradient that is
    report.py    what was found, as data and as a table

What no difference can see, the objective of a model:

    objective/   is what a model minimises what it is meant to minimise?

What is proved, whatever way it is written in:

    subject.py   brings it into one form, a function of arrays that returns y and a backward
    styles.py    the ways in which layers are written
    learned.py   arrays that are learned and are no Parameters; arrays.py finds what an object holds
    student.py   takes it out of a file; trials.py finds inputs for it
    apart.py     does that in a process of its own; guard.py makes the calls, confine.py sets limits
    grid.py      every built-in layer, loss and model; gallery/: bugs, each beside the same without it
"""

from scratchgen.gradcheck.adjoint import adjoint_error
from scratchgen.gradcheck.check import check
from scratchgen.gradcheck.objective import Finding, ObjectiveReport, objective
from scratchgen.gradcheck.report import Report, TensorReport

__all__ = ["Finding", "ObjectiveReport", "Report", "TensorReport", "adjoint_error", "check", "objective"]
