"""The sentences of chapter 06, and what fills their numbers."""


def sentences(tables):
    """Yield a sentence with gaps and its numbers; `tables` maps a table's name to it."""
    yield from descendants(tables["retention"].set_index("name"))
    yield from depth(tables)
    yield from protocols(tables)
    yield from methods(tables)
    yield from riddle(tables)


def descendants(kept):
    """The first table."""
    near, far, bare = (kept[column] for column in ("start", "sibling", "element"))
    assert (kept["from"] > 0.5).all()  # all five stay near
    yield "From its start, nequix-oam-1 is rebuilt to {:.2f},", near["nequix-oam-1"]
    yield "that learned MPtrj from scratch, to {:.2f}.", far["nequix-oam-1"]
    chgnet = "chgnet-r2scan"
    yield "CHGNet's r2SCAN network leaves {:.2f} and {:.2f}.", near[chgnet], far[chgnet]
    assert near.idxmin() == "nequix-oam-1-pft"
    yield "Nearest is nequix-oam-1-pft, {:.2f} from its start.", near.min()
    alone, replayed = near["nequix-mp-1-pft-nocotrain"], near["nequix-mp-1-pft"]
    yield "nocotrain moved to {:.2f}, its twin with those data to {:.2f}", alone, replayed
    oam = kept.loc["nequix-oam-1"]
    assert oam.low < 1 < oam.high  # no better than the element
    yield (
        "no better than the bare element does ({:.2f} times its error, {:.2f} to {:.2f})",
        *oam[["sibling/element", "low", "high"]],
    )
    yield (
        "a retention of {:.2f} becomes {:.2f} where the element is the ruler",
        oam.retention,
        oam["by the element"],
    )
    grown = kept.loc[["nequix-mp-1-pft", "nequix-mp-1-pft-nocotrain"]]
    assert (grown["by the element"] > grown.to).all()  # the other way round
    assert (kept.high > 1).sum() == 3
    assert len(kept) == 5
    yield "{:.2f} to {:.2f} against {:.2f} to {:.2f} from siblings", *ends(near), *ends(far)
    assert (near < bare).all()


def depth(tables):
    """Errors along the interactions: the long run's, and CHGNet's here."""
    layers = tables.full("04_fine_tuning-layers")
    layers = layers[layers.layer.str.startswith("interaction") & ~layers.tuned.str.contains("7net")]
    courses = [part.gfre for _, part in layers.sort_values("layer").groupby("tuned")]
    assert len(courses) == 5
    assert all(course.is_monotonic_increasing for course in courses)
    oam = layers[layers.tuned == "nequix-oam-1"].gfre
    yield "in nequix-oam-1 from {:.2f} to {:.2f}.", oam.iloc[0], oam.iloc[-1]
    own = tables["layers"].set_index("name")
    first, fourth, last = (own.loc[n] for n in ("interaction-1", "interaction-4", "last"))
    assert first.to < fourth["from"]
    yield (
        "the error from the start grows from {:.2f} to {:.2f}, but the element's grows from {:.2f} "
        "to {:.2f}, and their ratio only from {:.2f} to {:.2f} at the fourth interaction.",
        *(first["from the start"], last["from the start"]),
        *(first["from the element"], last["from the element"]),
        *(first.ratio, fourth.ratio),
    )
    robust = tables["robust"].set_index("name")
    yield "the retention of CHGNet's is {:.2f}", robust["last layer retention"]["chgnet-r2scan"]
    order = robust["backbone start"].sort_values().index
    assert robust["within elements start"][order].is_monotonic_increasing
    assert robust["last layer start"].idxmax() == "chgnet-r2scan"
    oam = robust.loc["nequix-oam-1"]
    there, here = oam["embedded-third retention"], oam["backbone retention"]
    assert oam["embedded-third to"] < oam["backbone from"]
    yield "keeps less, {:.2f} instead of {:.2f}", there, here


def protocols(tables):
    """CHGNet on Li3PS4, under the protocols of the long run."""
    kept = tables["protocols"]
    bespoke = kept[kept.run.str.startswith("bespoke")]
    assert (bespoke.query("layer == 'backbone'").retention < 0).all()
    kept = kept.query("start == 'chgnet-0.3.0' and target_domain == 'li3ps4-gfn1'")
    kept = kept.set_index(["run", "layer", "domain"]).sort_index()
    full = kept.loc["full fine-tuning", "backbone"]
    before, after = full.loc["target", ["force_start", "force_mae"]]
    yield "halves CHGNet's force error from {:.0f} to {:.0f} meV/Å,", before, after
    yield (
        "is {:.2f} on the pretraining domain and {:.2f} on the new material.",
        full.retention["pretraining"],
        full.retention["target"],
    )
    heads = kept.loc[("heads fine-tuning", "backbone", "target")]
    yield "pays in forces ({:.0f} meV/Å).", heads.force_mae
    anew = kept.loc[("full transfer learning", "last", "pretraining")]
    yield "({:.2f} after full transfer learning)", anew.retention
    yield "is still rebuilt to {:.2f}.", anew.gfre_to_pretrained
    scratch = kept.loc[("bespoke, seed 0", "backbone", "pretraining")]
    yield "cannot be rebuilt from theirs ({:.2f}).", scratch.gfre_to_pretrained


def methods(tables):
    """Full fine-tuning, LoRA, layer freezing, heads and replay, at equal test error."""
    both, long = tables["equal"], tables.full("06_fine_tuning-methods").query("epoch == 0")
    order = ["full fine-tuning", "LoRA", "layer freezing", "heads fine-tuning"]
    means = {}
    for name, equal in both.groupby("start"):
        moved = equal.pivot(index="seed", columns="protocol", values="alexandria_energy_change")
        assert len(moved) == 3
        assert (moved[order].diff(axis=1).iloc[:, 1:] > 0).all(axis=None)
        near = equal.pivot(index="seed", columns="protocol", values="target_backbone_from_start")
        assert (near["LoRA"] > near["full fine-tuning"]).all()
        assert near["heads fine-tuning"].max() < 1e-4
        means[name] = equal.drop(columns="start").groupby("protocol").mean()
    start, mean = (
        long.set_index("start").loc["chgnet-0.3.0"].iloc[0],
        means["chgnet-0.3.0"].loc[order],
    )
    yield "CHGNet's force error from {:.0f} to {:.0f} meV/Å or less", start.force, mean.force.max()
    yield (
        "moved the backbone to {:.3f} from its start, LoRA to {:.3f}, layer freezing to {:.3f},",
        *mean.target_backbone_from_start[:3],
    )
    yield "the retentions are {:.2f}, {:.2f}, {:.2f} and {:.0f}.", *mean.retention
    yield (
        "by {:.0f} meV/atom after full fine-tuning, by {:.0f} after LoRA, {:.0f} after layer "
        "freezing and {:.0f} after heads fine-tuning",
        *mean.alexandria_energy_change,
    )
    forces = start.alexandria_force, *ends(mean.alexandria_force)
    yield "grow from {:.1f} to between {:.1f} and {:.1f} meV/Å", *forces

    start = long.set_index("start").loc["mini-mace-mptrj"].iloc[0]
    mean = means["mini-mace-mptrj"].loc[[*order, "multi-head replay"]]
    yield "its force error from {:.0f} to {:.0f} meV/Å or less", start.force, mean.force.max()
    yield (
        "{:.2f} after full fine-tuning, {:.2f} after LoRA, {:.2f} after layer freezing, {:.0f} "
        "after heads fine-tuning and {:.2f} after replay.",
        *mean.retention,
    )
    yield "by {:.0f}, {:.0f}, {:.0f}, {:.0f} and {:.0f} meV/atom;", *mean.alexandria_energy_change
    forces = mean.alexandria_force[["multi-head replay", "full fine-tuning"]]
    yield (
        "from {:.0f} meV/Å at the start they come to {:.0f}, after full fine-tuning to {:.0f}.",
        start.alexandria_force,
        *forces,
    )
    worse = mean.energy[["LoRA", "layer freezing"]]
    yield (
        "LoRA misses them by {:.0f} meV/atom, layer freezing by {:.0f}, the others by {:.0f} at most.",
        *worse,
        mean.energy.drop(worse.index).max(),
    )


def riddle(tables):
    """Why an untrained network lies nearer to the pretrained one than a trained one does."""
    course = tables["course"].set_index("name")
    start, end = course.iloc[0], course.iloc[-1]
    pretrained, element, back = (
        "from the pretrained network",
        "from the bare element",
        "back to the pretrained network",
    )
    within = f"{pretrained}, within elements"
    yield "leaves {:.2f} of the random one", start[pretrained]
    yield "hardly more, {:.2f}: on three elements", start[element]
    yield "the element leaves {:.2f}, and the error", end[element]
    yield "rises along with it, to {:.2f}.", end[pretrained]
    yield "{:.2f} before, {:.2f} after.", start[within], end[within]
    assert (course[back] - start[back]).abs().max() < 0.01
    yield "nothing changes ({:.2f})", start[back]
    long = tables.full("10_protocols-curve").query("layer == 'backbone'")
    long = long[long.run.str.startswith("bespoke") & (long.start == "chgnet-0.3.0")]
    runs = long.sort_values("epoch").groupby(["target", "run"]).gfre
    assert len(runs) == 4
    yield "from at most {:.2f} to at least {:.2f}.", runs.first().max(), runs.last().min()
    errors = tables["errors"].query("target == 'chgnet-untrained-s0'").set_index("source").error
    yield "the element leaves {:.2f} of an untrained CHGNet", errors["element"]
    yield "no room for a list of all elements, {:.2f}.", errors["chgnet-0.3.0"]


def ends(values):
    """The smallest and the largest."""
    return values.min(), values.max()
