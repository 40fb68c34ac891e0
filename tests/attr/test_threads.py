"""Explanations do not change what other threads compute, whether those explain or predict, with one model or several."""

from __future__ import annotations

import copy
import functools
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from captum.testing.helpers.basic_models import BasicModel_ConvNet
from torch import Tensor, nn

from captum_softcam import (
    LayerClassActivationMap,
    LayerReciproCam,
    LayerScoreCam,
    LayerSoftCam,
    convert_to_softcam,
    suggest_layers,
)
from captum_softcam.evaluation import LayerExplainFunc

CALLS = 100

Explain = Callable[[nn.Module, Tensor], object]

METHODS: dict[str, Explain] = {
    "recipro_cam, from one forward": lambda net, x: LayerReciproCam(net, net.backbone).attribute(x, target=1),
    "recipro_cam, tail": lambda net, x: LayerReciproCam(net, net.backbone.stem).attribute(
        x, target=1, perturbations_per_eval=9
    ),
    "recipro_cam, of a function": lambda net, x: LayerReciproCam(lambda z: net(z).softmax(1), net.backbone.stem).attribute(
        x, target=1
    ),
    "class_activation_map": lambda net, x: LayerClassActivationMap(net, net.backbone).attribute(x, target=1),
    "score_cam": lambda net, x: LayerScoreCam(net, net.backbone).attribute(x, target=1),
    "soft_cam": lambda net, x: LayerSoftCam(net, net.evidence).attribute(x, target=1),
    "suggest_layers": lambda net, x: suggest_layers(net, x),
    **{
        name: functools.partial(
            lambda name, net, x: LayerExplainFunc(name, layer="backbone").explain(net, x, torch.tensor([1])), name
        )
        for name in ("grad_cam", "occlusion", "integrated_gradients")
    },
}


@pytest.fixture(autouse=True)
def often_in_turn() -> Iterator[None]:
    """Let the threads take turns as often as Python allows."""
    interval, threads = sys.getswitchinterval(), torch.get_num_threads()
    sys.setswitchinterval(1e-5)
    torch.set_num_threads(1)
    yield
    sys.setswitchinterval(interval)
    torch.set_num_threads(threads)


@pytest.fixture
def model(net: nn.Module) -> nn.Module:
    return convert_to_softcam(net).eval()


def _together(*jobs: Callable[[], None]) -> None:
    """Run the jobs in threads of their own; the first error of one is raised here."""
    errors: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _same(one: object, other: object) -> bool:
    return torch.allclose(one, other, atol=1e-12, rtol=0) if isinstance(one, Tensor) else one == other


@pytest.mark.parametrize("several", [False, True], ids=["one model", "two models"])
@pytest.mark.parametrize("method", METHODS)
def test_two_explain_while_one_predicts(model, images, method, several):
    explain, models = METHODS[method], [model, copy.deepcopy(model) if several else model]
    examples = [image[None] for image in images]
    want = [[explain(net, x) for x in examples] for net in models]
    with torch.no_grad():
        right = model(images)
    state = [(vars(module).keys(), dict(module._forward_hooks)) for module in model.modules()]
    done = threading.Event()
    wrong: list[str] = []

    def explain_often(which: int) -> None:
        for call in range(CALLS // (10 if several else 2)):
            if not _same(explain(models[which], examples[call % 3]), want[which][call % 3]):
                wrong.append(f"map {call} of thread {which}")

    def predict() -> None:
        while not done.is_set():
            with torch.no_grad():
                scores = model(images)
            if scores.shape != right.shape or not torch.equal(scores, right):
                wrong.append("prediction")

    def explain_all() -> None:
        try:
            _together(lambda: explain_often(0), lambda: explain_often(1))
        finally:
            done.set()

    _together(explain_all, predict)
    assert not wrong
    assert state == [(vars(module).keys(), dict(module._forward_hooks)) for module in model.modules()]


def test_methods_side_by_side():
    """A method in each thread, all on one model, with captum's own among them."""
    torch.manual_seed(0)
    net, x = BasicModel_ConvNet().eval(), torch.rand(2, 1, 10, 10)
    jobs: list[Callable[[], Tensor]] = [
        lambda: LayerReciproCam(net, net.conv1).attribute(x, target=1),
        lambda: LayerReciproCam(net, net.conv2).attribute(x, target=1),
        lambda: LayerScoreCam(net, net.conv2).attribute(x, target=1),
        lambda: LayerExplainFunc("grad_cam", layer="conv2").explain(net, x, torch.tensor([1, 0])),
    ]
    want = [job() for job in jobs]
    wrong: list[int] = []

    def often(place: int) -> None:
        for _ in range(CALLS // len(jobs)):
            if not _same(jobs[place](), want[place]):
                wrong.append(place)

    _together(*(functools.partial(often, place) for place in range(len(jobs))))
    assert not wrong
