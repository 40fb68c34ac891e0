"""A comparison that is cut off: by kill -9 at random moments, by errors, by a disk that takes no more."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import comparisons
import numpy as np
import pandas as pd
import pytest
import torch
from comparisons import CHEAP, METHODS, make_model, make_samples

from captum_softcam.evaluation import Comparison, Journal, compare_methods, is_complete
from captum_softcam.evaluation.part import Part


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
        if process.poll() is None and kills < 4:
            time.sleep(moments.uniform(0, 0.15))
            process.kill()
            kills += process.wait() == -9
            done = [index for part in Journal.read_parts(folder) for index in part.indices]
            assert len(done) == len(set(done))
        if process.wait() == 0:
            break
    assert kills >= 3, "it was too quick to be killed"
    assert is_complete(folder)
    same(Comparison.load(folder), whole)


def test_killed_while_the_result_is_written(whole, tmp_path, monkeypatch):
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("save", "close"):
        folder = tmp_path / name
        with monkeypatch.context() as patch:
            patch.setattr(Comparison if name == "save" else Journal, name, die)
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

    class Stop(Exception):
        pass

    class Samples(comparisons.SlowSamples):
        read = 0

        def __getitem__(self, index):
            Samples.read += 1
            if Samples.read > 1 + 24 + 2 * after:  # the first, those that examples are chosen from, and the batches
                raise Stop
            return self.samples[index]

    with pytest.raises(Stop):
        compare_methods(make_model(), Samples(24, 0), METHODS, CHEAP, batch_size=2, folder=folder, examples=3)
    assert len(list(folder.glob("parts/*.npz"))) == after


def test_a_folder_is_never_overwritten(tmp_path):
    samples = make_samples(2)
    compare_methods(make_model(), samples, ["random"], ["pixel_auc"], folder=tmp_path / "a")
    with pytest.raises(FileExistsError, match="exists already and is not overwritten"):
        compare_methods(make_model(), samples, ["random"], ["pixel_auc"], folder=tmp_path / "a")
    _cut_off(tmp_path / "b", after=1)
    with pytest.raises(FileExistsError, match="holds a comparison that was cut off; go on with it by --resume"):
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
        ({"samples": make_samples(23)}, "was started with samples 24, and is resumed with 23"),
        ({"methods": ["random"]}, "was started with methods soft_cam, grad_cam, random, and is resumed with random"),
        ({"explain": "predicted"}, "was started with explained_class true"),
        ({"examples": 1}, "was started with examples"),
    ):
        with pytest.raises(ValueError, match=message):
            compare_methods(**{**given, **changes}, folder=folder, resume=True)
    compare_methods(**given, folder=folder, resume=True)


def test_a_part_that_is_not_ours_is_refused(tmp_path):
    folder = tmp_path / "run"
    _cut_off(folder, after=2)
    part = sorted(folder.glob("parts/*.npz"))[0]
    for content in (b"", b"no archive", part.read_bytes()[:200]):
        part.write_bytes(content)
        with pytest.raises(ValueError, match=r"holds no results of a comparison .*; delete it, and resume"):
            comparisons.run(str(folder), resume=True)
    part.unlink()
    comparisons.run(str(folder), resume=True)


def test_a_full_disk_ends_in_words_and_the_run_can_go_on(whole, tmp_path, monkeypatch):
    folder, save = tmp_path / "run", Part.save
    written = []

    def full(self: Part, path: Path) -> None:
        if len(written) == 3:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        save(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(Part, "save", full)
        with pytest.raises(OSError, match="No space left on device"):
            comparisons.run(str(folder), resume=False)
    assert not list(folder.glob("parts/.*"))
    same(comparisons.run(str(folder), resume=True), whole)


def test_a_part_is_whole_or_absent(tmp_path, monkeypatch):
    part = next(iter(_parts(tmp_path)))

    def full(file, **_arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left"):
        part.save(tmp_path / "part.npz")
    assert not list(tmp_path.glob("*part*"))
    assert not list(tmp_path.glob(".*"))


def test_a_part_comes_back_as_it_was(tmp_path):
    for number, part in enumerate(_parts(tmp_path)):
        path = tmp_path / f"{number}.npz"
        part.save(path)
        back = Part.load(path)
        np.testing.assert_array_equal(back.scores, part.scores)
        np.testing.assert_array_equal(back.costs, part.costs)
        assert back.curves.keys() == part.curves.keys()
        assert (back.indices, back.identifiers, back.failures) == (part.indices, part.identifiers, part.failures)
        assert back.examples.keys() == part.examples.keys()


def _parts(tmp_path: Path) -> list[Part]:
    folder = tmp_path / "parts-of"
    _cut_off(folder, after=3)
    parts = list(Journal.read_parts(folder))
    shutil.rmtree(folder)
    assert parts[0].examples or parts[1].examples
    return parts


def test_the_folder_says_what_was_asked_for(tmp_path):
    folder = tmp_path / "run"
    _cut_off(folder, after=1)
    running = json.loads((folder / "running.json").read_text())
    assert list(running["settings"]["methods"]) == METHODS
    assert running["settings"]["samples"] == 24
