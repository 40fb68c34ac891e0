"""What a comparison tells of its scores, and that its folder brings it back or says why not."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import re
from pathlib import Path

import numpy as np
import oracles
import pandas as pd
import pytest
import torch

from captum_softcam.data import Sample
from captum_softcam.evaluation import Comparison, Example

NAN = math.nan
METHODS = ("soft_cam", "grad_cam", "occlusion", "random")
METRICS = {
    "pixel_auc": {"title": "Pixel AUC", "category": "localisation", "higher_is_better": True},
    "deletion": {"title": "Deletion", "category": "faithfulness", "higher_is_better": False},
    "new_metric": {"title": "Of a later version", "category": "randomisation", "higher_is_better": True},
}


def make(values: dict[tuple[str, str], list[float]], names: list[str] | None = None, **more: object) -> Comparison:
    """A comparison of scores by method and metric."""
    frames = []
    for (method, metric), scores in values.items():
        samples = names or [f"s{i}" for i in range(len(scores))]
        classes = {"label": range(len(scores)), "target": range(len(scores)), "prediction": 0}
        frames.append(pd.DataFrame({"sample": samples, **classes, "method": method, "metric": metric, "score": scores}))
    methods = list(dict.fromkeys(method for method, _ in values))
    costs = {"forwards": 1.0, "backwards": 0.0, "seconds": 0.1, "relative": 1 / 3, "peak_bytes": 7}
    table = pd.DataFrame([costs] * len(methods), index=pd.Index(methods, name="method"))
    return Comparison(pd.concat(frames, ignore_index=True), table, **{"manifest": {}, **more})


@pytest.fixture
def comparison() -> Comparison:
    """Four methods, three metrics, ten samples of which eight have a mask; occlusion failed on three."""
    rng = np.random.default_rng(0)
    base = rng.random(10)
    quality = dict(zip(METHODS, (0.4, 0.0, 0.02, -0.5), strict=True))
    values = {}
    for method, q in quality.items():
        for metric, entry in METRICS.items():
            sign = 1 if entry["higher_is_better"] else -1
            scores = base + sign * (q + 0.05 * rng.random(10))
            scores[8:] = NAN if metric == "pixel_auc" else scores[8:]
            scores[:3] = NAN if method == "occlusion" else scores[:3]
            values[method, metric] = scores.tolist()
    values["random", "deletion"][4] = NAN
    failures = pd.DataFrame({"sample": ["s0", "s1", "s2"], "method": "occlusion", "metric": "", "error": "RuntimeError: no"})
    manifest = {
        "methods": {name: {"class": name, "control": name == "random"} for name in METHODS},
        "metrics": METRICS,
        "samples_with_mask": 8,
    }
    return make(values, manifest=manifest, failures=failures)


def scores_of(comparison: Comparison, method: str, metric: str) -> list[float]:
    rows = comparison.scores
    return rows[(rows["method"] == method) & (rows["metric"] == metric)]["score"].tolist()


class TestStatistics:
    def test_every_cell_has_its_counts(self, comparison):
        counts = comparison.summary()[["count", "undefined", "failed"]]
        assert counts.loc[("soft_cam", "pixel_auc")].tolist() == [8, 0, 0], "samples without mask are not missed"
        assert counts.loc[("occlusion", "pixel_auc")].tolist() == [5, 3, 3]
        assert counts.loc[("occlusion", "deletion")].tolist() == [7, 3, 3]
        assert counts.loc[("random", "deletion")].tolist() == [9, 1, 0]
        assert list(counts.index) == [(a, b) for a in METHODS for b in METRICS]

    def test_a_failed_metric_is_counted_in_its_cell_alone(self):
        failures = pd.DataFrame(
            {"sample": ["s0"], "method": ["grad_cam"], "metric": ["deletion"], "error": ["ValueError: x"]}
        )
        values = {("grad_cam", "deletion"): [NAN, 0.5], ("grad_cam", "insertion"): [NAN, 0.5]}
        found = make(values, failures=failures).summary()
        assert found["undefined"].tolist() == [1, 1]
        assert found["failed"].tolist() == [1, 0]

    def test_means_and_intervals(self, comparison):
        summary = comparison.summary()
        for method in METHODS:
            for metric in METRICS:
                defined = [score for score in scores_of(comparison, method, metric) if not math.isnan(score)]
                row = summary.loc[(method, metric)]
                assert row["mean"] == pytest.approx(sum(defined) / len(defined), abs=1e-12)
                assert min(defined) < row["low"] < row["mean"] < row["high"] < max(defined)

    def test_best_by_direction_and_as_shown(self):
        values = {("a", "deletion"): [0.20004], ("b", "deletion"): [0.2], ("c", "deletion"): [0.3], ("d", "deletion"): [NAN]}
        comparison = make(values)
        assert comparison.summary()["best"].tolist() == [True, True, False, False]
        assert comparison.ranks()["deletion"].tolist()[:3] == [1.5, 1.5, 3]

    def test_a_summary_can_be_changed_without_harm(self, comparison):
        for table in (comparison.summary, comparison.differences):
            changed = table()
            changed["mean"] = 0
            assert not (table()["mean"] == 0).any()

    @pytest.mark.parametrize("baseline", [None, "soft_cam"])
    def test_differences_equal_the_oracle(self, comparison, baseline):
        found, name = comparison.differences(baseline), baseline or "grad_cam"
        assert list(found.index) == [(a, b) for a in METHODS if a != name for b in METRICS]
        for (method, metric), row in found.iterrows():
            ours, theirs = scores_of(comparison, method, metric), scores_of(comparison, name, metric)
            expected = oracles.paired_difference(ours, theirs, METRICS[metric]["higher_is_better"])
            assert row[["mean", "win_rate", "count"]].tolist() == pytest.approx(expected, abs=1e-12)

    def test_what_is_better_than_the_baseline(self, comparison):
        better = comparison.differences()["better"].unstack("metric")[list(METRICS)]
        assert better.loc["soft_cam"].tolist() == [1, 1, 1], "in the good direction of each metric"
        assert better.loc["random"].tolist() == [-1, -1, -1]
        assert better.loc["occlusion", "pixel_auc"] == 0, "five pairs show nothing"
        raw = comparison.differences(adjust="none")["better"]
        assert raw["occlusion", "pixel_auc"] == 0
        reverse = comparison.differences("soft_cam").loc["grad_cam"]
        assert reverse["better"].tolist() == [-1, -1, -1]

    def test_p_values_are_those_of_the_test_and_adjusted_on_request(self, comparison):
        found = comparison.differences(adjust="none")["p_value"]
        for (method, metric), p_value in found.items():
            pairs = zip(scores_of(comparison, method, metric), scores_of(comparison, "grad_cam", metric), strict=True)
            differences = [ours - theirs for ours, theirs in pairs]
            assert p_value == pytest.approx(oracles.sign_flip_p_value(differences, comparison.samples), abs=1e-12)
        assert comparison.differences()["p_value"].tolist() == pytest.approx(oracles.holm(found.tolist()), abs=1e-12)

    def test_marks_are_adjusted_for_their_number_unless_told_otherwise(self):
        """Seven images that agree: enough for three comparisons, too few for four."""
        steps = [0.01 * i for i in range(7)]
        values = {("grad_cam", "deletion"): steps} | {(name, "deletion"): [0.1 + s for s in steps] for name in "abc"}
        assert make(values).differences()["better"].tolist() == [-1, -1, -1]
        values["d", "deletion"] = values["a", "deletion"]
        assert make(values).differences()["better"].tolist() == [0] * 4
        assert make(values).differences(adjust="none")["better"].tolist() == [-1] * 4
        (note,) = [note for note in make(values).view().notes() if "no difference can be marked" in note]
        assert note.startswith(
            "with 7 samples no difference can be marked after the correction over 4 comparisons; adjust='no"
        )
        raw = " ".join(make(values).view(adjust="none").notes())
        assert "excludes 0 (at least 6 samples); not corrected for the number of comparisons, 4." in raw
        assert "no difference can be marked" not in raw

    @pytest.mark.parametrize(("difference", "found"), [(0.0004, 0), (0.0011, -1)])
    @pytest.mark.parametrize("adjust", ["holm", "none"])
    def test_a_mark_needs_a_difference_that_the_digits_show(self, difference, found, adjust):
        base = [0.5 + 0.01 * i for i in range(-10, 11)]
        values = {("a", "deletion"): base, ("b", "deletion"): [value + difference for value in base]}
        row = make(values).differences(adjust=adjust).loc[("b", "deletion")]
        assert row["low"] > 0
        assert row["p_value"] < 0.001
        assert row["better"] == found

    def test_a_mark_never_contradicts_the_means(self):
        """The better method is undefined on the easy samples, so that its mean is the worse one."""
        base = [0.1] * 10 + [0.9] * 10
        ours = [value + 0.05 for value in base[:10]] + [NAN] * 10
        row = make({("a", "insertion"): base, ("b", "insertion"): ours}).differences("a").loc[("b", "insertion")]
        assert (row["mean"], row["better"]) == (pytest.approx(0.05), 0)

    def test_an_unknown_adjustment_is_refused(self, comparison):
        for method in (comparison.differences, comparison.view, comparison.to_markdown, comparison.plot):
            with pytest.raises(ValueError, match=r"adjust 'bonferroni' is not known; pass 'holm' or 'none'"):
                method(adjust="bonferroni")

    def test_pairs_are_narrower_than_their_means(self, comparison):
        """The samples vary by more than the methods; only the paired interval sees it."""
        summary, paired = comparison.summary().loc["soft_cam"], comparison.differences().loc["soft_cam"]
        assert ((paired["high"] - paired["low"]) < (summary["high"] - summary["low"]) / 3).all()

    def test_an_equal_difference_has_no_width(self):
        comparison = make({("a", "deletion"): [0.5, 0.25, 1.0], ("b", "deletion"): [0.75, 0.5, 1.25]})
        assert comparison.differences("a").loc[("b", "deletion"), ["mean", "low", "high"]].tolist() == [0.25] * 3

    def test_a_method_alone_has_no_differences(self):
        comparison = make({("a", "deletion"): [0.5, 0.25]})
        assert comparison.baseline == "a"
        assert comparison.differences().empty
        assert comparison.ranks().loc["a"].tolist() == [1, 1]

    def test_ranks_equal_the_oracle(self, comparison):
        ranks = comparison.ranks()
        for metric, entry in METRICS.items():
            means = [round(comparison.summary().loc[(method, metric), "mean"], 3) for method in METHODS]
            expected = [oracles.rank(means, i, entry["higher_is_better"]) for i in range(4)]
            assert ranks[metric].tolist() == expected
        assert ranks["mean_rank"].tolist() == pytest.approx(ranks[list(METRICS)].mean(axis=1).tolist(), abs=1e-12)
        assert ranks["mean_rank"].idxmin() == "soft_cam"

    def test_the_baseline(self, comparison):
        assert comparison.baseline == "grad_cam"
        assert dataclasses.replace(comparison, manifest={**comparison.manifest, "baseline": "random"}).baseline == "random"
        assert make({("b", "deletion"): [1.0], ("a", "deletion"): [1.0]}).baseline == "b"
        for method in (comparison.differences, comparison.to_markdown, comparison.to_latex, comparison.plot):
            with pytest.raises(ValueError, match=r"baseline 'gradcam' is not among the methods. Closest: 'grad_cam'"):
                method("gradcam")

    def test_a_method_that_failed_everywhere_keeps_its_row(self, comparison):
        rest = comparison.scores[comparison.scores["method"] != "occlusion"]
        failures = pd.DataFrame(
            {"sample": comparison.samples, "method": "occlusion", "metric": "", "error": "RuntimeError: no"}
        )
        alone = dataclasses.replace(comparison, scores=rest, failures=failures)
        assert alone.methods == list(METHODS)
        row = alone.summary().loc[("occlusion", "deletion")]
        assert row[["count", "undefined", "failed"]].tolist() == [0, 10, 10]
        assert math.isnan(row["mean"])
        assert math.isnan(alone.ranks().loc["occlusion", "mean_rank"])
        assert alone.differences().loc[("occlusion", "deletion"), "better"] == 0
        assert "| occlusion | undefined | undefined | undefined |  |" in alone.to_markdown()

    def test_names_come_from_the_manifest_then_from_the_scores(self):
        manifest = {"methods": {"b": {}, "c": {}}, "metrics": {"deletion": {}, "insertion": {}}}
        comparison = make({("a", "insertion"): [1.0], ("b", "insertion"): [1.0]}, manifest=manifest)
        assert comparison.methods == ["b", "c", "a"]
        assert comparison.metrics == ["deletion", "insertion"]

    def test_what_the_manifest_says_comes_first(self):
        manifest = {"metrics": {"deletion": {"title": "Turned", "higher_is_better": True, "category": "faithfulness"}}}
        values = {("a", "deletion"): [1.0], ("b", "deletion"): [0.0]}
        assert make(values, manifest=manifest).summary()["best"].tolist() == [True, False]
        assert make(values, manifest=manifest).titles == {"deletion": "Turned"}
        assert make(values).summary()["best"].tolist() == [False, True]
        assert make(values).titles == {"deletion": "Deletion"}

    def test_a_metric_without_direction_is_refused(self):
        with pytest.raises(ValueError, match="direction of the metric 'mystery' is not known; name it in the manifest"):
            make({("a", "mystery"): [1.0]}).summary()

    def test_controls(self, comparison):
        assert comparison.controls == ["random"]
        assert make({("random", "deletion"): [1.0]}).controls == ["random"]

    def test_doubled_samples_are_refused(self):
        with pytest.raises(ValueError, match="sample 'x' has two scores for a, deletion; identifiers must be unique"):
            make({("a", "deletion"): [1.0, 2.0]}, names=["x", "x"]).summary()

    def test_the_interval_of_many_samples_is_the_normal_one(self):
        rng = np.random.default_rng(0)
        comparison = make({(name, "deletion"): rng.random(20_000).tolist() for name in "abcd"})
        row = comparison.summary().loc[("a", "deletion")]
        assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * math.sqrt(1 / 12 / 20_000), rel=0.1)


class TestView:
    """What tables, figures and the report are made from."""

    def test_cells_are_the_statistics(self, comparison):
        view, summary, differences = comparison.view(), comparison.summary(), comparison.differences()
        assert list(view.cells) == list(summary.index)
        for key, cell in view.cells.items():
            row = summary.loc[key]
            assert (cell.count, cell.undefined, cell.failed, cell.best) == tuple(
                row[["count", "undefined", "failed", "best"]]
            )
            if key[0] == "grad_cam":
                assert cell.difference is None
                assert cell.better == 0
            else:
                assert dataclasses.asdict(cell.difference) == differences.loc[key].to_dict()

    def test_metrics_are_grouped_by_category_in_the_order_of_the_run(self):
        names = {"a": "x", "b": "y", "c": "x", "d": "y"}
        manifest = {"metrics": {name: {"category": kind, "higher_is_better": True} for name, kind in names.items()}}
        view = make({("m", name): [1.0] for name in names}, manifest=manifest).view()
        assert view.grouped == ["a", "c", "b", "d"]
        assert list(view.metrics) == ["a", "b", "c", "d"]

    def test_roles_and_costs(self, comparison):
        view = comparison.view("soft_cam")
        assert view.others == ["grad_cam", "occlusion"]
        assert [view.kinds(name) for name in METHODS] == [["baseline"], [], [], ["control"]]
        assert (view.cost("soft_cam"), view.cost("soft_cam", "seconds")) == (1 / 3, 0.1)
        assert math.isnan(view.cost("soft_cam", "joules"))
        assert math.isnan(view.cost("nobody"))

    def test_facts_for_a_headline(self, comparison):
        view = comparison.view()
        assert view.attributions == ["soft_cam", "grad_cam", "occlusion"]
        assert (view.tests, view.markable, view.adjust) == (9, True, "holm")
        alone = make({("a", "deletion"): [0.5, 0.25]}).view()
        assert (alone.tests, alone.markable) == (0, False)

    def test_a_baseline_that_is_not_there(self, comparison):
        with pytest.raises(ValueError, match="'gradcam' is not among the methods"):
            comparison.view("gradcam")


AWKWARD = [
    "007",
    "NA",
    "1e5",
    "",
    "nan",
    "a,b",
    'say "hi"',
    "two\nlines",
    "\r\n",
    " x ",
    "ö/ü.png",
    "bad\\udcff",
    "None",
    "-0",
]


@pytest.fixture
def full() -> Comparison:
    """Everything that can be kept, with names that are hard to keep."""
    rng = np.random.default_rng(2)
    values = {
        ("NA", "deletion"): (rng.random(len(AWKWARD)) * 1e-7).tolist(),
        ("1", "deletion"): [NAN, 0.1 + 0.2, *rng.random(len(AWKWARD) - 2).tolist()],
    }
    points = pd.DataFrame({"0": rng.random(2), "0.5": [NAN, 1 / 3], "1": rng.random(2)})
    curves = pd.concat([pd.DataFrame({"sample": AWKWARD[:2], "method": "NA", "metric": "deletion"}), points], axis=1)
    failures = pd.DataFrame({"sample": ["007", "NA"], "method": "1", "metric": ["", "deletion"], "error": 'E: a,\n"b"'})
    image = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 4, 5, dtype=torch.bool)
    mask[:, 1] = True
    maps = {"NA": torch.linspace(-3, 2, 20).view(1, 4, 5), "1": torch.linspace(0, 1e-12, 20).view(1, 4, 5)}
    examples = [
        Example(Sample(image, 1, mask, "bad\\udcff"), 0, maps, torch.tensor([0.3, 0.7]), 1, {"NA": torch.zeros(1, 4, 5)}),
        Example(Sample(image * 0, 0, None, "007"), 0, {"NA": torch.full((1, 4, 5), NAN), "1": maps["1"] * 1e20}),
    ]
    manifest = {"seed": 0, "metrics": {"deletion": {**METRICS["deletion"], "settings": {"x": 0.1}}}, "classes": ["ö", "b"]}
    return make(values, names=AWKWARD, manifest=manifest, curves=curves, failures=failures, examples=examples)


def assert_equal_tables(ours: Comparison, theirs: Comparison) -> None:
    for name in ("scores", "costs", "curves", "failures"):
        pd.testing.assert_frame_equal(getattr(ours, name), getattr(theirs, name), check_exact=True)
    assert ours.manifest == theirs.manifest


class TestFolder:
    def test_what_is_loaded_is_what_was_saved(self, full, tmp_path):
        full.save(tmp_path / "deep" / "folder")
        loaded = Comparison.load(str(tmp_path / "deep" / "folder"))
        assert_equal_tables(loaded, full)
        assert loaded.scores["sample"].tolist() == AWKWARD * 2
        pd.testing.assert_frame_equal(loaded.summary(), full.summary(), check_exact=True)

    def test_examples_come_back(self, full, tmp_path):
        full.save(tmp_path)
        first, second = Comparison.load(tmp_path).examples
        ours = full.examples[0]
        assert (first.sample.identifier, first.sample.target, first.target, first.runner_up) == ("bad\\udcff", 1, 0, 1)
        assert first.sample.image.dtype == torch.float32
        assert torch.allclose(first.sample.image, ours.sample.image, rtol=0, atol=0.5 / 255 + 1e-6)
        assert torch.equal(first.sample.mask, ours.sample.mask)
        assert torch.equal(first.probabilities, ours.probabilities)
        assert list(first.maps) == ["NA", "1"]
        for name, attribution in ours.maps.items():
            peak = float(attribution.abs().max())
            assert torch.allclose(first.maps[name], attribution, rtol=0, atol=peak * 2**-11), "half of float16's last place"
        assert torch.equal(first.runner_up_maps["NA"], torch.zeros(1, 4, 5))
        assert (second.sample.mask, second.probabilities, second.runner_up, second.runner_up_maps) == (None, None, None, {})
        assert second.maps["NA"].isnan().all()
        assert float(second.maps["1"].max()) == pytest.approx(1e8, rel=1e-3), "beyond what float16 holds"

    def test_an_image_in_other_units_comes_back(self, comparison, tmp_path):
        image = torch.linspace(-2, 3, 60).view(3, 4, 5)
        image[0, 0, 0] = float("nan")
        example = Example(Sample(image, 0, None, "s"), 0, {})
        dataclasses.replace(comparison, examples=[example]).save(tmp_path)
        (loaded,) = Comparison.load(tmp_path).examples
        assert torch.allclose(loaded.sample.image.flatten()[1:], image.flatten()[1:], rtol=0, atol=2.6 / 255)

    def test_a_small_comparison_has_few_files(self, comparison, tmp_path):
        bare = dataclasses.replace(comparison, failures=comparison.failures[:0])
        bare.save(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"scores.csv", "costs.csv", "manifest.json"}
        loaded = Comparison.load(tmp_path)
        assert loaded.curves.empty
        assert loaded.failures.empty
        assert loaded.examples == []
        assert json.loads((tmp_path / "manifest.json").read_text("ascii"))["format"] == 2

    def test_scores_are_plain_csv_for_others(self, comparison, tmp_path):
        comparison.save(tmp_path)
        assert (tmp_path / "scores.csv").read_text("utf-8").startswith('"sample","label","target","prediction","method"')

    def test_nothing_of_an_earlier_comparison_stays(self, full, comparison, tmp_path):
        full.save(tmp_path)
        (tmp_path / "mine.txt").write_text("kept")
        comparison.save(tmp_path)
        names = {"scores.csv", "costs.csv", "failures.csv", "manifest.json", "mine.txt"}
        assert {path.name for path in tmp_path.iterdir()} == names
        assert_equal_tables(Comparison.load(tmp_path), comparison)

    def test_a_full_disk_leaves_the_old_file(self, full, comparison, tmp_path, monkeypatch):
        full.save(tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

        def full_disk(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match=r"scores.csv' cannot be written \(No space left on device\); make room") as caught:
            comparison.save(tmp_path)
        assert caught.value.errno == errno.ENOSPC
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    @pytest.mark.parametrize("survivor", ["costs.csv", "failures.csv", "manifest.json"])
    def test_a_mixture_of_two_comparisons_is_refused(self, full, comparison, tmp_path, monkeypatch, survivor):
        """As after a power cut while the second was being saved."""
        full.save(tmp_path)
        replace = Path.replace

        def cut(self: Path, target: Path) -> Path:
            if target.name == survivor:
                raise KeyboardInterrupt
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", cut)
        with pytest.raises(KeyboardInterrupt):
            comparison.save(tmp_path)
        assert not list(tmp_path.glob(".*"))
        with pytest.raises(ValueError, match=r"scores.csv' (was changed since it was saved|is cut off)"):
            Comparison.load(tmp_path)

    def test_a_manifest_that_is_not_json_writes_nothing(self, comparison, tmp_path):
        bad = dataclasses.replace(comparison, manifest={**comparison.manifest, "path": Path("x")})
        with pytest.raises(TypeError, match="not JSON serializable"):
            bad.save(tmp_path)
        assert not list(tmp_path.iterdir())

    def test_a_file_is_no_folder(self, comparison, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(NotADirectoryError, match="is a file; a comparison is saved into a folder"):
            comparison.save(tmp_path / "file")

    def test_a_folder_without_rights(self, comparison, tmp_path):
        tmp_path.chmod(0o500)
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write everywhere")
        try:
            with pytest.raises(PermissionError, match=r"scores.csv' cannot be written \(Permission denied\)"):
                comparison.save(tmp_path)
        finally:
            tmp_path.chmod(0o700)

    @pytest.mark.parametrize("name", ["scores.csv", "costs.csv", "curves.csv", "failures.csv", "examples.npz"])
    def test_what_is_missing_cut_off_or_changed_is_refused(self, full, tmp_path, name):
        full.save(tmp_path)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:-1])
        with pytest.raises(ValueError, match=rf"{name}' is cut off: it has {len(whole) - 1} of {len(whole)} bytes"):
            Comparison.load(tmp_path)
        (tmp_path / name).write_bytes(whole[:-2] + b"0\n")
        with pytest.raises(ValueError, match=rf"{name}' was changed since it was saved"):
            Comparison.load(tmp_path)
        (tmp_path / name).unlink()
        with pytest.raises(FileNotFoundError, match=rf"{name}' is missing; the comparison is not whole"):
            Comparison.load(tmp_path)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"format": 3, "files": {}}', "has format 3; this version reads up to 2. Update captum-softcam"),
            ('{"format": 2, "files": {}}', "is not as it was written: its content and its digest differ"),
            ('{"format": 1, "files": {"scores.csv": 7, "costs.csv": {}}}', "scores.csv' was changed since it was saved"),
            ("[" * 10**5, "is not JSON .*; it was cut off or changed"),
            ("1" * 10**5, "is not JSON .*; it was cut off or changed"),
            ("\0\0", "is not JSON .*; it was cut off or changed"),
            ('{"format": 1, "fi', "is not JSON .*; it was cut off or changed"),
            ("[]", "is not as it was written"),
            ('{"seed": 0}', "is not the manifest of a comparison"),
            ('{"format": 1}', "is not the manifest of a comparison"),
        ],
    )
    def test_manifests_that_are_refused(self, full, tmp_path, text, message):
        full.save(tmp_path)
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            Comparison.load(tmp_path)

    def test_a_manifest_must_name_the_scores(self, full, tmp_path):
        full.save(tmp_path)
        (tmp_path / "manifest.json").write_text('{"format": 1, "files": {}}')
        with pytest.raises(FileNotFoundError, match=r"scores.csv' is missing"):
            Comparison.load(tmp_path)

    @pytest.mark.parametrize("name", [".", "nowhere"])
    def test_no_comparison_there(self, tmp_path, name):
        with pytest.raises(FileNotFoundError, match=r"there is no comparison in .*: 'manifest.json' is missing"):
            Comparison.load(tmp_path / name)


def cells(line: str) -> list[str]:
    """The cells of a line of a Markdown table."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


UGLY = "a|b_c_ *x* <b> $y$ {z} 5% #1 & ~^\\ [q]\nnew"


@pytest.fixture
def ugly() -> Comparison:
    manifest = {"metrics": {"m": {"title": UGLY, "category": UGLY, "higher_is_better": True}}, "baseline": UGLY}
    failures = pd.DataFrame({"sample": ["s1"], "method": [UGLY], "metric": ["m"], "error": [UGLY + "x" * 500]})
    return make({(UGLY, "m"): [0.5, NAN], ("*", "m"): [0.25, 1.0]}, manifest=manifest, failures=failures)


class TestTables:
    def test_the_frame_holds_all(self, comparison):
        frame = comparison.to_frame()
        assert list(frame.index) == list(METHODS)
        statistics = ["mean", "low", "high", "count", "undefined", "failed"]
        costs = ["forwards", "backwards", "seconds", "relative", "peak_bytes"]
        columns = [(metric, name) for metric in METRICS for name in statistics]
        assert list(frame.columns) == [*columns, *(("cost", name) for name in costs), ("rank", "mean")]
        for method in METHODS:
            for metric in METRICS:
                assert frame.loc[method, metric].tolist() == comparison.summary().loc[(method, metric), statistics].tolist()
        assert frame["cost"]["relative"].tolist() == [1 / 3] * 4
        assert frame["rank"]["mean"].tolist() == comparison.ranks()["mean_rank"].tolist()

    def test_markdown(self, comparison):
        lines = comparison.to_markdown().splitlines()
        assert cells(lines[0]) == [
            *("method", "Pixel AUC ↑", "Deletion ↓", "Of a later version ↑", "mean rank", "cost", "passes")
        ]
        rows = [cells(line) for line in lines[2:6]]
        assert [row[0] for row in rows] == ["soft_cam", "grad_cam (baseline)", "occlusion", "random (control)"]
        summary = comparison.summary().loc[("soft_cam", "deletion")]
        mean, low, high = (f"{summary[key]:.3f}" for key in ("mean", "low", "high"))
        assert rows[0][2] == f"**{mean}** [{low}, {high}] ▲"
        assert [row[1][-1] for row in rows] == ["▲", "]", "]", "▼"]
        assert sum(row[1].startswith("**") for row in rows) == 1
        assert rows[0][4:] == ["1.0", "0.3", "1 + 0"]
        text = "\n".join(lines)
        assert "- 10 samples, 1 of them classified correctly." in text
        assert "- localisation: over the 8 samples with a mask." in text
        assert "▲ better, ▼ worse than grad_cam: by the paired difference, at a level of 5 % for all 9 comparisons" in text
        assert "- random, deletion: 1 of 10 scores are undefined (NaN)." in text
        assert "- occlusion: failed on 3 of 10 samples: RuntimeError: no" in text
        assert "occlusion, deletion" not in text, "what failed is told once"

    def test_another_baseline_has_other_marks(self, comparison):
        text = comparison.to_markdown("soft_cam")
        assert "soft_cam (baseline)" in text
        assert "worse than soft_cam" in text
        assert "▲" not in text.replace("▲ better", "")

    def test_nothing_to_say_of_costs_that_are_not_known(self):
        comparison = make({("a", "deletion"): [0.5, 0.25]})
        text = dataclasses.replace(comparison, costs=pd.DataFrame()).to_markdown()
        assert "cost:" not in text
        assert "passes:" not in text
        assert "baseline" not in text
        assert "better" not in text, "a method alone is compared with nothing"
        assert text.splitlines()[2].endswith("| 1.0 |  |  |")

    def test_small_numbers_keep_three_digits(self):
        text = make({("a", "deletion"): [2.5e-4], ("b", "deletion"): [-4e-5]}).to_markdown()
        assert "0.000250 [0.000250, 0.000250]" in text
        assert "**-0.000040**" in text
        assert "**1.23e-09** [1.23e-09, 1.23e-09]" in make({("a", "deletion"): [1.234e-9]}).to_markdown()
        assert "**0.000**" in make({("a", "deletion"): [-1e-9], ("b", "deletion"): [1.0]}).to_markdown(), "not -0.000"

    def test_markdown_is_escaped(self, ugly):
        text = ugly.to_markdown()
        lines = text.splitlines()
        assert all(len(cells(line)) == 5 for line in lines[:4])
        assert cells(lines[2])[0] == (r"a\|b_c\_ \*x\* \<b\> \$y\$ {z} 5% \#1 \& \~^\\ \[q\] new (baseline)")
        assert len(lines) == 4 + 1 + text.count("\n- ")
        assert "…" in lines[-1]
        assert len(lines[-1]) < 400

    def test_latex(self, comparison):
        text = comparison.to_latex()
        assert text.startswith("% needs \\usepackage{booktabs}\n\\begin{tabular}{lcccrrr}\n\\toprule\n")
        body = text.split("\\toprule\n")[1].split("\\bottomrule\n\\end{tabular}\n")[0]
        head, *rows = [line for line in body.splitlines() if line != "\\midrule"]
        assert len(rows) == 4
        for line in (head, *rows):
            assert line.endswith(r" \\")
            assert len(re.split(r"(?<!\\)&", line)) == 7
        assert "Deletion $\\downarrow$" in head
        assert re.search(
            r"^soft\\_cam & \$\\mathbf\{\d\.\d{3}\}\^\{\+\}\$ \{\\scriptsize \$\[\d\.\d{3}, \d\.\d{3}\]\$\} &", rows[0]
        )
        assert "random (control) & $" in rows[3]
        assert "^{-}$" in rows[3]
        assert "+ better, - worse than grad\\_cam" in text
        assert "▲" not in text

    def test_latex_needs_booktabs_alone(self, ugly, comparison):
        base = "begin end scriptsize footnotesize par mathbf uparrow downarrow"
        escapes = "textbackslash textasciitilde textasciicircum textless textgreater textbar"
        allowed = {*base.split(), *escapes.split(), "toprule", "midrule", "bottomrule"}
        for text in (ugly.to_latex(), comparison.to_latex()):
            body = text.split("\n", 1)[1]
            assert set(re.findall(r"\\([a-zA-Z]+)", body)) <= allowed
            bare = re.sub(r"\\[\\{}$&#_%]", "", body)
            assert bare.count("{") == bare.count("}")
            assert bare.count("$") % 2 == 0
            assert not re.search(r"[%#~]", bare)
            assert not re.search(r"\\\\\s*(\*|\[)", body), "would be read as an option of the line break"

    def test_latex_is_escaped(self, ugly):
        name = r"a\textbar{}b\_c\_ {*}x{*} \textless{}b\textgreater{} \$y\$ \{z\} 5\% \#1 \& "
        assert name + r"\textasciitilde{}\textasciicircum{}\textbackslash{} {[}q] new (baseline) & " in ugly.to_latex()


TITLES = ("SoftCAM", "Grad-CAM", "Occlusion", "Random map")


class TestFigure:
    def test_a_panel_for_each_metric_and_one_for_the_cost(self, comparison):
        figure = comparison.plot()
        titles = [axis.get_title() for axis in figure.axes]
        assert titles == ["Pixel AUC", "Deletion", "Of a later version", "Mean rank (1 is best) and cost"]
        assert [axis.get_xlabel() for axis in figure.axes[:3]] == ["better →", "← better", "better →"]
        labels = figure.axes[0].get_yticklabels()
        assert [label.get_text() for label in labels] == list(TITLES)
        assert figure.axes[0].yaxis_inverted()
        assert labels[3].get_color() != labels[0].get_color()

    def test_points_lie_on_the_means(self, comparison):
        axis, summary = comparison.plot().axes[1], comparison.summary().xs("deletion", level="metric")
        bars, points = axis.get_lines()[:8:2], axis.get_lines()[1:8:2]
        for place, method in enumerate(METHODS):
            assert points[place].get_xydata().tolist() == [[summary.loc[method, "mean"], place]]
            assert bars[place].get_xdata().tolist() == summary.loc[method, ["low", "high"]].tolist()
        assert axis.get_lines()[8].get_xdata() == [summary.loc["grad_cam", "mean"]] * 2

    def test_no_colour_is_needed(self, comparison):
        points = comparison.plot().axes[0].get_lines()[1:8:2]
        assert [point.get_marker() for point in points] == ["^", "D", "o", "v"]
        assert points[3].get_color() == "#a3a3a3"
        (legend,) = comparison.plot().legends
        expected = ["Grad-CAM (baseline)", "better than Grad-CAM", "worse", "inconclusive", "control"]
        assert [text.get_text() for text in legend.get_texts()] == expected

    def test_cost_against_rank(self, comparison):
        axis = comparison.plot().axes[-1]
        ranks = comparison.ranks()["mean_rank"]
        assert [line.get_xydata().tolist() for line in axis.get_lines()] == [[[1 / 3, rank]] for rank in ranks]
        assert sorted(text.get_text() for text in axis.texts) == sorted(TITLES)
        heights = sorted(text.xyann[1] + text.xy[1] for text in axis.texts)
        assert min(np.diff(heights)) > 0.4, "no name lies on another"

    def test_any_comparison_can_be_drawn(self, comparison, ugly, tmp_path):
        alone = make({("a", "deletion"): [0.5]})
        undefined = make({("a", "deletion"): [NAN], ("b", "deletion"): [NAN]})
        formula = make({("$\\frac$", "deletion"): [0.5], ("$", "deletion"): [0.5]})  # no mathematics
        free = dataclasses.replace(alone, costs=pd.DataFrame())
        many = make({("a", f"m{i}"): [0.5] for i in range(7)}, manifest={"metrics": {f"m{i}": UNKNOWN for i in range(7)}})
        for i, shown in enumerate((comparison, ugly, formula, alone, undefined, free, many)):
            shown.plot().savefig(tmp_path / f"{i}.png")
            assert (tmp_path / f"{i}.png").stat().st_size > 1000
        assert len(many.plot().axes) == 8
        assert not alone.plot().legends
        assert "undefined" in [text.get_text() for text in undefined.plot().axes[0].texts]


UNKNOWN = {"higher_is_better": True}
