"""`gen data`: what a file holds, or what a recipe's data set delivers; a folder of one format into another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gen_cli.arguments import Debug, Json, Set, wavelengths
from gen_cli.show import as_json, facts, table

GEOMETRIES = ("refuse", "warn", "resample")
Geometry = Annotated[
    str, typer.Option(help="Stacks without an even grid: refuse, warn (take them as they are) or resample.")
]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look into data files and data sets; convert.")


@app.callback()
def group() -> None:
    """Look into data files and data sets; convert."""


@app.command()
def inspect(
    path: Annotated[str, typer.Argument(help="A data file or folder, or a recipe.")],
    variable: Annotated[str | None, typer.Option(help="Which array of a file with several.")] = None,
    wavelengths_nm: Annotated[
        str | None, typer.Option(metavar="NM,NM,...", help="Wavelengths, where the file is silent.")
    ] = None,
    masks: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="RTSTRUCT, SEG, NIfTI labels or LIDC XML to count on the image. Repeatable."),
    ] = None,
    geometry: Geometry = "refuse",
    set_: Set = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Shape, axes, place, range, mean, hash, masks and warnings of a file; spec and splits of a recipe's data set."""
    _among("--geometry", geometry, GEOMETRIES)
    bands = wavelengths(wavelengths_nm) if wavelengths_nm else None
    from gen_core.registry import Registry

    registry = Registry.load()
    if _is_recipe(path):
        found = _dataset(path, set_ or [], registry)
    else:
        from gen_core.inspect import inspect_path

        found = inspect_path(
            path, registry, variable=variable, wavelengths_nm=bands, masks=masks or (), geometry=geometry
        )
    if json_:
        as_json(found)
        return
    for k, one in enumerate(found if isinstance(found, list) else [found]):
        if k:
            typer.echo()
        _show(one)


def _show(found: dict[str, Any]) -> None:
    """The facts of one image, its masks as a table, what is worth a warning."""
    lines = [*found.pop("mask_notes", []), *found.pop("warnings", [])]
    masks = found.pop("masks", None)
    facts({**found, "masks": masks} if isinstance(masks, list) else found)
    if isinstance(masks, dict) and masks:
        rows = [{"mask": name, **told} for name, told in masks.items()]
        typer.echo()
        table(rows, ["mask", "voxels", "slices", "volume_mm3", "mean"])
    for line in lines:
        typer.echo(f"! {line}")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A folder of DICOM files, any nesting.")],
    target: Annotated[Path, typer.Argument(help="The folder to fill; what is there whole is kept.")],
    to: Annotated[str, typer.Option(help="nifti, or dicom for de-identified copies.")] = "nifti",
    masks: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Masks beside those in the source: files or folders. Repeatable."),
    ] = None,
    names: Annotated[
        Path | None, typer.Option(metavar="TOML", help='Names of structures: gtv = ["GTV-1", "Gross Tumor Volume"].')
    ] = None,
    require: Annotated[
        str, typer.Option(metavar="PART,...", help="What a patient must have: image, structures, segmentation.")
    ] = "image",
    geometry: Geometry = "refuse",
    labels: Annotated[bool, typer.Option("--labels", help="One label file an image where no masks overlap.")] = False,
    pseudonyms: Annotated[
        Path | None,
        typer.Option("--table", metavar="JSON", help="Key and pseudonyms; outside DST. Default: beside it."),
    ] = None,
    no_table: Annotated[bool, typer.Option("--no-table", help="Keep no key: nobody can link the set back.")] = False,
    keep_ids: Annotated[bool, typer.Option("--keep-ids", help="Patient IDs stay, as of public data.")] = False,
    keep_characteristics: Annotated[
        bool, typer.Option("--keep-characteristics", help="Sex, age, size and weight stay.")
    ] = False,
    dates: Annotated[str, typer.Option(help="remove, or shift by a number of days a patient (DICOM).")] = "remove",
    burned_in: Annotated[str, typer.Option(help="Pixels that may show a name: refuse or warn.")] = "refuse",
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """DICOM to NIfTI with masks, de-identified; a table of who has what, and of what was left out and why."""
    from gen_core.errors import DataError, UsageError
    from gen_core.inspect import find_converter
    from gen_core.registry import Registry
    from gen_core.writer import Conversion

    for option, value, known in (
        ("--to", to, ("nifti", "dicom")),
        ("--geometry", geometry, GEOMETRIES),
        ("--dates", dates, ("remove", "shift")),
        ("--burned-in", burned_in, ("refuse", "warn")),
    ):
        _among(option, value, known)
    parts = tuple(part.strip() for part in require.split(",") if part.strip())
    for part in parts:
        _among("--require", part, ("image", "structures", "segmentation"))
    if pseudonyms and no_table:
        raise UsageError("--table and --no-table exclude each other")
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    converter = find_converter(source, Registry.load())
    if converter is None:
        raise DataError(f"{source}: nothing there that an installed converter recognizes")
    nothing_replaced = keep_ids and to == "nifti"
    beside = target.resolve().with_name(f"{target.resolve().name}.pseudonyms.json")
    table_file = None if no_table or nothing_replaced else pseudonyms or beside
    asked = Conversion(
        source=source,
        target=target,
        to=to,
        masks=tuple(masks or ()),
        names=names,
        require=parts,
        geometry=geometry,
        table=table_file,
        keep_ids=keep_ids,
        dates=dates,
        burned_in=burned_in,
        labels=labels,
        characteristics=keep_characteristics,
    )
    found = converter.convert(asked)
    as_json(found) if json_ else _show_conversion(found)
    if not found["written"]:
        raise DataError(f"{source}: nothing usable; {len(found['left_out'])} left out, see {target / 'left_out.csv'}")


def _show_conversion(found: dict[str, Any]) -> None:
    """Who has what, what was left out, what was noted."""
    table(found["patients"], ["patient", "image", "structures", "segmentation", "complete", "missing"], "no patients")
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in found["left_out"]:
        one = rows.setdefault((row["patient"], row["reason"]), {**row, "left out": 0, "first": row["path"]})
        one["left out"] += 1
    if rows:
        typer.echo()
        table(list(rows.values()), ["left out", "patient", "first", "reason"])
    kept = sum(bool(row.get("kept")) for row in found["written"])
    count = len(found["written"])
    typer.echo(f"\n{count} image{'s' * (count != 1)}{f', {kept} of them from before' if kept else ''}")
    for row in found["written"]:
        for note in row["notes"]:
            typer.echo(f"! {row['patient']} {row['image']}: {note}")


def _among(option: str, value: str, known: tuple[str, ...]) -> None:
    from gen_core.errors import UsageError

    if value not in known:
        raise UsageError(f"{option} {value}: expected one of {', '.join(known)}")


def _is_recipe(text: str) -> bool:
    """A .toml file, or no file at all but the name of an installed recipe."""
    from gen_core.errors import RecipeError
    from gen_core.recipe import resolve_recipe_path

    if Path(text).expanduser().exists():
        return text.endswith(".toml")
    try:
        resolve_recipe_path(text)
    except RecipeError:
        return text.endswith(".toml")  # then it is told which recipe is meant
    return True


def _dataset(recipe_name: str, overrides: list[str], registry: Any) -> dict[str, Any]:
    """Spec, splits and the range of the first training volume, in physical units."""
    from gen_core.dataset import DatasetContext
    from gen_core.inspect import statistics
    from gen_core.recipe import load_recipe, resolve_recipe_path

    recipe = load_recipe(resolve_recipe_path(recipe_name), overrides, registry)
    table = recipe.table("dataset")
    context = DatasetContext(
        volume=recipe.volume, split=recipe.split, seed=recipe.run.seed, cache=Path("runs") / ".cache"
    )
    data = table.component.build(table.options, context)
    prepared = data.prepare()
    spec, train = data.spec, data.split("train")
    found: dict[str, Any] = {
        "recipe": str(recipe.path),
        "dataset": table.use,
        "shape": list(spec.shape),
        "axes": "czyx" if spec.depth == "slices" else "cbyx",
        "depth": spec.depth,
        "channels": list(spec.channels),
        "wavelength_nm": list(spec.wavelength_nm) if spec.wavelength_nm else None,
        "units": spec.units,
        "masks": list(spec.masks),
        "splits": {name: len(data.split(name)) for name in ("train", "val", "test")},
    }
    if len(train):
        sample = train[0]
        found["first"] = sample.id
        found |= statistics(sample.scale.to_physical(sample.x))
    return {**found, "warnings": list(prepared.get("notes", []))}
