"""PyTorch's side: the same five steps as somebody who knows PyTorch writes them, and the only file that imports it.

The GAN's step is that of PyTorch's DCGAN example: D on real, D on the detached fake, D's update, then G through D on
the same fake, and G's update. As there, G's step works out gradients of D's weights too, which the next zero_grad
drops. Activations of the DCGANs are in place, as in the example.

On a GPU everything is on the device, and noise is drawn there. Equal precision is said to both of its libraries:
products (cuBLAS) take TF32 only when told to, convolutions (cuDNN) unless told not to. cuDNN tries its algorithms at
first and keeps the fastest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, relu

from scratchgen.bench.settings import SMALLEST, Setting

LAYOUTS = {"": torch.contiguous_format, "channels_last": torch.channels_last}
DEVICES = {"numpy": "cpu", "cupy": "cuda"}  # by the name of our backend


@dataclass
class Step:
    """`run()` is one training step."""

    networks: nn.Module
    images: int
    run: Callable[[], None]

    @property
    def parameters(self) -> int:
        """How many elements are learned."""
        return sum(p.numel() for p in self.networks.parameters())


def prepare(threads: int, backend: str = "numpy", precision: str = "float32") -> dict:
    """Use so many threads, and multiply in this precision on a GPU; says what runs here, and how many threads it has
    by its own account. ImportError where this PyTorch has no GPU and needs one."""
    torch.set_num_threads(threads)
    instructions = torch.backends.cpu.get_cpu_capability()
    about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "instructions": instructions}
    return about | _gpu(precision) if backend == "cupy" else about


def make(setting: Setting, *, layout: str = "", seed: int = 0, backend: str = "numpy") -> Step:
    """The step of this setting, weights, batch and noise from `seed`; layout "channels_last" for PyTorch's own."""
    torch.manual_seed(seed)
    device = DEVICES[backend]
    if setting.convolutional:
        return _dcgan(setting, LAYOUTS[layout], device)
    return {"ae": _autoencoder, "vae": _vae, "gan": _gan}[setting.step](setting.batch, device)


def _dense(sizes, activation=nn.ReLU) -> list[nn.Module]:
    """Layers of these sizes with the activation between; what comes out stays without."""
    layers = [part for n_in, n_out in pairwise(sizes) for part in (nn.Linear(n_in, n_out), activation())]
    return layers[:-1]


def _autoencoder(batch: int, device: str) -> Step:
    layers = _dense((784, 512, 128, 32)) + _dense((32, 128, 512, 784))
    model = nn.Sequential(*layers).to(device)
    x = torch.rand(batch, 784).to(device)
    return _step(model, x, lambda: binary_cross_entropy_with_logits(model(x), x, reduction="sum") / batch)


class _VAE(nn.Module):
    """The model of PyTorch's VAE example, which gives logits."""

    def __init__(self):
        super().__init__()
        self.hidden, self.mu, self.logvar = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.decoder = nn.Sequential(*_dense((20, 400, 784)))

    def forward(self, x):
        h = relu(self.hidden(x))
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.decoder(z), mu, logvar


def _vae(batch: int, device: str) -> Step:
    model = _VAE().to(device)
    x = torch.rand(batch, 784).to(device)

    def loss():
        y, mu, logvar = model(x)
        kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        return (binary_cross_entropy_with_logits(y, x, reduction="sum") + kl) / batch

    return _step(model, x, loss)


def _step(model, x, loss) -> Step:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def run():
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return Step(model, len(x), run)


def _gan(batch: int, device: str) -> Step:
    generator = [nn.Linear(100, 128), nn.LeakyReLU(0.2)]
    for n_in, n_out in pairwise((128, 256, 512, 1024)):
        generator += [nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.LeakyReLU(0.2)]
    generator += [nn.Linear(1024, 784), nn.Tanh()]
    discriminator = _dense((784, 512, 256, 1), lambda: nn.LeakyReLU(0.2))
    x = (2 * torch.rand(batch, 784) - 1).to(device)
    return _game(*(nn.Sequential(*layers).to(device) for layers in (generator, discriminator)), x, (batch, 100))


def _dcgan(setting: Setting, layout, device: str) -> Step:
    sizes = [setting.size]  # of the feature maps, from the image inwards
    while sizes[-1] > SMALLEST:
        sizes.append((sizes[-1] + 1) // 2)
    base, halved = sizes[-1], sizes[:-1]
    channels = [setting.width * 2**i for i in range(len(halved))]
    doubling = [{"kernel_size": 4 - n % 2, "stride": 2, "padding": 1, "bias": False} for n in halved]

    wide = channels[-1]
    generator = [nn.ConvTranspose2d(100, wide, base, bias=False), nn.BatchNorm2d(wide), nn.ReLU(inplace=True)]
    for i in reversed(range(1, len(channels))):
        generator += [nn.ConvTranspose2d(channels[i], channels[i - 1], **doubling[i])]
        generator += [nn.BatchNorm2d(channels[i - 1]), nn.ReLU(inplace=True)]
    generator += [nn.ConvTranspose2d(channels[0], setting.channels, **doubling[0]), nn.Tanh()]

    discriminator = [nn.Conv2d(setting.channels, channels[0], **doubling[0]), nn.LeakyReLU(0.2, inplace=True)]
    for i in range(1, len(channels)):
        discriminator += [nn.Conv2d(channels[i - 1], channels[i], **doubling[i])]
        discriminator += [nn.BatchNorm2d(channels[i]), nn.LeakyReLU(0.2, inplace=True)]
    discriminator += [nn.Conv2d(wide, 1, base, bias=False)]

    x = 2 * torch.rand(setting.batch, setting.channels, setting.size, setting.size) - 1
    networks = [nn.Sequential(*layers) for layers in (generator, discriminator)]
    for network in networks:
        for module in network:
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)
        network.to(device, memory_format=layout)
    return _game(*networks, x.to(device, memory_format=layout), (len(x), 100, 1, 1))


def _game(generator, discriminator, real, noise_shape) -> Step:
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    ones, zeros = real.new_ones(len(real)), real.new_zeros(len(real))
    loss = nn.BCEWithLogitsLoss()

    def run():
        d_optimizer.zero_grad()
        loss(discriminator(real).view(-1), ones).backward()
        fake = generator(torch.randn(noise_shape, device=real.device))
        loss(discriminator(fake.detach()).view(-1), zeros).backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        loss(discriminator(fake).view(-1), ones).backward()
        g_optimizer.step()

    return Step(nn.ModuleList([generator, discriminator]), len(real), run)


# --- on a GPU ---


def _gpu(precision: str) -> dict:
    if not torch.cuda.is_available():
        raise ImportError(f"PyTorch {torch.__version__} finds no GPU")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True
    return {
        "device": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "tf32_products": torch.backends.cuda.matmul.allow_tf32,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


def wait() -> None:
    """Return when all that is queued is done."""
    torch.cuda.synchronize()


def pool() -> tuple[Callable[[], None], Callable[[], int]]:
    """Two functions: PyTorch's memory pool gives back what is free; how many bytes it has taken since."""

    def free():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    return free, torch.cuda.max_memory_reserved
