"""The check of objectives: is what a model minimises what it is meant to minimise?

A gradient check proves that backward is the derivative of the loss. It cannot see that the loss is another one than
it should be, and a third of the bugs that published generative models had are of that kind. Here a loss is looked at
from outside, as a function of what the model's networks say:

    standin.py         networks whose values are known, in the place of the model's own
    specimen.py        the copy of the model, a batch that it takes, and calls of its losses
    batch.py           every objective: its mean over the batch, whose parameters it moves, and which way
    reconstruction.py  the term that compares x with the decoder's y
    latent.py          a VAE: how z is drawn, the KL of that distribution, the bound
    adversarial.py     a GAN: its losses as functions of logits; the gradient penalty
    run.py             `objective`, which puts these together
    findings.py        what was found, as data and as a table
"""

from scratchgen.gradcheck.objective.findings import Finding, ObjectiveReport
from scratchgen.gradcheck.objective.run import objective

__all__ = ["Finding", "ObjectiveReport", "objective"]
