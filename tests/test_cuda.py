"""What the package does differently on a GPU: every place is listed with its test, which is skipped where there is no GPU.

The list is the table in ``docs/contributing.md``.
"""

from __future__ import annotations

import argparse
import ast
import copy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from comparisons import METRICS, make_model, make_samples, sorted_scores
from networks import PooledNet
from torch import nn

import captum_softcam
from captum_softcam import (
    LayerClassActivationMap,
    LayerReciproCam,
    LayerScoreCam,
    LayerSoftCam,
    convert_to_softcam,
)
from captum_softcam._random import random_numbers
from captum_softcam._scores import rounding
from captum_softcam.cli import options
from captum_softcam.evaluation import compare_methods
from captum_softcam.evaluation.arguments import _IMAGES, _per_forward
from captum_softcam.evaluation.engine import _Worker
from captum_softcam.evaluation.fast_forward import FastForward
from captum_softcam.metrics.functional._edges import wide

PACKAGE = Path(captum_softcam.__file__).parent
ROOT = Path(__file__).parents[1]
DEVICES = {"cuda", "mps", "xpu"}
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and there is none here")


# The list -------------------------------------------------------------------------------------------------------------


def _branches() -> set[str]:
    """Return the functions of the package that ask for a device or name one."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found.update(_in(ast.parse(path.read_text(encoding="utf-8")), module))
    return found


def _in(node: ast.AST, name: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if _depends_on_device(child):
            yield name
        own = isinstance(child, (ast.FunctionDef, ast.ClassDef))
        yield from _in(child, f"{name}.{child.name}" if own else name)


def _depends_on_device(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return node.value in DEVICES
    if not isinstance(node, ast.Attribute):
        return False
    # The type of a device, but not of an argument of the command; torch.cuda, tensor.is_cuda, torch.backends.cudnn.
    return node.attr in {"cuda", "is_cuda", "cudnn", "device_type"} or (
        node.attr == "type" and "device" in ast.unparse(node)
    )


def _listed() -> dict[str, tuple[str, str]]:
    """Return, by function, the test and where it runs, from the table of the page."""
    page = (ROOT / "docs/contributing.md").read_text(encoding="utf-8").partition("## Code for GPUs")[2].partition("\n## ")[0]
    rows = [[cell.strip().strip("`") for cell in line.split("|")[1:-1]] for line in page.splitlines() if "::" in line]
    return {where: (test, runs) for where, _, test, runs in rows}


def test_every_branch_is_listed():
    assert set(_listed()) == _branches()


@pytest.mark.parametrize("where", _listed())
def test_every_listed_test_exists_and_runs_where_the_list_says(where):
    test, runs = _listed()[where]
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert name in functions
    marks = " ".join(ast.unparse(mark) for mark in functions[name].decorator_list)
    assert runs == ("a GPU" if "on_a_gpu" in marks or "cuda.is_available" in marks else "anywhere")


# Without a GPU --------------------------------------------------------------------------------------------------------


def test_batches_of_a_gpu_are_not_cut():
    images = torch.empty(2, 3, 224, 224)
    assert _per_forward(images.to("meta")) == _IMAGES > _per_forward(images)


def test_maps_are_as_wide_as_their_device_can():
    assert wide(torch.empty(1, dtype=torch.float16, device="meta")).dtype == torch.float64
    device = SimpleNamespace(device=SimpleNamespace(type="mps"), to=lambda precision: precision)
    assert wide(device) == torch.float32


def test_convolutions_of_a_gpu_round_more(monkeypatch):
    single, double = (SimpleNamespace(device=torch.device("cuda"), dtype=kind) for kind in (torch.float32, torch.float64))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert rounding(single) == 1e-2 > rounding(double)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    assert rounding(single) < 1e-2 == rounding(single, batches=True)
    assert rounding(torch.ones(1), batches=True) < 1e-2


def test_other_devices_run_the_model_itself():
    assert "not for ['meta']" in FastForward(PooledNet().eval().to("meta")).why_plain


def test_a_gpu_is_used_unasked_but_not_beside_ray(monkeypatch):
    for present, engine, want in ((True, "local", "cuda"), (True, "ray", "cpu"), (False, "local", "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda present=present: present)
        assert options.device_of(argparse.Namespace(device=None, engine=engine)) == torch.device(want)


def test_a_worker_of_ray_moves_its_model(monkeypatch):
    asked: list[object] = []
    monkeypatch.setattr(nn.Module, "to", lambda model, device: asked.append(device) or model)
    scorer = _scorer()
    assert _Worker((scorer, []), on_gpu=False).scorer is scorer
    assert asked == []
    _Worker((scorer, []), on_gpu=True)
    assert asked == ["cuda"]


def test_memory_is_pinned_beside_a_gpu(monkeypatch):
    training = pytest.importorskip("captum_softcam.softcam.training", reason="Lightning is not installed")
    for present in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda present=present: present)
        loader = training._Data([1], [1], 1, 0, 0)._loader([1], training._Order(1, 0, 0, (0, 1)), False)
        assert loader.pin_memory is present


def _scorer():
    from captum_softcam.evaluation.batch import BatchScorer

    return BatchScorer(PooledNet().eval(), {}, (), (16, 24), lambda x: x, "true", 0, frozenset(), False)


# On a GPU -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def exactly():
    """Turn off TF32, whose three digits would hide an error."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


METHODS = {
    "cam": lambda net: LayerClassActivationMap(net, net.relu),
    "recipro_cam": lambda net: LayerReciproCam(net, net.relu),
    "recipro_cam, a tail per position": lambda net: LayerReciproCam(net, net.stem),
    "score_cam": lambda net: LayerScoreCam(net, net.relu),
    "soft_cam": lambda net: LayerSoftCam(soft := convert_to_softcam(net), soft.evidence),
}


@on_a_gpu
@pytest.mark.usefixtures("exactly")
@pytest.mark.parametrize("name", METHODS)
def test_maps_of_a_gpu_are_those_of_a_cpu(name, net, images):
    net, images = net.float(), images.float()
    here = METHODS[name](net).attribute(images, target=1)
    there = METHODS[name](copy.deepcopy(net).cuda()).attribute(images.cuda(), target=1)
    assert there.is_cuda
    assert torch.allclose(there.cpu(), here, rtol=0, atol=1e-4 * float(here.abs().max()))


@on_a_gpu
def test_recipro_cam_of_a_gpu_follows_autocast(net, images):
    net, images = net.float(), images.float()
    here = LayerReciproCam(net, net.relu).attribute(images, target=1)
    net, images = copy.deepcopy(net).cuda(), images.cuda()
    with torch.autocast("cuda", torch.bfloat16):
        assert torch.is_autocast_enabled("cuda")
        there = LayerReciproCam(net, net.relu).attribute(images, target=1)
    assert torch.allclose(there.float().cpu(), here, rtol=0, atol=0.05 * float(here.abs().max()))


@on_a_gpu
@pytest.mark.usefixtures("exactly")
def test_scores_of_a_gpu_are_those_of_a_cpu():
    methods = ["soft_cam", "grad_cam", "occlusion", "random"]
    found = {}
    for device in ("cpu", "cuda"):
        model = make_model().to(device)
        found[device] = compare_methods(model, make_samples(4), methods, METRICS, examples=2)
        assert next(model.parameters()).device.type == device
    here, there = found.values()
    assert there.failures.empty
    assert sorted_scores(there).to_numpy() == pytest.approx(sorted_scores(here).to_numpy(), abs=1e-3, nan_ok=True)
    assert there.costs["peak_bytes"].notna().all()


@on_a_gpu
def test_random_numbers_of_a_gpu_are_seeded_and_restored():
    device = torch.device("cuda")
    before = torch.cuda.get_rng_state(device)
    drawn = []
    for seed in (3, 3, 4):
        with random_numbers(seed, device):
            drawn.append(torch.rand(4, device=device))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.cuda.get_rng_state(device), before)


@on_a_gpu
def test_a_worker_of_ray_scores_on_its_gpu():
    from captum_softcam.evaluation.result import BatchResult

    worker = _Worker((_scorer(), make_samples(2)), on_gpu=True)
    assert next(worker.scorer.model.parameters()).is_cuda
    assert isinstance(worker.score([0, 1]), BatchResult)


@on_a_gpu
@pytest.mark.filterwarnings("ignore")  # of Lightning, about the machine
def test_a_training_on_a_gpu_writes_its_checkpoint(tmp_path):
    pytest.importorskip("lightning", reason="Lightning is not installed")
    from captum_softcam.softcam import SoftCamTask, train_classifier

    data = [(sample.image, sample.target) for sample in make_samples(8)]
    settings = {"epochs": 1, "batch_size": 4, "accelerator": "gpu", "show_progress": False}
    result = train_classifier(SoftCamTask(make_model()), data, data, tmp_path, **settings)
    assert Path(result.checkpoint).exists()
