"""The names of all that compares features; `similarity.MEASURES` describes those of the second."""

METRICS = ("gfre", "lfre", "gfrd", "kernel")  # a map is fitted; smaller is more alike
SIMILARITIES = ("cka", "cka-rbf", "overlap", "cknna", "svcca", "pwcca", "procrustes", "imbalance")
