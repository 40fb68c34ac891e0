"""CNNs of timm, whose heads are made of other parts: converted, exact where they are linear."""

from __future__ import annotations

import pytest
import torch

from captum_softcam.softcam import convert_to_softcam

timm = pytest.importorskip("timm")

# Whether the logits stay, and whether the strides are layers.
MODELS = {
    "resnet18": (True, True),
    "resnet18d": (True, True),
    "seresnet18": (True, True),
    "ecaresnet26t": (True, True),
    "resnest14d": (True, True),
    "res2net50_14w_8s": (True, True),
    "regnety_002": (True, True),
    "densenet121": (True, True),
    "efficientnet_b0": (True, True),
    "tf_efficientnetv2_b0": (True, True),
    "mobileone_s0": (True, True),
    "repvgg_a0": (True, True),
    "rexnet_100": (True, True),
    "repvit_m0_9": (True, True),
    "hrnet_w18_small": (True, False),
    "dla34": (True, False),
    "mobilenetv3_small_050": (False, True),
    "mobilenetv4_conv_small": (False, True),
    "ghostnet_100": (False, True),
    "convnext_atto": (False, True),
    "edgenext_xx_small": (False, True),
}
MEAN_OF_TOKENS = {
    "swin_tiny_patch4_window7_224": (7, 7),
    "vit_base_patch16_siglip_gap_224": (14, 14),
    "mixer_s32_224": (7, 7),
}
FEWER_BLOCKS = {
    "swin_tiny_patch4_window7_224": {"depths": (1, 1, 2, 1), "embed_dim": 24},
    "vit_base_patch16_siglip_gap_224": {"depth": 2, "embed_dim": 96, "num_heads": 4},
}
CLASS_TOKEN = ["vit_tiny_patch16_224", "deit_tiny_patch16_224"]


def _network(name: str, size: int) -> tuple[torch.nn.Module, torch.Tensor]:
    """A network in float64 whose normalisations have seen a batch, so that its logits say something."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **FEWER_BLOCKS.get(name, {})).double()
    images = torch.rand(2, 3, size, size, dtype=torch.float64)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        model(images)
    return model.eval(), images


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_cnns(name):
    exact, strides_are_layers = MODELS[name]
    model, images = _network(name, 64)
    converted = convert_to_softcam(model, images)
    assert converted.conversion.exact == exact
    assert converted.evidence_maps(images).shape == (2, 5, *converted.conversion.grid)
    assert (converted.conversion.difference <= 1e-9 * converted.conversion.largest) == exact
    if strides_are_layers:
        assert (
            min(convert_to_softcam(model, output_stride=8).evidence_grid(64, 64)) >= 4 * min(converted.conversion.grid) - 3
        )
    else:
        with pytest.raises(ValueError, match="output_stride=8 takes its branches apart"):
            convert_to_softcam(model, output_stride=8)


@pytest.mark.parametrize("name", MEAN_OF_TOKENS)
@torch.no_grad()
def test_transformers_and_mixers_that_take_the_mean_of_their_tokens(name):
    model, images = _network(name, 224)
    converted = convert_to_softcam(model, images[:1])
    assert converted.conversion.exact
    assert converted.conversion.grid == MEAN_OF_TOKENS[name]
    assert converted.conversion.difference < 1e-9


@pytest.mark.parametrize("name", CLASS_TOKEN)
def test_class_tokens_are_refused(name):
    with pytest.raises(ValueError, match="selects single positions or tokens instead of averaging them"):
        convert_to_softcam(timm.create_model(name).eval())
