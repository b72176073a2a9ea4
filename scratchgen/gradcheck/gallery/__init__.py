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

SUBJECTS: dict[str, tuple[Bug, ...]] = {
    "Dense layers": dense.BUGS,
    "Activations": activations.BUGS,
    "Paths, products and whole networks": networks.BUGS,
    "Normalisation": normalisation.BUGS,
    "Dropout and attention": attention.BUGS,
    "Convolution": convolution.BUGS,
    "Pooling": pooling.BUGS,
    "Losses": losses.BUGS,
    "The backward of a VAE or a GAN": models.BUGS,
    "The objective of a VAE or a GAN": objectives.BUGS,
}
BUGS: tuple[Bug, ...] = tuple(bug for bugs in SUBJECTS.values() for bug in bugs)


def find(name: str) -> Bug:
    """The entry of this name; KeyError, with the name that is most like it, where there is none."""
    found = {bug.name: bug for bug in BUGS}
    if name not in found:
        near = get_close_matches(name, found, n=1, cutoff=0.4)
        raise KeyError(f"the gallery has no {name}" + (f": did you mean {near[0]}?" if near else ""))
    return found[name]


__all__ = ["BUGS", "SUBJECTS", "Bug", "Case", "find"]
