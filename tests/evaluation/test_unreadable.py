"""Nothing stops for one file: a sample that cannot be read is named and counted, and a resumed run tries it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from comparisons import METRICS, SlowSamples, make_model, make_samples
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset

from captum_softcam.data import Sample
from captum_softcam.data.samples import ImageEntry, MaskedImages, NamedSamples, identifier_of
from captum_softcam.evaluation import Comparison, LocalEngine, accuracy, class_performance, compare_methods
from captum_softcam.evaluation.batch import BatchScorer
from captum_softcam.evaluation.checkpoint import is_complete
from captum_softcam.report import table_notes, write_report
from captum_softcam.softcam import Classifier


class Broken:
    """Samples of a data set of the user's own, some of which raise an error when they are read."""

    def __init__(self, broken: dict[int, Exception], count: int = 8, samples: list[Sample] | None = None) -> None:
        self.samples, self.broken = samples or make_samples(count), broken

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        if index in self.broken:
            raise self.broken[index]
        return self.samples[index]


ERROR = OSError("image file is truncated")


def by_batch(_model: torch.nn.Module, images: Tensor, _classes: Tensor) -> Tensor:
    """A method whose maps depend on the size of the batch, as rounding does, but so that every bit of a score shows it."""
    generator = torch.Generator().manual_seed(len(images))
    return images[:, :1] + torch.rand(images[:1, :1].shape, generator=generator)


def run(samples: object, methods: object = None, metrics: object = METRICS, **options: object) -> Comparison:
    given = {"batch_size": 4, "examples": 2, **options}
    return compare_methods(make_model(), samples, methods or ["soft_cam", by_batch], metrics, **given)


@pytest.fixture
def count_scored(monkeypatch) -> list[tuple[int, ...]]:
    """The indices of all batches that are scored, one after the other."""
    scored: list[tuple[int, ...]] = []
    score = BatchScorer._score

    def spy(self: BatchScorer, indices: list[int], *arguments: object) -> object:
        if self.metrics:
            scored.append(tuple(indices))
        return score(self, indices, *arguments)

    monkeypatch.setattr(BatchScorer, "_score", spy)
    return scored


def test_identifiers_are_known_without_reading():
    files = MaskedImages([ImageEntry(Path("nowhere"), 0, name) for name in "abc"], ["cat"])
    joined = ConcatDataset([files, Subset(files, [2, 0]), make_samples(2)])
    found = [identifier_of(joined, index) for index in range(len(joined))]
    assert found == ["a", "b", "c", "c", "a", "s0", "s1"]
    assert identifier_of(SlowSamples(3, 0), 1) == "sample 1"


@pytest.mark.parametrize("broken", [[0], [5], [7], [0, 1, 2, 3], [4, 5, 6, 7], [0, 3, 6]], ids=str)
@pytest.mark.parametrize("engine", [None, LocalEngine(workers=1)], ids=["here", "workers"])
def test_the_others_have_the_scores_that_they_have_without_it(broken, engine):
    with pytest.warns(UserWarning, match=rf"^{len(broken)} of 8 samples could not be read: sample {broken[0]}\b.*trunc"):
        found = run(Broken(dict.fromkeys(broken, ERROR)), engine=engine)
    left = [index for index in range(8) if index not in broken]
    batches = [[i for i in left if i < 4], [i for i in left if i >= 4]]
    want = [run([make_samples(8)[i] for i in batch], examples=0) for batch in batches if batch]
    pd.testing.assert_frame_equal(
        found.scores, pd.concat([each.scores for each in want], ignore_index=True), check_exact=True
    )
    assert found.samples == [f"s{index}" for index in left]
    assert list(found.unreadable.items()) == [(f"sample {index}", "image file is truncated") for index in broken]
    assert found.manifest["samples_failed"] == len(broken)
    assert len(found.examples) == 2
    assert found.summary()["undefined"].loc["soft_cam", "deletion"] == 0, "no method failed"
    assert found.costs["peak_bytes"].notna().all()


@pytest.mark.parametrize(
    ("error", "words"),
    [(ERROR, "image file is truncated"), (KeyError("pixels"), "KeyError: 'pixels'"), (MemoryError(), "MemoryError:")],
)
def test_every_table_names_it_in_one_line(error, words, tmp_path):
    with pytest.warns(UserWarning, match="could not be read"):
        comparison = run(Broken({3: error, 5: error}), ["random"], ["pixel_auc"], folder=tmp_path / "run")
    line = f"2 of 8 samples could not be read: sample 3, sample 5 (the first: {words})."
    for found in (comparison, Comparison.load(tmp_path / "run")):
        assert line in table_notes(found)
        assert f"- {line}" in found.to_markdown().splitlines()
        assert found.failures[["sample", "method", "metric"]].to_numpy().tolist() == [
            ["sample 3", "", ""],
            ["sample 5", "", ""],
        ]
    write_report(comparison, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert line.replace("'", "&#39;") in page
    assert "Scores that raised an error" not in page, "no method failed"


def test_failures_of_methods_are_told_apart_from_it(tmp_path):
    def fails(*_: object) -> Tensor:
        raise RuntimeError("no map")

    with pytest.warns(UserWarning, match="^1 of 8 samples could not be read"):
        comparison = run(Broken({3: ERROR}), {"random": "random", "fails": fails}, ["pixel_auc"])
    assert "fails: failed on 7 of 7 samples: RuntimeError: no map" in table_notes(comparison)
    assert comparison.summary().loc[("fails", "pixel_auc"), ["undefined", "failed"]].tolist() == [6, 6], "one has no mask"
    write_report(comparison, tmp_path / "report.html")
    assert "Scores that raised an error" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_strict_stops_at_it():
    for engine in (None, LocalEngine(workers=1)):
        with pytest.raises(OSError, match="image file is truncated"):
            run(Broken({6: ERROR}), examples=0, engine=engine, strict=True)


def test_no_sample_at_all():
    broken = Broken({index: OSError(f"file {index} is gone") for index in range(8)})
    words = r"^none of the 8 samples can be read: sample 0 \(file 0 is gone\)\.$"
    with pytest.raises(ValueError, match=words):
        run(broken)
    with pytest.raises(ValueError, match=words):
        accuracy(classifier(), broken)
    with pytest.raises(ValueError, match=words):
        class_performance(classifier(), broken)


def test_warnings_that_are_errors_stay_errors():
    with pytest.raises(UserWarning, match="a strange file"):
        run(Broken({6: UserWarning("a strange file")}))


SMALL = torch.zeros(3, 8, 8)


def test_a_sample_of_another_size_is_counted_as_well():
    samples = make_samples(8)
    changes = {2: {"image": SMALL, "mask": None}, 5: {"mask": torch.ones(1, 4, 4)}, 7: {"image": SMALL[:1]}}
    other = [replace(sample, **changes.get(index, {})) for index, sample in enumerate(samples)]
    with pytest.warns(
        UserWarning, match=r"^3 of 8 samples could not be read: s2, s5, s7 \(the first: .* is \(8, 8\) pixels"
    ):
        assert run(other, ["random"], ["pixel_auc"]).samples == ["s0", "s1", "s3", "s4", "s6"]


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_a_mistake_in_all_samples_stops_at_once(batch_size, count_scored):
    samples = make_samples(8)
    other = [samples[0], *(replace(sample, image=SMALL, mask=None) for sample in samples[1:])]
    with pytest.raises(ValueError, match=r"samples do not fit the first one: sample 's1' is \(8, 8\) pixels, the first one"):
        run(other, ["random"], ["pixel_auc"], batch_size=batch_size)
    assert count_scored == [(0,)]
    with pytest.raises(TypeError, match=r"^samples\[0\] is a tuple; expected a Sample"):
        run([(sample.image, sample.target) for sample in samples])


def test_a_black_mask_is_nothing_to_localise():
    samples = make_samples(4)
    black = [
        replace(samples[0], mask=torch.zeros(1, 16, 24)),
        *samples[1:3],
        replace(samples[3], mask=torch.full((16, 24), -1)),
    ]
    found = run(black)
    assert found.manifest["samples_with_mask"] == 2
    wanted = run([replace(sample, mask=None) if index in (0, 3) else sample for index, sample in enumerate(samples)])
    pd.testing.assert_frame_equal(found.scores, wanted.scores)
    assert found.contents.equals(wanted.contents)


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """The folder of a run over good files."""
    folder = tmp_path_factory.mktemp("clean") / "run"
    run(make_samples(16), folder=folder)
    return folder


class TestResume:
    """From a run with a broken file to the comparison of one clean run over good files."""

    @staticmethod
    def same(folder: Path, clean: Path) -> None:
        """Bit by bit, but for the clock and the name of the run."""
        assert is_complete(folder)
        assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in clean.iterdir())
        for name in ("scores.csv", "curves.csv", "samples.csv"):
            assert (folder / name).read_bytes() == (clean / name).read_bytes(), name
        one, other = Comparison.load(folder), Comparison.load(clean)
        assert one.manifest | {"run": ""} == other.manifest | {"run": ""}
        assert [each.sample.identifier for each in one.examples] == [each.sample.identifier for each in other.examples]
        pd.testing.assert_frame_equal(one.costs[["forwards", "backwards"]], other.costs[["forwards", "backwards"]])

    @pytest.mark.parametrize("broken", [[0], [6], [15], [1, 2, 9], [4, 5, 6, 7]], ids=str)
    def test_a_file_that_was_repaired(self, broken, clean, tmp_path, count_scored):
        folder = tmp_path / "run"
        with pytest.warns(UserWarning, match=f"^{len(broken)} of 16 samples could not be read"):
            first = run(Broken(dict.fromkeys(broken, ERROR), 16), folder=folder)
        assert not is_complete(folder)
        assert Comparison.load(folder).samples == first.samples, "which is a comparison all the same"
        count_scored.clear()
        with pytest.warns(UserWarning, match=f"^{len(broken)} of 16 samples could not be read"):
            again = run(Broken(dict.fromkeys(broken, ERROR), 16), folder=folder, resume=True)
        assert count_scored == [], "nothing is done twice for a file that is still broken"
        pd.testing.assert_frame_equal(again.scores, first.scores, check_exact=True)
        run(make_samples(16), folder=folder, resume=True)
        assert {index // 4 for batch in count_scored for index in batch} == {index // 4 for index in broken}
        self.same(folder, clean)

    def test_one_after_the_other_and_killed_in_between(self, clean, tmp_path, monkeypatch):
        folder, broken = tmp_path / "run", {1: ERROR, 2: ERROR, 9: ERROR}
        with pytest.warns(UserWarning, match="^3 of 16 samples could not be read"):
            run(Broken(broken, 16), folder=folder)
        del broken[2]
        with monkeypatch.context() as patch:
            patch.setattr(Comparison, "save", self.killed)
            with pytest.raises(KeyboardInterrupt):
                run(Broken(broken, 16), folder=folder, resume=True)
        with pytest.warns(UserWarning, match="^2 of 16 samples could not be read: sample 1, sample 9 "):
            run(Broken(broken, 16), folder=folder, resume=True)
        with monkeypatch.context() as patch:
            patch.setattr(BatchScorer, "_score", self.killed)
            with pytest.raises(KeyboardInterrupt):
                run(make_samples(16), folder=folder, resume=True)
        run(make_samples(16), folder=folder, resume=True)
        self.same(folder, clean)

    @staticmethod
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    def test_a_file_that_was_scored_before_it_broke(self, clean, tmp_path):
        folder = tmp_path / "run"
        with pytest.warns(UserWarning, match="^1 of 16 samples could not be read: sample 6 "):
            run(Broken({6: ERROR}, 16), folder=folder)
        with (
            pytest.warns(UserWarning, match="^1 of 15 samples that were scored are not there any more; .*: s9.$"),
            pytest.warns(UserWarning, match="^2 of 16 samples could not be read: sample 6, sample 9"),
        ):
            later = run(Broken({6: ERROR, 9: ERROR}, 16), folder=folder, resume=True)
        assert "s9" not in later.samples
        run(make_samples(16), folder=folder, resume=True)
        self.same(folder, clean)

    def test_a_file_that_is_taken_away(self, tmp_path):
        folder, samples = tmp_path / "run", make_samples(16)
        with pytest.warns(UserWarning, match="^1 of 12 samples could not be read"):
            run(Subset(Broken({6: ERROR}, samples=samples), range(12)), folder=folder)
        left = [sample for index, sample in enumerate(samples) if index not in (3, 6)]
        with pytest.warns(UserWarning, match="^1 of 11 samples that were scored are not there any more; .* left out: s3"):
            resumed = run(Subset(left, range(12)), folder=folder, resume=True)
        assert resumed.samples == [sample.identifier for sample in left[:12]], "with those that have moved into the window"
        assert resumed.manifest["samples"] == 12
        want = run(left[:12])
        pd.testing.assert_frame_equal(resumed.scores, want.scores, atol=1)  # by_batch makes up to 1 of it
        pd.testing.assert_frame_equal(
            resumed.scores.query("method == 'soft_cam'"), want.scores.query("method == 'soft_cam'"), atol=1e-5
        )
        pd.testing.assert_frame_equal(resumed.contents, want.contents)
        assert [each.sample.identifier for each in resumed.examples] == [each.sample.identifier for each in want.examples]
        assert is_complete(folder)

    def test_metrics_are_those_of_the_start(self, tmp_path):
        """Which had no mask to measure localisation with, because the only one could not be read."""
        folder, samples = tmp_path / "run", [replace(sample, mask=None) for sample in make_samples(5)]
        samples[2] = make_samples(5)[2]
        with pytest.warns(UserWarning, match="could not be read"):
            metrics = run(Broken({2: ERROR}, samples=samples), ["random"], None, folder=folder).metrics
        assert "pointing_game" not in metrics
        resumed = run(samples, ["random"], None, folder=folder, resume=True)
        assert resumed.metrics == metrics
        assert resumed.samples == ["s0", "s1", "s2", "s3", "s4"]
        assert run(samples, ["random"], None, folder=folder, resume=True).metrics == metrics

    def test_samples_that_share_an_image(self, tmp_path):
        pairs = [
            replace(sample, target=label, identifier=f"{sample.identifier}/{label}", group=sample.identifier, labels=(0, 2))
            for label in (0, 2)
            for sample in make_samples(5)
        ]
        folder = tmp_path / "run"
        with pytest.warns(UserWarning, match="^2 of 10 samples could not be read"):
            first = run(Grouped({1: ERROR, 6: ERROR}, samples=pairs), folder=folder)
        assert first.manifest["images"] == 4
        assert len(first.performance) == 5
        resumed, want = run(Grouped({}, samples=pairs), folder=folder, resume=True), run(Grouped({}, samples=pairs))
        for name in ("scores", "curves", "contents", "performance"):
            pd.testing.assert_frame_equal(getattr(resumed, name), getattr(want, name), check_exact=True)


class Grouped(Broken, NamedSamples):
    """Whose names are known without reading them."""

    @property
    def groups(self) -> list[str]:
        return [str(sample.group) for sample in self.samples]

    def identifier(self, index: int) -> str:
        return self.samples[index].identifier


def classifier() -> Classifier:
    def scores(images: Tensor) -> Tensor:
        return images[:, :2, 0, 0]

    model = torch.nn.Module()
    model.forward = scores
    return Classifier("toy", model.eval(), ("a", "b"), 8, (0, 0, 0), (1, 1, 1), scores="sigmoid")


def images(count: int) -> list[Sample]:
    pixels = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return [Sample(image, i % 2, None, f"s{i}", labels=(i % 2,)) for i, image in enumerate(pixels)]


@pytest.mark.parametrize("broken", [[0], [2, 3], [5]], ids=str)
@pytest.mark.parametrize("measure", [accuracy, class_performance])
def test_measures_of_a_classifier_leave_it_out(measure: Callable[..., object], broken):
    samples = images(6)
    with pytest.warns(UserWarning, match=f"^{len(broken)} of 6 samples could not be read: sample {broken[0]}") as caught:
        found = measure(classifier(), Broken(dict.fromkeys(broken, ERROR), samples=samples), 2)
    assert caught[0].filename == __file__
    want = measure(classifier(), [sample for index, sample in enumerate(samples) if index not in broken], 2)
    pd.testing.assert_frame_equal(pd.DataFrame(found), pd.DataFrame(want))
    with pytest.raises(OSError, match="truncated"):
        measure(classifier(), Broken(dict.fromkeys(broken, ERROR), samples=samples), 2, strict=True)
