"""The studies' part of docs/results.md: tables and Pareto figures of finished sweeps, beside the published numbers.

    gen sweep recipes/studies/vqgan_vs_vqvae_phantom.toml      # and the others; each goes on where it stopped
    python benchmarks/studies.py [--runs runs] [--page docs/results.md] [--full]

Everything between the two markers of the page is written anew; a study whose runs are not there keeps its section.
--full reads the full studies instead of the twins.
The published figures are those of the hyperspectral report's tables 5.1-5.8, A.1 and A.2 (other data, Inception
features: only the direction of a difference can be compared). Each claim of the report becomes one sentence.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from attrs import frozen
from studies_single import single_sections

from gen_core import atomic
from gen_core.errors import GenError
from gen_core.run.studies.compare import Comparison, compare, draw
from gen_core.run.studies.comparison_text import markdown, number
from gen_core.run.studies.scores import COST, Run, Score, pick

BEGIN, END = "<!-- studies: begin -->", "<!-- studies: end -->"
NOTE = (
    "Written by `python benchmarks/studies.py`. One seed a run: an interval speaks of the volumes scored, not "
    "of what another training would give. Published figures are of other data and features; only directions compare."
)
RECON, SYNTH = "hyperspectral-fid:reconstruction", "hyperspectral-fid:synthetic"
DIVERSITY, SPEED = "ms-ssim:synthetic", "samples-per-second"
VESSEL = ("spectral-kl:kl vessel:synthetic:val", "spectral-kl:kl vein:synthetic:val")  # of a twin, of a full study
SHOWN = (RECON, SYNTH, DIVERSITY, "spectral-kl:synthetic:val", "psnr")
HEAD = "FID recon | FID synth | MS-SSIM synth | KL veins | KL arteries | KL ONH | images/s"
RANKS = ["least", "middle", "most"]
Group = dict[str, Any]  # settings that a group of children shares


@frozen
class Claim:
    """`score` is lower in the runs of `lower` than in those of `higher`; or alike, where the report saw no change."""

    text: str
    score: str | tuple[str, ...]
    lower: Group
    higher: Group
    published: tuple[float, float]
    alike: bool = False


@frozen
class Study:
    """A study: its recipe's name, what is asked, the published rows ("settings": figures in the order of HEAD)."""

    name: str
    question: str
    source: str
    published: dict[str, str]
    claims: tuple[Claim, ...]


def codec(**settings: Any) -> Group:
    """Settings of [codec]."""
    return {f"codec.{key}": value for key, value in settings.items()}


def cube(n: int, **more: Any) -> Group:
    """A compression of n along every axis."""
    return codec(stride=[n] * 3, **more)


GAN, VAE = codec(use="vqgan"), codec(use="vqvae")
ON, OFF = {"codec.codebook.kmeans_every": 1}, {"codec.codebook.kmeans_every": 0}
INSTANCE, BATCH = ({"codec.discriminator.norm": norm} for norm in ("instance", "batch"))

STUDIES = (
    Study(
        "vqgan_vs_vqvae",
        "Does the discriminator pay?",
        "tables 5.1 and 5.2",
        {
            "gan, base 128": "4.682 | 25.674 | 0.491 | 1.243 | 1.306 | 1.758 | 0.611",
            "gan, base 256": "4.682 | 25.423 | 0.489 | 1.253 | 1.304 | 1.659 | 0.528",
            "gan, base 512": "4.682 | 24.358 | 0.486 | 1.234 | 1.379 | 1.694 | 0.274",
            "vae, base 128": "7.005 | 26.035 | 0.506 | 4.588 | 5.048 | 4.505 | 0.597",
            "vae, base 256": "7.005 | 26.297 | 0.503 | 4.394 | 4.882 | 4.338 | 0.527",
            "vae, base 512": "7.005 | 27.333 | 0.494 | 4.404 | 4.763 | 4.162 | 0.273",
        },
        (
            Claim("reconstructions are nearer with the discriminator", RECON, GAN, VAE, (4.682, 7.005)),
            Claim("samples are nearer with the discriminator", SYNTH, GAN, VAE, (25.152, 26.555)),
            Claim("vessel spectra of samples are nearer with it", VESSEL, GAN, VAE, (1.243, 4.462)),
        ),
    ),
    Study(
        "codebook_size",
        "How many codes?",
        "tables 5.3 and 5.4",
        {
            "102 codes, base 128": "4.813 | 36.882 | 0.471 | 1.244 | 1.339 | 1.077 | 0.602",
            "102 codes, base 256": "4.813 | 29.415 | 0.477 | 1.313 | 1.305 | 1.158 | 0.53",
            "102 codes, base 512": "4.813 | 29.639 | 0.496 | 1.532 | 1.54 | 1.407 | 0.276",
            "1024 codes, base 128": "4.45 | 26.779 | 0.487 | 1.296 | 1.311 | 1.141 | 0.604",
            "1024 codes, base 256": "4.45 | 25.764 | 0.497 | 1.453 | 1.55 | 1.377 | 0.527",
            "1024 codes, base 512": "4.45 | 27.348 | 0.48 | 1.261 | 1.337 | 1.202 | 0.274",
            "10240 codes, base 128": "4.626 | 29.332 | 0.5 | 1.259 | 1.292 | 0.856 | 0.603",
            "10240 codes, base 256": "4.626 | 29.209 | 0.509 | 1.436 | 1.445 | 0.951 | 0.528",
            "10240 codes, base 512": "4.626 | 29.677 | 0.5 | 1.346 | 1.324 | 0.867 | 0.28",
        },
        (
            Claim(
                "a tenth of the codes reconstructs as well",
                RECON,
                codec(codes="least"),
                codec(codes="middle"),
                (4.813, 4.45),
                True,
            ),
            Claim(
                "ten times the codes reconstruct as well",
                RECON,
                codec(codes="most"),
                codec(codes="middle"),
                (4.626, 4.45),
                True,
            ),
        ),
    ),
    Study(
        "latent_size",
        "How small a latent?",
        "tables 5.5 and 5.6",
        {
            "f16, 256 ch, base 128": "10.725 | 165.159 | 0.639 | 25.346 | 24.245 | 17.636 | 0.693",
            "f16, 256 ch, base 256": "10.725 | 26.482 | 0.517 | 2.208 | 1.993 | 2.499 | 0.681",
            "f16, 256 ch, base 512": "10.725 | 25.658 | 0.511 | 2.199 | 2.005 | 2.566 | 0.628",
            "f8, 8 ch, base 128": "4.682 | 25.674 | 0.491 | 1.243 | 1.306 | 1.758 | 0.611",
            "f8, 8 ch, base 256": "4.682 | 25.423 | 0.489 | 1.253 | 1.304 | 1.659 | 0.528",
            "f8, 8 ch, base 512": "4.682 | 24.358 | 0.486 | 1.234 | 1.379 | 1.694 | 0.274",
            "f8, 32 ch, base 128": "4.45 | 26.779 | 0.487 | 1.296 | 1.311 | 1.141 | 0.604",
            "f8, 32 ch, base 256": "4.45 | 25.764 | 0.497 | 1.453 | 1.55 | 1.377 | 0.527",
            "f8, 32 ch, base 512": "4.45 | 27.348 | 0.48 | 1.261 | 1.337 | 1.202 | 0.274",
            "f8, 256 ch, base 128": "5.155 | 162.377 | 0.401 | 7.133 | 7.736 | 5.499 | 0.604",
            "f8, 256 ch, base 256": "5.155 | 31.041 | 0.49 | 1.383 | 1.397 | 1.225 | 0.517",
            "f8, 256 ch, base 512": "5.155 | 26.478 | 0.482 | 1.31 | 1.149 | 0.978 | 0.267",
            "f4, 8 ch, base 128": "1.841 | 39.636 | 0.5 | 1.068 | 1.107 | 0.545 | 0.205",
            "f4, 8 ch, base 256": "1.841 | 20.197 | 0.496 | 0.768 | 0.823 | 0.582 | 0.122",
            "f4, 8 ch, base 512": "1.841 | 23.187 | 0.502 | 0.855 | 0.963 | 0.715 | 0.035",
            "f4, 32 ch, base 128": "1.834 | 21.966 | 0.495 | 1.237 | 1.326 | 1.0 | 0.206",
            "f4, 32 ch, base 256": "1.834 | 20.432 | 0.499 | 1.06 | 1.187 | 1.056 | 0.121",
            "f4, 32 ch, base 512": "1.834 | 22.364 | 0.504 | 1.086 | 1.166 | 1.06 | 0.035",
        },
        (
            Claim(
                "f8 reconstructs nearer than f16 (256 channels)",
                RECON,
                cube(8, latent_channels=256),
                cube(16),
                (5.155, 10.725),
            ),
            Claim(
                "f4 reconstructs nearer than f8 (8 channels)",
                RECON,
                cube(4, latent_channels=8),
                cube(8, latent_channels=8),
                (1.841, 4.682),
            ),
            Claim(
                "f4 samples more slowly than f8 (8 channels)",
                SPEED,
                cube(4, latent_channels=8),
                cube(8, latent_channels=8),
                (0.121, 0.471),
            ),
            Claim(
                "samples of 8 channels are nearer than of 256 (f8)",
                SYNTH,
                cube(8, latent_channels=8),
                cube(8, latent_channels=256),
                (24.891, 28.76),
            ),
        ),
    ),
    Study(
        "kmeans",
        "Do K-means resets of the codebook help?",
        "tables A.1 and A.2",
        {
            "without, base 128": "5.294 | 37.424 | 0.481 | 1.491 | 1.569 | 0.86 | 0.871",
            "without, base 256": "5.294 | 27.413 | 0.481 | 1.259 | 1.33 | 0.755 | 0.699",
            "without, base 512": "5.294 | 28.611 | 0.484 | 1.275 | 1.367 | 0.841 | 0.302",
            "with, base 128": "4.012 | 37.152 | 0.484 | 1.528 | 1.688 | 0.867 | 0.869",
            "with, base 256": "4.012 | 27.827 | 0.486 | 1.253 | 1.222 | 0.84 | 0.701",
            "with, base 512": "4.012 | 28.248 | 0.482 | 1.315 | 1.249 | 0.828 | 0.301",
        },
        (
            Claim("reconstructions are nearer with the resets", RECON, ON, OFF, (4.012, 5.294)),
            Claim("samples are as near with as without", SYNTH, ON, OFF, (31.076, 31.149), True),
        ),
    ),
    Study(
        "normalization",
        "Which norm in the discriminators at batch 1?",
        "tables 5.7 and 5.8",
        {
            "batch norm": "3.542 | 5.788 | 0.521 | 3.031 | 2.996 | 3.486 | 0.032",
            "instance norm": "2.06 | 6.086 | 0.468 | 1.869 | 1.104 | 1.081 | 0.032",
        },
        (
            Claim(
                "reconstructions are nearer with instance than with batch norm", RECON, INSTANCE, BATCH, (2.06, 3.542)
            ),
            Claim("vessel spectra of samples are nearer with instance norm", VESSEL, INSTANCE, BATCH, (1.869, 3.031)),
            Claim("samples are as near with either", SYNTH, INSTANCE, BATCH, (6.086, 5.788), True),
        ),
    ),
)


def having(runs: Sequence[Run], group: Group) -> list[Run]:
    """The runs with these settings; "least", "middle", "most" stand for a setting's values in their order."""
    chosen = list(runs)
    for key, value in group.items():
        if value in RANKS:
            values = sorted({run.settings[key] for run in runs if key in run.settings})
            value = values[round(RANKS.index(value) / 2 * (len(values) - 1))] if values else None
        chosen = [run for run in chosen if run.settings.get(key) == value]
    return chosen


def score_of(run: Run, names: str | tuple[str, ...]) -> Score:
    """The first of these scores that the run has."""
    for name in [names] if isinstance(names, str) else names:
        try:
            return pick(list(run.scores.values()), name)
        except GenError:
            continue
    raise KeyError(names)


def verdict(claim: Claim, runs: Sequence[Run]) -> str:
    """One sentence: the claim, its published figures, ours, and whether they agree.

    Runs are paired by the width of their prior. Where the intervals of a pair overlap a difference is not
    clear, and what the report found alike is alike.
    """
    try:
        sides = [{r.settings["prior.base"]: r for r in having(runs, g)} for g in (claim.lower, claim.higher)]
        both = sorted(sides[0].keys() & sides[1].keys())
        low, high = ([score_of(side[base], claim.score) for base in both] for side in sides)
        ours = [mean(s.value for s in side if s.value is not None) for side in (low, high)]
    except (KeyError, ValueError):  # no such score, or no finished run on one side
        return f"- {claim.text}: cannot be said, runs or scores are missing."
    overlap = any(_overlap(a, b) for a, b in zip(low, high))
    known = all(s.low is not None or s.metric == COST for s in (*low, *high))  # a clock has no interval
    figures = f"published {number(claim.published[0])} against {number(claim.published[1])}"
    figures += f", here {number(ours[0], 3)} against {number(ours[1], 3)}"
    if not known:
        same = "**cannot be said**: figures without intervals"
    elif claim.alike:
        same = "**agrees**: the intervals overlap" if overlap else "**does not agree**: the intervals lie apart"
    elif ours[0] < ours[1]:
        same = "**agrees** in direction, but the intervals overlap" if overlap else "**agrees**"
    else:
        same = "**not clear**: the other way, within the intervals" if overlap else "**does not agree**"
    return f"- {claim.text}: {figures}; {same}."


def _overlap(a: Score, b: Score) -> bool:
    if None in (a.low, a.high, b.low, b.high):
        return False
    return a.low <= b.high and b.low <= a.high


def section(study: Study, runs: Path, images: Path, full: bool, before: str = "") -> str:
    """One study in Markdown; what stood there before where its runs are not on this machine."""
    recipe = study.name if full else f"{study.name}_phantom"
    folder = runs / recipe.replace("_", "-")
    parts = [f"### {study.question}", f"`gen sweep recipes/studies/{recipe}.toml`; published: {study.source}."]
    try:
        found = compare([folder], SHOWN, (SPEED, SYNTH))
    except GenError as error:
        if "![" in before:
            return before
        parts.append(f"Not run yet ({' '.join(str(error).split())}).")
    else:
        image = images / f"study_{study.name}.svg"
        image.parent.mkdir(parents=True, exist_ok=True)
        draw(found, image)
        parts += [_costs(found), markdown(found).strip()]
        parts.append(f"![Samples a second against hyperspectral FID, {study.name}](images/{image.name})")
        parts.append("\n".join(verdict(claim, found.runs) for claim in study.claims))
    published = "\n".join(f"| {settings} | {row} |" for settings, row in study.published.items())
    parts.append(f"Published:\n\n| run | {HEAD} |\n| --- |{' --- |' * HEAD.count('|')} --- |\n{published}")
    return "\n\n".join(parts)


def _costs(found: Comparison) -> str:
    """How many runs, on what."""
    machine = found.runs[0].machine
    spent = sum(
        run.scores["cost:training-seconds"].value or 0 for run in found.runs if "cost:training-seconds" in run.scores
    )
    place = machine.get("gpu") or f"{machine.get('cpu', 'a machine')}, {machine.get('threads', '?')} threads"
    return f"{len(found.runs)} runs on {place}; {spent / 60:.0f} minutes of training, shared fits counted for each run."


def sections(text: str) -> dict[str, str]:
    """Question -> section, of what stands between the markers of a page."""
    inside = text.partition(BEGIN)[2].partition(END)[0]
    parts = (f"### {part}".strip() for part in inside.split("\n### ")[1:])
    return {part.partition("\n")[0].removeprefix("### "): part for part in parts}


def page(text: str, body: str) -> str:
    """The page with everything between the markers replaced; without markers the body goes to the end."""
    if BEGIN not in text:
        text = f"{text.rstrip()}\n\n## The studies\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{body}\n\n{END}{rest.partition(END)[2]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--full", action="store_true")
    asked = parser.parse_args()
    text = asked.page.read_text() if asked.page.exists() else ""
    before, images = sections(text), asked.page.parent / "images"
    parts = [section(s, asked.runs, images, asked.full, before.get(s.question, "")) for s in STUDIES]
    parts += single_sections(asked.runs, before)
    atomic.write_text(asked.page, page(text, "\n\n".join([NOTE, *parts])))


if __name__ == "__main__":
    main()
