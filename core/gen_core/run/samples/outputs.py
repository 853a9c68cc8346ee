"""What leaves a run: sample files in the format asked for, their manifest and their data card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gen_core import __version__, atomic
from gen_core.run.folder import read_json, read_sealed, sha256_file, write_sealed
from gen_core.run.samples.drawn import Under
from gen_core.volume import VolumeSpec
from gen_core.writer import Writer

MANIFEST = "manifest.json"
CARD = "README.md"
ASIDE = "rejected"  # folder of rejected samples beside the accepted ones
ASIDE_LIST = "rejected.json"
IN_A_FOLDER = 10_000  # samples; what comes after the first so many lies in folders of as many


def sample_stem(folder: Path, index: int) -> Path:
    """Where the files of sample `index` lie, without their endings; a function of the index alone.

    The first 10 000 lie in the folder itself, the next in `from-010000/`, and so on: shared file systems and people's
    tools grow slow in a folder of 100 000 files.
    """
    first = index - index % IN_A_FOLDER
    return (folder / f"from-{first:06d}" if first else folder) / f"sample-{index:06d}"


def write_samples(
    folder: Path,
    writer: Writer,
    first: int,
    volumes: Any,
    spec: VolumeSpec,
    info: dict[str, Any],
    under: Sequence[Under] = (),
) -> list[dict[str, Any]]:
    """Write volumes (n, C, D, H, W) in [-1, 1] as samples first, first+1, ...; returns their manifest rows.

    under: what each was drawn under: its words go to the manifest, its masks to the writer.
    """
    rows = []
    for k, x in enumerate(volumes):
        index = first + k
        row = {"index": index, **info}
        if under and under[k].told:
            row["condition"] = under[k].told
        stem = sample_stem(folder, index)
        atomic.make_folder(stem.parent)
        physical = spec.scale.to_physical(x.numpy())
        # writers of others may not know masks: they are handed over only where there are any
        beside = {"masks": under[k].masks} if under and under[k].masks else {}
        files = writer.write(stem, physical, spec, {"synthetic": True, **row}, **beside)
        name = lambda f: f.relative_to(folder).as_posix()  # a series of slices lies in a folder of its own
        row["files"] = {name(f): {"sha256": sha256_file(f), "bytes": f.stat().st_size} for f in files}
        rows.append(row)
    return rows


def write_manifest(folder: Path, rows: list[dict[str, Any]], head: dict[str, Any], card: str, part: str = "") -> None:
    """Write the manifest (of one shard: `part` = "1of4") and the data card beside the samples."""
    name = f"manifest-{part}.json" if part else MANIFEST
    rows = sorted(rows, key=lambda r: r["index"])
    write_sealed(folder / name, {"gen": __version__, "synthetic": True, **head, "samples": rows})
    atomic.write_text(folder / CARD, card)


def note_neighbours(folder: Path, distances: dict[str, float], protocol: dict[str, Any]) -> None:
    """Enter each sample's distance to its nearest training volume into the manifest."""
    manifest = read_sealed(folder / MANIFEST)
    if not manifest:
        return
    for row in manifest["samples"]:
        if row["id"] in distances:
            row["nearest_training_distance"] = distances[row["id"]]
    manifest["nearest_training_protocol"] = protocol
    write_sealed(folder / MANIFEST, manifest)


def set_aside(folder: Path, reasons: dict[str, list[str]]) -> None:
    """Move the files of rejected samples to `rejected/`, with their rows and reasons; take back what is not rejected.

    May be stopped anywhere and called again, with the same reasons or others.
    """
    manifest, aside = read_sealed(folder / MANIFEST), folder / ASIDE
    if not manifest:
        return
    before = (read_json(aside / ASIDE_LIST) or {}).get("samples", [])
    rows = sorted({row["id"]: row for row in (*before, *manifest["samples"])}.values(), key=lambda r: r["index"])
    if not reasons and not before:
        return
    atomic.make_folder(aside)
    atomic.write_json(aside / ASIDE_LIST, {"samples": [{**r, "reasons": reasons.get(r["id"], [])} for r in rows]})
    kept, dropped = [], []
    for row in rows:
        here, there = (aside, folder) if row["id"] in reasons else (folder, aside)
        for name in row["files"]:
            if (there / name).exists():
                atomic.make_folder((here / name).parent)
                (there / name).replace(here / name)
                if (there / name).parent != there and not any((there / name).parent.iterdir()):
                    (there / name).parent.rmdir()
        (dropped if row["id"] in reasons else kept).append({k: v for k, v in row.items() if k != "reasons"})
    write_sealed(folder / MANIFEST, {**manifest, "samples": kept})
    atomic.write_json(aside / ASIDE_LIST, {"samples": [{**r, "reasons": reasons[r["id"]]} for r in dropped]})


def data_card(recipe: Any, spec: VolumeSpec, head: dict[str, Any], n: int) -> str:
    """The card of a synthetic set, in Markdown: what it is, how it was made, what it must not be used for."""
    wavelengths = ""
    if spec.wavelength_nm:
        wavelengths = f"\n- Wavelengths (nm): {', '.join(f'{w:g}' for w in spec.wavelength_nm)}"
    demonstration = f"\n\n**Demonstration:** {recipe.run.demonstration}" if recipe.run.demonstration else ""
    return f"""# {recipe.run.name}: {n} synthetic volumes

**Synthetic data, made by a generative model. Not for diagnosis, not for clinical decisions.**{demonstration}

- Volumes: {n}, shape (C, D, H, W) = {spec.shape}, depth axis: {spec.depth}
- Values: {spec.units or "arbitrary units"}, float32{wavelengths}
- Made by: gen {__version__}, recipe `{recipe.run.name}`, seed {head["seed"]}, sampler {head["sampler"]},
  {head["steps"]} steps
- Model: prior SHA-256 `{head["prior"]}`, codec SHA-256 `{head["codec"]}`

Every file's checksum, seed and provenance stand in `manifest.json`; how near each sample comes to the training
data stands there too once the run was evaluated. Known limits: a generative model repeats the biases of its
training data, may blur or invent fine structures, and may come close to training subjects; read the run's
report before using this set.

```json
{json.dumps(head, indent=1)}
```
"""


def verify_manifest(folder: Path, most: int | None = None) -> list[str]:
    """Problems of the sample files that a manifest lists, one line each.

    most: when the files hold more bytes than that, only their sizes are compared; None: their content always is.
    """
    problems = []
    for path in sorted(folder.glob("manifest*.json")):
        manifest = read_sealed(path)
        try:
            rows = [row["files"] for row in (manifest or {})["samples"]]
            files = {folder / name: (seen["bytes"], seen["sha256"]) for row in rows for name, seen in row.items()}
        except (KeyError, TypeError, AttributeError):
            problems.append(f"{path}: damaged")
            continue
        by_content = most is None or sum(size for size, _ in files.values()) <= most
        for file, (size, sha256) in files.items():
            if not file.exists():
                problems.append(f"{file}: missing")
            elif file.stat().st_size != size or by_content and sha256_file(file) != sha256:
                problems.append(f"{file}: content changed (SHA-256 differs)")
    return problems
