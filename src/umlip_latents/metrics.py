"""The names of all that compares features, and how the values of each are to be read."""

from typing import NamedTuple

METRICS = ("gfre", "lfre", "gfrd", "kernel")  # a map is fitted; smaller is more alike


class Measure(NamedTuple):
    """How the values of a measure without a fitted map are to be read."""

    larger: bool  # a larger value means more alike
    symmetric: bool
    local: bool = False  # it looks at neighbours, and takes the groups of the atoms


MEASURES = {
    "cka": Measure(larger=True, symmetric=True),
    "cka-rbf": Measure(larger=True, symmetric=True),
    "overlap": Measure(larger=True, symmetric=True, local=True),
    "cknna": Measure(larger=True, symmetric=True, local=True),
    "svcca": Measure(larger=True, symmetric=True),
    "pwcca": Measure(larger=True, symmetric=False),
    "procrustes": Measure(larger=False, symmetric=True),
    "imbalance": Measure(larger=False, symmetric=False, local=True),
}
