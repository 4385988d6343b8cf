"""How alike the features of two models are; the names of all metrics."""

METRICS = ("gfre", "lfre", "kernel")  # a map is fitted; smaller is more alike
SIMILARITIES = ("cka", "cka-rbf", "overlap", "cknna", "svcca", "pwcca")  # larger is more alike
DISTANCES = ("procrustes", "imbalance")
