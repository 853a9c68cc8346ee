"""The marks: what each row of the table is measured by, what was aimed at, and why a mark is missed.

A row names a comparison that a script keeps in `results/<script>.json`, the side that stands for the peer and the side
that stands for us. `mark` is the speed against the peer that a careful rewrite is known to reach, `seconds` an aim in
seconds, `megabytes` one of extra memory. `missed` is said beside a row that misses its mark, and only then.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    what: str
    script: str
    name: str  # of the comparison
    peer: str  # side
    ours: str  # side
    mark: float | None = None
    seconds: float | None = None
    megabytes: float | None = None
    missed: str = ""


# a training step of hyperspectral_224's prior at base 64, batch 10, one thread: convolutions 37 % of the time, matrix
# products 33 %; then elementwise products 7 %, copies and joins 8 %
SAME_LIBRARY = "convolutions and products of the library are three quarters of the time and common to both sides"
# profiled at 16 x 112 x 112, one thread: bf16 convolutions 87 % of the time, norms and SiLU 6 %, padding 3 %. A 3-D
# convolution of 32 channels at that size takes 113 ms in float32, 53 in bf16, 49 in bf16 and channels_last_3d; as 2-D
# convolutions of planes 56 to 136. The head (32 -> 1) as planes would save 4 % of the whole.
LAYERS = (
    "nine tenths of the time are the library's convolutions, on this processor (no matrix units) 2.1 x as fast in bf16 "
    "as in float32; channels_last_3d brings nothing more at these widths"
)
SAME_LAYOUT = "both sides run the same convolutions of the library in the same layout"
ROWS = (
    Row("VQ lookup + EMA, 28 224 x 8, 1 024 codes", "vq_lookup", "VQ lookup + EMA, 28224 x 8, 1024 codes",
        "one-hot", "ours", mark=8.0),
    Row("VQ lookup + EMA, 28 224 x 8, 10 240 codes", "vq_lookup", "VQ lookup + EMA, 28224 x 8, 10240 codes",
        "one-hot", "ours", seconds=0.35, megabytes=44),
    Row("K-means 65 536 x 8 -> 1 024, against scikit-learn", "kmeans", "K-means 65536 x 8 -> 1024, 10 iterations",
        "scikit-learn", "ours", mark=0.73, missed="products with 8 columns are too small to keep the processor busy"),
    Row("codec forward, 16 x 112 x 112, float32", "codec_forward", "codec forward, 16 x 112 x 112",
        "plain float32", "ours float32", mark=1.5, missed=SAME_LAYOUT),
    Row("codec forward, 16 x 112 x 112, bf16", "codec_forward", "codec forward, 16 x 112 x 112",
        "plain float32", "ours bf16", mark=3.3, missed=LAYERS),
    Row("codec training step, bf16", "codec_forward", "codec training step, 16 x 112 x 112",
        "plain float32", "ours bf16"),
    Row("codec forward, 16 x 672 x 672, bf16", "codec_forward", "codec forward, 16 x 672 x 672",
        "plain float32", "ours bf16", mark=3.6, missed=LAYERS),
    Row("U-Net forward, base 64, (28,28,2), float32", "unet", "forward, base 64 (28,28,2), batch 1",
        "plain, float32", "ours, float32", mark=1.7, missed=SAME_LIBRARY),
    Row("U-Net forward, base 128, float32", "unet", "forward, base 128 (28,28,2), batch 1",
        "plain, float32", "ours, float32", mark=1.7, missed=SAME_LIBRARY),
    Row("U-Net forward, base 64, bf16 weights", "unet", "forward, base 64 (28,28,2), batch 1",
        "plain, float32", "ours, bf16 weights", mark=2.2,
        missed="a tie; this processor has no matrix units, one with them gave 2.3 to 3.4 x"),
    Row("U-Net forward, base 128, bf16 weights", "unet", "forward, base 128 (28,28,2), batch 1",
        "plain, float32", "ours, bf16 weights", mark=2.2,
        missed="this processor has no matrix units; one with them gave 2.3 to 3.4 x"),
    Row("U-Net training step, base 64, float32", "unet", "training step, base 64 (28,28,2), batch 1",
        "plain, float32, Adam", "ours, float32, fused Adam", mark=1.5, missed="a tie; " + SAME_LIBRARY),
    Row("U-Net training step, base 128, bf16", "unet", "training step, base 128 (28,28,2), batch 1",
        "plain, float32, Adam", "ours, bf16, fused Adam", mark=2.9,
        missed="this processor has no matrix units; one with them gave 2.2 to 2.7 x"),
    Row("MS-SSIM pair, 16 x 224 x 224", "ms_ssim", "MS-SSIM pair, 16 x 224 x 224",
        "scipy arithmetic", "ours", mark=2.8),
    Row("MS-SSIM pair, 128 x 128 x 128", "ms_ssim", "MS-SSIM pair, 128 x 128 x 128", "scipy arithmetic", "ours",
        mark=5.6, missed="about 90 ms against 61 on the machine of the mark; its peer took 340 ms, about 260 here"),
    Row("Frechet distance, 2 048 features", "frechet", "Frechet distance, 2048 features",
        "eigenvalues of the product", "ours", seconds=0.7,
        missed="a Cholesky factor and one symmetric eigenvalue problem: both are the library's; 3 x the peer"),
    Row("the same, 339 volumes", "frechet", "Frechet distance, 339 volumes, 2048 features",
        "covariances", "ours (nuclear norm)", seconds=0.14),
    Row("features of 100 triplets, random-conv64", "evaluation", "features of 100 triplets, 16 x 224 x 224",
        "one triplet after the other", "ours", mark=3.0,
        missed="of each triplet three small convolutions of the library remain, on both sides"),
    Row("Inception features of 10 band triplets, float32", "inception_features", "Inception features of 10 triplets",
        "one triplet after the other", "ours, float32", mark=1.68, missed="a tie; " + SAME_LIBRARY),
    Row("Inception features of 10 band triplets, bf16", "inception_features", "Inception features of 10 triplets",
        "one triplet after the other", "ours, bf16", mark=3.4, missed="this processor has no matrix units"),
    Row("resizing for 100 band triplets", "inception_features", "resizing for 100 triplets",
        "each triplet", "ours, bands once", mark=6.0, missed="what is left is the gather"),
    Row("neighbours, L1, 1 035 x 2 048, 200 queries", "neighbours", "1035 x 2048, l1", "torch.cdist", "ours, faiss",
        mark=10.0, missed="one thread; the mark was set with two"),
    Row("neighbours, L1, 1 035 x 2 048, without faiss", "neighbours", "1035 x 2048, l1", "torch.cdist", "ours, torch"),
    Row("neighbours, L2, 100 000 x 2 048", "neighbours", "100000 x 2048, l2", "torch.cdist", "ours, torch",
        seconds=0.43, missed="one thread; the mark was set with two"),
    Row("neighbours, L1, 100 000 x 2 048", "neighbours", "100000 x 2048, l1", "torch.cdist", "ours, faiss",
        seconds=2.9, missed="one thread; the mark was set with two"),
    Row("cube 91 x 1288 x 1288 to 16 x 672 x 672, uint16", "cube_resize", "cube uint16 bsq",
        "read all + adaptive pool", "ours, area", seconds=0.335, megabytes=55),
    Row("CT series, 200 x 512 x 512", "dicom_series", "200 slices, 512 x 512, int16 to HU", "pydicom", "ours",
        mark=3.0, megabytes=214),
    Row("RTSTRUCT, four regions on 512 x 512 x 134", "rtstruct", "rtstruct 512x512x134, 4 regions",
        "pydicom + Pillow", "ours"),
    Row("200 LIDC readings", "lidc_xml", "200 LIDC XML files", "ElementTree alone", "ours, readings", seconds=10.0),
    Row("`gen --help` against bare Python", "start_up", "start-up", "python -c pass", "gen --help", seconds=0.103,
        missed="half of it is typer"),
    Row("`gen plugins list`", "start_up", "start-up", "python -c pass", "gen plugins list", seconds=0.136,
        missed="all of `--help`, and every plugin is asked"),
)  # fmt: skip
