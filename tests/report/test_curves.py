"""Training curves: panels, values, and that they can be read without colour."""

import matplotlib.pyplot as plt
import pytest

from captum_softcam.report import plot_history


def history(count=4, **more):
    names = ("train_loss", "val_loss", "val_accuracy", "val_auc", *more)
    scores = [0.1, 0.9, 0.5, 0.2][:count]
    return [
        {"epoch": float(epoch), "val_score": scores[epoch], **{name: k + epoch / 10 for k, name in enumerate(names)}}
        for epoch in range(count)
    ]


SOFTCAM = {"train_penalty": 0, "val_penalty": 0, "val_sparsity": 0}


def lines(axis):
    return {line.get_label(): line for line in axis.get_lines()}


def test_panels_of_a_softcam_model():
    titles = [axis.get_title() for axis in plot_history(history(**SOFTCAM)).axes]
    assert [title.split()[0] for title in titles] == ["classification", "score", "penalty", "sparsity"]


def test_panels_of_a_black_box():
    assert len(plot_history(history()).axes) == 2


def test_what_was_not_logged_has_no_panel():
    found = plot_history(history(train_penalty=0)).axes
    assert [axis.get_title().split()[0] for axis in found] == ["classification", "score", "penalty"]


def test_curves_are_the_history():
    found = lines(plot_history(history()).axes[1])
    assert found["validation AUC"].get_xdata().tolist() == [0, 1, 2, 3]
    assert found["validation AUC"].get_ydata() == pytest.approx([3, 3.1, 3.2, 3.3])
    assert found["validation accuracy"].get_ydata() == pytest.approx([2, 2.1, 2.2, 2.3])


def test_best_epoch_is_marked():
    for axis in plot_history(history()).axes:
        assert list(lines(axis)["best: epoch 1"].get_xdata()) == [1, 1]


def test_no_colour_is_needed():
    for axis in plot_history(history(**SOFTCAM)).axes:
        found = axis.get_lines()
        assert len({(line.get_linestyle(), line.get_marker()) for line in found}) == len(found)


def test_one_epoch_can_be_drawn(tmp_path):
    plot_history(history(1)).savefig(tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 1000


def test_no_epoch_cannot():
    with pytest.raises(ValueError, match="there are no epochs to draw"):
        plot_history([])


def test_curves_are_drawn_into_axes_of_the_caller():
    axes = plt.Figure().subplots(1, 2)
    assert plot_history(history(), ax=axes) is axes[0].figure
    assert all(axis.get_lines() for axis in axes)
    assert plot_history(history(), figsize=(3, 2)).get_size_inches().tolist() == [3, 2]
    with pytest.raises(ValueError, match=r"has 2 panels .*; pass as many axes as ax, got 1"):
        plot_history(history(), ax=axes[0])
