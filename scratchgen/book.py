"""The chapters of the book, demos/book/: which files of the library each explains, and which words of a check.

The one table, by which docstrings, the gradient check and the tests go.
"""

import re

CHAPTERS: dict[str, tuple[str, ...]] = {
    "01-pullback": ("layers/pullback.py", "layers/layer.py", "layers/sequential.py", "layers/shape.py"),
    "02-dense": ("layers/dense.py",),
    "03-activations": ("layers/activations.py", "layers/random.py", "layers/dropout.py"),
    "04-convolution": ("layers/conv.py", "layers/pooling.py", "backend/geometry.py", "backend/reference.py"),
    "05-batch-normalisation": ("layers/batchnorm.py", "layers/layernorm.py"),
    "06-losses": ("losses.py",),
    "07-optimizers": ("optim.py", "schedules.py"),
    "08-initialisation": ("init.py",),
    "09-gradient-check": ("gradcheck/adjoint.py", "gradcheck/numeric.py", "gradcheck/compare.py"),
    "10-autoencoder": ("models/autoencoder.py",),
    "11-vae": ("models/vae.py",),
    "12-likelihood": ("models/likelihood.py",),
    "13-gan": ("models/gan.py",),
    "14-when-gans-fail": ("layers/augment.py",),
    "15-dcgan": ("models/dcgan.py",),
    "16-speed": ("backend/formula.py", "backend/threads.py"),
    "17-bugs": ("gradcheck/gallery/bug.py",),
}


# What a layer may be called, or the hint on its gradient says; the first that fits.
SUBJECTS = (
    (r"(?i)norm(?!al)|x̂|running", "05-batch-normalisation"),
    (r"(?i)conv|kernel|stride|padding|dilation|pool|upsampl", "04-convolution"),
    (r"VAE|KL\b|(?i:logvar|reparam|elbo)", "11-vae"),
    (r"GAN|(?i:discriminator|generator)", "13-gan"),
    (r"(?i)autoencoder", "10-autoencoder"),
    (r"(?i)relu|tanh|sigmoid|swish|silu|gelu|elu\b|softplus|dropout|activation", "03-activations"),
    (r"(?i)loss|mse|entropy|bce|nll|softmax|likelihood", "06-losses"),
    (r"(?i)dense|linear|affine|matrix|bias", "02-dense"),
)


def page(chapter: str) -> str:
    """Where a chapter lies in the repository."""
    return f"demos/book/{chapter}.md"


def chapter_about(*texts: str, otherwise: str) -> str:
    """The chapter on the subject of the first text that has one."""
    found = (chapter for text in texts for words, chapter in SUBJECTS if re.search(words, text))
    return next(found, otherwise)
