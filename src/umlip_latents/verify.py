"""Whether what ships, and what was downloaded, is still what it was."""

import csv
from collections.abc import Iterator
from typing import Any

from .resources import DATA, find_copy, registry, sha256

MANIFEST = DATA / "reference-results" / "manifest.csv"


def registered_downloads(*registries: str) -> Iterator[tuple[str, str, str]]:
    """File name, address and SHA-256 of everything that registries have for download.

    Examples
    --------
    >>> "mptrj-random-1k.xyz" in [file for file, _, _ in registered_downloads("datasets")]
    True
    """
    for entry in (entry for name in registries for entry in registry(name).values()):
        for part in (entry, entry.get("arguments", {})):
            if {"file", "url", "sha256"} <= {*part}:
                yield part["file"], part["url"], part["sha256"]


def verify() -> dict[str, Any]:
    """Compare files with their SHA-256: those of the manifest, and downloads that are at hand.

    Returns
    -------
    dict
        ``right``, how many files are as they should be; ``wrong``, the SHA-256 that was found
        (nothing for a file that is gone), by file; ``not_at_hand``, what was not downloaded.
    """
    with open(MANIFEST, encoding="utf-8", newline="") as stream:
        expected = {DATA / row["file"]: row["sha256"] for row in csv.DictReader(stream)}
    absent = []
    for file, _, digest in registered_downloads("models", "datasets"):
        if path := find_copy(file):
            expected[path] = digest
        else:
            absent.append(file)
    found = {path: sha256(path) if path.is_file() else "" for path in expected}
    wrong = {str(path): digest for path, digest in found.items() if digest != expected[path]}
    return {"right": len(found) - len(wrong), "wrong": wrong, "not_at_hand": absent}
