"""The cubes of a data set: found, named, given to a reader and to a subject."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from attrs import evolve, frozen

from gen_core.errors import DataError
from gen_core.writer import Reader
from gen_hyperspectral.cubes.names import stem_of
from gen_hyperspectral.cubes.subjects import subject_of
from gen_hyperspectral.dataset.readers import cube_readers
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


def subjects_of(sources: Sequence[Source]) -> list[str]:
    """The different subjects, sorted."""
    return sorted({source.subject for source in sources})
