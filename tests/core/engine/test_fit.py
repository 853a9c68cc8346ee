"""The fit loop against plain loops, and its failures."""

from __future__ import annotations

import errno
import json
import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

from gen_core import atomic
from gen_core.dataset import Split
from gen_core.engine import checkpoint as ckpt
from gen_core.engine import order
from gen_core.engine.events import read_events
from gen_core.engine.optimizers import lr_factor
from gen_core.engine.source import SplitSource, TensorSource
from gen_core.errors import RecipeError, RunError
from gen_core.options import FitOptions
from gen_core.trainable import GroupLoss, Trainable
from gen_core.volume import Sample


class Line(Trainable):
    """One group, no randomness, no state but a counter."""

    def __init__(self, poison=None):
        super().__init__()
        self.layer = nn.Linear(5, 5)
        nn.init.eye_(self.layer.weight)
        nn.init.constant_(self.layer.bias, 0.1)
        self.spare = nn.Parameter(torch.ones(2))  # never gets a gradient
        self.poison = poison

    def training_step(self, batch, step):
        loss = (self.layer(batch.x) - batch.x.flip(-1)).square().mean()
        if self.poison and step.index == 6:
            if self.poison == "loss":
                loss = loss * float("nan")
            elif self.poison == "gradient":  # finite value, infinite slope
                loss = loss + (self.layer.bias[0] * 0).abs().sqrt()
            elif self.poison == "inf":
                loss = loss + float("inf")
        yield GroupLoss("main", {"l2": loss}, {"bias": self.layer.bias.mean()})

    def validation_step(self, batch, step):
        return {
            "l2": (self.layer(batch.x) - batch.x.flip(-1)).square().mean(),
            "index": torch.tensor(step.index),
        }


def test_the_weights_are_those_of_a_plain_float64_loop(tiny, tmp_path):
    options = dict(steps=9, lr=0.02, warmup=2, schedule="cosine", clip=0.3, ema=0.0)
    module, summary = tiny.run(tmp_path, Line(), **options)
    plain = Line().double()
    adam = torch.optim.AdamW([plain.layer.weight, plain.layer.bias], weight_decay=0.0)
    z = tiny.data().double()
    for step, pairs in enumerate(order.plan(11, 0, 9, 4, 7)):
        x = z[[i for i, _ in pairs]]
        loss = (plain.layer(x) - x.flip(-1)).square().mean()
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(list(plain.layer.parameters()), 0.3)
        adam.param_groups[0]["lr"] = 0.02 * lr_factor(step, FitOptions(steps=9, warmup=2, schedule="cosine"))
        adam.step()
    torch.testing.assert_close(module.layer.weight.double(), plain.layer.weight, atol=1e-6, rtol=1e-6)
    assert torch.equal(module.spare, torch.ones(2)) and summary.steps == 9
    held = z + 0.1
    expected = (plain.layer(held) - held.flip(-1)).square().mean()
    assert summary.values["l2"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulating_gives_the_same_weights(tiny, tmp_path, accumulate):
    one, _ = tiny.run(tmp_path / "one", tiny.Tiny(noise=0.0))
    many, _ = tiny.run(tmp_path / "many", tiny.Tiny(noise=0.0), accumulate=accumulate)
    for name, value in one.state_dict().items():
        if name != "queue":  # holds one number a micro-batch
            torch.testing.assert_close(many.state_dict()[name], value, atol=1e-6, rtol=1e-6, msg=name)


def test_every_group_is_updated_once_a_step(tiny, tmp_path):
    module, _ = tiny.run(tmp_path, accumulate=2)
    assert module.counts.tolist() == [23, 23]
    assert module.epochs == [e for e in range(13)]  # 23 steps of 4 out of 7


def test_gradients_reach_their_own_group_only(tiny, tmp_path):
    module = tiny.Tiny()
    seen = []

    def updated(group, step):
        seen.append((group, module.encoder.weight.grad is not None, module.critic.weight.grad is not None))

    module.updated = updated
    critic = module.critic.weight.detach().clone()
    original = module.training_step

    def only_main(batch, step):
        yield next(original(batch, step))

    module.training_step = only_main
    tiny.run(tmp_path, module, steps=2)
    assert seen == [("main", True, False)] * 2
    assert torch.equal(module.critic.weight, critic)  # never yielded, never stepped, nor leaked into


def test_backward_runs_outside_autocast_and_forward_inside(tiny, tmp_path):
    seen = []

    class Watch(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            seen.append(("backward", torch.is_autocast_enabled("cpu")))
            return grad

    class Probe(Line):
        def training_step(self, batch, step):
            y = self.layer(batch.x)
            seen.append(("forward", torch.is_autocast_enabled("cpu"), y.dtype))
            yield GroupLoss("main", {"l1": Watch.apply(y).abs().mean()})
            seen.append(("after", torch.is_autocast_enabled("cpu")))

    tiny.run(tmp_path, Probe(), steps=1, precision="bf16")
    assert seen == [("forward", True, torch.bfloat16), ("backward", False), ("after", True)]


def test_the_product_is_the_averaged_weights(tiny, tmp_path):
    module, summary = tiny.run(tmp_path, ema=0.9)
    last = ckpt.open_checkpoint(tmp_path / "steps" / "checkpoints" / "step-00000023")
    product, record = ckpt.read_weights(tmp_path / "steps")
    assert torch.equal(product["encoder.weight"], last.tensors("ema")["encoder.weight"])
    assert not torch.equal(product["encoder.weight"], last.tensors("weights")["encoder.weight"])
    assert torch.equal(product["counts"], last.tensors("weights")["counts"])
    assert torch.equal(module.encoder.weight, product["encoder.weight"]) and not module.training
    assert record["header"]["recipe"] == "tiny" and summary.weights.name == "weights.safetensors"
    fresh = tiny.Tiny(seed=9)
    ckpt.load_weights(fresh, tmp_path / "steps")
    x = tiny.data() + 0.1
    with torch.no_grad():
        found = float((fresh.eval()(x) - x).square().mean())
    assert found == pytest.approx(summary.values["l2"], rel=1e-5)


@pytest.mark.parametrize("mode, pick", [("min", min), ("max", max)])
def test_the_selected_best_is_what_is_left(tiny, tmp_path, mode, pick):
    module, summary = tiny.run(tmp_path, lr=0.3, warmup=0, ema=0.0, select="l2", select_mode=mode, schedule="constant")
    curve = {e["step"]: e["values"]["l2"] for e in read_events(tmp_path / "events.jsonl") if e["kind"] == "validation"}
    assert list(curve) == [4, 8, 12, 16, 20, 23]
    assert summary.best == pick(curve.values()) and curve[summary.best_step] == summary.best
    x = tiny.data() + 0.1
    with torch.no_grad():
        assert float((module(x) - x).square().mean()) == pytest.approx(summary.best, rel=1e-5)
    assert module.counts[0] == summary.best_step
    assert json.loads((tmp_path / "steps" / "weights.json").read_text())["step"] == summary.best_step


def test_select_needs_a_known_value_and_validation(tiny, tmp_path):
    with pytest.raises(RecipeError, match="fit.select = 'fid': validation gives l2"):
        tiny.run(tmp_path, select="fid")
    from gen_core.engine.fit import fit

    with pytest.raises(RecipeError, match="needs validation data"):
        fit(Line(), TensorSource(tiny.data()), FitOptions(select="l2"), folder=tmp_path, stage="s", seed=0)


def test_batch_must_be_divisible_by_accumulate(tiny, tmp_path):
    with pytest.raises(RecipeError, match="fit.batch = 4 is not divisible by fit.accumulate = 3"):
        tiny.run(tmp_path, accumulate=3)


# Failures


@pytest.mark.parametrize(
    "poison, culprit",
    [
        ("loss", "loss 'main.l2' is nan"),
        ("inf", "loss 'main.l2' is inf"),
        ("gradient", "gradient of 'layer.bias'"),
    ],
)
def test_nan_stops_before_the_update_and_names_the_culprit(tiny, tmp_path, poison, culprit):
    with pytest.raises(RunError) as caught:
        tiny.run(tmp_path, Line(poison), accumulate=2)
    said = str(caught.value)
    ids = [f"eye-{i}" for i, _ in order.step_samples(11, 6, 4, 7)]
    assert culprit in said and "fit.codec, step 7" in said and ids[0] in said
    assert "checkpoint of step 5 is kept" in said and caught.value.exit_code == 5
    folder = tmp_path / "steps" / "checkpoints"
    assert [p.name for p in folder.iterdir()] == ["step-00000005"]
    assert ckpt.open_checkpoint(folder / "step-00000005").tensors("weights")["layer.weight"].isfinite().all()
    assert read_events(tmp_path / "events.jsonl")[-1]["kind"] == "failed"


def test_a_poisoned_buffer_is_never_saved(tiny, tmp_path):
    module = tiny.Tiny()
    module.updated = lambda group, step: module.counts.fill_(float("nan")) if step.index == 8 else None
    with pytest.raises(RunError, match="'counts' became NaN"):
        tiny.run(tmp_path, module)
    assert [p.name for p in (tmp_path / "steps" / "checkpoints").iterdir()] == ["step-00000005"]


@pytest.mark.parametrize("limit, micro", [(2, 2), (1, 4)])
def test_out_of_memory_gives_the_result_of_smaller_micro_batches(tiny, tmp_path, limit, micro):
    small, _ = tiny.run(tmp_path / "small", tiny.Tiny(), accumulate=micro)
    module = tiny.Tiny(limit=limit)
    found, summary = tiny.run(tmp_path / "found", module)
    assert module.sizes.count(4) == 1 and module.sizes.count(limit) == 23 * micro
    for name, value in small.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
    assert f"going on with {micro} micro-batches" in summary.notes[-1]
    kinds = [e["kind"] for e in read_events(tmp_path / "found" / "events.jsonl")]
    assert kinds.count("out-of-memory") == len(summary.notes)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA error: out of memory"),
    ],
)
def test_every_kind_of_memory_shortage_is_recognized(tiny, tmp_path, error):
    module = tiny.Tiny()
    original, failed = module.training_step, []

    def training_step(batch, step):
        yield next(original(batch, step))
        if step.index == 1 and len(batch) == 4 and not failed:
            failed.append(1)
            raise error

    module.training_step = training_step
    _, summary = tiny.run(tmp_path, module, steps=3)
    assert failed and "out of memory in step 2" in summary.notes[0]


def test_other_runtime_errors_pass_through(tiny, tmp_path):
    module = tiny.Tiny()

    def training_step(batch, step):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        yield

    module.training_step = training_step
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        tiny.run(tmp_path, module)


@pytest.mark.parametrize(
    "where, said",
    [("epoch_started", "at the start of an epoch"), ("validation_step", "in validation"),
     ("updated", "updating the weights")],
)  # fmt: skip
def test_shortage_outside_the_training_step_is_one_line(tiny, tmp_path, where, said):
    module = tiny.Tiny()

    def short(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    setattr(module, where, short)
    with pytest.raises(RunError, match=f"fit.codec: out of memory after step [0-9]+, {said}"):
        tiny.run(tmp_path, module)


def test_a_folder_that_cannot_be_made_is_named(tiny, tmp_path):
    (tmp_path / "steps").write_text("a file")
    with pytest.raises(RunError, match="steps: cannot be made"):
        tiny.run(tmp_path)


def test_one_sample_that_does_not_fit_is_told_plainly(tiny, tmp_path):
    module = tiny.Tiny()

    def training_step(batch, step):
        raise torch.OutOfMemoryError("CUDA out of memory")
        yield

    module.training_step = training_step
    with pytest.raises(RunError, match="one sample at a time .*checkpoint_activations"):
        tiny.run(tmp_path, module)


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(tiny, tmp_path, monkeypatch):
    original = atomic.publish_folder

    def publish(beside, folder):
        if folder.name == "step-00000010":
            raise OSError(errno.ENOSPC, "No space left on device")
        original(beside, folder)

    monkeypatch.setattr(atomic, "publish_folder", publish)
    with pytest.raises(RunError, match="step-00000010: No space left on device"):
        tiny.run(tmp_path)
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "steps" / "checkpoints").iterdir()] == ["step-00000005"]
    again, summary = tiny.run(tmp_path)
    assert summary.resumed_from == 5
    whole, _ = tiny.run(tmp_path / "whole")
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), whole.state_dict().values()))


def test_a_fit_without_volumes_says_so(tiny, tmp_path):
    with pytest.raises(RunError, match="fit.codec: there is no training volume"):
        tiny.run(tmp_path, source=TensorSource(tiny.data(0)))


class Volumes(Split):
    """The tiny volumes as a data set; view e is shifted by e / 100."""

    def __init__(self, z):
        self.z = z.numpy()

    def __len__(self):
        return len(self.z)

    def __getitem__(self, i):
        return self.view(i, 0)

    def view(self, i, draw):
        return Sample(x=self.z[i] + np.float32(draw / 100), id=f"v{i}", subject="s", hash="")


@pytest.mark.parametrize("workers", [0, 3])
def test_reading_in_threads_changes_no_bit(tiny, tmp_path, workers):
    threads = threading.active_count()
    found, _ = tiny.run(tmp_path / "split", source=SplitSource(Volumes(tiny.data()), workers))
    views = torch.stack([tiny.data() + torch.tensor(e / 100) for e in range(14)])
    held, _ = tiny.run(tmp_path / "held", source=TensorSource(views))
    assert all(torch.equal(a, b) for a, b in zip(found.state_dict().values(), held.state_dict().values()))
    for _ in range(100):
        if threading.active_count() <= threads:
            break
        time.sleep(0.05)
    assert threading.active_count() <= threads  # workers and watchers are gone


# What is shown


def test_logged_values_are_averages_since_the_last_line(tiny, tmp_path):
    every, _ = tiny.run(tmp_path / "a", Line(), log_every=1, steps=6)
    tiny.run(tmp_path / "b", Line(), log_every=3, steps=6)
    train = lambda f: [e for e in read_events(tmp_path / f / "events.jsonl") if e["kind"] == "train"]
    one, three = train("a"), train("b")
    assert [e["step"] for e in three] == [3, 6]
    for i, event in enumerate(three):
        for name in ("loss", "l2", "bias", "grad_norm"):
            mean = sum(e["values"][name] for e in one[3 * i : 3 * i + 3]) / 3
            assert event["values"][name] == pytest.approx(mean, rel=1e-5)


def test_names_of_later_groups_are_prefixed(tiny, tmp_path):
    tiny.run(tmp_path, steps=2)
    values = next(e["values"] for e in read_events(tmp_path / "events.jsonl") if e["kind"] == "train")
    assert {"loss", "l2", "fool", "mean", "critic/loss", "critic/hinge", "grad_norm", "lr"} <= set(values)
    assert values["loss"] == pytest.approx(values["l2"] + values["fool"], rel=1e-5)


def test_validation_uses_averaged_weights_in_eval_mode_and_changes_nothing(tiny, tmp_path):
    often, _ = tiny.run(tmp_path / "often", validate_every=1)
    never, _ = tiny.run(tmp_path / "never", validate_every=0)
    assert all(torch.equal(a, b) for a, b in zip(often.state_dict().values(), never.state_dict().values()))
    steps = [e["step"] for e in read_events(tmp_path / "never" / "events.jsonl") if e["kind"] == "validation"]
    assert steps == [23]


def test_validation_averages_over_volumes_of_unequal_batches(tiny, tmp_path):
    class Count(Line):
        def validation_step(self, batch, step):
            return {"n": torch.tensor(float(len(batch)))}

    _, summary = tiny.run(tmp_path, Count(), steps=1)  # batches of 3, 3, 1
    assert summary.values["n"] == pytest.approx((9 + 9 + 1) / 7)


def test_progress_is_told_the_end_and_the_speed(tiny, tmp_path):
    calls = []

    class Seen:
        def update(self, stage, step, total, values, speed):
            calls.append((stage, step, total, set(values), speed))

    tiny.run(tmp_path, progress=Seen())
    stage, step, total, names, speed = calls[-1]
    assert (stage, step, total) == ("fit.codec", 23, 23) and "l2" in names and speed > 0


def test_the_global_generator_is_given_back(tiny, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    tiny.run(tmp_path, steps=2)
    assert torch.equal(torch.rand(2), expected)


def test_activation_checkpointing_is_switched(tiny, tmp_path):
    for on in (True, False):
        module, said = Line(), []
        module.checkpoint_activations = said.append
        tiny.run(tmp_path / str(on), module, steps=1, checkpoint_activations=on)
        assert said == [on]
