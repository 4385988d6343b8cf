"""The sentences of the claims page, and what fills their numbers."""

import pandas as pd

from published import between, from_element, matched, published, select, trained
from umlip_latents.resources import PUBLISHED

LI3PS4 = {"start": "chgnet-0.3.0", "target_domain": "li3ps4-gfn1", "domain": "target"}
OMAT_MP = ["nequix-omat-1", "nequix-mp-1"]


def sentences(tables):
    """Yield each sentence with gaps, and its numbers."""
    for topic in (architectures, variants, versions, tuning, protocols, structures, convergence):
        yield from topic(tables)


def pair(name, paper, here):
    """The two numbers that the figure holds against each other."""
    return f"{name}: paper: {{:.2f}} here: {{:.2f}}", paper, here


def architectures(tables):
    mad = published("umlips-mad-test")
    summary = tables.of("04_architectures-summary").set_index(["study", "source"]).value
    studies = ("as above", "last layer", "a map per atom")
    deep, last, local = (summary[study, "another network"] for study in studies)
    robust = tables.of("05_data-robust").set_index("kind")["last layer"]
    version = robust["another version or code"]
    assert version < last
    yield pair("universal-global", mad, last)
    every = select(pd.read_csv(PUBLISHED), study="umlips-mad-test", metric="gfre").value
    span = every.min(), every.max()
    yield "a mean GFRE of {:.2f} of each other, from {:.2f} to {:.2f}.", mad, *span
    yield "of seven other families, leave {:.2f}; another version or code", last
    yield "on the same data leaves {:.2f}. But", version
    yield "knows no geometry, leaves {:.2f} of", summary["last layer", "element"]

    theirs = published("umlips-mad-test", metric="lfre")
    assert local < deep
    yield pair("universal-local", theirs, local)
    yield "Their mean LFRE is {:.2f}, against {:.2f} globally.", theirs, mad
    yield "Between our backbones it is {:.2f}, against {:.2f}.", local, deep
    lfre = trained(select(tables.of("04_architectures-errors"), metric="lfre"), "source", "target")
    apart = lfre[lfre.source_family != lfre.target_family]
    yield "without any map, leaves {:.2f} already", apart.neighbours.mean()

    alexandria = published("umlips-alexandria")
    yield "mean GFRE is {:.2f} on MAD and {:.2f} on Alexandria.", mad, alexandria
    backbones = published("umlips-backbone-mad-test")
    yield pair("universal-backbone", backbones, deep)
    yield "backbones leave {:.2f} and last layers {:.2f}.", backbones, mad
    yield "Here it is {:.2f} and {:.2f}", deep, last

    pet, mace = ["PET-MAD-v1.0.2"], ["MACE-MP-0b3"]
    to, back = published("umlips-mad-test", pet, mace), published("umlips-mad-test", mace, pet)
    errors = tables.full("03_comparison-errors")
    ours = select(errors, split="structure", kind="all", metric="gfre", layer="last")
    ours = ours.set_index(["source", "target"])
    there, here = ours.loc[("nequix-mp-1", "7net-l3i5")], ours.loc[("7net-l3i5", "nequix-mp-1")]
    assert there.high < here.low
    yield pair("universal-direction", to, there.error)
    yield "rebuilds MACE-MP-0b3 to {:.2f} and is rebuilt to {:.2f}.", to, back
    yield "SevenNet-l3i5 with {:.2f}, and {:.2f} back.", there.error, here.error


def variants(tables):
    table, mean = matched(tables)
    last = tables.of("05_data-robust").set_index("kind")["last layer"]
    data, functional = last["other data"], last["another functional"]
    mace, umlips = published("mace-variants-mad-test"), published("umlips-mad-test")
    yield pair("variants-closer", mace, data)
    yield "mean GFRE is {:.2f}, between architectures {:.2f}.", mace, umlips
    yield "on other data leave {:.2f} of each other.", data
    both, other = ["data", "functional"], "another architecture"
    ratios = [mean(layer, both, other, "ratio") for layer in ("last", "backbone")]
    yield "is {:.2f} in the last layer and {:.2f} in the backbone", *ratios
    held = select(table, aspect=both, direction=other)
    assert (select(held, layer="backbone").ratio_high < 1).all()
    assert {*held[held.ratio_high > 1].level} == {"SevenNet", "TensorNet"}

    names = ["MACE-matpes-pbe", "MACE-matpes-r2scan"]
    functionals = published("mace-variants-mad-test", names, names)
    others = (12 * mace - 2 * functionals) / 10
    yield pair("variants-functional", functionals, functional)
    yield "functionals leave {:.2f} of each other, the other pairs {:.2f}.", functionals, others
    yield "leave {:.2f} between functionals and {:.2f} between data sets.", functional, data
    m3gnet = mean("backbone", "functional", level="M3GNet")
    assert m3gnet > mean("backbone", "data")
    yield "functionals are as far apart ({:.2f}) as", m3gnet

    study, mptrj = "pet-variants-mad-test", ["PET-mptraj"]
    to, back = published(study, None, mptrj), published(study, mptrj)
    errors = tables.full("07_natural_experiments-errors")
    errors = select(errors, layer="backbone", kind="all", metric="gfre")
    ways = errors.set_index(["source", "target"]).error
    ratio = ways[(*OMAT_MP,)] / ways[(*OMAT_MP[::-1],)]
    yield pair("variants-diversity", to / back, ratio)
    yield "to {:.2f} and rebuilds them to {:.2f}, a ratio of {:.2f}.", to, back, to / back
    yield "the ratio of the two directions is {:.2f}", ratio
    omat, mp = (between(errors, source=name) for name in OMAT_MP)
    assert omat < mp
    yield "OMat24 leaves {:.2f} and MPtrj {:.2f}.", omat, mp

    oam = ["PET-oam", "PET-omat-l"]
    far = (published(study, oam, mptrj) + published(study, mptrj, oam)) / 2
    pairs = select(tables.full("07_natural_experiments-pairs"), layer="last", kind="all")
    ends, mp = ["nequix-oam-1", "nequix-omat-1"], "nequix-mp-1"
    rows = [select(pairs, source=mp, target=ends), select(pairs, source=ends, target=mp)]
    strange, tuned = pd.concat(rows).error.mean(), mean("last", "data, fine-tuned")
    yield pair("variants-tuned", published(study, oam, oam), tuned)
    yield "leave {:.2f} of each other, either", published(study, oam, oam)
    yield "and PET on MPtrj {:.2f}.", far
    yield "in Nequix give {:.2f} and {:.2f}.", tuned, strange


def versions(tables):
    _, mean = matched(tables)
    seven = {"level": "SevenNet"}
    two, data = mean("last", "version", **seven), mean("last", "data", **seven)
    deep, deep_data = (mean("backbone", aspect, **seven) for aspect in ("version", "data"))
    sizes, pets = published("pet-omat-sizes-mad-test"), published("pet-variants-mad-test")
    yield pair("variants-sizes-pet", sizes, two)
    yield "leave {:.2f} of each other, six PETs on different data {:.2f}.", sizes, pets
    yield "{:.2f} between two sizes and {:.2f} between two data sets.", two, data
    yield "Its backbones do not: {:.2f} and {:.2f}.", deep, deep_data
    small = published("mace-sizes-mad-test")
    yield pair("variants-sizes-mace", small, two)
    yield "They leave {:.2f} of each other. Two sizes of SevenNet leave {:.2f}", small, two
    study, large = "mace-off-sizes-organic", ["MACE-OFF23-large"]
    ways = published(study, large), published(study, None, large)
    yield "From the large one the error is {:.2f}, to it {:.2f}.", *ways
    ways = (published("mace-mp-vs-off-organic", [s]) for s in ("MACE-MP-0b3", "MACE-OFF23"))
    yield "rebuilds MACE-OFF23 to {:.2f} and is rebuilt to {:.2f}.", *ways
    yield "The mean of both directions is {:.2f}.", published("mace-omat-0-vs-mh-1")
    branches, one = published("dpa-branches-mad-test"), "functional, one network"
    yield pair("variants-branches", branches, mean("last", one))
    yield "leave {:.2f} of each other; the two", branches
    yield "fidelities of SevenNet leave {:.2f} in the last layer.", mean("last", one)
    yield "less in the last layer, {:.2f}, and", two
    yield "more in the backbone, {:.2f} against {:.2f}.", deep, mean("backbone", one)
    yield "The mean between five tasks is {:.2f}.", published("uma-tasks-mad-test")
    ways = (published("pet-mad-vs-dos", [source]) for source in ("PET-MAD", "PET-MAD-DOS"))
    yield "is rebuilt to {:.2f} and rebuilds it to {:.2f}.", *ways


def paper_tuning(source, target):
    """The paper's number on Li3PS4."""
    return published("pet-fine-tuning-li3ps4", [source], [target])


def tuning(tables):
    full, bespoke = (paper_tuning("pretrained", t) for t in ("full fine-tuning", "bespoke"))
    errors = select(tables.full("04_fine_tuning-errors"), target="nequix-oam-1")
    errors = select(errors, dataset="alexandria-random-1k").set_index("source")
    start, sibling = errors.loc["nequix-omat-1"], errors.loc["nequix-mp-1"]
    assert start.high < sibling.low
    yield pair("tuning-bias", full, start.error)
    strange = paper_tuning("bespoke", "full fine-tuning")
    yield "rebuilt to {:.2f} from its start and to {:.2f} from a bespoke network.", full, strange
    yield "is rebuilt to {:.2f} from its start, and to {:.2f} from a", start.error, sibling.error
    yield "the bare element rebuilds it to {:.2f}.", errors.error["element"]

    ways = [
        f"{part} {how}"
        for part in ("full", "heads")
        for how in ("fine-tuning", "transfer learning")
    ]
    four = sum(paper_tuning("pretrained", way) for way in ways) / 4
    yield "end at a mean of {:.2f} from the pretrained network,", four
    yield "the bespoke one at {:.2f}.", bespoke
    kept = select(tables.full("04_fine_tuning-retention"), direction="start to tuned")
    kept = kept[~kept.tuned.str.contains("mf")]
    ratio = kept.groupby("dataset").ratio.mean()
    assert kept.ratio_high.max() < 1
    assert kept.tuned.nunique() == 5
    yield "is {:.2f} times that to a sibling", ratio["alexandria-random-1k"]
    yield "on the embedded structures {:.2f} times.", ratio["embedded"]


def protocols(tables):
    runs = select(tables.full("10_protocols-errors"), layer="last", metric="gfre", **LI3PS4)

    def ours(source, target):
        rows = runs[runs.source.str.contains(source) & runs.target.str.contains(target)]
        return rows[["median", "min", "max"]].mean()

    names = ("full fine-tuning", "full transfer learning", "heads fine-tuning", "bespoke")
    paper = {name: paper_tuning("pretrained", name) for name in names}
    here = {name: ours("pretrained", name) for name in names}
    full, transfer, heads, bespoke = (here[name]["median"] for name in names)
    there = [*paper.values()]
    assert here["full fine-tuning"]["max"] < here["bespoke"]["min"]
    yield pair("tuning-li3ps4", there[0], full)
    yield "the fine-tuned one to {:.2f} and a bespoke one to {:.2f}.", there[0], there[3]
    yield "split by trajectory, it is {:.2f} and {:.2f}.", full, bespoke
    assert here["full transfer learning"]["max"] > here["bespoke"]["min"]
    yield pair("tuning-transfer", there[1], transfer)
    yield "new last layer ends at {:.2f} from the old one.", there[1]
    yield "ends at {:.2f}, where a bespoke network does ({:.2f}).", transfer, bespoke
    assert here["heads fine-tuning"]["max"] < here["full fine-tuning"]["min"]
    yield pair("tuning-heads", there[2], heads)
    yield "In PET the heads alone end at {:.2f} and full fine-tuning at {:.2f}.", there[2], there[0]
    yield "In CHGNet the heads alone end at {:.2f} and full fine-tuning at {:.2f}.", heads, full
    back, theirs = ours("bespoke", "pretrained")["median"], paper_tuning("bespoke", "pretrained")
    yield pair("tuning-bespoke", theirs, back)
    yield "the pretrained one to {:.2f} and is rebuilt to {:.2f}.", theirs, there[3]
    yield "In CHGNet it is {:.2f} and {:.2f}.", back, bespoke
    element = ours("element", "pretrained")["median"]
    yield "rebuilds the pretrained CHGNet to {:.2f} there", element


def structures(tables):
    layers = pd.read_csv(PUBLISHED)

    def readout(study):
        rows = select(layers, study=study)
        return [rows[rows.source.str.contains(part)].value.mean() for part in ("last", "backbone")]

    down, up = readout("last-layer-vs-backbone-mad-test")
    ours = trained(tables.of("01_features-readout"), "model")
    ours = ours[~ours.model.str.contains("nequix|eform")]
    assert ours.model.nunique() == 18
    ours = ours.groupby("way").error.mean()
    yield pair("layers-pet", down, ours["last to backbone"])
    yield "leaves {:.2f} of the backbone, the backbone {:.2f} of the last layer.", down, up
    ways = ours[["last to backbone", "backbone to last"]]
    yield "In eighteen checkpoints of ours it is {:.2f} and {:.2f}.", *ways
    uma = readout("last-layer-vs-backbone-uma-mad-test")
    yield "The two leave {:.2f} and {:.2f} of each other.", *uma

    study, order = "cumulant-orders-pet-mad-mad-test", "order-{}".format
    steps = [(order(n), order(n + 1)) for n in range(1, 8)]
    paper = sum(published(study, [a], [b]) for a, b in steps) / 7
    orders = tables.full("02_cumulants-orders").set_index(["source", "target"])
    networks = trained(orders, "model").error
    yield pair("cumulants-steps", paper, networks[steps].mean())
    yield "is {:.2f} in PET-MAD and {:.2f} in four networks of ours.", paper, networks[steps].mean()
    random = orders[orders.model == "chgnet-untrained-s0"].error
    yield "So it is in an untrained network, with {:.2f}", random[steps].mean()
    far, near = (published(study, [order(1)], [order(n)]) for n in (8, 2))
    ours = [networks[order(1), order(n)].mean() for n in (8, 2)]
    yield pair("cumulants-mean", far, ours[0])
    yield "PET-MAD leaves {:.2f}, from order 1 to order 2 only {:.2f}.", far, near
    yield "Ours leave {:.2f} and {:.2f}", *ours

    models, eighth = (
        tables.full("02_cumulants-models"),
        published("cumulant-order-8-umlips-mad-test"),
    )
    eight, one = (between(models, order=n) for n in (8, 1))
    yield pair("cumulants-models", eighth, eight)
    yield "leave {:.2f} of each other, atoms {:.2f}.", eighth, published("umlips-mad-test")
    yield "Ours leave {:.2f}, their means {:.2f}.", eight, one
    yield "element leaves {:.2f}.", from_element(models, order=8)
    gains = select(tables.full("14_features_at_work-orders"), quantity="energy", weights="damped")
    gains = select(gains, dataset="alexandria-random-1k", pooling="4 cumulants")
    gains = trained(gains[gains.source.str.match("chgnet|7net|nequix|tensornet|m3gnet")], "source")
    assert len(gains) == 12
    yield "make the error of an energy {:.2f} times as large", gains.value.mean()


def convergence(tables):
    kinds = tables.of("05_data-kinds").set_index("kind")
    data, other = kinds.loc["other data"], kinds.loc["another architecture, same data"]
    again = kinds.loc["trained again"]
    assert data["from"] < data["to"] < 1
    assert data.high > other.low
    assert max(data.error, other.error) < again.error
    yield "different data leave {:.2f} of each other's backbone", data.error
    yield "a third of the variance and {:.2f} times", data["over element"]
    yield "a second training of M3GNet on the same data leaves {:.2f}.", again.error
    cknna = 1 - tables.of("08_measures-near").set_index("measure").loc["CKNNA"]
    near = cknna[["same family", "another family"]]
    yield "family come to {:.2f}, of two families to {:.2f}", *near
    yield "a network and the bare element to {:.2f}.", cknna.element
    yield "Other data leave {:.2f}, another architecture on", data.error
    yield "on the same data {:.2f}. The two", other.error
    yield "a second training of M3GNet ({:.2f})", again.error

    small = tables.full("05_controlled_training-effects")
    small = select(small, layer="backbone", within_element=False).groupby("aspect")
    data, other = (
        small[["ratio", "ratio_low", "ratio_high"]].mean().loc[["data", "architecture"]].to_numpy()
    )
    assert data[1] < other[2]
    yield "leave {:.2f} times what another seed leaves", data[0]
    yield "with an interval from {:.2f} to {:.2f};", *data[1:]
    yield "another architecture {:.2f}, from {:.2f} to {:.2f}.", *other
    errors = select(tables.full("04_fine_tuning-errors"), source=OMAT_MP, target=OMAT_MP)
    errors = errors.groupby("dataset")[["error", "low", "high"]].mean()
    far, near = errors.loc["embedded"], errors.loc["mptrj-random-1k"]
    assert far.low < near.high
    yield "leave {:.2f} of each other on the embedded structures", far.error
    yield "and {:.2f} on MPtrj", near.error
    links = tables.of("08_measures-links").set_index(["networks", "measure"])
    every, others = links.loc[("all", "CKA")], links.loc[("other families", "CKA")]
    assert every.low < 0 < every.high
    assert others.high < 0
    yield "is {:.2f} over all networks,", every.correlation
    yield "with an interval from {:.2f} to {:.2f}. Over", every.low, every.high
    yield "of other families it is {:.2f},", others.correlation
    yield "from {:.2f} to {:.2f}: there the better", others.low, others.high
