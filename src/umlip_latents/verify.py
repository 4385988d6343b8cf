"""Whether what ships, and what was downloaded, is still what it was."""

import csv
from typing import Any

from .resources import DATA, find_copy, registry, sha256

MANIFEST = DATA / "reference-results" / "manifest.csv"


def verify() -> dict[str, Any]:
    """Compare files with their SHA-256: those of the manifest, and downloads that are at hand.

    Returns
    -------
    dict
        ``right``, how many files are as they should be; ``wrong``, the SHA-256 that was found
        (nothing for a file that is gone), by file; ``not_at_hand``, what was not downloaded.
    """
    # the manifest is the book's, and does not come with the package alone
    lines = MANIFEST.read_text(encoding="utf-8").splitlines() if MANIFEST.is_file() else []
    expected = {DATA / row["file"]: row["sha256"] for row in csv.DictReader(lines)}
    entries = [*registry("models").values(), *registry("datasets").values()]
    parts = [part for entry in entries for part in (entry, entry.get("arguments", {}))]
    hashes = {p["file"]: p["sha256"] for p in parts if {"file", "url", "sha256"} <= {*p}}
    copies = {file: find_copy(file) for file in hashes}
    expected |= {copy: hashes[file] for file, copy in copies.items() if copy}
    found = {path: sha256(path) if path.is_file() else "" for path in expected}
    wrong = {str(path): digest for path, digest in found.items() if digest != expected[path]}
    absent = [file for file, copy in copies.items() if not copy]
    return {"right": len(found) - len(wrong), "wrong": wrong, "not_at_hand": absent}
