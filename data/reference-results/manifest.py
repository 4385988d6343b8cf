"""Write ``manifest.csv``: what made each file of results, structures and weights that ships.

Each row holds the file, below ``data``; its SHA-256; what made it; the git commit at which it was
made, or, where the file does not say, at which it came in; profile; models; data; seeds. Nothing of
it is written by hand: run ``python data/reference-results/manifest.py`` after new results, with the
new files committed. The seed of a table is that of its first split and of its bootstrap.
"""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path

import pandas as pd

from umlip_latents.book import load_profile
from umlip_latents.models.catalogue import list_models
from umlip_latents.resources import DATA, sha256
from umlip_latents.structures.read import list_datasets

OUTPUT = Path(__file__).with_name("manifest.csv")
FOLDERS = ("checkpoints", "published", "reference-results", "structures")
ENDINGS = {".csv", ".json", ".safetensors", ".xyz"}
BUILT = {"embedded": "build.py", "li3ps4-gfn1": "build_li3ps4.py"}


def covered() -> list[str]:
    """The files that have a row, by their path below `data`."""
    files = (file for folder in FOLDERS for file in (DATA / folder).rglob("*.*"))
    made = {file for file in files if file.suffix in ENDINGS} - {OUTPUT}
    return sorted(file.relative_to(DATA).as_posix() for file in made)


def came_in(file: Path) -> str:
    """The commit that last changed a file."""
    command = ["git", "-C", str(DATA), "log", "-1", "--abbrev=12", "--format=%h", "--", str(file)]
    return subprocess.check_output(command, text=True).strip()


def named(words: str, names: dict) -> str:
    """Those of some names that stand among words, tables or parameters."""
    for sign in ",[]{}:":
        words = words.replace(sign, " ")
    return " ".join(sorted({*words.split()} & {*names}))


def of_result(file: Path) -> dict[str, str]:
    """A table or the findings of a notebook, or what the benchmarks measured."""
    return of_run(file.parent, file.stem.partition("-")[0])


@cache
def of_run(folder: Path, name: str) -> dict[str, str]:
    """What the findings of a notebook say, and what all its tables and its parameters name."""
    about = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    script = "scale.py" if name == "scale" else "run.py"
    made = {"made_by": f"tests/benchmarks/{script}", "commit": about["provenance"]["commit"]}
    if "profile" not in about:
        return made
    words = [path.read_text(encoding="utf-8") for path in sorted(folder.glob(f"{name}-*.csv"))]
    words.append(str(load_profile(about["profile"])[name]).replace("'", " "))
    return made | {
        "made_by": f"notebooks/{name}.ipynb",
        "profile": about["profile"],
        "models": named(" ".join(words), list_models()),
        "data": named(" ".join(words), list_datasets()),
        "seeds": "0",
    }


def of_checkpoint(file: Path) -> dict[str, str]:
    """Weights, or the card that tells of them."""
    card = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    recipe = card["recipe"]
    return {
        "made_by": f"data/recipes/{file.stem}.json",
        "commit": came_in(file),
        "models": card["name"],
        "data": " ".join(card["data_sha256"]),
        "seeds": f"split {recipe['split_seed']}, training {recipe['mace']['seed']}",
    }


def of_structures(file: Path) -> dict[str, str]:
    """Structures that a script beside them builds."""
    script = file.with_name(BUILT[file.stem])
    seed = next(li for li in script.read_text().splitlines() if li.startswith("SEED"))
    return {
        "made_by": f"data/structures/{script.name}",
        "commit": came_in(file),
        "data": file.stem,
        "seeds": seed.rpartition(" ")[2],
    }


def of_paper(file: Path) -> dict[str, str]:
    """Numbers that were printed in a paper."""
    return {"made_by": "arXiv:2512.05717", "commit": came_in(file)}


def rows() -> pd.DataFrame:
    """The manifest, as it should be."""
    makers = {"reference-results": of_result, "checkpoints": of_checkpoint}
    makers |= {"structures": of_structures, "published": of_paper}
    return pd.DataFrame(
        {"file": name, "sha256": sha256(DATA / name)} | makers[name.split("/")[0]](DATA / name)
        for name in covered()
    ).fillna("")


if __name__ == "__main__":
    table = rows()
    table.to_csv(OUTPUT, index=False, lineterminator="\n")
    print(f"{OUTPUT}: {len(table)} files")
