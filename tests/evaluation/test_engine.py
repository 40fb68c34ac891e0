"""Work on other processes gives what work here gives."""

from __future__ import annotations

import sys
from dataclasses import replace

import pandas as pd
import pytest
from comparisons import METHODS, METRICS, deadly, make_model, make_samples, sorted_scores

from captum_softcam.data import Sample
from captum_softcam.evaluation import Engine, LocalEngine, RayEngine, compare_methods, engine


def run(engine: Engine | None = None, **changes: object):
    given = {"methods": METHODS, "metrics": METRICS, "batch_size": 3, "examples": 2, "engine": engine}
    return compare_methods(make_model(), make_samples(8), **{**given, **changes})


def test_processes_that_read_samples_change_nothing():
    pd.testing.assert_frame_equal(run(LocalEngine(workers=2)).scores, run().scores)


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster on this machine, with room for two workers."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield ray
    ray.shutdown()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray leaves a socket open
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of Ray, about its own environment variables
@pytest.mark.usefixtures("cluster")
class TestRay:
    def test_the_result_is_the_local_one(self):
        there, here = run(RayEngine(workers=2)), run()
        pd.testing.assert_frame_equal(there.scores, here.scores, atol=1e-4)
        pd.testing.assert_frame_equal(there.curves, here.curves, atol=1e-4)
        assert [e.sample.identifier for e in there.examples] == [e.sample.identifier for e in here.examples]

    def test_samples_of_one_image_share_it_there_too(self):
        pairs = [
            replace(sample, target=label, identifier=f"{sample.identifier}/{label}", group=sample.identifier, labels=(0, 2))
            for label in (0, 2)
            for sample in make_samples(3)
        ]
        options = {"methods": ["random", "soft_cam"], "metrics": METRICS, "batch_size": 4}
        there, here = (compare_methods(make_model(), pairs, **options, engine=each) for each in (RayEngine(workers=2), None))
        pd.testing.assert_frame_equal(there.scores, here.scores, atol=1e-4)
        pd.testing.assert_frame_equal(there.contents, here.contents)
        pd.testing.assert_frame_equal(there.performance, here.performance)

    def test_a_worker_that_dies_in_the_middle_loses_nothing(self, tmp_path):
        marker = tmp_path / "died"
        there = run(RayEngine(workers=1), methods={"deadly": deadly(marker), "random": "random"}, folder=tmp_path / "run")
        assert marker.exists(), "no worker was killed"
        here = run(methods={"deadly": "soft_cam", "random": "random"})
        pd.testing.assert_series_equal(sorted_scores(there), sorted_scores(here), atol=1e-4)

    def test_a_worker_that_always_dies_ends_in_words(self, tmp_path):
        with pytest.raises(ChildProcessError, match=r"a worker died more than 0 times in a row.* can be resumed"):
            run(RayEngine(workers=1, retries=0), methods={"deadly": deadly(tmp_path / "died")})

    def test_a_cluster_that_is_lost_ends_in_words(self, monkeypatch):
        monkeypatch.setattr(engine, "_daemon_has_ended", lambda _ray: True)
        with pytest.raises(
            ChildProcessError, match=r"the Ray cluster was lost .*; a comparison with a folder can be resumed"
        ):
            run(RayEngine(workers=1))

    def test_samples_that_cannot_be_read_are_the_same_there(self):
        samples = make_samples(6)
        samples[3] = replace(samples[3], image=samples[3].image[:, :8], mask=None)
        found = []
        for each in (RayEngine(workers=1), None):
            with pytest.warns(UserWarning, match=r"^1 of 6 samples could not be read: s3 \(sample 's3' is \(8, 24\) pixels"):
                found.append(compare_methods(make_model(), samples, ["random"], ["deletion"], batch_size=2, engine=each))
        pd.testing.assert_frame_equal(found[0].scores, found[1].scores, atol=1e-4)
        assert found[0].unreadable == found[1].unreadable

    def test_wrong_samples_end_in_the_same_sentence(self):
        samples = make_samples(4)
        samples[3] = Sample(samples[3].image, 9, None, "odd")
        with pytest.raises(ValueError, match=r"^sample 'odd' has class 9; the model gives 4 logits"):
            compare_methods(make_model(), samples, ["random"], ["deletion"], batch_size=2, engine=RayEngine(workers=1))


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'captum-softcam\[ray\]'"):
        run(RayEngine())
