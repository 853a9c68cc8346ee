"""MONAI's diffusion U-Nets as priors: the contract, MONAI's own numbers, conditions, weights from files."""

import math
import re

import pytest
import torch
from attrs import evolve
from safetensors.torch import save_file

from gen_core.batch import Batch
from gen_core.condition import Conditions, ConditionSpec
from gen_core.errors import DataError, MissingError, RecipeError
from gen_core.prior import PriorContext
from gen_core.registry import Registry
from gen_core.testing.trainables import check_prior, check_trainable
from gen_core.trainable import Step
from gen_monai.prior_options import MaisiDiffusionUnet, MonaiDiffusionUnet
from gen_monai.priors import build, modern_names

pytest.importorskip("monai")

SHAPE = (3, 4, 8, 12)
SIZES = dict(norm_groups=4, channels=(8, 12, 16), attention=(False, False, True), head_channels=4, blocks=1, steps=20)
MONAI, MAISI = MonaiDiffusionUnet(**SIZES), MaisiDiffusionUnet(**SIZES)
KIND = {"kind": ConditionSpec("class", ("solid", "part-solid", "ground-glass"))}
LESION = {"lesion": ConditionSpec("mask", channels=2)}
SCALARS = {"age": ConditionSpec("scalar", low=20.0, high=90.0), "weight": ConditionSpec("scalar")}
SPACING = {f"spacing_{a}": ConditionSpec("scalar", low=0.5, high=4.5) for a in "zyx"}
REGIONS = {n: ConditionSpec("class", ("head", "chest", "abdomen", "pelvis")) for n in ("top", "bottom")}
INPUTS = dict(spacing=tuple(SPACING), regions=tuple(REGIONS))


def make(options, specs=None, shape=SHAPE, random=True):
    """With zero layers filled, or every network would say zero; but not those of conditions."""
    torch.manual_seed(0)
    prior = build(options, PriorContext(shape=shape, conditions=specs or {}))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in prior.network.named_parameters():
            if random and p.ndim > 1 and not p.any() and "class_embedding" not in name:
                p.copy_((1.0 / p[0].numel()) ** 0.5 * torch.randn(p.shape, generator=generator))
    return prior


def facts(specs, n, shape=SHAPE, seed=0):
    g = torch.Generator().manual_seed(seed)
    draw = {
        "class": lambda s: torch.randint(0, len(s.classes), (n,), generator=g),
        "scalar": lambda s: 2 * torch.rand(n, generator=g) - 1,
        "mask": lambda s: torch.rand(n, s.channels, *shape[1:], generator=g),
    }
    values = {name: draw[spec.kind](spec) for name, spec in specs.items()}
    return Conditions(values, {name: torch.ones(n, dtype=torch.bool) for name in specs})


def step(seed=0):
    return Step(0, 0, 10, torch.Generator().manual_seed(seed), torch.device("cpu"))


def fitted(prior, z, cond, steps):
    adam = torch.optim.Adam(prior.parameters(), lr=1e-2)
    for i in range(steps):
        (part,) = prior.training_step(Batch(z, condition=cond.values, present=cond.present), step(i))
        adam.zero_grad(), part.losses["loss"].backward(), adam.step()


CASES = {
    "monai": (MONAI, {}),
    "monai flat": (MONAI, {}),
    "monai told": (MONAI, KIND | LESION | SCALARS),
    "maisi": (MAISI, {}),
    "maisi told": (evolve(MAISI, **INPUTS), KIND | LESION | SPACING | REGIONS),
}


@pytest.mark.parametrize("case", list(CASES))
def test_priors_keep_the_contract(case):
    options, specs = CASES[case]
    shape = (3, 1, 8, 12) if "flat" in case else SHAPE
    prior, cond = make(options, specs, shape), facts(specs, 4, shape)
    check_prior(prior)
    check_trainable(prior, Batch(torch.randn(4, *shape), condition=cond.values, present=cond.present))


@pytest.mark.parametrize("name", ["monai-diffusion-unet", "maisi-diffusion-unet"])
def test_they_enter_by_the_registry(name):
    component = Registry.load(allow="off").get("prior", name)
    options = MONAI if name.startswith("monai") else MAISI
    assert isinstance(options, component.options_class())
    assert component.build(options, PriorContext(shape=SHAPE)).shape == SHAPE


@pytest.mark.parametrize(("options", "shape"), [(MONAI, SHAPE), (MONAI, (3, 1, 8, 12)), (MAISI, SHAPE)])
def test_eps_is_what_monais_network_says_of_the_steps_index(options, shape):
    prior = make(evolve(options, orientation="zyx"), shape=shape)
    z, k = torch.randn(2, *shape), torch.tensor([1, 20])
    want = prior.network(z[:, :, 0] if shape[1] == 1 else z, k - 1)
    torch.testing.assert_close(prior.denoise(z, k / 20)[1], want[:, :, None] if shape[1] == 1 else want)


def test_loss_and_noising_are_those_of_monais_scheduler():
    from monai.networks.schedulers import DDPMScheduler

    prior = make(evolve(MONAI, steps=1000))
    peer = DDPMScheduler(1000, schedule="scaled_linear_beta", beta_start=0.0015, beta_end=0.0195)
    z_0 = torch.randn(3, *SHAPE)
    t, eps = prior.draw(z_0, torch.Generator().manual_seed(5))
    index = (t * 1000).round().long() - 1
    noisy = peer.add_noise(z_0, eps, index)
    want = torch.nn.functional.mse_loss(prior.network(noisy, index), eps)
    (part,) = prior.training_step(Batch(z_0), Step(0, 0, 1, torch.Generator().manual_seed(5), torch.device("cpu")))
    torch.testing.assert_close(part.losses["loss"], want, rtol=1e-5, atol=0)


def test_the_ras_network_sees_the_volume_turned_and_mirrored():
    ours, theirs = make(evolve(MONAI, orientation="zyx")), make(evolve(MONAI, orientation="ras"))
    z, t = torch.randn(2, *SHAPE), torch.tensor([0.4, 0.8])
    turned = z.permute(0, 1, 4, 3, 2).flip(2, 3)  # (x, y, z), x and y towards right and front
    want = ours.network(turned, t * 20 - 1).flip(2, 3).permute(0, 1, 4, 3, 2)
    torch.testing.assert_close(theirs.denoise(z, t)[1], want)
    assert not torch.allclose(ours.denoise(z, t)[1], want, atol=1e-3)


@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("options", [MONAI, MAISI])
def test_flash_attention_changes_memory_not_numbers(options, flash):
    plain = make(evolve(options, flash_attention=False))
    prior = make(evolve(options, flash_attention=flash))
    blocks = [m for m in prior.network.modules() if hasattr(m, "use_flash_attention")]
    assert blocks and all(m.use_flash_attention == flash for m in blocks)
    z, t = torch.randn(2, *SHAPE), torch.tensor([0.4, 0.8])
    torch.testing.assert_close(prior.denoise(z, t)[1], plain.denoise(z, t)[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", ["monai told", "maisi told"])
def test_each_condition_matters_when_present_and_never_when_absent(case):
    options, specs = CASES[case]
    prior, z, cond = make(options, specs), torch.randn(6, *SHAPE), facts(specs, 6)
    fitted(prior, z, cond, 3)
    t, other = torch.linspace(0.2, 0.9, 6), facts(specs, 6, seed=1)
    full = prior.denoise(z, t, cond)[1]
    for name, spec in specs.items():
        value = other.values[name] if spec.kind != "class" else (cond.values[name] + 1) % len(spec.classes)
        changed = Conditions(cond.values | {name: value}, cond.present)
        assert (prior.denoise(z, t, changed)[1] - full).abs().amax(dim=(1, 2, 3, 4)).min() > 1e-7, name
        absent = cond.present | {name: torch.zeros(6, dtype=torch.bool)}
        broken = torch.full_like(value, -1) if spec.kind == "class" else torch.full_like(value, math.nan)
        a = prior.denoise(z, t, Conditions(cond.values, absent))[1]
        b = prior.denoise(z, t, Conditions(cond.values | {name: broken}, absent))[1]
        assert torch.equal(a, b) and a.isfinite().all(), name
        assert (a - full).abs().max() > 1e-7, name


def test_maisi_gets_spacing_in_hundredths_along_x_y_z_and_regions_as_one_of_four():
    prior = make(evolve(MAISI, **INPUTS), SPACING | REGIONS)
    values = {
        "spacing_z": torch.tensor([1.0, -1.0]), "spacing_y": torch.tensor([0.0, 0.0]),
        "spacing_x": torch.tensor([-1.0, 0.5]), "top": torch.tensor([1, 3]), "bottom": torch.tensor([2, 0]),
    }  # fmt: skip
    present = {name: torch.tensor([True, name != "bottom"]) for name in values}
    inputs = prior.own_inputs(Conditions(values, present))
    torch.testing.assert_close(inputs["spacing_tensor"], torch.tensor([[50.0, 250.0, 450.0], [350.0, 250.0, 50.0]]))
    top, bottom = inputs["top_region_index_tensor"], inputs["bottom_region_index_tensor"]
    assert top.tolist() == [[0, 100, 0, 0], [0, 0, 0, 100]] and bottom.tolist() == [[0, 0, 100, 0], [0, 0, 0, 0]]
    own_order = make(evolve(MAISI, orientation="zyx", **INPUTS), SPACING | REGIONS)
    assert own_order.own_inputs(Conditions(values, present))["spacing_tensor"][0].tolist() == [450, 250, 50]


@pytest.mark.parametrize(
    ("options", "specs", "message"),
    [
        (MONAI, KIND | REGIONS, r"\[condition.kind\]: MONAI's U-Net takes one class, and 'bottom' is there already"),
        (MAISI, SCALARS, r"\[condition.age\]: MAISI's U-Net takes no scalar"),
        (MAISI, KIND | REGIONS, "takes one class beside its regions, and 'bottom' is there already"),
        (evolve(MAISI, spacing=tuple(SPACING)), {}, "'spacing_z' must be a scalar"),
        (evolve(MAISI, regions=("kind", "top")), KIND | REGIONS, "'kind' must be a class of 4"),
    ],
)
def test_conditions_without_an_input_are_refused(options, specs, message):
    with pytest.raises(RecipeError, match=message):
        make(options, specs)


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        (MONAI, (3, 4, 6, 8), r"halves latents 2 times, their size \(4, 6, 8\) must be divisible by 4"),
        (MAISI, (3, 1, 8, 8), "three-dimensional, these latents have D = 1"),
    ],
)
def test_latents_that_monai_cannot_take_are_refused(options, shape, message):
    with pytest.raises(RecipeError, match=message):
        make(options, shape=shape)


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (MonaiDiffusionUnet, {"channels": (64, 40)}, "'channels' must be multiples of norm_groups = 32"),
        (MonaiDiffusionUnet, {"attention": (True,)}, "'attention' must say true or false for each of 3 levels"),
        (MaisiDiffusionUnet, {"head_channels": 48}, r"'head_channels' = 48 must divide .* \[256, 512\]"),
        (MaisiDiffusionUnet, {"spacing": ("a", "b")}, "spacing: three conditions"),
        (MaisiDiffusionUnet, {"regions": ("a",)}, "regions: two conditions"),
    ],
)
def test_a_wrong_setting_is_named(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        cls(**settings)


def test_the_published_sizes_are_the_defaults():
    with torch.device("meta"):
        lung = build(MonaiDiffusionUnet(), PriorContext(shape=(3, 32, 32, 32)))
        specs = SPACING | REGIONS
        maisi = build(MaisiDiffusionUnet(**INPUTS), PriorContext(shape=(4, 32, 128, 128), conditions=specs))
    assert all(p.is_meta for p in (*lung.parameters(), *maisi.parameters()))
    assert lung.network.conv_in.conv.weight.shape == (64, 3, 3, 3, 3)
    o = MonaiDiffusionUnet()
    assert (o.steps, o.schedule, o.beta_start, o.beta_end, o.predict, o.loss) == (
        1000, "scaled-linear", 0.0015, 0.0195, "eps", "l2",
    )  # fmt: skip
    assert maisi.network.down_blocks[3].resnets[0].time_emb_proj.weight.shape == (512, 4 * 256)


# weights


def old_names(state):
    """Today's names as the former package had them."""
    found = {}
    for name, tensor in state.items():
        name = re.sub(r"\.attn\.(to_[qkv])", r".\1", name)
        name = re.sub(r"(attn[12])\.out_proj", r"\1.to_out.0", name)
        name = name.replace(".attn.out_proj", ".proj_attn").replace("postconv", "conv")
        found[name] = tensor
    return found


@pytest.mark.parametrize("specs", [{}, SCALARS])
@pytest.mark.parametrize("old", [False, True])
def test_weights_come_from_a_file_under_new_and_old_names(tmp_path, specs, old):
    source = make(MONAI, specs)
    state = source.network.state_dict()
    renamed = old_names(state) if old else state
    assert (set(renamed) != set(state)) == old
    assert set(modern_names(renamed)) == set(state)
    save_file({n: t.contiguous() for n, t in renamed.items()}, tmp_path / "unet.safetensors")
    torch.manual_seed(9)
    prior = build(
        evolve(MONAI, weights=str(tmp_path / "unet.safetensors")), PriorContext(shape=SHAPE, conditions=specs)
    )
    z, t = torch.randn(2, *SHAPE), torch.tensor([0.4, 0.8])
    assert torch.equal(prior.denoise(z, t)[1], source.denoise(z, t)[1])
    assert any("weights_sha256 is not set" in note for note in prior.notes())


@pytest.mark.parametrize("options", [MONAI, MAISI])
def test_unconditional_weights_start_a_conditional_network(tmp_path, options):
    source = make(options)
    save_file(source.network.state_dict(), tmp_path / "unet.safetensors")
    told = evolve(options, weights=str(tmp_path / "unet.safetensors"))
    specs = KIND | LESION
    prior = build(told, PriorContext(shape=SHAPE, conditions=specs))
    z, t = torch.randn(2, *SHAPE), torch.tensor([0.4, 0.8])
    torch.testing.assert_close(prior.denoise(z, t, facts(specs, 2))[1], source.denoise(z, t)[1], rtol=1e-5, atol=1e-6)
    with torch.device("meta"):
        build(told, PriorContext(shape=SHAPE, conditions=specs))


def test_weights_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "unet.safetensors"
    save_file(make(MONAI).network.state_dict(), path)
    wider = evolve(MONAI, weights=str(path), channels=(8, 12, 20))
    with pytest.raises(DataError, match=r"\[prior\] weights: '.*' is \(.*\) in the file"):
        build(wider, PriorContext(shape=SHAPE))
    with pytest.raises(DataError, match=r"\[prior\] weights"):
        build(evolve(MONAI, weights=str(path)), PriorContext(shape=(3, 1, 8, 12)))  # a 2-D network
    with pytest.raises(MissingError, match="SHA-256"):
        build(evolve(MONAI, weights=str(path), weights_sha256="0" * 64), PriorContext(shape=SHAPE))
    with pytest.raises(MissingError, match="no such file"):
        build(evolve(MONAI, weights="nowhere.pt"), PriorContext(shape=SHAPE))


def test_bf16_training_keeps_its_gradients_right_on_a_cpu():
    shape, grads = (3, 4, 4, 8), []  # one voxel deep at the last level
    for on in (False, True):
        prior = make(MONAI, shape=shape)
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            (part,) = prior.training_step(Batch(torch.ones(2, *shape)), step())
        part.losses["loss"].backward()
        grads.append([p.grad for p in prior.parameters()])
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-5, atol=1e-7)


def test_without_monai_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    with pytest.raises(MissingError, match=r"pip install 'gen-imaging\[monai\]'"):
        make(MONAI)
