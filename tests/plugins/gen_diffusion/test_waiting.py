"""No sampler asks the host for a value of a tensor inside its loop: on a GPU each such question empties its queue.

`item`, `bool`, `float` of any tensor end in one operator, whatever the device; it is counted on the CPU, with the calls
of `tolist`, `cpu` and `numpy`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gen_core.condition import Conditions
from gen_core.options import SampleOptions
from gen_core.prior import PriorContext
from gen_core.registry import Registry
from gen_core.run.samples.sampling import latents_from
from gen_diffusion.ddpm3d import build
from gen_diffusion.ddpm3d_options import Ddpm3d

SHAPE = (2, 2, 4, 6)
ASKING = {torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.masked_select}


class Questions(TorchDispatchMode):
    """Counts what would make the host wait for a device."""

    def __init__(self):
        super().__init__()
        self.count, self._patch = 0, pytest.MonkeyPatch()

    def __enter__(self):
        for name in ("tolist", "cpu", "numpy"):
            self._patch.setattr(torch.Tensor, name, self._counted(getattr(torch.Tensor, name)))
        return super().__enter__()

    def __exit__(self, *error):
        self._patch.undo()
        return super().__exit__(*error)

    def _counted(self, method):
        def call(*args, **kwargs):
            self.count += 1
            return method(*args, **kwargs)

        return call

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.count += operator.overloadpacket in ASKING
        return operator(*args, **(kwargs or {}))


REGISTRY = Registry.load()


@pytest.fixture(scope="module")
def prior():
    torch.manual_seed(0)
    options = Ddpm3d(base=8, multipliers=(1,), heads=1, head_dim=4)
    return build(options, PriorContext(shape=SHAPE)).eval().requires_grad_(False)


def questions(name, prior, steps, **options):
    component = REGISTRY.get("sampler", name)
    sampler = component.build(component.options_class()(), None)
    noise = lambda k: torch.from_numpy(np.random.default_rng(k).standard_normal((3, *SHAPE), np.float32))
    wanted = SampleOptions(n=3, batch=3, steps=steps, **options)
    with torch.no_grad(), Questions() as asked:
        latents_from(noise, prior, sampler, wanted, torch.device("cpu"))
    return asked.count


SAMPLERS = [name for name in REGISTRY.names("sampler") if name not in ("ode", "direct")]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("options", [{"clamp": 1.0}, {"threshold": 0.9, "clamp": 1.0}], ids=["clamp", "threshold"])
def test_the_number_of_questions_does_not_grow_with_the_steps(name, options, prior):
    assert questions(name, prior, 2, **options) == questions(name, prior, 6, **options)


def test_the_counter_counts():
    with Questions() as asked:
        bool(torch.ones(2).any()), torch.ones(()).item(), torch.ones(3).sum().tolist()
    assert asked.count == 3


@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.2, 0.6)])
def test_guidance_asks_no_device(interval):
    """On the meta device a value cannot be asked for at all: doing so raises."""
    from gen_core.denoising import guided

    cond = Conditions({"age": torch.zeros(3, device="meta")}, {"age": torch.zeros(3, dtype=torch.bool, device="meta")})
    seen = []

    def denoise(z, t, cond):
        seen.append(len(z))
        return z, z

    z, t = torch.zeros(3, *SHAPE, device="meta"), torch.full((3,), 0.5, dtype=torch.float64, device="meta")
    z_0, eps = guided(denoise, cond, 2.0, interval)(z, t)
    assert seen == [6] and z_0.shape == eps.shape == z.shape
