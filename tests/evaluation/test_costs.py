"""Costs are counted, not estimated."""

from __future__ import annotations

import copy
import time

import pytest
import torch
from torch import nn

from captum_softcam.evaluation import CONTROLS, LayerExplainFunc
from captum_softcam.evaluation.costs import CostMeter

TARGETS = torch.tensor([0, 3, 1])


@pytest.mark.parametrize(
    ("explain", "forwards", "backwards"),
    [
        (LayerExplainFunc("grad_cam", "relu"), 1, 1),
        (LayerExplainFunc("integrated_gradients", n_steps=5), 5, 5),
        (LayerExplainFunc("integrated_gradients"), 32, 32),
        # windows of 2 x 2 at strides of 1 over 10 x 14 pixels, and the untouched image
        (LayerExplainFunc("occlusion"), 9 * 13 + 1, 0),
        (LayerExplainFunc("recipro_cam", "relu"), 1, 0),
        *[(LayerExplainFunc(name), 0, 0) for name in CONTROLS],
    ],
    ids=lambda value: value.name if isinstance(value, LayerExplainFunc) else str(value),
)
def test_images_through_the_model_and_gradients_back(net, images, explain, forwards, backwards):
    with CostMeter(net) as meter:
        explain.explain(net, images, TARGETS)
    assert (meter.forwards, meter.backwards) == (3 * forwards, 3 * backwards)
    assert meter.peak_bytes is None


def test_runs_of_a_tail_are_no_forwards(net, images):
    ran = []
    net.fc.register_forward_hook(lambda *_: ran.append(1))
    with CostMeter(net) as meter:
        LayerExplainFunc("recipro_cam", "block").explain(net, images, TARGETS)
    assert meter.forwards == 3 * 3 + 1, "two ordinary forwards, and one of an example more"
    assert len(ran) > 2


def test_a_forward_that_somebody_patched_is_one(net, images):
    net.stem.forward = net.stem.forward
    with CostMeter(net) as meter:
        net(images)
    assert meter.forwards == 3


def test_a_copy_of_the_model_counts_too(net, images):
    with CostMeter(net) as meter:
        copy.deepcopy(net)(images).sum().backward()
    assert (meter.forwards, meter.backwards) == (3, 3)


def test_a_forward_without_a_gradient_is_no_backward(net, images):
    with CostMeter(net) as meter:
        net(images)
        with torch.no_grad():
            net(images)
    assert (meter.forwards, meter.backwards) == (6, 0)


def test_seconds_are_those_of_the_block(net):
    with CostMeter(net) as meter:
        time.sleep(0.02)
    assert 0.02 <= meter.seconds < 2


def _hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_nothing_stays_behind(net, images):
    meter = CostMeter(net, memory=True)

    def work() -> None:
        with meter:
            net(images)
            raise RuntimeError("out of patience")

    with pytest.raises(RuntimeError, match="out of patience"):
        work()
    assert _hooks(net) == 0
    assert torch._C._len_torch_dispatch_stack() == 0
    assert meter.forwards == 3
    assert meter.peak_bytes > 0
    net(images)
    assert meter.forwards == 3


def test_a_model_without_a_tensor_is_refused():
    class Pair(nn.Identity):
        def forward(self, x):
            return x, x

    model = Pair()
    with pytest.raises(ValueError, match=r"the model gives tuple with \[0\] \(1,\), \[1\] \(1,\)"), CostMeter(model):
        model(torch.zeros(1))
    assert _hooks(model) == 0


def test_peak_of_memory_of_a_known_computation(net):
    before = torch.zeros(1000)
    with CostMeter(net, memory=True) as meter:
        first = torch.empty(1000)  # 4,000 bytes
        second = first + 1  # 8,000
        view = second.view(10, 100)  # no more
        before.add_(1)  # was there
        net.fc.weight.t()
        del first  # 4,000
        third = second * 2  # 8,000
        del second  # kept by its view
        fourth = view.double()  # 16,000
        del third, fourth, view
        torch.empty(3000)  # 12,000
    assert meter.peak_bytes == 16_000


def test_peak_of_memory_sees_what_the_gradient_needs():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Sigmoid(), nn.Linear(4, 2, bias=False))
    inputs = torch.rand(8, 4)
    with CostMeter(model, memory=True) as meter, torch.no_grad():
        model(inputs)
    assert meter.peak_bytes == 2 * 8 * 4 * 4  # the first layer's output and the activation's, then less
    with CostMeter(model, memory=True) as meter:
        model(inputs)
    # the first layer's is no longer needed, the activation's is kept for the gradient, beside the logits
    assert meter.peak_bytes == 2 * 8 * 4 * 4
    deep = nn.Sequential(*[nn.Sigmoid() for _ in range(10)])
    weighed = inputs.clone().requires_grad_()
    with CostMeter(deep, memory=True) as meter:
        deep(weighed)
    assert meter.peak_bytes == 10 * 8 * 4 * 4
    with CostMeter(deep, memory=True) as meter, torch.no_grad():
        deep(weighed)
    assert meter.peak_bytes == 2 * 8 * 4 * 4


def test_a_storage_that_grows_is_weighed_anew(net):
    with CostMeter(net, memory=True) as meter:
        grown = torch.empty(10)
        grown.resize_(1000)
    assert meter.peak_bytes == 4000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_the_allocator_of_a_cuda_device_says_the_peak():
    model = nn.Linear(4, 3).cuda()
    with CostMeter(model, memory=True) as meter:
        first = torch.empty(1_000_000, device="cuda")
        second = first + 1
        del first
        second = second * 2
    assert meter.peak_bytes == pytest.approx(8_000_000, rel=0.001)  # the allocator rounds up to 512 bytes
