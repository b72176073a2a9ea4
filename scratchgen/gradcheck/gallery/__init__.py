"""Bugs that published code has had: the mathematics, the symptom, and the check that finds each.

    from scratchgen.gradcheck.gallery import BUGS, find
    bug = find("softmax-diagonal")
    case = bug.make(np.random.default_rng(0))      # case.wrong and case.right, and inputs that show the difference
    print(check(case.wrong, *case.inputs))

`scratchgen gradcheck --gallery` lists them, and `--gallery NAME` shows one. Read one, guess what the check will say,
then look. bug.py says what an entry is; training.py has the small trainings that show what a bug does.
"""

from difflib import get_close_matches

from scratchgen.gradcheck.gallery import (
    activations,
    attention,
    convolution,
    dense,
    losses,
    models,
    networks,
    normalisation,
    objectives,
    pooling,
)
from scratchgen.gradcheck.gallery.bug import Bug, Case

BUGS: tuple[Bug, ...] = (
    *dense.BUGS,
    *activations.BUGS,
    *networks.BUGS,
    *normalisation.BUGS,
    *attention.BUGS,
    *convolution.BUGS,
    *pooling.BUGS,
    *losses.BUGS,
    *models.BUGS,
    *objectives.BUGS,
)


def find(name: str) -> Bug:
    """The entry of this name; KeyError, with the name that is most like it, where there is none."""
    found = {bug.name: bug for bug in BUGS}
    if name not in found:
        near = get_close_matches(name, found, n=1, cutoff=0.4)
        raise KeyError(f"the gallery has no {name}" + (f": did you mean {near[0]}?" if near else ""))
    return found[name]


__all__ = ["BUGS", "Bug", "Case", "find"]
