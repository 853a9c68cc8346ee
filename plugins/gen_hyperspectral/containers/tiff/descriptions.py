"""Wavelengths out of the descriptions of TIFF pages, in the ways that are customary."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from gen_hyperspectral.cubes.facts import Facts
from gen_hyperspectral.cubes.layout import WAVELENGTH_NAMES

GDAL_METADATA = 42112
TEXT_LIMIT = 1 << 20  # characters of a description that are looked at
LISTED = re.compile(r"^\s*([A-Za-z_]+)\s*[:=]\s*[\[{(]?((?:[-+.\deE]+[\s,;]*)+)[\]})]?\s*$", re.MULTILINE)
OME_CHANNEL = re.compile(r"<(?:\w+:)?Channel\b[^>]*>")
OME_WAVELENGTH = re.compile(r"\bEmissionWavelength=\"([-+.\deE]+)\"")
OME_UNIT = re.compile(r"\bEmissionWavelengthUnit=\"([^\"]*)\"")
GDAL_ITEM = re.compile(r"<Item\b([^>]*)>([^<]*)</Item>")
SINGLE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)\s*_?nm(?![A-Za-z])")


def heed_descriptions(facts: Facts, told: list[str], page: Any) -> None:
    """Take up what the descriptions of the pages say; page: the first one, for GDAL's metadata."""
    first = told[0][:TEXT_LIMIT] if told else ""
    gdal = page.tags.get(GDAL_METADATA) if page is not None else None
    for found in (_json(first), _ome(first), _listed(first), _gdal(str(gdal.value) if gdal is not None else "")):
        if found:
            facts.heed(found)
            break
    if not set(facts.vectors) & set(WAVELENGTH_NAMES):
        nm = nm_of(told)
        if nm is not None:
            facts.heed({"wavelength_nm": nm})


def nm_of(texts: list[str]) -> np.ndarray | None:
    """The one wavelength that each text names, such as "550 nm" or "eye_550nm"; None unless each names one."""
    found = [set(SINGLE.findall(text[:TEXT_LIMIT])) for text in texts]
    if len(texts) < 2 or any(len(f) != 1 for f in found):
        return None
    return np.array([float(f.pop()) for f in found])


def _json(text: str) -> dict[str, Any]:
    if not text.lstrip().startswith(("{", "[")):
        return {}
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    data = {"wavelengths": data} if isinstance(data, list) else data
    return {k: v for k, v in data.items() if str(k).lower() != "axes"}  # tifffile's letters, not ours


def _ome(text: str) -> dict[str, Any]:
    channels = OME_CHANNEL.findall(text) if "<OME" in text or ":OME" in text else []
    values = [OME_WAVELENGTH.search(c) for c in channels]
    if not values or not all(values):
        return {}
    units = {m[1] for m in map(OME_UNIT.search, channels) if m} or {"nm"}
    numbers = [_number(v[1]) for v in values if v]
    if len(units) > 1 or None in numbers:
        return {}
    return {"wavelength": numbers, "wavelength_units": units.pop()}


def _listed(text: str) -> dict[str, Any]:
    """Lines such as `wavelength = {450, 550, 900}` and `wavelength units = nm`."""
    found: dict[str, Any] = {}
    for name, values in LISTED.findall(text):
        numbers = [_number(v) for v in re.split(r"[\s,;]+", values.strip()) if v]
        if numbers and None not in numbers:
            found[name] = numbers
    unit = re.search(r"^\s*wavelength[_ ]units?\s*[:=]\s*(\S+)", text, re.MULTILINE | re.IGNORECASE)
    if unit:
        found["wavelength_units"] = unit[1]
    return found


def _gdal(text: str) -> dict[str, Any]:
    """Items `<Item name="wavelength" sample="0">450</Item>`, one a band."""
    values: dict[int, float] = {}
    unit = None
    for about, value in GDAL_ITEM.findall(text[:TEXT_LIMIT]):
        name, sample = re.search(r'name="([^"]*)"', about), re.search(r'sample="(\d{1,9})"', about)
        if name is None:
            continue
        if name[1].lower() in WAVELENGTH_NAMES and sample and _number(value) is not None:
            values[int(sample[1])] = _number(value)  # type: ignore[assignment]
        elif name[1].lower() in ("wavelength_units", "wavelength_unit"):
            unit = value.strip()
    if sorted(values) != list(range(len(values))) or not values:
        return {}
    return {"wavelength": [values[i] for i in range(len(values))], **({"wavelength_units": unit} if unit else {})}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
