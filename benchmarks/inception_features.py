"""Inception features of band triplets of one volume: ours against the textbook loop, same random weights.

    OMP_NUM_THREADS=2 python benchmarks/inception_features.py

The peer resizes and runs one triplet after the other through convolution, batch norm and rectifier as layers of their
own. Features are compared first, in float32: 1e-3 of the largest. Weights are drawn so that maps keep their spread.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import torch
from harness import compare
from safetensors.torch import save_file
from torch import Tensor, nn

from gen_core.run.folder import sha256_file
from gen_features.inception_options import InceptionV3 as Options
from gen_features.inception_v3 import BN_EPS, IMAGES, Conv, InceptionNetwork, InceptionV3

BANDS, SIDE, TRIPLETS, MANY = 16, 224, 10, 100


def drawn() -> dict[str, Tensor]:
    """Weights under the names of the file."""
    g = torch.Generator().manual_seed(0)
    found = {}
    for name, conv in InceptionNetwork().convolutions():
        cout, cin, kh, kw = conv.weight.shape
        found[f"{name}.conv.weight"] = torch.randn(cout, cin, kh, kw, generator=g) * (2 / (cin * kh * kw)) ** 0.5
        found[f"{name}.bn.weight"] = 0.5 + torch.rand(cout, generator=g)
        found[f"{name}.bn.bias"] = 0.1 * torch.randn(cout, generator=g)
        found[f"{name}.bn.running_mean"] = 0.1 * torch.randn(cout, generator=g)
        found[f"{name}.bn.running_var"] = 0.5 + torch.rand(cout, generator=g)
    return found


def plain(tensors: dict[str, Tensor]) -> nn.Module:
    """The same graph of plain layers, nothing folded, channels first in memory."""
    network = copy.deepcopy(InceptionNetwork())
    for name, conv in list(network.convolutions()):
        assert isinstance(conv, Conv)
        cout, cin, *kernel = conv.weight.shape
        layers = nn.Sequential(
            nn.Conv2d(cin, cout, kernel, conv.stride, conv.padding, bias=False),
            nn.BatchNorm2d(cout, BN_EPS),
            nn.ReLU(),
        )
        own = {"0.weight": tensors[f"{name}.conv.weight"], "1.num_batches_tracked": torch.tensor(0)}
        own |= {f"1.{k}": tensors[f"{name}.bn.{k}"] for k in ("weight", "bias", "running_mean", "running_var")}
        layers.load_state_dict(own)
        parent, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(parent), leaf, layers)
    return network.eval()


@torch.no_grad()
def main() -> None:
    tensors, g = drawn(), torch.Generator().manual_seed(1)
    with tempfile.TemporaryDirectory(prefix="gen-inception-") as scratch:
        path = Path(scratch) / "weights.safetensors"
        save_file(tensors, path)
        build = lambda precision: InceptionV3(Options(str(path), sha256_file(path), precision=precision))
        ours, half = build("float32"), build("bf16")
    loop = plain(tensors)
    smooth = torch.nn.functional.avg_pool2d(torch.randn(1, BANDS, SIDE + 8, SIDE + 8, generator=g), 9, 1)[0]
    bands = (3 * smooth).clamp(-1, 1)
    picks = torch.stack([torch.randperm(BANDS, generator=g)[:3] for _ in range(MANY)])
    few = picks[:TRIPLETS]
    one_by_one = lambda: torch.cat([loop(ours._treat(bands[pick][None])) for pick in few])
    gathered = lambda network: network.features_of_triplets(network.prepare_bands(bands), few)
    want, got = one_by_one(), gathered(ours)
    gap = float((want - got).abs().max() / want.abs().max())
    if not gap < 1e-3:
        raise SystemExit(f"the sides disagree by {gap:.1e} of the largest feature")
    angle = torch.nn.functional.cosine_similarity(want, gathered(half)).min()
    print(f"<!-- float32 features differ by {gap:.1e} of the largest; bf16: cosine of the worst {angle:.4f} -->")
    sides = {
        "one triplet after the other": one_by_one,
        "ours, float32": lambda: gathered(ours),
        "ours, bf16": lambda: gathered(half),
    }
    compare(f"Inception features of {TRIPLETS} triplets", sides, rounds=5)

    def once() -> None:
        prepared = ours.prepare_bands(bands)
        for part in picks.split(IMAGES):
            prepared[part]

    resizes = {"each triplet": lambda: [ours._treat(bands[pick][None]) for pick in picks], "ours, bands once": once}
    compare(f"resizing for {MANY} triplets", resizes, rounds=7)


if __name__ == "__main__":
    main()
