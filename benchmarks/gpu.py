"""The GPU path in one call of under nine minutes: sampling and training against floors and a plain U-Net.

    PYTHONPATH=core:plugins python benchmarks/gpu.py --out $OUT         # on a GPU; writes gpu.json and gpu.md
    python benchmarks/gpu.py --device cpu --toy                         # toy sizes, to see that it runs
    python benchmarks/gpu.py --parts check,sample-672 --seconds 200     # some parts

Needs torch 2.11 or later (Python 3.11 or later) and numpy, attrs, pluggy, safetensors beside it; nothing is installed
and nothing fetched. Where they are missing: `pip install --no-deps attrs pluggy safetensors`; without `--no-deps` pip
may replace the torch that fits the card by another. Norms are compiled by triton and a C compiler; where these are
missing the rows say "compiled False".

Every part runs in a process of its own, is cut off when its time is over, and keeps the rows that it had written.
Weights are random: speed does not depend on them. Floors: FLOPs, counted on the plain network, over the rate that an
8192 x 8192 x 8192 bf16 product reaches on this card in this run. Peer: the textbook U-Net of `unet.py`, eager, in bf16
autocast and in TF32, the same sampler and decoder. Ours: what `gen run` does: recorded graph, fused norms, decoding and
writing beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "plugins"))

try:
    import tomli  # noqa: F401  (what reads recipes; Python's own serves here, where none is read)
except ImportError:
    import tomllib

    sys.modules["tomli"] = tomllib

import numpy as np
import torch
from torch import Tensor

from gen_codecs.vq_codec import VqCodec
from gen_codecs.vq_options import DiscriminatorOptions, LossOptions, Vqgan
from gen_core.batch import Batch
from gen_core.engine.fused import Fused
from gen_core.engine.optimizers import make_groups
from gen_core.engine.precision import autocast
from gen_core.options import FitOptions, SampleOptions
from gen_core.prior import PriorContext
from gen_core.run.samples.background import Background
from gen_core.run.samples.drawing import draw
from gen_core.run.samples.sampling import Recorded, latents_from
from gen_core.trainable import Step
from gen_core.volume import VolumeSpec
from gen_diffusion.ddim import build as ddim
from gen_diffusion.ddpm import build as ddpm
from gen_diffusion.ddpm3d import build
from gen_diffusion.ddpm3d_options import Ddpm3d
from gen_diffusion.dpm_plus_plus import build as dpm
from gen_diffusion.sampler_options import Ddim, Ddpm, DpmPlusPlus2M

ROOT = Path(__file__).resolve().parent

# Each part and the seconds after which it is cut off: 470 in all.
PARTS = {
    "check": 60,
    "sample-224": 100,
    "sample-672": 120,
    "train-prior": 100,
    "vqgan": 90,
}
WITHIN = 500.0  # seconds, all parts together
AIMS = {  # half the floor on an H200; memory as the recipe promises
    "sample 672, 20 steps, ours": ("images/s", 9.0),
    "train prior 672, ours": ("samples/s", 64.0),
    "vqgan step 672, batch 1, checkpointed": ("peak GB, at most", 24.0),
}


class Sizes:
    """What is measured, full or toy."""

    def __init__(self, toy: bool):
        self.toy = toy
        self.base = 16 if toy else 512
        self.volume = {"224": (16, 224, 224), "672": (16, 672, 672)}
        if toy:
            self.volume = {"224": (4, 32, 64), "672": (4, 64, 96)}
        self.stride = (2, 8, 8) if toy else (8, 8, 8)
        self.steps = (2, 3, 4) if toy else (20, 50, 300)
        self.batches = {"224": (2,), "672": (1,)} if toy else {"224": (32, 1), "672": (8, 4, 1)}
        self.training = {"224": (2,), "672": (1,)} if toy else {"224": (64, 10), "672": (8,)}
        self.width = 4 if toy else 16
        self.rows = 64 if toy else 8192  # of the matrix product

    def latent(self, size: str) -> tuple[int, int, int, int]:
        return (8, *(n // s for n, s in zip(self.volume[size], self.stride)))

    def prior(self, size: str, device: torch.device) -> Any:
        torch.manual_seed(0)
        with device:
            made = build(Ddpm3d(base=self.base), PriorContext(shape=self.latent(size), bounds=(-1.0, 1.0)))
        return made.to(device)

    def codec_options(self) -> Vqgan:
        return Vqgan(
            stride=self.stride,
            width=self.width,
            losses=LossOptions(lpips=0.0),
            discriminator=DiscriminatorOptions(start=0, norm="instance", width=8 if self.toy else 64),
        )

    def codec(self, size: str, device: torch.device) -> VqCodec:
        torch.manual_seed(0)
        options = self.codec_options()
        codec = VqCodec(options, VolumeSpec(self.volume[size])).to(device)
        codec.codebook.start(torch.randn(4096, options.latent_channels, device=device), torch.Generator(device))
        return codec


class Bench:
    """One part at work: its device, its deadline, and the rows that go to a file as they come."""

    def __init__(self, device: torch.device, sizes: Sizes, rows: Path, seconds: float):
        self.device, self.sizes, self.file = device, sizes, rows
        self.end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    def row(self, name: str, **figures: Any) -> None:
        """Keep a row, and show it."""
        with self.file.open("a") as out:
            out.write(json.dumps({"name": name, **figures}) + "\n")
        shown = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items())
        print(f"  {name}: {shown}", flush=True)

    def attempt(self, name: str, work: Callable[[], None]) -> None:
        """Do `work`; what fails becomes a row, for the other figures are still wanted."""
        if self.left < 5:
            return self.row(name, skipped="no time left")
        try:
            work()
        except (RuntimeError, ValueError) as error:  # also: out of memory
            self.row(name, error=(str(error).strip() or type(error).__name__).splitlines()[0][:200])
        self.free()

    def free(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak_gb(self) -> float | None:
        return torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else None

    def time(self, call: Callable[[], Any], warm: int = 2, most: int = 10, within: float = 8.0) -> float:
        """Median seconds of a call, of as many as fit into `within` seconds (three at least)."""
        for _ in range(warm):
            call()
        self.wait()
        took: list[float] = []
        start = time.monotonic()
        while len(took) < most and (len(took) < 3 or time.monotonic() - start < within) and self.left > 0:
            at = time.perf_counter()
            call()
            self.wait()
            took.append(time.perf_counter() - at)
        return statistics.median(took)


def rate(bench: Bench) -> float:
    """FLOP/s of a large bf16 product of random numbers: what this card can do."""
    n = bench.sizes.rows
    dtype = torch.bfloat16
    a, b = (torch.randn(n, n, device=bench.device).to(dtype) for _ in range(2))
    return 2.0 * n**3 / bench.time(lambda: a @ b, warm=3, most=10, within=2.0)


def flops(call: Callable[[], Any]) -> float:
    """FLOPs of convolutions and products in a call, which may be one on the meta device that computes nothing."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return float(counter.get_total_flops())


def denoiser_flops(prior: Any) -> float:
    """Of one evaluation of the textbook network for one sample."""
    from unet import PlainUnet

    with torch.device("meta"):
        network = PlainUnet(prior.shape, prior.options)
        z, k = torch.empty(1, *prior.shape), torch.empty(1)
    return flops(lambda: network(z, k))


def decoder_flops(sizes: Sizes, size: str) -> float:
    """Of decoding one volume."""
    with torch.device("meta"):
        decoder = VqCodec(sizes.codec_options(), VolumeSpec(sizes.volume[size])).decoder
        z = torch.empty(1, *sizes.latent(size))
    return flops(lambda: decoder(z))


def plain_of(prior: Any, device: torch.device) -> Any:
    """The same prior, same weights, around the textbook network."""
    from unet import PlainUnet

    peer = build(prior.options, PriorContext(shape=prior.shape, bounds=(-1.0, 1.0)))
    peer.network = PlainUnet(prior.shape, prior.options).to(device).take(prior.network)
    return peer.to(device).eval().requires_grad_(False)


def sampler_of(steps: int, most: int) -> Any:
    """The schedule's own steps by the ancestral sampler, fewer by DPM-Solver++."""
    return ddpm(Ddpm()) if steps >= most else dpm(DpmPlusPlus2M())


# check: the numbers first


def check(bench: Bench) -> None:
    """The card's float32 against float64 on the CPU; the recorded graph and the compiled norms against plain calls."""
    device = bench.device
    torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    shape = (8, 2, 12, 16)
    prior = build(Ddpm3d(base=64), PriorContext(shape=shape)).eval().requires_grad_(False)
    z, t = torch.randn(3, *shape), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    exact = plain_of(prior, torch.device("cpu")).double()
    with torch.no_grad():
        want = exact.network(z.double(), t * 300)
        got = prior.to(device).network(z.to(device), (t * 300).to(device)).double().cpu()
        bench.row("float32 against float64", relative_error=float((got - want).norm() / want.norm()), at_most=1e-3)
        with autocast("bf16", device):
            half = prior.network(z.to(device), (t * 300).to(device)).double().cpu()
        bench.row("bf16 against float64", relative_error=float((half - want).norm() / want.norm()), at_most=0.05)

        options = SampleOptions(n=3, batch=3, steps=6, clamp=1.0, precision="bf16")
        noise = lambda k: torch.from_numpy(np.random.default_rng(k).standard_normal((3, *shape), np.float32)).to(device)
        said: list[str] = []
        if device.type == "cuda":
            recorded = Recorded(prior, options, device, said.append)
            for name, sampler in (("ddim", ddim(Ddim())), ("ddpm", ddpm(Ddpm()))):
                eager = latents_from(noise, prior, sampler, options, device)
                played = latents_from(noise, prior, sampler, options, device, recorded=recorded)
                bench.row(
                    f"recorded graph, {name}", equal=bool(torch.equal(eager, played)),
                    largest=float((eager - played).abs().max()), said="; ".join(said) or "recorded",
                )  # fmt: skip
            bench.row("compiled norms and attention", compiled=Fused.on)


# sampling


def context(bench: Bench, prior: Any, codec: Any, steps: int, batch: int, n: int) -> SimpleNamespace:
    """What `draw` needs of a run."""
    sampler = sampler_of(steps, bench.sizes.steps[-1])
    options = SampleOptions(n=n, batch=batch, steps=steps, clamp=1.0, precision="bf16")
    progress = SimpleNamespace(say=print, update=lambda *a: None)
    return SimpleNamespace(
        recipe=SimpleNamespace(sample=options, conditions={}), seed=0, device=bench.device, progress=progress,
        prior=lambda: prior, codec=lambda: codec, sampler=lambda: sampler, check_stop=lambda: None, spec=codec.spec,
    )  # fmt: skip


def stream(ctx: SimpleNamespace, chunks: list[int], folder: Path) -> dict[str, float]:
    """Draw chunks and write them beside, as `gen run` does; seconds of sampling and of decoding."""
    spent = {"sampling": 0.0, "decoding": 0.0}
    with Background() as beside:
        for drawn in draw(ctx, chunks):
            beside.do(np.save, folder / f"{drawn.chunk:05d}.npy", drawn.x.numpy())
            spent = {name: s + drawn.seconds[name] for name, s in spent.items()}
    return spent


def sample(bench: Bench, size: str) -> None:
    """images/s with decoding and writing, ours and plain."""
    sizes, device = bench.sizes, bench.device
    peak, prior = rate(bench), sizes.prior(size, bench.device).eval().requires_grad_(False)
    codec = sizes.codec(size, device).eval().requires_grad_(False)
    cost, decoding = denoiser_flops(prior), decoder_flops(sizes, size)
    bench.row(f"rate of {size}", tflops=peak / 1e12, denoiser_gflop=cost / 1e9, decoder_gflop=decoding / 1e9)
    floor = lambda steps: (steps * cost + decoding) / peak  # seconds an image

    def ours(steps: int, batch: int, name: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            stream(context(bench, prior, codec, min(steps, 3), batch, batch), [0], Path(folder))  # compiles, sets up
            first = time.perf_counter() - start
            bench.free()
            chunks = 3 if sizes.toy or steps > 100 else 6
            ctx = context(bench, prior, codec, steps, batch, chunks * batch)
            stream(ctx, [0], Path(folder))
            at = time.perf_counter()
            spent = stream(ctx, list(range(chunks)), Path(folder))
            took = time.perf_counter() - at
        images = chunks * batch / took
        bench.row(
            name, **{"images/s": images}, batch=batch, of_floor=images * floor(steps),
            decoding_share=spent["decoding"] / sum(spent.values()), first_seconds=first, peak_gb=bench.peak_gb(),
            compiled=Fused.on,
        )  # fmt: skip

    def plain(steps: int, batch: int, name: str, precision: str) -> None:
        peer = plain_of(prior, device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        options = SampleOptions(n=batch, batch=batch, steps=steps, clamp=1.0, precision=precision)
        shape = (batch, *peer.shape)
        noise = lambda k: torch.from_numpy(np.random.default_rng(k).standard_normal(shape, np.float32)).to(device)

        def call() -> Tensor:
            z = latents_from(noise, peer, sampler_of(steps, sizes.steps[-1]), options, device)
            with autocast(precision, device):
                return codec.decode(z).float().cpu()

        with torch.no_grad():
            images = batch / bench.time(call, warm=1, most=3, within=5.0)
        torch.backends.cuda.matmul.allow_tf32 = False
        bench.row(name, **{"images/s": images}, batch=batch, of_floor=images * floor(steps))

    few = sizes.steps[0]
    for steps in sizes.steps:
        name = f"sample {size}, {steps} steps, ours"
        bench.attempt(name, lambda steps=steps, name=name: ours(steps, sizes.batches[size][0], name))
    for precision, said in (("bf16", "bf16"), ("float32", "TF32")):
        name = f"sample {size}, {few} steps, plain {said}"
        at_once = min(sizes.batches[size][0], 8)
        bench.attempt(name, lambda p=precision, name=name, at_once=at_once: plain(few, at_once, name, p))
    for batch in sizes.batches[size][1:]:
        name = f"sample {size}, {few} steps, ours, batch {batch}"
        bench.attempt(name, lambda batch=batch, name=name: ours(few, batch, name))
    Fused.on = False
    name = f"sample {size}, {few} steps, ours, nothing compiled"
    bench.attempt(name, lambda: ours(few, sizes.batches[size][0], name))
    Fused.on = True


# training


def one_step(module: Any, x: Tensor, groups: dict[str, Any], index: int) -> None:
    """What the engine does in a step: every group's loss, its gradients, clipping left out, one fused Adam each."""
    step = Step(index, 0, 1000, torch.Generator(x.device).manual_seed(index), x.device)
    parts = iter(module.training_step(Batch(x), step))
    while True:
        with autocast("bf16", x.device):
            part = next(parts, None)
        if part is None:
            break
        group = groups[part.group]
        sum(part.losses.values()).backward(inputs=group.parameters)
        group.step(1.0)
        for parameter in group.parameters:
            parameter.grad = None
        module.updated(part.group, step)


def train_prior(bench: Bench) -> None:
    """samples/s of a training step of the prior, bf16, fused Adam."""
    sizes, peak = bench.sizes, rate(bench)
    for size, plain in (("672", False), ("224", False), ("672", True), ("224", True)):
        for batch in sizes.training[size][: 1 if plain else None]:
            label = "plain bf16" if plain else "ours" if batch == sizes.training[size][0] else f"ours, batch {batch}"

            def work(size: str = size, batch: int = batch, plain: bool = plain, label: str = label) -> None:
                prior = sizes.prior(size, bench.device)
                cost = 3.0 * denoiser_flops(prior)  # the gradients of inputs and weights cost as much again, each
                if plain:
                    prior.network = plain_of(prior, bench.device).network.requires_grad_(True)
                prior.train()
                groups = make_groups(prior, FitOptions(steps=1000, optimizer="adam", lr=1e-5))
                z = torch.randn(batch, *prior.shape, device=bench.device).clamp(-1, 1)
                seconds = bench.time(lambda: one_step(prior, z, groups, 0), within=6.0)
                bench.row(
                    f"train prior {size}, {label}", **{"samples/s": batch / seconds}, batch=batch,
                    of_floor=batch / seconds * cost / peak, peak_gb=bench.peak_gb(), compiled=Fused.on,
                )  # fmt: skip

            bench.attempt(f"train prior {size}, {label}", work)


def vqgan(bench: Bench) -> None:
    """Seconds and peak memory of a full step: generator, both discriminators, codebook. LPIPS is off (no weights)."""
    sizes = bench.sizes
    cases = [("672", 1, True, False), ("672", 1, False, False), ("672", 1, True, True), ("224", 2, False, False)]
    for size, batch, checkpointed, channels_last in cases:
        words = [f"vqgan step {size}", f"batch {batch}"]
        words += ["checkpointed"] * checkpointed + ["channels last"] * channels_last

        def work(
            size: str = size, batch: int = batch, on: bool = checkpointed, last: bool = channels_last,
            name: str = ", ".join(words),
        ) -> None:  # fmt: skip
            codec = sizes.codec(size, bench.device).train()
            codec.checkpoint_activations(on)
            x = torch.rand(batch, 1, *sizes.volume[size], device=bench.device) * 2 - 1
            if last:
                for parameter in codec.parameters():
                    if parameter.ndim == 5:
                        parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
                x = x.contiguous(memory_format=torch.channels_last_3d)
            groups = make_groups(codec, FitOptions(steps=1000, optimizer="adam", lr=1e-5))
            seconds = bench.time(lambda: one_step(codec, x, groups, 1), within=8.0, most=6)
            bench.row(name, seconds=seconds, **{"peak GB, at most": bench.peak_gb()})

        bench.attempt(", ".join(words), work)


WORK: dict[str, Callable[[Bench], None]] = {
    "check": check,
    "sample-224": lambda bench: sample(bench, "224"),
    "sample-672": lambda bench: sample(bench, "672"),
    "train-prior": train_prior,
    "vqgan": vqgan,
}


# all parts


def machine(device: torch.device) -> str:
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    return f"{name}; {os.cpu_count()} cores; Python {platform.python_version()}; torch {torch.__version__}"


def part_of_its_own(part: str, args: argparse.Namespace, rows: Path, seconds: float) -> None:
    """A part in a fresh process, ended when its time is over."""
    command = [sys.executable, str(Path(__file__).resolve()), "--only", part, "--rows", str(rows)]
    command += ["--device", args.device, "--within", f"{seconds:.0f}", *(["--toy"] if args.toy else [])]
    child = subprocess.Popen(command)
    try:
        code = child.wait(timeout=seconds + 5)
        if code:
            said = {"name": part, "error": f"ended with {code}"}
        else:
            return
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        said = {"name": part, "skipped": f"cut off after {seconds:.0f} s"}
    with rows.open("a") as out:
        out.write(json.dumps(said) + "\n")


def do_part(part: str, device: torch.device, toy: bool, rows: Path, seconds: float) -> None:
    print(f"{part}:", flush=True)
    WORK[part](Bench(device, Sizes(toy), rows, seconds))


def report(result: dict[str, Any]) -> str:
    """The rows as Markdown, with the aims beside."""
    lines = [f"# The GPU path\n\n`python benchmarks/gpu.py`, {result['date']}, {result['machine']}.\n"]
    if result["toy"]:
        lines.append("Toy sizes: these figures say only that it runs.\n")
    lines += ["| what | figures | aim |", "| --- | --- | --- |"]
    for row in result["rows"]:
        figures = {k: v for k, v in row.items() if k != "name"}
        shown = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items())
        aim = AIMS.get(row["name"])
        said = ""
        if aim and row.get(aim[0]) is not None and not result["toy"]:
            met = row[aim[0]] <= aim[1] if "at most" in aim[0] else row[aim[0]] >= aim[1]
            said = f"{aim[1]:g} {aim[0]}: {'met' if met else 'missed'}"
        lines.append(f"| {row['name']} | {shown} | {said} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="toy sizes")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--seconds", type=float, default=WITHIN, help="for all parts together")
    parser.add_argument("--out", default=str(ROOT / "results"))
    parser.add_argument("--inline", action="store_true", help="all parts in this process, none cut off")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--rows", help=argparse.SUPPRESS)
    parser.add_argument("--within", type=float, default=60.0, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    device = torch.device(args.device)
    if args.only:
        do_part(args.only, device, args.toy, Path(args.rows), args.within)
        return 0
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device here; --device cpu --toy shows that it runs")
    begun, out = time.monotonic(), Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    rows = out / "gpu.rows.jsonl"
    rows.write_text("")
    for part in args.parts.split(","):
        seconds = min(PARTS[part], args.seconds - (time.monotonic() - begun))
        if seconds < 20:
            print(f"{part}: no time left", flush=True)
        elif args.inline:
            do_part(part, device, args.toy, rows, seconds)
        else:
            part_of_its_own(part, args, rows, seconds)
        found = [json.loads(line) for line in rows.read_text().splitlines()]
        result = {"machine": machine(device), "date": date.today().isoformat(), "toy": args.toy, "rows": found}
        (out / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")  # after every part: what is there stays
        (out / "gpu.md").write_text(report(result))
    rows.unlink()
    print(f"\n{report(result)}\n{time.monotonic() - begun:.0f} s")
    return int(any("error" in row for row in found))


if __name__ == "__main__":
    raise SystemExit(main())
