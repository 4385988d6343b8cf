"""The sentences of chapter 05, and what fills their numbers."""

AGAIN, OTHER = "trained again", "another architecture, same data"
MP = ["m3gnet-mp-2021-first-training", "m3gnet-mp-2021"]
EFORM = ["m3gnet-mp-2018-eform-first-training", "m3gnet-mp-2018-eform"]


def sentences(tables):
    """Yield a sentence with gaps and its numbers; `tables` maps a table's name to it."""
    kinds = tables["kinds"].set_index("kind")
    rivals, local = (tables[name].set_index("target") for name in ("rivals", "local"))
    yield from differences(kinds, tables["errors"])
    yield from same_target(rivals, local)
    yield from elsewhere(tables["robust"].set_index("kind"))
    yield from weights(tables)
    yield from controlled(tables)
    yield (
        "A network trained a second time is rebuilt to {:.2f}, one of another architecture on the "
        "same data to {:.2f}.",
        kinds.error[AGAIN],
        kinds.error[OTHER],
    )
    yield "fine-tuned pairs lie at {:.2f}", kinds.error["fine-tuned from one another"]


def differences(kinds, errors):
    """The rows of the first figure, and what they are multiples of."""
    yield "rebuild each other with an error of {:.2f}.", kinds.error[AGAIN]
    yield (
        "Different architectures on the same data leave {:.2f}, networks that differ in several "
        "things at once {:.2f}.",
        kinds.error[OTHER],
        kinds.error["several things at once"],
    )
    again, scratch = kinds.loc[AGAIN], kinds.drop(AGAIN)
    assert scratch["from"].max() < again.to  # none lies measurably above
    assert again["from"] < kinds.to[OTHER]  # no measurable difference
    yield (
        "{:.2f} for another training, {:.2f} for another architecture",
        again["over element"],
        kinds["over element"][OTHER],
    )
    data, functional = kinds.error["other data"], kinds.error["another functional"]
    yield "So a difference of data ({:.2f}) or functional ({:.2f})", data, functional
    tensornet = errors.query("kind == 'another functional' and level == 'TensorNet'").error
    assert tensornet.max() < kinds.low[AGAIN]
    yield "is rebuilt to between {:.2f} and {:.2f}", tensornet.min(), tensornet.max()
    fine_tuned, outputs = kinds.loc["fine-tuned from one another"], "one network, two outputs"
    assert fine_tuned.high < scratch.low.drop("fine-tuned from one another").min()
    yield (
        "{:.2f} where one network was fine-tuned from the other, {:.2f} for the two outputs",
        fine_tuned.error,
        kinds.error[outputs],
    )


def weights(tables):
    """Which networks share a start."""
    table = tables.full("05_data-weights")
    pairs = table.groupby(["source", "target"]).correlation
    apart = {
        ("m3gnet-mp-2021", "m3gnet-mp-2021-first-training"),
        ("m3gnet-mp-2018-eform", "m3gnet-mp-2018-eform-first-training"),
        ("tensornet-matpes-pbe", "tensornet-matpes-r2scan"),
        ("nequix-mp-1", "nequix-omat-1"),
    }
    assert (pairs.median()[[*apart]].abs() < 0.01).all()
    related = [pair for pair in pairs.groups if "nequix" in pair[0] and pair not in apart]
    related.append(("chgnet-0.3.0", "chgnet-r2scan"))
    assert len(related) == 5
    yield "Descendants keep theirs, at {:.2f} and more.", pairs.median()[related].min()
    errors = tables["errors"].set_index(["source", "target"])
    mixed = errors[errors.kind == "several things at once"].error
    assert mixed.idxmin() == ("7net-0", "7net-mf-0-PBE")
    yield "from 7net-0 to {:.2f}, better than any other of the {} pairs.", mixed.min(), len(mixed)
    yield "their weights correlate at {:.2f}", pairs.median()["7net-0", "7net-mf-0-PBE"]
    twins = table[(table.source == "7net-0") & (table.target == "7net-0_22May2024")]
    assert (twins.correlation > 3 / twins.n**0.5).all()
    yield "of May and July correlate at {:.2f}", twins.correlation.median()
    seven = errors[(errors.kind == "other data") & (errors.level == "SevenNet")].error
    yield "as those of Nequix ({:.2f} and {:.2f}).", *sorted(seven)


def same_target(rivals, local):
    """Networks that were trained twice, rebuilt by their other training and by strangers."""
    assert (rivals["from"] > 1).all()
    assert (local["from"] > 1).all()
    more, bent = 100 * (rivals.ratio - 1), 100 * (local.ratio - 1)
    yield "miss the two potentials by only {:.0f} % and {:.0f} % more", *more[MP]
    yield "the formation-energy networks by {:.0f} % and {:.0f} %", *more[EFORM]
    yield "Of {} strangers, {} even rebuild", rivals.of.max(), rivals.better.max()
    eform = rivals.loc["m3gnet-mp-2018-eform"]
    assert 0 < eform.element - eform.yardstick < 0.01  # nearly
    yield "now leaves {:.2f} and {:.2f} of the two potentials", *local.yardstick[MP]
    yield "and other families {:.0f} % and {:.0f} % more", *bent[MP]
    yield (
        "by {:.0f} to {:.0f} % more with one linear map, by {:.0f} to {:.0f} % more with local",
        more.min(),
        more.max(),
        bent.min(),
        bent.max(),
    )


def elsewhere(robust):
    """The table at the end."""
    local, within, last = (robust[c] for c in ("local", "within elements", "last layer"))
    yield (
        "{:.2f} and {:.2f}, {:.2f} and {:.2f} for the two rows.",
        *(local[AGAIN], local[OTHER], within[AGAIN], within[OTHER]),
    )
    codes, functionals = last["another version or code"], last["another functional"]
    yield "there codes and functionals leave little, {:.2f} and {:.2f}", codes, functionals
    yield "another objective most ({:.2f})", last["another objective, other data"]
    assert last.idxmax() == "another objective, other data"


def controlled(tables):
    """The small networks of the controlled experiment, those left out whose energies are bad."""
    trained = tables.full("05_controlled_training-models")
    energy = trained.groupby("level")[["energy all", "energy baseline all"]].mean()
    learned = energy.index[energy["energy all"] < energy["energy baseline all"]]
    effects = tables.full("05_controlled_training-effects")
    effects = effects.query("layer == 'backbone' and not within_element and aspect != 'seed'")
    effects = effects[effects.level.isin(learned)]
    above, below = effects[effects.ratio_low > 1], effects[effects.ratio_high < 1]
    assert above.level.value_counts().to_dict() == {"Alexandria": 2, "MPtrj": 2, "energy only": 1}
    yield "Two seeds of one recipe lie {:.2f} apart.", effects.floor.iloc[0]
    unclear = len(effects) - len(above) - len(below)
    yield (
        "Of {} errors between the base and another recipe, {} show no measurable difference from "
        "that, {} lie above and {} below.",
        *(len(effects), unclear, len(above), len(below)),
    )
    level = effects.groupby("level")[["error", "same_seed"]].mean()
    near = level.same_seed[["no EMA", "energy + forces", "AdamW, decay 0.05"]]
    yield (
        "at {:.2f} without averaged weights, at {:.2f} without stress in the loss, at {:.2f} with "
        "another optimiser.",
        *near,
    )
    nearer = (level.same_seed < level.error).sum()
    yield "In {} of {} recipes the shared start brings", nearer, len(level)
    sets = [c.removeprefix("force ") for c in trained if c.startswith("force ")]
    sets = [s for s in sets if "baseline" not in s and s != "all"]
    worse = [s for s in sets if (trained[f"force {s}"] > trained[f"force baseline {s}"]).all()]
    assert (len(worse), len(sets)) == (2, 3)
    yield "all {} predict forces worse", len(trained)
