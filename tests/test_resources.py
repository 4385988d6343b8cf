"""The one door to the network, and files that are written whole or not at all."""

import hashlib
import os
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from umlip_latents import book, resources
from umlip_latents.features import save_npz
from umlip_latents.resources import (
    OFFLINE,
    InputError,
    fetch,
    readable,
    sha256,
    unknown,
    write_whole,
    written_whole,
)

CONTENT = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for variable in ("UMLIP_LATENTS_DATA", OFFLINE):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "umlip-latents"


class Handler(BaseHTTPRequestHandler):
    """Answers as the first word of the path says."""

    def do_GET(self):
        self.server.asked.append(self.path)
        way = self.server.way or self.path.strip("/")
        if way == "elsewhere":
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/good")
            self.end_headers()
            return
        self.send_response(404 if way == "missing" else 200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        body = CONTENT[::-1] if way == "other" else CONTENT
        if way in ("cut", "stuck"):
            body = body[:100_000]
        for start in range(0, len(body), 1 << 18):
            self.wfile.write(body[start : start + (1 << 18)])
            time.sleep(0.05 if way == "slow" else 0)
        if way == "stuck":
            self.server.released.wait(10)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server on this machine, taken for a secure one."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked, running.way, running.released = [], "", threading.Event()
        running.url = f"http://127.0.0.1:{running.server_port}"
        monkeypatch.setattr(resources, "SECURE", "http://127.0.0.1")
        monkeypatch.setattr(resources, "TIMEOUTS", (2, 0.5))
        thread = threading.Thread(target=partial(running.serve_forever, poll_interval=0.01))
        thread.start()
        yield running
        running.released.set()
        running.shutdown()
        thread.join()


def test_a_file_is_downloaded_once(cache, server):
    for _ in range(2):
        assert fetch("weights.bin", f"{server.url}/good", DIGEST).read_bytes() == CONTENT
    assert server.asked == ["/good"]
    assert [p.name for p in cache.iterdir()] == ["weights.bin"]


def test_a_copy_at_hand_comes_first(tmp_path, monkeypatch, server):
    (tmp_path / "weights.bin").write_bytes(CONTENT)
    monkeypatch.setenv("UMLIP_LATENTS_DATA", str(tmp_path))
    assert fetch("weights.bin", f"{server.url}/good", DIGEST) == tmp_path / "weights.bin"
    assert not server.asked


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("cut", "weights.bin: cannot be downloaded from "),
        ("stuck", "weights.bin: cannot be downloaded from .*timed out"),
        ("missing", "weights.bin: cannot be downloaded from .*404"),
        ("other", f"weights.bin.*: SHA-256 is .* the registry expects {DIGEST}"),
        ("elsewhere", "weights.bin: .* leads to http://localhost.*not https"),
    ],
)
def test_after_a_download_that_fails_the_same_call_ends_well(cache, server, way, message):
    url = f"{server.url}/file"
    server.way = way
    with pytest.raises(InputError, match=message):
        fetch("weights.bin", url, DIGEST)
    assert server.asked == ["/file"]
    assert not list(cache.iterdir())
    server.way = "slow"
    assert fetch("weights.bin", url, DIGEST).read_bytes() == CONTENT
    assert [p.name for p in cache.iterdir()] == ["weights.bin"]


def test_a_server_that_is_gone_is_named(cache, monkeypatch):
    monkeypatch.setattr(resources, "SECURE", "http://127.0.0.1")
    with pytest.raises(InputError, match=r"weights\.bin: cannot be downloaded from http://127"):
        fetch("weights.bin", "http://127.0.0.1:9/weights.bin", DIGEST)
    assert not list(cache.iterdir())


def test_only_https_is_asked(server, monkeypatch):
    monkeypatch.setattr(resources, "SECURE", "https://")
    with pytest.raises(InputError, match="not https"):
        fetch("weights.bin", f"{server.url}/good", DIGEST)
    assert not server.asked


def test_told_so_it_asks_for_nothing_but_takes_what_is_there(cache, monkeypatch, server):
    monkeypatch.setenv(OFFLINE, "1")
    with pytest.raises(InputError, match=r"weights\.bin: is not at hand"):
        fetch("weights.bin", f"{server.url}/good", DIGEST)
    cache.mkdir(exist_ok=True)
    (cache / "weights.bin").write_bytes(CONTENT)
    assert fetch("weights.bin", f"{server.url}/good", DIGEST) == cache / "weights.bin"
    assert not server.asked


def test_a_cache_that_cannot_be_made_is_named(tmp_path, monkeypatch, server):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="file/umlip-latents: the folder cannot be made"):
        fetch("weights.bin", f"{server.url}/good", DIGEST)


def test_the_first_copy_that_is_trusted_is_written_down_and_through_no_link(
    tmp_path, cache, server
):
    cache.mkdir()
    (tmp_path / "mine").write_text("mine")
    (cache / "weights.bin.sha256").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="is a folder, a link or a device"):
        fetch("weights.bin", f"{server.url}/good", trust=True)
    assert not (tmp_path / "gone").exists()
    (cache / "weights.bin.sha256").unlink()
    fetch("weights.bin", f"{server.url}/good", trust=True)
    assert (cache / "weights.bin.sha256").read_text().strip() == DIGEST
    (cache / "weights.bin.sha256").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"the first copy had, as .*sha256 says"):
        fetch("weights.bin", f"{server.url}/good")


def test_a_build_makes_one_attempt_at_the_checkpoints(monkeypatch, server):
    """Where the first download fails no other one is tried, and what is at hand is found."""
    file = {"file": "weights.bin", "url": f"{server.url}/a", "sha256": DIGEST}
    further = {"file": "more.bin", "url": f"{server.url}/b", "sha256": DIGEST}
    models = {"a": file | {"arguments": further}, "b": {"file": "own.bin", "sha256": DIGEST}}
    monkeypatch.setattr(book, "registry", lambda _: models)
    monkeypatch.setenv(OFFLINE, "")
    book.fetch_checkpoints()
    book.fetch_checkpoints()
    assert server.asked == ["/a", "/b"]
    for name in ("weights.bin", "more.bin"):
        (resources.cache_folder() / name).unlink()
    server.asked.clear()
    server.way = "cut"
    book.fetch_checkpoints()
    assert server.asked == ["/a"]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def stopped_by(error):
        with written_whole(path) as temporary:
            temporary.write_text("half")
            raise error

    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error):
            stopped_by(error)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_a_new_file_has_the_rights_of_any_other(tmp_path):
    (tmp_path / "touched").touch()
    with written_whole(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "touched").stat().st_mode


@pytest.mark.parametrize("content", ["naïve\n", b"\0\xff"])
def test_a_file_holds_what_was_written(tmp_path, content):
    write_whole(tmp_path / "a", content)
    held = (tmp_path / "a").read_bytes()
    assert held == (content if isinstance(content, bytes) else "naïve\n".encode())


def test_nothing_is_written_through_a_planted_link(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    monkeypatch.setattr(resources.secrets, "token_hex", lambda _: "0")
    (tmp_path / ".a.txt.0.part").symlink_to(victim)
    with (
        pytest.raises(InputError, match=r"cannot be written .File exists"),
        written_whole(tmp_path / "a.txt") as temporary,
    ):
        temporary.write_text("not mine")
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("kind", ["folder", "link", "broken link", "loop", "pipe", "device"])
def test_only_a_file_is_replaced(tmp_path, kind):
    path = tmp_path / "a.txt"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/null")
    else:
        (tmp_path / "target").write_text("mine")
        path.symlink_to({"link": "target", "loop": "a.txt"}.get(kind, "gone"))
    before = path.lstat()
    with pytest.raises(InputError, match="is a folder, a link or a device"), written_whole(path):
        pytest.fail("written")
    assert path.lstat().st_ino == before.st_ino


def test_what_a_killed_process_left_is_swept_and_what_another_writes_is_not(tmp_path):
    left, young, others = (tmp_path / f".{n}.part" for n in ("a[1].txt.0", "a[1].txt.1", "b.txt.0"))
    for file in (left, young, others):
        file.touch()
    for file in (left, others):
        os.utime(file, (0, 0))
    with written_whole(tmp_path / "a[1].txt") as temporary:
        temporary.write_text("new")
    assert sorted(p.name for p in tmp_path.iterdir()) == [young.name, others.name, "a[1].txt"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, small_files):
    table = np.random.default_rng(0).random(100_000)
    with small_files(10_000), pytest.raises(InputError, match=r"written \(File too large\)\.$"):
        save_npz(tmp_path / "a.npz", x=table)
    assert not list(tmp_path.iterdir())


def test_the_digest_is_that_of_the_whole_file(tmp_path):
    (tmp_path / "big").write_bytes(CONTENT * 3)
    assert sha256(tmp_path / "big") == hashlib.sha256(CONTENT * 3).hexdigest()


def test_only_a_file_with_something_in_it_is_read(tmp_path):
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("empty", "pipe", "loop", "gone", ".", "x" * 300):
        with pytest.raises(InputError):
            readable(tmp_path / name)
    with pytest.raises(InputError, match="/proc/self/environ: is not a file, or an empty one"):
        readable(Path("/proc/self/environ"))
    assert readable(Path(__file__)) == Path(__file__)


def test_the_nearest_names_are_offered_and_never_all_of_many():
    names = [f"model-{n}" for n in range(100)]
    assert "(model-77, " in str(unknown("model-777", "model", names))
    for name in ("", "x" * 10_000, "zzz"):
        assert len(str(unknown(name, "model", names))) < 100 + len(name)
    assert str(unknown("zzz", "way", ["atom", "group"])) == "zzz: no such way (atom, group)."
