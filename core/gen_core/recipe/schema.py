"""The JSON schema of recipes (draft 2020-12), made from the installed components' settings, for editors."""

from __future__ import annotations

import re
import types
import typing
from typing import Any, Literal, Union

import attrs

from gen_core.errors import MissingError, RecipeError
from gen_core.options import ConditionOptions, RunOptions
from gen_core.recipe.layers import DEFAULT_USE, GEN, NAMED
from gen_core.recipe.resolve import CONDITION, CORE, KIND_OF
from gen_core.recipe.structure import field_types, plain
from gen_core.registry import Registry

Schema = dict[str, Any]
PRIMITIVES: dict[Any, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    type(None): {"type": "null"},
    Any: {},
}
OFF: Schema = {"type": "boolean", "description": "true takes an inherited table away."}
BOUNDS = {">": "exclusiveMinimum", ">=": "minimum", "<": "exclusiveMaximum", "<=": "maximum"}


def json_schema(registry: Registry) -> Schema:
    """The schema of a recipe file, as far as one file alone can be judged.

    `use` and other keys may come from a base, so nothing but `gen` is required; a component's settings are
    checked where the file itself says which component it is.
    """
    defs: Schema = {}
    properties: Schema = {
        "gen": {"const": GEN, "description": "Version of the recipe language."},
        "base": {
            "type": "string",
            "description": "Recipe that this one changes: a path or an installed name.",
        },
        **_properties(RunOptions),
    }
    for name, cls in CORE.items():
        properties[name] = _attrs(cls)
    condition = _attrs(ConditionOptions)
    condition["properties"]["off"] = OFF
    properties[CONDITION] = {"type": "object", "additionalProperties": condition}
    for top, kind in KIND_OF.items():
        _components(kind, registry, defs)
        properties[top] = _component_table(top, kind, registry)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Recipe of gen",
        "type": "object",
        "required": ["gen"],
        "additionalProperties": False,
        "properties": properties,
        "$defs": defs,
    }


def _components(kind: str, registry: Registry, defs: Schema) -> None:
    for name in registry.names(kind):
        try:
            component = registry.get(kind, name)
            cls = component.options_class()
        except (MissingError, RecipeError) as error:
            defs[f"{kind}.{name}"] = {"$comment": str(error)}  # cannot be judged: anything goes
            continue
        settings = _attrs(cls)
        settings["description"] = component.summary
        settings["properties"]["use"] = {"const": name}
        settings["properties"]["off"] = OFF
        if any(f.name == "fit" for f in attrs.fields(cls)):
            for link, text in (
                ("from", "Run whose finished step is taken."),
                ("init", "Run whose weights start it."),
            ):
                settings["properties"][link] = {"type": "string", "description": text}
        defs[f"{kind}.{name}"] = settings


def _component_table(top: str, kind: str, registry: Registry) -> Schema:
    names = registry.names(kind)
    if top not in NAMED:
        return _by_use(kind, names, DEFAULT_USE.get(top))
    if top in ("features", "segmenter"):
        named = {"type": "object", "additionalProperties": _by_use(kind, names)}
        single: Schema = {"anyOf": [{"required": ["use"]}, {"properties": {"off": OFF}, "required": ["off"]}]}
        return {"if": single, "then": _by_use(kind, names), "else": named}
    return {
        "type": "object",
        "properties": {name: _by_use(kind, names, name) for name in names},
        "additionalProperties": _by_use(kind, names),
    }


def _by_use(kind: str, names: list[str], default: str | None = None) -> Schema:
    """One component: which settings are right depends on `use`."""
    schema: Schema = {"type": "object", "properties": {"use": {"enum": names}}}
    cases: list[Schema] = []
    for name in names:
        when: Schema = {"properties": {"use": {"const": name}}, "required": ["use"]}
        cases.append({"if": when, "then": {"$ref": f"#/$defs/{_pointer(kind, name)}"}})
    if default in names:
        reference = {"$ref": f"#/$defs/{_pointer(kind, str(default))}"}
        cases.append({"if": {"not": {"required": ["use"]}}, "then": reference})
    return schema | ({"allOf": cases} if cases else {})


def _pointer(kind: str, name: str) -> str:
    return f"{kind}.{name}".replace("+", "%2B")  # a JSON pointer in a URI fragment


def _attrs(cls: type) -> Schema:
    doc = " ".join((cls.__doc__ or "").split())
    schema = {"type": "object", "properties": _properties(cls), "additionalProperties": False}
    return ({"description": doc} if doc and not doc.startswith("Method generated") else {}) | schema


def _properties(cls: type) -> Schema:
    hints = field_types(cls)
    properties = {}
    for field in attrs.fields(cls):
        if not field.init:
            continue
        schema = _type(hints[field.name]) | _bounds(field.validator)
        default = field.default
        if isinstance(default, attrs.Factory):
            default = attrs.NOTHING if default.takes_self else default.factory()
        if default is not attrs.NOTHING and default is not None:
            schema["default"] = plain(default)
        properties[field.alias] = schema
    return properties


def _type(tp: Any) -> Schema:
    origin, args = typing.get_origin(tp), typing.get_args(tp)
    if tp in PRIMITIVES:
        return dict(PRIMITIVES[tp])
    if origin in (Union, types.UnionType):
        options = [_type(a) for a in args if a is not type(None)]  # TOML has no null
        return options[0] if len(options) == 1 else {"anyOf": options}
    if origin is Literal:
        return {"enum": list(args)}
    if attrs.has(origin or tp):
        return _attrs(origin or tp)
    if (origin or tp) is dict:
        return {"type": "object"} | ({"additionalProperties": _type(args[1])} if len(args) == 2 else {})
    if (origin or tp) in (tuple, list, set, frozenset):
        if origin is tuple and args and args[-1] is not Ellipsis:
            n = len(args)
            return {"type": "array", "prefixItems": [_type(a) for a in args], "minItems": n, "maxItems": n}
        return {"type": "array"} | ({"items": _type(args[0])} if args else {})
    return {}


def _bounds(validator: Any) -> Schema:
    """What attrs' own validators say, as schema keywords; others are left to gen."""
    if validator is None:
        return {}
    if hasattr(validator, "_validators"):  # and_
        found: Schema = {}
        for part in validator._validators:
            found |= _bounds(part)
        return found
    text = repr(validator)
    if match := re.fullmatch(r"<Validator for x (>=|<=|>|<) (-?[\d.e+-]+)>", text):
        number = float(match[2])
        return {BOUNDS[match[1]]: int(number) if number.is_integer() else number}
    if text.startswith("<in_ validator with options") and hasattr(validator, "options"):
        return {"enum": sorted(validator.options, key=str)}
    return {}
