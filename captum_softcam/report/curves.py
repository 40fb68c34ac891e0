"""Training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from captum_softcam._figures import Drawing
from captum_softcam._names import listed
from captum_softcam.softcam.scores import best_epoch

__all__ = ["plot_history"]

_PANELS = {
    "classification loss": ("train_loss", "val_loss"),
    "score on the validation set": ("val_accuracy", "val_auc"),
    "penalty on the evidence": ("train_penalty", "val_penalty"),
    "sparsity of the evidence (Hoyer)": ("val_sparsity",),
}
_STYLES = (("#0072b2", "-", "o"), ("#d55e00", "--", "s"))  # safe for colour-blind readers; dashes survive greyscale


def plot_history(
    history: Sequence[Mapping[str, float]],
    *,
    ax: Axes | Sequence[Axes] | None = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """Plot losses, scores, penalty and sparsity against the epochs, with the best epoch marked.

    Curves differ in dash and marker as well as in colour. Panels without logged values are left out, such as the penalty of
    a model that is not a SoftCAM model.

    Args:
        history (sequence of mapping): one entry per epoch, as returned by
            :func:`~captum_softcam.softcam.train_classifier`.
        ax (matplotlib.axes.Axes or sequence of them): one for each panel, in this order. Default: a new figure
        figsize (tuple of float): of the new figure in inches. Default: 8 inches wide, 2.9 inches per row

    Returns:
        matplotlib.figure.Figure: two panels per row, or the figure of ``ax``; save it with ``savefig``.

    Raises:
        ValueError: if ``history`` is empty, or there is not one ``ax`` for each panel.
    """
    if not history:
        raise ValueError("there are no epochs to draw; pass at least one.")
    panels = {title: names for title, names in _PANELS.items() if any(name in history[0] for name in names)}
    if ax is None:
        rows = -(-len(panels) // 2)
        figure = Drawing(figsize=figsize or (8, 2.9 * rows), layout="constrained")
        axes = [figure.add_subplot(rows, 2, place) for place in range(1, len(panels) + 1)]
    else:
        axes = [ax] if isinstance(ax, Axes) else list(np.ravel(cast(Any, ax)))
    if len(axes) != len(panels):
        raise ValueError(
            f"this history has {len(panels)} panels ({listed(panels)}); pass as many axes as ax, got {len(axes)}."
        )
    best = history[best_epoch(history)]["epoch"]
    for axis, (title, names) in zip(axes, panels.items(), strict=True):
        _draw(axis, title, [name for name in names if name in history[0]], history)
        axis.axvline(best, color="0.5", linestyle=":", label=f"best: epoch {best:g}")
        axis.legend(fontsize=8)
    return axes[0].figure.canvas.figure


def _draw(axis: Any, title: str, names: Sequence[str], history: Sequence[Mapping[str, float]]) -> None:
    epochs = [row["epoch"] for row in history]
    every = max(1, len(epochs) // 10)  # markers on all of many epochs would merge into a band
    for name, (colour, dashes, marker) in zip(names, _STYLES, strict=False):
        values = [row[name] for row in history]
        label = name.replace("val_", "validation ").replace("train_", "training ").replace("auc", "AUC")
        axis.plot(epochs, values, dashes, color=colour, marker=marker, markersize=4, markevery=every, label=label)
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("epoch", fontsize=9)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
