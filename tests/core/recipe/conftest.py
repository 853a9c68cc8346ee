"""A registry of small made-up components, and recipes written to a folder."""

from __future__ import annotations

import types
from typing import Any, Literal

import pytest
from attrs import Factory, field, frozen, validators

from gen_core.hooks import KINDS, hook_name, hookimpl
from gen_core.options import FitOptions, table_ref
from gen_core.recipe import load_recipe
from gen_core.registry import Registry


@frozen
class Inner:
    """A table in a table."""

    a: int = 1
    b: float = 2.0


@frozen
class Cubes:
    """A data set."""

    root: str = ""
    subjects: int = field(default=4, validator=validators.gt(0))


@frozen
class Phantom:
    """Another data set."""

    subjects: int = 8
    noise: float = 1.0


@frozen
class Vq:
    """A codec with everything in it."""

    stride: tuple[int, int, int] = (8, 8, 8)
    kernel: int = field(default=3, validator=[validators.gt(0), validators.le(7)])
    norm: Literal["group", "batch", "instance"] = "group"
    multipliers: tuple[int, ...] = (1, 2)
    width: int | None = None
    adaptive: bool = False
    inner: Inner = Inner(b=5.0)
    maybe: Inner | None = None
    scales: dict[str, float] = Factory(dict)
    fit: FitOptions = Factory(lambda: FitOptions(steps=77, betas=(0.5, 0.9), lr=1e-4))


@frozen
class Plain:
    """No settings that matter."""

    steps: int = 25


@frozen
class Needs:
    """A required setting, and one checked against another."""

    weights: str
    low: int = 0
    high: int = field(default=9)

    @high.validator
    def _rises(self, attribute: Any, value: int) -> None:
        if value <= self.low:
            raise ValueError(f"'high' must be above low = {self.low}")


@frozen
class Fid:
    """A metric that names other tables."""

    n: int = 10
    features: str = table_ref("features", "features")
    segmenter: str = table_ref("segmenter")


COMPONENTS = {
    "dataset": {"cubes": Cubes, "phantom": Phantom},
    "codec": {"vqgan": Vq, "vqvae": Vq, "identity": Plain, "needs": Needs},
    "prior": {"ddpm3d": Vq},
    "sampler": {"ddim": Plain, "dpm++2m": Plain},
    "features": {"conv": Plain, "codec": Plain},
    "segmenter": {"logistic": Vq},
    "metric": {"psnr": Plain, "fid": Fid},
    "report": {"html": Plain, "pdf": Plain},
    "tracker": {"board": Plain},
    "writer": {"npy": Plain, "envi": Plain},
}


@pytest.fixture
def registry(monkeypatch) -> Registry:
    module = types.ModuleType("small_plugin")
    options = types.ModuleType("small_options")
    monkeypatch.setitem(__import__("sys").modules, "small_options", options)
    for kind in KINDS:

        def hook(register, kind=kind):
            for name, cls in COMPONENTS.get(kind, {}).items():
                setattr(options, cls.__name__, cls)
                at = f"small_options:{cls.__name__}"
                register(name, options=at, build="small_options:build", version=2, summary=f"A {kind}.")

        # pluggy passes what a hook's signature names, and defaults are not part of it
        vars(module)[hook_name(kind)] = hookimpl(lambda register, hook=hook: hook(register))
    found = Registry()
    found.add(module, "small", "gen-small", "1.0")
    assert found.problems == []
    return found


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write("x.toml", text) -> path, in the working directory, so that messages are short."""
    monkeypatch.chdir(tmp_path)

    def make(name: str, text: str):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return make


@pytest.fixture
def load(write, registry):
    """load(text, *overrides) -> Recipe."""
    return lambda text, *overrides: load_recipe(write("r.toml", text), overrides, registry)


@pytest.fixture
def problems(load):
    """problems(text, *overrides) -> the lines of the RecipeError."""
    from gen_core.errors import RecipeError

    def find(text: str, *overrides: str) -> list[str]:
        with pytest.raises(RecipeError) as caught:
            load(text, *overrides)
        assert str(caught.value) == "\n".join(caught.value.problems)
        return caught.value.problems

    return find
