"""The main job under two sets of instructions of the CPU: what is equal to the bit, and what to rounding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from captum_softcam.data import RetinalLesions
from captum_softcam.evaluation import CONTROLS, compare_methods, explain_sample
from captum_softcam.softcam import load_embedded


def small_job(path: str) -> None:
    """Some samples under the default methods and metrics; images, masks, maps of the controls and scores in a file."""
    torch.set_num_threads(1)
    classifier, samples = load_embedded(), [RetinalLesions("test")[i] for i in (1, 2)]
    scores = compare_methods(classifier.model, samples, normalize=classifier.normalize, examples=0).scores
    arrays = {"score": scores["score"].to_numpy(), "target": scores["target"].to_numpy()}
    arrays |= {"method": scores["method"].to_numpy(str), "metric": scores["metric"].to_numpy(str)}
    for sample in samples:
        example = explain_sample(classifier.model, sample, list(CONTROLS), normalize=classifier.normalize)
        arrays |= {f"{name} of {sample.identifier}": maps.numpy() for name, maps in example.maps.items()}
        arrays |= {f"image {sample.identifier}": sample.image.numpy()}
    np.savez(path, **arrays, capability=np.array(torch.backends.cpu.get_cpu_capability()))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[dict[str, np.ndarray]]:
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("this CPU has no other instructions that PyTorch knows")
    own, plain = (tmp_path_factory.mktemp("machines") / f"{name}.npz" for name in ("own", "plain"))
    threads = torch.get_num_threads()
    small_job(str(own))
    torch.set_num_threads(threads)
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    subprocess.run([sys.executable, __file__, str(plain)], env=environment, check=True)
    found = [dict(np.load(path)) for path in (own, plain)]
    assert found[0]["capability"] != found[1]["capability"] == "DEFAULT"
    return found


def test_samples_and_controls_are_equal_to_the_bit(runs):
    own, plain = runs
    names = [name for name in own if name.startswith(("image ", *CONTROLS))]
    assert len(names) == 2 * (1 + len(CONTROLS))
    assert [name for name in names if not np.array_equal(own[name], plain[name])] == []


def test_scores_are_equal_to_rounding(runs):
    own, plain = runs
    for name in ("method", "metric", "target"):
        np.testing.assert_array_equal(own[name], plain[name])
    assert len(set(own["method"])) > 4
    np.testing.assert_allclose(plain["score"], own["score"], atol=1e-3, rtol=1e-3)
    known = np.isin(own["method"], list(CONTROLS))
    np.testing.assert_allclose(plain["score"][known], own["score"][known], atol=1e-5, rtol=1e-5)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    small_job(sys.argv[1])
