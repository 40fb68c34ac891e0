"""Samples with their maps, and their format in files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray
from torch import Tensor

from captum_softcam._names import listed, named, quoted
from captum_softcam._tables import Row, html_table
from captum_softcam.data import Sample
from captum_softcam.evaluation.thumbnails import thumbnail

__all__ = ["Example", "pack_examples", "unpack_examples"]

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Example:
    """A sample with its maps, for figures.

    Args:
        sample (Sample): image, class and mask.
        target (int): the explained class.
        maps (dict): maps (1, h, w) of the explained class by method, at the resolution of the image or of a layer.
        probabilities (Tensor): scores of all classes, (K,): probabilities with the softmax, which sum to 1, and with the
            sigmoid, which need not; else values of any size. Default: None
        runner_up (int): the class with the highest score besides ``target``. Default: None
        runner_up_maps (dict): maps (1, h, w) of the runner-up by method. Default: none
        scores (str): what made the scores of the outputs: ``"softmax"``, ``"sigmoid"``, ``"identity"``, or a function in
            words. Default: ``"softmax"``
    """

    sample: Sample
    target: int
    maps: dict[str, Tensor]
    probabilities: Tensor | None = None
    runner_up: int | None = None
    runner_up_maps: dict[str, Tensor] = field(default_factory=dict)
    scores: str = "softmax"

    def __repr__(self) -> str:
        classes = f"target={self.target}" + (f", runner_up={self.runner_up}" if self.runner_up is not None else "")
        return f"Example({quoted(self.sample.identifier)}, {classes}; maps: {listed(self.maps) or 'none'})"

    def _repr_html_(self) -> str:
        rows = [self._row("explained", self.target, self.maps)]
        if self.runner_up is not None and self.runner_up_maps:
            rows.append(self._row("runner-up", self.runner_up, self.runner_up_maps))
        head = [named(self.sample.identifier), "image", *map(named, self.maps)]
        notes = [
            "Orange is for the class, purple against it; each map has its own scale, given by its lowest and highest value."
        ]
        return html_table(head, rows, notes=notes)

    def _row(self, role: str, number: int, maps: Mapping[str, Tensor]) -> Row:
        """Return a class with its score, the image, and its map by every method of ``maps``."""
        scores = [] if self.probabilities is None else self.probabilities.tolist()
        score = f"{scores[number]:.3g}" if 0 <= number < len(scores) else ""
        label = Markup("class {} <small>{}</small><small>{}</small>").format(number, role, score)
        image = _as_tensor(self.sample.image)
        return "", [label, _shape(image), *(_drawn(image, maps.get(name)) for name in self.maps)]


def _as_tensor(values: Any) -> Tensor:
    """Return values as a tensor, also of an array, which panels and sheets draw, too."""
    return values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))


def _shape(image: Tensor) -> Markup:
    """Return a picture of the image, or only its size if it is a signal or a volume."""
    size = Markup("<small>{}</small>").format(" x ".join(map(str, image.shape)))
    return thumbnail(image) + size if image.ndim == 3 else size


def _drawn(image: Tensor, attribution: Tensor | None) -> Markup:
    if attribution is None:
        return Markup("failed")
    values = _as_tensor(attribution).double()
    values = values.reshape(-1, *values.shape[1 - image.ndim :]).sum(0)  # channels, of which a map has one, are summed
    finite = values[values.isfinite()]
    ends = f"{float(finite.min()):.3g} to {float(finite.max()):.3g}" if len(finite) else "not finite"
    size = " x ".join(map(str, values.shape))
    text = Markup("<small>{}</small><small>{}</small>").format(ends, size)
    return thumbnail(image, values) + text if image.ndim == 3 else text


def pack_examples(examples: Sequence[Example]) -> Arrays:
    """Return examples as arrays for a file: images in 256 steps, maps as float16 relative to their largest magnitude."""
    arrays: Arrays = {"examples": _from_text(json.dumps([_names(example) for example in examples]))}
    for i, example in enumerate(examples):
        arrays |= {f"{i}/{key}": array for key, array in _arrays(example).items()}
    return arrays


def unpack_examples(arrays: Mapping[str, NDArray[Any]]) -> list[Example]:
    """Return the examples packed by :func:`pack_examples`."""
    names = json.loads(arrays["examples"].tobytes())
    return [_example(entry, _below(f"{i}/", arrays)) for i, entry in enumerate(names)]


def _below(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    return {key.removeprefix(prefix): arrays[key] for key in arrays if key.startswith(prefix)}


def _names(example: Example) -> dict[str, Any]:
    return {
        "identifier": example.sample.identifier,
        "label": int(example.sample.target),
        "group": example.sample.group,
        "labels": None if example.sample.labels is None else list(map(int, example.sample.labels)),
        "undecided": list(map(int, example.sample.undecided)),
        "target": int(example.target),
        # Files keep these two names, so that earlier folders can be read.
        "rival": None if example.runner_up is None else int(example.runner_up),
        "maps": list(example.maps),
        "rival_maps": list(example.runner_up_maps),
        "scores": example.scores,
    }


def _arrays(example: Example) -> Arrays:
    arrays: Arrays = {}
    # As bytes, a page for the browser and a folder of many examples stay small; eyes see no difference.
    arrays["image"], arrays["image/range"] = _bytes(example.sample.image.detach().float().cpu())
    if example.sample.mask is not None:
        arrays["mask"] = example.sample.mask.cpu().numpy().astype(bool)
    if example.probabilities is not None:
        # NumPy has no bfloat16.
        arrays["probabilities"] = example.probabilities.detach().float().cpu().numpy()
    for kind, maps in (("maps", example.maps), ("rival_maps", example.runner_up_maps)):
        for i, attribution in enumerate(maps.values()):
            arrays[f"{kind}/{i}"], arrays[f"{kind}/{i}/peak"] = _halved(attribution)
    return arrays


def _bytes(image: Tensor) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return an image in steps of 1/255 of its range, and the range: [0, 1], or wider if the image exceeds it."""
    finite = image[image.isfinite()].double().numpy()
    low, high = finite.min(initial=0), finite.max(initial=1)
    # Bytes have no NaN or infinity, which become the ends of the range.
    steps = (image.double().nan_to_num(low, high, low) - low) / (high - low) * 255
    return steps.round().byte().numpy(), np.array([low, high])


def _halved(attribution: Tensor) -> tuple[NDArray[np.float16], NDArray[np.float64]]:
    """Return a map divided by its largest magnitude, and that magnitude."""
    # float16 has a smallest value of 6e-8: undivided gradients of 1e-9 would all be 0.
    values = attribution.detach().cpu().double().numpy()
    peak = np.abs(values[np.isfinite(values)]).max(initial=0) or 1.0
    return (values / peak).astype(np.float16), np.array(peak)


def _example(entry: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Example:
    tensors = {key: torch.from_numpy(array) for key, array in arrays.items()}
    low, high = arrays.get("image/range", np.array([0.0, 1.0])).tolist()
    image = (tensors["image"].double() / 255 * (high - low) + low).float()
    # Earlier files have samples of one class alone.
    labels, undecided = entry.get("labels"), entry.get("undecided", ())
    return Example(
        sample=Sample(
            image,
            entry["label"],
            tensors.get("mask"),
            entry["identifier"],
            entry.get("group"),
            None if labels is None else tuple(labels),
            tuple(undecided),
        ),
        target=entry["target"],
        maps={name: _map(tensors, f"maps/{i}") for i, name in enumerate(entry["maps"])},
        probabilities=tensors.get("probabilities"),
        runner_up=entry["rival"],
        runner_up_maps={name: _map(tensors, f"rival_maps/{i}") for i, name in enumerate(entry["rival_maps"])},
        scores=entry.get("scores", "softmax"),
    )


def _map(tensors: Mapping[str, Tensor], key: str) -> Tensor:
    return (tensors[key].double() * tensors[f"{key}/peak"]).float()


def _from_text(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode("ascii"), dtype=np.uint8)  # JSON escapes all else
