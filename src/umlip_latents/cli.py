"""The command line, ``umlip-latents COMMAND``."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import umlip_latents as latents

from .arguments import FOLDER, FOLDS, INPUT, MANY, METRIC, NPZ, SEED, SPLIT, Command, Output
from .resources import InputError, registry, sha256

if TYPE_CHECKING:  # whatever is slow to import is imported by the commands that need it
    import pandas as pd


SPLITS_HELP = "Random splits; the median is told."
N_TEST_HELP = "Test atoms, by default up to 1000, or a quarter of all."
BOOTSTRAP_HELP = "Resamples for the intervals."
METRIC_HELP = "A reconstruction error or another measure; repeatable."
MODEL_HELP = "A name, a checkpoint file, or a class of your own, FILE.py:CLASS, whose code is run"
LAYER_HELP = "backbone, last, or another that the model has, such as interaction-1."
WORKERS_HELP = "Processes that share the work; by default one for each core."
STORE_HELP = "Folder to keep features in and resume from."
PARAMETER_HELP = "A parameter of --only, in YAML: every=1, models='[chgnet-0.3.0]'; repeatable."
TRUST_HELP = "Allow a pickled checkpoint, or one for which no SHA-256 is published."


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="umlip-latents")
def cli() -> None:
    """Latent features of universal interatomic potentials."""


cli.command_class = Command


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for bad input, 2 for misuse."""
    try:
        return cli.main(argv, "umlip-latents", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except InputError as error:
        return told(str(error), 1)
    except OSError as error:
        return told(f"{error.filename or 'the system'}: {error.strerror or error}.", 1)
    except SystemExit as done:  # nobody reads the standard output any more
        return done.code


def told(sentence: str, status: int) -> int:
    """Print a sentence on one line, nothing in it that a terminal would obey; the status again."""
    text = " ".join(sentence.split())
    if len(text) > 1000:
        text = f"{text[:500]} ... {text[-500:]}"
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    click.echo(f"umlip-latents: {text}", err=True)
    return status


def command(function: Callable[..., tuple]) -> click.Command:
    """A command with ``--json`` of a function that returns its answer, for programs and for people.

    An exit status may come third. Nothing but the answer reaches the standard output, whatever a
    library prints on the way.
    """

    @click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
    @functools.wraps(function)
    def run(as_json: bool, **options: Any) -> int:
        with contextlib.redirect_stdout(sys.stderr):
            data, text, *status = function(**options)
        click.echo(json.dumps(data, indent=1) if as_json else text)
        return sum(status)

    return cli.command()(run)


def from_model(function: Callable) -> Callable:
    """The options of a command that extracts features."""
    function = click.option("--trust", is_flag=True, help=TRUST_HELP)(function)
    function = click.option("--store", type=FOLDER, help=STORE_HELP)(function)
    return click.option("--layer", default="backbone", help=LAYER_HELP)(function)


@command
def models() -> tuple[Any, str]:
    """List the named models."""
    from tabulate import tabulate

    found = latents.list_models()
    shown = ("family", "training_data", "functional", "parameters", "licence", "citation")
    rows = []
    for name, entry in found.items():
        widths = "/".join(map(str, entry.get("widths", {}).values()))
        rows.append(("*" * entry["offline"], name, widths, *map(entry.get, shown)))
    table = tabulate(rows, ("", "name", "BB/LL", *(key.replace("_", " ") for key in shown)))
    note = "*   runs offline; the others download their weights when they are first used"
    return found, f"{table}\n\n{note}"


@command
def datasets() -> tuple[Any, str]:
    """List the registered data sets."""
    from tabulate import tabulate

    found = registry("datasets")
    rows = [
        (name, "embedded" if "path" in e else "download", e["licence"], e["description"])
        for name, e in found.items()
    ]
    return found, tabulate(rows, tablefmt="plain")


@command
@click.option("--model", required=True, help=f"{MODEL_HELP}.")
@click.option("--structures", required=True, help="A data set's name, or a file.")
@click.option("--output", type=NPZ, help="NPZ file to write.")
@from_model
@click.option("--workers", type=click.IntRange(1, MANY), help=WORKERS_HELP)
def extract(
    model: str,
    structures: str,
    output: Path | None,
    layer: str,
    store: Path | None,
    trust: bool,
    workers: int | None,
) -> tuple[Any, str]:
    """Per-atom features of structures, as a file, in a store or both."""
    if not (output or store):
        raise click.UsageError("Give --output, --store, or both.")
    read = latents.load_structures(structures)
    found = latents.extract_features(
        read, latents.load_model(model, trust=trust), layer, store=store, workers=workers
    )
    if output:
        found.save(output)
    for index, why in found.dropped.items():
        formula = read[index].get_chemical_formula()
        click.echo(f"left out structure {index} ({formula}): {why}", err=True)
    n, d = found.features.shape
    summary = {
        "model": found.model,
        "layer": found.layer,
        "shape": [n, d],
        "n_structures": len(found.kept),
        "dropped": found.dropped,
        "output": str(output) if output else None,
    }
    what = f"{found.model} {found.layer}, {n} atoms x {d} features"
    count = f"{len(found.kept)} structures, {len(found.dropped)} left out"
    return summary, f"{output or store}: {what} of {count}"


@command
@click.argument("features", type=INPUT)
@click.option("--order", default=4, type=click.IntRange(1, 8), help="Number of cumulants.")
@click.option("--output", required=True, type=NPZ, help="NPZ file to write.")
def compress(features: Path, order: int, output: Path) -> tuple[Any, str]:
    """Cumulants of the FEATURES that extract wrote: one row per structure."""
    from .features import ABOUT, save_npz

    atoms = latents.Features.load(features)
    compressed = latents.cumulant_features(atoms.features, atoms.n_atoms, order)
    about = {name: getattr(atoms, name) for name in ("kept", *ABOUT)}
    save_npz(output, features=compressed, order=order, **about)
    rows, columns = compressed.shape
    summary = {"shape": [rows, columns], "output": str(output)}
    return summary, f"{output}: {rows} structures x {columns} features"


@command
@click.argument("files", nargs=-1, type=INPUT)
@click.option("--model", multiple=True, help=f"{MODEL_HELP}; repeatable.")
@click.option("--structures", help="For --model: a data set's name, or a file.")
@from_model
@click.option("--metric", "metrics", multiple=True, default=["gfre"], type=METRIC, help=METRIC_HELP)
@click.option("--split", "by", default="structure", type=SPLIT, help="Held out together.")
@click.option("--splits", "n_splits", default=1, type=click.IntRange(1, MANY), help=SPLITS_HELP)
@click.option("--n-test", type=click.IntRange(1), help=N_TEST_HELP)
@click.option("--seed", default=0, type=SEED, help="Of the first split.")
@click.option("--within-element", is_flag=True, help="Take the element means off first.")
@click.option("--folds", type=FOLDS, help="That choose the cutoff; they follow the split.")
@click.option(
    "--bootstrap", "n_bootstrap", default=0, type=click.IntRange(0, MANY), help=BOOTSTRAP_HELP
)
@click.option("--figure", type=Output(".svg", ".pdf", ".png"), help="Heat maps: a file to write.")
def compare(
    files: Sequence[Path],
    model: Sequence[str],
    structures: str | None,
    layer: str,
    store: Path | None,
    trust: bool,
    figure: Path | None,
    **options: Any,
) -> tuple[Any, str]:
    """Errors and other measures between FILES that extract wrote, models, or both."""
    sums = {}
    for name in (*files, *model):
        twin = sums.setdefault(sha256(name) if isinstance(name, Path) else name, name)
        if twin is not name:
            raise InputError(f"{twin} and {name}: are one and the same.")
    if len(sums) < 2:
        raise InputError("compare needs at least two feature files or models.")
    if bool(model) != bool(structures):
        raise InputError("compare needs --structures to extract features of --model from.")
    if (store or trust) and not model:
        raise InputError("compare takes --store and --trust for --model alone.")
    from .results import save_figure

    loaded = [latents.Features.load(path) for path in files]
    read = latents.load_structures(structures) if model else []
    models = [latents.load_model(name, trust=trust) for name in model]
    loaded += [latents.extract_features(read, m, layer, store=store) for m in models]
    names = [*(path.stem for path in files), *(m.name for m in models)]
    if len(set(names)) < len(names):
        names = [*map(str, files), *model]
    features = dict(zip(names, loaded, strict=True))
    found = latents.compare(features, progress=True, **options)
    if figure:
        save_figure(found.heat_map(), figure)
    table = without_nan(found.table.rename(columns={"error": "value"})).set_index("metric")
    result = {
        "names": list(found.names),
        **{m: without_nan(found.matrix(m)).to_numpy().tolist() for m in options["metrics"]},
        "intervals": {m: table.loc[m].to_dict("records") for m in options["metrics"]},
        "split": options["by"],
        "splits": options["n_splits"],
        "bootstrap": options["n_bootstrap"],
        "seed": options["seed"],
        **{key: getattr(found, key) for key in ("folds", "within_element", "left_out")},
        "n_train": min(found.n_train),
        "n_test": min(found.n_test),
        "n_structures": len(found.structures),
        **made_from(files),
        "models": {m.name: m.fingerprint for m in models},
    }
    matrices = [f"{m.upper()}\n{found.matrix(m).round(4).to_string()}" for m in options["metrics"]]
    return result, "\n\n".join([*matrices, "Row = source, column = target.", str(found)])


@command
@click.argument("reference", type=INPUT)
@click.argument("new", type=INPUT)
@click.option(
    "--tolerance", default=0.01, type=click.FloatRange(0), help="Largest distance of duplicates."
)
def novelty(reference: Path, new: Path, tolerance: float) -> tuple[Any, str]:
    """How new the structures of NEW are to those of REFERENCE, two files that extract wrote."""
    from . import novelty as novelties

    known, others = latents.Features.load(reference), latents.Features.load(new)
    twins = [novelties.near_duplicates(others, f, tolerance=tolerance) for f in (None, known)]
    found = novelties.novelty(known, others).sort_values("leverage", ascending=False)
    keys = ("scores", "duplicates_within_new", "duplicates_new_and_reference")
    tables = dict(zip(keys, (found.reset_index(), *twins), strict=True))
    result = {key: table.to_dict("records") for key, table in tables.items()}
    look = {"index": False, "float_format": "{:.3g}".format}
    shown = [f"{k}\n{t.head(20).to_string(**look)}" for k, t in tables.items()]
    return {**result, **made_from((reference, new))}, "\n\n".join(shown)


@command
@click.argument("features", type=INPUT)
@click.option("--n", default=50, type=click.IntRange(1), help="How many.")
def select(features: Path, n: int) -> tuple[Any, str]:
    """Structures to label first, of the FEATURES that extract wrote."""
    from . import novelty as novelties

    chosen = novelties.farthest_points(latents.Features.load(features), n)
    result = {"chosen": chosen.to_dict("records"), **made_from([features])}
    return result, chosen.to_string(index=False)


def made_from(files: Sequence[Path]) -> dict[str, Any]:
    """What the answer rests on: the versions, and the files' SHA-256."""
    from .provenance import provenance

    sums = {str(path): sha256(path) for path in files}
    return {"provenance": provenance(), "files_sha256": sums}


def without_nan(table: pd.DataFrame) -> pd.DataFrame:
    """A table that JSON can hold: None for what is not a number."""
    return table.astype(object).where(table.notna(), None)


@command
@click.option("--make", metavar="NAME", help="Make it now, not on first use.")
@click.option("--remove", metavar="NAME", help="Delete it.")
def environments(make: str | None, remove: str | None) -> tuple[Any, str]:
    """Pythons of clashing model families."""
    if None not in (make, remove):
        raise click.UsageError("--make and --remove exclude each other.")
    from . import environments as pythons

    if make is not None:
        pythons.make_environment(make)
    if remove is not None:
        pythons.remove_environment(remove)
    states = pythons.list_environments()
    lines = [f"{name:12} {s:10} {pythons.environment_folder(name)}" for name, s in states.items()]
    return states, "\n".join(lines)


@command
@click.option("--store", type=FOLDER, help="Folder of kept features to check, too.")
def verify(store: Path | None) -> tuple[Any, str, int]:
    """Check all files against their SHA-256, and derive some reference numbers anew."""
    from . import verify as verification

    found = verification.verify(store)
    status = int(any(part["wrong"] for part in found.values()))
    return found, verification.told(found), status


@cli.command()
@click.argument("recipe", type=INPUT)
@click.option(
    "--output", required=True, type=Output(".safetensors"), help="A .safetensors file to write."
)
def train(recipe: Path, output: Path) -> None:
    """Train a model from a JSON RECIPE, as those in data/recipes."""
    from .training import train_recipe

    click.echo(json.dumps(train_recipe(recipe, output)["held_out_errors"]))


def parsed(context: click.Context, option: click.Option, texts: Sequence[str]) -> dict[str, Any]:
    """Names and values of ``NAME=VALUE``."""
    import yaml

    try:
        given = {name: yaml.safe_load(value) for name, value in (t.split("=", 1) for t in texts)}
        json.dumps(given, default=str)  # a value that holds itself has no end
        return given
    except (ValueError, RecursionError, yaml.YAMLError):
        raise click.BadParameter("give NAME=VALUE, with the value in YAML.") from None


@cli.command()
@click.option("--profile", default="default", help="quick, default or full.")
@click.option("--only", metavar="NN", help="One notebook, such as 03, and its page alone.")
@click.option(
    *("-p", "settings"), multiple=True, metavar="NAME=VALUE", callback=parsed, help=PARAMETER_HELP
)
@click.option("--output", type=FOLDER, help="Folder to build in: _build, or _build/own for --only.")
@click.option("--serve", is_flag=True, help="Show the pages on this machine until Ctrl-C.")
def book(
    profile: str, only: str | None, settings: dict[str, Any], output: Path | None, serve: bool
) -> None:
    """Execute the notebooks and build the book."""
    from . import book

    if settings and only is None:
        raise click.UsageError("-p needs --only, the notebook whose parameters these are.")
    output = (output or Path("_build", "" if only is None else "own")).resolve()
    if only is None:
        page = book.build(profile, output)
    else:
        page = book.build_chapter(only, profile, settings, output)
    click.echo(page)
    if serve:
        book.serve(page, output / "html")
