"""The one door to the network: https alone, whole files alone, the right ones alone."""

import hashlib

import pytest

from umlip_latents import book, resources
from umlip_latents.resources import OFFLINE, InputError, fetch

URL = "https://example.org/weights.bin"
CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for variable in ("UMLIP_LATENTS_DATA", OFFLINE):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "umlip-latents"


def serve(monkeypatch, *, fails=False):
    """Let downloads give CONTENT, or stop in the middle of it; returns the addresses asked for."""
    asked = []

    def downloader(**options):
        def download(url, path, pooch):
            asked.append(url)
            path.write_bytes(CONTENT[:3] if fails else CONTENT)
            if fails:
                raise OSError("connection lost")

        return download

    monkeypatch.setattr(resources, "HTTPDownloader", downloader)
    return asked


def test_a_file_is_downloaded_once(cache, monkeypatch):
    asked = serve(monkeypatch)
    for _ in range(2):
        assert fetch("weights.bin", URL, DIGEST).read_bytes() == CONTENT
    assert asked == [URL]
    assert [p.name for p in cache.iterdir()] == ["weights.bin"]


def test_a_copy_at_hand_comes_first(tmp_path, monkeypatch):
    asked = serve(monkeypatch)
    (tmp_path / "weights.bin").write_bytes(CONTENT)
    monkeypatch.setenv("UMLIP_LATENTS_DATA", str(tmp_path))
    assert fetch("weights.bin", URL, DIGEST) == tmp_path / "weights.bin"
    assert not asked


def test_a_wrong_or_torn_download_leaves_nothing(cache, monkeypatch):
    serve(monkeypatch)
    with pytest.raises(InputError, match=f"the registry expects {'0' * 64}"):
        fetch("weights.bin", URL, "0" * 64)
    serve(monkeypatch, fails=True)
    with pytest.raises(InputError, match=r"cannot be downloaded .*connection lost"):
        fetch("weights.bin", URL, DIGEST)
    assert not list(cache.iterdir())


def test_only_https_is_asked(monkeypatch):
    asked = serve(monkeypatch)
    with pytest.raises(InputError, match="not https"):
        fetch("weights.bin", "http://example.org/weights.bin", DIGEST)
    assert not asked


def test_told_so_it_asks_for_nothing_but_takes_what_is_there(cache, monkeypatch):
    asked = serve(monkeypatch)
    monkeypatch.setenv(OFFLINE, "1")
    with pytest.raises(InputError, match=r"weights\.bin: is not at hand"):
        fetch("weights.bin", URL, DIGEST)
    cache.mkdir(exist_ok=True)
    (cache / "weights.bin").write_bytes(CONTENT)
    assert fetch("weights.bin", URL, DIGEST) == cache / "weights.bin"
    assert not asked


def test_a_build_makes_one_attempt_at_the_checkpoints(monkeypatch):
    """Where the first download fails no other one is tried, and what is at hand is found."""
    file = {"file": "weights.bin", "url": URL, "sha256": DIGEST}
    further = {"file": "more.bin", "url": f"{URL}?", "sha256": DIGEST}
    models = {"a": file | {"arguments": further}, "b": {"file": "own.bin", "sha256": DIGEST}}
    monkeypatch.setattr(book, "registry", lambda _: models)
    monkeypatch.setenv(OFFLINE, "")
    asked = serve(monkeypatch)
    book.fetch_checkpoints()
    book.fetch_checkpoints()
    assert asked == [URL, f"{URL}?"]
    for name in ("weights.bin", "more.bin"):
        (resources.cache_folder() / name).unlink()
    asked = serve(monkeypatch, fails=True)
    book.fetch_checkpoints()
    assert asked == [URL]
