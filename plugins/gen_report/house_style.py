"""The report's look: palette, type sizes, and figures turned into data URIs. Object API of matplotlib only."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from attrs import frozen

INK, MUTED, RULE = "#1d2730", "#5c6873", "#d5dbe0"
SOURCE_COLOUR = {
    "val": "#2f3e4e",
    "train": "#8a97a3",
    "reconstruction": "#1f7a9c",
    "reconstruction-train": "#7fb6cb",
    "synthetic": "#c24e32",
}
SOURCE_NAME = {
    "val": "real, validation",
    "train": "real, training",
    "reconstruction": "reconstruction",
    "reconstruction-train": "reconstruction of training",
    "synthetic": "synthetic",
}
SOURCE_DASH = {
    "val": "-",
    "train": ":",
    "reconstruction": "--",
    "reconstruction-train": ":",
    "synthetic": "-",
}
OTHER = ("#7a5c99", "#4f8a4c", "#b08a2e")  # for what is no source
SOURCE_MARK = {"val": "o", "train": "s", "reconstruction": "D", "synthetic": "^"}  # shapes too: colours may not be seen
ERROR_MAP = "magma"
GREY = "gray"
JPEG_QUALITY = 90
JPEG_WORTH = 0.7  # of the PNG's size, from which a picture is a JPEG

RC = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same page everywhere
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#9aa5ae",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8ecef",
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "gen",  # ids inside the SVG do not change from run to run
    "figure.constrained_layout.use": True,
}


@frozen
class Picture:
    """A figure of the page: its image as a data URI, what it shows, and words for who cannot see it."""

    title: str
    caption: str
    alt: str
    uri: str
    width: int  # CSS pixels it wants at most


@contextmanager
def drawing(width: float, height: float) -> Iterator[Any]:
    """A matplotlib figure of that many inches in the house style."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(RC):
        yield Figure(figsize=(width, height), facecolor="white")


def as_svg(figure: Any) -> str:
    """A figure of lines as an SVG data URI."""
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return _uri("image/svg+xml", out.getvalue())


def as_image(figure: Any, dpi: float) -> str:
    """A figure of pictures as a data URI."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None})
    return _smaller(out.getvalue())


def pixels_as_image(rgb: np.ndarray) -> str:
    """(H, W, 3) in [0, 1] as a data URI, pixel for pixel."""
    from matplotlib.image import imsave

    out = io.BytesIO()
    imsave(out, np.round(np.clip(rgb, 0, 1) * 255).astype(np.uint8), format="png", metadata={"Software": None})
    return _smaller(out.getvalue())


def _smaller(png: bytes) -> str:
    """PNG, or JPEG where noise makes the PNG much larger: an eye sees no difference at this quality."""
    from PIL import Image

    out = io.BytesIO()
    colours = Image.open(io.BytesIO(png), formats=("PNG",)).convert("RGB")
    colours.save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    jpeg = out.getvalue()
    return _uri("image/jpeg", jpeg) if len(jpeg) < JPEG_WORTH * len(png) else _uri("image/png", png)


def _uri(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


class Board:
    """Pictures and labels laid out in inches from the top left, on one pair of axes: a pair a picture costs 20 ms."""

    def __init__(self, figure: Any) -> None:
        self.figure = figure
        figure.set_layout_engine("none")
        self.width, self.height = figure.get_size_inches()
        self.axes = figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()

    def image(self, plane: np.ndarray, x: float, y: float, width: float, height: float, **how: Any) -> Any:
        """Draw (H, W) or (H, W, 3) with its top left corner at (x, y)."""
        box = (x, x + width, y + height, y)
        drawn = self.axes.imshow(plane, extent=box, interpolation="nearest", aspect="auto", **how)
        self.axes.set(xlim=(0, self.width), ylim=(self.height, 0))
        return drawn

    def text(self, x: float, y: float, words: str, size: float = 8.5, **how: Any) -> None:
        """Write `words` centred at (x, y)."""
        self.axes.text(x, y, words, **{"ha": "center", "va": "center", "fontsize": size, **how})

    def bar(self, image: Any, x: float, y: float, height: float, label: str) -> None:
        """A colour bar of `image`, its top left corner at (x, y)."""
        box = (x / self.width, 1 - (y + height) / self.height, 0.11 / self.width, height / self.height)
        bar = self.figure.colorbar(image, cax=self.figure.add_axes(box))
        bar.outline.set_visible(False)
        bar.set_label(label)
