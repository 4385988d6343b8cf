"""UMA and eSEN: small networks with random weights, saved and loaded as fairchem does."""

import numpy as np
import pytest
import torch
from fairchem.core.datasets.atomic_data import atomicdata_list_to_batch
from fairchem.core.models.base import HydraModel
from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint

from umlip_latents.models.uma import UmaModel, load

from . import checks
from .checks import latents, specimens

TASKS = ("omat", "omol")
UMA = "fairchem.core.models.uma"
MAPPING = {task: task for task in TASKS}
BACKBONE = {"max_num_elements": 100, "sphere_channels": 16, "hidden_channels": 12}
BACKBONE |= {"edge_channels": 12, "num_distance_basis": 16, "num_layers": 2, "lmax": 2, "mmax": 2}
BACKBONE |= {"cutoff": 5.0, "otf_graph": True, "direct_forces": False, "regress_forces": True}
BACKBONE |= {"regress_stress": True, "ff_type": "spectral", "chg_spin_emb_type": "rand_emb"}
BACKBONE |= {"always_use_pbc": False}
EXPERTS = {"num_experts": 4, "use_composition_embedding": True, "dataset_mapping": MAPPING}
HEAD = {"head_cls": f"{UMA}.escn_md.MLP_EFS_Head", "head_kwargs": {"wrap_property": False}}
HEAD |= {"module": f"{UMA}.escn_moe.DatasetSpecificMoEWrapper", "dataset_mapping": MAPPING}
PLAIN = {"model": f"{UMA}.escn_md.eSCNMDBackbone", "use_dataset_embedding": False}
CONFIGS = {
    "uma": {
        "model_id": "UMA-S-1.2.1",
        "backbone": {**BACKBONE, "model": f"{UMA}.escn_moe.eSCNMDMoeBackbone", **EXPERTS},
        "heads": {"energyandforcehead": HEAD},
    },
    "esen": {
        "backbone": {**BACKBONE, **PLAIN},
        "heads": {
            "energyandforcehead": {"module": f"{UMA}.escn_md.MLP_EFS_Head", "prefix": "omol"}
        },
    },
}


def task_config(task: str) -> dict:
    """An energy that refers to the elements up to krypton."""
    references = torch.arange(100.0) * (torch.arange(100) <= 36)
    path, unit = "fairchem.core.modules.normalization", "fairchem.core.units.mlip_unit.mlip_unit"
    target = f"{path}.element_references.ElementReferences"
    return {
        "_target_": f"{unit}.Task",
        "name": f"{task}_energy",
        "level": "system",
        "property": "energy",
        "out_spec": {"_target_": f"{unit}.OutputSpec", "dim": [1], "dtype": "float32"},
        "normalizer": {"_target_": f"{path}.normalizer.Normalizer", "mean": 0.0, "rmsd": 1.4},
        "element_references": {"_target_": target, "element_references": references},
        "datasets": [task],
    }


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, str]:
    """A checkpoint of each family, as published ones are."""
    folder = tmp_path_factory.mktemp("fairchem")
    for family, config in CONFIGS.items():
        config = {"pass_through_head_outputs": True, **config}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            weights = HydraModel(**config).state_dict()
        averaged = {"n_averaged": torch.tensor(1)}
        averaged |= {f"module.{key}": value for key, value in weights.items()}
        tasks = [task_config(t) for t in (["omol"] if family == "esen" else TASKS)]
        target = {"_target_": "fairchem.core.models.base.HydraModel", **config}
        saved = MLIPInferenceCheckpoint(target, weights, averaged, tasks)
        torch.save(saved, folder / f"{family}.pt")
    return {family: str(folder / f"{family}.pt") for family in CONFIGS}


def loaded(checkpoints, family: str, task: str) -> UmaModel:
    with torch.random.fork_rng():  # fairchem seeds everything
        return load(f"small-{family}", {"checkpoint": checkpoints[family], "task": task})


@pytest.fixture(scope="module", params=["uma-omat", "uma-omol", "esen-omol"])
def model(request, checkpoints) -> UmaModel:
    return loaded(checkpoints, *request.param.split("-"))


class TestAdapter(checks.AdapterSuite):
    unknown = ("Rb", "Og")
    widths = (16, 12)


def test_last_layer_gives_the_energies(model):
    """The network sums over atoms, before it adds the scale and the energies of the elements."""
    batch = atomicdata_list_to_batch([model.prepare(a) for a in specimens()])
    with torch.no_grad():
        energies = model.network(batch)[f"{model.task}_energy"]["energy"].numpy()
    if hasattr(model.last_map, "weights"):  # one expert for each task
        expert = sorted(TASKS).index(model.task)
        weight, bias = model.last_map.weights[expert], model.last_map.bias
    else:
        weight, bias = model.last_map.weight, model.last_map.bias
    last = torch.tensor(latents(model, specimens())["last"])
    with torch.no_grad():
        atomic = (last @ weight.T + bias).numpy()[:, 0]
    ends = np.cumsum([len(a) for a in specimens()])[:-1]
    found = np.array([part.sum() for part in np.split(atomic, ends)])
    assert checks.deviation(found, energies) < 1e-5


def test_tasks_are_different_models(checkpoints):
    one, other = loaded(checkpoints, "uma", "omat"), loaded(checkpoints, "uma", "omol")
    assert one.fingerprint != other.fingerprint
    found = [latents(m, specimens()) for m in (one, other)]
    for layer in ("backbone", "last"):
        assert checks.deviation(found[0][layer], found[1][layer]) > 1e-2
