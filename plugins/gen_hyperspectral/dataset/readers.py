"""The readers of a data set: every registered one whose volumes may be cubes."""

from __future__ import annotations

from pathlib import Path

from attrs import fields_dict, frozen

from gen_core.errors import MissingError
from gen_core.registry import Registry
from gen_core.writer import Reader
from gen_hyperspectral.dataset_options import Hyperspectral


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
