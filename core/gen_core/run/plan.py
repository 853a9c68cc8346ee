"""The dry run: steps, shapes on the way, parameters, memory and what is missing, without touching data or weights.

Networks are built on the meta device: shapes are computed, nothing is allocated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from gen_core.errors import DataError, GenError
from gen_core.run.changes import STARTED
from gen_core.run.conditioning import Conditioner
from gen_core.run.context import RunContext
from gen_core.run.folder import read_json
from gen_core.run.graph import StepSpec, is_trainable, supporting_tables
from gen_core.run.samples.forecast import forecast_samples
from gen_core.tiling.forecast import whole_bytes
from gen_core.tiling.tiles import Tiles
from gen_core.volume import VolumeSpec

META = torch.device("meta")


class _Bytes(TorchDispatchMode):
    """Adds up the bytes of every tensor that operations create (views excluded): what backward may keep."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            for t in out if isinstance(out, tuple | list) else (out,):
                if isinstance(t, torch.Tensor):
                    self.total += t.numel() * t.element_size()
        return out


class _FusedAttention(TorchFunctionMode):
    """Answers attention without the matrix of all pairs, which fused kernels never make; counts its products."""

    flop = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        q, k, v = args[:3]
        pairs = q.numel() // q.shape[-1] * k.shape[-2]
        self.flop += 2 * pairs * (q.shape[-1] + v.shape[-1])
        return q.new_empty((*q.shape[:-1], v.shape[-1]))


def _measure(call: Any) -> tuple[Any, int, float]:
    """(result, bytes created, GFLOP) of a call on meta tensors."""
    with _FusedAttention() as attention, _Bytes() as created, FlopCounterMode(display=False) as flops:
        out = call()
    return out, created.total, (flops.get_total_flops() + attention.flop) / 1e9


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _by_group(name: str, module: Any) -> dict[str, int]:
    """Parameters of each group: the first under the table's name, further ones (a discriminator) beside it."""
    counts = {group: sum(_count(part) for part in parts) for group, parts in module.groups().items()}
    first, *others = counts
    return {name: counts[first], **{f"{name}.{group}": counts[group] for group in others}}


def _training_gib(parameters: int, activations: int, fit: Any) -> tuple[float, float]:
    """(weights, gradients, two Adam moments and the average in float32; the activations of one micro-batch)."""
    copies = 4 + (1 if fit.ema else 0)
    micro = fit.batch // fit.accumulate
    half = 0.5 if fit.precision == "bf16" else 1.0
    kept = activations * micro * half * (0.35 if fit.checkpoint_activations else 1.0)
    return parameters * 4 * copies / 2**30, kept / 2**30


def _forecast_fit(table: Any, parameters: int, activations: int, plan: dict[str, Any], notes: list[str]) -> None:
    """Memory of a fit on one process, and what several would divide."""
    states, kept = _training_gib(parameters, activations, table.options.fit)
    plan["memory_gib"][f"fit.{table.name}"] = round(states + kept, 2)
    if table.options.fit.shard:
        notes.append(
            f"[{table.name}] shard: of {states + kept:.2f} GiB, {states:.2f} (weights, gradients, moments, averages) "
            f"are divided by the number of processes, {kept:.2f} (activations) by as many as a micro-batch has rows"
        )


def describe(ctx: RunContext, steps: list[StepSpec]) -> dict[str, Any]:
    """The plan as JSON: steps, shapes, parameters, compute, memory, missing, notes."""
    recipe = ctx.recipe
    missing: list[str] = []
    notes: list[str] = []
    spec = _spec(ctx, missing)
    shapes: list[str] = []
    if recipe.volume.source_size:
        shapes.append(f"source {(1, *recipe.volume.source_size)}")
    plan: dict[str, Any] = {
        "recipe": recipe.run.name,
        "steps": [],
        "parameters": {},
        "gflop": {},
        "memory_gib": {},
    }
    if spec is not None:
        shapes.append(f"volume {spec.shape}")
        _networks(ctx, spec, shapes, plan, notes)
        _supporting(ctx, spec, plan, notes)
    for table in recipe.tables.values():
        for key, value in (("from", table.from_), ("init", table.init)):
            done = Path(value) / "steps" / f"fit.{table.name}" / "done.json" if value else None
            if done is not None and not done.exists():
                missing.append(f'[{table.name}] {key} = "{value}": no finished {done.parent}')
    for step in steps:
        folder = ctx.folder.path / "steps" / step.name
        state = "done" if ctx.folder.done(step.name) else "half done" if (folder / STARTED).exists() else "to do"
        row: dict[str, Any] = {"step": step.name, "state": state, "after": list(step.upstream)}
        if step.table and is_trainable(recipe.table(step.table)):
            fit = recipe.table(step.table).options.fit
            row.update(updates=fit.steps, batch=fit.batch)
        if step.name == "sample":
            row.update(volumes=recipe.sample.n, batch=recipe.sample.batch)
        plan["steps"].append(row)
    if spec is not None and "sampler" in recipe.tables:
        plan["sampling"] = forecast_samples(
            ctx.folder, recipe.sample, recipe.table("sampler").use, spec.shape, kept=True, latent=plan.get("latent", ())
        )
        plan["disk_gib"] = plan["sampling"]["disk_gib"]
    return {**plan, "shapes": shapes, "missing": missing, "notes": notes}


def _numel(shape: tuple[int, ...]) -> int:
    out = 1
    for n in shape:
        out *= n
    return out


def _spec(ctx: RunContext, missing: list[str]) -> VolumeSpec | None:
    prepared = read_json(ctx.folder.path / "steps" / "prepare" / "prepared.json")
    spec = None
    try:
        spec = ctx.dataset.spec
        if not prepared:
            for name in ("train", "val"):
                if len(ctx.split(name)) == 0:
                    missing.append(f"[split] leaves no volume for '{name}'")
    except DataError as error:
        missing.append(str(error))
    if spec is not None:
        return spec
    if ctx.recipe.volume.size is None:
        return None
    wavelengths = ctx.recipe.volume.wavelengths_nm
    return VolumeSpec(size=ctx.recipe.volume.size, wavelength_nm=wavelengths)


def _networks(ctx: RunContext, spec: VolumeSpec, shapes: list[str], plan: dict[str, Any], notes: list[str]) -> None:
    from gen_core.codec import CodecContext
    from gen_core.prior import DiffusionPrior, PriorContext

    recipe = ctx.recipe
    if "codec" not in recipe.tables:
        return
    table = recipe.table("codec")
    with META:
        codec = table.component.build(table.options, CodecContext(spec)).to(META)
    notes.extend(f"[codec] {note}" for note in codec.notes())
    plan["parameters"] |= _by_group("codec", codec)
    shape = plan["latent"] = codec.latent.shape(spec.size)
    shapes.append(f"latent {shape}")
    x = torch.empty((1, *spec.shape), device=META)
    try:
        z, up, gflop_up = _measure(lambda: codec.encode(x))
        _, down, gflop_down = _measure(lambda: codec.decode(z))
        if is_trainable(table) and table.options.fit.crop:
            cut = [c or n for c, n in zip(table.options.fit.crop, spec.size)]
            z_cut, up, _ = _measure(lambda: codec.encode(torch.empty((1, *spec.shape[:1], *cut), device=META)))
            down = _measure(lambda: codec.decode(z_cut))[1]
            shapes.append(f"codec training crop {(spec.shape[0], *cut)}")
        if tuple(z.shape[1:]) != shape:
            raise GenError(f"[codec] says latents are {shape} but makes {tuple(z.shape[1:])}")
        plan["gflop"].update(encode=round(gflop_up, 1), decode=round(gflop_down, 1))
        if is_trainable(table):
            _forecast_fit(table, _count(codec), up + down, plan, notes)
            others = list(codec.groups())[1:]
            if others:
                notes.append(f"[codec] memory: without the activations of its {', '.join(others)}")
        _tiling(ctx, codec, plan, notes)
    except NotImplementedError as error:  # an operation without a meta kernel: say so, forecast the rest
        notes.append(f"codec: no forecast on the meta device ({str(error).splitlines()[0]})")
    if "prior" not in recipe.tables:
        return
    table = recipe.table("prior")
    specs = Conditioner(recipe.conditions, spec, codec.latent).specs
    with META:
        context = PriorContext(shape, codec.latent.bounds, codec.latent.tokens, specs)
        prior = table.component.build(table.options, context).to(META)
    plan["parameters"] |= _by_group("prior", prior)
    try:
        if isinstance(prior, DiffusionPrior):
            z, t = torch.empty((1, *shape), device=META), torch.empty((1,), device=META)
            what, call = "denoise", lambda: prior.denoise(z, t)
        else:
            noise = torch.empty(prior.noise_shape(1), device=META)
            what, call = "draw", lambda: prior.draw(noise)
        _, bytes_, gflop = _measure(call)
        plan["gflop"][what] = round(gflop, 1)
        if is_trainable(table):
            _forecast_fit(table, _count(prior), bytes_, plan, notes)
        n = recipe.sample.batch
        plan["memory_gib"]["sample"] = round((_count(prior) * 4 + _count(codec) * 4 + n * bytes_ * 0.1) / 2**30, 2)
    except (NotImplementedError, AttributeError) as error:  # no meta kernel, or neither `denoise` nor `draw`
        notes.append(f"prior: no forecast on the meta device ({str(error).splitlines()[0]})")


def _tiling(ctx: RunContext, codec: Any, plan: dict[str, Any], notes: list[str]) -> None:
    """Memory of coding one volume, and in which tiles where it does not go as a whole."""
    tiles = Tiles(ctx.recipe.tiling, ctx.device, ctx.folder.path)
    if ctx.recipe.tiling.mode == "fast":
        notes.append('[tiling] mode = "fast": overlapping tiles, each normalized by itself: approximate')
    for name, graph in codec.graphs().items():
        size = codec.spec.size
        ends = 4 * _numel(codec.spec.shape) + (graph.nodes[0] if name == "decode" else graph.output).bytes
        wanted = tuple(min(a, b) for a, b in zip(size, graph.output.size)) if name == "decode" else None
        choice = tiles.choose(graph, wanted)  # type: ignore[arg-type]
        told = choice.forecast
        if told is None:
            if ctx.recipe.tiling.mode != "fast":
                plan["memory_gib"][name] = round((ends + whole_bytes(graph)) / 2**30, 2)
            continue
        held = told.kept * choice.in_memory
        plan["memory_gib"][name] = round((ends + told.work + held) / 2**30, 2)
        where = "memory" if choice.in_memory else f"a file in {tiles.scratch}"
        tile = " x ".join(str(t or "all") for t in choice.tile or ())
        notes.append(
            f"[tiling] {name}: tiles of {tile} voxels in {told.passes} passes, {told.computed:.2f} x the arithmetic; "
            f"{told.kept / 2**30:.1f} GiB of activations in {where}"
        )


def _supporting(ctx: RunContext, spec: VolumeSpec, plan: dict[str, Any], notes: list[str]) -> None:
    """Parameters of the feature networks and segmenters that are fitted, and memory where their forward says it."""
    from gen_core.features import FeaturesContext
    from gen_core.segmenter import SegmenterContext

    recipe, built = ctx.recipe, {}

    def build(name: str) -> Any:
        if name not in built:
            table = recipe.table(name)
            features = table.kind == "features"
            context = FeaturesContext(spec, None, build, build) if features else SegmenterContext(spec)
            with META:
                built[name] = table.component.build(table.options, context).to(META)
        return built[name]

    for early_or_late in supporting_tables(recipe):
        for table in early_or_late:
            try:
                module = build(table.name)
                plan["parameters"] |= _by_group(table.name, module)
                notes.extend(f"[{table.name}] {note}" for note in module.notes())
                image = getattr(module, "takes", "volume") == "image"
                x = torch.empty((1, 3, *spec.size[1:]) if image else (1, *spec.shape), device=META)
                forward = module.features if table.kind == "features" else module.probabilities
                _, bytes_, _ = _measure(lambda forward=forward, x=x: forward(x))
                _forecast_fit(table, _count(module), bytes_, plan, notes)
            except (NotImplementedError, RuntimeError, AttributeError) as error:  # no meta kernel, or no codec here
                notes.append(f"[{table.name}] no forecast on the meta device ({str(error).splitlines()[0]})")


def as_json(plan: dict[str, Any]) -> dict[str, Any]:
    """The plan with attrs objects and tuples turned into plain JSON."""
    return attrs.asdict(plan) if attrs.has(type(plan)) else plan
