"""Fits that several processes share; as a script, these processes.

python ranked.py FOLDER OWN WORLD CASE...: each case fits in FOLDER/CASE; what the processes say lies in OWN.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from gen_core.batch import Batch
from gen_core.codec import CodecContext
from gen_core.condition import Conditions, ConditionSpec
from gen_core.engine import fit as engine_fit
from gen_core.engine.events import EventLog
from gen_core.engine.fit import FitSummary, fit
from gen_core.engine.join import joined
from gen_core.engine.ranks import Ranks
from gen_core.engine.records import Records
from gen_core.engine.source import TensorSource
from gen_core.engine.stop import StopFlag
from gen_core.errors import GenError
from gen_core.options import FitOptions
from gen_core.prior import PriorContext
from gen_core.share import current, mean, rows, whole
from gen_core.trainable import GroupLoss, Trainable
from gen_core.volume import VolumeSpec

FIT = dict(steps=5, lr=2e-3, betas=(0.5, 0.9), checkpoint_every=100, validate_every=3, log_every=2)


class Plain(Trainable):
    """Batch norm, dropout, noise, a loss that is no mean, and a buffer of all outputs."""

    parallel = True

    def __init__(self, fault: str = ""):
        super().__init__()
        self.layer, self.norm, self.drop = nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.3)
        self.head = nn.Linear(6, 5)
        self.register_buffer("seen", torch.zeros(5))
        self.fault = fault

    def training_step(self, batch, step):
        x = batch.x.flatten(1)[:, :5]
        self._fail(batch, step)
        noise = rows(len(x), lambda n: torch.randn(n, 5, generator=step.generator))
        y = self.head(self.drop(self.norm(self.layer(x + 0.1 * noise))))
        with torch.no_grad():
            self.seen.lerp_(whole(y).abs().mean(0), 0.5)
        yield GroupLoss("main", {"l2": (y - x).square().mean(), "centre": y.mean(0).sub(mean(y.mean(0))).mean() + 0.1})

    def _fail(self, batch, step):
        """In the second of several processes."""
        part = current()
        if part is None or part.first == 0:
            return
        if self.fault == "memory" and len(batch) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.fault == "nan" and step.index == 2:
            batch.x.mul_(float("nan"))
        if self.fault == "error" and step.index == 2:
            raise ValueError("a volume of another kind")

    def validation_step(self, batch, step):
        return {"size": batch.x.square().mean()}


class Drifting(Plain):
    """A buffer that each process fills by itself."""

    def training_step(self, batch, step):
        yield from super().training_step(batch, step)
        self.seen += batch.x.mean()


def volumes(n: int, *shape: int) -> torch.Tensor:
    return torch.randn((n, *shape), generator=torch.Generator().manual_seed(1)).mul(0.5).clamp(-1, 1)


def vqgan():
    from gen_codecs.vq_codec import build_vqgan
    from gen_codecs.vq_options import CodebookOptions, DiscriminatorOptions, LossOptions, Vqgan

    options = Vqgan(
        stride=(2, 2, 2), width=4, multipliers=(1,), blocks_encoder=1, blocks_decoder=1, norm_groups=2,
        latent_channels=3, codes=12, norm="batch",
        codebook=CodebookOptions(queue=300, dead_below=2.0, dead_share=1.0, dead_limit=0.3),
        losses=LossOptions(adaptive=True, gradient=0.5),
        discriminator=DiscriminatorOptions(start=0, width=4, layers=2, norm="batch"),
    )  # fmt: skip
    return build_vqgan(options, CodecContext(VolumeSpec((4, 8, 6)))), volumes(7, 1, 4, 8, 6)


def kl():
    from gen_codecs.kl_codec import build
    from gen_codecs.kl_options import AutoencoderKl, KlLossOptions
    from gen_codecs.vq_options import DiscriminatorOptions

    options = AutoencoderKl(
        stride=(2, 2, 2), width=4, multipliers=(1.0, 2.0), blocks=1, norm_groups=2, latent_channels=2,
        losses=KlLossOptions(kl=1e-2, gan_3d=0.5, gan_2d=0.5, feature_matching=0.5, adaptive=True),
        discriminator=DiscriminatorOptions(start=0, width=4, layers=2, norm="batch"),
    )  # fmt: skip
    return build(options, CodecContext(VolumeSpec((4, 8, 6)))), volumes(7, 1, 4, 8, 6)


def ddpm3d(channels: int = 2):
    from gen_diffusion.ddpm3d import build
    from gen_diffusion.ddpm3d_options import Ddpm3d

    options = Ddpm3d(base=8, multipliers=(1, 2), attention="none", heads=1, head_dim=8, steps=20, dropout=0.2)
    spec = {"kind": ConditionSpec("class", classes=("a", "b"))}
    return build(options, PriorContext((channels, 2, 4, 6), conditions=spec)), volumes(7, channels, 2, 4, 6)


def cut():
    """Of two processes the second holds nothing of the last bias."""
    return ddpm3d(1)


def unet():
    from gen_diffusion.diffusion_unet import build
    from gen_diffusion.diffusion_unet_options import DiffusionUnet

    options = DiffusionUnet(
        channels=(8, 16), attention=(False, True), head_channels=8, norm_groups=4, blocks=1, steps=20
    )  # fmt: skip
    return build(options, PriorContext((2, 2, 4, 6))), volumes(7, 2, 2, 4, 6)


def score():
    from gen_diffusion.ddpmpp import build
    from gen_diffusion.ddpmpp_options import Ddpmpp

    options = Ddpmpp(
        base=8, multipliers=(1, 2), attention=(False, True), norm_groups=4, blocks=1, progressive_input="residual",
        dropout=0.0,  # the mask of one row alone is drawn in another order of memory
    )  # fmt: skip
    return build(options, PriorContext((2, 2, 4, 6))), volumes(7, 2, 2, 4, 6)


def failing(fault: str):
    """A network that fails in the second process: NaN in its samples, or an error in the middle of its forward."""
    module, z = cut()
    usual, now = module.training_step, []

    def training_step(batch, step):
        now[:] = [current().first > 0 and step.index == 2]
        if fault == "nan" and now[0]:
            batch.x.mul_(float("nan"))
        return usual(batch, step)

    def middle(*_):
        if fault == "error" and now[0] and torch.is_grad_enabled():
            raise ValueError("a volume of another kind")

    module.training_step = training_step
    module.network.middle.register_forward_pre_hook(middle)
    return module, z


def stylegan():
    from gen_gan.stylegan2 import build
    from gen_gan.stylegan2_options import AugmentOptions, Stylegan2Ada

    options = Stylegan2Ada(
        z_dim=6, w_dim=5, mapping_layers=2, channel_base=64, channel_max=6, r1_gamma=1.0, r1_every=2,
        path_length_every=2, path_length_shrink=2, augment=AugmentOptions(start=0.5, images=50, every=2),
    )  # fmt: skip
    spec = {"kind": ConditionSpec("class", classes=("a", "b"))}
    return build(options, PriorContext((2, 1, 8, 8), conditions=spec)), volumes(7, 2, 1, 8, 8)


def dcgan():
    from gen_gan.dcgan import build
    from gen_gan.dcgan_options import Dcgan

    options = Dcgan(z_dim=6, width=4, width_max=8, r1_gamma=1.0, r1_every=2)
    return build(options, PriorContext((2, 1, 8, 8))), volumes(7, 2, 1, 8, 8)


BUILD = {
    "vqgan": vqgan,
    "autoencoder-kl": kl,
    "ddpm3d": ddpm3d,
    "stylegan2-ada": stylegan,
    "dcgan": dcgan,
    "plain": lambda: (Plain(), volumes(7, 1, 2, 3, 4)),
    "accumulated": lambda: (Plain(), volumes(7, 1, 2, 3, 4)),
    "memory": lambda: (Plain("memory"), volumes(7, 1, 2, 3, 4)),
    "nan": lambda: (Plain("nan"), volumes(7, 1, 2, 3, 4)),
    "error": lambda: (Plain("error"), volumes(7, 1, 2, 3, 4)),
    "slow": lambda: (Plain(), volumes(7, 1, 2, 3, 4)),
    "drifting": lambda: (Drifting(), volumes(7, 1, 2, 3, 4)),
    **{case: cut for case in ("whole", "whole-adam", "cut", "cut-adam", "slow-cut", "cut-by-samples")},
    **{case: unet for case in ("whole-unet", "cut-unet")},
    **{case: score for case in ("whole-score", "cut-score")},
    "cut-nan": lambda: failing("nan"),
    "cut-error": lambda: failing("error"),
    "cut-gan": dcgan,
    "cut-plain": lambda: (Plain(), volumes(7, 1, 2, 3, 4)),
}
CUT = {"shard": True}
DESCENT = {"accumulate": 2, "ema": 0.5, "clip": 2.0, "lr": 2e-2, "checkpoint_every": 3}
ADAM = {"optimizer": "adam", "ema": 0.5, "checkpoint_activations": True, "select": "loss"}
SLOW = {"accumulate": 2, "steps": 12, "checkpoint_every": 3}
SETTINGS = {
    "accumulated": {"accumulate": 2},
    "slow": SLOW,
    # one network, cut over processes or not
    "whole": DESCENT,
    "cut": DESCENT | CUT,
    "whole-adam": ADAM,
    "cut-adam": ADAM | CUT,
    "slow-cut": CUT | {"accumulate": 2, "steps": 8, "checkpoint_every": 3, "validate_every": 0},
    **{case: DESCENT for case in ("whole-unet", "whole-score")},
    **{case: DESCENT | CUT | {"checkpoint_activations": True} for case in ("cut-unet", "cut-score")},
    "cut-nan": CUT,
    "cut-error": CUT,
    "cut-gan": CUT,
    "cut-plain": CUT,
    "cut-by-samples": CUT | {"select": "metrics.fid"},
}
STAGES = {"memory": "accumulated"} | {case: "cut" for case in SETTINGS if "cut" in case or "whole" in case}


class SlowSource(TensorSource):
    """A pause before each batch: time for the tests to kill or stop."""

    def stream(self, plan):
        for batch in super().stream(plan):
            time.sleep(0.1)
            yield batch


def named(case: str) -> str:
    """What BUILD knows a case as; "slow-kill" is "slow" with another end."""
    while case not in BUILD:
        case = case.rpartition("-")[0]
    return case


def started_weights(case: str) -> dict[str, torch.Tensor]:
    """The weights that a case starts from."""
    torch.manual_seed(5)
    return BUILD[case]()[0].state_dict()


def run(folder: Path, case: str, ranks: Ranks | None = None, stop: StopFlag | None = None, **changes) -> FitSummary:
    """Fit a case in `folder`; the same weights at the start in every process."""
    name = named(case)
    torch.manual_seed(5)
    module, z = BUILD[name]()
    kinds = Conditions({"kind": torch.arange(len(z)) % 2}, {"kind": torch.ones(len(z), dtype=torch.bool)})
    ids = [f"eye-{i}" for i in range(len(z))]
    source = (SlowSource if case.startswith("slow-") else TensorSource)(z, kinds, ids)
    settings = {**FIT, "batch": 4, **SETTINGS.get(name, {}), **changes}
    leads = ranks is None or ranks.leads
    held = _Held()
    engine_fit.Records = held
    summary = fit(
        module,
        source,
        FitOptions(**settings),
        folder=folder,
        stage=f"fit.{STAGES.get(name, name)}",  # the stage is part of the seeds
        seed=11,
        ranks=ranks,
        stop=stop,
        events=EventLog(folder / "events.jsonl") if leads else None,
        validation=lambda: [Batch(z[:3]), Batch(z[3:5])],
    )
    if settings.get("shard"):
        print(f"{case}: holds {json.dumps(held.sizes())}", flush=True)
    return summary


class _Held:
    """`Records`, noting what it is made of."""

    def __call__(self, now, groups, ema):
        self.now, self.groups, self.ema = now, groups, ema
        return Records(now, groups, ema)

    def sizes(self) -> dict[str, int]:
        """Numbers that this process holds of the network, of its averages, of the optimizer's moments."""
        network = [p for n, p in self.now.shards.pieces.items() if n.startswith("network.")]
        moments = self.groups["main"].state()
        of = lambda tensors: {n: v for n, v in tensors.items() if n.startswith("network.") and v.ndim}
        return {
            "whole": sum(p.numel() for p in self.now.module.network.parameters()),
            "stored": sum(p.to_local().untyped_storage().nbytes() // 4 for p in self.now.module.network.parameters()),
            "weights": sum(p.numel() for p in network),
            "averages": sum(v.numel() for v in of(self.ema.state()).values()),
            "moments": sum(v.numel() for v in of(moments).values()),
        }


class Processes:
    """The processes of a script, which forks them once all is imported; a busy machine takes long for that."""

    def __init__(self, folder: Path, world: int, cases: tuple[str, ...]) -> None:
        self.folder = folder / f"processes-{uuid.uuid4().hex}"
        self.folder.mkdir(parents=True)
        self.world = world
        command = [sys.executable, __file__, str(folder), str(self.folder), str(world), *cases]
        self.script = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})

    def wait_for(self, found: Callable[[], object]) -> None:
        """Until `found()` is true. Raises: AssertionError when the processes end before."""
        while not found():
            assert self.script.poll() is None, self.finished()
            time.sleep(0.02)

    def send(self, rank: int, number: int) -> None:
        os.kill(int((self.folder / f"pid-{rank}").read_text()), number)

    def finished(self, seconds: float = 400) -> list[tuple[int, str]]:
        """(exit code, output) of each."""
        self.script.wait(seconds)
        read = lambda name, rank: (self.folder / f"{name}-{rank}").read_text()
        return [(int(read("code", rank)), read("said", rank)) for rank in range(self.world)]

    def end(self) -> None:
        if self.script.poll() is None:
            for path in self.folder.glob("pid-*"):
                with contextlib.suppress(ProcessLookupError, ValueError):
                    os.kill(int(path.read_text()), signal.SIGKILL)
            self.script.kill()
        self.script.wait()


@contextlib.contextmanager
def started(folder: Path, world: int, *cases: str) -> Iterator[Processes]:
    """The processes of a script with these cases; killed on leaving, whatever they do."""
    processes = Processes(folder, world, cases)
    try:
        yield processes
    finally:
        processes.end()


def serve(folder: Path, own: Path, world: int, cases: list[str]) -> None:
    """Fork the processes, and note how they end."""
    for name in cases:  # what they import they import once
        BUILD[named(name)]()
    import torch.distributed.fsdp  # noqa: F401

    pids = {}
    for rank in range(world):
        pid = os.fork()
        if not pid:
            said = os.open(own / f"said-{rank}", os.O_CREAT | os.O_WRONLY)
            os.dup2(said, 1)
            os.dup2(said, 2)
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world)}
            code = 1
            try:
                code = main(folder, str(own / "meeting"), cases)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        (own / f"pid-{rank}").write_text(str(pid))
        pids[pid] = rank
    for _ in range(world):
        pid, status = os.wait()
        (own / f"code-{pids[pid]}").write_text(str(os.waitstatus_to_exitcode(status)))


def main(folder: Path, meeting: str, cases: list[str]) -> int:
    """Every case in turn: after an error all processes are still together."""
    torch.optim.AdamW = descent
    code = 0
    with StopFlag() as stop:
        try:
            with joined(stop, f"file://{meeting}") as ranks:
                for case in cases:
                    try:
                        # an error asks the others for a stop, which must not reach the next case
                        run(folder / case, case, ranks, stop if case.startswith("slow") else StopFlag())
                    except (GenError, ValueError) as error:
                        code = code or getattr(error, "exit_code", 5)
                        said = "told" if getattr(error, "told", False) else "tells"
                        print(f"{case}: {said}: {type(error).__name__}: {error}", flush=True)
                        if ranks.lifeline.lost or stop.requested and case.startswith("slow"):
                            raise
        except (GenError, ValueError) as error:
            return getattr(error, "exit_code", 5)
    return code


def descent(parameters, lr, betas, weight_decay, **how):
    """Adam divides by the size of a gradient, and makes whole steps of the rounding errors of one that vanishes."""
    return torch.optim.SGD(parameters, 10 * lr)


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
