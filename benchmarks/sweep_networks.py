"""The networks of the sweep: how each is built, as small as its family allows, with weights that make its maps differ.

Also of what kind each is, which is read off the operations of a forward, not its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

CLASSES = 10
SIDES = ((64, 96), (96, 96), (128, 128), (224, 224), (256, 256), (384, 384))
"""Sizes of images (H, W), the first that a network takes is used; sides that differ show maps that are transposed."""

DTYPES = (torch.float64, torch.float32)
"""Precisions, the first in which a network runs is used; some compute a part in single precision whatever they are in."""

SHALLOW = {"depth": 2}
DEPTHS = {"depths": (1, 1, 1, 1)}
DEPTH = {"depth": (1, 1, 1, 1)}
LAYERS = {"layers": (1, 1, 1, 1)}
TIMM: dict[str, dict[str, Any]] = {
    "aimv2_large_patch14_224": SHALLOW,
    "bat_resnext26ts": {"sides": ((256, 256),)},
    "beit_base_patch16_224": SHALLOW,
    "botnet26t_256": {},
    "caformer_s18": {},
    "cait_xxs24_224": SHALLOW,
    "coat_lite_tiny": {},
    "coat_tiny": {},
    "coatnet_nano_cc_224": DEPTHS,
    "coatnext_nano_rw_224": DEPTHS,
    "convformer_s18": {},
    "convit_tiny": SHALLOW,
    "convmixer_768_32": {"sides": ((28, 42),)},
    "convnext_atto": DEPTHS,
    "convnextv2_atto": DEPTHS,
    "cpubone_nano": {},
    "crossvit_tiny_240": {"sides": ((240, 240),)},
    "cs3darknet_s": {},
    "csatv2": {"sides": ((128, 192),)},
    "cspdarknet53": {},
    "cspnext_tiny": {},
    "cspresnet50": {},
    "cspresnext50": {},
    "darknet17": {},
    "davit_tiny": DEPTHS,
    "deepseek_vit_412m": {**SHALLOW, "sides": ((56, 84),), "dtypes": (torch.float32,)},
    "deit3_small_patch16_224": SHALLOW,
    "deit_tiny_distilled_patch16_224": SHALLOW,
    "densenet121": {},
    "dla46_c": {},
    "dm_nfnet_f0": DEPTHS,
    "dpn48b": {},
    "eca_halonext26ts": {"sides": ((256, 256),)},
    "eca_nfnet_l0": DEPTHS,
    "ecaresnet26t": LAYERS,
    "edgenext_xx_small": DEPTHS,
    "efficientformer_l1": {**DEPTHS, "sides": ((224, 224),)},
    "efficientformerv2_s0": DEPTHS,
    "efficientnet_b0": {},
    "efficientnetv2_rw_t": {},
    "efficientvim_m1": {"sides": ((128, 192),)},
    "efficientvit_b0": DEPTHS,
    "efficientvit_m0": {**DEPTH, "sides": ((128, 192),)},
    "ese_vovnet19b_slim_dw": {},
    "eva02_tiny_patch14_224": SHALLOW,
    "fasternet_t0": DEPTHS,
    "fastvit_t8": LAYERS,
    "fbnetc_100": {},
    "fbnetv3_b": {},
    "flexivit_small": SHALLOW,
    "focalnet_tiny_srf": {},
    "gcresnext26ts": {},
    "gcvit_xxtiny": {},
    "gemma4_vit_167m": SHALLOW,
    "gernet_s": {},
    "ghostnet_050": {},
    "ghostnetv2_100": {},
    "ghostnetv3_050": {},
    "gmixer_12_224": {},
    "gmlp_ti16_224": {},
    "halonet_h1": {"sides": ((256, 256),)},
    "haloregnetz_b": {"sides": ((224, 224),)},
    "hardcorenas_a": {},
    "hgnet_tiny": {},
    "hgnetv2_b0": {},
    "hiera_tiny_224": {},
    "hieradet_small": {},
    "hrnet_w18_small": {},
    "iformer_t": {},
    "inception_next_atto": DEPTHS,
    "inception_resnet_v2": {"sides": ((139, 171),)},
    "inception_v3": {"sides": ((139, 171),)},
    "inception_v4": {"sides": ((139, 171),)},
    "lambda_resnet26t": {},
    "lcnet_035": {},
    "lcnetv2_small": DEPTHS,
    "legacy_seresnet18": LAYERS,
    "legacy_xception": {},
    "levit_128s": {"sides": ((128, 192),)},
    "levit_conv_128s": {"sides": ((128, 192),)},
    "lowformer_b0": {},
    "mambaout_femto": DEPTHS,
    "maxvit_pico_rw_256": DEPTHS,
    "maxxvit_rmlp_nano_rw_256": DEPTHS,
    "maxxvitv2_nano_rw_256": DEPTHS,
    "mixer_s32_224": {},
    "mixnet_s": {},
    "mnasnet_small": {},
    "mobilenet_edgetpu_v2_xs": {},
    "mobilenetv2_035": {},
    "mobilenetv3_small_050": {},
    "mobilenetv4_conv_small_035": {},
    "mobilenetv5_base": {"sides": ((128, 192),)},
    "mobileone_s1": {},
    "mobilevit_xxs": {},
    "mobilevitv2_050": {},
    "mvitv2_tiny": {},
    "naflexvit_base_patch16_gap": SHALLOW,
    "nasnetalarge": {},
    "nest_tiny": {},
    "nextvit_small": {},
    "nf_regnet_b0": DEPTHS,
    "nfnet_l0": DEPTHS,
    "pit_ti_224": {"depth": (1, 1, 1)},
    "pit_ti_distilled_224": {"depth": (1, 1, 1)},
    "pnasnet5large": {},
    "poolformer_s12": {},
    "poolformerv2_s12": {},
    "pvt_v2_b0": DEPTHS,
    "qwen3_vit_88m": SHALLOW,
    "rdnet_tiny": {},
    "regnetv_040": {},
    "regnetx_002": {},
    "regnety_002": {},
    "regnetz_005": {},
    "repghostnet_050": {},
    "repvgg_a0": {},
    "repvit_m1": DEPTH,
    "res2net50_14w_8s": LAYERS,
    "resmlp_12_224": {},
    "resnest14d": LAYERS,
    "resnet10t": LAYERS,
    "resnetaa34d": LAYERS,
    "resnetblur18": LAYERS,
    "resnetrs50": LAYERS,
    "resnetv2_18": LAYERS,
    "resnext50_32x4d": LAYERS,
    "rexnet_100": {},
    "rexnetr_100": {},
    "sam2_hiera_tiny": {},
    "samvit_base_patch16_224": SHALLOW,
    "sebotnet33ts_256": {},
    "sehalonet33ts": {"sides": ((256, 256),)},
    "selecsls42": {},
    "semnasnet_050": {},
    "sequencer2d_s": LAYERS,
    "seresnet18": LAYERS,
    "seresnext26t_32x4d": LAYERS,
    "shvit_s1": {**DEPTH, "sides": ((128, 192),)},
    "skresnet18": LAYERS,
    "spnasnet_100": {},
    "starnet_s050": DEPTHS,
    "swiftformer_xs": LAYERS,
    "swin_tiny_patch4_window7_224": DEPTHS,
    "swinv2_cr_tiny_224": DEPTHS,
    "swinv2_tiny_window8_256": DEPTHS,
    "tf_efficientnetv2_b0": {},
    "tiny_vit_5m_224": DEPTHS,
    "tinynet_e": {},
    "tnt_s_patch16_224": SHALLOW,
    "tresnet_m": LAYERS,
    "twins_pcpvt_small": DEPTHS,
    "twins_svt_small": DEPTHS,
    "vgg11_bn": {},
    "visformer_tiny": {},
    "vit_base_patch16_siglip_224": SHALLOW,
    "vit_base_patch16_siglip_gap_224": SHALLOW,
    "vit_medium_patch16_rope_reg1_gap_256": SHALLOW,
    "vit_relpos_small_patch16_224": SHALLOW,
    "vit_small_patch14_reg4_dinov2": SHALLOW,
    "vit_tiny_patch16_224": SHALLOW,
    "vit_tiny_r_s16_p8_224": SHALLOW,
    "vitamin_small_224": SHALLOW,
    "volo_d1_224": {},
    "vovnet39a": {},
    "wide_resnet50_2": LAYERS,
    "xception41": {},
    "xcit_nano_12_p8_224": SHALLOW,
}
"""Networks of timm, about one per family, and what makes them smaller than their smallest variant."""

_WIDTHS = {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}
_TOKENS = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96}
_PATCHES = {**_TOKENS, "image_size": (64, 96), "patch_size": 16}
_SQUARE = {**_TOKENS, "image_size": 96, "patch_size": 16}
_WINDOWS = {
    "image_size": 96,
    "patch_size": 4,
    "embed_dim": 24,
    "depths": [1, 1, 2],
    "num_heads": [2, 4, 4],
    "window_size": 3,
}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "Beit": _SQUARE,
    "Bit": {**_WIDTHS, "embedding_size": 16, "num_groups": 8},
    "CLIP": {"vision_config": _SQUARE},
    "ConvNext": _WIDTHS,
    "ConvNextV2": _WIDTHS,
    "Cvt": {"embed_dim": [16, 32, 48], "num_heads": [1, 2, 3], "depth": [1, 2, 3]},
    "Data2VecVision": _SQUARE,
    "DeiT": _PATCHES,
    "DeiTForImageClassificationWithTeacher": _PATCHES,
    "Dinov2": _SQUARE,
    "Dinov2WithRegisters": _SQUARE,
    "EfficientNet": {"width_coefficient": 0.5, "depth_coefficient": 0.5, "hidden_dim": 640},
    "FocalNet": {"image_size": 96, "embed_dim": 24, "depths": [1, 1, 1, 1]},
    "HGNetV2": {"depths": [1, 1, 1, 1]},
    "Hiera": {"image_size": [96, 96], "embed_dim": 24, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]},
    "IJepa": _PATCHES,
    "Levit": {"image_size": 128, "hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 1]},
    "MobileNetV1": {"depth_multiplier": 0.25},
    "MobileNetV2": {"depth_multiplier": 0.35},
    "MobileViT": {"hidden_sizes": [32, 48, 64], "neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 96]},
    "MobileViTV2": {"width_multiplier": 0.5},
    "PoolFormer": {**_WIDTHS},
    "Pvt": {"image_size": 96, **_WIDTHS, "num_attention_heads": [1, 2, 4, 8]},
    "PvtV2": {"image_size": 96, **_WIDTHS, "num_attention_heads": [1, 2, 4, 8]},
    "RegNet": {**_WIDTHS, "embedding_size": 16, "groups_width": 8},
    "ResNet": {**_WIDTHS, "embedding_size": 16, "layer_type": "basic"},
    "Segformer": {**_WIDTHS, "num_attention_heads": [1, 2, 4, 8]},
    "Siglip": {"vision_config": _SQUARE},
    "SwiftFormer": {"depths": [1, 1, 1, 1], "embed_dims": [16, 24, 32, 48]},
    "Swin": _WINDOWS,
    "Swinv2": _WINDOWS,
    "TextNet": {},
    "ViT": _PATCHES,
    "ViTMSN": _PATCHES,
}
"""Image classifiers of transformers by the beginning of their class, and their configuration."""

_NARROW = {"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [8, 16, 24, 32]}
_SHORT = {"block": "se_bottleneck", "layers": [1, 1, 1, 1], "groups": 2, "reduction": 16, "inplanes": 16}
MONAI: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "Classifier": ("Classifier", {"channels": (8, 16), "strides": (2, 2)}, (1, 48, 32)),
    "Critic": ("Critic", {"channels": (8, 16), "strides": (2, 2)}, (1, 48, 32)),
    "DenseNet121 2-D": ("DenseNet121", {"spatial_dims": 2}, (1, 64, 96)),
    "DenseNet 3-D": ("DenseNet", {"spatial_dims": 3, "block_config": (2, 2, 2), "init_features": 16}, (1, 32, 48, 32)),
    "Discriminator": ("Discriminator", {"channels": (8, 16), "strides": (2, 2)}, (1, 48, 32)),
    "EfficientNetBN": ("EfficientNetBN", {"model_name": "efficientnet-b0", "pretrained": False}, (1, 64, 96)),
    "MILModel": ("MILModel", {"mil_mode": "att", "pretrained": False}, (3, 3, 96, 96)),
    "ResNet10 3-D": ("ResNet", {"spatial_dims": 3, **_NARROW}, (1, 32, 48, 32)),
    "ResNet18 2-D": ("resnet18", {"spatial_dims": 2}, (1, 64, 96)),
    "SEResNet50 2-D": ("SEResNet50", {"spatial_dims": 2}, (1, 64, 96)),
    "SENet 3-D": ("SENet", {"spatial_dims": 3, **_SHORT}, (1, 32, 48, 64)),
    "TorchVisionFCModel": ("TorchVisionFCModel", {"model_name": "resnet18", "pretrained": False}, (3, 224, 224)),
    "ViT 2-D": ("ViT", {"spatial_dims": 2}, (1, 64, 96)),
    "ViT 3-D": ("ViT", {"spatial_dims": 3}, (1, 32, 48, 32)),
}
"""Networks of MONAI: the class, its arguments, and the shape of one input."""

SMP: dict[str, tuple[str, str]] = {
    "Unet resnet18": ("Unet", "avg"),
    "Unet mit_b0": ("Unet", "avg"),
    "FPN efficientnet-b0": ("FPN", "avg"),
    "Linknet mobilenet_v2": ("Linknet", "max"),
    "MAnet densenet121": ("MAnet", "avg"),
    "DeepLabV3Plus timm-regnety_002": ("DeepLabV3Plus", "avg"),
}
"""Networks of segmentation_models_pytorch with a classifier: the decoder (encoder in the name), and the pooling."""


def networks() -> Iterator[tuple[str, str]]:
    """Yield library and name of every network."""
    for library, names in (("timm", TIMM), ("transformers", TRANSFORMERS), ("monai", MONAI), ("smp", SMP)):
        yield from ((library, name) for name in names)


def build(library: str, name: str) -> tuple[nn.Module, Tensor]:
    """Return a network in eval mode with random weights, and two images that it takes."""
    torch.manual_seed(0)
    return {"timm": _timm, "transformers": _transformers, "monai": _monai, "smp": _smp}[library](name)


class Logits(nn.Module):
    """A network that returns more than logits, and which of its outputs they are."""

    def __init__(self, model: nn.Module, select: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.model, self.select = model, select

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images."""
        return self.select(self.model(images))


def _timm(name: str) -> tuple[nn.Module, Tensor]:
    import timm

    options = {"num_classes": CLASSES, "sides": SIDES, "dtypes": DTYPES, **TIMM.get(name, {})}
    tried, dtypes = options.pop("sides"), options.pop("dtypes")

    def create(sides: tuple[int, int]) -> nn.Module:
        try:
            return timm.create_model(name, img_size=sides, **options)
        except TypeError:  # networks for images of any size have no such argument
            return timm.create_model(name, **options)

    return _first_that_runs(create, tried, dtypes=dtypes)


def _transformers(name: str) -> tuple[nn.Module, Tensor]:
    import transformers

    kind = getattr(transformers, name if "ForImage" in name else f"{name}ForImageClassification")
    config = kind.config_class(num_labels=CLASSES, **TRANSFORMERS[name])
    side = getattr(getattr(config, "vision_config", config), "image_size", (64, 96))
    height, width = (side, side) if isinstance(side, int) else side
    fits = TRANSFORMERS[name].get("vision_config", TRANSFORMERS[name]).get("image_size")
    sides = (height, width) if fits else (64, 96)
    return _first_that_runs(lambda _: Logits(kind(config), lambda output: output.logits), (sides,))


def _monai(name: str) -> tuple[nn.Module, Tensor]:
    import monai.networks.nets as nets

    kind, options, shape = MONAI[name]
    channels, sides = shape[0], shape[1:]
    if kind in ("Classifier", "Critic", "Discriminator"):
        options = {"in_shape": shape, **({"classes": CLASSES} if kind == "Classifier" else {}), **options}
    elif kind == "ViT":
        size = {"img_size": sides, "patch_size": 16, "hidden_size": 48, "mlp_dim": 96, "num_layers": 2, "num_heads": 3}
        options = {"in_channels": channels, "classification": True, "num_classes": CLASSES, **size, **options}
    elif kind in ("MILModel", "TorchVisionFCModel"):
        options = {"num_classes": CLASSES, **options}
    elif kind.lower().startswith("resnet"):
        options = {"n_input_channels": channels, "num_classes": CLASSES, **options}
    else:
        key = "out_channels" if kind.startswith("DenseNet") else "num_classes"
        options = {"in_channels": channels, key: CLASSES, **options}
    model = getattr(nets, kind)(**options)
    if kind == "ViT":
        model = Logits(model, lambda output: output[0])
    return _first_that_runs(lambda _: model, (sides,), channels)


def _smp(name: str) -> tuple[nn.Module, Tensor]:
    import segmentation_models_pytorch as smp

    (decoder, pooling), encoder = SMP[name], name.split()[1]
    aux = {"classes": CLASSES, "pooling": pooling, "dropout": 0.2}
    model = getattr(smp, decoder)(encoder, encoder_weights=None, classes=2, aux_params=aux)
    return _first_that_runs(lambda _: Logits(model, lambda output: output[1]), ((64, 96),))


def _first_that_runs(
    create: Callable[[Any], nn.Module],
    sizes: tuple[tuple[int, ...], ...],
    channels: int = 3,
    dtypes: tuple[torch.dtype, ...] = DTYPES,
) -> tuple[nn.Module, Tensor]:
    """Return the network for the first size that it takes, in double precision if it has that, and two images."""
    problem: Exception | None = None
    for sides in sizes:
        try:
            model = create(sides).eval()
        except Exception as error:  # of any library, and of any kind
            problem = problem or error
            continue
        for dtype in dtypes:
            try:
                images = blobs(4, channels, sides).to(dtype)
                awake(model.to(dtype), images)
                return model, images[:2]
            except Exception as error:
                problem = problem or error
    raise RuntimeError(f"takes none of the sizes {sizes}: {problem}") from problem


def blobs(count: int, channels: int, sides: tuple[int, ...], seed: int = 1) -> Tensor:
    """Return images whose regions differ: coarse noise, and fine noise on top of it."""
    generator = torch.Generator().manual_seed(seed)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(sides)]
    coarse = torch.randn(count, channels, *[4] * len(sides), generator=generator)
    return F.interpolate(coarse, size=sides, mode=mode) + 0.3 * torch.randn(count, channels, *sides, generator=generator)


@torch.no_grad()
def awake(model: nn.Module, images: Tensor) -> None:
    """Draw weights that start at a constant, and let normalisations see the images.

    As built, many networks return nearly the same logits for every image: their last layer or their residual branches are
    scaled by zero or by 1e-6.
    """
    generator = torch.Generator().manual_seed(2)
    for name, weight in model.named_parameters():
        if weight.is_floating_point() and weight.numel() > 1:
            _draw(name, weight, generator)
    normalisations = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for module in normalisations:
        module.momentum = 1.0
        module.train()
    scores = model(images)
    model.eval()
    if not (isinstance(scores, Tensor) and model(images).isfinite().all()):
        raise RuntimeError("its logits are not finite")


def _draw(name: str, weight: Tensor, generator: torch.Generator) -> None:
    if float(weight.std()) > 1e-5 * float(weight.abs().max()):
        return
    noise = torch.randn(weight.shape, generator=generator).to(weight.dtype)
    inputs = weight.numel() // weight.shape[0]
    scales = inputs == 1 and "bias" not in name
    start = 0.3 if scales and float(weight.abs().mean()) < 0.1 else weight
    spread = 0.5 * inputs**-0.5 if weight.dim() > 1 and inputs > 1 and weight.shape[0] > 1 else 0.1
    weight.copy_(start + spread * noise)


# Of what kind a network is ----------------------------------------------------------------------------------------------

DESIGNS = {
    "CNN": "convolutions whose windows overlap, and no attention",
    "hybrid": "such convolutions, and attention",
    "transformer": "attention, and no convolutions but those that cut the image into patches",
    "mixer": "neither: MLP-mixers and recurrent networks on patches",
    "volume": "convolutions of three dimensions",
}
"""Kinds of networks. Attention is any product of two matrices that are both computed from the image."""


@torch.no_grad()
def design(model: nn.Module, images: Tensor) -> str:
    """Return of which of the ``DESIGNS`` a network is."""
    with _Operations(model) as seen:
        model(images)
    if seen.volumes:
        return "volume"
    return {(True, False): "CNN", (True, True): "hybrid", (False, True): "transformer"}.get(
        (seen.convolutions, seen.attention), "mixer"
    )


class _Operations(TorchDispatchMode):
    """Notes which operations that tell kinds of networks apart are run."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.convolutions = self.attention = self.volumes = False
        self._weights = {value.untyped_storage().data_ptr() for value in model.state_dict().values()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and note it."""
        name = func.overloadpacket.__name__
        if name == "convolution":
            sides, steps = args[1].shape[2:], args[3]
            self.convolutions |= any(side > step for side, step in zip(sides, steps, strict=True))
            self.volumes |= len(sides) == 3
        elif name in ("mm", "bmm"):
            # A linear layer is such a product as well, but one of its factors lies in the memory of a weight.
            self.attention |= not any(value.untyped_storage().data_ptr() in self._weights for value in args[:2])
        elif "attention" in name or "encoder_layer" in name:
            self.attention = True
        return func(*args, **(kwargs or {}))
