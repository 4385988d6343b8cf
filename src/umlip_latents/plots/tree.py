"""The family tree of models: who is near whom."""

from collections.abc import Collection, Mapping

import matplotlib.pyplot as plt
import pandas as pd
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform

from .style import colour_names, finish


def family_tree(
    matrix: pd.DataFrame,
    families: Mapping[str, str],
    *,
    fine_tuned: Collection[str] = (),
    highlighted: Collection[str] = (),
) -> plt.Figure:
    """A tree in which two branches join at the mean error between their leaves.

    Average linkage (`scipy.cluster.hierarchy.linkage`) of the mean of the errors in both
    directions.

    Parameters
    ----------
    matrix
        Errors between all names, such as GFREs: row = source, column = target.
    families
        Name to family, which sets the colour of its label.
    fine_tuned
        Names that grew from the weights of another one; they get a triangle.
    highlighted
        Names in bold on a frame.

    Examples
    --------
    >>> matrix = pd.DataFrame([[0, 0.2, 1], [0.4, 0, 1], [1, 1, 0]], list("abc"), list("abc"))
    >>> figure = family_tree(matrix, {"a": "CHGNet", "b": "CHGNet", "c": "MACE"})
    >>> sorted(label.get_text() for label in figure.axes[0].get_yticklabels())
    ['a', 'b', 'c']
    """
    distances = squareform(matrix.to_numpy() / 2 + matrix.to_numpy().T / 2, checks=False)
    joined = linkage(distances, "average")
    figure, axis = plt.subplots(figsize=(6.2, 1.2 + 0.235 * len(matrix)))
    labels = [f"{name} ▸" if name in fine_tuned else name for name in matrix]
    grey = {"link_color_func": lambda _: "0.45", "leaf_font_size": 10}
    dendrogram(joined, orientation="left", labels=labels, ax=axis, **grey)
    colour_names(axis, families)
    for label in axis.get_yticklabels():
        if label.get_text().removesuffix(" ▸") in highlighted:
            label.set_fontweight("bold")
            label.set_bbox({"facecolor": "none", "edgecolor": label.get_color(), "pad": 1.5})
    axis.set(xlabel="mean error of both directions", xlim=(max(1, joined[:, 2].max()), 0))
    axis.grid(visible=False, axis="y")
    if fine_tuned:
        axis.set_title("▸ fine-tuned from another one", fontsize=10, loc="right", color="0.3")
    return finish(figure)
