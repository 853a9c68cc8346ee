"""Settings of the HTML report."""

from __future__ import annotations

from attrs import field, frozen, validators

from gen_core.options import positive


@frozen
class Html:
    """[report] use = "html": one self-contained page, report.html."""

    show_real: bool = True  # False: no picture of real volumes, of their reconstructions, or of rejected samples
    images: int = positive(36)  # tiles of each image grid
    reconstructions: int = positive(4)  # validation volumes shown as input, output, error
    neighbours: int = field(default=6, validator=validators.ge(0))  # samples shown with nearest training volumes
    worst: int = field(default=12, validator=validators.ge(0))  # samples shown as the worst, and as rejected
    frames: int = field(default=7, validator=validators.ge(0))  # of the strips that are drawn anew; 0: no strips
    strip_steps: int = positive(100)  # sampler steps of the strips, at most
    scattered: int = field(default=128, validator=validators.ge(0))  # volumes of each source in the scatter plot
    panel_nm: tuple[float, ...] = (900.0, 815.0, 730.0, 640.0, 555.0, 465.0)  # wavelengths of the panel
    rgb_nm: tuple[float, float, float] = (630.0, 540.0, 480.0)  # bands shown as red, green, blue
    dpi: int = field(default=110, validator=[validators.ge(40), validators.le(400)])  # of pictures, at first
    max_megabytes: float = positive(10.0)  # a larger page is drawn again with fewer pixels
    read_megabytes: float = positive(512.0)  # training volumes read at most, to find neighbours by their names
