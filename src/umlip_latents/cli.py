"""The command line, ``umlip-latents COMMAND``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# heavy modules are imported by the command that needs them, so that --help answers at once

MODEL_HELP = "a name, a checkpoint file, or a model of your own, FILE.py:CLASS, whose code is run"
TRUST_HELP = "allow a pickled checkpoint, or one for which no SHA-256 is published"
LAYER_HELP = "backbone, last, or another that the model has, such as interaction-1"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = parser().parse_args(argv)
    from .resources import InputError

    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except InputError as error:
        print(f"umlip-latents: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("umlip-latents: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="umlip-latents", description="Latent features of universal interatomic potentials."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("models", help="list the named models")
    command.add_argument("--json", action="store_true", help="machine-readable output")
    command.set_defaults(run=models)

    command = commands.add_parser("datasets", help="list the registered data sets")
    command.add_argument("--json", action="store_true", help="machine-readable output")
    command.set_defaults(run=datasets)

    command = commands.add_parser("extract", help="per-atom features of structures")
    command.add_argument("--model", required=True, help=MODEL_HELP)
    command.add_argument("--layer", default="backbone", help=LAYER_HELP)
    command.add_argument("--structures", required=True, help="a data set's name, or a file")
    command.add_argument("--output", required=True, type=Path, help="NPZ file to write")
    command.add_argument("--store", type=Path, help="folder to keep features in and resume from")
    command.add_argument("--trust", action="store_true", help=TRUST_HELP)
    command.add_argument("--json", action="store_true", help="machine-readable output")
    command.set_defaults(run=extract)

    command = commands.add_parser("compress", help="cumulants: one row per structure")
    command.add_argument("features", type=Path, help="NPZ file that extract wrote")
    command.add_argument("--order", type=int, default=4, help="number of cumulants, 1 to 8")
    command.add_argument("--output", required=True, type=Path, help="NPZ file to write")
    command.add_argument("--json", action="store_true", help="machine-readable output")
    command.set_defaults(run=compress)

    command = commands.add_parser("compare", help="reconstruction errors between feature files")
    command.add_argument("features", nargs="*", type=Path, help="NPZ files that extract wrote")
    command.add_argument("--model", action="append", default=[], help=f"{MODEL_HELP}; repeatable")
    command.add_argument("--structures", help="for --model: a data set's name, or a file")
    command.add_argument("--layer", default="backbone", help=f"for --model: {LAYER_HELP}")
    command.add_argument("--store", type=Path, help="for --model: folder to keep features in")
    command.add_argument("--trust", action="store_true", help=f"for --model: {TRUST_HELP}")
    command.add_argument(
        "--metric", action="append", choices=("gfre", "lfre"), help="repeat for both; default gfre"
    )
    command.add_argument("--split", choices=("atom", "structure"), default="atom")
    command.add_argument("--n-test", type=int, default=1000, help="number of test atoms")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--figure", type=Path, help="heat maps: an SVG, PDF or PNG file to write")
    command.add_argument("--json", action="store_true", help="machine-readable output")
    command.set_defaults(run=compare)

    command = commands.add_parser("environments", help="Pythons of clashing model families")
    choice = command.add_mutually_exclusive_group()
    choice.add_argument("--make", metavar="NAME", help="make it now, not on first use")
    choice.add_argument("--remove", metavar="NAME", help="delete it")
    command.add_argument("--json", action="store_true", help="machine-readable output")
    command.set_defaults(run=environments)

    command = commands.add_parser("train", help="train a model from a recipe")
    command.add_argument("recipe", type=Path, help="JSON recipe, as those in data/recipes")
    command.add_argument("--output", required=True, type=Path, help=".safetensors file to write")
    command.set_defaults(run=train)

    command = commands.add_parser("book", help="execute the notebooks and build the book")
    command.add_argument("--profile", default="default", help="quick, default or full")
    command.add_argument("--output", type=Path, default=Path("_build"), help="folder to build in")
    command.set_defaults(run=book)
    return top


def models(arguments: argparse.Namespace) -> None:
    """List the named models."""
    from .models.catalog import list_models

    entries = list_models()
    if arguments.json:
        keys = ("family", "description", "training_data", "functional", "parameters", "widths")
        keys += ("licence", "citation", "offline", "environment")
        chosen = {name: {key: e.get(key) for key in keys} for name, e in entries.items()}
        print(json.dumps(chosen, indent=1))
        return
    layout = "{:3} {:22} {:24} {:18} {:>10} {:>9}  {:24} {}"
    header = ("", "name", "training data", "functional", "parameters", "BB/LL", "licence")
    print(layout.format(*header, "citation"))
    for family in dict.fromkeys(e["family"] for e in entries.values()):
        print(f"\n{family}")
        for name, e in entries.items():
            if e["family"] != family:
                continue
            widths = "/".join(map(str, e.get("widths", {}).values()))
            keys = ("training_data", "functional", "parameters")
            row = ("*" if e["offline"] else "", name, *(e.get(key, "") for key in keys), widths)
            print(layout.format(*row, e.get("licence", ""), e.get("citation", "")))
    print("\n*   runs offline; the others download their weights when they are first used")


def datasets(arguments: argparse.Namespace) -> None:
    """List the registered data sets."""
    from .structures import list_datasets

    if arguments.json:
        print(json.dumps(list_datasets(), indent=1))
        return
    for name, entry in list_datasets().items():
        where = "embedded" if "path" in entry else "download"
        print(f"{name:28} {where:9} {entry['licence']:12} {entry['description']}")


def extract(arguments: argparse.Namespace) -> None:
    """Extract features and write them."""
    from .extraction import extract_features
    from .models.catalog import load_model
    from .structures import load_structures

    structures = load_structures(arguments.structures)
    model = load_model(arguments.model, trust=arguments.trust)
    found = extract_features(structures, model, arguments.layer, store=arguments.store)
    found.save(arguments.output)
    for index, why in found.dropped.items():
        print(
            f"left out structure {index} ({structures[index].get_chemical_formula()}): {why}",
            file=sys.stderr,
        )
    summary = {
        "model": found.model,
        "layer": found.layer,
        "shape": list(found.features.shape),
        "n_structures": len(found.kept),
        "dropped": {str(index): why for index, why in found.dropped.items()},
        "output": str(arguments.output),
    }
    print(json.dumps(summary) if arguments.json else describe(summary))


def describe(summary: dict) -> str:
    """One line for people."""
    n, d = summary["shape"]
    return (
        f"{summary['output']}: {summary['model']} {summary['layer']}, {n} atoms x {d} features "
        f"of {summary['n_structures']} structures, {len(summary['dropped'])} left out"
    )


def compress(arguments: argparse.Namespace) -> None:
    """Compress atom features to structure features."""
    import numpy as np

    from .cumulants import cumulant_features
    from .extraction import Features, save_npz

    atoms = Features.load(arguments.features)
    compressed = cumulant_features(atoms.features, atoms.n_atoms, arguments.order)
    save_npz(
        arguments.output,
        features=compressed,
        kept=atoms.kept,
        order=np.array(arguments.order),
        model=np.array(atoms.model),
        layer=np.array(atoms.layer),
    )
    summary = {"shape": list(compressed.shape), "output": str(arguments.output)}
    rows, columns = compressed.shape
    plain = f"{arguments.output}: {rows} structures x {columns} features"
    print(json.dumps(summary) if arguments.json else plain)


def compare(arguments: argparse.Namespace) -> None:
    """Print matrices of reconstruction errors."""
    from .extraction import Features, common_structures, extract_features
    from .models.catalog import load_model
    from .provenance import provenance
    from .reconstruction import reconstruction_matrix, split_atoms
    from .resources import InputError, sha256
    from .structures import load_structures

    if len(arguments.features) + len(arguments.model) < 2:
        raise InputError("compare needs at least two feature files or models.")
    if arguments.model and not arguments.structures:
        raise InputError("compare needs --structures to extract features of --model from.")
    files = [Features.load(path) for path in arguments.features]
    structures = load_structures(arguments.structures) if arguments.model else []
    models = [load_model(name, trust=arguments.trust) for name in arguments.model]
    extracted = [
        extract_features(structures, model, arguments.layer, store=arguments.store)
        for model in models
    ]
    loaded = common_structures([*files, *extracted])
    if any((f.numbers != loaded[0].numbers).any() for f in loaded[1:]):
        raise InputError("The feature files do not describe the same structures.")
    names = [*(path.stem for path in arguments.features), *(f.model for f in extracted)]
    if len(set(names)) < len(names):
        names = [*map(str, arguments.features), *arguments.model]
    features = dict(zip(names, (f.features for f in loaded), strict=True))
    train, test = split_atoms(
        loaded[0].n_atoms, arguments.n_test, by=arguments.split, seed=arguments.seed
    )
    matrices = {
        metric: reconstruction_matrix(features, train, test, metric, progress=metric == "lfre")
        for metric in arguments.metric or ["gfre"]
    }
    if arguments.figure:
        from .figures import error_heat_maps, save_figure

        save_figure(error_heat_maps({m.upper(): e for m, e in matrices.items()}), arguments.figure)
    if not arguments.json:
        for metric, matrix in matrices.items():
            print(f"{metric.upper()} (row = source, column = target)\n{matrix.round(4)}\n")
        return
    result = {
        "names": names,
        **{metric: matrix.to_numpy().tolist() for metric, matrix in matrices.items()},
        "split": arguments.split,
        "seed": arguments.seed,
        "n_train": len(train),
        "n_test": len(test),
        "n_structures": len(loaded[0].kept),
        "provenance": provenance(),
        "files_sha256": {str(path): sha256(path) for path in arguments.features},
        "models": {model.name: model.fingerprint for model in models},
    }
    print(json.dumps(result, indent=1))


def environments(arguments: argparse.Namespace) -> None:
    """List, make or remove the environments of clashing model families."""
    from .environments import (
        environment_folder,
        list_environments,
        make_environment,
        remove_environment,
    )

    if arguments.make:
        make_environment(arguments.make)
    if arguments.remove:
        remove_environment(arguments.remove)
    states = list_environments()
    if arguments.json:
        print(json.dumps(states, indent=1))
        return
    for name, state in states.items():
        print(f"{name:12} {state:10} {environment_folder(name)}")


def train(arguments: argparse.Namespace) -> None:
    """Train a model from a recipe."""
    from .training import train_mace

    card = train_mace(arguments.recipe, arguments.output)
    print(json.dumps(card["held_out_errors"]))


def book(arguments: argparse.Namespace) -> None:
    """Execute the notebooks and build the book."""
    from .book import build

    print(build(arguments.profile, arguments.output))


if __name__ == "__main__":
    sys.exit(main())
