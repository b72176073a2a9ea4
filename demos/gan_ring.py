"""A GAN learns eight Gaussians on a ring, or only some of them: mode collapse, and what it depends on.

    python demos/gan_ring.py                 the pictures, with short training
    python demos/gan_ring.py --full          the same, each game played to its end
    python demos/gan_ring.py --table         ten seeds of a game that finds every mode and of one that collapses

gan_ring.gif      the discriminator's surface D(x), with real and generated points, while both players learn
gan_choices.png   what the loss, the optimizer and k, the discriminator's updates for one of the generator, change
gan_descent.png   min over x, max over y of x·y: gradient descent–ascent circles the equilibrium, and never gets there
"""

import argparse
import time
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from tqdm import tqdm

from scratchgen import SGD, Adam, point_gan
from scratchgen.data import ring
from scratchgen.functions import sigmoid
from scratchgen.measures import mode_coverage
from scratchgen.paths import as_path

INK, REAL, FAKE, OTHER = "#222222", "#7a7a7a", "#c8442b", "#0b6fa4"
SAMPLES = 2500  # to count modes in, as in VEEGAN (Srivastava et al. 2017) and PacGAN (Lin et al. 2018)


# --- the game -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Game:
    """How the two players are built and trained; as it stands, it finds every mode."""

    loss: str = "non-saturating"
    k: int = 1  # updates of the discriminator for one of the generator
    optimizer: str = "Adam"
    lr: float = 1e-3
    beta1: float = 0.5
    fade: bool = True  # the learning rate falls linearly to 0: the samples come to rest
    hidden: tuple = (128, 128, 128)
    batch: int = 256
    steps: int = 7800  # updates of the generator


RECIPE = Game()

# One setting changed: Adam remembers the gradients of some ten steps, against a player that has moved since. The
# samples become one narrow blob that runs from mode to mode, and D, about ½ on real and fake alike, runs after it.
COLLAPSE = {"beta1": 0.9}


def play(game: Game, data, seed: int, watch=lambda step, model: None):
    """A point_gan trained on data.train by the rules of the game; `watch(step, model)` sees it before each step."""
    rng = np.random.default_rng(seed)
    model = point_gan(hidden=game.hidden, loss=game.loss, rng=rng)
    players = optimizer(game, model.discriminator), optimizer(game, model.generator)

    def batch():
        return data.train[rng.integers(len(data.train), size=game.batch)], model.noise(game.batch, rng)

    for step in range(game.steps):
        watch(step, model)
        for player in players:
            player.lr = game.lr * (1 - step / game.steps if game.fade else 1)
        for _ in range(game.k - 1):
            model.discriminator_step(*batch(), players[0])
        model.train_step(*batch(), *players)
    watch(game.steps, model)
    return model


def optimizer(game: Game, network):
    if game.optimizer == "SGD":
        return SGD(network.parameters(), game.lr)
    return Adam(network.parameters(), game.lr, betas=(game.beta1, 0.999))


def samples_of(model, count: int = SAMPLES):
    """The same noise at every call, so that one sees points move."""
    return model.generate(model.noise(count, np.random.default_rng(0)))


def score(model, data):
    return mode_coverage(samples_of(model), data.centres, data.std)


# --- the discriminator's surface, moving ----------------------------------------------------------------------------


def animation(path, game: Game, data, *, frames: int = 40):
    """D(x) as a heat map under real and generated points; early steps, where most happens, lie closer together."""
    figure = Figure(figsize=(4.4, 4.1), dpi=100, facecolor="white", layout="constrained")
    shown = {round(game.steps * (i / (frames - 1)) ** 2) for i in range(frames)}
    writer = PillowWriter(fps=8)
    with writer.saving(figure, path, dpi=100), tqdm(total=game.steps, leave=False, disable=None) as bar:

        def watch(step, model):
            if step in shown:
                draw_surface(figure, model, data, f"step {step:,}")
                for _ in range(12 if step == game.steps else 1):  # the end stays for a while
                    writer.grab_frame()
            bar.update(min(1, game.steps - bar.n))

        return play(game, data, 0, watch)


def draw_surface(figure, model, data, title: str, *, reach: float = 1.6, cells: int = 80):
    figure.clear()
    axes = figure.subplots()
    side = np.linspace(-reach, reach, cells, dtype=np.float32)
    x = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    d = sigmoid(model.discriminator.predict(x)).reshape(cells, cells)
    levels = np.linspace(0, 1, 11)
    surface = axes.contourf(side, side, d, levels, cmap="Blues_r", alpha=0.75)
    figure.colorbar(surface, ax=axes, ticks=[0, 0.5, 1], shrink=0.8, label="D(x), probability of being real")
    draw_points(axes, model, data, reach)
    found = score(model, data)
    axes.set_title(
        f"{title}:  {found.modes} of {found.of} modes, {100 * found.high_quality:.0f} % high quality",
        fontsize=10,
        loc="left",
        color=INK,
    )


def draw_points(axes, model, data, reach: float, count: int = 500):
    axes.scatter(*data.test[:count].T, s=14, color=INK, linewidths=0, label="real")
    axes.scatter(*samples_of(model, count).T, s=7, color=FAKE, linewidths=0, label="generated")
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])


# --- what the choices change ----------------------------------------------------------------------------------------

ROWS = (
    ("minimax\nk = 1", {"loss": "minimax", "k": 1}),
    ("non-saturating\nk = 1", {"k": 1}),
    ("non-saturating\nk = 5", {"k": 5}),
)
COLUMNS = (
    ("SGD, lr 0.1", {"optimizer": "SGD", "lr": 0.1}),
    ("Adam, β₁ = 0.9", {"beta1": 0.9}),
    ("Adam, β₁ = 0.5", {"beta1": 0.5}),
)


def choices(path, game: Game, data):
    """Samples of one game for each loss, k and optimizer. HQ: share within 3σ of a centre, high quality."""
    figure = Figure(figsize=(7.2, 7.6), dpi=130, facecolor="white", layout="constrained")
    grid = figure.subplots(len(ROWS), len(COLUMNS), sharex=True, sharey=True)
    bar = tqdm(total=grid.size, leave=False, disable=None)
    for (row, rules), line in zip(ROWS, grid, strict=True):
        for (column, other), axes in zip(COLUMNS, line, strict=True):
            model = play(replace(game, **rules, **other), data, 1)
            draw_points(axes, model, data, 1.6)
            found = score(model, data)
            axes.set_xlabel(f"{found.modes}/{found.of} modes, HQ {100 * found.high_quality:.0f} %", fontsize=10)
            if axes.get_subplotspec().is_first_row():
                axes.set_title(column, fontsize=11, weight="bold", color=INK)
            if axes is line[0]:
                axes.set_ylabel(row, fontsize=11, weight="bold", color=INK)
            bar.update()
    bar.close()
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path)


# --- descent and ascent on x·y --------------------------------------------------------------------------------------


def descent_ascent(rates, start=(1.0, 0.0), *, alternating: bool = False) -> np.ndarray:
    """(T + 1, 2): x descends and y ascends x·y, whose only equilibrium is (0, 0), with these T learning rates.

    simultaneous   x ← x − lr y,  y ← y + lr x        |(x, y)| grows by √(1 + lr²) in every step
    alternating    the same, y with the new x         a linear map of determinant 1: a closed curve
    """
    path = [start]
    for lr in rates:
        x, y = path[-1]
        new = x - lr * y
        path.append((new, y + lr * (new if alternating else x)))
    return np.array(path)


def average(path, rates) -> np.ndarray:
    """(T, 2): the mean of the iterates up to each step, weighted by the learning rate at which each was left.

    A simultaneous step turns z = x + iy by i·lr·z, so Σ lr z = (z_T − z_0)/i: the mean goes to 0 where |z_T| grows
    slower than Σ lr.
    """
    rates = np.asarray(rates)[:, None]
    return np.cumsum(rates * path[:-1], axis=0) / np.cumsum(rates, axis=0)


def descent(path, *, lr: float = 0.1, steps: int = 500):
    """Where the players go on x·y, and how far from the equilibrium they are."""
    constant, falling = np.full(steps, lr), 0.5 / np.sqrt(1 + np.arange(steps))
    together, turns = descent_ascent(constant), descent_ascent(constant, alternating=True)
    slower = descent_ascent(falling)
    figure = Figure(figsize=(8.4, 7.2), dpi=130, facecolor="white", layout="constrained")
    panels = figure.subplots(2, 2).ravel()
    for axes, title, plane, mean, color in (
        (panels[0], f"simultaneous, lr = {lr}: spirals out", together, None, FAKE),
        (panels[1], f"alternating, lr = {lr}: circles", turns, average(turns, constant), OTHER),
        (panels[2], "simultaneous, lr = 0.5/√t: ever slower", slower, average(slower, falling), REAL),
    ):
        draw_path(axes, title, plane, mean, color)
    axes = panels[3]
    t = np.arange(1, steps + 1)
    for plane, color, style, label in (
        (together[1:], FAKE, "-", "simultaneous"),
        (slower[1:], REAL, "-", "simultaneous, falling lr"),
        (average(slower, falling), REAL, "--", "its mean"),
        (turns[1:], OTHER, "-", "alternating"),
        (average(turns, constant), OTHER, "--", "its mean"),
    ):
        axes.semilogy(t, np.hypot(*plane.T), style, color=color, label=label)
    axes.set(xlabel="step t", title="distance from the equilibrium", ylim=(0.03, 30))
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def draw_path(axes, title, plane, mean, color, reach: float = 2.4):
    axes.plot(*plane.T, color=color, linewidth=0.9)
    axes.plot(*plane[0], "o", color=INK, markersize=5)
    axes.annotate("start", plane[0], (6, 6), textcoords="offset points", fontsize=9, color=INK)
    axes.plot(0, 0, "+", color=INK, markersize=11)
    if mean is not None:
        axes.plot(*mean.T, "--", color=color)
        axes.legend(
            [Line2D([], [], color=color), Line2D([], [], color=color, linestyle="--")],
            ["iterates", "their mean"],
            fontsize=9,
            loc="lower right",
            framealpha=1,
            edgecolor="white",
        )
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=title)
    axes.set_xlabel("x, descends x·y")
    axes.set_ylabel("y, ascends x·y")


# --- the table ------------------------------------------------------------------------------------------------------


def table(games: dict, data, seeds: int):
    """Print modes, high-quality share, reverse KL and seconds of each game for each seed, and their medians."""
    for name, game in games.items():
        print(f"{name}: {rules(game)}")
        print("seed    modes   high quality   reverse KL   seconds")
        rows = []
        for seed in range(seeds):
            start = time.perf_counter()
            model = play(game, data, seed)
            seconds = time.perf_counter() - start
            found = score(model, data)
            rows.append((found.modes, 100 * found.high_quality, found.reverse_kl, seconds))
            print(line(seed, *rows[-1]), flush=True)
        print(line("median", *map(median, zip(*rows, strict=True))), end="\n\n")


def rules(game: Game) -> str:
    optimizer = f"Adam β₁ {game.beta1}" if game.optimizer == "Adam" else game.optimizer
    rate = f"lr {game.lr:g}{' falling to 0' if game.fade else ''}"
    return f"{game.loss} loss, k = {game.k}, {optimizer}, {rate}, {game.steps:,} steps of {game.batch}"


def line(seed, modes, high_quality, reverse_kl, seconds) -> str:
    return f"{seed!s:7} {modes:5g} {high_quality:12.1f} % {reverse_kl:12.3f} {seconds:9.1f}"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "--out", default="gan_ring", metavar="DIR", help="folder of the pictures (default: %(default)s)"
    )
    parser.add_argument("--full", action="store_true", help="train to the end: sharper pictures, some minutes")
    parser.add_argument("--table", action="store_true", help="print the table of seeds, and make no pictures")
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="rows of the table (default: %(default)s)")
    parser.add_argument("--steps", type=int, metavar="N", help="updates of the generator in each game")
    args = parser.parse_args(arguments)
    data = ring(rng=np.random.default_rng(0))
    full = replace(RECIPE, steps=args.steps or RECIPE.steps)
    if args.table:
        table({"recipe": full, "collapse": replace(full, **COLLAPSE)}, data, args.seeds)
        return
    quick = replace(full, hidden=(64, 64, 64), batch=128, steps=args.steps or 800)
    out = as_path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    descent(out / "gan_descent.png")
    animation(out / "gan_ring.gif", full if args.full else replace(quick, steps=args.steps or 2500), data)
    choices(out / "gan_choices.png", full if args.full else quick, data)
    for path in sorted(out.glob("gan_*")):
        print(f"picture  {path}")


if __name__ == "__main__":
    main()
