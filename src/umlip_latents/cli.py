"""The command line, ``umlip-latents COMMAND``."""

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from tabulate import tabulate

import umlip_latents as latents  # imports what a command asks for, and the libraries behind it

from .resources import InputError, check_writable, provenance, registry

Answer = tuple[Any, ...]  # for programs, for people, and the exit status if there can be another
FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
METRIC = "gfre, lfre, cka ..., or a function, FILE.py:function, whose code runs; repeatable."
COUNT = click.IntRange(0, 10_000)  # splits and resamples are held in memory
MODEL = "A name, a checkpoint, or a model of yours, FILE.py:NAME, whose code runs; repeatable."
TRUST = click.option("--trust", is_flag=True, help="Load what is pickled or has no known SHA-256.")
DEVICE = click.option("--device", default="auto", help="PyTorch's: auto, cpu, cuda, cuda:1 ...")


class Output(click.Path):
    """A file that can be written, with one of some endings."""

    def __init__(self, *endings: str) -> None:
        super().__init__(path_type=Path)
        self.endings = endings

    def convert(self, value: Any, *context: Any) -> Path:
        path = super().convert(value, *context)
        if path.suffix.lower() not in self.endings:
            raise InputError(f"{path}: must end in {' or '.join(self.endings)}.")
        check_writable(path)
        return path


class Command(click.Command):
    """A command whose function returns an `Answer`, printed for people or with ``--json``."""

    def __init__(self, *given: Any, params: list[click.Parameter], **options: Any) -> None:
        as_json = click.Option(["--json", "as_json"], is_flag=True, help="Machine-readable output.")
        super().__init__(*given, params=[*params, as_json], **options)

    def invoke(self, context: click.Context) -> int:
        as_json = context.params.pop("as_json")
        with contextlib.redirect_stdout(sys.stderr):  # whatever a library prints on the way
            data, text, *status = super().invoke(context)
        if as_json:  # which has no word for what is not a number
            whole = json.dumps(data, default=lambda table: table.to_dict("records"))
            text = json.dumps(json.loads(whole, parse_constant=lambda _: None), indent=1)
        click.echo(text)
        return sum(status)


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
    except click.Abort:  # Ctrl-C
        sentence, status = "interrupted.", 130
    except InputError as error:
        sentence, status = str(error), 1
    except OSError as error:
        sentence, status = f"{error.filename or 'the system'}: {error.strerror or error}.", 1
    text = "".join(c if c.isprintable() else "?" for c in " ".join(sentence.split()))  # one line
    click.echo(f"umlip-latents: {text}", err=True)
    return status


@cli.command()
def models() -> Answer:
    """List the named models."""
    found, shown = latents.list_models(), ("family", "training_data", "functional", "licence")
    rows = [("*" * e["offline"], name, *map(e.get, shown)) for name, e in found.items()]
    note = "\n\n* runs offline; the others download their weights when they are first used"
    return found, tabulate(rows, ("", "name", *shown)) + note


@cli.command()
def datasets() -> Answer:
    """List the registered data sets."""
    found, shown = registry("datasets"), ("licence", "description")
    rows = [(n, "embedded" if "path" in e else "", *map(e.get, shown)) for n, e in found.items()]
    return found, tabulate(rows, ("name", "", *shown))


@cli.command()
@click.option("--model", "models", multiple=True, required=True, help=MODEL)
@click.option("--structures", multiple=True, required=True, help="Data set, file, folder or glob.")
@click.option("--format", help="ASE's name of their format, such as lammps-data.")
@click.option("--types", help="Elements of types or labels, as in Na,Cl or OW=O,HW=H.")
@click.option("--energy-key", help="Their name of the energy, such as REF_energy.")
@click.option("--skip-bad", is_flag=True, help="Leave out and name what cannot be used.")
@click.option("--layer", default="backbone", help="backbone, last, interaction-1 ...")
@click.option("--output", type=Output(".npz", ".csv", ".extxyz"), help="NPZ, table, structures.")
@click.option("--store", type=FOLDER, help="Folder to keep features in and resume from.")
@TRUST
@click.option("--workers", type=click.IntRange(1), help="Parallel processes; by default all cores.")
@DEVICE
def extract(models: Sequence[str], output: Path | None, **options: Any) -> Answer:
    """Per-atom features of structures, as a file, in a store or both."""
    if not (output or options["store"]) or (output and len(models) > 1):
        raise click.UsageError("Give --output, --store, or both, and one --model with --output.")
    reading = {key: options.pop(key) for key in ("format", "types", "energy_key", "skip_bad")}
    read, data, sizes = latents.load_structures(options.pop("structures"), **reading), {}, []
    for name in models:
        found = latents.extract_features(read, name, **options)
        if output:
            found.save(output, read)
        for index, why in found.dropped.items():
            print(f"left out structure {index} ({read[index].get_chemical_formula()}): {why}")
        rows, columns = shape = found.features.shape
        data[found.model] = {"layer": found.layer, "shape": shape, "dropped": found.dropped}
        sizes.append(f"{found.model} {found.layer}: {rows} atoms x {columns} features")
    return data, "\n".join(sizes)


@cli.command()
@click.argument("features", type=FILE)
@click.option("--order", default=4, type=click.IntRange(1, 8), help="Number of cumulants.")
@click.option("--output", required=True, type=Output(".npz", ".csv"), help="NPZ, or a table.")
def compress(features: Path, order: int, output: Path) -> Answer:
    """Cumulants of the FEATURES that extract wrote: one row per structure."""
    from .features.cumulants import structure_features

    compressed = structure_features(latents.Features.load(features), order)
    compressed.save(output)
    shape = compressed.features.shape
    return {"shape": shape}, f"{output}: {shape[0]} structures x {shape[1]} features"


@cli.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--metric", "metrics", multiple=True, default=["gfre"], help=METRIC)
@click.option("--split", default="structure", type=click.Choice(("atom", "structure", "system")))
@click.option("--splits", "n_splits", default=1, type=COUNT, help="How many.")
@click.option("--n-test", type=click.IntRange(1), help="Test atoms; by default at most 1000.")
@click.option("--seed", default=0, type=click.IntRange(0, 2**31), help="Of the first split.")
@click.option("--within-element", is_flag=True, help="Take the element means off first.")
@click.option("--folds", type=click.Choice(("atom", "group")), help="By default as the split.")
@click.option("--bootstrap", "n_bootstrap", default=0, type=COUNT, help="Resamples.")
@click.option("--figure", type=Output(".svg", ".pdf", ".png"), help="Heat maps to write.")
@DEVICE
def compare(files: Sequence[Path], figure: Path | None, device: str, **options: Any) -> Answer:
    """Errors and other measures between FILES that extract or compress wrote."""
    stems = [path.stem for path in files]
    names = stems if len({*stems}) == len(files) else map(str, files)
    features = {n: latents.Features.load(p) for n, p in zip(names, files, strict=True)}
    drawn = {key: options.pop(key) for key in ("n_test", "seed")}
    split = latents.Split(options.pop("split"), **drawn)
    fit = latents.FitOptions(folds=options.pop("folds"), device=device, progress=True)
    found = latents.compare(features, split=split, options=fit, **options)
    click.echo("".join(f"warning: {why}\n" for why in found.warnings.values()), err=True, nl=False)
    if figure:
        from .plots.style import save_figure

        save_figure(found.heat_map(), figure)
    data = {m: found.matrix(m).to_numpy().tolist() for m in found.metrics} | options
    data |= {"names": found.names, "table": found.table, "split": split.by, "seed": split.seed}
    data |= {"folds": found.folds, "n_train": min(found.n_train), "n_test": min(found.n_test)}
    data |= {"n_structures": len(found.structures), "left_out": found.left_out}
    data |= {"fingerprints": {name: f.fingerprint for name, f in features.items()}}
    data |= {"warnings": found.warnings, "provenance": provenance(files)}
    shown = [f"{m.upper()}\n{found.matrix(m).round(4).to_string()}" for m in found.metrics]
    return data, "\n\n".join([*shown, "Row = source, column = target.", *found.left_out.values()])


@cli.command()
@click.argument("model")
@click.option("--structures", default="embedded-third", help="A data set whose features ship.")
@click.option("--start", help="The model that it was fine-tuned from.")
@click.option("--layer", default="backbone", type=click.Choice(("backbone", "last")))
@click.option("--splits", "n_splits", default=5, type=click.IntRange(1), help="How many.")
@click.option("--report", type=Output(".html"), help="Page to write, which needs no network.")
@TRUST
@DEVICE
def place(model: str, structures: str, report: Path | None, trust: bool, **options: Any) -> Answer:
    """Where a MODEL stands among the published ones."""
    from .analysis.place import format_text, write_report

    loaded = latents.load_model(model, trust=trust, device=options.pop("device"))
    found = latents.place(loaded, structures, **options)
    if report:
        write_report(found, report)
    tables = {"table": found.table.reset_index(), "properties": found.properties.reset_index()}
    data = {"model": found.name, "retention": found.retention, "provenance": provenance()}
    return tables | data, format_text(found)


@cli.command()
@click.argument("reference", type=FILE)
@click.argument("new", type=FILE)
@click.option("--tolerance", default=0.01, type=click.FloatRange(0), help="For duplicates.")
def novelty(reference: Path, new: Path, tolerance: float) -> Answer:
    """How new the structures of NEW are to those of REFERENCE, two files that extract wrote."""
    from .analysis.novelty import novelty as score_novelty
    from .analysis.selection import near_duplicates

    known, others = latents.Features.load(reference), latents.Features.load(new)
    scores = score_novelty(known, others).sort_values("leverage", ascending=False).reset_index()
    within, both = (near_duplicates(others, x, tolerance=tolerance) for x in (None, known))
    data = {"scores": scores, "duplicates_within_new": within, "duplicates_new_and_reference": both}
    shown = (f"{n}\n{t.head(20).round(4).to_string(index=False)}" for n, t in data.items())
    return data | {"provenance": provenance([reference, new])}, "\n\n".join(shown)


@cli.command()
@click.argument("files", nargs=2, type=FILE, metavar="CALIBRATION NEW")
@click.option("--errors", type=FILE, help="CSV: structure, error of CALIBRATION in eV/atom.")
@click.option("--structures", multiple=True, help="Or those of CALIBRATION, with energies.")
@click.option("--model", help="The model, if it is none whose readout ships.")
@click.option("--backbones", nargs=2, type=FILE, help="Of both, which tell what is strange.")
def uncertainty(files: Sequence[Path], **options: Any) -> Answer:
    """How sure the energies of NEW are, by errors on CALIBRATION: last layers by extract."""
    from .analysis.uncertainty import estimate_uncertainty

    table, note = estimate_uncertainty(*files, **options)
    data = {"scores": table.reset_index(), "calibration": note, "provenance": provenance(files)}
    return data, f"{table.round(4).to_string()}\n\n{note}"


@cli.command()
@click.argument("features", type=FILE)
@click.option("--n", default=50, type=click.IntRange(1), help="How many.")
def select(features: Path, n: int) -> Answer:
    """Structures to label first, of the FEATURES that extract wrote."""
    from .analysis.selection import farthest_points

    chosen = farthest_points(latents.Features.load(features), n)
    data = {"chosen": chosen, "provenance": provenance([features])}
    return data, chosen.to_string(index=False)


@cli.command()
@click.option("--make", metavar="NAME", help="Make it now, not on first use.")
@click.option("--remove", metavar="NAME", help="Delete it first.")
def environments(make: str | None, remove: str | None) -> Answer:
    """Pythons of model families whose packages clash."""
    from .models import environments as pythons

    if remove:
        pythons.remove_environment(remove)
    if make:
        pythons.make_environment(make)
    states = pythons.list_environments()
    return states, "\n".join(f"{name:12} {state}" for name, state in states.items())


@cli.command()
def verify() -> Answer:
    """Check what ships and the downloads that are at hand against their SHA-256."""
    from .verify import verify as check_files

    found = check_files()
    return found, "\n".join(f"{k}: {v}" for k, v in found.items()), int(bool(found["wrong"]))


@cli.command()
@click.argument("recipe", type=FILE)
@click.option("--output", required=True, type=Output(".safetensors"), help="File to write.")
@DEVICE
def train(recipe: Path, output: Path, device: str) -> Answer:
    """Train a model from a JSON RECIPE, as those in data/recipes."""
    from .training.recipes import train_recipe

    errors = train_recipe(recipe, output, device=device)["held_out_errors"]
    return errors, f"{output}: {errors}"


@cli.command()
@click.option("--profile", default="default", type=click.Choice(("default", "full")))
@click.option("--only", metavar="NN", help="One notebook, such as 03, and its page alone.")
@click.option("-p", "settings", multiple=True, help="Its parameter, NAME=VALUE in YAML.")
@click.option("--output", type=FOLDER, help="Folder to build in: _build, or _build/own.")
@TRUST
def book(settings: Sequence[str], **options: Any) -> Answer:
    """Execute the notebooks and build the book."""
    from . import book

    if settings and options["only"] is None:
        raise click.UsageError("-p needs --only, the notebook whose parameters these are.")
    page = book.build(settings=book.parse_settings(settings), **options)
    return {"page": str(page)}, page.as_uri()
