"""The one door to the network, files that are written whole or not at all, and provenance."""

import hashlib
import os
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from umlip_latents import resources
from umlip_latents.resources import (
    OFFLINE,
    InputError,
    atomic_write,
    check_writable,
    fetch,
    git_commit,
    torch_device,
    write_file,
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
    """Answers as the server is told to."""

    def do_GET(self):
        self.server.asked.append(self.path)
        way, body = self.server.way, CONTENT
        if way == "elsewhere" and self.path == "/file":
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/other")
        else:
            self.send_response(404 if way == "missing" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = {"cut": body[:100_000], "stuck": body[:100_000], "other": body[::-1]}.get(way, body)
        self.wfile.write(body)
        if way == "stuck":
            self.server.released.wait(10)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server on this machine, taken for a secure one."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked, running.way, running.released = [], "good", threading.Event()
        running.url = f"http://127.0.0.1:{running.server_port}/file"
        monkeypatch.setattr(resources, "SECURE", "http://127.0.0.1")
        monkeypatch.setattr(resources, "TIMEOUTS", (2, 0.5))
        threading.Thread(target=running.serve_forever, args=(0.01,)).start()
        yield running
        running.released.set()
        running.shutdown()


def test_a_file_is_downloaded_once_and_not_if_a_copy_is_at_hand(
    tmp_path, cache, server, monkeypatch
):
    for _ in range(2):
        assert fetch("weights.bin", server.url, DIGEST).read_bytes() == CONTENT
    assert [p.name for p in cache.iterdir()] == ["weights.bin"]
    (tmp_path / "mine.bin").write_bytes(CONTENT)
    monkeypatch.setenv("UMLIP_LATENTS_DATA", str(tmp_path))
    assert fetch("mine.bin", server.url, DIGEST) == tmp_path / "mine.bin"
    monkeypatch.setenv(OFFLINE, "1")
    assert fetch("weights.bin", server.url, DIGEST) == cache / "weights.bin"
    with pytest.raises(InputError, match=r"other\.bin: is not at hand"):
        fetch("other.bin", server.url, DIGEST)
    assert server.asked == ["/file"]


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("cut", "weights.bin: cannot be downloaded from "),
        ("stuck", "weights.bin: cannot be downloaded from .*timed out"),
        ("missing", "weights.bin: cannot be downloaded from .*404"),
        ("other", f"weights.bin: cannot be downloaded .*expected {DIGEST}"),
        ("elsewhere", "weights.bin: .*http://localhost.* is not https"),
    ],
)
def test_after_a_download_that_fails_the_same_call_ends_well(cache, server, way, message):
    server.way = way
    with pytest.raises(InputError, match=message):
        fetch("weights.bin", server.url, DIGEST)
    assert server.asked == ["/file"]
    assert not list(cache.iterdir())
    server.way = "good"
    assert fetch("weights.bin", server.url, DIGEST).read_bytes() == CONTENT
    assert [p.name for p in cache.iterdir()] == ["weights.bin"]


def test_only_https_is_asked(server, monkeypatch):
    monkeypatch.setattr(resources, "SECURE", "https://")
    with pytest.raises(InputError, match="not https"):
        fetch("weights.bin", server.url, DIGEST)
    assert not server.asked


def test_a_copy_with_another_hash_is_refused(cache, server):
    assert fetch("weights.bin", server.url).read_bytes() == CONTENT  # of which none is published
    (cache / "weights.bin").write_bytes(CONTENT[1:])
    with pytest.raises(InputError, match=rf"weights\.bin: SHA-256 is .*the registry says {DIGEST}"):
        fetch("weights.bin", server.url, DIGEST)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half():
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("gone")])
def test_only_a_file_is_replaced(tmp_path, make):
    make(tmp_path / "a")
    for path in (tmp_path / "a", tmp_path / "no" / "a"):
        with pytest.raises(InputError, match=r"folder, a link or a device|there is no folder"):
            check_writable(path)
        with pytest.raises(InputError), atomic_write(path):
            pytest.fail("written")


def test_a_full_disk_is_one_sentence_and_a_new_file_has_the_rights_of_any_other(
    tmp_path, small_files
):
    (tmp_path / "touched").touch()
    with small_files(10_000), pytest.raises(InputError, match=r"written \(File too large\)\.$"):
        write_file(tmp_path / "a", CONTENT)
    assert [p.name for p in tmp_path.iterdir()] == ["touched"]
    write_file(tmp_path / "a", "naïve")
    assert (tmp_path / "a").read_bytes() == "naïve".encode()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "touched").stat().st_mode


def test_the_device_is_cuda_if_there_is_one_and_one_that_is_not_here_is_named(monkeypatch):
    for name in ("gpu", "cuda:99", None):
        with pytest.raises(InputError, match=f"device {name}: PyTorch has no such device here"):
            torch_device(name)
    assert torch_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert torch_device("auto") == torch.device("cuda")


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_the_commit_is_that_of_the_checkout(tmp_path, monkeypatch):
    def git(*command: str) -> str:
        somebody = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.check_output(["git", "-C", tmp_path, *somebody, *command], text=True)

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "a")
    monkeypatch.setattr(resources, "ROOT", tmp_path)
    assert git_commit.__wrapped__() == git("rev-parse", "--short=12", "HEAD").strip()
    monkeypatch.setattr(resources, "ROOT", tmp_path / "venv")  # in a repository of the user's
    assert git_commit.__wrapped__() == "unknown"
    monkeypatch.setattr(resources, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", "")
    assert git_commit.__wrapped__() == "unknown"
