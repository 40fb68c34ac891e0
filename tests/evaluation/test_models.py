"""Several models in one table: rows and groups, paired differences, what is refused, folders and interrupted runs."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from comparisons import make_samples
from networks import PooledNet
from rich.console import Console

from captum_softcam.evaluation import Comparison, ModelComparison, compare_models
from captum_softcam.evaluation.statistics import model_intervals
from captum_softcam.report import print_table
from captum_softcam.softcam import Classifier, convert_to_softcam

SAMPLES = 16
METRICS = ["pointing_game", "relevance_mass_accuracy", "deletion"]


def made(effects: dict[str, float], *, draw: int, samples: int = SAMPLES, **manifest: Any) -> Comparison:
    """Scores of methods with these means, on images that are hard for every model."""
    hard, own = np.random.default_rng(0).normal(0.5, 0.2, SAMPLES), np.random.default_rng(draw)
    names = [f"s{i}" for i in range(samples)]
    frames = [
        pd.DataFrame(
            {
                "sample": names,
                "label": [i % 2 for i in range(samples)],
                "target": [i % 2 for i in range(samples)],
                "prediction": 0,
                "method": method,
                "metric": metric,
                "score": (effect * sign + hard + own.normal(0, 0.02, SAMPLES))[:samples],
            }
        )
        for method, effect in effects.items()
        for metric, sign in (("pointing_game", 1), ("deletion", -1))
    ]
    costs = pd.DataFrame({"relative": 2.0, "forwards": 1.0}, index=pd.Index(effects, name="method"))
    contents = pd.DataFrame({"sample": names, "sha256": [f"digest {name}" for name in names]})
    entries = {
        "pointing_game": {"title": "Pointing", "higher_is_better": True, "category": "localisation", "forwards": 0},
        "deletion": {"title": "Deletion", "higher_is_better": False, "category": "faithfulness", "forwards": 9},
    }
    settings = {"seed": 0, "image_size": [8, 8], "samples_with_mask": samples, "metrics": entries, **manifest}
    return Comparison(pd.concat(frames, ignore_index=True), costs, settings, contents=contents)


@pytest.fixture(scope="module")
def seeds() -> ModelComparison:
    """Three models of one group, of which "cam" differs by 0.3, and two of another, with a method that one of them lacks."""
    shift = {"a1": 0.28, "a2": 0.3, "a3": 0.32, "b1": 0.0, "b2": 0.01}
    found = {
        name: made({"cam": value, "random": -0.2, **({"extra": 0.1} if name == "b1" else {})}, draw=i, model=name)
        for i, (name, value) in enumerate(shift.items())
    }
    return ModelComparison(found, {name: {"a": "ours", "b": "theirs"}[name[0]] for name in found})


class TestTable:
    def test_rows_are_groups_and_methods(self, seeds):
        own, others = [("ours", "cam"), ("ours", "random")], [("theirs", "cam"), ("theirs", "random"), ("theirs", "extra")]
        assert seeds.rows == own + others
        assert seeds.summary()["models"].unstack()["deletion"].to_dict() == {
            **dict.fromkeys(own, 3),
            **dict.fromkeys(others[:2], 2),
            others[2]: 1,
        }

    def test_means_are_those_of_the_models_means(self, seeds):
        means = [c.summary().loc[("cam", "deletion"), "mean"] for c in list(seeds.comparisons.values())[:3]]
        row = seeds.summary().loc[("ours", "cam", "deletion")]
        assert row["mean"] == pytest.approx(np.mean(means), abs=1e-12)
        assert row["count"] == 3 * SAMPLES
        values = np.stack([c.array()[:, 0] for c in list(seeds.comparisons.values())[:3]])
        assert np.allclose(row[["mean", "low", "high"]].astype(float), [ends[1] for ends in model_intervals(values)])

    def test_one_model_has_the_table_of_its_own(self):
        one = made({"cam": 0.1, "random": 0.0}, draw=1)
        together = ModelComparison({"a": one, "b": made({"cam": 0.3, "random": 0.2}, draw=2)})
        columns = ["mean", "low", "high", "count", "undefined", "failed", "best"]
        assert together.summary().loc["a"][columns].equals(one.summary()[columns])
        own, found = one.differences("cam", adjust="none"), together.differences(("a", "cam"), adjust="none")
        assert np.allclose(found.loc["a"].astype(float), own.astype(float), rtol=0, atol=1e-12)

    def test_ranks_and_best_are_within_a_group(self, seeds):
        ranks = seeds.ranks()
        assert ranks["pointing_game"].to_dict() == {
            ("ours", "cam"): 1,
            ("ours", "random"): 2,
            ("theirs", "cam"): 2,
            ("theirs", "random"): 3,
            ("theirs", "extra"): 1,
        }
        assert seeds.summary()["best"].unstack()["pointing_game"].to_dict() == {
            row: rank == 1 for row, rank in ranks["pointing_game"].items()
        }

    def test_accuracies(self, seeds):
        found = seeds.accuracies()
        assert found["group"].tolist() == ["ours"] * 3 + ["theirs"] * 2
        assert (found["correct"] == SAMPLES / 2).all()
        assert np.allclose(found[["accuracy", "low", "high"]], [0.5, 0.2800, 0.7200], atol=1e-4), "Wilson's"


class TestDifferences:
    def test_images_are_paired_between_models(self, seeds):
        """The spread of the images, 0.2, is that of every model, and does not widen the difference."""
        row = seeds.differences(("theirs", "cam")).loc[("ours", "cam", "pointing_game")]
        assert row["mean"] == pytest.approx(0.295, abs=0.02)
        assert row["high"] - row["low"] < 0.15
        assert (row["count"], row["images"], row["win_rate"], row["better"]) == (SAMPLES, SAMPLES, 1, 1)
        apart = seeds.summary().loc[("ours", "cam", "pointing_game")]
        assert apart["high"] - apart["low"] > 0.15

    def test_a_group_is_compared_method_by_method(self, seeds):
        table = seeds.differences("ours")
        assert table.index.droplevel("metric").unique().tolist() == [("theirs", "cam"), ("theirs", "random")], "no extra"
        assert table.loc[("theirs", "cam", "pointing_game"), "better"] == -1
        assert table.loc[("theirs", "cam", "deletion"), "better"] == -1, "where lower is better"
        assert table.loc[("theirs", "random", "pointing_game"), "better"] == 0
        assert seeds.differences("ours", adjust="none")["p_value"].le(table["p_value"]).all()

    def test_no_mark_without_the_interval_over_models(self):
        """Each of two trainings is clearly better on these images, but a third one could be worse."""
        a, b, c, d = (made({"cam": value}, draw=i) for i, value in enumerate((0.5, 0.05, 0.0, 0.0)))
        row = ModelComparison({"a": a, "b": b, "c": c, "d": d}, {"a": "x", "b": "x", "c": "y", "d": "y"}).differences("y")
        assert (row["p_value"] < 0.01).all()
        assert (row["better"] == 0).all()
        assert (ModelComparison({"b": b, "c": c}).differences("c")["better"] == 1).all(), "one training of each"

    def test_methods_of_a_group_are_paired_model_by_model(self):
        models = {f"m{i}": made({"cam": value, "other": value - 0.1}, draw=i) for i, value in enumerate((0.0, 1.0, 5.0))}
        row = (
            ModelComparison(models, dict.fromkeys(models, "g"))
            .differences(("g", "cam"))
            .loc[("g", "other", "pointing_game")]
        )
        assert row["mean"] == pytest.approx(-0.1, abs=0.02)
        assert row["high"] - row["low"] < 0.1

    @pytest.mark.parametrize("baseline", ["our", ("ours", "cams"), "ours: cams"])
    def test_an_unknown_baseline_is_refused(self, seeds, baseline):
        with pytest.raises(ValueError, match="neither a row"):
            seeds.differences(baseline)
        with pytest.raises(ValueError, match="adjust 'holms' is not known"):
            seeds.differences(adjust="holms")

    def test_a_row_is_found_by_its_name_in_tables(self, seeds):
        assert seeds.differences("theirs: cam").equals(seeds.differences(("theirs", "cam")))

    def test_one_group_alone_has_nothing_to_be_compared_with(self):
        alone = ModelComparison({"a": made({"cam": 0.1}, draw=1)})
        assert len(alone.differences()) == 0
        assert "better" not in alone.to_markdown()


class TestDisplay:
    def test_notes_say_what_intervals_cover(self, seeds):
        notes = seeds.view().notes()
        several = "95 % intervals of ours (3 models), theirs (2 models): over models and images, so that they cover"
        assert notes[0] == f"{several} another training."
        assert "each model: 16 samples, 8 of them classified correctly." in notes
        assert "a1, a2, a3, b2: without extra, which did not run on it." in notes
        assert any(note.startswith("scores of the network as well as of the map") and "Deletion" in note for note in notes)
        alone = ModelComparison({"a": made({"cam": 0.1}, draw=1), "b": made({"cam": 0.1}, draw=2)})
        assert (
            "95 % intervals of a, b (one model each): over images; they do not cover another training."
            in alone.view().notes()
        )

    def test_every_format(self, seeds):
        assert "| ours: cam (baseline) |" in seeds.to_markdown()
        assert "| ours: random (control, baseline) |" in seeds.to_markdown("ours")
        assert "better" in seeds._repr_html_()
        assert r"\toprule" in seeds.to_latex()
        lines = seeds.to_csv("theirs").splitlines()
        assert lines[0].startswith('"group","method","role","metric"')
        assert len(lines) == 1 + 5 * 2
        assert repr(seeds).startswith("ModelComparison(16 samples; models: a1, a2, a3")

    def test_figure(self, seeds):
        assert len(seeds.plot().axes) >= 2
        with pytest.raises(ValueError, match="not the group 'ours'"):
            seeds.plot("ours")


class TestAlike:
    def test_what_not_all_have_is_left_out_in_words(self):
        one, other = made({"cam": 0.1}, draw=1), made({"cam": 0.2}, draw=2, samples=12)
        other.scores["metric"] = other.scores["metric"].replace("deletion", "insertion")
        del other.manifest["metrics"]
        both = ModelComparison({"a": one, "b": other})
        assert both.samples == [f"s{i}" for i in range(12)]
        assert both.metrics == ["pointing_game"]
        assert both.summary()["count"].tolist() == [12, 12]
        assert both.summary()["undefined"].tolist() == [0, 0]
        assert "4 samples that not all models have are left out: s12, s13, s14, s15." in both.remarks
        assert "2 metrics that not all models have are left out: deletion, insertion." in both.remarks

    def test_the_order_of_samples_may_differ(self):
        one, other = made({"cam": 0.1}, draw=1), made({"cam": 0.1}, draw=1)
        turned = other.scores.iloc[::-1].reset_index(drop=True)
        both = ModelComparison({"a": one, "b": Comparison(turned, other.costs, other.manifest)})
        assert np.allclose(both.differences()["mean"].astype(float), 0, rtol=0, atol=1e-12)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"seed": 1}, "different settings, seed 0 and 1"),
            ({"image_size": [9, 9]}, "different settings, image size"),
            ({"explained_class": "predicted"}, "different settings, explained class true and predicted"),
        ],
    )
    def test_other_settings_are_refused(self, change, words):
        one = made({"cam": 0.1}, draw=1, explained_class="true")
        with pytest.raises(ValueError, match=words):
            ModelComparison({"a": one, "b": made({"cam": 0.1}, draw=2, **change)})

    def test_other_settings_of_a_metric_are_refused(self):
        entry = {"title": "Deletion", "higher_is_better": False, "category": "faithfulness"}
        more = [{"metrics": {"deletion": {**entry, "settings": {"steps": steps}}}} for steps in (8, 9)]
        models = {str(i): made({"cam": 0.1}, draw=i, **each) for i, each in enumerate(more)}
        with pytest.raises(ValueError, match="settings of deletion"):
            ModelComparison(models)

    def test_other_images_of_the_same_names_are_refused(self):
        one, other = made({"cam": 0.1}, draw=1), made({"cam": 0.1}, draw=2)
        other.contents["sha256"] = other.contents["sha256"].replace("digest s3", "changed")
        with pytest.raises(ValueError, match="different images of the same names, s3"):
            ModelComparison({"a": one, "b": other})

    def test_nothing_in_common_is_refused(self):
        one, other = made({"cam": 0.1}, draw=1), made({"cam": 0.1}, draw=2)
        other.scores["metric"] = other.scores["metric"] + "2"
        other.manifest["metrics"] = {name + "2": {"higher_is_better": True} for name in ("pointing_game", "deletion")}
        with pytest.raises(ValueError, match="no metric in common"):
            ModelComparison({"a": one, "b": other})

    @pytest.mark.parametrize(
        ("groups", "words"), [({"c": "x"}, "'c', which is not there"), ({"a": "x: y"}, "colon and a space")]
    )
    def test_groups_are_checked(self, groups, words):
        with pytest.raises(ValueError, match=words):
            ModelComparison({"a": made({"cam": 0.1}, draw=1)}, groups)
        with pytest.raises(ValueError, match="there are no models"):
            ModelComparison({})


@pytest.fixture(scope="module")
def networks() -> dict[str, Any]:
    torch.manual_seed(0)
    black_box = PooledNet().eval()
    classifier = Classifier("b", black_box, ("0", "1", "2", "3"), 16)
    evidence = convert_to_softcam(black_box)
    return {"softcam": evidence, "black box": classifier, "named/layer": {"model": black_box, "layer": "block"}}


@pytest.fixture(scope="module")
def folder(networks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "run"
    compare_models(networks, make_samples(6), ["soft_cam", "grad_cam", "random"], METRICS, folder=folder, examples=1)
    return folder


class TestRun:
    def test_methods_that_need_evidence_are_left_out_where_there_is_none(self, folder):
        found = ModelComparison.load(folder)
        assert [method for group, method in found.rows if group == "softcam"] == ["soft_cam", "grad_cam", "random"]
        assert [method for group, method in found.rows if group == "black box"] == ["grad_cam", "random"]
        assert "black box, named/layer: without soft_cam, which needs a SoftCAM model." in found.view().notes()
        assert found.comparisons["named/layer"].manifest["layer"] == "block"

    def test_the_folder_has_one_for_each_model(self, folder):
        assert sorted(path.name for path in folder.iterdir()) == ["1-softcam", "2-black-box", "3-named-layer", "models.json"]
        assert Comparison.load(folder / "2-black-box").methods == ["grad_cam", "random"]

    def test_saved_and_loaded_it_is_the_same(self, folder, tmp_path):
        found = ModelComparison.load(folder)
        found.save(tmp_path / "copy")
        assert ModelComparison.load(tmp_path / "copy").to_csv() == found.to_csv()
        with pytest.raises(FileNotFoundError, match=r"'models\.json' is missing"):
            ModelComparison.load(folder / "1-softcam")

    def test_a_run_that_was_cut_off_goes_on(self, networks, tmp_path):
        calls: list[str] = []

        def stops(model, images, _targets):
            calls.append(type(model).__name__)
            if len(calls) == 4:  # of two batches for each model
                raise KeyboardInterrupt
            return images.mean(1, keepdim=True)

        arguments: dict[str, Any] = {"metrics": METRICS, "folder": tmp_path / "run", "batch_size": 3, "probes": 0}
        two = {name: networks[name] for name in ("softcam", "black box")}
        with pytest.raises(KeyboardInterrupt):
            compare_models(two, make_samples(6), {"mean": stops}, **arguments)
        before = len(calls)
        found = compare_models(two, make_samples(6), {"mean": stops}, resume=True, **arguments)
        assert len(calls) == before + 1, "the last batch of the second model"
        assert found.samples == [f"s{i}" for i in range(6)]
        with pytest.raises(ValueError, match="was started with models"):
            compare_models(dict(reversed(two.items())), make_samples(6), {"mean": stops}, resume=True, **arguments)
        with pytest.raises(FileExistsError):
            compare_models(two, make_samples(6), {"mean": stops}, **arguments)
        with pytest.raises(FileNotFoundError, match="nothing to resume"):
            compare_models(two, make_samples(6), folder=tmp_path / "none", resume=True)

    def test_a_mistake_leaves_no_folder(self, networks, tmp_path):
        with pytest.raises(ValueError, match="pointing_gam"):
            compare_models(networks, make_samples(2), metrics=["pointing_gam"], folder=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_soft_cam_without_any_evidence_is_refused(self, networks):
        with pytest.raises(ValueError, match="needs a SoftCAM model"):
            compare_models({"b": networks["black box"]}, make_samples(2), ["soft_cam"], ["deletion"])

    @pytest.mark.parametrize(
        ("value", "error", "words"),
        [
            (3, TypeError, "model 'a' is a int"),
            ({"model": PooledNet().eval(), "layr": "block"}, ValueError, r"option 'layr'. Closest: 'layer'"),
        ],
    )
    def test_what_is_no_model_is_refused(self, value, error, words):
        with pytest.raises(error, match=words):
            compare_models({"a": value}, make_samples(2))


def test_undefined_scores_of_all_models_are_counted():
    one, other = made({"cam": 0.1}, draw=1), made({"cam": 0.1}, draw=2)
    one.scores.loc[0, "score"] = math.nan
    table = ModelComparison({"a": one, "b": other}, {"a": "g", "b": "g"}).summary()
    assert table.loc[("g", "cam", "pointing_game"), ["count", "undefined"]].tolist() == [31, 1]


def test_a_metric_that_fails_on_a_model_is_marked_and_left_out_of_the_mean_rank():
    whole, other = made({"cam": 0.3, "random": 0.0}, draw=1), made({"cam": 0.3, "random": 0.0}, draw=2)
    scores = whole.scores.copy()
    scores.loc[scores["metric"] == "deletion", "score"] = 0.5  # the same for all maps
    blind = replace(whole, scores=scores)
    found = ModelComparison({"a": blind, "b": other})
    assert found.health()["verdict"]["a", "deletion"] == "fails"
    assert found.ranks()["mean_rank"].equals(found.ranks()["pointing_game"].rename("mean_rank"))
    for text in (found.to_markdown(), found.to_latex(), found.to_html()):
        assert "Deletion (fails on 1 of 2)" in text
        assert "Deletion fails as a metric on a." in text
    printed = io.StringIO()
    print_table(found, Console(file=printed, width=200))
    assert "(fails on 1 of" in printed.getvalue()
    both = ModelComparison({"a": blind, "b": replace(blind)})
    assert "Deletion (fails)" in both.to_markdown()
    assert "(fails" not in ModelComparison({"a": whole, "b": other}).to_markdown()


def test_long_names_stay_in_the_panel_of_the_cost():
    models = ("a_long_name_of_a_model", "another_long_name")
    found = ModelComparison({name: made({"cam": 0.3, "random": 0.0}, draw=i) for i, name in enumerate(models)})
    figure = found.plot()
    figure.canvas.draw()
    panel = figure.axes[-1].get_window_extent()
    assert len(figure.axes[-1].texts) == 4
    assert all(panel.x0 <= text.get_window_extent().x0 for text in figure.axes[-1].texts)
    assert all(text.get_window_extent().x1 <= panel.x1 for text in figure.axes[-1].texts)
