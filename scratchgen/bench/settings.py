"""The sizes of the five reference steps, the same for all sides; nothing of the library is imported, so that each
may import it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any


@dataclass
class Step:
    """One training step of another library's, or whatever else is timed; ours is `steps.Step`. `run()` is one of
    them."""

    run: Callable[[], object]
    images: int = 0  # in a batch
    parameters: int = 0  # how many elements are learned
    networks: Any = None


@dataclass(frozen=True)
class Setting:
    """One training step. `size` is the images' side in pixels; `width`, the channels next to the image, is None for
    fully connected networks, whose size and width are fixed."""

    step: str
    about: str
    batch: int
    size: int = 28
    channels: int = 1
    width: int | None = None
    least_batch: int = 1

    @property
    def convolutional(self) -> bool:
        return self.width is not None

    def vary(self, **changes: int) -> "Setting":
        """With another `batch`, `size` or `width`; ValueError where the step cannot have it."""
        fixed = [name for name in changes if name != "batch" and not self.convolutional]
        if fixed:
            raise ValueError(
                f"{self.step} is fully connected, its {fixed[0]} is fixed; dcgan28 and dcgan64 can vary it"
            )
        varied = replace(self, **changes)  # type: ignore[arg-type]  # all that vary are integers
        if varied.batch < self.least_batch:
            raise ValueError(
                f"{self.step} needs batches of at least {self.least_batch}, for its BatchNorm on vectors"
            )
        return varied

    def on_gpu(self) -> "Setting":
        """The step as it is timed on a GPU."""
        return self.vary(batch=GPU_BATCHES.get(self.step, self.batch))


SETTINGS = {
    s.step: s
    for s in (
        Setting("ae", "autoencoder 784-512-128-32-128-512-784, Bernoulli loss, Adam 1e-3", 128),
        Setting("vae", "VAE 784-400-(20+20), 20-400-784, Bernoulli loss and KL, Adam 1e-3", 128),
        Setting("gan", "GAN, G 100-128-256-512-1024-784, D 784-512-256-1, Adam 2e-4, β₁ 0.5", 64, least_batch=2),
        Setting("dcgan28", "DCGAN 28×28×1, width 64, two halvings, Adam 2e-4, β₁ 0.5", 128, width=64),
        Setting("dcgan64", "DCGAN 64×64×3, width 64, four halvings, Adam 2e-4, β₁ 0.5", 64, 64, 3, 64),
    )
}
GPU_BATCHES = {"dcgan64": 128}  # where a GPU gets another one than a CPU
SMALLEST = 7  # a DCGAN's images are halved until their side is at most this
