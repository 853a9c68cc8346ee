"""What every synthetic file carries: a sentence, its derivation, a pseudonym and UIDs that follow from its content."""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import Any

import numpy as np

from gen_core import __version__
from gen_core.volume import VolumeSpec

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "gen-imaging")
MODEL_KEYS = ("recipe", "prior", "codec", "sampler", "steps", "seed")  # of a sample's provenance


def sentence(info: dict[str, Any], limit: int = 79) -> str:
    """One line in ASCII for a header: synthetic or converted, by whom, which one. limit: characters."""
    what = "SYNTHETIC data, not for diagnosis" if info.get("synthetic") else "converted, not for diagnosis"
    text = f"{what}; gen {__version__}; {info.get('id', '')}".rstrip("; ")
    return text.encode("ascii", "replace").decode()[:limit]


def derivation(info: dict[str, Any]) -> str:
    """Version, model hashes and sampling in at most 1024 characters (Derivation Description is ST)."""
    made = [f"{key} {info[key]}" for key in MODEL_KEYS if info.get(key) not in (None, "")]
    made += [f"{name} = {value}" for name, value in (info.get("condition") or {}).items()]
    text = f"Synthetic volume drawn from a generative model by gen {__version__}"
    text += f": {', '.join(made)}" if made else ""
    return (text + ". No patient. Not for diagnosis.").replace("\\", "/")[:1024]


def content_key(volume: np.ndarray, stem: str, *more: object) -> str:
    """Hex digest of the values, the name and what else makes a file another one."""
    digest = hashlib.sha256(repr((volume.shape, stem, *more)).encode())
    for part in volume:
        digest.update(np.ascontiguousarray(part, "<f4"))
    return digest.hexdigest()


def uid(*parts: object) -> str:
    """A DICOM UID below 2.25 that follows from `parts`: the same parts, the same UID.

    Source: ISO/IEC 9834-8; DICOM PS3.5, B.2 (UUID derived UID).
    """
    return f"2.25.{uuid.uuid5(NAMESPACE, '/'.join(map(str, parts))).int}"


def file_part(name: str) -> str:
    """A name as part of a file's name: letters, digits, and - + . _ only."""
    return re.sub(r"[^A-Za-z0-9+._-]+", "_", name).strip("._") or "unnamed"


def distinct_parts(names: list[str]) -> dict[str, str]:
    """File parts of several names, no two alike, also where upper and lower case are one."""
    taken: set[str] = set()
    parts = {}
    for name in names:
        part = base = file_part(name)
        k = 2
        while part.lower() in taken:
            part, k = f"{base}-{k}", k + 1
        taken.add(part.lower())
        parts[name] = part
    return parts


def centred_affine(spec: VolumeSpec) -> np.ndarray:
    """(4, 4) from voxel (z, y, x) to LPS mm: axes along the patient's, the middle of the volume at 0.

    Without spacing_mm, voxels are taken as 1 mm. Bands have no spacing: their step is 1 too.
    """
    spacing = np.asarray(spec.spacing_mm or (1.0, 1.0, 1.0), np.float64)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing  # columns z, y, x; rows L, P, S
    affine[:3, 3] = -affine[:3, :3] @ (np.asarray(spec.size) - 1) / 2
    affine[3, 3] = 1
    return affine + 0.0  # no -0.0 in headers
