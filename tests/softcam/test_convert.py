"""Conversion: every CNN of torchvision, exact where the head is linear, and honest where it is not."""

from __future__ import annotations

import copy
import pickle
import warnings

import oracles
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from captum_softcam.softcam import EvidenceHead, SoftCamModel, convert_to_softcam

# One of each family and kind of block, the layer before its head, and whether its logits stay.
CNNS = {
    "alexnet": ("features", False),
    "vgg11": ("features", False),
    "vgg11_bn": ("features", False),
    "resnet18": ("layer4", True),
    "resnet50": ("layer4", True),
    "resnext50_32x4d": ("layer4", True),
    "wide_resnet50_2": ("layer4", True),
    "squeezenet1_0": ("features", True),
    "squeezenet1_1": ("features", True),
    "densenet121": ("features", True),
    "googlenet": ("inception5b", True),
    "inception_v3": ("Mixed_7c", True),
    "shufflenet_v2_x0_5": ("conv5", True),
    "mobilenet_v2": ("features", True),
    "mobilenet_v3_small": ("features", False),
    "mobilenet_v3_large": ("features", False),
    "mnasnet0_5": ("layers", True),
    "efficientnet_b0": ("features", True),
    "efficientnet_v2_s": ("features", True),
    "regnet_x_400mf": ("trunk_output", True),
    "regnet_y_400mf": ("trunk_output", True),
    "convnext_tiny": ("features", False),
    "r3d_18": ("layer4", True),
    "mc3_18": ("layer4", True),
    "r2plus1d_18": ("layer4", True),
}
# linear, with more layers, a convolution, behind a normalisation, with another activation, behind a layer norm, of volumes
ONE_PER_HEAD = ["resnet18", "alexnet", "squeezenet1_1", "densenet121", "mobilenet_v3_small", "convnext_tiny", "r3d_18"]
NO_POOLING = {"vit_b_16": "single positions or tokens", "mvit_v1_b": "single positions or tokens"}
MEAN_OF_TOKENS = {"swin_t": True, "swin_v2_t": True, "swin3d_t": True, "maxvit_t": False}
# a squeeze-and-excitation sees other means on a finer map
OTHER_MEANS = {"mobilenet_v3_small", "efficientnet_b0", "regnet_y_400mf"}
# the others have the same kinds of blocks; Inception's strides are no layers
DILATED = [
    *("alexnet", "vgg11", "resnet18", "resnet50", "squeezenet1_0", "densenet121", "googlenet", "shufflenet_v2_x0_5"),
    *("mobilenet_v2", "mobilenet_v3_small", "mnasnet0_5", "efficientnet_b0", "regnet_x_400mf", "regnet_y_400mf"),
    *("convnext_tiny", "r3d_18", "mc3_18"),
]
STRIDES = {"squeezenet1_0": (16, 16), "r3d_18": (8, 16, 16), "mc3_18": (1, 16, 16)}  # 32 otherwise


SIZES = {"alexnet": (3, 96, 96), "inception_v3": (3, 139, 139), "maxvit_t": (3, 224, 224), "swin3d_t": (3, 4, 64, 64)}
SIZES |= {"r3d_18": (3, 4, 32, 16), "mc3_18": (3, 2, 32, 16)}


def _size(name: str) -> tuple[int, ...]:
    return SIZES.get(name, (3, 64, 64))


def _network(name: str, num_classes: int = 7) -> nn.Module:
    """A network in float64 whose normalisations have seen a batch, so that its logits say something."""
    torch.manual_seed(0)
    arguments = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **arguments)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        model(torch.rand(2, *_size(name)))
    return model.double().eval()


def _images(name: str) -> torch.Tensor:
    return torch.rand(2, *_size(name), dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ONE_PER_HEAD)
@torch.no_grad()
def test_evidence_is_what_the_head_says_of_one_position(name):
    layer, exact = CNNS[name]
    model, images = _network(name), _images(name)
    converted = convert_to_softcam(model, images)
    evidence, logits = converted.evidence_maps(images), model(images)
    torch.testing.assert_close(evidence, oracles.evidence(model, model.get_submodule(layer), images))
    torch.testing.assert_close(converted(images), evidence.flatten(2).mean(2))
    assert logits.abs().max() > 1e-3, "the test needs logits that are not all zero"
    assert converted.conversion.exact == exact == torch.allclose(converted(images), logits, atol=1e-9)
    assert converted.conversion.difference == pytest.approx((converted(images) - logits).abs().max().item(), abs=1e-12)
    assert converted.conversion.grid == evidence.shape[2:] == converted.evidence_grid(*images.shape[2:])
    if exact:
        single, images = model.float(), images.float()
        torch.testing.assert_close(convert_to_softcam(single)(images), single(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", DILATED)
@torch.no_grad()
def test_output_stride_leaves_what_was_there(name):
    model, images, steps = _network(name), _images(name)[:1], STRIDES.get(name, (32, 32))
    coarse = convert_to_softcam(model)
    before = coarse.evidence_maps(images)
    assert torch.allclose(coarse(images), model(images), atol=1e-9) == CNNS[name][1]
    for stride in (8,) if len(steps) == 3 else (16, 8):  # volumes are slow in float64
        fine = convert_to_softcam(model, images, output_stride=stride)
        after = fine.evidence_maps(images)
        assert after.shape[2:] == fine.conversion.grid == fine.evidence_grid(*images.shape[2:])
        assert (max(steps) > stride) == bool(fine.conversion.dilated) == (not torch.equal(before, after))
        if name not in OTHER_MEANS:
            every = tuple(slice(None, None, max(1, step // stride)) for step in steps)
            shared = after[(..., *every)][(..., *map(slice, before.shape[2:]))]
            torch.testing.assert_close(shared, before)


@pytest.mark.parametrize("name", ["googlenet", "squeezenet1_0", "densenet121", "resnet18"])
@torch.no_grad()
def test_output_stride_at_odd_sizes(name):
    model, step = _network(name), 2 if "squeezenet" in name else 4
    coarse, fine = convert_to_softcam(model), convert_to_softcam(model, output_stride=8)
    for size in (81, 90, 103):
        images = torch.rand(1, 3, size, size, dtype=torch.float64)
        before, after = coarse.evidence_maps(images), fine.evidence_maps(images)
        torch.testing.assert_close(after[..., ::step, ::step][..., : before.shape[2], : before.shape[3]], before)


def test_strides_that_are_no_layers_are_refused():
    with pytest.raises(ValueError, match="output_stride needs a network with convolutions; this one has none"):
        convert_to_softcam(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)), output_stride=8)
    with pytest.raises(ValueError, match=r"output_stride=16 takes its branches apart: on an input of 16384 pixels, Sizes"):
        convert_to_softcam(_network("inception_v3"), output_stride=16)
    with pytest.raises(ValueError, match=r"strides \[32, 32\], where \[16, 16\] were wanted"):
        convert_to_softcam(torchvision.models.swin_t(num_classes=3).eval(), output_stride=16)
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)]
    mirrored = nn.Conv2d(3, 3, 3, 2, padding=1, padding_mode="reflect")
    with pytest.raises(ValueError, match="layer '4' pads with 'reflect', which output_stride does not support"):
        convert_to_softcam(nn.Sequential(*(nn.MaxPool2d(2) for _ in range(4)), mirrored, *end), output_stride=8)
    summed = nn.AvgPool2d(2, divisor_override=1)
    with pytest.raises(ValueError, match="layer '4' has divisor_override, which output_stride does not support"):
        convert_to_softcam(
            nn.Sequential(nn.Conv2d(3, 3, 1), *(nn.MaxPool2d(2) for _ in range(3)), summed, *end), output_stride=8
        )


@pytest.mark.parametrize("kind", [nn.AvgPool2d, nn.MaxPool2d])
@pytest.mark.parametrize(("kernel", "padding"), [(2, 0), (3, 0), (3, 1)])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("size", [24, 25, 26, 27])
@torch.no_grad()
def test_dilated_pools(kind, kernel, padding, ceil_mode, size):
    """Two pools in a row, so that the second reads a map that the first has made finer."""
    extra = [{"count_include_pad": False}, {}] if kind is nn.AvgPool2d else [{}]
    for more in extra:
        pools = [kind(kernel, 2, padding, ceil_mode=ceil_mode, **more) for _ in range(2)]
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        model = nn.Sequential(nn.Conv2d(1, 3, 1), *pools, *head).double().eval()
        images = torch.randn(1, 1, size, size, dtype=torch.float64)
        before = convert_to_softcam(model).evidence_maps(images)
        after = convert_to_softcam(model, output_stride=1).evidence_maps(images)
        torch.testing.assert_close(after[..., ::4, ::4][..., : before.shape[2], : before.shape[3]], before)


@pytest.mark.parametrize("name", sorted({*CNNS, *MEAN_OF_TOKENS, *NO_POOLING}))
def test_the_lists_above_name_every_family(name):
    assert name in torchvision.models.list_models()


def _families() -> list[str]:
    """Every classifier of torchvision, images and videos."""
    places = (torchvision.models, torchvision.models.video)
    return sorted(name for place in places for name in torchvision.models.list_models(module=place))


@pytest.mark.parametrize("name", _families())
def test_every_classifier_of_torchvision_is_converted_or_refused(name, monkeypatch):
    """All sizes, without memory for weights: what is converted is shown above for one of each family."""
    plan = torchvision.models.regnet.BlockParams.from_init_params

    def on_cpu(*arguments, **keywords):  # for it reads the values of tensors
        with torch.device("cpu"):
            return plan(*arguments, **keywords)

    monkeypatch.setattr(torchvision.models.regnet.BlockParams, "from_init_params", on_cpu)
    with torch.device("meta"):
        arguments = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        model = torchvision.models.get_model(name, weights=None, **arguments).eval()
    if name.startswith(("vit_", "mvit_")):
        with pytest.raises(ValueError, match="selects single positions or tokens instead of averaging them"):
            convert_to_softcam(model)
    else:
        converted = convert_to_softcam(model)
        bent = name.startswith(("alexnet", "vgg", "mobilenet_v3", "convnext", "maxvit"))
        assert converted.conversion.exact is not bent
        assert {parameter.device.type for parameter in converted.parameters()} == {"meta"}


@pytest.mark.parametrize("name", MEAN_OF_TOKENS)
@torch.no_grad()
def test_transformers_that_take_the_mean_of_their_tokens(name):
    torch.manual_seed(0)
    images = torch.rand(1, *_size(name))
    model = torchvision.models.get_model(name, weights=None, num_classes=5).eval()
    converted = convert_to_softcam(model, images)
    assert converted.conversion.exact == MEAN_OF_TOKENS[name]
    assert (converted.conversion.difference < 1e-5) == MEAN_OF_TOKENS[name]
    assert min(converted.conversion.grid) > 1


@pytest.mark.parametrize("name", NO_POOLING)
def test_class_tokens_are_refused_in_words(name):
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None)
    with pytest.raises(ValueError, match=f"^no global average pooling was found .*{NO_POOLING[name]}"):
        convert_to_softcam(model)


class _Functional(nn.Module):
    """A head in calls instead of layers, of which ``end`` gives the form."""

    def __init__(self, end, width: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3, 2)
        self.norm = nn.BatchNorm1d(5)
        self.layer_norm = nn.LayerNorm(5)
        self.first = nn.Linear(width, 6)
        self.last = nn.Linear(6, 3)
        self.end = end

    def forward(self, x):
        return self.end(self, F.relu(self.conv(x)))


def _dropped(net, x):
    return net.last(F.dropout(F.relu(net.first(x)), 0.4, training=net.training))


HEADS = {
    "mean of two dimensions": (True, lambda net, x: net.last(net.first(x.mean((2, 3))))),
    "mean of two dimensions, from the end": (True, lambda net, x: net.last(net.first(torch.mean(x, dim=[-2, -1])))),
    "mean that keeps dimensions": (True, lambda net, x: net.last(net.first(x.mean((2, 3), keepdim=True).flatten(1)))),
    "mean of columns, then of rows": (True, lambda net, x: net.last(net.first(x.mean(3).mean(2)))),
    "the same from the end": (True, lambda net, x: net.last(net.first(x.mean(-1).mean(-1)))),
    "mean of flattened positions": (True, lambda net, x: net.last(net.first(x.flatten(2).mean(2)))),
    "mean of channels-last positions": (True, lambda net, x: net.last(net.first(x.permute(0, 2, 3, 1).mean((1, 2))))),
    "mean of tokens": (True, lambda net, x: net.last(net.first(x.flatten(2).transpose(1, 2).mean(1)))),
    "an index": (True, lambda net, x: net.last(net.first(F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0]))),
    "a view": (True, lambda net, x: net.last(net.first(F.adaptive_avg_pool2d(x, (1, 1)).view(x.size(0), -1)))),
    "a window as large as the map": (True, lambda net, x: net.last(net.first(F.avg_pool2d(x, (5, 7)).flatten(1)))),
    "batch normalisation": (True, lambda net, x: net.last(net.first(net.norm(x.mean((2, 3)))))),
    "dropout in a call": (False, lambda net, x: _dropped(net, x.mean((2, 3)))),
    "layer normalisation": (False, lambda net, x: net.last(net.first(net.layer_norm(x.mean((2, 3)))))),
    "activation in a call": (False, lambda net, x: net.last(F.gelu(net.first(x.mean((2, 3))), approximate="tanh"))),
    "activation with a setting": (
        False,
        lambda net, x: net.last(F.leaky_relu(net.first(x.mean((2, 3))), 0.3)),
    ),
    "activation with a setting, built into torch": (
        False,
        lambda net, x: net.last(F.softplus(net.first(x.mean((2, 3))), 2.0)),
    ),
    "dictionary": (True, lambda net, x: {"logits": net.last(net.first(x.mean((2, 3)))), "features": x}),
    "tuple": (True, lambda net, x: (net.last(net.first(x.mean((2, 3)))), x.sum())),
}


@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_heads_in_other_words(head):
    exact, end = HEADS[head]
    torch.manual_seed(0)
    model = _Functional(end).double()
    model(torch.randn(8, 2, 11, 15, dtype=torch.float64))  # statistics that are not the default ones
    model.eval()
    images = torch.randn(2, 2, 11, 15, dtype=torch.float64)
    converted = convert_to_softcam(model, images)
    given = model(images)
    logits = given["logits"] if isinstance(given, dict) else given[0] if isinstance(given, tuple) else given
    assert converted.evidence_maps(images).shape == (2, 3, 5, 7)
    assert converted.conversion.exact == exact == torch.allclose(converted(images), logits)
    want = oracles.evidence(lambda x: _first(model(x)), model.conv, images) if "window" not in head else None
    if want is not None and "tokens" not in head:
        torch.testing.assert_close(converted.evidence_maps(images), want)


def _first(given):
    return given["logits"] if isinstance(given, dict) else given[0] if isinstance(given, tuple) else given


@torch.no_grad()
def test_a_flattened_map_is_summed_over_its_positions():
    model = _Functional(lambda net, x: net.last(F.relu(net.first(x.flatten(1)))), width=5 * 5 * 7).double().eval()
    images = torch.randn(2, 2, 11, 15, dtype=torch.float64)
    converted = convert_to_softcam(model, images)
    features = F.relu(model.conv(images))
    everywhere = features[:, :, 2:3, 3:4].expand_as(features)
    want = model.last(F.relu(model.first(everywhere.flatten(1))))
    torch.testing.assert_close(converted.evidence_maps(images)[:, :, 2, 3], want)
    assert "5 x 7 positions apart" in converted.conversion.reason
    with pytest.raises(ValueError, match="pass an example of the input"):
        convert_to_softcam(model)


def test_a_functional_dropout_knows_the_mode():
    model = _Functional(lambda net, x: _dropped(net, F.dropout(x, 0.3, net.training).mean((2, 3)))).train()
    converted, images = convert_to_softcam(model), torch.ones(1, 2, 11, 15)
    dropouts = [module for module in converted.modules() if isinstance(module, nn.Dropout)]
    assert sorted(dropout.p for dropout in dropouts) == [0.3, 0.4]
    assert not torch.equal(converted(images), converted(images))
    converted.eval()
    assert torch.equal(converted(images), converted(images))


class _Normalised(nn.BatchNorm1d):
    """Like some networks' normalisation: with an activation inside."""

    def forward(self, x):
        return super().forward(x).relu()


@torch.no_grad()
def test_a_normalisation_that_does_more_is_not_called_exact():
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.AdaptiveAvgPool1d(1), _Normalised(4), nn.Flatten(), nn.Linear(4, 2)).eval()
    converted = convert_to_softcam(model, torch.randn(2, 2, 9))
    assert not converted.conversion.exact
    assert converted.conversion.difference > 1e-3


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (lambda net, x: net.last(net.first(x.amax((2, 3)))), r"amax\(\) is in the way"),
        (lambda net, x: net.last(net.first(F.adaptive_max_pool2d(x, 1).flatten(1))), "adaptive_max_pool2d"),
        (lambda net, x: net.last(net.first(x.mean((2, 3)))).softmax(1), r"softmax\(\) is in the way"),
        (
            lambda net, x: (net.last(net.first(x.mean((2, 3)))), net.last(net.first(x.mean((2, 3))))),
            "returns 2 outputs with",
        ),
        (lambda net, x: net.last(net.first(x.flatten(2)[:, :, 0])), "'conv' .Conv2d"),
        (lambda net, x: net.last(net.first(x.mean((2, 3))) if x.sum() > 0 else x), "cannot be traced by torch.fx"),
        (lambda net, x: net.norm.eps * x, "mul"),
    ],
)
def test_refusals(end, message):
    with pytest.raises(ValueError, match=message):
        convert_to_softcam(_Functional(end).eval())


def test_wrong_arguments_are_refused(net, images):
    with pytest.raises(TypeError, match="SoftCamModel already"):
        convert_to_softcam(SoftCamModel(nn.Identity(), EvidenceHead(nn.Conv2d(1, 2, 1))))
    with pytest.raises(TypeError, match=r"needs a torch\.nn\.Module, or a function that calls one; got 'resnet18'"):
        convert_to_softcam("resnet18")
    with pytest.raises(ValueError, match="num_classes 0 is not a positive number"):
        convert_to_softcam(net, num_classes=0)
    with pytest.raises(ValueError, match="output_stride 0 is not a positive number"):
        convert_to_softcam(net, output_stride=0)
    with pytest.raises(ValueError, match=r"PooledNet does not run on the example \(2, 7, 8, 8\): .*expected input"):
        convert_to_softcam(net, images.new_zeros(2, 7, 8, 8))


@pytest.mark.parametrize("name", ["resnet18", "alexnet", "squeezenet1_1", "mobilenet_v3_small"])
def test_a_new_head_for_other_classes(name):
    model = _network(name)
    converted = convert_to_softcam(model, _images(name), num_classes=4)
    assert converted.evidence_maps(_images(name)).shape[:2] == (2, 4)
    assert converted.conversion.difference is None
    assert (converted.conversion.exact, converted.conversion.num_classes) == (False, 4)
    kept = convert_to_softcam(model).evidence.state_dict()
    changed = [key for key, value in converted.evidence.state_dict().items() if not torch.equal(value, kept[key])]
    assert len(changed) == 2, "weight and bias of the last layer"
    assert {parameter.dtype for parameter in converted.parameters()} == {torch.float64}


def test_the_original_is_untouched_and_shares_nothing(net):
    before = copy.deepcopy(net.state_dict())
    converted = convert_to_softcam(net)
    for parameter in converted.parameters():
        parameter.data.zero_()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_mode_dtype_and_layers_are_kept(net, training):
    net.train(training)
    net.block.requires_grad_(False)
    net.fc.weight.requires_grad_(False)
    converted = convert_to_softcam(net)
    assert {module.training for module in converted.modules()} == {training}
    assert {parameter.dtype for parameter in converted.parameters()} == {torch.float64}
    assert not converted.backbone.get_submodule("block").weight.requires_grad
    assert [parameter.requires_grad for parameter in converted.evidence.parameters()] == [False, True]
    assert isinstance(converted.backbone.get_submodule("stem"), nn.Sequential)


def test_a_part_that_is_kept_in_eval_mode_stays_in_it():
    model = torchvision.models.resnet18().train()
    model.layer1.eval()
    converted = convert_to_softcam(model, output_stride=8)
    modes = {name: module.training for name, module in converted.backbone.named_modules()}
    assert [modes["layer1"], modes["layer1.0.bn1"], modes["layer4.0.bn1"]] == [False, False, True]
    assert converted.training
    assert all(module.training for module in converted.evidence.modules())


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_left_out(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about how they draw their weights
        model = torchvision.models.get_model(name, weights=None, init_weights=False, num_classes=5).train()
    converted = convert_to_softcam(model)
    left = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}[name]
    assert converted.conversion.left_out == left
    assert not [key for key in converted.state_dict() if "aux" in key.lower()]
    assert converted(torch.rand(2, *_size(name))).shape == (2, 5), "in train mode, too, it gives the logits alone"


@pytest.mark.parametrize("dims", [1, 3])
@torch.no_grad()
def test_signals_and_volumes(dims):
    conv, pool = {1: (nn.Conv1d, nn.AdaptiveAvgPool1d), 3: (nn.Conv3d, nn.AdaptiveAvgPool3d)}[dims]
    layers = [
        conv(2, 5, 2),
        nn.ReLU(),
        conv(5, 5, 3, 2, 1),
        pool(1),
        nn.Flatten(),
        nn.BatchNorm1d(5),
        nn.Dropout(),
        nn.Linear(5, 3),
    ]
    model = nn.Sequential(*layers).double()
    model(torch.randn(9, 2, *[8, 7, 6][:dims], dtype=torch.float64))
    images = torch.randn(2, 2, *[8, 7, 6][:dims], dtype=torch.float64)
    converted = convert_to_softcam(model.eval(), images)
    torch.testing.assert_close(converted(images), model(images))
    assert converted.evidence_maps(images).shape == (2, 3, *[4, 3, 3][:dims])
    fine = convert_to_softcam(model, output_stride=1).evidence_maps(images)
    torch.testing.assert_close(fine[(..., *[slice(None, None, 2)] * dims)], converted.evidence_maps(images))


def test_a_converted_model_can_be_trained_and_copied(net, images):
    model = convert_to_softcam(net.train())
    model(images).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    twin = copy.deepcopy(model)
    twin.evidence[-1].weight.data.zero_()
    assert not torch.allclose(model(images), twin(images))
    assert twin.conversion == model.conversion


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_wrapped_models_are_unwrapped(wrap, net, images):
    torch.testing.assert_close(convert_to_softcam(wrap(net))(images), net(images))


def test_what_was_done_in_words(net, images):
    model = convert_to_softcam(net, images, output_stride=1)
    text = str(model.conversion)
    assert text.splitlines()[0] == f"source     {type(net).__module__}.PooledNet"
    assert "head       fc: Linear(6, 4) -> Conv2d(6, 4, 1)" in text
    assert f"evidence   {' x '.join(map(str, model.conversion.grid))} for an input of 10 x 14" in text


def test_the_grid_of_an_input_that_is_too_small():
    model = convert_to_softcam(torchvision.models.alexnet(num_classes=2).eval())
    assert model.evidence_grid(224, 224) == (6, 6)
    with pytest.raises(ValueError, match="the network does not run at 20 x 20 pixels"):
        model.evidence_grid(20, 20)


def test_a_converted_model_goes_to_another_process(net, images):
    softcam = convert_to_softcam(net)
    back = pickle.loads(pickle.dumps(softcam))
    assert torch.equal(back(images), softcam(images))
    assert torch.equal(back.evidence_maps(images), softcam.evidence_maps(images))
