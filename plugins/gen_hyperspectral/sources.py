"""The files of a data set: found, named, given to a reader and to a subject."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from attrs import evolve, frozen

from gen_core.errors import DataError
from gen_core.writer import RawVolume, Reader
from gen_hyperspectral import read_envi, read_mat, read_npy
from gen_hyperspectral.dataset_options import Hyperspectral
from gen_hyperspectral.reader_options import EnviReader, MatReader, NpyReader
from gen_hyperspectral.wavelengths import to_nm

PHANTOM = "--set dataset.use=retina-phantom"


@frozen(eq=False)
class Source:
    """One cube. id: its path below the root without suffix, forward slashes."""

    path: Path
    id: str
    subject: str
    reader: Reader
    files: tuple[Path, ...]  # everything its content depends on

    @property
    def reader_facts(self) -> list[object]:
        return [type(self.reader).__name__, self.reader.version]  # type: ignore[attr-defined]


def find_sources(options: Hyperspectral) -> list[Source]:
    """Every recognized cube below `dataset.root`, by path. Raises: DataError when there is none."""
    if not options.root:
        raise DataError(
            f"dataset.root is not set: name a folder of cubes (--set dataset.root=DIR), or use the phantom ({PHANTOM})"
        )
    root = Path(options.root).expanduser()
    if not root.exists():
        raise DataError(
            f"dataset.root: '{root}' does not exist; name a folder of cubes, or use the phantom ({PHANTOM})"
        )
    readers = [
        read_envi.build(EnviReader()),
        read_npy.build(NpyReader(options.axes)),
        read_mat.build(MatReader(options.axes)),
    ]
    try:
        paths = [root] if root.is_file() else sorted(p for p in root.glob(options.pattern) if p.is_file())
    except (ValueError, NotImplementedError) as error:
        raise DataError(f"dataset.pattern = '{options.pattern}': {error}") from None
    base = root.parent if root.is_file() else root
    masks = [re.compile(re.escape(m).replace(re.escape("{stem}"), ".+") + r"\Z") for m in options.masks.values()]
    found: dict[Path, Source] = {}
    for path in paths:
        relative = path.relative_to(base)
        if any(part.startswith(".") for part in relative.parts):
            continue
        if any(mask.match(path.name) for mask in masks) and not root.is_file():
            continue
        reader = next((r for r in readers if r.recognizes(path)), None)
        if reader is None:
            continue
        files = tuple(reader.files(path))
        name = relative.with_suffix("").as_posix()
        found.setdefault(files[0], Source(path, name, subject_of(relative, options.subject), reader, files))
    if not found:
        where = f"'{root}' (dataset.pattern = '{options.pattern}')" if root.is_dir() else f"'{root}'"
        raise DataError(f"dataset.root: no cube (npy, npz, ENVI, MATLAB v5) in {where}; or use the phantom ({PHANTOM})")
    sources = list(found.values())
    return _unique(sources)


def _unique(sources: list[Source]) -> list[Source]:
    """Cubes that differ in their suffix alone keep it in their id."""
    count: dict[str, int] = {}
    for source in sources:
        count[source.id] = count.get(source.id, 0) + 1
    return [s if count[s.id] == 1 else evolve(s, id=s.id + s.path.suffix) for s in sources]


def subject_of(relative: Path, how: str) -> str:
    if not how:
        return relative.stem
    if re.fullmatch(r"-?\d+", how):
        try:
            return relative.with_suffix("").parts[int(how)]
        except IndexError:
            raise DataError(f"dataset.subject = '{how}': '{relative}' has no such part") from None
    try:
        match = re.search(how, relative.as_posix())
    except re.error as error:
        raise DataError(f"dataset.subject = '{how}' is no regular expression: {error}") from None
    if match is None or not match.groups() or match.group(1) is None:
        raise DataError(f"dataset.subject = '{how}' finds no group in '{relative.as_posix()}'")
    return match.group(1)


def open_source(source: Source, options: Hyperspectral) -> RawVolume:
    """The raw cube, with what the recipe says about wavelengths, no-data and units. Raises: DataError."""
    raw = source.reader.open(source.path, variable=options.variable or None)
    if options.wavelengths_nm is not None and raw.wavelength_nm is None:
        bands = raw.array.shape[2]
        if len(options.wavelengths_nm) != bands:
            raise DataError(
                f"{source.path}: dataset.wavelengths_nm has {len(options.wavelengths_nm)} values for {bands} bands"
            )
        raw.wavelength_nm, warnings = to_nm(options.wavelengths_nm, "nm")
        raw.warnings = [w for w in raw.warnings if "wavelength" not in w] + warnings
    elif options.wavelength_units and raw.wavelength_nm is not None and any("guessed" in w for w in raw.warnings):
        guess = next(w for w in raw.warnings if "guessed" in w)
        factor = {"nm": 1.0, "um": 1000.0}[options.wavelength_units]
        stored = raw.wavelength_nm / (1000.0 if "micrometres" in guess else 1.0)
        raw.wavelength_nm = stored * factor
        raw.warnings.remove(guess)
    if not options.use_bbl:
        raw.bad_bands = None
    if options.units:
        raw.meta["units"] = options.units
    return raw


def subjects_of(sources: Sequence[Source]) -> list[str]:
    """The different subjects, sorted."""
    return sorted({source.subject for source in sources})
