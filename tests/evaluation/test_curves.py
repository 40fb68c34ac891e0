"""The curves of a comparison: means with their bands, and how the figure draws them."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
from reports import METHODS, hostile_comparison, make_comparison, several_classes, without

from captum_softcam.evaluation import Comparison

FRACTIONS = ["0", "0.5", "1"]


@pytest.fixture
def comparison() -> Comparison:
    return make_comparison()


def literal(comparison: Comparison, method: str, column: str, resamples: int = 2000) -> tuple[float, float, float]:
    """Mean and interval of one point, from samples drawn one by one with the numbers of the package."""
    rows = comparison.curves[(comparison.curves["metric"] == "deletion") & (comparison.curves["method"] == method)]
    values = dict(zip(rows["sample"], rows[column], strict=True))
    images = dict(zip(comparison.samples, comparison.images, strict=True))
    names = list(dict.fromkeys(images[sample] for sample in values))
    rng = np.random.default_rng(0)
    means = []
    for row in rng.integers(0, len(names), (resamples, len(names)), dtype=np.int32):
        drawn = [values[sample] for place in row for sample in values if images[sample] == names[place]]
        means.append(np.mean(drawn))
    return float(np.mean(list(values.values()))), *np.percentile(means, (2.5, 97.5)).tolist()


@pytest.mark.parametrize("make", [make_comparison, several_classes], ids=["images", "several samples of an image"])
def test_means_and_bands(make):
    comparison = make()
    (found,) = comparison.mean_curves()
    assert (found.metric, found.fractions, list(found.lines)) == ("deletion", [0.0, 0.5, 1.0], list(METHODS[:3]))
    for method in ("grad_cam", "occlusion"):
        curve = found.lines[method]
        for place, column in enumerate(FRACTIONS):
            expected = literal(comparison, method, column)
            assert (curve.mean[place], curve.low[place], curve.high[place]) == pytest.approx(expected)
        assert curve.count == len(comparison.samples)


def test_a_curve_with_a_gap_does_not_count(comparison):
    curves = comparison.curves.copy()
    curves.loc[(curves["method"] == "grad_cam") & (curves["sample"] == "s7"), ["0.5", "1"]] = float("nan"), 9.0
    (found,) = dataclasses.replace(comparison, curves=curves).mean_curves()
    assert found.lines["grad_cam"].count == found.lines["soft_cam"].count - 1
    others = curves[(curves["method"] == "grad_cam") & (curves["sample"] != "s7")]
    assert found.lines["grad_cam"].mean == pytest.approx([others[column].mean() for column in FRACTIONS]), "at no point"


def test_only_the_metrics_asked_for(comparison):
    assert comparison.mean_curves(["sparseness"]) == []
    assert [found.metric for found in comparison.mean_curves(["deletion", "sparseness"])] == ["deletion"]


class TestFigure:
    def test_a_panel_for_each_metric_with_curves(self, comparison):
        figure = comparison.plot()
        assert figure._repr_png_(), "shown by a notebook"
        axis, beside = figure.axes[-2:]
        assert axis.get_title() == "Deletion"
        assert axis.get_xlabel() == "fraction of the image replaced, lower is better"
        assert axis.get_ylabel() == "probability of the class"
        legend = [text.get_text() for text in beside.get_legend().get_texts()]
        assert legend == ["SoftCAM", "Grad-CAM", "Occlusion"]
        (found,) = comparison.mean_curves()
        lines = {line.get_color(): line for line in axis.get_lines()}
        assert lines["black"].get_ydata().tolist() == found.lines["grad_cam"].mean.tolist()
        assert list(lines["black"].get_xdata()) == found.fractions
        assert len(lines) == len(axis.collections) == 3

    def test_a_band_is_drawn_around_each_mean(self, comparison):
        axis = comparison.plot().axes[-2]
        (found,) = comparison.mean_curves()
        for band, name in zip(axis.collections, ("grad_cam", "soft_cam", "occlusion"), strict=True):
            corners = band.get_paths()[0].vertices
            middle = corners[corners[:, 0] == 0.5][:, 1]
            assert (middle.min(), middle.max()) == pytest.approx((found.lines[name].low[1], found.lines[name].high[1]))

    def test_equal_curves_all_show(self, comparison):
        """The baseline lies below and is wider; the others differ in colour and dashes."""
        lines = comparison.plot().axes[-2].get_lines()
        assert lines[0].get_color() == "black"
        assert lines[0].get_linewidth() > max(line.get_linewidth() for line in lines[1:])
        assert len({(line.get_color(), str(line.get_linestyle())) for line in lines}) == 3

    def test_controls_are_grey_below_the_methods(self, comparison):
        curves = comparison.curves.replace({"method": {"occlusion": "random"}})
        figure = dataclasses.replace(comparison, curves=curves).plot()
        first, *others = figure.axes[-2].get_lines()
        assert first.get_color() == "#8c8c8c"
        assert "#8c8c8c" not in {line.get_color() for line in others}
        assert "Random map" in [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]

    def test_no_curves_no_panels(self, comparison):
        empty = dataclasses.replace(comparison, curves=comparison.curves.iloc[:0])
        assert len(empty.plot().axes) == 4
        assert len(comparison.plot().axes) == 6

    def test_many_curves_and_methods(self, comparison):
        names = [f"m{i}" for i in range(7)]
        scores, curves = comparison.scores.query("metric == 'deletion'"), comparison.curves
        entry = comparison.manifest["metrics"]["deletion"]
        many = dataclasses.replace(
            comparison,
            scores=pd.concat([scores.assign(metric=name) for name in names]),
            curves=pd.concat([curves.assign(metric=name) for name in names]),
            manifest={**comparison.manifest, "metrics": dict.fromkeys(names, entry)},
        )
        figure = many.plot()
        assert len(figure.axes) == 7 + 1 + 7 + 1
        assert figure.axes[-2].get_ylabel() == "score of the class"
        figure.savefig(io.BytesIO())

    @pytest.mark.parametrize("make", [hostile_comparison, lambda: without(make_comparison(), methods=1, metrics=2)])
    def test_any_names(self, make):
        file = io.BytesIO()
        make().plot().savefig(file, format="svg")
        assert b"</svg>" in file.getvalue()

    def test_figsize(self, comparison):
        assert comparison.plot(figsize=(7, 5)).get_size_inches().tolist() == [7, 5]
