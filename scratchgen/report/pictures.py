"""The pictures of a page: which, how they are packed, and those for elsewhere."""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

from PIL import Image, features

from scratchgen.plots import Panel, curves, write_figure
from scratchgen.recipes import Recipe
from scratchgen.training import RunFolder, epoch_of

SHEETS = 24  # sample sheets in a page, evenly chosen, at the most
STEP = re.compile("[0-9]{1,18}")
SMALL = 60_000  # bytes of a PNG that goes into the page as it is
FRAMES, FRAME, LARGEST = 60, 480, 1_000_000  # of samples.gif at the most: frames, their width in pixels, bytes


def moment(sheet: Path) -> str:
    """After which epoch it was made, in words."""
    return f"after epoch {epoch_of(sheet)}" if epoch_of(sheet) else "before training"


def chosen(sheets: Sequence[Path], most: int) -> list[Path]:
    """At most so many, evenly, the first and the last among them."""
    if len(sheets) <= most:
        return list(sheets)
    return [sheets[round(i * (len(sheets) - 1) / (most - 1))] for i in range(most)]


class Packed(NamedTuple):
    """A picture as a data URI, its size in pixels, and the step after which it was made, if it says so."""

    uri: str
    width: int
    height: int
    step: int | None

    @property
    def of_rows(self) -> bool:
        return self.width > 1.5 * self.height


def packed(path: Path) -> Packed | None:
    """A picture for the page; None when the file is missing or holds none."""
    try:
        about = path.stat()
        return _packed(path, about.st_mtime_ns, about.st_size)
    except OSError:
        return None


@lru_cache(maxsize=4 * SHEETS)  # a page is written again and again in the course of a run
def _packed(path: Path, changed: int, size: int) -> Packed:
    content, kind = path.read_bytes(), "png"
    with Image.open(BytesIO(content)) as image:
        width, height = image.size
        step = str(image.info.get("step", ""))
        if len(content) > SMALL:
            content, kind = _smaller(image, content)
    return Packed(
        f"data:image/{kind};base64,{b64encode(content).decode()}",
        width,
        height,
        int(step) if STEP.fullmatch(step) else None,
    )


def _smaller(image: Image.Image, content: bytes) -> tuple[bytes, str]:
    """The content of a large PNG in another form, where that is shorter."""
    stream = BytesIO()
    if features.check("webp"):
        kind = "webp"
        image.convert("RGB").save(stream, "WEBP", quality=80, method=2)
    else:
        kind = "jpeg"
        image.convert("RGB").save(stream, "JPEG", quality=85)
    return (stream.getvalue(), kind) if len(stream.getvalue()) < 0.8 * len(content) else (content, "png")


# --- for elsewhere ---


def take_away(folder: RunFolder, recipe: Recipe) -> dict[str, Callable[[IO[bytes]], None]]:
    """What a run that is over leaves beside its page, by name: what writes it into a stream."""
    records, measures = folder.records(), measures_of(folder)
    found: dict[str, Callable[[IO[bytes]], None]] = {}

    def of_curves(panels: Sequence[Panel]) -> Callable[[IO[bytes]], None] | None:
        if not any(panel.drawn_from(records) for panel in panels):
            return None

        def draw(stream: IO[bytes]) -> None:
            figure = curves(records, panels, measures)
            assert figure is not None
            write_figure(figure, stream)

        return draw

    for name, panels in (("losses.png", recipe.panels), ("health.png", recipe.health)):
        if draw := of_curves(panels):
            found[name] = draw
    sheets = folder.sheets()
    if len(sheets) > 1:
        found["samples.gif"] = lambda stream: animate(sheets, stream)
    return found


def measures_of(folder: RunFolder) -> Mapping[str, Any] | None:
    """What was measured of the data that the run was trained on, as far as it can be read."""
    try:
        return folder.own(folder.measures())
    except ValueError:
        return None


def animate(sheets: Sequence[Path], stream: IO[bytes]) -> None:
    """The sheets as a GIF that stays at the last for a while: of fewer and smaller frames, until it is small."""
    count, width = FRAMES, FRAME
    while True:
        frames = _in_few_colours([_frame(path, width) for path in chosen(sheets, count)])
        times = [max(80, min(500, 6000 // len(frames)))] * (len(frames) - 1) + [2000]
        packed = BytesIO()
        frames[0].save(packed, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=False)
        size = len(packed.getvalue())
        if size <= LARGEST or width <= 120:
            stream.write(packed.getvalue())
            return
        fewer = max(12, int(count * (LARGEST / size)))
        width = width if fewer < min(count, len(sheets)) else max(120, int(0.95 * width * (LARGEST / size) ** 0.5))
        count = fewer


def _frame(path: Path, width: int) -> Image.Image:
    """A sheet in grey or in colours, no wider than that."""
    with Image.open(path) as image:
        frame = image.convert("L" if image.mode in ("1", "L") else "RGB")
    if frame.width > width:
        frame = frame.resize((width, round(frame.height * width / frame.width)), Image.Resampling.BOX)
    return frame


def _in_few_colours(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """Frames of the size of the last, as a GIF has them: coloured ones share the colours that four of them need."""
    width, height = frames[-1].size
    same = [frame if frame.size == (width, height) else frame.resize((width, height)) for frame in frames]
    if all(frame.mode == "L" for frame in same):
        return same
    some = Image.new("RGB", (width, 4 * height))
    for i in range(4):
        some.paste(same[round(i * (len(same) - 1) / 3)], (0, i * height))
    colours = some.quantize(255, Image.Quantize.FASTOCTREE)
    return [frame.convert("RGB").quantize(palette=colours, dither=Image.Dither.NONE) for frame in same]
