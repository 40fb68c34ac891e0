"""The suggested layers and their descriptions."""

from __future__ import annotations

import pytest
import torch
import torchvision

from captum_softcam.attr import LayerReciproCam, suggest_layers


def test_the_stages_of_a_resnet():
    net = torchvision.models.resnet18(weights=None).eval()
    choices = suggest_layers(net, torch.rand(1, 3, 64, 96))
    assert [choice.name for choice in choices] == ["relu", "layer1", "layer2", "layer3", "layer4"]
    assert [choice.grid for choice in choices][-2:] == [(4, 6), (2, 3)]
    assert [choice.stride for choice in choices][-2:] == [(16.0, 16.0), (32.0, 32.0)]
    assert [choice.passes for choice in choices] == [32 * 48, 16 * 24, 8 * 12, 4 * 6, 0]
    assert [choice.recommended for choice in choices] == [False] * 4 + [True]
    assert choices[-1].reason == "the last map, known from one forward"
    assert choices[-1].shape == (1, 512, 2, 3)


@pytest.mark.parametrize(
    ("name", "best", "passes"),
    [
        ("vgg11", "features", 9),
        ("densenet121", "features", 0),
        ("mobilenet_v3_small", "features", 0),
        ("shufflenet_v2_x0_5", "conv5", 0),
        ("squeezenet1_1", "features", 0),
        ("convnext_tiny", "features", 0),
        ("swin_t", "norm", 0),
    ],
)
def test_the_recommended_layer_can_be_explained(name, best, passes):
    net, images = torchvision.models.get_model(name, weights=None).eval(), torch.rand(1, 3, 96, 96)
    choices = suggest_layers(net, images)
    choice = next(choice for choice in choices if choice.recommended)
    assert (choice.name, choice.passes) == (best, passes)
    assert len({choice.grid for choice in choices}) == len(choices) >= 4
    maps = LayerReciproCam(net, net.get_submodule(choice.name)).attribute(images, target=0)
    assert maps.shape == (1, 1, *choice.grid)


def test_a_transformer_is_masked_before_its_attentions():
    net = torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=5).eval()
    choices = suggest_layers(net, torch.rand(1, 3, 32, 32))
    assert [choice.name for choice in choices] == [f"encoder.layers.encoder_layer_{i}.ln_1" for i in range(3)]
    assert [choice.passes for choice in choices] == [16, 16, 0]
    assert choices[-1].recommended
    assert choices[-1].grid == (4, 4)


def test_a_grid_of_inner_modules_alone_is_not_a_stage():
    inner = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, stride=3), torch.nn.Upsample((8, 8)))
    block = torch.nn.Sequential(torch.nn.Sequential(inner))
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), block, torch.nn.Conv2d(4, 4, 2, stride=2)).eval()
    assert [choice.name for choice in suggest_layers(net, torch.rand(1, 3, 8, 8))] == ["1", "2"]


class Shared(torch.nn.Module):
    """One activation for all stages, as in efficientnet_pytorch."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.Conv2d(8, 8, 3, 2, 1)
        self.act, self.head = torch.nn.SiLU(), torch.nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.b(self.act(self.a(x)))).mean((2, 3)))


def test_a_module_that_is_called_twice_is_named_once():
    choices = suggest_layers(Shared().eval(), torch.rand(1, 3, 32, 32))
    assert [(choice.name, choice.grid, choice.recommended) for choice in choices] == [
        ("a", (16, 16), False),
        ("act", (8, 8), True),
    ]


class TwoHeads(torch.nn.Module):
    """The last map is for a second output that is thrown away."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = torch.nn.Conv2d(3, 8, 3, 4, 1), torch.nn.ConvTranspose2d(8, 2, 4, 4)
        self.head = torch.nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.encoder(x)
        scores = self.head(features.mean((2, 3)))
        self.decoder(features)
        return scores


def test_a_map_that_the_score_does_not_depend_on_is_not_recommended():
    choices = suggest_layers(TwoHeads().eval(), torch.rand(1, 3, 32, 32))
    assert [(choice.name, choice.recommended) for choice in choices] == [("encoder", True), ("decoder", False)]
    assert choices[1].reason == "the score does not depend on it"


class ClassToken(torch.nn.Module):
    """Reads a class token, by attentions whose names do not tell what they are."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token = torch.nn.Conv2d(3, 8, 8, 8), torch.nn.Parameter(torch.randn(1, 1, 8))
        self.one, self.other = (torch.nn.Linear(8, 8) for _ in range(2))
        self.head = torch.nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).mT
        x = torch.cat((self.token.expand(len(x), -1, -1), x), 1)
        for mix in (self.one, self.other):
            x = x + mix((x @ x.mT / 8).softmax(-1) @ x)
        return self.head(x[:, 0])


def test_patches_do_not_matter_behind_the_last_attention():
    torch.manual_seed(0)
    model, images = ClassToken().eval(), torch.rand(2, 3, 16, 24)
    best = next(choice for choice in suggest_layers(model, images) if choice.recommended)
    assert (best.name, best.grid) == ("one", (2, 3))
    maps = LayerReciproCam(model, model.one).attribute(images, target=1)
    assert maps.std() > 0


def test_models_without_a_map_and_in_train_mode(net, images):
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(420, 3)).eval()
    assert suggest_layers(flat, images.float()) == []
    before = net.stem[1].running_mean.clone()
    with pytest.raises(ValueError, match=r"in train mode"):
        suggest_layers(net.train(), images)
    assert torch.equal(net.stem[1].running_mean, before)
