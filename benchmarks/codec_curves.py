"""Codec curves on the quickstart's phantoms: VQ-VAE, the same without K-means resets, and VQ-GAN, step for step.

    python benchmarks/codec_curves.py [steps]      # default 2000; writes docs/images/codec_curves.png, prints a table

Runs lie in runs/codec-curves/ and are resumed like any other; the data are prepared once and shared. One seed each:
differences of a few tenths of a dB are within what another seed would change.
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

from gen_core.engine.events import read_events
from gen_core.run.api import RunRequest, run

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / "codec-curves"
VARIANTS = {
    "VQ-VAE": ("quickstart", ()),
    "VQ-VAE, no K-means": ("quickstart", ("codec.codebook.kmeans_every=0",)),
    "VQ-GAN": ("quickstart_gan", ()),  # its discriminator joins after two fifths
}
CURVES = (
    ("psnr", "validation PSNR, dB"),
    ("perplexity", "perplexity (of 2048)"),
    ("quantization", "quantization loss"),
)


def fitted(name: str, recipe: str, overrides: tuple[str, ...], steps: int) -> list[dict]:
    """The events of one variant's codec fit, run now or before."""
    folder = RUNS / name.lower().replace(" ", "-").replace(",", "")
    settings = [f"codec.fit.steps={steps}", f"codec.fit.validate_every={max(1, steps // 20)}", *overrides]
    if recipe == "quickstart_gan":
        settings.append(f"codec.discriminator.start={steps * 2 // 5}")
    settings = tuple(settings)
    run(RunRequest(ROOT / "recipes" / f"{recipe}.toml", overrides=settings, out=folder, until_step="fit.codec"))
    return [e for e in read_events(folder / "events.jsonl") if e["stage"] == "fit.codec"]


def series(events: list[dict], kind: str, key: str) -> tuple[list[int], list[float]]:
    """Steps and values of one curve."""
    rows = [e for e in events if e["kind"] == kind and key in e["values"]]
    return [e["step"] for e in rows], [e["values"][key] for e in rows]


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    found = {name: fitted(name, recipe, extra, steps) for name, (recipe, extra) in VARIANTS.items()}
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    for axes, (key, label) in zip(figure.subplots(1, len(CURVES)), CURVES):
        for name, events in found.items():
            axes.plot(*series(events, "validation", key), label=name, linewidth=1.4)
        axes.set_xlabel("step")
        axes.set_title(label, fontsize=10)
        axes.grid(alpha=0.3)
        if key == "quantization":
            axes.set_yscale("log")
    figure.axes[0].legend(fontsize=8, frameon=False)
    target = ROOT / "docs" / "images" / "codec_curves.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110)
    print("| codec | PSNR, dB | perplexity | quantization loss | codes used in the last 100 steps |")
    print("| --- | --- | --- | --- | --- |")
    for name, events in found.items():
        last = [series(events, "validation", key)[1][-1] for key, _ in CURVES]
        use = series(events, "train", "code_use")[1][-1]
        print(f"| {name} | {last[0]:.2f} | {last[1]:.0f} | {last[2]:.2e} | {use:.0%} |")


if __name__ == "__main__":
    main()
