"""Processes that are killed, starved and crowded, and what they leave."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import mmap
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from umlip_latents.resources import InputError

CHANGES = ("rename", "mkdir", "remove", "rmdir", "link", "symlink", "chmod", "truncate")
EVENTS = ("open", *(f"os.{name}" for name in CHANGES))
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
TRACEBACK = 99  # status of a command that ends with anything but its own error
NOBODY = 65534
SET_PIPE_SIZE = 1031  # of fcntl(2)
NEW_MOUNTS = 0x00020000  # of unshare(2)

State = dict[str, str]


class Scenario(NamedTuple):
    """A command that writes into a folder.

    Attributes
    ----------
    run
        The command, given the folder.
    timed
        How often it is killed at a random moment.
    most
        At how many file events it is killed at most, drawn at random.
    state
        What is in a folder that must be there again, by name.
    imports
        Modules that it imports when it needs them.
    """

    run: Callable[[Path], Any]
    timed: int
    state: Callable[[Path], State]
    imports: tuple[str, ...] = ()
    most: int = sys.maxsize


class Kill:
    """Audit hook that counts the file events below a folder and dies at one of them.

    Parameters
    ----------
    folder
        Events elsewhere do not count.
    count
        Shared memory, for the number of events so far.
    fatal
        Number of the event to die at, from 1, or 0 for none.
    after
        Whether the event takes place, and what would be written next does not.
    """

    def __init__(self, folder: Path, count: mmap.mmap, fatal: int, after: bool) -> None:
        self.folder, self.count, self.fatal, self.after = str(folder), count, fatal, after
        self.lock, self.acting = threading.Lock(), False

    def __call__(self, event: str, args: tuple) -> None:
        if event not in EVENTS or self.acting or not self.concerns(event, args):
            return
        with self.lock:
            number = int.from_bytes(self.count[:8], "little") + 1
            self.count[:8] = number.to_bytes(8, "little")
            if number == self.fatal:
                if self.after:
                    self.acting = True
                    with contextlib.suppress(OSError):  # it would have failed anyway
                        perform(event, args)
                os.kill(os.getpid(), signal.SIGKILL)

    def concerns(self, event: str, args: tuple) -> bool:
        """Whether an event writes below the folder."""
        if event == "open" and not args[2] & WRITING:
            return False
        path = args[1] if event in ("os.symlink", "os.link") else args[0]
        if isinstance(path, int):
            return False
        descriptors = [a for a in args[1:] if isinstance(a, int) and a > 2 and event != "open"]
        base = Path.cwd()
        if descriptors and event in ("os.remove", "os.rmdir"):
            base = Path(os.readlink(f"/proc/self/fd/{descriptors[0]}"))
        return str(base / os.fsdecode(path)).startswith(self.folder)


def perform(event: str, args: tuple) -> None:
    """Let an event take place."""
    if event == "open":
        os.open(args[0], args[2], 0o666)
        return
    name = event.removeprefix("os.")
    keys = {"rename": 2, "link": 2, "symlink": 2, "truncate": 2, "mkdir": 2, "chmod": 2}
    given, rest = args[: keys.get(name, 1)], args[keys.get(name, 1) :]
    names = ("src_dir_fd", "dst_dir_fd") if name in ("rename", "link") else ("dir_fd",)
    told = {k: v for k, v in zip(names, rest, strict=False) if v != -1}
    getattr(os, name)(*given, **told)


def forked(work: Callable[[], Any], log: Path, gate: tuple[int, int] | None = None) -> int:
    """Start a process that does some work; its number.

    It ends with 0, with 1 after an `InputError`, and with `TRACEBACK` after any other exception;
    the log has its last words. With a gate, the two ends of a pipe, it starts when that is closed.
    """
    pid = os.fork()
    if pid:
        return pid
    status = TRACEBACK
    try:
        with open(log, "w") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        if gate:
            os.close(gate[1])
            os.read(gate[0], 1)
        status = work() or 0
    except InputError as error:
        print(error, file=sys.stderr)
        status = 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def limited(size: int, output: int) -> None:
    """Let no file grow beyond a size; what is printed goes to a pipe."""
    for stream in (1, 2):
        os.dup2(output, stream)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, -1))


def status_of(pid: int) -> int:
    """How a process ended; the negative number of a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def contents(folder: Path) -> State:
    """SHA-256 of every file; of a zip archive, those of its members."""
    return {
        str(path.relative_to(folder)): digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def digest(path: Path) -> str:
    """SHA-256 of what is in a file."""
    if path.suffix == ".npz" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            data = b"".join(archive.read(name) for name in sorted(archive.namelist()))
    else:
        data = path.read_bytes()
    return hashlib.sha256(data).hexdigest()


def names(folder: Path) -> State:
    """The files alone, where their content tells when it was written."""
    return {name: "" for name in contents(folder) if not name.endswith((".pyc", ".log", ".lock"))}


class Trials:
    """All that is done to one scenario, in a folder of its own."""

    def __init__(self, name: str, scenario: Scenario, root: Path) -> None:
        self.name, self.scenario = name, scenario
        self.folder, self.log = root / "out", root / "log"
        self.found: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.expected: State = {}
        self.events, self.seconds = 0, 0.0

    def fresh(self) -> Path:
        """The folder, empty."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        return self.folder

    def run(self, before: Callable[[], Any] = lambda: None) -> int:
        """Start the command in the folder, in the state in which it is."""

        def work() -> Any:
            os.environ["TMPDIR"] = tempfile.tempdir = str(self.folder.parent / "tmp")
            before()
            return self.scenario.run(self.folder)

        return forked(work, self.log)

    def counted(self, fatal: int = 0, after: bool = False) -> tuple[int, int]:
        """Status and number of file events of a run that may be killed at one of them."""
        count = mmap.mmap(-1, 8)
        hook = Kill(self.folder.parent, count, fatal, after)
        status = status_of(self.run(lambda: sys.addaudithook(hook)))
        return status, int.from_bytes(count[:8], "little")

    def unbroken(self) -> None:
        """Learn what a run leaves and how long it takes; a repeated one leaves the same."""
        self.fresh()
        start = time.monotonic()
        status, self.events = self.counted()
        self.seconds = time.monotonic() - start
        self.expected = self.scenario.state(self.folder)
        assert status == 0, self.log.read_text()
        assert self.expected, f"{self.name} leaves nothing"
        self.judge("repeated")

    def judge(self, how: str) -> None:
        """Run the command to its end and compare what is there with what should be."""
        self.found[how] += 1
        for path in self.folder.rglob("*"):  # what is old is swept
            os.utime(path, (0, 0), follow_symlinks=False)
        status = status_of(self.run())
        if status:
            self.note("refused" if status == 1 else "tracebacks", how)
            if status_of(self.run()):
                self.note("refused for ever", how)
                return
        found = self.scenario.state(self.folder)
        wrong = [n for n, value in self.expected.items() if found.get(n) != value]
        if wrong:
            self.note("corrupt", f"{how}: {', '.join(wrong[:3])}")
        if left := sorted(found.keys() - self.expected.keys()):
            self.note("leftovers", f"{how}: {', '.join(left[:3])}")

    def note(self, what: str, how: str) -> None:
        """Count what went wrong, and keep the first of its kind."""
        self.found[what] += 1
        words = self.log.read_text().strip().splitlines()
        self.examples.setdefault(what, f"{how} ({words[-1][:150] if words else ''})")

    def kill_at_events(self, numbers: Iterable[int]) -> None:
        """Die right before each of these events, and right after it."""
        for number in numbers:
            for after in (False, True):
                self.fresh()
                status, _ = self.counted(number, after)
                if status == -signal.SIGKILL:
                    self.judge(f"killed {'after' if after else 'before'} an event")
                else:
                    self.found["events that did not come"] += 1

    def kill_at_moments(self, count: int, rng: random.Random) -> None:
        """Die at random moments of a run."""
        for _ in range(count):
            self.fresh()
            pid = self.run()
            time.sleep(rng.uniform(0, self.seconds))
            os.kill(pid, signal.SIGKILL)
            status_of(pid)
            self.judge("killed at a moment")

    def no_room(self, limits: Iterable[int]) -> None:
        """No file may become larger than a limit, as on a full disk."""
        for limit in limits:
            self.fresh()
            words, written = os.pipe()  # the log is a file, too
            fcntl.fcntl(written, SET_PIPE_SIZE, 1 << 20)
            pid = self.run(partial(limited, limit, written))
            os.close(written)
            status = status_of(pid)
            with open(words, "rb") as stream:
                self.log.write_bytes(stream.read())
            if status not in (0, 1):
                self.note("tracebacks", f"files of {limit} bytes")
            self.judge("without room")

    def full_disk(self, sizes: Iterable[int]) -> None:
        """The folder is a disk of so many bytes, which then grows."""
        for size in sizes:
            self.fresh()
            pid = forked(partial(self.on_small_disk, size), self.log)
            self.found["full disks"] += 1
            if status := status_of(pid):
                self.note("corrupt" if status == 2 else "tracebacks", f"a disk of {size} bytes")

    def on_small_disk(self, size: int) -> int:
        """Run twice on a disk of one's own, which the end of the process takes away."""
        ctypes.CDLL(None).unshare(NEW_MOUNTS)
        for command in (["mount", "--make-rprivate", "/"],
                        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none"]):  # fmt: skip
            place = [] if command[-1] == "/" else [str(self.folder)]
            subprocess.run([*command, *place], check=True)
        inner = self.log.with_name("inner")
        first = status_of(forked(lambda: self.scenario.run(self.folder), inner))
        subprocess.run(["mount", "-o", "remount,size=64M", str(self.folder)], check=True)
        second = status_of(forked(lambda: self.scenario.run(self.folder), inner))
        print(inner.read_text())
        if first not in (0, 1) or second:
            return 3
        found = self.scenario.state(self.folder)
        return 0 if {n: found.get(n) for n in self.expected} == self.expected else 2

    def read_only(self) -> None:
        """A whole folder that cannot be written to is read, an empty one refused."""
        self.found["read-only"] += 2
        self.fresh()
        assert status_of(self.run()) == 0
        kept = contents(self.folder)
        subprocess.run(["chmod", "-R", "a-w", self.folder], check=True)

        def as_nobody() -> None:
            if os.geteuid() == 0:  # whom no mode stops
                os.setgid(NOBODY)
                os.setuid(NOBODY)

        if status_of(self.run(as_nobody)) not in (0, 1) or contents(self.folder) != kept:
            self.note("tracebacks", "a whole folder that is read-only")
        subprocess.run(["chmod", "-R", "u+w", self.folder], check=True)
        self.fresh().chmod(0o555)
        if status_of(self.run(as_nobody)) != 1 or contents(self.folder):
            self.note("tracebacks", "an empty folder that is read-only")
        self.folder.chmod(0o755)

    def together(self, sizes: Iterable[int]) -> None:
        """So many processes at once in one folder, time after time, each with its own file."""
        for size in sizes:
            out, gate = self.fresh(), os.pipe()
            logs = [self.log.with_name(f"log-{i}") for i in range(size)]
            works = (partial(self.scenario.run, out, number) for number in range(size))
            pids = [forked(work, log, gate) for work, log in zip(works, logs, strict=True)]
            for descriptor in gate:
                os.close(descriptor)
            self.found["simultaneous starts"] += size
            for number, (pid, log) in enumerate(zip(pids, logs, strict=True)):
                if status_of(pid):
                    shutil.copy(log, self.log)
                    self.note("failed starts", f"one of {size}")
                elif digest(out / f"{number}.npz") != self.expected["0.npz"]:
                    self.note("corrupt", f"one of {size}")
                (out / f"{number}.npz").unlink(missing_ok=True)
            self.judge("together")

    def passed(self) -> bool:
        """Print what was found; whether nothing went wrong."""
        bad = ("corrupt", "refused", "refused for ever", "tracebacks", "failed starts", "leftovers")
        counts = {"file events": self.events, **{k: v for k, v in self.found.items() if v}}
        counts |= {what: self.found[what] for what in bad}
        print(f"{self.name}: {', '.join(f'{v} {k}' for k, v in counts.items())}", flush=True)
        for what, example in self.examples.items():
            print(f"    {what}: {example}", flush=True)
        return not any(self.found[what] for what in bad)
