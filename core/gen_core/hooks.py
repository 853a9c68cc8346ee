"""The plugin door: one hook a kind, called with `register`.

In a plugin module (what an entry point of group `gen.plugins` names)::

    from gen_core.hooks import hookimpl

    @hookimpl
    def register_codecs(register):
        register("mycodec", options="mypkg.options:MyCodec", build="mypkg.codec:MyCodec", version=1,
                 summary="One sentence.")

Only strings: nothing is imported before it is used. `options` names a frozen attrs class in a module that
imports attrs only; `build` a callable `build(options, context)`.
"""

from __future__ import annotations

from collections.abc import Callable

import pluggy

GROUP = "gen.plugins"
hookspec = pluggy.HookspecMarker("gen")
hookimpl = pluggy.HookimplMarker("gen")

KINDS = (
    "dataset", "codec", "prior", "sampler", "metric",
    "features", "segmenter", "writer", "reader", "converter", "tracker", "report",
)  # fmt: skip


def hook_name(kind: str) -> str:
    """The hook of a kind: `register_codecs`, `register_features`, ..."""
    return f"register_{kind}" if kind.endswith("s") else f"register_{kind}s"


class Specs:
    """The hook specifications, one a kind."""


def _spec(kind: str) -> Callable[..., None]:
    def hook(self: Specs, register: Callable[..., None]) -> None: ...

    hook.__name__ = hook_name(kind)
    hook.__doc__ = f"Register components of kind '{kind}'."
    return hook


for _kind in KINDS:
    setattr(Specs, hook_name(_kind), hookspec(_spec(_kind)))
