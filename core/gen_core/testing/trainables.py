"""Contract checks of what the engine fits: codecs, priors, feature networks, segmenters."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gen_core.batch import Batch
from gen_core.codec import Codec, LatentSpec
from gen_core.condition import Conditions
from gen_core.features import FeatureNetwork
from gen_core.prior import DiffusionPrior, DirectPrior, Prior
from gen_core.segmenter import Segmenter
from gen_core.testing.diffusion import check_path
from gen_core.testing.say import (
    changed,
    other_random_numbers,
    require,
    require_close,
    require_json,
    snapshot,
    unchanged,
)
from gen_core.trainable import GroupLoss, Step, Trainable

TOLERANCE = 1e-4  # relative; batched and single convolutions round differently


def check_trainable(trainable: Trainable, batch: Batch) -> None:
    """The engine's contract: groups, training steps from one generator, state that comes back, silent validation.

    The module given is left as it was. Raises: AssertionError with one sentence.
    """
    name = type(trainable).__name__
    groups = trainable.groups()
    require(isinstance(groups, dict) and groups, f"{name}.groups() is empty")
    owner: dict[int, str] = {}
    for group, modules in groups.items():
        for module in modules:
            for parameter in module.parameters():
                other = owner.setdefault(id(parameter), group)
                require(other == group, f"{name}.groups(): '{group}' and '{other}' share a parameter")
    for path, parameter in trainable.named_parameters():
        require(
            id(parameter) in owner or not parameter.requires_grad,
            f"{name}.groups(): no group holds '{path}'; add it, or freeze it with requires_grad_(False)",
        )
    unknown = set(trainable.ema_groups()) - set(groups)
    require(not unknown, f"{name}.ema_groups() names unknown groups {sorted(unknown)}")
    require_json(trainable.extra_state(), f"{name}.extra_state()")

    before = snapshot(trainable)
    first, second = copy.deepcopy(trainable).train(), copy.deepcopy(trainable).train()
    with other_random_numbers(1):
        losses = _train(first, batch, index=0)
    with other_random_numbers(2):
        again = _train(second, batch, index=0)
    require(
        losses == again,
        f"{name}.training_step is not a function of its generator: {losses} and {again} from equal seeds; "
        "draw all random numbers from step.generator",
    )
    names = changed(snapshot(first), snapshot(second))
    require(not names, f"{name} is not the same after two equal steps: {', '.join(names[:5])}")
    require(not changed(before, snapshot(trainable)), f"copies of {name} share state with the original")

    # resume: what a checkpoint holds must be all there is
    resumed = copy.deepcopy(trainable).train()
    resumed.load_state_dict(first.state_dict(), strict=True)
    resumed.load_extra_state(json.loads(json.dumps(first.extra_state())))
    names = changed(snapshot(first), snapshot(resumed))
    require(not names, f"{name}: state_dict and extra_state do not bring back {', '.join(names[:5])}")
    with other_random_numbers(3):
        losses, again = _train(first, batch, index=1), _train(resumed, batch, index=1)
    require(
        losses == again,
        f"{name} goes on differently after a resume ({losses} against {again}): some state is neither in "
        "state_dict nor in extra_state",
    )

    first.eval()
    with torch.no_grad(), unchanged(first, f"{name}.validation_step"):
        values = first.validation_step(batch, _step(2, batch.x.device))
    for key, value in values.items():
        require(torch.as_tensor(value).numel() == 1, f"{name}.validation_step: '{key}' is not a scalar")


def _step(index: int, device: torch.device) -> Step:
    generator = torch.Generator(device).manual_seed(index)
    return Step(index=index, epoch=0, total=10, generator=generator, device=device)


def _train(module: Trainable, batch: Batch, index: int) -> dict[str, float]:
    """One step as the engine does it (plain gradient descent); the losses by group and name."""
    name, groups = type(module).__name__, module.groups()
    step, seen, found = _step(index, batch.x.device), set(), {}
    if index == 0:
        logged = module.epoch_started(0, step)
        require_json(logged, f"{name}.epoch_started")
    for item in module.training_step(batch, step):
        require(isinstance(item, GroupLoss), f"{name}.training_step yields {type(item).__name__}, not GroupLoss")
        group = item.group
        require(group in groups, f"{name}.training_step: unknown group '{group}'; groups() has {list(groups)}")
        require(group not in seen, f"{name}.training_step yields group '{group}' twice in one step")
        seen.add(group)
        require(item.losses, f"{name}.training_step: group '{group}' has no loss")
        for key, loss in item.losses.items():
            require(
                loss.ndim == 0,
                f"{name}.training_step: loss '{key}' has shape {tuple(loss.shape)}, not a scalar",
            )
            require(torch.isfinite(loss), f"{name}.training_step: loss '{key}' is {loss.item()}")
            found[f"{group}.{key}"] = loss.item()
        parameters = [p for m in groups[group] for p in m.parameters() if p.requires_grad]
        total = torch.stack(list(item.losses.values())).sum()
        require(
            total.requires_grad and parameters,
            f"{name}.training_step: the losses of group '{group}' have no gradient",
        )
        for parameter in parameters:
            parameter.grad = None
        total.backward(inputs=parameters)
        gradients = [p.grad for p in parameters if p.grad is not None]
        require(
            any((g != 0).any() for g in gradients),
            f"{name}.training_step: the losses of group '{group}' do not reach its parameters",
        )
        require(
            all(torch.isfinite(g).all() for g in gradients),
            f"{name}.training_step: group '{group}' has gradients that are not finite",
        )
        with torch.no_grad():
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter -= 1e-3 * parameter.grad
                    parameter.grad = None
        module.updated(group, step)
    require(seen, f"{name}.training_step yields nothing")
    return found


def check_codec(codec: Codec, x: Tensor, batch: Batch | None = None) -> None:
    """A codec on x (B >= 2, C, D, H, W) in [-1, 1]; also `check_trainable`, on `batch` or a batch made of x.

    Raises: AssertionError with one sentence.
    """
    name = type(codec).__name__
    require(x.ndim == 5 and len(x) >= 2, "check_codec needs x of shape (B >= 2, C, D, H, W)")
    latent = codec.latent
    require(isinstance(latent, LatentSpec), f"{name}.latent is no LatentSpec")
    codec = copy.deepcopy(codec).eval()
    batch = batch or _batch(x)
    with torch.no_grad():
        scaling = codec.calibrate([batch])
    require_json(scaling, f"{name}.calibrate")
    want = (len(x), *latent.shape(tuple(x.shape[2:])))  # type: ignore[arg-type]
    with torch.no_grad():
        z = _map(codec, "encode", x, want)
        if latent.bounds:
            low, high = latent.bounds
            slack = 0.5 * (high - low)  # vectors before quantization may lie somewhat outside of all codes
            require(
                z.min() >= low - slack and z.max() <= high + slack,
                f"{name}.encode: latents {z.min():.3g}..{z.max():.3g} lie far outside latent.bounds {latent.bounds}",
            )
        x_hat = _map(codec, "decode", z, tuple(x.shape))
        require(
            x_hat.abs().max() <= 1.0,
            f"{name}.decode leaves [-1, 1]: {x_hat.min():.4g}..{x_hat.max():.4g}; clamp it",
        )
        if latent.tokens:
            with unchanged(codec, f"{name}.encode_tokens"):
                idx = codec.encode_tokens(x)
            require(idx.dtype == torch.int64, f"{name}.encode_tokens gives {idx.dtype}, not int64")
            require(
                tuple(idx.shape) == (want[0], *want[2:]),
                f"{name}.encode_tokens: shape {tuple(idx.shape)}, expected {(want[0], *want[2:])}",
            )
            require(
                idx.min() >= 0 and idx.max() < latent.tokens,
                f"{name}.encode_tokens: {idx.min()}..{idx.max()} leaves 0..{latent.tokens - 1}",
            )
            _map(codec, "decode_tokens", idx, tuple(x.shape))
    if codec.fitted:
        check_trainable(codec, batch)


def check_prior(prior: Prior, cond: Conditions | None = None, batch: Batch | None = None) -> None:
    """A prior: `denoise` and its path, or `draw`; also `check_trainable` where it has weights.

    cond: conditions of 3 samples. Raises: AssertionError with one sentence.
    """
    name, shape = type(prior).__name__, tuple(prior.shape)
    require(len(shape) == 4, f"{name}.shape is {shape}, expected (c, d, h, w)")
    prior = copy.deepcopy(prior).eval()
    parameter = next(iter(prior.parameters()), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    if isinstance(prior, DiffusionPrior):
        check_path(prior.path)
        z = torch.randn(3, *shape, generator=generator).to(parameter.device)
        _check_denoise(prior, z, cond)
    elif isinstance(prior, DirectPrior):
        noise_shape, other = prior.noise_shape(3), prior.noise_shape(7)
        require(
            (noise_shape[0], other[0]) == (3, 7) and noise_shape[1:] == other[1:],
            f"{name}.noise_shape(3) is {noise_shape}, noise_shape(7) is {other}; expected (n, ...)",
        )
        noise = torch.randn(noise_shape, generator=generator).to(parameter.device)
        with torch.no_grad():
            _map(prior, "draw", noise, (3, *shape), cond)
    else:
        raise AssertionError(f"{name} is neither a DiffusionPrior nor a DirectPrior")
    if any(p.requires_grad for p in prior.parameters()):
        z = torch.randn(4, *shape, generator=generator).to(parameter.device)
        check_trainable(prior, batch or _batch(z))


def _check_denoise(prior: DiffusionPrior, z: Tensor, cond: Conditions | None) -> None:
    name = type(prior).__name__
    t = torch.tensor([0.9, 0.35, 0.6], device=z.device)
    with torch.no_grad(), unchanged(prior, f"{name}.denoise"):
        with other_random_numbers(1):
            z_0, eps = prior.denoise(z, t, cond)
        with other_random_numbers(2):
            again = prior.denoise(z, t, cond)
        for what, value, other in (("z_0", z_0, again[0]), ("eps", eps, again[1])):
            require(
                value.shape == z.shape,
                f"{name}.denoise: {what} is {tuple(value.shape)}, z_t {tuple(z.shape)}",
            )
            require(value.dtype == torch.float32, f"{name}.denoise: {what} is {value.dtype}, expected float32")
            require(torch.isfinite(value).all(), f"{name}.denoise: {what} is not finite")
            require(torch.equal(value, other), f"{name}.denoise is not deterministic in eval mode")
        wide = lambda value: value.to(torch.float32).reshape(-1, 1, 1, 1, 1)
        alpha, sigma = wide(prior.path.alpha(t.double())), wide(prior.path.sigma(t.double()))
        require_close(alpha * z_0 + sigma * eps, z, 1e-3, f"{name}.denoise: alpha z_0 + sigma eps is not z_t")
        single = prior.denoise(z[1:2], t[1:2], _cut(cond, 1))[0]
        require_close(single, z_0[1:2], TOLERANCE, f"{name}.denoise: a sample depends on the others of its batch")
        late = prior.denoise(z, torch.full_like(t, 0.95), cond)
        early = prior.denoise(z, torch.full_like(t, 0.05), cond)
        # z_0 and eps are tied by alpha and sigma, so one of them always changes with t
        blind = any(torch.equal(a, b) for a, b in zip(late, early))
        require(not blind, f"{name}.denoise: the network does not look at t")
    z = z.clone().requires_grad_(True)
    z_0, eps = prior.denoise(z, t, cond)
    require(z_0.requires_grad, f"{name}.denoise is not differentiable in z_t")
    (gradient,) = torch.autograd.grad(z_0.sum() + eps.sum(), z)
    require(torch.isfinite(gradient).all(), f"{name}.denoise: the gradient is not finite")


def check_features(network: FeatureNetwork, x: Tensor, batch: Batch | None = None) -> None:
    """A feature network on x: (B >= 2, 3, H, W) or (B >= 2, C, D, H, W), as its `takes` says.

    Raises: AssertionError with one sentence.
    """
    name = type(network).__name__
    require(
        network.takes in ("image", "volume"),
        f"{name}.takes is '{network.takes}', expected 'image' or 'volume'",
    )
    require(
        x.ndim == (4 if network.takes == "image" else 5),
        f"{name} takes a {network.takes}; x is {tuple(x.shape)}",
    )
    network = copy.deepcopy(network).eval()
    with torch.no_grad():
        values = _map(network, "features", x, (len(x), network.dim))
    require(not torch.equal(values[0], values[1]), f"{name}.features: two different inputs have the same features")
    protocol = network.protocol()
    require(
        isinstance(protocol, dict) and protocol,
        f"{name}.protocol() is empty: nobody could reproduce the score",
    )
    require_json(protocol, f"{name}.protocol()")
    require(protocol == network.protocol(), f"{name}.protocol() changes from call to call")
    if network.fitted:
        require(batch is not None or x.ndim == 5, f"{name} is trained: check_features needs a batch of volumes")
        check_trainable(network, batch or _batch(x))


def check_segmenter(segmenter: Segmenter, batch: Batch) -> None:
    """A segmenter on a batch of volumes with the masks it learns from. Raises: AssertionError with one sentence."""
    name, x = type(segmenter).__name__, batch.x
    require(segmenter.classes, f"{name}.classes is empty")
    trained, segmenter = segmenter, copy.deepcopy(segmenter).eval()
    k, (_, _, d, h, w) = len(segmenter.classes), x.shape
    with torch.no_grad():
        p = segmenter.probabilities(x)
        require(
            p.ndim == 5 and tuple(p.shape) in ((len(x), k, d, h, w), (len(x), k, 1, h, w)),
            f"{name}.probabilities: shape {tuple(p.shape)}, expected {(len(x), k, d, h, w)} or depth 1",
        )
        _map(segmenter, "probabilities", x, tuple(p.shape))
        require(
            p.min() >= 0 and p.max() <= 1,
            f"{name}.probabilities leaves [0, 1]: {p.min():.4g}..{p.max():.4g}",
        )
    check_trainable(trained, batch)


def _map(module: Any, method: str, x: Tensor, want: tuple[int, ...], *more: Any) -> Tensor:
    """Call `method`, a pure function of each sample: its result, after the checks that hold for all of them."""
    name = f"{type(module).__name__}.{method}"
    call: Callable[..., Tensor] = getattr(module, method)
    original = x.clone()
    with unchanged(module, name):
        with other_random_numbers(1):
            y = call(x, *more)
        with other_random_numbers(2):
            again = call(x, *more)
    require(torch.equal(x, original), f"{name} changes its input in place")
    require(tuple(y.shape) == tuple(want), f"{name}: shape {tuple(y.shape)}, expected {tuple(want)}")
    require(y.dtype == torch.float32, f"{name} gives {y.dtype}, expected float32")
    require(torch.isfinite(y).all(), f"{name} gives values that are not finite")
    require(torch.equal(y, again), f"{name} is not deterministic")
    single = call(x[1:2], *(_cut(m, 1) for m in more))
    require_close(single, y[1:2], TOLERANCE, f"{name}: a sample depends on the others of its batch")
    return y


def _cut(cond: Conditions | None, i: int) -> Conditions | None:
    return None if cond is None else cond.take(slice(i, i + 1))


def _batch(x: Tensor) -> Batch:
    names = [f"sample-{i}" for i in range(len(x))]
    return Batch(x=x, ids=names, subjects=names, hashes=names)
