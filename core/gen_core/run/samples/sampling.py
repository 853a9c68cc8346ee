"""From noise to volumes in whole chunks: the same bytes for any shard, any resume and any number asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from attrs import define
from torch import Tensor

from gen_core.codec import Codec
from gen_core.condition import Conditions
from gen_core.denoising import clamped, guided, thresholded
from gen_core.engine.graph_capture import Captured
from gen_core.engine.precision import autocast
from gen_core.engine.seeds import sample_noise, stable_seed
from gen_core.errors import RunError, UsageError
from gen_core.options import SampleOptions
from gen_core.paths.time_grid import time_grid
from gen_core.prior import Denoise, DiffusionPrior, DirectPrior, Prior
from gen_core.run.context import RunContext
from gen_core.sampler import Noise, Sampler

Watch = Callable[[float, Tensor, Tensor], None]


def sample_seed(ctx: RunContext) -> int:
    """The seed that every sample's own seed is derived from."""
    return stable_seed(ctx.seed, "sample", ctx.recipe.sample.seed)


def chunks(n: int, batch: int, shard: tuple[int, int] = (1, 1)) -> list[int]:
    """The chunk numbers of shard i of k (1-based): chunk c holds samples c*batch .. c*batch+batch-1 below n."""
    i, k = shard
    if not 1 <= i <= k:
        raise UsageError(f"--shard {i}/{k}: the first number must be 1..{k}")
    return list(range(i - 1, -(-n // batch), k))


def indices_of(chunk: int, batch: int) -> list[int]:
    """The samples of a whole chunk."""
    return list(range(chunk * batch, (chunk + 1) * batch))


def draw_latents(
    prior: Prior,
    sampler: Sampler,
    options: SampleOptions,
    seed: int,
    indices: list[int],
    device: torch.device,
    cond: Conditions | None = None,
    recorded: Recorded | None = None,
) -> Tensor:
    """z_0 (len(indices), c, d, h, w) of the samples `indices`, each from its own seed and under its own conditions."""
    noise = sample_noise(seed, indices, noise_shape(prior), device)
    return latents_from(noise, prior, sampler, options, device, cond=cond, recorded=recorded)


def noise_shape(prior: Prior) -> tuple[int, ...]:
    """The shape of one draw of noise of one sample. Raises: UsageError when nothing can be drawn from the prior."""
    if isinstance(prior, DirectPrior):
        return tuple(prior.noise_shape(1)[1:])
    if isinstance(prior, DiffusionPrior):
        return tuple(prior.shape)
    raise UsageError(f"prior {type(prior).__name__} offers neither `denoise` nor `draw`")


def latents_from(
    noise: Noise,
    prior: Prior,
    sampler: Sampler,
    options: SampleOptions,
    device: torch.device,
    watch: Watch | None = None,
    cond: Conditions | None = None,
    recorded: Recorded | None = None,
) -> Tensor:
    """z_0 from draws of noise (B, ...): the start is noise(0), the sampler's own draws follow it.

    cond: what the prior is told, guided by [sample] guidance.
    watch: called with (t, z_t, z_0) whenever a diffusion prior has been asked.
    recorded: asks the prior by recorded graphs; not with `watch`.
    """
    if isinstance(prior, DirectPrior):
        with autocast(options.precision, device):
            return sampler.draw(prior, noise, cond).float()
    assert isinstance(prior, DiffusionPrior)  # `noise_shape` refuses what is neither
    steps = options.steps or sampler.steps
    ts = prior.path.grid(steps) if options.spacing == "path" else time_grid(prior.path, steps, options.spacing)
    sigma = prior.path.sigma(ts[:1]).to(torch.float32)
    z = noise(0) * sigma.item()

    if recorded is not None and watch is None:
        denoise = recorded.told(cond)
    else:
        denoise = asked(prior, options, device, cond, watch)
    return sampler.sample(denoise, prior.path, z, ts, lambda k: noise(k + 1))


def asked(
    prior: DiffusionPrior,
    options: SampleOptions,
    device: torch.device,
    cond: Conditions | None = None,
    watch: Watch | None = None,
) -> Denoise:
    """The prior as a sampler asks it: told `cond`, guided, in the precision and within the bounds of [sample]."""
    ask = guided(prior.denoise, cond, options.guidance, options.guidance_interval) if cond else prior.denoise

    def denoise(z_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(options.precision, device):
            z_0, eps = ask(z_t, t)
        if watch is not None:
            watch(float(t.ravel()[0]), z_t, z_0.float())
        return z_0.float(), eps.float()

    if options.threshold:
        return thresholded(denoise, prior.path, options.threshold, options.clamp or 1.0)
    return clamped(denoise, prior.path, options.clamp)


class Recorded:
    """`asked` by recorded graphs, kept from chunk to chunk: what differs between chunks goes in as a tensor.

    say: is told once when recording fails; the prior is then asked plainly.
    """

    def __init__(self, prior: DiffusionPrior, options: SampleOptions, device: torch.device, say: Callable[[str], Any]):
        self.prior, self.options, self.device, self.say = prior, options, device, say
        self._by_names: dict[tuple[str, ...], Captured] = {}

    def told(self, cond: Conditions | None) -> Denoise:
        """The prior as a sampler asks it, told `cond`."""
        names = tuple(sorted(cond.values)) if cond else ()
        if names not in self._by_names:
            self._by_names[names] = Captured(lambda z, t, *told: self._ask(names, z, t, told), self.say)
        captured = self._by_names[names]
        told = [part[name] for part in (cond.values, cond.present) for name in names] if cond else []
        return lambda z, t: captured(z, t, *told)  # type: ignore[return-value]

    def _ask(self, names: tuple[str, ...], z: Tensor, t: Tensor, told: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        values, present = told[: len(names)], told[len(names) :]
        cond = Conditions(dict(zip(names, values)), dict(zip(names, present))) if names else None
        return asked(self.prior, self.options, self.device, cond)(z, t)


@define(eq=False)
class Launched:
    """A chunk that the device has been asked for; a CPU has finished it."""

    chunk: int
    z: Tensor
    x: Tensor
    ends: list[Any]  # of starting, sampling, decoding: seconds, or CUDA events

    def finished(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """(z, x, seconds), on the CPU; waits for the device. Raises: RunError for latents that are not finite."""
        if not isinstance(self.ends[-1], float):
            self.ends[-1].synchronize()
        if not torch.isfinite(self.z).all():
            raise RunError(
                f"sampling: chunk {self.chunk} holds NaN or infinite latents; set [sample] clamp or more steps"
            )
        return self.z, self.x, {"sampling": self._between(0), "decoding": self._between(1)}

    def _between(self, i: int) -> float:
        first, last = self.ends[i : i + 2]
        return last - first if isinstance(first, float) else first.elapsed_time(last) / 1e3


def _now(device: torch.device) -> Any:
    """A mark in time: of the host, or in the device's own queue."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _to_host(x: Tensor) -> Tensor:
    """x on the CPU; from a device into pinned memory, without waiting for it."""
    if x.device.type == "cpu":
        return x
    return torch.empty(x.shape, dtype=x.dtype, pin_memory=x.device.type == "cuda").copy_(x, non_blocking=True)


@torch.no_grad()
def launch_chunk(
    chunk: int,
    *,
    prior: Prior,
    sampler: Sampler,
    codec: Codec,
    options: SampleOptions,
    seed: int,
    device: torch.device,
    cond: Conditions | None = None,
    recorded: Recorded | None = None,
) -> Launched:
    """Ask the device for chunk number `chunk`, whole, without waiting for it. The caller cuts what lies beyond n.

    cond: the conditions of all its samples.

    The chunk is never made smaller: a sample's bytes must not depend on how many were asked for.
    """
    ends = [_now(device)]
    z = draw_latents(prior, sampler, options, seed, indices_of(chunk, options.batch), device, cond, recorded)
    ends.append(_now(device))
    with autocast(options.precision, device):
        x = codec.decode(z)
    z, x = _to_host(z), _to_host(x.float())
    return Launched(chunk, z, x, [*ends, _now(device)])


def draw_chunk(chunk: int, **parts: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """`launch_chunk` and its end: (z, x, seconds). Raises: RunError for latents that are not finite."""
    return launch_chunk(chunk, **parts).finished()
