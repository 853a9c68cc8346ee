"""Every benchmark in turn, each in a process of its own.

make benchmarks
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = (
    "vq_lookup",
    "kmeans",
    "codec_forward",
    "unet",
    "ms_ssim",
    "frechet",
    "neighbours",
    "cube_resize",
    "dicom_series",
    "rtstruct",
    "lidc_xml",
)


def main() -> int:
    worst = 0
    for name in SCRIPTS:
        print(f"\n## {name}\n", flush=True)
        worst = max(worst, subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=False).returncode)
    return worst


if __name__ == "__main__":
    raise SystemExit(main())
