"""Write ``manifest.csv``: what made each file of results, structures and weights that ships.

Each row holds the file, below ``data``; its SHA-256; what made it; the git commit at which it was
made, or, where the file does not say, at which it came in; models; data; seeds. Nothing of
it is written by hand: run ``python data/reference-results/manifest.py`` after new results, with the
new files committed. The seed of a table is that of its first split and of its bootstrap.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pandas as pd

from umlip_latents.features.shipped import read_about
from umlip_latents.models.catalogue import list_models
from umlip_latents.resources import DATA, sha256
from umlip_latents.structures.read import list_datasets

OUTPUT = Path(__file__).with_name("manifest.csv")
FOLDERS = ("checkpoints", "features", "published", "reference-results", "structures")
ENDINGS = {".csv", ".gz", ".json", ".npz", ".safetensors", ".xyz"}
CHAPTER = {"03_precision": "03_dependence"}  # of a table that has another name
SCRIPTS = {
    f"08_measures-{name}": f"data/reference-results/{name}.py"
    for name in ("stitching", "grounding")
}
SCRIPTS["06_fine_tuning-methods"] = "data/reference-results/fine_tuning.py"
SCRIPTS["09_structures-repeated"] = "data/reference-results/poolings.py"
BUILT = {"embedded": "build.py", "li3ps4-gfn1": "build_li3ps4.py"}


def covered() -> list[str]:
    """The files that have a row, by their path below `data`."""
    files = (file for folder in FOLDERS for file in (DATA / folder).rglob("*.*"))
    made = {file for file in files if file.suffix in ENDINGS} - {OUTPUT}
    return sorted(file.relative_to(DATA).as_posix() for file in made)


def came_in(file: Path) -> str:
    """The commit that last changed a file."""
    command = ["git", "-C", str(DATA), "log", "-1", "--abbrev=10", "--format=%h", "--", str(file)]
    return subprocess.check_output(command, text=True).strip()


def named(words: str, names: dict) -> str:
    """Those of some names that stand among words or tables."""
    return " ".join(sorted({*words.replace(",", " ").split()} & {*names}))


def of_result(file: Path) -> dict[str, str]:
    """A table of a notebook, or what the benchmarks measured."""
    name = file.stem.partition("-")[0]
    card = file.with_name(f"{name}.json")
    known = card.is_file() and json.loads(card.read_text(encoding="utf-8"))["provenance"]
    commit = known["commit"] if known else came_in(file)  # a chapter's own table has no card
    if name in ("scale", "benchmarks"):
        script = "scale.py" if name == "scale" else "run.py"
        return {"made_by": f"tests/benchmarks/{script}", "commit": commit}
    words = file.read_text(encoding="utf-8")
    about = {"models": named(words, list_models()), "data": named(words, list_datasets())}
    made_by = SCRIPTS.get(file.stem, f"notebooks/{CHAPTER.get(name, name)}.ipynb")
    return {"made_by": made_by, "commit": commit, "seeds": "0"} | about


def of_features(file: Path) -> dict[str, str]:
    """Features of a model on a data set, or facts about its structures."""
    about = {"made_by": "data/features/make.py", "data": file.parent.name}
    if file.stem == "readouts":  # of models alone
        return {"made_by": about["made_by"], "commit": came_in(file)}
    if file.suffix != ".npz":
        return about | {"commit": came_in(file)}
    model = file.stem.removesuffix("-backbone").removesuffix("-last")
    return about | {"models": model, "commit": read_about(file)["commit"]}


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
    makers |= {"structures": of_structures, "published": of_paper, "features": of_features}
    table = pd.DataFrame(
        {"file": name, "sha256": sha256(DATA / name)} | makers[name.split("/")[0]](DATA / name)
        for name in covered()
    ).fillna("")
    # pandas 2 takes 8e6845549119 for a number and crashes on it; not on one of ten digits
    return table.assign(commit=table["commit"].str[:10])


if __name__ == "__main__":
    table = rows()
    table.to_csv(OUTPUT, index=False, lineterminator="\n")
    print(f"{OUTPUT}: {len(table)} files")
