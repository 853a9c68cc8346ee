"""The prior `diffusion-unet`: sizes, precision, conditions, settings (its parity with MONAI has a file of its own)."""

import warnings

import pytest
import torch
from attrs import evolve

from gen_core.batch import Batch
from gen_core.condition import Conditions, ConditionSpec
from gen_core.prior import PriorContext
from gen_core.testing.trainables import check_prior, check_trainable
from gen_core.trainable import Step
from gen_diffusion.convolution3d import Convolution3d, repeat_to
from gen_diffusion.diffusion_unet import build
from gen_diffusion.diffusion_unet_options import DiffusionUnet

SHAPE = (3, 4, 7, 6)
TINY = DiffusionUnet(
    norm_groups=4, channels=(8, 16, 24), attention=(False, True, True), head_channels=4, blocks=1, steps=20
)
SPECS = {
    "kind": ConditionSpec("class", ("solid", "part-solid", "ground-glass")),
    "age": ConditionSpec("scalar", low=20.0, high=90.0),
    "lesion": ConditionSpec("mask"),
    "coarse": ConditionSpec("volume", channels=2),
}


def tiny(shape=SHAPE, specs=None, random=True, **kw):
    """Its zero-initialized layers filled, or every network would say zero; those of conditions stay zero."""
    torch.manual_seed(0)
    prior = build(evolve(TINY, **kw), PriorContext(shape=shape, conditions=specs or {}))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in prior.network.named_parameters():
            if random and not name.startswith("first_grid") and not p.any() and p.ndim > 1:
                p.copy_((1.0 / p[0].numel()) ** 0.5 * torch.randn(p.shape, generator=generator))
    return prior


def facts(n, shape=SHAPE, seed=0):
    g = torch.Generator().manual_seed(seed)
    values = {
        "kind": torch.randint(0, 3, (n,), generator=g),
        "age": 2 * torch.rand(n, generator=g) - 1,
        "lesion": torch.rand(n, 1, *shape[1:], generator=g),
        "coarse": torch.randn(n, 2, *shape[1:], generator=g),
    }
    return Conditions(values, {name: torch.ones(n, dtype=torch.bool) for name in values})


def step(seed=0):
    return Step(0, 0, 10, torch.Generator().manual_seed(seed), torch.device("cpu"))


def fitted(prior, z, cond, steps, lr=1e-2):
    """A few steps of Adam on one batch; the losses."""
    adam, losses = torch.optim.Adam(prior.parameters(), lr=lr), []
    for i in range(steps):
        (part,) = prior.training_step(Batch(z, condition=cond.values, present=cond.present), step(i))
        adam.zero_grad(), part.losses["loss"].backward(), adam.step()
        losses.append(part.losses["loss"].item())
    return losses


@pytest.mark.parametrize("embed", ["added", "cross-attention"])
def test_the_prior_keeps_the_contract_with_and_without_conditions(embed):
    check_prior(tiny(embed=embed))
    prior, cond = tiny(specs=SPECS, embed=embed), facts(4)
    fitted(prior, torch.randn(4, *SHAPE), cond, 1)
    check_prior(prior)
    check_trainable(prior, Batch(torch.randn(4, *SHAPE), condition=cond.values, present=cond.present))


@pytest.mark.parametrize("shape", [(3, 1, 9, 10), (2, 5, 3, 7), (3, 2, 1, 6), (1, 3, 4, 1), (2, 1, 1, 1)])
@pytest.mark.parametrize("axes", ["DHW", "HW"])
def test_odd_thin_and_flat_latents_come_back_at_their_own_size(shape, axes):
    prior = tiny(shape, down_axes=axes)
    z = torch.randn(2, *shape, requires_grad=True)
    eps = prior.denoise(z, torch.tensor([0.3, 0.8]))[1]
    assert eps.shape == z.shape and eps.isfinite().all() and eps.abs().max() > 0
    eps.square().sum().backward()
    assert (z.grad.abs().amin(dim=(0, 1)) > 0).all()  # every corner reaches the output


def test_only_the_chosen_axes_are_halved():
    prior = tiny((2, 4, 8, 8), down_axes="HW")
    sizes = []
    prior.network.middle.register_forward_hook(lambda m, args, out: sizes.append(tuple(out.shape[1:4])))
    prior.denoise(torch.randn(1, 2, 4, 8, 8), torch.ones(1))
    tiny_all = tiny((2, 4, 8, 8))
    tiny_all.network.middle.register_forward_hook(lambda m, args, out: sizes.append(tuple(out.shape[1:4])))
    tiny_all.denoise(torch.randn(1, 2, 4, 8, 8), torch.ones(1))
    assert sizes == [(4, 2, 2), (1, 2, 2)]


def test_weights_fit_a_volume_of_another_size():
    small, large = tiny((3, 2, 4, 6)), tiny((3, 6, 9, 12))
    large.load_state_dict(small.state_dict(), strict=True)


def test_a_volume_one_voxel_deep_at_an_inner_level_is_what_padding_makes_of_it():
    torch.manual_seed(0)
    conv, h = Convolution3d(5, 4, (3, 3, 3)), torch.randn(2, 1, 6, 1, 5)
    want = torch.nn.functional.conv3d(
        h.permute(0, 4, 1, 2, 3), conv.weight.permute(0, 4, 1, 2, 3), conv.bias, padding=1
    ).permute(0, 2, 3, 4, 1)
    torch.testing.assert_close(conv(h), want)


def test_up_sampling_repeats_voxels_and_cuts_to_the_skip():
    h = torch.arange(2 * 3 * 2, dtype=torch.float32).view(1, 2, 3, 2, 1)
    up = repeat_to(h, (3, 5, 2))
    index = torch.arange(5) // 2
    assert torch.equal(up, h[:, index[:3]][:, :, index])


CONVOLUTIONS = [(2, 6, 5), (3, 6, 5), (2, 2, 2), (4, 3, 1), (5, 6, 2), (1, 7, 6)]


@pytest.mark.parametrize("size", CONVOLUTIONS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dims", [(3, 16), (16, 24), (320, 16)])
def test_bf16_convolutions_have_the_gradients_of_float32(size, stride, dims):
    torch.manual_seed(0)
    strides = tuple(stride if n > 1 else 1 for n in size)
    conv, h = Convolution3d(*dims, (3, 3, 3), strides), torch.randn(2, *size, dims[0])
    grads, outs = [], []
    for on in (False, True):
        conv.zero_grad()
        x = h.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            y = conv(x)
        (y.float() * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
        outs.append(y.detach().float())
        grads.append([conv.weight.grad.clone(), conv.bias.grad.clone(), x.grad])
        assert conv.weight.grad.stride() == conv.weight.stride()
    for a, b in zip((outs[0], *grads[0]), (outs[1], *grads[1])):
        assert (a - b).norm() <= 0.02 * a.norm()


def test_bf16_autocast_stays_near_float32_forward_and_backward():
    shape = (3, 4, 8, 6)
    z, t = torch.randn(3, *shape), torch.tensor([0.1, 0.5, 1.0])
    for embed in ("added", "cross-attention"):
        grads, outs = [], []
        for on in (False, True):
            prior = tiny(shape, SPECS, embed=embed)
            with torch.autocast("cpu", torch.bfloat16, enabled=on), warnings.catch_warnings():
                warnings.simplefilter("error")
                times = prior.network.times(torch.tensor([998.0]))
                eps = prior.denoise(z, t, facts(3, shape))[1]
            assert eps.dtype == torch.float32 and all(x.dtype == torch.float32 for x in times)
            eps.square().mean().backward()
            outs.append(eps.detach())
            grads.append({n: p.grad for n, p in prior.named_parameters() if p.grad is not None})
        assert (outs[0] - outs[1]).norm() <= 0.03 * outs[0].norm()
        largest = max(g.norm() for g in grads[0].values())
        for name, grad in grads[0].items():
            if grad.norm() > 1e-3 * largest:
                cosine = torch.cosine_similarity(grad.flatten(), grads[1][name].flatten(), dim=0)
                assert cosine > 0.97, (name, cosine)


def test_checkpointed_activations_give_the_same_gradients():
    grads, z, cond = [], torch.randn(2, *SHAPE), facts(2)
    for on in (False, True):
        prior = tiny(specs=SPECS, embed="cross-attention")
        prior.checkpoint_activations(on)
        assert prior.network.checkpointing == on
        (part,) = prior.training_step(Batch(z, condition=cond.values, present=cond.present), step())
        part.losses["loss"].backward()
        grads.append([p.grad for p in prior.parameters()])
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=0)


def test_added_conditions_and_masks_start_as_the_unconditional_network():
    z, t = torch.randn(3, *SHAPE), torch.tensor([0.2, 0.6, 0.9])
    told, plain = tiny(specs=SPECS), tiny()
    for got, want in zip(told.denoise(z, t, facts(3)), plain.denoise(z, t)):
        assert torch.equal(got, want) and want.abs().max() > 0
    shared = {n: v for n, v in told.state_dict().items() if n in plain.state_dict()}
    assert shared.keys() == plain.state_dict().keys()


def test_cross_attention_starts_blind_to_the_conditions():
    torch.manual_seed(0)
    o = evolve(TINY, embed="cross-attention")
    prior = tiny(specs=SPECS, random=False, embed="cross-attention")
    with torch.no_grad():  # everything but the transformers' last projections
        prior.network.last.weight.normal_()
    z, t = torch.randn(3, *SHAPE), torch.tensor([0.2, 0.6, 0.9])
    assert torch.equal(prior.denoise(z, t, facts(3))[1], prior.denoise(z, t)[1])
    only_mask = {"lesion": SPECS["lesion"]}
    plain = build(o, PriorContext(shape=SHAPE, conditions=only_mask)).network  # no vectors: no transformers
    assert type(plain.middle.attention).__name__ == "SelfAttention"


@pytest.mark.parametrize("embed", ["added", "cross-attention"])
def test_after_training_each_condition_matters_and_absent_ones_do_not(embed):
    prior, z, cond = tiny(specs=SPECS, embed=embed), torch.randn(6, *SHAPE), facts(6)
    fitted(prior, z, cond, 3)
    t = torch.linspace(0.2, 0.9, 6)
    full = prior.denoise(z, t, cond)[1]
    other = facts(6, seed=1)
    other.values["kind"] = (cond.values["kind"] + 1) % 3
    for name in SPECS:
        changed = Conditions(cond.values | {name: other.values[name]}, cond.present)
        assert (prior.denoise(z, t, changed)[1] - full).abs().amax(dim=(1, 2, 3, 4)).min() > 1e-6, name
        absent = cond.present | {name: torch.zeros(6, dtype=torch.bool)}
        a = prior.denoise(z, t, Conditions(cond.values, absent))[1]
        b = prior.denoise(z, t, Conditions(changed.values, absent))[1]
        assert torch.equal(a, b), name
        without = [n for n in SPECS if n != name]
        left_out = Conditions({n: cond.values[n] for n in without}, {n: cond.present[n] for n in without})
        assert torch.equal(prior.denoise(z, t, left_out)[1], a)
    assert torch.equal(prior.denoise(z, t)[1], prior.denoise(z, t, cond.absent())[1])


def test_a_mask_teaches_where_the_bright_spot_is():
    torch.manual_seed(0)
    shape = (1, 1, 8, 8)
    specs = {"lesion": SPECS["lesion"]}
    options = evolve(TINY, predict="x0", schedule="cosine", drop_condition=0.2)  # that ends in pure noise
    prior = build(options, PriorContext(shape=shape, conditions=specs))
    mask = torch.zeros(32, 1, 1, 8, 8)
    for i in range(32):
        mask[i, 0, 0, i % 6 : i % 6 + 3, (i * 5) % 6 : (i * 5) % 6 + 3] = 1.0
    cond = Conditions({"lesion": mask}, {"lesion": torch.ones(32, dtype=torch.bool)})
    losses = fitted(prior, 2 * mask - 1, cond, 60, lr=3e-3)
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])
    noise, t = torch.randn(32, *shape), torch.ones(32)
    found = prior.denoise(noise, t, cond)[0].flatten(1) > 0
    truth = mask.flatten(1) > 0
    dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
    blind = prior.denoise(noise, t)[0].flatten(1) > 0
    lost = 2 * (blind & truth).sum() / (blind.sum() + truth.sum()).clamp_min(1)
    assert dice > 0.8 and lost < 0.5, (dice, lost)


def test_the_middle_always_has_attention_and_levels_as_told():
    network = tiny().network
    attentive = [all(u.attention is not None for u in level) for level in network.down]
    assert attentive == [False, True, True] and network.middle.attention is not None
    assert [all(u.attention is not None for u in level) for level in network.up] == [True, True, False]
    assert [network.down[i][0].attention.heads for i in (1, 2)] == [4, 6]


def test_the_published_system_is_the_default():
    o = DiffusionUnet()
    assert (o.channels, o.attention, o.head_channels, o.blocks) == ((64, 64, 64), (False, True, True), 64, 2)
    assert (o.steps, o.schedule, o.beta_start, o.beta_end) == (1000, "scaled-linear", 0.0015, 0.0195)
    assert (o.predict, o.loss, o.fit.optimizer, o.fit.ema, o.embed, o.drop_condition) == (
        "eps", "l2", "adam", 0.0, "added", 0.1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": (64, 40)}, "'channels' must be multiples of norm_groups = 32"),
        ({"channels": ()}, "'channels' must be multiples"),
        ({"attention": (True, False)}, "'attention' must say true or false for each of 3 levels, got 2"),
        ({"head_channels": 48}, r"'head_channels' = 48 must divide the channels where there is attention: \[64\]"),
        ({"attention": (False,) * 3, "head_channels": 0}, "'head_channels' = 0 must divide"),
        ({"drop_condition": 1.5}, "'drop_condition' must be <= 1"),
        ({"steps": 1}, "'steps' must be >= 2"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        DiffusionUnet(**settings)


@pytest.mark.parametrize("embed", ["added", "cross-attention"])
def test_a_dry_run_on_the_meta_device_tells_shapes(embed):
    meta = torch.device("meta")
    with meta:
        prior = build(DiffusionUnet(embed=embed), PriorContext(shape=(3, 32, 32, 32), conditions=SPECS)).to(meta)
        z, t = torch.empty(1, 3, 32, 32, 32), torch.empty(1)
        eps = prior.denoise(z, t)[1]
    assert eps.is_meta and eps.shape == z.shape
