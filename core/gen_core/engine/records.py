"""What a fit writes and goes on from: checkpoints, the best weights, the product. The first process alone writes."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from attrs import asdict
from torch import Tensor

from gen_core import atomic
from gen_core.engine import checkpoint as ckpt
from gen_core.engine.ema import Ema
from gen_core.engine.events import plain
from gen_core.engine.optimizers import Group
from gen_core.engine.soundness import unsound_state
from gen_core.engine.standing import Standing
from gen_core.errors import RecipeError, RunError

ALIKE = 1e-4  # of the processes' weights, relative: processors of several kinds round differently


class Records:
    """Of one fit."""

    def __init__(self, now: Standing, groups: dict[str, Group], ema: Ema) -> None:
        self._now, self._groups, self._ema = now, groups, ema
        self.began = time.monotonic()
        self._heard: tuple[int, list[Any]] = (-1, [])  # the averages of all processes after so many steps

    def save(self, weights: dict[str, Tensor] | None = None) -> None:
        """Write a checkpoint of now, unless there is one; weights: the state dict, if not the present one."""
        now = self._now
        if now.saved == now.done or not (now.ranks.leads or now.shards):
            return
        now.doing = "saving a checkpoint"
        aside = weights is not None  # from a second thread, which must not speak to other processes
        if aside and now.shards:
            return
        weights = self._whole(now.module.state_dict() if weights is None else weights)
        ema, extra_state = self._whole(self._ema.state()), now.module.extra_state()
        optimizers = {name: self._whole(group.state()) for name, group in self._groups.items()}
        if not now.ranks.leads:
            now.saved = now.done
            return
        bad = unsound_state(now.module, weights, ema, optimizers, extra_state)
        if bad:
            if aside and now.ranks.world > 1:
                raise RunError(now.failure(bad, []))
            now.fail(bad, [])
        tensors = {"weights": weights, "ema": ema}
        tensors |= {f"optimizer-{name}": values for name, values in optimizers.items()}
        state = {
            "stage": now.stage,
            "seed": now.seed,
            "step": now.done,
            "epoch": now.epoch,
            "micro_batches": now.micro_batches,
            "hooked": now.hooked,
            "validated": now.validated,
            "values": plain(now.values),  # JSON knows no NaN
            "averages": self._averages(),
            "best": now.best,
            "seconds": time.monotonic() - self.began,
            "extra_state": extra_state,
            "options": asdict(now.options),
            "torch": torch.__version__,
            "header": now.header,
        }
        path = ckpt.save_checkpoint(now.checkpoints / ckpt.checkpoint_name(now.done), tensors, state)
        now.saved = now.done
        ckpt.prune(now.checkpoints, path)
        now.event("checkpoint", path=path.name)

    def hear_averages(self) -> None:
        """Before a checkpoint: what each process has yet to log; all of them call this. Raises: Left."""
        self._heard = (self._now.done, self._now.averages.state(self._now.ranks))

    def _averages(self) -> list[Any]:
        """What is yet to be logged; nothing when this process is alone with it."""
        now = self._now
        if now.ranks.world == 1:
            return now.averages.state()
        step, heard = self._heard
        return heard if step == now.done else []

    def _whole(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of weights that are cut, the whole, in the first process; all call this."""
        now = self._now
        if now.shards:
            now.ranks.exchange()
        with now.together():
            return now.shards.whole(tensors)

    @torch.no_grad()
    def require_alike(self) -> None:
        """Before a checkpoint: all processes hold the same state. Raises: RunError naming what differs."""
        now = self._now
        if now.ranks.world == 1:
            return
        state = {name: value for name, value in now.module.state_dict().items() if name not in now.shards.pieces}
        if not state:
            return
        sizes = torch.stack([v.detach().double().abs().sum().cpu() for v in state.values()])
        heard = now.ranks.gathered(sizes.tolist())
        for i, name in enumerate(state):
            low, high = min(h[i] for h in heard), max(h[i] for h in heard)
            if high - low > ALIKE * high:
                raise RunError(
                    f"{now.stage}, step {now.done}: '{name}' differs between processes; this component does not bear "
                    "several processes as it is (gen_core.share)"
                )

    def resume(self) -> int | None:
        """Go on from the newest checkpoint that verifies; returns its step, None when there is none."""
        now = self._now
        if now.ranks.leads:
            atomic.sweep(now.folder)
            found, problems = ckpt.newest_checkpoint(now.checkpoints)
        if now.ranks.world > 1:
            name = now.ranks.told((found.folder.name if found else "") if now.ranks.leads else None)
            if not now.ranks.leads:
                found, problems = ckpt.open_checkpoint(now.checkpoints / name) if name else None, []
        if found is not None:
            self._load(found)
            if now.done > now.options.steps:
                raise RunError(f"{found.folder}: was made after {now.done} steps, but fit.steps = {now.options.steps}")
        if now.events is not None:
            again = {"epoch": now.hooked, "validation": now.validated}  # done after the checkpoint
            now.events.drop_after(now.stage, now.done, at=[kind for kind, step in again.items() if step != now.done])
        for problem in problems:
            problem += f"; going on from step {now.done}"
            now.notes.append(problem)
            now.event("fallback", message=problem)
        self.began = time.monotonic() - now.seconds
        if found is None:
            return None
        now.event("resume", path=found.folder.name)
        return now.done

    def _load(self, found: ckpt.Checkpoint) -> None:
        now, state = self._now, found.state
        ckpt.load_strict(now.module, found.tensors("weights"), found.folder / ckpt.WEIGHTS)
        now.module.load_extra_state(state["extra_state"])
        self._ema.load(now.shards.ours(found.tensors("ema")))
        for name, group in self._groups.items():
            group.load(now.shards.ours(found.tensors(f"optimizer-{name}")))
        now.done = now.saved = state["step"]
        now.micro_batches = min(max(state["micro_batches"], now.options.accumulate), now.options.batch)
        now.hooked, now.validated = state["hooked"], state["validated"]
        now.values = {name: math.nan if value is None else value for name, value in state["values"].items()}
        now.seconds, now.best = state["seconds"], state["best"]
        now.averages.load(state.get("averages", []), now.ranks)
        if now.best is not None:
            try:
                ckpt.open_checkpoint(now.checkpoints / now.best["name"])
            except RunError as error:
                now.notes.append(f"the best weights so far are lost: {error}")
                now.best = None

    def select(self) -> None:
        """Keep the weights (averaged, as applied now) when the selected value is the best so far."""
        now, options = self._now, self._now.options
        if not options.select:
            return
        if options.select not in now.values:
            raise RecipeError(f"fit.select = '{options.select}': validation gives {', '.join(now.values) or 'nothing'}")
        value = now.values[options.select]
        sign = 1.0 if options.select_mode == "min" else -1.0
        if not math.isfinite(value) or (now.best is not None and sign * value >= sign * now.best["value"]):
            return
        weights = self._whole(now.module.state_dict())
        name = f"best-{now.done:08d}"
        if now.ranks.leads:
            if bad := unsound_state(now.module, weights, extra_state=now.module.extra_state()):
                now.fail(bad, [])
            state = {"step": now.done, "value": value, "extra_state": now.module.extra_state()}
            ckpt.save_checkpoint(now.checkpoints / name, {"weights": weights}, state)
        now.best = {"value": value, "step": now.done, "name": name}

    def finish(self) -> Path:
        """Write the product: the selected best, else the averaged weights; leave the module holding it."""
        now = self._now
        path = self._write_product() if now.ranks.leads or now.shards else now.folder / ckpt.WEIGHTS
        now.values, now.best = now.ranks.told([now.values, now.best])  # and now the product is there
        ckpt.load_weights(now.module, now.folder)
        now.drop_gradients()
        now.module.eval()
        now.event("fitted", now.values, path=path.name)
        return path

    def _write_product(self) -> Path:
        now = self._now
        info = {"stage": now.stage, "step": now.done, "ema": self._ema.active, "values": plain(now.values)}
        if now.best is not None:
            best = ckpt.open_checkpoint(now.checkpoints / now.best["name"])
            ckpt.load_strict(now.module, best.tensors("weights"), best.folder / ckpt.WEIGHTS)
            now.module.load_extra_state(best.state["extra_state"])
            info |= {"step": now.best["step"], "selected": {now.options.select: now.best["value"]}}
            return self._write(info)
        with self._ema.applied():
            return self._write(info)

    def _write(self, info: dict[str, Any]) -> Path:
        now = self._now
        weights = self._whole(now.module.state_dict())
        if not now.ranks.leads:
            return now.folder / ckpt.WEIGHTS
        return ckpt.write_weights(now.module, now.folder, info, now.header, weights)
