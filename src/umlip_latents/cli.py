"""The command line, ``umlip-latents COMMAND``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import umlip_latents as latents  # imports what a command asks for, and the libraries behind it

from . import arguments as arg
from .resources import InputError, provenance, registry

if TYPE_CHECKING:
    import pandas as pd
    from ase import Atoms

Answer = tuple[Any, ...]  # for programs, for people, and the exit status if there can be another


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="umlip-latents")
def cli() -> None:
    """Latent features of universal interatomic potentials."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for bad input, 2 for misuse."""
    try:
        return cli.main(argv, "umlip-latents", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:  # Ctrl-C
        arg.print_error("interrupted.")
        return 130
    except InputError as error:
        arg.print_error(str(error))
    except OSError as error:
        arg.print_error(f"{error.filename or 'the system'}: {error.strerror or error}.")
    return 1


@cli.command()
@arg.answer
def models() -> Answer:
    """List the named models."""
    from tabulate import tabulate

    found, shown = latents.list_models(), ("family", "training_data", "functional", "licence")
    rows = [("*" * e["offline"], name, *map(e.get, shown)) for name, e in found.items()]
    note = "* runs offline; the others download their weights when they are first used"
    return found, f"{tabulate(rows, ('', 'name', *shown))}\n\n{note}"


@cli.command()
@arg.answer
def datasets() -> Answer:
    """List the registered data sets."""
    from tabulate import tabulate

    found, shown = registry("datasets"), ("licence", "description")
    rows = [(n, "embedded" if "path" in e else "", *map(e.get, shown)) for n, e in found.items()]
    return found, tabulate(rows, ("name", "", *shown))


@cli.command()
@click.option("--model", "models", multiple=True, required=True, help=arg.MODEL_HELP)
@click.option("--structures", required=True, help="A data set's name, or a file.")
@click.option("--output", type=arg.Output(".npz"), help="NPZ file to write.")
@click.option("--workers", type=arg.COUNT, help="Parallel processes; by default all cores.")
@arg.model_options
@arg.answer
def extract(models: Sequence[str], structures: str, output: Path | None, **options: Any) -> Answer:
    """Per-atom features of structures, as a file, in a store or both."""
    if not (output or options["store"]):
        raise click.UsageError("Give --output, --store, or both.")
    if output and len(models) > 1:
        raise click.UsageError("Give one --model with --output; several fill a --store.")
    read, found, failures = latents.load_structures(structures), [], []
    for name in models:
        try:
            found.append(extract_one(read, name, **options))
        except InputError as error:  # no reason to leave out the other models
            failures.append(str(error))
    if failures:
        raise InputError(" ".join(failures))
    if output:
        found[0].save(output)
    for index, why in {i: why for f in found for i, why in f.dropped.items()}.items():
        formula = read[index].get_chemical_formula()
        click.echo(f"left out structure {index} ({formula}): {why}", err=True)
    data = {
        f.model: {"layer": f.layer, "shape": f.features.shape, "dropped": f.dropped} for f in found
    }
    size = "{} {}: {} atoms x {} features of {} structures".format
    return data, "\n".join(size(f.model, f.layer, *f.features.shape, len(f.kept)) for f in found)


def extract_one(
    structures: Sequence[Atoms], model: str, trust: bool, device: str, **options: Any
) -> latents.Features:
    """Features of structures by one model."""
    loaded = latents.load_model(model, trust=trust, device=device)
    return latents.extract_features(structures, loaded, device=device, **options)


@cli.command()
@click.argument("features", type=arg.FILE)
@click.option("--order", default=4, type=click.IntRange(1, 8), help="Number of cumulants.")
@click.option("--output", required=True, type=arg.Output(".npz"), help="NPZ file to write.")
@arg.answer
def compress(features: Path, order: int, output: Path) -> Answer:
    """Cumulants of the FEATURES that extract wrote: one row per structure."""
    from .features.cumulants import structure_features

    if output.exists() and output.samefile(features):
        raise InputError(f"{output}: is read, and cannot be written over.")
    compressed = structure_features(latents.Features.load(features), order)
    compressed.save(output)
    rows, columns = compressed.features.shape
    text = f"{output}: {rows} structures x {columns} features"
    return {"shape": [rows, columns], "output": str(output)}, text


@cli.command()
@click.argument("files", nargs=-1, type=arg.FILE)
@click.option("--model", "models", multiple=True, help=arg.MODEL_HELP)
@click.option("--structures", help="For --model: a data set's name, or a file.")
@arg.model_options
@click.option(
    "--metric", "metrics", multiple=True, default=["gfre"], type=arg.METRIC, help="Repeat."
)
@click.option("--split", default="structure", type=click.Choice(("atom", "structure", "system")))
@click.option("--splits", "n_splits", default=1, type=arg.COUNT, help="Random splits.")
@click.option("--n-test", type=click.IntRange(1), help="Test atoms; by default at most 1000.")
@click.option("--seed", default=0, type=arg.SEED, help="Of the first split.")
@click.option("--within-element", is_flag=True, help="Take the element means off first.")
@click.option("--folds", type=click.Choice(("atom", "group")), help="By default as the split.")
@click.option("--bootstrap", "n_bootstrap", default=0, type=arg.RESAMPLES, help="Resamples.")
@click.option("--figure", type=arg.Output(".svg", ".pdf", ".png"), help="Heat maps to write.")
@arg.answer
def compare(
    files: Sequence[Path], models: Sequence[str], structures: str | None, **options: Any
) -> Answer:
    """Errors and other measures between FILES that extract wrote, models, or both."""
    if len({*files, *models}) < max(len(files) + len(models), 2):
        raise click.UsageError("Give at least two files or models, none of them twice.")
    if bool(models) != bool(structures):
        raise click.UsageError("Give --structures with --model, and not without it.")
    stems = [path.stem for path in files]
    names = stems if len({*stems, *models}) == len(files) + len(models) else map(str, files)
    features = {n: latents.Features.load(p) for n, p in zip(names, files, strict=True)}
    read = latents.load_structures(structures) if structures else []
    chosen = {key: options[key] for key in ("layer", "store", "trust", "device")}
    features |= {name: extract_one(read, name, **chosen) for name in models}
    split = latents.Split(options["split"], n_test=options["n_test"], seed=options["seed"])
    fit = latents.FitOptions(folds=options["folds"], device=options["device"], progress=True)
    keys = ("metrics", "n_splits", "within_element", "n_bootstrap")
    given = {key: options[key] for key in keys}
    found = latents.compare(features, split=split, options=fit, **given)
    if options["figure"]:
        from .plots.style import save_figure

        save_figure(found.heat_map(), options["figure"])
    table = without_nan(found.table.rename(columns={"error": "value"})).set_index("metric")
    data = {
        "names": list(found.names),
        **{m: without_nan(found.matrix(m)).to_numpy().tolist() for m in found.metrics},
        "intervals": {m: table.loc[[m]].to_dict("records") for m in found.metrics},
        **{key: options[key] for key in ("split", "n_splits", "n_bootstrap", "seed")},
        **{key: getattr(found, key) for key in ("folds", "within_element", "left_out")},
        "n_train": min(found.n_train),
        "n_test": min(found.n_test),
        "n_structures": len(found.structures),
        "fingerprints": {name: f.fingerprint for name, f in features.items()},
        "provenance": provenance(files),
    }
    matrices = [f"{m.upper()}\n{found.matrix(m).round(4).to_string()}" for m in found.metrics]
    return data, "\n\n".join(
        [*matrices, "Row = source, column = target.", *found.left_out.values()]
    )


def without_nan(table: pd.DataFrame) -> pd.DataFrame:
    """A table that JSON can hold: None for what is not a number."""
    return table.astype(object).where(table.notna(), None)


@cli.command()
@click.argument("reference", type=arg.FILE)
@click.argument("new", type=arg.FILE)
@click.option("--tolerance", default=0.01, type=click.FloatRange(0), help="For duplicates.")
@arg.answer
def novelty(reference: Path, new: Path, tolerance: float) -> Answer:
    """How new the structures of NEW are to those of REFERENCE, two files that extract wrote."""
    from .analysis.novelty import novelty as score_novelty
    from .analysis.selection import near_duplicates

    known, others = latents.Features.load(reference), latents.Features.load(new)
    scores = score_novelty(known, others).sort_values("leverage", ascending=False)
    pairs = [near_duplicates(others, f, tolerance=tolerance) for f in (None, known)]
    keys = ("scores", "duplicates_within_new", "duplicates_new_and_reference")
    tables = dict(zip(keys, (scores.reset_index(), *pairs), strict=True))
    data = {name: table.to_dict("records") for name, table in tables.items()}
    form = {"index": False, "float_format": "{:.3g}".format}
    shown = [f"{name}\n{table.head(20).to_string(**form)}" for name, table in tables.items()]
    return data | {"provenance": provenance([reference, new])}, "\n\n".join(shown)


@cli.command()
@click.argument("features", type=arg.FILE)
@click.option("--n", default=50, type=click.IntRange(1), help="How many.")
@arg.answer
def select(features: Path, n: int) -> Answer:
    """Structures to label first, of the FEATURES that extract wrote."""
    from .analysis.selection import farthest_points

    chosen = farthest_points(latents.Features.load(features), n)
    data = {"chosen": chosen.to_dict("records"), "provenance": provenance([features])}
    return data, chosen.to_string(index=False)


@cli.command()
@click.option("--make", metavar="NAME", help="Make it now, not on first use.")
@click.option("--remove", metavar="NAME", help="Delete it.")
@arg.answer
def environments(make: str | None, remove: str | None) -> Answer:
    """Pythons of model families whose packages clash."""
    if make and remove:
        raise click.UsageError("--make and --remove exclude each other.")
    from .models import environments as pythons

    if make:
        pythons.make_environment(make)
    if remove:
        pythons.remove_environment(remove)
    states = pythons.list_environments()
    return states, "\n".join(f"{name:12} {state}" for name, state in states.items())


@cli.command()
@arg.answer
def verify() -> Answer:
    """Check what ships and the downloads that are at hand against their SHA-256."""
    from .verify import verify as check_files

    found = check_files()
    return found, "\n".join(f"{k}: {v}" for k, v in found.items()), int(bool(found["wrong"]))


@cli.command()
@click.argument("recipe", type=arg.FILE)
@click.option("--output", required=True, type=arg.Output(".safetensors"), help="File to write.")
@arg.DEVICE
@arg.answer
def train(recipe: Path, output: Path, device: str) -> Answer:
    """Train a model from a JSON RECIPE, as those in data/recipes."""
    from .training.train import train_recipe

    errors = train_recipe(recipe, output, device=device)["held_out_errors"]
    return errors, f"{output}: {errors}"


@cli.command()
@click.option("--profile", default="default", help="default or full.")
@click.option("--only", metavar="NN", help="One notebook, such as 03, and its page alone.")
@click.option("-p", "settings", multiple=True, metavar="NAME=VALUE", help="Parameters of --only.")
@click.option("--output", type=arg.FOLDER, help="Folder to build in: _build, or _build/own.")
@click.option("--serve", is_flag=True, help="Show the pages on this machine until Ctrl-C.")
def book(
    profile: str, only: str | None, settings: Sequence[str], output: Path | None, serve: bool
) -> None:
    """Execute the notebooks and build the book."""
    from . import book

    if settings and only is None:
        raise click.UsageError("-p needs --only, the notebook whose parameters these are.")
    page = book.build(profile, output, only, arg.parse_parameters(settings))
    click.echo(page)
    if serve:
        book.serve(page)
