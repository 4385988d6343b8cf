"""The code on the pages runs, and does what the page says."""

import re
import runpy

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from umlip_latents.book import ROOT


@pytest.mark.parametrize("page", ["your_structures", "your_measure"])
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    cells = [bulk(x, "rocksalt", a=a) * (1, 1, 2) for x in ("NaCl", "MgO") for a in (4.2, 4.9, 5.6)]
    for seed, atoms in enumerate(cells):
        atoms.rattle(0.1, seed=seed)
    write(tmp_path / "my.xyz", cells)
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "book" / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    (tmp_path / "page.py").write_text("\n".join(blocks))
    names = runpy.run_path("page.py")
    assert set(names["features"]) == {"chgnet-0.3.0", "chgnet-r2scan", "element"}
    if page == "your_measure":
        matrix = names["result"].matrix("cka_distance")
        assert matrix.to_numpy() == pytest.approx(matrix.T.to_numpy(), abs=1e-5)
        assert 0 < matrix.loc["chgnet-0.3.0", "chgnet-r2scan"] < 1
        turned = np.linalg.qr(np.random.default_rng(0).normal(size=(64, 64)))[0]
        x = names["features"]["chgnet-0.3.0"].features
        x = x - x.mean(axis=0)
        assert names["cka_distance"](x, x @ turned) == pytest.approx(0, abs=1e-6)
