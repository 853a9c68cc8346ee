"""Settings of the FID Inception network; attrs only, so that a recipe resolves without torch."""

from __future__ import annotations

from typing import Any, Literal

from attrs import field, frozen

# pt_inception-2015-12-05-6726825d.pth of pytorch-fid and weights-inception-2015-12-05-6726825d.pth of torch-fidelity
PUBLISHED_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def _hexadecimal(options: Any, attribute: Any, value: str) -> None:
    if len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise ValueError(f"{attribute.name} = '{value}': expected the 64 hexadecimal digits of a SHA-256, lower case")


@frozen
class InceptionV3:
    """[features] inception-v3: the network that published FID values are made with. Nothing is ever downloaded."""

    weights: str = ""  # path of the file, as pytorch-fid and torch-fidelity offer it, or the same as safetensors
    sha256: str = field(default=PUBLISHED_SHA256, validator=_hexadecimal)  # of that file
    resize: Literal["torch-fidelity", "pytorch-fid"] = "torch-fidelity"  # whose scores the features compare with
    eight_bit: bool = True  # round to 256 levels first, as image files are
    precision: Literal["float32", "bf16"] = "float32"  # bf16 is faster, and its scores are another protocol's
