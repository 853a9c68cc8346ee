"""Numbers out of range, put in everywhere: told within a step, with the culprit, and never on disk."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from gen_core.engine.ema import Ema
from gen_core.engine.events import read_events
from gen_core.engine.optimizers import Group
from gen_core.engine.source import TensorSource
from gen_core.errors import RunError

NAN, INF = float("nan"), float("inf")
AT = 6  # the step (from 0) in which something is put in; the checkpoint before it is of step 5


def _load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HERE = Path(__file__).resolve().parent
tiny = _load(HERE.parent / "core" / "engine" / "tiny.py")
poisoned = _load(HERE / "on_disk.py").poisoned


def at_step(module, do, index=AT):
    """`do()` right before the forward pass of step `index`."""
    original = module.training_step

    def training_step(batch, step):
        if step.index == index:
            do()
        yield from original(batch, step)

    module.training_step = training_step
    return module


def fill(value, *tensors):
    def do():
        with torch.no_grad():
            for tensor in tensors:
                tensor.view(-1)[0] = value

    return do


def in_loss(module, group, value):
    original = module.training_step

    def training_step(batch, step):
        for item in original(batch, step):
            if step.index == AT and item.group == group:
                item.losses[next(iter(item.losses))] = next(iter(item.losses.values())) + value
            yield item

    module.training_step = training_step


def in_gradient(module, parameter, value):
    now = {"index": -1}
    at_step(module, lambda: now.update(index=AT))
    parameter.register_hook(lambda g: g + value if now.pop("index", -1) == AT else g)


INJECTED = {
    # what: (how, what the message says, the step it names)
    "weights": (lambda m: at_step(m, fill(NAN, m.encoder.weight)), "'encoder.weight' became NaN before", 7),
    "of the other group": (lambda m: at_step(m, fill(INF, m.critic.bias)), "'critic.bias' became infinite before", 7),
    "a buffer that is used": (lambda m: at_step(m, fill(NAN, m.norm.running_var)), "'norm.running_var' became NaN", 11),
    "a buffer that only counts": (lambda m: at_step(m, fill(NAN, m.counts)), "'counts' became NaN", 11),
    "loss of one group": (lambda m: in_loss(m, "main", NAN), "loss 'main.l2' is nan", 7),
    "loss of the other": (lambda m: in_loss(m, "critic", INF), "loss 'critic.hinge' is inf", 7),
    "gradient": (lambda m: in_gradient(m, m.decoder.bias, NAN), "gradient of 'decoder.bias' (group 'main')", 7),
    "of the other": (lambda m: in_gradient(m, m.critic.bias, INF), "gradient of 'critic.bias' (group 'critic')", 7),
    "extra state": (lambda m: at_step(m, lambda: m.epochs.append(NAN)), "a number of its extra state", 11),
}  # fmt: skip


@pytest.mark.parametrize("what", INJECTED)
def test_what_is_put_in_during_a_fit_is_told_and_never_saved(what, tmp_path):
    inject, said, step = INJECTED[what]
    module = tiny.Tiny()
    inject(module)
    with pytest.raises(RunError) as caught:
        tiny.run(tmp_path, module)
    message = str(caught.value)
    assert said in message and f"fit.codec, step {step}:" in message and "checkpoint of step 5 is kept" in message
    if step == 7:  # found in the step itself: then the batch is named
        assert "; batch eye-" in message
    assert caught.value.exit_code == 5 and read_events(tmp_path / "events.jsonl")[-1]["message"] == message
    assert poisoned(tmp_path) == []
    assert [p.name for p in (tmp_path / "steps" / "checkpoints").iterdir()] == ["step-00000005"]
    again, summary = tiny.run(tmp_path)  # the cause removed: it goes on from there, to the end
    assert summary.resumed_from == 5 and summary.steps == 23


def test_weights_that_are_nan_before_the_fit_stop_its_first_step(tmp_path):
    module = tiny.Tiny()
    fill(NAN, module.decoder.bias)()
    with pytest.raises(RunError, match="step 1: .*'decoder.bias' became NaN before; .*no checkpoint was due yet"):
        tiny.run(tmp_path, module)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_an_average_that_became_nan_is_not_saved(tmp_path, monkeypatch):
    original = Ema.update

    def update(self, done):
        original(self, done)
        if done == AT:
            self._averages[0].fill_(NAN)

    monkeypatch.setattr(Ema, "update", update)
    with pytest.raises(RunError, match="step [0-9]+: the average of 'encoder.weight' became NaN"):
        tiny.run(tmp_path, validate_every=0)
    assert poisoned(tmp_path) == []


@pytest.mark.parametrize("every", [1, 5])
def test_a_moment_of_the_optimizer_that_became_nan_is_found_at_once(tmp_path, monkeypatch, every):
    original, steps = Group.step, []

    def step(self, factor):
        original(self, factor)
        steps.append(self.name)
        if steps.count("critic") == AT and self.name == "critic":
            next(iter(self.optimizer.state.values()))["exp_avg"].fill_(NAN)

    monkeypatch.setattr(Group, "step", step)
    said = (
        "the optimizer of 'critic': 'critic.weight/exp_avg' became NaN"
        if every == 1
        else "'critic.weight' became NaN before"
    )
    with pytest.raises(RunError, match=said):
        tiny.run(tmp_path, checkpoint_every=every)
    assert poisoned(tmp_path) == []


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_volume_that_is_not_finite_is_named(tmp_path, value):
    z = tiny.data()
    z[3, 1, 2] = value
    with pytest.raises(RunError, match="eye-3 of the batch holds NaN or infinite values; batch .*eye-3"):
        tiny.run(tmp_path, source=TensorSource(z, ids=[f"eye-{i}" for i in range(len(z))]))
    assert poisoned(tmp_path) == []


def test_a_held_out_volume_that_is_not_finite_is_named(tmp_path):
    from gen_core.engine.fit import fit
    from gen_core.options import FitOptions

    held = TensorSource(tiny.data(), ids=[f"val-{i}" for i in range(7)])
    held._z.view(7, -1)[5, 0] = NAN
    with pytest.raises(RunError, match="validation: val-5 hold NaN or infinite values"):
        fit(
            tiny.Tiny(), TensorSource(tiny.data()), FitOptions(steps=9, batch=4, validate_every=3), folder=tmp_path,
            stage="fit.codec", seed=1, validation=lambda: held.batches(3),
        )  # fmt: skip
    assert poisoned(tmp_path) == []


def test_a_learning_rate_of_1e20_ends_in_the_next_step_with_nothing_poisoned(tmp_path):
    with pytest.raises(RunError, match=r"fit.codec, step 2: .* (is (nan|inf)|not finite|overflows)"):
        tiny.run(tmp_path, lr=1e20, warmup=0, clip=0.0, checkpoint_every=1)
    assert poisoned(tmp_path) == []


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_an_overflow_in_the_forward_pass_is_told(tmp_path, precision):
    z = torch.full((7, 2, 3, 4, 5), 3e38)  # finite; its square is not
    with pytest.raises(RunError, match="step 1: .*is (inf|nan)"):
        tiny.run(tmp_path, tiny.Tiny(noise=0), source=TensorSource(z), precision=precision)
    assert poisoned(tmp_path) == [] and not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_denormal_volumes_are_no_trouble(tmp_path, precision):
    z = torch.full((7, 2, 3, 4, 5), 1e-42)
    assert (z != 0).all()
    _, summary = tiny.run(tmp_path, source=TensorSource(z), precision=precision)
    assert summary.steps == 23 and poisoned(tmp_path) == []


def test_an_infinite_validation_value_is_never_the_best(tmp_path):
    module = tiny.Tiny()
    values = [0.0, 2.0, INF, 3.0, NAN, 1.0, -INF]
    module.validation_step = lambda batch, step: {"l2": torch.tensor(values[step.index])}
    _, summary = tiny.run(tmp_path, module, select="l2", select_mode="max", validate_every=1, steps=6)
    assert (summary.best, summary.best_step) == (3.0, 3)
    assert poisoned(tmp_path) == []


SHORT = [
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
]


@pytest.mark.parametrize("error", SHORT, ids=lambda e: type(e).__name__)
def test_memory_that_runs_out_in_the_backward_pass_halves_the_micro_batch(tmp_path, error):
    class Short(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.n = len(x)
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            if ctx.n > 2:
                raise error
            return g

    module = tiny.Tiny()
    module.decoder = nn.Sequential(module.decoder)
    module.decoder.register_forward_hook(lambda m, args, out: Short.apply(out) if out.requires_grad else None)
    _, summary = tiny.run(tmp_path, module, validate_every=0)
    assert "out of memory in step 1: going on with 2 micro-batches" in summary.notes[0] and summary.steps == 23
    assert poisoned(tmp_path) == []


@pytest.mark.parametrize("error", SHORT, ids=lambda e: type(e).__name__)
def test_memory_that_runs_out_in_the_update_ends_the_fit_with_the_checkpoint_kept(tmp_path, monkeypatch, error):
    original, steps = Group.step, []

    def step(self, factor):
        steps.append(self.name)
        if steps.count("main") == AT + 1:
            raise error
        original(self, factor)

    with monkeypatch.context() as patch:
        patch.setattr(Group, "step", step)
        with pytest.raises(RunError, match="out of memory after step 6, updating the weights"):
            tiny.run(tmp_path)
    assert poisoned(tmp_path) == []
    whole, _ = tiny.run(tmp_path / "whole")
    again, summary = tiny.run(tmp_path)
    assert summary.resumed_from == 5
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
