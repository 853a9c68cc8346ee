"""What a file makes the HDF5 library do stays in its process: no end, crashes, memory; parents, forks, workers."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from gen_core.errors import DataError, MissingError
from gen_hyperspectral.containers.hdf5 import library as hdf5_library
from gen_hyperspectral.containers.hdf5.library import library
from gen_hyperspectral.containers.hdf5.reader import build
from gen_hyperspectral.containers.mat.reader import build as build_mat
from gen_hyperspectral.reader_options import Hdf5Reader, MatReader

CASES = Path(__file__).parents[4] / "fuzz" / "cases"
ENDLESS, CRASHING = CASES / "hdf5" / "scales-without-end", CASES / "mat-7.3" / "a-crash-in-the-library"
READER = build(Hdf5Reader())
FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # of Python 3.12 and later


@pytest.fixture
def cube():
    return np.random.default_rng(0).integers(0, 60000, (13, 17, 5)).astype(np.uint16)


@pytest.fixture
def sound(cube, tmp_path):
    with h5py.File(tmp_path / "sound.h5", "w") as file:
        file.create_dataset("cube", data=cube, chunks=(5, 6, 2), compression="gzip")
    return tmp_path / "sound.h5"


@pytest.fixture
def endless(tmp_path):
    """A file over which the library of our day goes round for ever; a later one may refuse or read it."""
    (tmp_path / "endless.h5").write_bytes(ENDLESS.read_bytes())
    return tmp_path / "endless.h5"


def read(path):
    return np.asarray(READER.open(path).array)


def pid():
    assert library._child is not None
    return library._child.process.pid


def gone(process, seconds=15.0):
    """Whether a process ends in time; a zombie has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if ") Z " in Path(f"/proc/{process}/stat").read_text():
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_a_file_without_end_is_told_and_the_next_one_is_read(endless, sound, cube, monkeypatch, capfd):
    monkeypatch.setattr(hdf5_library, "SECONDS", 1.0)
    with pytest.raises(
        DataError, match=r"endless\.h5: the HDF5 library did not come to an end with it in 1 s: damaged"
    ):
        read(endless)
    assert library._child is None
    assert np.array_equal(read(sound), cube)
    assert capfd.readouterr() == ("", "")


def test_a_crash_is_told_and_the_next_file_is_read(sound, cube, tmp_path, capfd):
    (tmp_path / "crash.mat").write_bytes(CRASHING.read_bytes())
    assert np.array_equal(read(sound), cube)
    with pytest.raises(DataError, match=r"crash\.mat: the HDF5 library was ended by SIGSEGV over it: damaged"):
        np.asarray(build_mat(MatReader()).open(tmp_path / "crash.mat", guess=True).array)
    assert np.array_equal(read(sound), cube)
    assert capfd.readouterr() == ("", "")


def test_a_child_that_died_unasked_is_no_fault_of_the_next_file(sound, cube):
    read(sound)
    before = pid()
    os.kill(before, signal.SIGKILL)
    assert gone(before)
    assert np.array_equal(read(sound), cube) and pid() != before


def test_a_crash_behind_another_file_is_tried_again_before_the_file_is_blamed(sound, cube, tmp_path, monkeypatch):
    read(sound)
    (tmp_path / "next.h5").write_bytes(sound.read_bytes())
    before = pid()
    answer, asked = hdf5_library._Child.answer, []

    def crash_at_first(self, request):
        if not asked:
            os.kill(before, signal.SIGSEGV)
        asked.append(self.process.pid)
        return answer(self, request)

    monkeypatch.setattr(hdf5_library._Child, "answer", crash_at_first)
    assert np.array_equal(read(tmp_path / "next.h5"), cube)
    assert asked[0] == before and before not in asked[1:]


def test_a_child_that_had_just_gone_for_want_of_questions_is_no_fault_of_the_file(sound, cube, monkeypatch):
    read(sound)
    before, answer, asked = pid(), hdf5_library._Child.answer, []

    def go_at_first(self, request):
        asked.append(self.process.pid)
        if len(asked) == 1:
            self.process.stdin.close()
            return self.read()
        return answer(self, request)

    monkeypatch.setattr(hdf5_library._Child, "answer", go_at_first)
    assert np.array_equal(read(sound), cube)
    assert asked[0] == before and before not in asked[1:]


def test_a_child_that_sleeps_is_given_up(sound, cube, monkeypatch):
    read(sound)
    monkeypatch.setattr(hdf5_library, "DEADLINE", 0.5)
    monkeypatch.setattr(hdf5_library, "SECONDS", 0.2)
    before = pid()
    os.kill(before, signal.SIGSTOP)
    with pytest.raises(DataError, match=r"sound\.h5: the HDF5 library did not answer in 0\.5 s"):
        read(sound)
    assert gone(before)
    monkeypatch.undo()
    assert np.array_equal(read(sound), cube)


def test_memory_is_bounded_in_the_child(sound, cube, tmp_path):
    with h5py.File(tmp_path / "much.h5", "w") as file:
        file.create_dataset("x", (90_000_000,), "f8", chunks=(1000,))
    with pytest.raises(MemoryError):
        library.ask("whole", tmp_path / "much.h5", library.series(), 10.0, name="x")
    assert np.array_equal(read(sound), cube)


def test_the_library_is_in_the_child_alone(sound):
    program = f"""
        import sys
        from pathlib import Path
        import numpy as np
        from gen_hyperspectral.containers.hdf5.reader import build
        from gen_hyperspectral.reader_options import Hdf5Reader
        np.asarray(build(Hdf5Reader()).open(Path({str(sound)!r})).array)
        assert not any(name.startswith("h5py") for name in sys.modules)
        assert "libhdf5" not in Path("/proc/self/maps").read_text()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_interrupted_question_leaves_no_child_behind(endless, sound, cube):
    read(sound)
    before = pid()

    def stop(*_):
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.5)
        with pytest.raises(KeyboardInterrupt):
            read(endless)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert gone(before) and library._child is None
    assert np.array_equal(read(sound), cube)


def test_the_child_ends_with_a_parent_that_is_killed(sound):
    program = f"""
        import time
        from pathlib import Path
        from gen_hyperspectral.containers.hdf5.library import library
        from gen_hyperspectral.containers.hdf5.reader import build
        from gen_hyperspectral.reader_options import Hdf5Reader
        build(Hdf5Reader()).open(Path({str(sound)!r}))
        print(library._child.process.pid, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    ) as parent:
        child = int(parent.stdout.readline())
        assert not gone(child, 0.2)
        parent.kill()
    assert gone(child)


@FORKS
def test_a_fork_starts_its_own_child_and_leaves_the_parents_alone(sound, cube):
    assert np.array_equal(read(sound), cube)
    before = pid()
    ours, theirs = multiprocessing.Pipe()

    def work():
        forgotten = library._child is None
        theirs.send((forgotten, np.array_equal(read(sound), cube), pid()))

    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    assert ours.poll(60)
    forgotten, same, other = ours.recv()
    worker.join(60)
    assert worker.exitcode == 0 and forgotten and same and other != before
    assert gone(other), "it ended with the fork"
    assert np.array_equal(read(sound), cube) and pid() == before


@FORKS
def test_a_fork_amid_a_question_of_another_thread_can_ask(sound, cube, endless, monkeypatch):
    monkeypatch.setattr(hdf5_library, "SECONDS", 2.0)
    told = []

    def ask():
        try:
            read(endless)
        except DataError as error:
            told.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    while thread.is_alive() and not library._lock.locked():
        time.sleep(0.01)
    process = os.fork()
    if not process:
        os._exit(0 if np.array_equal(read(sound), cube) else 1)
    _, status = os.waitpid(process, 0)
    thread.join()
    assert status == 0 and len(told) == 1


@FORKS
def test_workers_of_a_loader_read(sound, cube):
    torch = pytest.importorskip("torch")

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, n):
            return torch.from_numpy(read(sound)[n].astype(np.int64))

    read(sound)  # the parent has a child already
    loader = torch.utils.data.DataLoader(Rows(), batch_size=2, num_workers=2, multiprocessing_context="fork")
    assert np.array_equal(torch.cat(list(loader)).numpy(), cube[:4])


def test_spawned_workers_read(sound, cube, tmp_path):
    program = f"""
        import multiprocessing
        from pathlib import Path
        import numpy as np
        from gen_hyperspectral.containers.hdf5.reader import build
        from gen_hyperspectral.reader_options import Hdf5Reader

        def total(path):
            return int(np.asarray(build(Hdf5Reader()).open(Path(path)).array).sum(dtype=np.int64))

        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(2) as pool:
                print(*pool.map(total, [{str(sound)!r}] * 3), total({str(sound)!r}))
    """
    (tmp_path / "spawning.py").write_text(textwrap.dedent(program))
    words = [sys.executable, str(tmp_path / "spawning.py")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [str(cube.sum(dtype=np.int64))] * 4, done.stderr


def test_threads_take_turns(tmp_path):
    cubes = [np.random.default_rng(n).integers(0, 9, (5 + n, 7, 3)).astype(np.uint8) for n in range(4)]
    for n, values in enumerate(cubes):
        with h5py.File(tmp_path / f"{n}.h5", "w") as file:
            file.create_dataset("cube", data=values, chunks=(2, 3, 3), compression="lzf" if n % 2 else "gzip")
    wrong = []

    def work(n):
        for _ in range(3):
            if not np.array_equal(read(tmp_path / f"{n}.h5"), cubes[n]):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == [] and not any(thread.is_alive() for thread in threads)


def test_without_h5py_the_extra_is_named(sound, tmp_path, monkeypatch):
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "h5py.py").write_text("raise ImportError('none')\n")
    monkeypatch.syspath_prepend(tmp_path / "without")
    library.end()
    with pytest.raises(MissingError, match=r"sound\.h5: reading it needs h5py: .*extra `hyper`"):
        read(sound)
    assert library._child is None


def test_a_file_that_was_read_can_be_written_again(sound, cube):
    """The child keeps a file open for a moment, but not locked; and reads the new one when it is asked anew."""
    for n in range(3):
        with h5py.File(sound, "w") as file:
            file.create_dataset("cube", data=cube + n, chunks=(5, 6, 2), compression="lzf")
        assert np.array_equal(read(sound), cube + n)
