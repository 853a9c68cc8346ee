"""`gen plugins`: what is installed, by whom, and what does not work."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gen_cli.arguments import Debug, Json
from gen_cli.show import as_json, facts, table

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Installed components and their settings.")


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Option(help="Only this kind, e.g. codec.")] = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Every component: kind, name, what it is, which package brought it; broken plugins with their cause."""
    from gen_core.errors import UsageError
    from gen_core.hooks import KINDS
    from gen_core.registry import Registry, did_you_mean

    if kind is not None and kind not in KINDS:
        raise UsageError(f"--kind {kind}: no such kind; known: {', '.join(KINDS)}{did_you_mean(kind, KINDS)}")
    registry = Registry.load()
    rows = [row for row in registry.rows() if kind in (None, row["kind"])]
    if json_:
        as_json(rows)
        return
    shown = []
    for row in rows:
        package = f"{row['distribution']} {row['distribution_version']}".strip()
        what = row["summary"] if row["status"] == "ok" else f"{row['status']}: {row['problem']}"
        shown.append({**row, "package": package, "what": what})
    table(shown, ["kind", "name", "package", "what"])
    typer.echo(f"\nplugins let in: {registry.allow}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A component's name, e.g. vqgan, or kind.name.")],
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """One component: where it comes from, and every setting with type and default."""
    from gen_core.errors import MissingError
    from gen_core.hooks import KINDS
    from gen_core.registry import Registry, did_you_mean

    registry = Registry.load()
    kind, _, rest = name.partition(".")
    found = [(k, n) for k, n in registry.components if n == name or (kind in KINDS and (k, n) == (kind, rest))]
    if not found:
        names = sorted({n for _, n in registry.components})
        raise MissingError(f"no component '{name}'{did_you_mean(name, names)}; see `gen plugins list`")
    described = [_describe(registry, k, n) for k, n in found]
    if json_:
        as_json(described)
        return
    for k, item in enumerate(described):
        if k:
            typer.echo()
        facts({key: value for key, value in item.items() if key != "settings"})
        typer.echo("\nsettings")
        table(item["settings"], ["setting", "type", "default"], "none")


def _describe(registry: Any, kind: str, name: str) -> dict[str, Any]:
    component = registry.get(kind, name)
    cls = component.options_class()
    return {
        "kind": kind,
        "name": name,
        "summary": component.summary,
        "version": component.version,
        "package": f"{component.distribution} {component.distribution_version}",
        "module": component.builder.partition(":")[0],
        "about": " ".join((cls.__doc__ or "").split()),
        "settings": _settings(cls, ""),
    }


def _settings(cls: type, prefix: str) -> list[dict[str, Any]]:
    """A row a setting; sub-tables are written out with their name before a dot."""
    import attrs

    rows: list[dict[str, Any]] = []
    cls = attrs.resolve_types(cls)
    for field in attrs.fields(cls):
        default = _default(field)
        if attrs.has(field.type) or (default is not None and attrs.has(type(default))):
            inner = field.type if attrs.has(field.type) else type(default)
            nested = _settings(inner, f"{prefix}{field.name}.")
            if default is not None:
                for row in nested:
                    value = default
                    for part in row["setting"].removeprefix(f"{prefix}{field.name}.").split("."):
                        value = getattr(value, part, None)
                    row["default"] = _text(value)
            rows += nested
            continue
        required = field.default is attrs.NOTHING
        rows.append(
            {
                "setting": prefix + field.name,
                "type": _type(field.type),
                "default": "required" if required else _text(default),
            }
        )
    return rows


def _default(field: Any) -> Any:
    import attrs

    if field.default is attrs.NOTHING:
        return None
    if isinstance(field.default, attrs.Factory) or hasattr(field.default, "factory"):
        return None if getattr(field.default, "takes_self", False) else field.default.factory()
    return field.default


def _type(kind: Any) -> str:
    if isinstance(kind, type) and not hasattr(kind, "__args__"):
        return kind.__name__
    return str(kind).replace("typing.", "").replace("NoneType", "None")


def _text(value: Any) -> Any:
    import attrs

    if attrs.has(type(value)):
        return {k: _text(v) for k, v in attrs.asdict(value, recurse=False).items()}
    return list(value) if isinstance(value, tuple) else value
