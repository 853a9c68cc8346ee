"""Standard names of regions: "GTV-1", "gtv1" and "Gross Tumor Volume" are one.

Case, punctuation, a side at either end and a number at the end do not count: a name is taken apart into words, the
side becomes `_left` or `_right`, and what is left is looked up. Names that no table knows come out in lower case with
underscores, number and side kept. The built-in table follows the structures of AAPM TG-263 (Mayo et al. 2018).
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from gen_core.component import shortened
from gen_core.errors import DataError

LEFT, RIGHT = {"l", "lt", "left", "li", "sin"}, {"r", "rt", "right", "re", "dex"}
BUILT_IN: dict[str, tuple[str, ...]] = {
    "gtv": (
        "gtv",
        "gtv mass*",
        "gtv primary",
        "gtv tumor",
        "gtvp",
        "gtvt",
        "gross tumor volume",
        "gross tumour volume",
    ),
    "gtv_nodes": ("gtvn", "gtv nodes", "gtv node", "gtv ln", "gross tumor volume nodes"),
    "ctv": ("ctv", "clinical target volume", "ctvp"),
    "itv": ("itv", "internal target volume", "igtv"),
    "ptv": ("ptv", "planning target volume", "ptvp"),
    "tumor": ("tumor", "tumour", "lesion", "mass", "neoplasm"),
    "nodule": ("nodule", "lung nodule", "pulmonary nodule"),
    "edema": ("edema", "oedema", "peritumoral edema"),
    "body": ("body", "external", "skin", "patient", "outer contour", "body contour"),
    "lung": ("lung", "lungs", "pulmo", "both lungs", "lungs both", "total lung", "lungs total"),
    "heart": ("heart", "cor", "cardiac"),
    "esophagus": ("esophagus", "oesophagus"),
    "trachea": ("trachea",),
    "aorta": ("aorta", "a aorta"),
    "spinal_cord": ("spinal cord", "spinalcord", "cord", "myelon", "medulla spinalis"),
    "liver": ("liver", "hepar"),
    "kidney": ("kidney", "kidneys", "ren"),
    "spleen": ("spleen", "lien"),
    "stomach": ("stomach",),
    "pancreas": ("pancreas",),
    "bladder": ("bladder", "urinary bladder", "vesica"),
    "rectum": ("rectum",),
    "prostate": ("prostate", "prostata"),
    "femur_head": ("femur head", "femoral head", "head of femur", "femur heads", "femoral heads"),
    "brain": ("brain", "cerebrum", "whole brain"),
    "brainstem": ("brainstem", "brain stem"),
    "optic_chiasm": ("optic chiasm", "chiasm", "chiasma", "opt chiasm"),
    "optic_nerve": ("optic nerve", "opt nerve", "nervus opticus", "opticnrv"),
    "eye": ("eye", "eyes", "eyeball", "globe"),
    "lens": ("lens", "lenses"),
    "parotid": ("parotid", "parotid gland", "parotis", "parotids"),
    "mandible": ("mandible", "mandibula"),
    "breast": ("breast", "mamma"),
}


class RoiNames:
    """Names to standard names by an alias table.

    table: {standard name: alias or list of aliases}, or a TOML file of that form. `*` in an alias stands for any
    ending; an alias without a side covers both sides. A user's alias goes before the built-in one.
    built_in: False leaves the built-in table out. Raises: DataError for a table of another form, or an alias that
    two standard names claim.
    """

    def __init__(self, table: Mapping[str, Any] | Path | str | None = None, built_in: bool = True):
        self.tables: list[dict[str, str]] = []  # alias without blanks -> standard name; the user's before the built-in
        if table is not None:
            where = f"{table}" if isinstance(table, Path | str) else "table of ROI names"
            self.tables.append(_aliases(_load(Path(table)) if isinstance(table, Path | str) else table, where))
        if built_in:
            self.tables.append(_aliases(BUILT_IN, "built-in table of ROI names"))

    def standard(self, name: str) -> str:
        """The standard name; an unknown name in lower case with underscores."""
        words = words_of(name)
        number = words.pop() if len(words) > 1 and words[-1].isdigit() else ""
        side, rest = _side(words)
        if side and number and words[-1] in {"l", "r"}:  # "vertebra L1" may have no side
            unknown = "_".join([*words, number])
        else:
            if not number and len(rest) > 1 and rest[-1].isdigit():  # "lung 1 left"
                number, rest = rest[-1], rest[:-1]
            unknown = "_".join(part for part in (*rest, number, side) if part) or "unnamed"
        whole, named = "".join(words), "".join(rest)
        tries = [(whole + number, ""), (whole, ""), (named + number, side), (named, side)]
        for ending in ("left", "right"):  # "leftlung", "lungleft"
            if not side and named != ending and (named.startswith(ending) or named.endswith(ending)):
                tries.append((named.removeprefix(ending).removesuffix(ending), ending))
        for aliases in self.tables:
            # letter by letter first; a pattern would swallow the side, so it sees the name without it before
            found = next(((aliases[key], end) for key, end in tries if key in aliases), None)
            found = found or next(((s, end) for key, end in tries[::-1] if (s := _fitting(aliases, key))), None)
            if found:
                standard, end = found
                return f"{standard}_{end}" if end and not standard.endswith(f"_{end}") else standard
        return unknown

    def standardize(self, names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
        """Each name -> its standard name, and one note for each standard name that several names share."""
        names = list(names)
        found = {name: self.standard(name) for name in names}
        shared = defaultdict(list)
        for name in names:
            shared[found[name]].append(name)
        notes = [
            f"{len(given)} regions are '{standard}' and are united: {', '.join(sorted(given))}"
            for standard, given in shared.items()
            if len(given) > 1
        ]
        return found, notes


def words_of(name: str) -> list[str]:
    """Lower-case words, parted at punctuation, between letters and digits, and before an inner capital."""
    text = unicodedata.normalize("NFKC", name)
    text = re.sub(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])", " ", text)
    text = "".join(f" {c}" if c.isupper() and i and text[i - 1].islower() else c for i, c in enumerate(text))
    return re.findall(r"[^\W_]+", text.casefold())


def _side(words: list[str]) -> tuple[str, list[str]]:
    """The side that stands at the end or at the beginning, and the other words."""
    for at in (-1, 0):
        if len(words) > 1 and words[at] in LEFT | RIGHT:
            rest = words[:-1] if at else words[1:]
            return ("left" if words[at] in LEFT else "right"), rest
    return "", words


def _fitting(aliases: dict[str, str], key: str) -> str:
    """The standard name of the longest pattern that fits, so that the order of the table does not count; or ""."""
    fitting = [alias for alias in aliases if "*" in alias and fnmatchcase(key, alias)]
    return aliases[max(fitting, key=len)] if fitting else ""


def _aliases(table: Mapping[str, Any], where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for standard, given in table.items():
        key_of = f"{where}: key '{shortened(standard)}'"
        given = [given] if isinstance(given, str) else given
        if not isinstance(given, list | tuple) or not all(isinstance(a, str) for a in given):
            raise DataError(f"{key_of} holds {shortened(repr(given))}, expected a name or a list of names")
        for alias in (standard, *given):
            key = "*".join("".join(words_of(part)) for part in alias.split("*"))
            if not key.strip("*"):
                raise DataError(f"{key_of}: alias '{shortened(alias)}' has no letters")
            if found.setdefault(key, standard) != standard:
                both = f"'{shortened(found[key])}' and '{shortened(standard)}'"
                raise DataError(f"{where}: alias '{shortened(alias)}' belongs to both {both}")
    return found


def _load(path: Path) -> dict[str, Any]:
    import tomli

    try:
        return tomli.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, nested without end
        raise DataError(f"{path}: not a TOML table of names: {shortened(str(error))}") from None
