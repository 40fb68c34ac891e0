"""Models in which not every tensor has one row per example: maps equal brute force, in any batch."""

from __future__ import annotations

from dataclasses import dataclass

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from captum_softcam import LayerClassActivationMap, LayerReciproCam, LayerScoreCam
from captum_softcam.attr import FeatureLayout

SIZE = (3, 8, 8)


class Image(nn.Module):
    """The part that is explained: a maximum, which has no short way, of a map (N, 6, 4, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 6, 3, stride=2, padding=1)

    def seen(self, x: Tensor) -> Tensor:
        return self.layer(x).relu().amax((2, 3))


class ZeroShot(Image):
    """One text feature per class, then the image; the text before or behind it."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.text = nn.Sequential(nn.EmbeddingBag(30, 8), nn.Linear(8, 6))
        self.register_buffer("prompts", torch.arange(4 * classes).view(classes, 4))

    def forward(self, x: Tensor) -> Tensor:
        words = F.normalize(self.text(self.prompts), dim=-1)
        return F.normalize(self.seen(x), dim=-1) @ words.T


class Question(Image):
    """An answer from the image and a question (N, L)."""

    def __init__(self, reader: nn.Module, width: int) -> None:
        super().__init__()
        self.words, self.reader, self.fc = nn.Embedding(20, 8), reader, nn.Linear(6 + width, 4)

    def forward(self, x: Tensor, question: Tensor) -> Tensor:
        return self.fc(torch.cat((self.seen(x), self.read(self.words(question))), 1))

    def read(self, words: Tensor) -> Tensor:
        raise NotImplementedError


class State(Question):
    """The state (1, N, H) of an LSTM or GRU."""

    def read(self, words: Tensor) -> Tensor:
        state = self.reader(words)[1]
        return (state[1] if isinstance(state, tuple) else state)[-1]


class SequenceFirst(Question):
    """An encoder that has the examples second, as is torch's default."""

    def read(self, words: Tensor) -> Tensor:
        return self.reader(words.transpose(0, 1)).mean(0)


class Attended(Question):
    def read(self, words: Tensor) -> Tensor:
        words = words.transpose(0, 1)
        return self.reader(words, words, words)[0].mean(0)


class Packed(Question):
    """Questions of different lengths, packed by a module."""

    class Pack(nn.Module):
        def forward(self, words: Tensor) -> object:
            lengths = (words.sum(2) > 0).sum(1).clamp(min=1).cpu()
            return pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)

    def __init__(self) -> None:
        super().__init__(nn.GRU(8, 6, batch_first=True), 6)
        self.pack = self.Pack()

    def read(self, words: Tensor) -> Tensor:
        return self.reader(self.pack(words))[1][-1]


@dataclass
class Images:
    """An object that holds a batch, as detectors have it."""

    tensors: Tensor
    sizes: list[tuple[int, int]]


class Detector(Image):
    """Takes images out of a list, and gives each its best score of every class."""

    class Listed(nn.Module):
        def forward(self, x: Tensor) -> Images:
            return Images(torch.stack(list(x)), [tuple(image.shape[1:]) for image in x])

    def __init__(self) -> None:
        super().__init__()
        self.listed, self.box = self.Listed(), nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        images = self.listed(x)
        scores = self.box(self.layer(images.tensors).relu())
        return torch.stack([scores[i, :, : h // 2, : w // 2].amax((1, 2)) for i, (h, w) in enumerate(images.sizes)])


class Looped(Image):
    """Runs a module of its own for every example before the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.fc = nn.InstanceNorm2d(3), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.seen(torch.stack([self.scale(image[None])[0] for image in x])))


class Counted(Image):
    """A module that gives the number of examples along with them."""

    class Count(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, int]:
            return x * 2, len(x)

    def __init__(self) -> None:
        super().__init__()
        self.count, self.fc = self.Count(), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x, count = self.count(x)
        return self.fc(self.seen(x)).view(count, -1)


def _question(kind: str) -> Question:
    makers = {
        "LSTM": lambda: State(nn.LSTM(8, 6, batch_first=True), 6),
        "GRU": lambda: State(nn.GRU(8, 6, num_layers=2, batch_first=True), 6),
        "encoder": lambda: SequenceFirst(nn.TransformerEncoderLayer(8, 2, 16), 8),
        "attention": lambda: Attended(nn.MultiheadAttention(8, 2), 8),
        "packed": Packed,
    }
    return makers[kind]()


MODELS = {
    "zero-shot, 2 classes": lambda: ZeroShot(2),
    "zero-shot, 3 classes": lambda: ZeroShot(3),
    **{kind: (lambda kind=kind: _question(kind)) for kind in ("LSTM", "GRU", "encoder", "attention", "packed")},
    "detector": Detector,
    "loop": Looped,
    "count": Counted,
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[request.param]().double().eval()


def _inputs(model: nn.Module, count: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(count)
    images = torch.rand(count, *SIZE, dtype=torch.float64, generator=generator)
    return (images, torch.randint(0, 20, (count, 5), generator=generator)) if isinstance(model, Question) else (images,)


@pytest.mark.parametrize("count", [1, 2, 3])
@torch.no_grad()
def test_maps_equal_brute_force_in_any_batch(model, count):
    inputs = _inputs(model, count)
    want = [oracles.kept_alone(model, model.layer, tuple(x[i : i + 1] for x in inputs), 1) for i in range(count)]
    for chunk in (None, 1, 2, 16):
        maps = LayerReciproCam(model, model.layer).attribute(inputs, target=1, perturbations_per_eval=chunk)
        torch.testing.assert_close(maps[:, 0], torch.stack(want), atol=1e-9, rtol=0)


@torch.no_grad()
def test_score_cam_is_the_same_in_any_batch(model):
    inputs = _inputs(model, 3)
    together = LayerScoreCam(model, model.layer).attribute(inputs, target=1)
    for i in range(3):
        alone = LayerScoreCam(model, model.layer).attribute(tuple(x[i : i + 1] for x in inputs), target=1)
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-9, rtol=0)


def test_arguments_in_containers_belong_to_their_examples():
    torch.manual_seed(0)
    net, images = ZeroShot().double().eval(), torch.rand(3, *SIZE, dtype=torch.float64)
    gains = torch.rand(3, 1, dtype=torch.float64)

    def forward(x: Tensor, settings: dict[str, list[Tensor]]) -> Tensor:
        return net(x) * settings["gains"][0]

    maps = LayerReciproCam(forward, net.layer).attribute(images, target=0, additional_forward_args=({"gains": [gains]},))
    with torch.no_grad():
        want = [
            oracles.kept_alone(net, net.layer, (image[None],), 0) * gain for image, gain in zip(images, gains, strict=True)
        ]
    torch.testing.assert_close(maps[:, 0], torch.stack(want), atol=1e-9, rtol=0)


def _pooled(classes: int) -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, classes))
    return nn.Sequential(*layers).double().eval()


@pytest.mark.parametrize("method", [LayerReciproCam, LayerScoreCam])
@pytest.mark.parametrize(("classes", "count"), [(7, 1), (16, 1), (17, 1), (3, 2)])
def test_scores_that_lost_their_batch_are_refused(method, classes, count):
    net = _pooled(classes)
    with pytest.raises(ValueError, match=rf"scores \({classes},\) for {count} example.*expected one row per example"):
        method(lambda x: net(x).softmax(1)[0], net[0]).attribute(torch.rand(count, *SIZE, dtype=torch.float64))


@pytest.mark.parametrize("classes", range(1, 20))
def test_a_number_of_classes_is_not_mistaken_for_copies_behind_a_pooling(classes):
    """Where the tail pools, the rows are copies: 16 positions, the zero vector and the example."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes)).eval()
    for method in (LayerReciproCam, LayerClassActivationMap):
        with pytest.raises(ValueError, match=r"expected one row per|more than pool|stands __getitem__|need scores \(N, K"):
            method(lambda x: net(x)[0], net[0]).attribute_all(torch.rand(1, *SIZE))


@pytest.mark.parametrize("single", [lambda y: y.sum(), lambda y: y.squeeze()])
def test_a_single_number_is_the_score_of_a_single_example(single):
    net, image = _pooled(1), torch.rand(1, *SIZE, dtype=torch.float64)
    maps = LayerReciproCam(lambda x: single(net(x)), net[0]).attribute(image)
    with torch.no_grad():
        torch.testing.assert_close(maps[0, 0], oracles.kept_alone(net, net[0], (image,), 0), atol=1e-9, rtol=0)


def test_scores_that_depend_on_the_batch_or_on_chance_are_refused():
    net, images = _pooled(4), torch.rand(3, *SIZE, dtype=torch.float64)
    for forward in (lambda x: net(x) - net(x).mean(0), lambda x: net(x) + torch.rand(len(x), 1)):
        for method in (LayerReciproCam, LayerScoreCam):
            with pytest.raises(ValueError, match="copies of example 0 get other scores than the example in its batch"):
                method(forward, net[0]).attribute(images, target=1)


def test_heads_that_mix_rows_are_detected():
    """Behind a pooling the copies are rows of one batch: a softmax over the rows would see them all."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).double().eval()
    image = torch.rand(1, *SIZE, dtype=torch.float64)
    for forward in (lambda x: net(x) - net(x).mean(0), lambda x: net(x) / net(x).norm(), lambda x: net(x).cumsum(0)):
        maps = LayerReciproCam(forward, net[0]).attribute(image, target=1)
        with torch.no_grad():
            torch.testing.assert_close(maps[0, 0], oracles.kept_alone(forward, net[0], (image,), 1), atol=1e-9, rtol=0)


@pytest.mark.parametrize("method", [LayerReciproCam, LayerScoreCam])
@pytest.mark.parametrize(
    ("wrapped", "advice"),
    [
        (
            lambda y: {"loss": y.sum(), "logits": y},
            r"dict with \['loss'\] \(\), \['logits'\] \(2, 4\);.*model\(x\)\['logits'\]",
        ),
        (lambda y: (y.sum(), y), r"tuple with \[0\] \(\), \[1\] \(2, 4\);.*model\(x\)\[1\]"),
    ],
)
def test_outputs_that_are_not_a_table_name_their_entries(method, wrapped, advice):
    net, images = _pooled(4), torch.rand(2, *SIZE, dtype=torch.float64)
    with pytest.raises(ValueError, match=advice):
        method(lambda x: wrapped(net(x)), net[0]).attribute(images, target=1)


@pytest.mark.parametrize("method", [LayerReciproCam, LayerScoreCam, LayerClassActivationMap])
def test_views_folded_into_the_batch_are_refused(method):
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.fc = nn.Conv2d(3, 6, 3, 2, 1), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            count, views = x.shape[:2]
            return self.fc(self.layer(x.flatten(0, 1)).relu().mean((2, 3)).view(count, views, -1).amax(1))

    net = Views().eval()
    for count in (1, 2):
        with pytest.raises(ValueError, match=f"{3 * count} maps for {count} example"):
            method(net, net.layer).attribute(torch.rand(count, 3, *SIZE), target=1)


class WritesOn(nn.Module):
    """Adds to what the layer gives, and cuts it off, in its own memory; a part of it has the channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer, self.norm = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, padding=1), nn.LayerNorm(6)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.layer(x)
        y += x
        return self.fc(self.norm(F.relu(y, inplace=True).amax((2, 3))))


@pytest.mark.parametrize("layout", [None, FeatureLayout()])
def test_writes_into_the_features_do_not_reach_the_copies(layout):
    torch.manual_seed(0)
    net, images = WritesOn().double().eval(), torch.rand(2, *SIZE, dtype=torch.float64)
    with torch.no_grad():
        want = torch.stack([oracles.kept_alone(net, net.layer, (image[None],), 1) for image in images])
    for forward in (net, lambda x: net(x)):
        maps = LayerReciproCam(forward, net.layer, layout=layout).attribute(images, target=1)
        torch.testing.assert_close(maps[:, 0], want, atol=1e-9, rtol=0)
