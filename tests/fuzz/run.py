"""Fuzz the readers: every error that is none of ours, every 10 s and every 400 MB is a finding.

    python tests/fuzz/run.py                          all targets, ten minutes each
    python tests/fuzz/run.py --seconds 60 nifti mat   two of them, a minute each

Coverage-guided by atheris (extra `fuzz`) where it is installed, else by plain mutation of the seeds. Findings are
written to --out/TARGET/ with the error in their name; one that was mended goes to tests/fuzz/cases/TARGET/, where
test_fuzz_cases.py reads it for ever. Ends with a table, and with 1 where anything was found.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

SECONDS, MEGABYTES = 10.0, 400  # a file, at most
LONGEST = 1 << 14  # bytes of a mutated file
SEEN_A_FINDING = 3  # cases kept of one kind


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=float, default=600.0, help="of each target")
    parser.add_argument("--engine", choices=("auto", "atheris", "mutation"), default="auto")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "gen-fuzz")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    from fuzz_targets import TARGETS

    if asked.child:
        return child(asked, asked.targets[0])
    unknown = sorted(set(asked.targets) - TARGETS.keys())
    if unknown:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    if asked.engine == "auto":
        asked.engine = "atheris" if _has("atheris") else "mutation"
    rows = [fuzz(asked, name) for name in asked.targets or TARGETS if TARGETS[name].there]
    print("| target | seconds | executions | findings |\n| --- | --- | --- | --- |")
    for row in rows:
        print(f"| {row['target']} | {row['seconds']:.0f} | {row['executions']} | {len(row['findings'])} |")
    return int(any(row["findings"] for row in rows))


def _has(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None


def fuzz(asked: argparse.Namespace, name: str) -> dict:
    """Run one target in processes of its own until its time is up: a crash ends a process, not the fuzzing."""
    out = asked.out / name
    out.mkdir(parents=True, exist_ok=True)
    began, executions, tries = time.monotonic(), 0, 0
    while (left := asked.seconds - (time.monotonic() - began)) > 1 and tries < 50:
        words = [name, "--child", "--seconds", str(int(left)), "--engine", asked.engine]
        words += ["--out", str(asked.out), "--seed", str(asked.seed + tries)]
        (out / "count").unlink(missing_ok=True)
        before = set(out.iterdir())
        with (out / "log").open("wb") as log:
            done = subprocess.run([sys.executable, __file__, *words], stdout=log, stderr=log)
        executions += int((out / "count").read_text()) if (out / "count").exists() else 0
        made = [p for p in out.iterdir() if p not in before and p.name.startswith(("crash-", "timeout-", "oom-"))]
        if done.returncode and not made:
            (out / f"died-{done.returncode}-{tries}.log").write_bytes((out / "log").read_bytes()[-20000:])
        tries += 1
        if not done.returncode:
            break
    kept = sorted(p.name for p in out.iterdir() if p.name.startswith(("error-", "crash-", "timeout-", "oom-", "died-")))
    row = {"target": name, "engine": asked.engine, "seconds": time.monotonic() - began, "executions": executions}
    row["findings"] = kept
    with (asked.out / "results.jsonl").open("a") as file:
        print(json.dumps(row), file=file)
    print(json.dumps(row), flush=True)
    return row


def child(asked: argparse.Namespace, name: str) -> int:
    """One process: read, mutate, read, until the time is up."""
    import atexit

    import fuzz_targets

    target, out = fuzz_targets.TARGETS[name], asked.out / name
    engine = __import__("atheris") if asked.engine == "atheris" else None
    if engine:
        for module in ("torch", "numpy", "scipy.ndimage"):
            __import__(module)
        with engine.instrument_imports(include=list(target.packages)):
            _import(target.packages)
    folder = Path(tempfile.mkdtemp(prefix="gen-fuzz-", dir=fuzz_targets.scratch()))
    atexit.register(_sweep, folder)
    state = {"n": 0, "kinds": {}}
    for data in target.seeds():  # imports and caches before memory is bounded
        fuzz_targets.check(target, folder, data)
    room = _status("VmSize") + (MEGABYTES << 20)
    resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))

    def one(data: bytes) -> None:
        state["n"] += 1
        if state["n"] % 500 == 0:
            (out / "count").write_text(str(state["n"]))
        started = time.perf_counter()
        try:
            fuzz_targets.check(target, folder, bytes(data))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            _keep(out, state["kinds"], bytes(data), error)
        if time.perf_counter() - started > SECONDS:
            _keep(out, state["kinds"], bytes(data), TimeoutError("slow"))

    corpus = out / "corpus"
    corpus.mkdir(exist_ok=True)
    for data in [*target.seeds(), *(p.read_bytes() for p in _cases(name))]:
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    if engine:
        dictionary = out / "tokens.dict"
        quoted = ("".join(f"\\x{b:02x}" for b in token) for token in target.tokens)
        dictionary.write_text("".join(f'"{token}"\n' for token in quoted))
        resident = _status("VmRSS") >> 20
        words = [f"-max_total_time={int(asked.seconds)}", f"-timeout={int(SECONDS)}", f"-seed={asked.seed}"]
        words += [f"-rss_limit_mb={resident + MEGABYTES + 100}", f"-artifact_prefix={out}/", f"-max_len={LONGEST}"]
        words += [f"-dict={dictionary}"] * bool(target.tokens) + ["-print_final_stats=1", str(corpus)]
        atexit.register(lambda: (out / "count").write_text(str(state["n"])))
        engine.Setup([sys.argv[0], *words], one)
        engine.Fuzz()
        return 0
    rng, end = random.Random(asked.seed), time.monotonic() + asked.seconds
    whole = [p.read_bytes() for p in sorted(corpus.iterdir())]
    while time.monotonic() < end:
        one(mutate(rng, rng.choice(whole), whole, target.tokens))
    (out / "count").write_text(str(state["n"]))
    return 0


def mutate(rng: random.Random, data: bytes, whole: list[bytes], tokens: tuple[bytes, ...]) -> bytes:
    """One to eight changes: bits, bytes, numbers at their limits, cuts, copies, tokens, parts of another file."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(made) + 1)
        match rng.randrange(8):
            case 0 if made:
                made[at % len(made)] ^= 1 << rng.randrange(8)
            case 1 if made:
                made[at % len(made)] = rng.randrange(256)
            case 2:
                del made[at : at + rng.randint(1, 32)]
            case 3:
                made[at:at] = rng.randbytes(rng.randint(1, 8))
            case 4:
                value = rng.choice(
                    (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, rng.getrandbits(32))
                )
                made[at : at + 4] = value.to_bytes(4, rng.choice(("little", "big")))
            case 5 if tokens:
                made[at:at] = rng.choice(tokens)
            case 6:
                other, start = rng.choice(whole), 0
                start = rng.randrange(len(other) + 1)
                made[at:at] = other[start : start + rng.randint(1, 64)]
            case 7:
                del made[at:]
    return bytes(made[:LONGEST])


def _import(packages: tuple[str, ...]) -> None:
    """Import every module of the packages, so that all are instrumented."""
    import importlib
    import pkgutil

    for name in packages:
        try:
            package = importlib.import_module(name)
        except ImportError:
            continue
        if name.startswith("gen_"):
            for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
                try:
                    importlib.import_module(f"{name}.{module.name}")
                except ImportError:
                    continue


def _keep(out: Path, kinds: dict[str, int], data: bytes, error: BaseException) -> None:
    """Write a finding under the error and the place it came from; of one kind only the first few."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "fuzz" not in Path(f.filename).parts]
    ours = [f for f in frames if "/gen_" in f.filename]
    place = "-".join(f"{Path(f.filename).stem}.{f.lineno}" for f in [*ours[-1:], *frames[-1:]]) or "none"
    kind = f"error-{type(error).__name__}-{place}"
    kinds[kind] = kinds.get(kind, 0) + 1
    existing = len(list(out.glob(f"{kind}-*.bin")))
    if existing >= SEEN_A_FINDING:
        return
    digest = hashlib.sha256(data).hexdigest()[:12]
    (out / f"{kind}-{digest}.bin").write_bytes(data)
    (out / f"{kind}-{digest}.txt").write_text("".join(traceback.format_exception(error)))


def _cases(name: str) -> list[Path]:
    folder = Path(__file__).parent / "cases" / name
    return sorted(p for p in folder.iterdir()) if folder.is_dir() else []


def _status(key: str) -> int:
    """Bytes of this process, from /proc."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) << 10
    raise OSError(f"no {key} in /proc/self/status")


def _sweep(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
