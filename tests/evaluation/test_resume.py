"""A comparison that is cut off: by kill -9 at random moments, by errors, by a disk that takes no more."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from unittest.mock import Mock

import comparisons
import numpy as np
import pandas as pd
import pytest
import torch
from comparisons import CHEAP, METHODS, make_model, make_samples

from captum_softcam.data import Sample
from captum_softcam.evaluation import Comparison, compare_methods, runner
from captum_softcam.evaluation.checkpoint import Checkpoint, find_again, is_complete
from captum_softcam.evaluation.reader import SampleReader
from captum_softcam.evaluation.result import BatchResult
from captum_softcam.metrics import METRICS


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The comparison that was never cut off, and its folder."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return comparisons.run(str(folder), resume=False)


def same(first: Comparison, second: Comparison) -> None:
    """Up to the rounding of processes with other numbers of threads."""
    pd.testing.assert_frame_equal(first.scores, second.scores, atol=1e-5)
    pd.testing.assert_frame_equal(first.curves, second.curves, atol=1e-5)
    counted = ["forwards", "backwards"]
    pd.testing.assert_frame_equal(first.costs[counted], second.costs[counted])
    assert first.same_maps == second.same_maps
    assert [e.sample.identifier for e in first.examples] == [e.sample.identifier for e in second.examples]
    for one, other in zip(first.examples, second.examples, strict=True):
        assert torch.equal(one.sample.image, other.sample.image)
        for name in one.maps:
            torch.testing.assert_close(one.maps[name], other.maps[name])


def test_killed_at_random_moments_nothing_is_lost_or_doubled(whole, tmp_path):
    folder, moments = tmp_path / "run", random.Random(time.time_ns())
    kills = 0
    for _ in range(40):
        arguments = [sys.executable, comparisons.__file__, str(folder), "resume" if folder.exists() else "start"]
        process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
        wait = time.monotonic() + 120
        before = len(list(folder.glob("parts/*.npz")))
        while process.poll() is None and len(list(folder.glob("parts/*.npz"))) <= before and time.monotonic() < wait:
            time.sleep(0.005)  # until it has come further than the one before
        if process.poll() is None and kills < 3:
            time.sleep(moments.uniform(0, 0.15))
            process.kill()
            kills += process.wait() == -9
            done = [index for result in _results(folder) for index in result.indices]
            assert len(done) == len(set(done))
        if process.wait() == 0:
            break
    assert kills >= 2, "it was too quick to be killed"
    assert is_complete(folder)
    same(Comparison.load(folder), whole)


def test_killed_while_the_result_is_written(whole, tmp_path, monkeypatch):
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("save", "close"):
        folder = tmp_path / name
        with monkeypatch.context() as patch:
            patch.setattr(Comparison if name == "save" else Checkpoint, name, die)
            with pytest.raises(KeyboardInterrupt):
                comparisons.run(str(folder), resume=False)
        assert not is_complete(folder)
        same(comparisons.run(str(folder), resume=True), whole)
        assert is_complete(folder)


def test_a_resumed_run_may_take_other_batches(whole, tmp_path):
    folder = tmp_path / "run"
    _cut_off(folder, after=3)
    resumed = compare_methods(
        make_model(), make_samples(24), METHODS, CHEAP, batch_size=7, folder=folder, resume=True, examples=3
    )
    pd.testing.assert_frame_equal(resumed.scores, whole.scores, atol=1e-5)


def _cut_off(folder: Path, after: int) -> None:
    """Leave the folder of a run that ended after so many batches."""

    class Stop(BaseException):
        pass

    class Samples(comparisons.SlowSamples):
        read = 0

        def __getitem__(self, index):
            Samples.read += 1
            if Samples.read > 1 + 24 + 2 * after:  # the first, those that examples are chosen from, and the batches
                raise Stop
            return self.samples[index]

    with pytest.raises(Stop):
        # Without probes, whose choice reads samples, too.
        compare_methods(make_model(), Samples(24, 0), METHODS, CHEAP, batch_size=2, folder=folder, examples=3, probes=0)
    assert len(list(folder.glob("parts/*.npz"))) == after


def test_a_folder_is_never_overwritten(tmp_path):
    samples = make_samples(2)
    compare_methods(make_model(), samples, ["random"], ["pixel_auc"], folder=tmp_path / "a")
    with pytest.raises(FileExistsError, match="exists already and is not overwritten"):
        compare_methods(make_model(), samples, ["random"], ["pixel_auc"], folder=tmp_path / "a")
    _cut_off(tmp_path / "b", after=1)
    with pytest.raises(FileExistsError, match="holds an unfinished comparison; go on with it by --resume"):
        compare_methods(make_model(), samples, ["random"], ["pixel_auc"], folder=tmp_path / "b")
    with pytest.raises(FileNotFoundError, match="holds no comparison that was cut off"):
        compare_methods(make_model(), samples, ["random"], ["pixel_auc"], folder=tmp_path / "c", resume=True)


def test_results_of_different_runs_are_not_mixed(tmp_path):
    folder = tmp_path / "run"
    _cut_off(folder, after=1)
    other = make_model()
    other.evidence[-1].weight.data += 1
    given = {"model": make_model(), "samples": make_samples(24), "methods": METHODS, "metrics": CHEAP, "examples": 3}
    for changes, message in (
        ({"model": other}, "was started with weights"),
        ({"seed": 1}, "was started with seed 0, and is resumed with 1"),
        ({"methods": ["random"]}, "was started with methods soft_cam, grad_cam, random, and is resumed with random"),
        # The scores of each batch on the disk are in the order of the run that made them.
        (
            {"methods": ["grad_cam", "soft_cam", "random"]},
            "grad_cam, random, and is resumed with grad_cam, soft_cam, random",
        ),
        ({"explain": "predicted"}, "was started with explained_class true"),
        (
            {"normalize": lambda images: images / 2},
            "was started with normalisation mean 0.5, square .*, and is resumed with",
        ),
        (
            {"metrics": [*CHEAP[:-1], replace(METRICS[CHEAP[-1]], settings={"x": 1})]},
            "started with metrics average_drop sett",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            compare_methods(**{**given, **changes}, folder=folder, resume=True)
    compare_methods(**given, folder=folder, resume=True)


def test_a_file_that_is_not_a_result_is_refused(tmp_path):
    folder = tmp_path / "run"
    _cut_off(folder, after=2)
    result = sorted(folder.glob("parts/*.npz"))[0]
    for content in (b"", b"no archive", result.read_bytes()[:200]):
        result.write_bytes(content)
        with pytest.raises(ValueError, match=r"holds no results of a comparison, or damaged ones; delete it, and resume"):
            comparisons.run(str(folder), resume=True)
    result.unlink()
    comparisons.run(str(folder), resume=True)


def test_a_result_of_another_run_is_refused(tmp_path):
    """Even of one with as many methods and metrics, whose scores would not be noticed."""
    for name in ("one", "other"):
        _cut_off(tmp_path / name, after=2)
    foreign = sorted((tmp_path / "other/parts").glob("*.npz"))[0]
    shutil.copy(foreign, tmp_path / "one/parts")
    with pytest.raises(ValueError, match="holds results of another run; take it out of this folder, and resume"):
        comparisons.run(str(tmp_path / "one"), resume=True)
    (tmp_path / "one/parts" / foreign.name).unlink()
    comparisons.run(str(tmp_path / "one"), resume=True)


def test_a_full_disk_ends_in_words_and_the_run_can_go_on(whole, tmp_path, monkeypatch):
    folder, save = tmp_path / "run", BatchResult.save
    written = []

    def full(self: BatchResult, path: Path) -> None:
        if len(written) == 3:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        save(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(BatchResult, "save", full)
        with pytest.raises(OSError, match="No space left on device"):
            comparisons.run(str(folder), resume=False)
    assert not list(folder.glob("parts/.*"))
    same(comparisons.run(str(folder), resume=True), whole)


def test_a_result_is_whole_or_absent(tmp_path, monkeypatch):
    result = next(iter(_some_results(tmp_path)))

    def full(file, **_arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left"):
        result.save(tmp_path / "result.npz")
    assert not list(tmp_path.glob("*result*"))
    assert not list(tmp_path.glob(".*"))


def test_a_result_comes_back_as_it_was(tmp_path):
    for number, result in enumerate(_some_results(tmp_path)):
        path = tmp_path / f"{number}.npz"
        result.save(path)
        back = BatchResult.load(path)
        np.testing.assert_array_equal(back.scores, result.scores)
        np.testing.assert_array_equal(back.costs, result.costs)
        assert back.curves.keys() == result.curves.keys()
        assert (back.indices, back.identifiers, back.failures) == (result.indices, result.identifiers, result.failures)
        assert back.examples.keys() == result.examples.keys()


def _results(folder: Path) -> list[BatchResult]:
    return Checkpoint(folder, Checkpoint.read(folder)["run"]).results()


def test_a_result_that_is_there_twice_counts_once(tmp_path):
    folder = tmp_path / "run"
    _cut_off(folder, after=2)
    first = min(folder.glob("parts/*.npz"))
    shutil.copy(first, first.with_name("000000001-copied.npz"))
    assert len(_results(folder)) == 3
    found, unreadable = find_again(_results(folder), SampleReader(make_samples(24)))
    assert [result.indices for result in found] == [(0, 1), (2, 3)]
    assert unreadable == []
    assert comparisons.run(str(folder), resume=True).scores.duplicated(["sample", "method", "metric"]).sum() == 0


def _some_results(tmp_path: Path) -> list[BatchResult]:
    folder = tmp_path / "results-of"
    _cut_off(folder, after=3)
    results = _results(folder)
    shutil.rmtree(folder)
    assert results[0].examples or results[1].examples
    return results


def test_the_folder_says_what_was_asked_for(tmp_path):
    folder = tmp_path / "run"
    _cut_off(folder, after=1)
    running = json.loads((folder / "running.json").read_text())
    assert list(running["settings"]["methods"]) == METHODS
    assert running["settings"]["torch"] == torch.__version__.partition("+")[0]
    assert len({running["run"], *(result.run for result in _results(folder))}) == 1


def test_what_the_run_was_started_with_is_damaged(tmp_path):
    _cut_off(tmp_path / "run", after=1)
    running = tmp_path / "run/running.json"
    before = running.read_bytes()
    half = before[: len(before) // 2]
    for content in (b"", b"{}", b"[]", b"null", b"[" * 10**5, b"1" * 10**5, b"1e999", b"\xff\xfe\0", half):
        running.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"running.json' is not .*\. Copy it back from where it is whole, or start"
        ) as caught:
            comparisons.run(str(tmp_path / "run"), resume=True)
        assert len(str(caught.value)) < 500
    running.write_bytes(before)
    comparisons.run(str(tmp_path / "run"), resume=True)


def _flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_no_flipped_bit_gives_another_score(tmp_path):
    """In what a run keeps and in what it leaves: the same values, or words that name the file."""
    _cut_off(tmp_path / "run", after=2)
    whole = comparisons.run(str(tmp_path / "whole"), resume=False)
    results = [(result.indices, result.scores.tolist()) for result in _results(tmp_path / "run")]
    running = Checkpoint.read(tmp_path / "run")
    files = [*(tmp_path / "run").rglob("*.*"), *(tmp_path / "whole").rglob("*.*")]
    assert len(files) == 1 + 2 + 7
    generator, words = random.Random(0), 0
    for path in files:
        data = path.read_bytes()
        for bit in [*range(16), *generator.sample(range(8 * len(data)), 60)]:
            path.write_bytes(_flipped(data, bit))
            try:
                if path.is_relative_to(tmp_path / "run"):
                    assert Checkpoint.read(tmp_path / "run") == running
                    assert [(result.indices, result.scores.tolist()) for result in _results(tmp_path / "run")] == results
                else:
                    same(Comparison.load(tmp_path / "whole"), whole)
            except ValueError as error:
                assert path.name in str(error)  # noqa: PT017 (an equal value is as good as words)
                words += 1
        path.write_bytes(data)
    assert words > 0.95 * len(files) * 76


def _resumed(folder: Path, samples: list[Sample], **more: object) -> Comparison:
    return compare_methods(make_model(), samples, METHODS, CHEAP, batch_size=2, folder=folder, resume=True, **more)


def test_samples_that_are_gone_new_or_changed_are_told_apart(tmp_path):
    """By name and content: places shift when one is taken away."""
    folder = tmp_path / "run"
    _cut_off(folder, after=3)
    samples = make_samples(24)
    changed = replace(samples[3], image=samples[3].image.flip(-1))
    now = [samples[0], *samples[2:3], changed, *samples[4:], replace(samples[1], identifier="renamed")]
    with (
        pytest.warns(UserWarning, match="^1 of 6 samples that were scored are not there any more; .* left out: s1.$"),
        pytest.warns(UserWarning, match="^1 of 6 samples changed since they were scored, and are scored again: s3.$"),
    ):
        resumed = _resumed(folder, now, examples=3)
    fresh = compare_methods(make_model(), now, METHODS, CHEAP, batch_size=2, examples=3)
    pd.testing.assert_frame_equal(resumed.scores, fresh.scores, atol=1e-5)
    pd.testing.assert_frame_equal(resumed.contents, fresh.contents)
    assert [e.sample.identifier for e in resumed.examples] == [e.sample.identifier for e in fresh.examples]
    same(Comparison.load(folder), resumed)


def test_a_sample_that_comes_back_has_its_scores_again(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    _cut_off(folder, after=3)
    samples = make_samples(24)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "add", stop := Mock(side_effect=KeyboardInterrupt))
        with pytest.warns(UserWarning, match="not there any more"), pytest.raises(KeyboardInterrupt):
            _resumed(folder, [*samples[:1], *samples[2:]])
        stop.assert_called_once()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _resumed(folder, samples).samples == [sample.identifier for sample in samples]


def test_other_data_end_in_words_and_lose_nothing(tmp_path, whole):
    folder = tmp_path / "run"
    _cut_off(folder, after=3)
    others = [replace(sample, image=1 - sample.image) for sample in make_samples(24)]
    with pytest.raises(
        ValueError, match=r"none of the 6 samples that were scored is there as it was \(0 gone, 6 changed, 0 unreadable: s0"
    ):
        _resumed(folder, others)
    same(_resumed(folder, make_samples(24), examples=3), whole)


def test_other_versions_are_noticed(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    _cut_off(folder, after=1)
    for name in ("torch", "captum", "captum-softcam", "quantus", "numpy"):
        with monkeypatch.context() as patch:
            patch.setattr(runner, "version", lambda package, name=name: "0.1" if package == name else version(package))
            with pytest.raises(
                ValueError, match=f"was started with {name} {version(name)[:3]}.*, and is resumed with 0.1; take"
            ):
                _resumed(folder, make_samples(24))
    _resumed(folder, make_samples(24))


def test_examples_can_be_added_on_resume_and_afterwards(tmp_path):
    samples = make_samples(24)
    want = compare_methods(make_model(), samples, METHODS, CHEAP, batch_size=2, examples=6, runner_up=True)
    for after in (3, None):
        folder = tmp_path / f"after-{after}"
        if after is None:
            compare_methods(make_model(), samples, METHODS, CHEAP, batch_size=2, examples=2, folder=folder)
        else:
            _cut_off(folder, after)
        resumed = _resumed(folder, samples, examples=6, runner_up=True)
        same(resumed, want)
        same(Comparison.load(folder), want)
        for one, other in zip(resumed.examples, want.examples, strict=True):
            assert one.runner_up == other.runner_up
            assert one.runner_up_maps.keys() == other.runner_up_maps.keys() == set(METHODS)
    before = (folder / "manifest.json").read_bytes()
    assert len(_resumed(folder, samples, examples=2).examples) == 6, "none is taken away"
    assert (folder / "manifest.json").read_bytes() == before
    with pytest.raises(ValueError, match="sample 's1' changed since it was scored, and cannot be shown beside its scores"):
        _resumed(folder, [samples[0], replace(samples[1], mask=~samples[1].mask), *samples[2:]], examples=6)
    with pytest.raises(ValueError, match="was started with seed 0, and is resumed with 1"):
        _resumed(folder, samples, examples=6, seed=1)


def test_one_process_at_a_time(tmp_path):
    folder = tmp_path / "run"
    _cut_off(folder, after=1)
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    settings = Checkpoint.read(folder)["settings"]
    with Checkpoint.opened(folder, settings, {}, resume=True):
        for resume in (True, False):
            with pytest.raises(BlockingIOError, match=rf"in use by process {os.getpid()} \(this one\) on .*; wait until"):
                comparisons.run(str(folder), resume)
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
    comparisons.run(str(folder), resume=True)


def test_nothing_is_left_beside_a_folder_by_a_run_that_was_killed_at_its_start(tmp_path):
    code = (
        "import os, pathlib, captum_softcam.evaluation.checkpoint as j\nj.write_json = lambda *_: os.kill(os.getpid(), 9)\n"
    )
    code += f"j._start(pathlib.Path({str(tmp_path / 'run')!r}), {{}})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".run.captum-softcam-")
    comparisons.run(str(tmp_path / "run"), resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
