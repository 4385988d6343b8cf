"""The sentences of the front page, and what fills their numbers: tables of the chapters."""

import numpy as np

PARENTS = {
    "chgnet-r2scan": "chgnet-0.3.0",
    "nequix-oam-1": "nequix-omat-1",
    "nequix-oam-1-pft": "nequix-oam-1",
    "nequix-mp-1-pft": "nequix-mp-1",
    "nequix-mp-1-pft-nocotrain": "nequix-mp-1",
}


def sentences(tables):
    """Yield a sentence with gaps and its numbers."""
    summary = tables.of("04_architectures-summary").set_index(["study", "source"])
    value, straight, local = (
        summary["value"],
        ("as above", "element"),
        ("a map per atom", "element"),
    )
    assert summary["ratio_low"][straight] < 1 < summary["ratio_high"][straight]
    assert summary["ratio_high"][local] < 1
    assert (summary.loc["within elements", "ratio_high"].dropna() < 1).all()
    yield (
        "One linear map from another network misses {:.2f} of a network's features and one from the "
        "bare element {:.2f}, no measurable difference; a map for each neighbourhood misses {:.2f} "
        "from a network and {:.2f} from the element",
        *(value["as above", "another network"], value[straight]),
        *(value["a map per atom", "another network"], value[local]),
    )
    costs = tables.full("08_measures-stitching").query("layer == 'last'").groupby("kin")["error"]
    cost = costs.mean()[["another family", "element"]]
    words = "features are off by {:.0f} meV per atom, the element's by {:.0f}"
    yield words, *cost
    yield from fine_tuned(tables.of("04_architectures-errors").query("metric == 'gfre'"))
    yield from trained_again(tables)
    yield from atoms(tables)
    yield from structures(tables.of("09_structures-predictions"))


def fine_tuned(errors):
    """Parents and their children, and the nearest pairs of the tree."""
    models = sorted({*errors["target"][errors["source"] == "element"]})
    models = [name for name in models if "untrained" not in name]
    matrix = errors.pivot_table("error", "source", "target")
    matrix = matrix.drop(index=["element", "soap", "symmetry-functions"], errors="ignore")
    names = [name for name in matrix.index if name in models]
    matrix = matrix.loc[names, names]
    yield "Here {} published checkpoints", len(names)
    own = [matrix.loc[parent, child] for child, parent in PARENTS.items()]
    yield (
        "All five public descendants are rebuilt from their parent to between {:.2f} and {:.2f}",
        min(own),
        max(own),
    )
    kin = [{"chgnet-r2scan", "chgnet-0.3.0"}, {"nequix-omat-1", "nequix-oam-1", "nequix-oam-1-pft"}]
    kin += [{"nequix-mp-1", "nequix-mp-1-pft", "nequix-mp-1-pft-nocotrain"}]
    both = (matrix + matrix.T) / 2
    near = both.where(np.triu(np.ones(both.shape, bool), 1)).stack().nsmallest(8)
    related = [any({*pair} <= group for group in kin) for pair in near.index]
    assert related == [True] * 7 + [False] and near.iloc[7] > 1.5 * max(own)
    yield "The seven nearest pairs of the tree are these parents, their children"


def trained_again(tables):
    """What a second training changes."""
    again = tables.of("05_data-kinds").set_index("kind")["error"]["trained again"]
    once, bent = (tables.of(f"05_data-{name}")["ratio"] * 100 - 100 for name in ("rivals", "local"))
    yield (
        "in two trainings rebuild themselves to {:.2f}, and other families miss the same targets by "
        "only {:.0f} to {:.0f} % more, by {:.0f} to {:.0f} % more with local maps",
        *(again, once.min(), once.max(), bent.min(), bent.max()),
    )


def atoms(tables):
    """Elements that are seen alike, and those that are not."""
    groups = tables.of("07_atoms-groups").query("source == 'networks'")
    kinds = groups.set_index(["aspect", "level"])["share"]
    elements = tables.of("07_atoms-elements").set_index("element")["share"]
    yield (
        "another one misses {:.2f} for the lanthanides and {:.2f} for hydrogen",
        kinds["kind", "lanthanides"],
        elements["H"],
    )
    ranks = tables.of("07_atoms-ranks").set_index(["quantity", "grows with"])
    assert ranks["high"]["error", "atoms"] < 0
    assert ranks["low"]["share", "atoms"] < 0 < ranks["high"]["share", "atoms"]


def structures(table):
    """Energies and volumes from averaged features."""
    trained = table[~table["source"].str.contains("untrained|soap|element|symmetry|composition")]
    ahead = trained.query("against == 'symmetry-functions' and target == 'energy'")
    assert len(ahead) == 26 and (ahead["high"] < 1).all()
    plain = table.query("against == 'composition'").pivot_table("ratio", "source", "target")
    own = plain.loc[[*ahead["source"]]]
    family = own.index.str.extract(r"^(7net|nequix|tensornet|m3gnet|chgnet|qet|diep)")[0]
    best = own["energy"].groupby(family.to_numpy()).min()
    yield "the best of a family leave {:.2f} to {:.2f} of the error", best.min(), best.max()
    assert plain["energy"]["soap"] > plain["energy"]["symmetry-functions"]
    yield (
        "For the volume simple symmetry functions leave {:.2f}, no network less than {:.2f}",
        plain["volume"]["symmetry-functions"],
        own["volume"].min(),
    )
