"""The one search for the layer to explain, in networks that keep their maps in many ways."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_softcam import LayerClassActivationMap, LayerReciproCam, convert_to_softcam
from captum_softcam._intervention.layers import default_layer
from captum_softcam.attr import suggest_layers
from captum_softcam.data import Sample
from captum_softcam.evaluation import LayerExplainFunc, compare_methods, explain_sample

IMAGES = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _stage(inputs: int, outputs: int, stride: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU())


def _mean(maps: Tensor) -> Tensor:
    return maps.mean((2, 3))


class Encoder(nn.Module):
    """Gives the maps of all stages, in the form that ``collect`` makes of a list."""

    def __init__(self, collect: Callable[[list[Tensor]], Any], stride: int) -> None:
        super().__init__()
        self.collect = collect
        self.stages = nn.ModuleList(_stage(width, width + 2, stride) for width in (4, 6))

    def forward(self, x: Tensor) -> Any:
        maps = [x := stage(x) for stage in self.stages]
        return self.collect(maps)


class Holder(nn.Module):
    """Passes on what is within it, however deep."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        return self.inner(x)


class Nested(nn.Module):
    """A classifier on the last map of an encoder, with the stem beside it."""

    def __init__(self, collect: Callable[..., Any], last: Callable[..., Tensor], stride: int, deep: int) -> None:
        super().__init__()
        self.stem, self.encoder = _stage(3, 4), Encoder(collect, stride)
        for _ in range(deep):
            self.encoder = Holder(self.encoder)
        self.last, self.head = last, nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.encoder(self.stem(x))))


FORMS = {
    "list": (list, lambda maps: _mean(maps[-1])),
    "tuple": (tuple, lambda maps: _mean(maps[-1])),
    "dict": (lambda maps: dict(zip("ab", maps, strict=True)), lambda maps: _mean(maps["b"])),
    "nested": (lambda maps: {"maps": (maps[:1], [maps[1:]])}, lambda maps: _mean(maps["maps"][1][0][0])),
    "pooled": (lambda maps: _mean(maps[-1]), lambda pooled: pooled),
    "pooled and maps": (lambda maps: (_mean(maps[-1]), maps), lambda both: both[0]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stride", [1, 2], ids=["one grid", "coarser grids"])
@pytest.mark.parametrize("deep", [0, 3])
def test_the_last_map_of_a_nested_encoder(form, stride, deep):
    """Never the stem, of which the grid may be the same."""
    torch.manual_seed(0)
    model = Nested(*FORMS[form], stride, deep).double().eval()
    best = _best(model)
    assert best.name == "encoder." + "inner." * deep + "stages.1"
    assert _forwards(model) == 2
    _equals_brute_force(model, best)


class Pyramid(nn.Module):
    """Computes its finest map last, as U-Net and the feature pyramid do; ``read`` are the maps for the scores."""

    def __init__(self, *read: int) -> None:
        super().__init__()
        self.read = read
        self.down = nn.ModuleList(_stage(width, width + 2) for width in (3, 5, 7))
        self.across = nn.ModuleList(nn.Conv2d(width, 6, 1) for width in (5, 7, 9))
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x := stage(x) for stage in self.down]
        found, above = {}, 0
        for i in (2, 1, 0):
            found[i] = above = self.across[i](maps[i]) + above
            above = F.interpolate(above, scale_factor=2.0)
        return self.head(sum(_mean(found[i]) for i in self.read))


@pytest.mark.parametrize(
    ("read", "best"), [((2,), "across.2"), ((0,), "across.0"), ((0, 1, 2), "across.0"), ((1,), "across.1")]
)
def test_the_finest_map_counts_only_if_the_scores_are_computed_from_it(read, best):
    torch.manual_seed(0)
    model = Pyramid(*read).double().eval()
    found = suggest_layers(model, IMAGES)
    assert [choice.name for choice in found if choice.recommended] == [best]
    assert all(choice.recommended or "finer" in choice.reason or "does not depend" in choice.reason for choice in found)
    assert _forwards(model) == 2
    _equals_brute_force(model, next(choice for choice in found if choice.recommended))


class Segmenting(nn.Module):
    """A classifier on the encoder of a U-Net, whose decoder makes another output, in ``no_grad`` as of a frozen network."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(list, 2)
        self.stem, self.decoder = _stage(3, 4), nn.ModuleList(nn.ConvTranspose2d(width, width, 2, 2) for width in (8, 8))
        self.mask, self.head = nn.Conv2d(8, 1, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            last = self.encoder(self.stem(x))[-1]
        scores = self.head(_mean(last.detach()))
        for up in self.decoder:
            last = up(last)
        self.mask(last)
        return scores


def test_a_decoder_for_another_output_costs_no_forward():
    model = Segmenting().double().eval()
    best = _best(model)
    assert best.name == "encoder.stages.1"
    by_name = {choice.name: choice.reason for choice in suggest_layers(model, IMAGES)}
    assert by_name["stem"] == "an earlier stage, finer"
    assert _forwards(model) == 2


class Readout(nn.Module):
    """Attention with its own normalisation, and with a softmax of its own, under a name that does not tell what it is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.mixed, self.weigh = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.mixed(self.norm(x)).chunk(3, -1)
        return self.weigh(query @ key.mT / 3) @ value


class Tokens(nn.Module):
    """A vision transformer that reads its class token, the mean of its patches, or both."""

    def __init__(self, read: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.read, self.patch, self.token = read, nn.Conv2d(3, 8, 8, 8), nn.Parameter(torch.randn(1, 1, 8))
        self.layers = nn.ModuleList(nn.ModuleList([Readout(8), nn.Linear(8, 8)]) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).mT
        x = torch.cat((self.token.expand(len(x), -1, -1), x), 1)
        for attention, linear in self.layers:
            x = x + attention(x)
            x = x + linear(x)
        return self.head(self.read(self.norm(x)))


@pytest.mark.parametrize(
    ("read", "best"),
    [
        (lambda x: x[:, 0], "layers.1.0.norm"),
        (lambda x: x[:, 1:].mean(1), "norm"),
        (lambda x: x[:, 0] + x[:, 1:].mean(1), "layers.1.0.norm"),
    ],
    ids=["class token", "patches", "both"],
)
def test_a_class_token_is_explained_before_its_last_attention_and_patches_behind_it(read, best):
    torch.manual_seed(0)
    model = Tokens(read).double().eval()
    found = _best(model)
    assert (found.name, found.grid) == (best, (2, 3))
    _equals_brute_force(model, found)


def test_an_attention_that_comes_first_and_gets_none():
    """``None`` was once taken for the output of the module before it."""

    class Attention(nn.Module):
        def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
            return x if mask is None else x * mask

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.stage, self.head = Attention(), _stage(3, 4), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(_mean(self.stage(self.attention(x, None))))

    assert _best(Net().double().eval()).name == "stage"


@pytest.mark.parametrize(
    "pool", [_mean, lambda maps: maps.amax((2, 3)), lambda maps: maps.logsumexp((2, 3)) - math.log(8 * 12)]
)
def test_a_map_per_class_is_left_to_softcam(pool):
    """Class maps rank positions already; weights of channels, as of Grad-CAM, need the map before."""

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stage, self.classes = _stage(3, 4), nn.Sequential(nn.Conv2d(4, 5, 1), nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            return pool(self.classes(self.stage(x)))

    torch.manual_seed(0)
    assert _best(Pooled().double().eval()).name == "stage"


def test_a_softcam_model_is_explained_at_its_backbone(net):
    model = convert_to_softcam(net)
    assert _best(model).name == "backbone"
    assert _default(model) == "backbone"


def _zero_head(model: nn.Module) -> nn.Module:
    nn.init.zeros_(model.head.weight)
    return model


def test_a_head_of_zeros_gets_the_layer_of_a_trained_one_and_words():
    torch.manual_seed(0)
    model = _zero_head(Tokens(lambda x: x[:, 0])).double().eval()
    best = _best(model)
    assert best.name == "layers.1.0.norm"
    assert best.reason == (
        "read by the last attention, but the scores do not depend on it: the weights of 'head' are all zero"
    )
    assert not model.head.weight.any()
    words = (
        r"the map is flat by 'recipro_cam', 'grad_cam', 'occlusion': the scores depend on no map of the model, because the "
        r"weights of 'head' are all zero; use trained weights\."
    )
    with pytest.warns(UserWarning, match=words):
        explain_sample(model, Sample(IMAGES[0], 1, None, "a"), ["recipro_cam", "grad_cam", "occlusion", "random"])


def test_a_flat_map_is_named_with_the_layer_to_use():
    torch.manual_seed(0)
    model, sample = Tokens(lambda x: x[:, 0]).double().eval(), Sample(IMAGES[0], 1, None, "a")
    words = (
        r"flat by 'recipro_cam': the score does not depend on the positions of layer 'norm'; use layer='layers.1.0.norm'\."
    )
    with pytest.warns(UserWarning, match=words):
        explain_sample(model, sample, ["recipro_cam"], layer="norm")
    maps = explain_sample(model, sample, ["recipro_cam", "grad_cam"]).maps  # a warning would be an error
    assert all(each.std() > 0 for each in maps.values())


def test_a_constant_score_is_named():
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stage = _stage(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            self.stage(x)
            return x.new_ones(len(x), 5)

    model = Constant().eval()
    assert _best(model, IMAGES.float()).reason.endswith(
        "the scores do not depend on it: they stay the same with other values"
    )
    with pytest.warns(UserWarning, match="the scores depend on no map of the model, because they stay the same"):
        explain_sample(model, Sample(IMAGES[0].float(), 1, None, "a"), ["recipro_cam"])


def test_the_default_layer_of_everything_is_the_suggested_one():
    torch.manual_seed(0)
    model = Nested(*FORMS["list"], 2, 1).double().eval()
    best = _best(model).name
    samples = [Sample(image, 1, None, str(i)) for i, image in enumerate(IMAGES)]
    compared = compare_methods(model, samples, ["recipro_cam", LayerExplainFunc("grad_cam")], ["insertion"], examples=0)
    assert compared.manifest["layer"] == best
    assert {entry["layer"] for entry in compared.manifest["methods"].values()} == {best}
    alone = explain_sample(model, samples[0], ["recipro_cam"]).maps["recipro_cam"]
    assert torch.equal(alone, explain_sample(model, samples[0], ["recipro_cam"], layer=best).maps["recipro_cam"])
    with pytest.raises(ValueError, match=rf"The last spatial layer is '{best}' \(2, 8, 2, 3\)\."):
        LayerReciproCam(model, model.head).attribute(IMAGES, target=0)
    with pytest.raises(ValueError, match=rf"The last spatial layer is '{best}' \(1, 8, 2, 3\)\."):
        compare_methods(model, samples, layer="head")


def test_a_message_does_not_fail_on_its_advice():
    """The batch runs, but no single example does."""

    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stage, self.head = _stage(3, 4), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            if len(x) % 2:
                raise RuntimeError("examples come in pairs")
            return self.head(_mean(self.stage(x)))

    model = Pairs().double().eval()
    with pytest.raises(ValueError, match=r"needs a spatial map \(N, C, h, w\)\. Use a layer before the pooling\."):
        LayerClassActivationMap(model, model.head).attribute(IMAGES, target=0)


def test_a_model_without_a_map_is_explained_by_methods_without_a_layer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 24, 5)).double().eval()
    sample = Sample(IMAGES[0], 1, None, "a")
    assert suggest_layers(model, IMAGES) == []
    assert explain_sample(model, sample, ["integrated_gradients"]).maps["integrated_gradients"].std() > 0
    for methods in (["recipro_cam"], [LayerExplainFunc("grad_cam")]):
        with pytest.raises(ValueError, match=r"has no layer with a spatial map .*use a method without a layer, such as"):
            explain_sample(model, sample, methods)
    with pytest.raises(ValueError, match=r"\. The model has no spatial layer\."):
        LayerReciproCam(model, model[1]).attribute(IMAGES, target=0)


class Views(nn.Module):
    """Several views of one case, as a batch of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = _stage(3, 4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(
            _mean(self.features(torch.cat((x, x.flip(3)), 1).unflatten(1, (2, 3)).flatten(0, 1)))
            .unflatten(0, (-1, 2))
            .mean(1)
        )


def test_a_layer_with_another_batch_is_not_recommended_and_refused_in_words():
    model, sample = Views().double().eval(), Sample(IMAGES[0], 1, None, "a")
    assert suggest_layers(model, IMAGES) == []
    for methods in (["recipro_cam"], ["grad_cam"]):
        with pytest.raises(
            ValueError, match=r"layer 'features' gives \(2, 4, 8, 12\), 2 maps for 1 examples: they belong to"
        ):
            explain_sample(model, sample, methods, layer="features")


class SharedActivation(nn.Module):
    """One activation for all stages, as in efficientnet_pytorch and MONAI's networks, also for tokens at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)
        self.three, self.act, self.head = nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.two(self.act(self.one(x))))
        return self.head(self.act(self.three(x.flatten(2).mT)).mean(1))


def test_a_shared_activation_is_explained_at_its_last_call():
    torch.manual_seed(0)
    model = SharedActivation().double().eval()
    best = _best(model)
    assert (best.name, best.shape, best.grid) == ("act", (2, 24, 8), (4, 6))
    _equals_brute_force(model, best)
    targets = torch.tensor([1, 1])
    maps = LayerExplainFunc("grad_cam", "act", relu_attributions=False).explain(model, IMAGES, targets)
    assert maps.shape == (2, 1, 16, 24)
    assert (maps.flatten(1).std(1) > 0).all()


def test_a_stage_of_one_position_is_no_network_around_its_branches():
    """As of Inception on a small image: the last map is that before the stage, not one of its branches."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch, self.other = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 3, (2, 3))), nn.Conv2d(4, 2, (2, 3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat((self.branch(x), self.other(x)), 1)

    stages = nn.Sequential(_stage(3, 4), _stage(4, 4), _stage(4, 4), Last(), nn.Flatten(), nn.Linear(5, 5))
    assert _best(stages.double().eval()).name == "2"
    pooled = nn.Sequential(
        _stage(3, 4), nn.Sequential(_stage(4, 4, 1), nn.AdaptiveAvgPool2d(1)), nn.Flatten(), nn.Linear(4, 5)
    )
    assert _best(pooled.double().eval()).name == "1.0"


# ---- helpers


def _best(model: nn.Module, images: Tensor = IMAGES) -> Any:
    (best,) = (choice for choice in suggest_layers(model, images) if choice.recommended)
    return best


def _default(model: nn.Module) -> str:
    """Return the layer that a comparison uses."""
    samples = [Sample(IMAGES[0], 1, None, "a")]
    return str(compare_methods(model, samples, ["recipro_cam"], ["insertion"], examples=0).manifest["layer"])


def _forwards(model: nn.Module) -> int:
    """Return how many forwards the default layer costs."""
    calls: list[int] = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    assert default_layer(model, IMAGES) is not None
    handle.remove()
    return len(calls)


def _equals_brute_force(model: nn.Module, choice: Any) -> None:
    """Compare Recipro-CAM with a loop that sets all positions but one or none to zero, by a hook at the layer."""
    layer = model.get_submodule(choice.name)
    maps = LayerReciproCam(model, layer).attribute(IMAGES, target=1).flatten(1)
    with _hooked(layer, lambda features: features) as calls:
        model(IMAGES)
    scores = {}
    for position in (None, *range(math.prod(choice.grid))):
        with _hooked(layer, lambda features, kept=position: _kept(features, choice.grid, kept), len(calls)), torch.no_grad():
            scores[position] = model(IMAGES)[:, 1]
    none = scores.pop(None)
    torch.testing.assert_close(maps, torch.stack([*scores.values()], 1) - none[:, None], rtol=1e-9, atol=1e-12)


@contextmanager
def _hooked(layer: nn.Module, change: Callable[[Tensor], Tensor], last: int = 0) -> Iterator[list[int]]:
    """Change the output of a layer in its call number ``last``."""
    calls: list[int] = []

    def hook(_module: nn.Module, _args: Any, output: Tensor) -> Tensor | None:
        calls.append(1)
        return change(output) if len(calls) == last else None

    handle = layer.register_forward_hook(hook)
    yield calls
    handle.remove()


def _kept(features: Tensor, grid: tuple[int, int], position: int | None) -> Tensor:
    """Return maps (N, C, h, w), or tokens (N, L, C) behind prefix tokens, with zeros at all positions but one."""
    kept = torch.zeros_like(features)
    if features.dim() == 3:
        prefix = features.shape[1] - math.prod(grid)
        kept[:, :prefix] = features[:, :prefix]
        if position is not None:
            kept[:, prefix + position] = features[:, prefix + position]
        return kept
    if position is None:
        return kept
    row, column = divmod(position, grid[1])
    kept[:, :, row, column] = features[:, :, row, column]
    return kept
