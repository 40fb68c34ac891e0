"""Measure the cost of attribution methods as ratios to a plain forward of the same images in the same run.

Every candidate of a table runs once per round, in random order, so that other work of the machine slows all of them alike;
the medians are compared. Nothing is asserted. Peers take part if they are installed (``pip install torchcam grad-cam``).

    python benchmarks/attribution.py --out attribution.md
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.util
import os
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from captum.attr import LayerGradCam
from shared import publish, table, timing_options
from torch import Tensor, nn

from captum_softcam import (
    LayerClassActivationMap,
    LayerReciproCam,
    LayerScoreCam,
    LayerSoftCam,
    convert_to_softcam,
)

Candidates = dict[str, Callable[[], object]]
TARGET = 3


def measure(candidates: Candidates, rounds: int, device: str) -> dict[str, list[float]]:
    """Time each candidate in each round, after one run to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for run in candidates.values():
        run()
    for _ in range(rounds):
        for name in random.sample(list(candidates), len(candidates)):
            _synchronise(device)
            start = time.perf_counter()
            candidates[name]()
            _synchronise(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def ratios(title: str, seconds: dict[str, list[float]], base: str) -> str:
    """Write a table of medians and of their ratios to the median of ``base``."""
    unit, rows = statistics.median(seconds[base]), []
    for name, values in seconds.items():
        low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
        median = statistics.median(values)
        rows.append([name, f"{median:.4f}", f"{median / unit:.3f}", f"{low / unit:.2f} to {high / unit:.2f}"])
    head = ["candidate", "median, s", f"ratio to {base}", "middle half of the ratios"]
    return f"\n## {title}\n\n{table(head, rows)}"


def forward(model: nn.Module, images: Tensor) -> Callable[[], object]:
    """Return a plain forward without gradients, as a candidate."""
    return lambda: _forward(model, images)


@torch.no_grad()
def _forward(model: nn.Module, images: Tensor) -> object:
    return model(images)


def resnet50(device: str) -> nn.Module:
    """Return the model with random weights, on which the cost does not depend."""
    return torchvision.models.resnet50(weights=None).eval().to(device)


def last_layer(batch: int, options: argparse.Namespace) -> str:
    """Measure all methods at the end of ResNet-50."""
    model, images = resnet50(options.device), torch.rand(batch, 3, 224, 224, device=options.device)
    soft = convert_to_softcam(model)
    recipro, cam = LayerReciproCam(model, model.layer4), LayerClassActivationMap(model, model.layer4)
    soft_cam, grad_cam = LayerSoftCam(soft, soft.evidence), LayerGradCam(model, model.layer4)
    candidates: Candidates = {
        "forward": forward(model, images),
        "forward, once more": forward(model, images),
        "LayerReciproCam, one class": lambda: recipro.attribute(images, target=TARGET),
        "LayerReciproCam, 1,000 classes": lambda: recipro.attribute_all(images),
        "LayerClassActivationMap, one class": lambda: cam.attribute(images, target=TARGET),
        "forward of the SoftCAM model": forward(soft, images),
        "LayerSoftCam, one class": lambda: soft_cam.attribute(images, target=TARGET),
        "Captum's LayerGradCam, one class": lambda: grad_cam.attribute(images, target=TARGET),
        **_peers_at_the_end(model, images),
    }
    name = f"ResNet-50, layer4 (7 x 7 positions), 224 x 224, batch of {batch}"
    return ratios(name, measure(candidates, options.rounds, options.device), "forward")


def _peers_at_the_end(model: nn.Module, images: Tensor) -> Candidates:
    """Return the peers that are installed, each with a model of its own, because they leave hooks on it."""
    found: Candidates = {}
    if _installed("torchcam"):
        from torchcam.methods import CAM

        peer = copy.deepcopy(model)
        extractor = CAM(peer, peer.layer4, fc_layer=peer.fc)

        def torchcam() -> object:
            with torch.no_grad():
                return extractor([TARGET] * len(images), peer(images))

        found["torchcam's CAM, one class"] = torchcam
    if _installed("pytorch_grad_cam"):
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        other = copy.deepcopy(model)
        grad_cam = GradCAM(other, [other.layer4])
        targets = [ClassifierOutputTarget(TARGET)] * len(images)
        found["grad-cam's GradCAM, one class (backward through all parameters)"] = lambda: grad_cam(images, targets)
    return found


def earlier_layer(options: argparse.Namespace) -> str:
    """Measure Recipro-CAM where the tail is convolutional, against the forwards that it cannot do without."""
    model, image = resnet50(options.device), torch.rand(1, 3, 224, 224, device=options.device)
    recipro = LayerReciproCam(model, model.layer3)
    tail = nn.Sequential(model.layer4, model.avgpool, nn.Flatten(), model.fc)
    prefix = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool, model.layer1, model.layer2, model.layer3)
    chunk = 2**25 // (1024 * 14 * 14 * 4)

    copies = torch.rand(chunk, 1024, 14, 14, device=options.device)

    @torch.no_grad()
    def dense() -> None:
        prefix(image)
        for start in range(0, 196, chunk):
            tail(copies[: 196 - start])

    candidates: Candidates = {
        f"prefix and 196 tails, {chunk} at a time": dense,
        "LayerReciproCam, one class": lambda: recipro.attribute(image, target=TARGET),
        "LayerReciproCam, 1,000 classes": lambda: recipro.attribute_all(image),
        "forward": forward(model, image),
    }
    seconds = measure(candidates, max(3, options.rounds // 3), options.device)
    return ratios("ResNet-50, layer3 (14 x 14 positions), one image", seconds, next(iter(candidates)))


def score_cam(options: argparse.Namespace) -> str:
    """Measure Score-CAM against the forwards of its masked inputs alone."""
    model = torchvision.models.resnet18(weights=None).eval().to(options.device)
    image, size = torch.rand(1, 3, 224, 224, device=options.device), 32
    with torch.no_grad():
        features = nn.Sequential(*list(model.children())[:-2])(image)[0].flatten(1)
    alive = int((features.amax(1) > features.amin(1)).sum())
    masked = torch.rand(size, 3, 224, 224, device=options.device)

    @torch.no_grad()
    def model_alone() -> None:
        for start in range(0, alive, size):
            model(masked[: min(size, alive - start)])

    ours = LayerScoreCam(model, model.layer4)
    candidates: Candidates = {
        f"{alive} masked forwards, {size} at a time": model_alone,
        "LayerScoreCam": lambda: ours.attribute(image, target=TARGET, perturbations_per_eval=size),
        **_score_cam_peers(model, image, size),
    }
    seconds = measure(candidates, max(3, options.rounds // 3), options.device)
    return ratios("Score-CAM, ResNet-18, layer4 (512 channels), one image", seconds, next(iter(candidates)))


def _score_cam_peers(model: nn.Module, image: Tensor, size: int) -> Candidates:
    found: Candidates = {}
    if _installed("torchcam"):
        from torchcam.methods import ScoreCAM

        peer = copy.deepcopy(model)
        extractor = ScoreCAM(peer, peer.layer4, batch_size=size)

        def torchcam() -> object:
            with torch.no_grad():
                return extractor(TARGET, peer(image))

        found["torchcam's ScoreCAM"] = torchcam
    if _installed("pytorch_grad_cam"):
        from pytorch_grad_cam import ScoreCAM as GradCamsScoreCam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        other = copy.deepcopy(model)
        score = GradCamsScoreCam(other, [other.layer4])
        score.batch_size = size

        def grad_cam() -> object:
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # its progress bar
                return score(image, [ClassifierOutputTarget(TARGET)])

        found["grad-cam's ScoreCAM"] = grad_cam
    return found


def transformer(options: argparse.Namespace) -> str:
    """Measure Recipro-CAM in the last blocks of ViT-B/16."""
    model = torchvision.models.vit_b_16(weights=None).eval().to(options.device)
    image = torch.rand(1, 3, 224, 224, device=options.device)
    last, second = (LayerReciproCam(model, model.encoder.layers[i].ln_1) for i in (-1, -2))
    candidates: Candidates = {
        "forward": forward(model, image),
        "LayerReciproCam, last block": lambda: last.attribute(image, target=TARGET),
        "LayerReciproCam, last block, 1,000 classes": lambda: last.attribute_all(image),
    }
    text = ratios("ViT-B/16 (14 x 14 tokens), one image", measure(candidates, options.rounds, options.device), "forward")
    slow: Candidates = {
        "forward": forward(model, image),
        "LayerReciproCam, last block but one": lambda: second.attribute(image, target=TARGET),
    }
    seconds = measure(slow, 2, options.device)
    return text + "\n" + ratios("The same, one block earlier: 196 tails of two blocks", seconds, "forward")


# Each entry runs in a fresh process: the peak of a process never falls. Architecture, layer, images, perturbations_per_eval.
MEMORY = {
    "ResNet-50, forward": ("resnet50", None, 1, None),
    "ResNet-50, layer4": ("resnet50", "layer4", 1, None),
    "ResNet-50, layer3, 8 at a time": ("resnet50", "layer3", 1, 8),
    "ResNet-50, layer3, 64 at a time": ("resnet50", "layer3", 1, 64),
    "ResNet-50, layer3, default": ("resnet50", "layer3", 1, None),
    "Swin-T, forward": ("swin_t", None, 1, None),
    "Swin-T, features.1 (3,136 positions), default": ("swin_t", "features.1", 1, None),
}


def memory(options: argparse.Namespace) -> str:
    """Measure the peak resident memory of a fresh process, with and without an explanation."""
    rows = []
    for name in MEMORY:
        command = [sys.executable, __file__, "--peak", name, "--threads", str(options.threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append([name, f"{int(done.stdout):,}"])
    return "\n## Peak memory of a process (CPU)\n\n" + table(["process", "peak, MiB"], rows)


def print_peak(name: str) -> None:
    """Run one entry of ``MEMORY`` and print the peak of this process in MiB, as Linux reports it."""
    architecture, layer, count, chunk = MEMORY[name]
    model = torchvision.models.get_model(architecture, weights=None).eval()
    images = torch.rand(count, 3, 224, 224)
    _forward(model, images)
    if layer is not None:
        explain = LayerReciproCam(model, model.get_submodule(layer))
        explain.attribute(images, target=TARGET, perturbations_per_eval=chunk)
    # Not getrusage: after a fork its peak is that of the parent.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) // 1024)


def throughput(options: argparse.Namespace) -> str:
    """Measure images per second at batch 64 on an accelerator."""
    model, images = resnet50(options.device), torch.rand(64, 3, 224, 224, device=options.device)
    recipro, grad_cam = LayerReciproCam(model, model.layer4), LayerGradCam(model, model.layer4)
    candidates: Candidates = {
        "forward": forward(model, images),
        "LayerReciproCam, one class": lambda: recipro.attribute(images, target=TARGET),
        "LayerReciproCam, 1,000 classes": lambda: recipro.attribute_all(images),
        "Captum's LayerGradCam, one class": lambda: grad_cam.attribute(images, target=TARGET),
    }
    seconds = measure(candidates, options.rounds, options.device)
    rates = ", ".join(f"{name} {64 / statistics.median(values):.0f}" for name, values in seconds.items())
    return ratios("ResNet-50, layer4, batch of 64", seconds, "forward") + f"\n\nImages per second: {rates}."


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _processor(device: str) -> str:
    if device != "cpu":
        return torch.cuda.get_device_name()
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU")


def main() -> None:
    """Measure the tables on the command line and print them."""
    tables: dict[str, Callable[[argparse.Namespace], str]] = {
        "last": lambda options: "\n".join(last_layer(batch, options) for batch in options.batch),
        "layer3": earlier_layer,
        "score": score_cam,
        "vit": transformer,
        "memory": memory,
    }
    parser = timing_options(__doc__, rounds=15)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--only", nargs="+", choices=tables, default=list(tables))
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    random.seed(0)
    warnings.simplefilter("ignore")
    if options.peak:
        print_peak(options.peak)
        return
    head = f"{_processor(options.device)}, {options.threads} threads, torch {torch.__version__}, {options.rounds} rounds."
    parts = [head, *(tables[name](options) for name in options.only)]
    if options.device != "cpu":
        parts.append(throughput(options))
    publish(parts, options.out)


if __name__ == "__main__":
    main()
