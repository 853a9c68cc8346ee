"""Fuzz the readers: every error that is none of ours, every 10 s and every 400 MB is a finding.

    python tests/fuzz/run.py                          all targets, ten minutes each
    python tests/fuzz/run.py --seconds 60 nifti mat   two of them, a minute each
    python tests/fuzz/run.py --background             all, behind the terminal; --out/queue.log, --out/results.jsonl

A line of JSON is written after every process, which lives five minutes at most: target, seconds, executions,
findings. The same command again goes on where the lines end (--afresh: from the start, findings kept).
Coverage-guided by atheris (extra `fuzz`) where it is installed, else by plain mutation of the seeds. Findings are
written to --out/TARGET/ with the error in their name; one that was mended goes to tests/fuzz/cases/TARGET/, where
test_fuzz_cases.py reads it for ever. Ends with a table, and with 1 where anything was found.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import random
import resource
import signal
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
SLICE = 300.0  # seconds of one process: what a kill of the queue can cost
OWN = 0.7  # share of mutations in the terms of the format, where a target has such
SUMMARY, LAST = "results.jsonl", "last.bin"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=float, default=600.0, help="of each target")
    parser.add_argument("--engine", choices=("auto", "atheris", "mutation"), default="auto")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "gen-fuzz")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--background", action="store_true", help="go on without the terminal")
    parser.add_argument("--afresh", action="store_true", help="forget what has run, not what was found")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    from fuzz_targets import TARGETS

    if asked.child:
        return child(asked, asked.targets[0])
    unknown = sorted(set(asked.targets) - TARGETS.keys())
    if unknown:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.background:
        return _background(asked.out)
    held = (asked.out / "queue.lock").open("w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print(f"a queue is running in {asked.out}: choose another --out", file=sys.stderr)
        return 2
    if asked.afresh:
        (asked.out / SUMMARY).unlink(missing_ok=True)
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


def _background(out: Path) -> int:
    """The same command in a session of its own."""
    words = [word for word in sys.argv[1:] if word != "--background"]
    with (out / "queue.log").open("ab") as log:
        started = subprocess.Popen(
            [sys.executable, __file__, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    print(f"process {started.pid}; {out / SUMMARY} grows; kill -TERM -{started.pid} ends it")
    return 0


def done_before(summary: Path, name: str) -> tuple[float, int, int]:
    """Seconds, executions and processes of a target so far. A line cut off by a kill counts as none."""
    seconds, executions, processes = 0.0, 0, 0
    for line in summary.read_text().splitlines() if summary.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["target"] == name:
            seconds, executions, processes = seconds + row["seconds"], executions + row["executions"], processes + 1
    return seconds, executions, processes


def fuzz(asked: argparse.Namespace, name: str) -> dict:
    """Run one target in processes of its own until its time is up: a crash ends a process, not the fuzzing."""
    from fuzz_targets import scratch

    out, summary = asked.out / name, asked.out / SUMMARY
    out.mkdir(parents=True, exist_ok=True)
    seconds, executions, tries = done_before(summary, name)
    died = 0
    while (left := asked.seconds - seconds) > 1 and died < 50:
        began, count = time.monotonic(), 0
        folder = Path(tempfile.mkdtemp(prefix="gen-fuzz-", dir=scratch()))
        words = [name, "--child", "--seconds", str(int(min(left, SLICE)) or 1), "--engine", asked.engine]
        words += ["--out", str(asked.out), "--seed", str(asked.seed + tries), "--folder", str(folder)]
        (out / "count").unlink(missing_ok=True)
        before = set(out.iterdir())
        with (out / "log").open("wb") as log:
            done = subprocess.run([sys.executable, __file__, *words], stdout=log, stderr=log)
        count = int((out / "count").read_text()) if (out / "count").exists() else 0
        made = [p for p in out.iterdir() if p not in before and p.name.startswith(("crash-", "timeout-", "oom-"))]
        if done.returncode and not made:
            (out / f"died-{done.returncode}-{tries}.log").write_bytes((out / "log").read_bytes()[-20000:])
            if (folder / LAST).exists():  # what it was reading
                (out / f"died-{done.returncode}-{tries}.bin").write_bytes((folder / LAST).read_bytes())
        _sweep(folder)
        tries, died = tries + 1, died + bool(done.returncode)
        spent = time.monotonic() - began
        seconds, executions = seconds + spent, executions + count
        row = {"target": name, "engine": asked.engine, "seconds": round(spent, 1), "executions": count}
        with summary.open("a") as file:
            print(json.dumps({**row, "findings": _findings(out)}), file=file, flush=True)
    row = {"target": name, "engine": asked.engine, "seconds": seconds, "executions": executions}
    row["findings"] = _findings(out)
    print(json.dumps(row), flush=True)
    return row


def _findings(out: Path) -> list[str]:
    """Names of what was found; logs and traces beside the files are not counted."""
    kinds = ("error-", "crash-", "timeout-", "oom-", "died-")
    return sorted(p.name for p in out.iterdir() if p.name.startswith(kinds) and p.suffix != ".txt")


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
    folder = asked.folder
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
        (folder / LAST).write_bytes(data)
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

        def change(data: bytes, most: int, seed: int) -> bytes:
            rng = random.Random(seed)
            made = target.mutate(rng, bytes(data)) if rng.random() < OWN else b""
            return made if 0 < len(made) <= most else engine.Mutate(data, most)

        own = {"custom_mutator": change} if target.mutate else {}
        engine.Setup([sys.argv[0], *words], one, **own)
        engine.Fuzz()
        return 0
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, also where a library in C goes round and round
    rng, end = random.Random(asked.seed), time.monotonic() + asked.seconds
    whole = [p.read_bytes() for p in sorted(corpus.iterdir())]
    while time.monotonic() < end:
        if target.mutate and rng.random() < OWN:
            data = target.mutate(rng, rng.choice(whole))
        else:
            data = mutate(rng, rng.choice(whole), whole, target.tokens)
        signal.alarm(2 * int(SECONDS))
        one(data)
        signal.alarm(0)
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
            for module in pkgutil.walk_packages(getattr(package, "__path__", []), f"{name}.", onerror=lambda _: None):
                try:
                    importlib.import_module(module.name)
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
