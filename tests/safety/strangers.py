"""Strangers' plugins as installed distributions: a folder of `.dist-info` with entry points, as pip leaves it."""

from __future__ import annotations

from pathlib import Path

HEAD = """
import os, sys, time, signal, threading
from pathlib import Path
import attrs
from gen_core.hooks import hookimpl

Path(__file__).with_suffix(".loaded").open("a").write(f"{os.getpid()}\\n")


@attrs.frozen
class Options:
    size: int = 3


def build(options, context):
    return options


def offer(kind, name, **changed):
    strings = dict(options=f"{__name__}:Options", build=f"{__name__}:build", version=1, summary="S.")
    function = lambda register: register(name, **{**strings, **changed})
    function.__name__ = f"register_{kind}s"
    return hookimpl(function)

"""

# distribution's short name -> what its module does when it is loaded
HOSTILE = {
    "raises": 'raise RuntimeError("no licence")',
    "exits": "sys.exit(0)",
    "leaves": "os._exit(0)",
    "crashes": "os.kill(os.getpid(), signal.SIGSEGV)",
    "hangs": "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True:\n    time.sleep(1)",
    "lingers": "os.system('sleep 4321 &')\nregister_codecs = offer('codec', 'lingering')",
    "talks": (
        'print("hello from python")\nos.write(1, b"hello from C\\n")\nos.system("echo hello from a shell >&2")\n'
        "register_codecs = offer('codec', 'talking')"
    ),
    "floods": "for _ in range(64):\n    os.write(1, b'x' * 2**20)\nregister_codecs = offer('codec', 'flooding')",
    "shadows": "register_codecs = offer('codec', 'vqgan')",
    "elsewhere": "GEN_API = 99\nregister_codecs = offer('codec', 'elsewhere')",
    "not-strings": "register_codecs = offer('codec', 'odd', options=Options)",
    "bad-options": "class Plain: ...\nregister_codecs = offer('codec', 'plain', options=f'{__name__}:Plain')",
    "no-build": "register_codecs = offer('codec', 'homeless', build='nowhere_at_all.codec:build')",
    "no-hook": "def register_codec(register): ...",
    "changes": (
        "os.chdir('/')\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.environ['OMP_NUM_THREADS'] = '99'\n"
        "threading.Thread(target=time.sleep, args=(300,)).start()\nregister_codecs = offer('codec', 'changing')"
    ),
    "greedy": "hoard = bytearray(6 * 2**30)\nregister_codecs = offer('codec', 'greedy')",
    "good": "register_codecs = offer('codec', 'good')",
}


def install(site: Path, name: str, code: str, head: str = HEAD) -> str:
    """Put distribution `gen-<name>` with one entry point into `site`; returns the distribution's name."""
    module = f"gen_{name.replace('-', '_')}"
    (site / f"{module}.py").write_text(head + code + "\n")
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: gen-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[gen.plugins]\n{name} = {module}\n")
    return f"gen-{name}"


def loaded_by(site: Path) -> dict[str, set[int]]:
    """Distribution's short name -> the processes that have imported its module."""
    return {
        path.stem.removeprefix("gen_").replace("_", "-"): set(map(int, path.read_text().split()))
        for path in site.glob("*.loaded")
    }
