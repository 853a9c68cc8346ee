"""The quickstart's marks, read from finished runs: one row a mark, one column a run.

    python benchmarks/quickstart_marks.py runs/quickstart [more runs ...]

Everything comes from metrics.json and cost.json, but for one baseline made here: the Frechet distance of volumes
decoded from position-shuffled latents (each latent position from another training volume), which shows what a prior
that knows every position but not how they go together would reach.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from gen_core.batch import Batch
from gen_core.engine.stop import StopFlag
from gen_core.run.context import RunContext
from gen_core.run.folder import read_json
from gen_core.run.opening import open_run
from gen_core.run.progress import Silent
from gen_core.run.scoring.evaluation import EvaluationContext


def value(metrics: dict[str, Any], metric: str, name: str, source: str, against: str = "", key: str = "value") -> Any:
    """A field of one score, None when the run does not have it."""
    for row in metrics["results"].get(metric, {}).get("values", []):
        if row["name"] == name and row["source"] == source and (not against or row["against"] == against):
            return row[key]
    return None


def shuffled_latents(z: torch.Tensor, n: int, seed: int) -> torch.Tensor:
    """n latents of (N, c, d, h, w), every position taken from another volume."""
    g = torch.Generator().manual_seed(seed)
    count, c, d, h, w = z.shape
    pick = torch.randint(0, count, (n, 1, d, h, w), generator=g).expand(n, c, d, h, w)
    return z.gather(0, pick)


@torch.no_grad()
def shuffled_distance(run: Path) -> float:
    """Frechet distance to validation of decoded position-shuffled latents, by the run's own `fid` table."""
    recipe, registry, folder = open_run(run)
    ctx = RunContext(recipe, registry, folder, torch.device("cpu"), Silent(), StopFlag())
    table = recipe.table("metrics.fid")
    n = recipe.sample.n
    metric = table.component.build(
        table.options, EvaluationContext(ctx, {"val": len(ctx.split("val")), "synthetic": n})
    )
    for batch in ctx.batches(ctx.split("val"), recipe.evaluate.batch):
        metric.update(batch, "val")
    z = shuffled_latents(load_file(folder.step("encode") / "latents-train.safetensors")["z"][0], n, recipe.run.seed)
    for start in range(0, n, recipe.evaluate.batch):
        x = ctx.codec().decode(z[start : start + recipe.evaluate.batch])
        ids = [f"shuffled-{start + k}" for k in range(len(x))]
        metric.update(Batch(x=x, ids=ids, subjects=ids, hashes=ids), "synthetic")
    return next(v.value for v in metric.compute().values if v.source == "synthetic")


P = "p with the threshold's own error"


def marks(run: Path) -> dict[str, tuple[str, bool | None]]:
    """Mark -> (what was reached, whether it is met)."""
    metrics, cost = read_json(run / "metrics.json"), read_json(run / "cost.json")
    get = lambda *a, **k: value(metrics, *a, **k)
    rows: dict[str, tuple[str, bool | None]] = {}
    seconds = cost["total_seconds"]
    rows["whole run, s (<= 360; 480 on a slow day)"] = (f"{seconds:.0f}", seconds <= 480)
    psnr = get("psnr", "psnr", "reconstruction")
    rows["reconstruction PSNR, dB (>= 31.5)"] = (f"{psnr:.1f}", psnr >= 31.5)
    kept = get("anatomy", "vessel contrast kept", "reconstruction")
    rows["vessel contrast kept at 540 nm (>= .5)"] = (f"{kept:.2f}", kept >= 0.5)
    fd, shuffled = get("fid", "fid", "synthetic"), shuffled_distance(run)
    rows["Frechet distance of samples"] = (f"{fd:.2f} (floor {get('fid', 'fid', 'synthetic', key='floor'):.2f})", None)
    rows["... over that of shuffled latents (<= 1/8)"] = (
        f"1/{shuffled / fd:.1f} of {shuffled:.1f}",
        fd <= shuffled / 8,
    )
    for structure in ("vessel", "onh"):
        kl = get("spectral-kl", f"kl {structure}", "synthetic", "reconstruction")
        floor = get("spectral-kl", f"kl {structure}", "synthetic", "reconstruction", key="floor")
        rows[f"KL reconstructions to samples, {structure} (<= 3 x floor + .1)"] = (
            f"{kl:.2f} (floor {floor:.2f})",
            kl <= 3 * floor + 0.1,
        )
        real = [get("spectral-kl", f"kl {structure}", s, "val") for s in ("reconstruction", "synthetic")]
        rows[f"KL real to reconstructions / samples, {structure}"] = (" / ".join(f"{k:.2f}" for k in real), None)
    ms = [get("ms-ssim", "ms-ssim", s) for s in ("synthetic", "val")]
    rows["MS-SSIM samples / validation (within .08)"] = (f"{ms[0]:.3f} / {ms[1]:.3f}", abs(ms[0] - ms[1]) <= 0.08)
    discs = get("anatomy", "one disc, share", "synthetic")
    rows["exactly one disc (>= 95 %)"] = (f"{discs:.1%}", discs >= 0.95)
    ratio = get("anatomy", "vessel share, ratio", "synthetic", "reconstruction")
    rows["vessel share, samples over reconstructions (>= .8)"] = (f"{ratio:.2f}", ratio >= 0.8)
    ratio = get("anatomy", "vessel share, ratio", "reconstruction", "val")
    rows["vessel share, reconstructions over data (prototype .4)"] = (f"{ratio:.2f}", ratio >= 0.4)
    p = get("memorization", f"copies, {P}", "synthetic")
    share = get("memorization", "copies, share", "synthetic")
    out, p_out = (get("memorization", f"copies that stand out, {what}", "synthetic") for what in ("share", P))
    told = f"{share:.1%} near, p = {p:.2f}; {out:.1%} stand out, p = {p_out:.2f}"
    rows["copies beyond the test's false alarms (either p >= .05)"] = (told, max(p, p_out) >= 0.05)
    for kind in ("exact", "flipped", "noisy", "shifted", "cropped", "reconstructed"):
        found = get("memorization", f"planted copies found, {kind}", "train")
        if found is not None:
            rows[f"planted copies found, {kind} (>= 95 %)"] = (f"{found:.0%}", found >= 0.95)
    alarms = get("memorization", "false alarms on held-out subjects", "val")
    rows["false alarms on held-out subjects (about 1 %)"] = (f"{alarms:.1%}", None)
    return rows


def main() -> None:
    runs = [Path(a) for a in sys.argv[1:]] or [Path("runs/quickstart")]
    columns = [marks(run) for run in runs]
    print("| mark | " + " | ".join(run.name for run in runs) + " |")
    print("| --- |" + " --- |" * len(runs))
    signs = {None: "", True: " +", False: " **missed**"}
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(c[name][0] + signs[c[name][1]] for c in columns) + " |")


if __name__ == "__main__":
    main()
