"""PyTorch's side: the same five steps as somebody who knows PyTorch writes them, and the only file that imports it.

The GAN's step is that of PyTorch's DCGAN example: D on real, D on the detached fake, D's update, then G through D on
the same fake, and G's update. As there, G's step works out gradients of D's weights too, which the next zero_grad
drops. Activations of the DCGANs are in place, as in the example.

On a GPU everything is on the device, and noise is drawn there. Equal precision is said to both of its libraries:
products (cuBLAS) take TF32 only when told to, convolutions (cuDNN) unless told not to. cuDNN tries its algorithms at
first and keeps the fastest.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, relu

from scratchgen.bench.settings import SMALLEST, Setting, Step

LAYOUTS = {"": torch.contiguous_format, "channels_last": torch.channels_last}
DEVICES = {"numpy": "cpu", "cupy": "cuda"}  # by the name of our backend


def prepare(threads: int, backend: str = "numpy", precision: str = "float32") -> dict[str, Any]:
    """Use so many threads, and multiply in this precision on a GPU; says what runs here, and how many threads it has
    by its own account. ImportError where this PyTorch has no GPU and needs one."""
    torch.set_num_threads(threads)
    instructions = torch.backends.cpu.get_cpu_capability()
    about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "instructions": instructions}
    if backend != "cupy":
        return about
    if not torch.cuda.is_available():
        raise ImportError(f"PyTorch {torch.__version__} finds no GPU")
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    products.allow_tf32 = convolutions.allow_tf32 = precision == "tf32"
    convolutions.benchmark = True
    return about | {
        "device": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "cudnn": convolutions.version(),
        "tf32_products": products.allow_tf32,
        "tf32_convolutions": convolutions.allow_tf32,
        "cudnn_benchmark": convolutions.benchmark,
    }


def make(setting: Setting, *, layout: str = "", seed: int = 0, backend: str = "numpy") -> Step:
    """The step of this setting, weights, batch and noise from `seed`; layout "channels_last" for PyTorch's own."""
    torch.manual_seed(seed)
    device = DEVICES[backend]
    if setting.convolutional:
        return _dcgan(setting, LAYOUTS[layout], device)
    return {"ae": _autoencoder, "vae": _vae, "gan": _gan}[setting.step](setting.batch, device)


def _dense(sizes: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU) -> list[nn.Module]:
    """Layers of these sizes with the activation between; what comes out stays without."""
    return [part for n_in, n_out in pairwise(sizes) for part in (nn.Linear(n_in, n_out), activation())][:-1]


def _autoencoder(batch: int, device: str) -> Step:
    layers = _dense((784, 512, 128, 32)) + _dense((32, 128, 512, 784))
    model = nn.Sequential(*layers).to(device)
    x = torch.rand(batch, 784).to(device)
    return _step(model, x, lambda: binary_cross_entropy_with_logits(model(x), x, reduction="sum") / batch)


class VAE(nn.Module):
    """The model of PyTorch's VAE example, but for logits."""

    def __init__(self, pixels: int = 784):
        super().__init__()
        self.hidden, self.to_mu, self.to_logvar = nn.Linear(pixels, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.decoder = nn.Sequential(*_dense((20, 400, pixels)))

    def forward(self, x: Tensor) -> Tensor:
        """−ELBO of a batch, for each image."""
        h = relu(self.hidden(x))
        mu, logvar = self.to_mu(h), self.to_logvar(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        return (binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum") + kl) / len(x)


def _vae(batch: int, device: str) -> Step:
    model = VAE().to(device)
    x = torch.rand(batch, 784).to(device)
    return _step(model, x, lambda: model(x))


def train_vae(file: str) -> dict[str, float]:
    """What `scratchgen train vae --epochs 1` does, from a NumPy file of images: steps on batches of 128 in a random
    order, then −ELBO of the test images, pixels drawn as 0 or 1 with the grey as probability. Returns both losses."""
    images, test = (torch.from_numpy(np.load(file)[name]).flatten(1) for name in ("train", "test"))
    model = VAE(images.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    total = 0.0
    for batch in torch.randperm(len(images)).split(128):
        optimizer.zero_grad()
        loss = model(torch.bernoulli(images[batch] / 255))
        loss.backward()
        optimizer.step()
        total += loss.item() * len(batch)
    with torch.inference_mode():
        tested = sum(model(torch.bernoulli(block / 255)).item() * len(block) for block in test.split(1000))
    return {"loss": total / len(images), "test_loss": tested / len(test)}


def _step(model: nn.Module, x: Tensor, loss: Callable[[], Tensor]) -> Step:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def run() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return _made(run, len(x), model)


def _made(run: Callable[[], None], images: int, *networks: nn.Module) -> Step:
    every = nn.ModuleList(networks)
    return Step(run, images, sum(p.numel() for p in every.parameters()), every)


def _gan(batch: int, device: str) -> Step:
    generator: list[nn.Module] = [nn.Linear(100, 128), nn.LeakyReLU(0.2)]
    for n_in, n_out in pairwise((128, 256, 512, 1024)):
        generator += [nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.LeakyReLU(0.2)]
    generator += [nn.Linear(1024, 784), nn.Tanh()]
    discriminator = _dense((784, 512, 256, 1), lambda: nn.LeakyReLU(0.2))
    x = (2 * torch.rand(batch, 784) - 1).to(device)
    return _game(nn.Sequential(*generator).to(device), nn.Sequential(*discriminator).to(device), x, (batch, 100))


def _dcgan(setting: Setting, layout: torch.memory_format, device: str) -> Step:
    assert setting.width is not None
    sizes = [setting.size]  # of the feature maps, from the image inwards
    while sizes[-1] > SMALLEST:
        sizes.append((sizes[-1] + 1) // 2)
    base, halved = sizes[-1], sizes[:-1]
    channels = [setting.width * 2**i for i in range(len(halved))]

    def doubling(kind: Callable[..., nn.Module], n_in: int, n_out: int, i: int) -> nn.Module:
        """Between the maps of sizes[i] and sizes[i + 1]."""
        return kind(n_in, n_out, 4 - halved[i] % 2, stride=2, padding=1, bias=False)

    wide = channels[-1]
    generator = [nn.ConvTranspose2d(100, wide, base, bias=False), nn.BatchNorm2d(wide), nn.ReLU(inplace=True)]
    for i in reversed(range(1, len(channels))):
        generator += [doubling(nn.ConvTranspose2d, channels[i], channels[i - 1], i)]
        generator += [nn.BatchNorm2d(channels[i - 1]), nn.ReLU(inplace=True)]
    generator += [doubling(nn.ConvTranspose2d, channels[0], setting.channels, 0), nn.Tanh()]

    discriminator = [doubling(nn.Conv2d, setting.channels, channels[0], 0), nn.LeakyReLU(0.2, inplace=True)]
    for i in range(1, len(channels)):
        discriminator += [doubling(nn.Conv2d, channels[i - 1], channels[i], i)]
        discriminator += [nn.BatchNorm2d(channels[i]), nn.LeakyReLU(0.2, inplace=True)]
    discriminator += [nn.Conv2d(wide, 1, base, bias=False)]

    def placed(layers: list[nn.Module]) -> nn.Module:
        for module in layers:
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)
        network = nn.Sequential(*layers)
        network.to(device, memory_format=layout)  # type: ignore[call-overload]  # which PyTorch's types lack
        return network

    x = 2 * torch.rand(setting.batch, setting.channels, setting.size, setting.size) - 1
    x = x.to(device, memory_format=layout)
    return _game(placed(generator), placed(discriminator), x, (len(x), 100, 1, 1))


def _game(generator: nn.Module, discriminator: nn.Module, real: Tensor, noise_shape: tuple[int, ...]) -> Step:
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    ones, zeros = real.new_ones(len(real)), real.new_zeros(len(real))
    loss = nn.BCEWithLogitsLoss()

    def run() -> None:
        d_optimizer.zero_grad()
        loss(discriminator(real).view(-1), ones).backward()
        fake = generator(torch.randn(noise_shape, device=real.device))
        loss(discriminator(fake.detach()).view(-1), zeros).backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        loss(discriminator(fake).view(-1), ones).backward()
        g_optimizer.step()

    return _made(run, len(real), generator, discriminator)


# --- on a GPU ---


def wait() -> None:
    """Return when all that is queued is done."""
    torch.cuda.synchronize()


def pool() -> tuple[Callable[[], None], Callable[[], int]]:
    """Two functions: PyTorch's memory pool gives back what is free; how many bytes it has taken since."""

    def free() -> None:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    return free, torch.cuda.max_memory_reserved
