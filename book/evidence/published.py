"""The paper's numbers, and rows of tables, for the sentences of the claims page."""

import pandas as pd

from umlip_latents.resources import PUBLISHED

BASELINES = "untrained|soap|element|symmetry"


def select(table, **equal):
    """Rows with these values; a list allows several."""
    for column, value in equal.items():
        table = table[table[column].isin(value if isinstance(value, list) else [value])]
    return table


def published(study, source=None, target=None, metric="gfre"):
    """Mean of the paper's numbers."""
    rows = select(pd.read_csv(PUBLISHED), study=study, metric=metric)
    rows = rows[rows.source != rows.target]
    ends = {"source": source, "target": target}
    return select(rows, **{end: names for end, names in ends.items() if names}).value.mean()


def trained(rows, *columns):
    """Rows in which no name is a baseline's."""
    for column in columns:
        rows = rows[~rows[column].str.contains(BASELINES)]
    return rows


def between(table, **equal):
    """Mean error between two trained networks of different families."""
    rows = trained(select(table, **equal), "source", "target")
    return rows[rows.source.str.split("-").str[0] != rows.target.str.split("-").str[0]].error.mean()


def from_element(table, **equal):
    """Mean error from the bare element to trained networks."""
    return trained(select(table, source="element", **equal), "target").error.mean()


def matched(tables):
    """A function that gives the mean of a column over matched pairs of checkpoints."""
    table = select(tables.full("07_natural_experiments-groups"), kind="all")

    def mean(layer, aspect, direction="between them", column="error", **equal):
        rows = select(table, layer=layer, aspect=aspect, direction=direction, **equal)
        return rows[column].mean()

    return table, mean
