"""The files of a data set: found, named, given to a reader and to a subject."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from attrs import evolve, fields_dict, frozen

from gen_core.errors import DataError, GenError, MissingError
from gen_core.registry import Registry
from gen_core.writer import RawVolume, Reader
from gen_hyperspectral.cubes.layout import one_line
from gen_hyperspectral.cubes.names import stem_of
from gen_hyperspectral.cubes.wavelengths import to_nm
from gen_hyperspectral.dataset_options import Hyperspectral

PHANTOM = "--set dataset.use=retina-phantom"


@frozen(eq=False)
class Source:
    """One cube, a file or a folder. id: its path below the root without suffix, forward slashes."""

    path: Path
    id: str
    subject: str
    reader: Reader
    reader_name: str
    reader_version: int
    files: tuple[Path, ...]  # everything its content depends on

    @property
    def reader_facts(self) -> list[object]:
        return [type(self.reader).__name__, self.reader_version]


@frozen(eq=False)
class CubeReader:
    """A registered reader, built for a data set."""

    name: str
    version: int
    reader: Reader

    def recognizes(self, path: Path) -> bool:
        try:
            return bool(self.reader.recognizes(path))
        except Exception:  # a reader must not raise here; one that does says nothing about the file
            return False

    def files(self, path: Path) -> tuple[Path, ...]:
        """What the content of a cube depends on; a reader that does not say so means the path itself."""
        told = getattr(self.reader, "files", None)
        if told is not None:
            return tuple(told(path))
        return tuple(sorted(p for p in path.rglob("*") if p.is_file())) if path.is_dir() else (path,)


def cube_readers(options: Hyperspectral, registry: Registry | None = None) -> tuple[list[CubeReader], list[str]]:
    """Every registered reader whose volumes may be cubes, ours first, and what is to be told of those left out."""
    registry = registry or Registry.load()
    own = __name__.partition(".")[0]
    components = [registry.get("reader", name) for name in registry.names("reader")]
    found, told = [], []
    for component in sorted(components, key=lambda c: not c.module.startswith(own + ".")):
        try:
            made = component.options_class()
            given = {"axes": options.axes} if "axes" in fields_dict(made) else {}
            reader = component.build(made(**given), None)
        except MissingError as error:
            told.append(str(error))
            continue
        if getattr(reader, "cubes", True):
            version = int(getattr(reader, "version", component.version))
            found.append(CubeReader(component.name, version, reader))
    return found, told


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
    readers, left_out = cube_readers(options)
    whole = root.is_file() or any(r.recognizes(root) for r in readers)
    try:
        paths = [root] if whole else sorted(root.glob(options.pattern))
    except (ValueError, NotImplementedError) as error:
        raise DataError(f"dataset.pattern = '{options.pattern}': {error}") from None
    base = root.parent if whole else root
    masks = [re.compile(re.escape(m).replace(re.escape("{stem}"), ".+") + r"\Z") for m in options.masks.values()]
    found: dict[Path, Source] = {}
    taken: set[Path] = set()  # folders that are cubes: what lies in them is none
    for path in paths:
        relative = path.relative_to(base)
        if any(part.startswith(".") for part in relative.parts) or not taken.isdisjoint(path.parents):
            continue
        if not whole and any(mask.match(path.name) for mask in masks):
            continue
        reader = next((r for r in readers if r.recognizes(path)), None)
        if reader is None:
            continue
        if path.is_dir():
            taken.add(path)
        files = reader.files(path)
        name = relative.with_name(stem_of(path) if path.is_file() or path.suffix == ".zarr" else path.name).as_posix()
        subject = subject_of(relative, options.subject)
        source = Source(path, name, subject, reader.reader, reader.name, reader.version, files)
        found.setdefault(files[0], source)
    if not found:
        where = f"'{root}'" if whole else f"'{root}' (dataset.pattern = '{options.pattern}')"
        kinds = ", ".join(r.name for r in readers)
        more = "".join(f"; {line}" for line in left_out)
        raise DataError(f"dataset.root: no cube ({kinds}) in {where}; or use the phantom ({PHANTOM}){more}")
    sources = list(found.values())
    return _unique(sources)


def _unique(sources: list[Source]) -> list[Source]:
    """Cubes that differ in their suffix alone keep it in their id."""
    count: dict[str, int] = {}
    for source in sources:
        count[source.id] = count.get(source.id, 0) + 1
    return [s if count[s.id] == 1 else evolve(s, id=s.id + s.path.name[len(Path(s.id).name) :]) for s in sources]


def subject_of(relative: Path, how: str) -> str:
    if not how:
        return stem_of(relative)
    if re.fullmatch(r"-?\d+", how):
        try:
            return relative.with_name(stem_of(relative)).parts[int(how)]
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
    raw = _cube(source, options)
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


def _cube(source: Source, options: Hyperspectral) -> RawVolume:
    """The cube as its reader gives it, with axes (y, x, band)."""
    try:
        raw = source.reader.open(source.path, variable=options.variable or None)
        if raw.axes != "yxb":
            if sorted(raw.axes) != sorted("yxb"):
                raise DataError(
                    f"{source.path}: reader '{source.reader_name}' gives axes '{raw.axes}', expected y, x and b (bands)"
                )
            raw.array, raw.axes = raw.array.transpose([raw.axes.index(a) for a in "yxb"]), "yxb"
        if not isinstance(raw.array, np.ndarray) and not hasattr(raw.array, "select"):
            raw.array = np.asarray(raw.array)
    except GenError:
        raise
    except Exception as error:  # of a reader of someone else's
        what = f"{type(error).__name__}: {one_line(error)}"
        raise DataError(f"{source.path}: reader '{source.reader_name}' fails: {what}") from error
    return raw


def subjects_of(sources: Sequence[Source]) -> list[str]:
    """The different subjects, sorted."""
    return sorted({source.subject for source in sources})
