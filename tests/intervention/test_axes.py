"""Dimensions followed through a model, and maps against masks that are written by hand."""

from __future__ import annotations

import random
import threading
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import ConvNeXt, SwinTransformer, VisionTransformer
from torchvision.models.convnext import CNBlockConfig

from captum_softcam._intervention.axes import AxisTracker
from captum_softcam._intervention.dimensions import Atom, cut, kinds, merge, regroup, resolve, size_of
from captum_softcam.attr import FeatureLayout, LayerReciproCam, LayerScoreCam, suggest_layers

LAST = FeatureLayout(channels_last=True)


def layout_of(function, *inputs: Tensor) -> FeatureLayout:
    """The layout of what a function of the inputs gives."""
    with torch.no_grad(), AxisTracker(inputs) as tracker:
        features = function(*inputs)
    return tracker.layout(features)


# ---- against an oracle that knows the coordinates of every entry


def coordinates(sides: tuple[int, ...]) -> Tensor:
    """A tensor (2, 4, *sides) of which each entry tells its place."""
    return torch.arange(2 * 4 * torch.Size(sides).numel(), dtype=torch.float64).view(2, 4, *sides)


def identity(x: Tensor) -> Tensor:
    """A convolution that changes nothing, so that channels and space are known."""
    convolution = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[x.dim()]
    return convolution(x, torch.eye(4, dtype=x.dtype).view(4, 4, *[1] * (x.dim() - 2)))


def move(x: Tensor, chance: random.Random) -> Tensor:
    """A function that moves entries, picked at random."""
    dims = list(range(x.dim()))
    kind = chance.choice(
        ["permute", "swap", "merge", "split", "merge", "split", "cut", "new", "squeeze", "roll", "flip", "prefix"]
    )
    if kind == "permute":
        return x.permute(chance.sample(dims, len(dims)))
    if kind == "swap":
        return x.transpose(chance.choice(dims), chance.choice(dims))
    if kind == "merge" and len(dims) > 2:
        start = chance.randrange(len(dims) - 1)
        return x.flatten(start, start + 1)
    if kind == "split":
        place = chance.choice(dims)
        factors = [factor for factor in range(2, x.shape[place]) if x.shape[place] % factor == 0]
        return x.unflatten(place, (chance.choice(factors), -1)) if factors else x
    if kind == "cut":
        place = chance.choice(dims)
        return x.narrow(place, 0, x.shape[place] - 1) if x.shape[place] > 2 else x
    if kind == "new":
        return x.unsqueeze(chance.choice(dims))
    if kind == "squeeze":
        return x.squeeze()
    if kind == "roll":
        return x.roll(chance.choice([1, -1]), chance.choice(dims))
    if kind == "flip":
        return x.flip(chance.choice(dims))
    place = chance.choice(dims[1:])
    learned = nn.Parameter(torch.full_like(x.narrow(place, 0, 1), -1.0))
    return torch.cat((learned, x), place)


def check_order(cells: Tensor, sides: tuple[int, ...]) -> None:
    """Along each dimension of a map one axis of the image changes, upwards, and in a row of tokens in reading order."""
    axes = torch.stack(torch.unravel_index(cells, sides))
    changing: list[int] = []
    for dim in range(cells.dim()):
        steps = axes.diff(dim=dim + 1)
        moved = [axis for axis in range(len(sides)) if bool((steps[axis] != 0).any())]
        assert len(moved) <= 1, "one axis at a time"
        assert all(bool((steps[axis] > 0).all()) for axis in moved), "upwards"
        changing += moved
    assert len(set(changing)) == len(changing)


@pytest.mark.parametrize("sides", [(12,), (6, 4), (4, 6, 2)], ids=str)
def test_declared_layouts_are_right(sides):
    """Entries of a map lie where the coordinates say, whatever was done to them; or nothing is said."""
    chance, said = random.Random(0), set()
    for _ in range(600):
        x = coordinates(sides)
        steps = chance.randrange(1, 6)
        with AxisTracker((x,)) as tracker:
            features = identity(x)
            for _step in range(steps):
                features = move(features, chance)
        try:
            layout = tracker.layout(features)
        except ValueError:
            continue
        if features.dim() < 3:
            continue
        maps = layout.to_maps(features).long()
        learned = maps < 0
        example = maps // (4 * torch.Size(sides).numel())
        assert bool((learned | (example == torch.arange(2).view(2, *[1] * (maps.dim() - 1)))).all())
        cells = (maps % torch.Size(sides).numel()).masked_fill(learned, -1).amax((0, 1))
        assert bool((learned | (maps % torch.Size(sides).numel() == cells)).all()), "a position holds one place"
        if bool((cells >= 0).all()):
            said.add(layout)
            check_order(cells, sides)
    assert len(said) > 1


# ---- against masks that are written by hand


def by_hand(model: nn.Module, layer: nn.Module, image: Tensor, keep, grid: tuple[int, ...]) -> Tensor:
    """Scores of class 1 with one position kept at a time: ``keep(masked, features, position)`` copies it, by its indices.

    They are relative to the score with only that kept which is kept with the first position as well as with the last.
    """
    scores = []
    positions = torch.cartesian_prod(*(torch.arange(side) for side in grid)).view(-1, len(grid)).tolist()
    for kept in ((positions[0], positions[-1]), *((position,) for position in positions)):

        def mask(_module: nn.Module, _args: object, features: Tensor, kept: tuple[list[int], ...] = kept) -> Tensor:
            copies = [torch.zeros_like(features) for _ in kept]
            for masked, position in zip(copies, kept, strict=True):
                keep(masked, features, position)
            return torch.where(copies[0] == copies[-1], copies[0], 0)

        handle = layer.register_forward_hook(mask)
        with torch.no_grad():
            scores.append(model(image)[:, 1])
        handle.remove()
    none, *others = scores
    return (torch.stack(others, 1) - none[:, None]).view(len(image), 1, *grid)


def first(masked: Tensor, features: Tensor, position: list[int]) -> None:
    place = (slice(None), slice(None), *position)
    masked[place] = features[place]


def last(masked: Tensor, features: Tensor, position: list[int]) -> None:
    place = (slice(None), *position)
    masked[place] = features[place]


def row(prefix: int, *rest: int):
    """Tokens behind prefix tokens, on a grid of which all sides but the first are ``rest``."""

    def keep(masked: Tensor, features: Tensor, position: list[int]) -> None:
        place = prefix
        for index, entry in enumerate(position):
            place += entry * int(torch.tensor(rest[index:]).prod())
        masked[:, :prefix] = features[:, :prefix]
        masked[:, place] = features[:, place]

    return keep


class Patches(nn.Module):
    """A vision transformer of an image or a volume of any sides: class token, registers, RMS norms and layer scales."""

    def __init__(self, dims: int = 2, registers: int = 1, width: int = 16) -> None:
        super().__init__()
        self.patch = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](1, width, 4, 4)
        self.token, self.registers = nn.Parameter(torch.randn(1, 1, width)), nn.Parameter(torch.randn(registers, width))
        self.norm, self.scale = nn.RMSNorm(width), nn.Parameter(torch.randn(width))
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.block, self.head = nn.Identity(), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).mT
        x = torch.cat((self.token.expand(len(x), -1, -1), self.registers.expand(len(x), -1, -1), x), dim=1)
        x = self.block(x * self.scale)
        normed = self.norm(x)
        x = x + self.attention(normed, normed, normed)[0]
        return self.head(x[:, 0])


class ChannelsLast(nn.Module):
    """Reads images (N, h, w, C) and ends in such features."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.last, self.head = nn.Conv2d(1, 6, 3), nn.Identity(), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.convolution(x.permute(0, 3, 1, 2)).relu().permute(0, 2, 3, 1))
        return self.head((x * x).mean((1, 2)))


class Text(nn.Module):
    """Embedded words, read by a recurrent network."""

    def __init__(self, kind: type[nn.Module] = nn.GRU) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(30, 6), nn.Linear(5, 3)
        self.recurrent, self.features = kind(6, 5, batch_first=True), nn.Identity()

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.features(self.recurrent(self.embedding(words))[0])[:, -1])


def words() -> Tensor:
    return torch.randint(0, 30, (2, 6))


def convnext() -> nn.Module:
    return ConvNeXt([CNBlockConfig(8, 12, 1), CNBlockConfig(12, None, 1)], num_classes=3)


def swin() -> nn.Module:
    return SwinTransformer([2, 2], 8, [2, 2], [2, 2], [3, 3], num_classes=3)


def vit() -> nn.Module:
    return VisionTransformer(16, 4, 2, 2, 16, 32, num_classes=3)


MODELS = [
    ("convnext, as many channels as columns", convnext, "features.1", (3, 24, 32), first, (6, 8)),
    ("swin, windows padded and shifted", swin, "features.1", (3, 20, 24), last, (10, 12)),
    ("swin, windows that fit", swin, "features.1", (3, 24, 24), last, (12, 12)),
    ("swin, the last norm", swin, "norm", (3, 20, 24), last, (5, 6)),
    ("vit", vit, "encoder.layers.encoder_layer_1.ln_1", (3, 16, 16), row(1, 4), (4, 4)),
    ("vit, the first block", vit, "encoder.layers.encoder_layer_0", (3, 16, 16), row(1, 4), (4, 4)),
    ("oblong, registers, RMS norm", Patches, "norm", (1, 12, 20), row(2, 5), (3, 5)),
    ("oblong, layer scale", Patches, "block", (1, 20, 12), row(2, 3), (5, 3)),
    ("a volume", lambda: Patches(3), "norm", (1, 8, 12, 4), row(2, 3, 1), (2, 3, 1)),
    ("a signal", lambda: Patches(1), "norm", (1, 24), row(2), (6,)),
    ("channels last all along", ChannelsLast, "last", (6, 8, 1), last, (4, 6)),
    ("words", Text, "embedding", words, row(0), (6,)),
    ("read words", lambda: Text(nn.LSTM), "features", words, row(0), (6,)),
]


@pytest.mark.parametrize(
    ("make", "name", "shape", "keep", "grid"), [case[1:] for case in MODELS], ids=[case[0] for case in MODELS]
)
def test_maps_are_those_by_hand(make, name, shape, keep, grid):
    torch.manual_seed(0)
    model = make().double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    inputs = shape() if callable(shape) else torch.rand(2, *shape, dtype=torch.float64)
    layer = model.get_submodule(name)
    got = LayerReciproCam(model, layer).attribute(inputs, target=1)
    want = by_hand(model, layer, inputs, keep, grid)
    assert got.shape == want.shape
    assert want.std() > 1e-6
    torch.testing.assert_close(got, want, atol=1e-9, rtol=1e-9)
    around = LayerReciproCam(lambda x: model(x), layer).attribute(inputs, target=1)  # no module
    assert torch.equal(around, got)
    alone = LayerReciproCam(model, layer).attribute(inputs[:1], target=1)  # a single example is a dimension of length 1
    torch.testing.assert_close(alone, got[:1], atol=1e-9, rtol=1e-9)


SMALL = {"depth": 2, "embed_dim": 32, "num_heads": 2}
TIMM = [
    ("vit_small_patch14_dinov2", {"img_size": (56, 84), **SMALL}, (56, 84), "blocks.1.norm1", row(1, 6), (4, 6)),
    (
        "vit_small_patch14_reg4_dinov2",
        {"img_size": (56, 84), "dynamic_img_size": True, **SMALL},
        (84, 56),  # oblong the other way than it was built for
        "blocks.1.norm1",
        row(5, 4),
        (6, 4),
    ),
    ("vit_small_patch16_dinov3", {"img_size": (64, 96), **SMALL}, (64, 96), "blocks.1.norm1", row(5, 6), (4, 6)),
    ("deit3_small_patch16_224", {"img_size": (64, 96), **SMALL}, (64, 96), "blocks.0", row(1, 6), (4, 6)),
    ("vit_relpos_small_patch16_224", {"img_size": (64, 96), **SMALL}, (64, 96), "blocks.1", row(0, 6), (4, 6)),
    ("vit_base_patch16_siglip_224", {"img_size": (64, 96), **SMALL}, (64, 96), "blocks.1", row(0, 6), (4, 6)),
    ("vit_base_patch16_clip_224", {"img_size": (64, 96), **SMALL}, (64, 96), "blocks.1.norm1", row(1, 6), (4, 6)),
    ("aimv2_large_patch14_224", {"img_size": (56, 84), **SMALL}, (56, 84), "norm", row(0, 6), (4, 6)),
    ("resmlp_12_224", {"img_size": (64, 96)}, (64, 96), "norm", row(0, 6), (4, 6)),
    ("coat_lite_tiny", {"img_size": (64, 96)}, (64, 96), "serial_blocks4.1.norm1", row(1, 3), (2, 3)),
    ("efficientformer_l1", {}, (224, 224), "norm", row(0, 7), (7, 7)),
    ("pvt_v2_b0", {}, (32, 128), "stages.1", first, (4, 16)),
    ("gcvit_xxtiny", {"img_size": (64, 96)}, (64, 96), "stages.2", first, (4, 6)),
]


@pytest.mark.parametrize(("name", "options", "sides", "layer", "keep", "grid"), TIMM, ids=[case[0] for case in TIMM])
def test_maps_of_timm_are_those_by_hand(name, options, sides, layer, keep, grid):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3, **options).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        else:
            nn.init.ones_(parameter)  # layer scales begin at almost nothing
    image = torch.rand(1, 3, *sides)
    got = LayerReciproCam(model, model.get_submodule(layer)).attribute(image, target=1)
    want = by_hand(model, model.get_submodule(layer), image, keep, grid)
    assert got.shape == want.shape
    torch.testing.assert_close(got, want, atol=1e-4 * float(want.abs().max()), rtol=1e-3)
    assert float(want.std()) > 1e-6


# ---- what is refused, in words


class Folded(nn.Module):
    """Some views of each example, seen one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.features(x.flatten(0, 1)).mean((2, 3))
        return self.head(seen.unflatten(0, x.shape[:2]).mean(1))


def heads(x: Tensor) -> Tensor:
    return F.linear(x.flatten(2).mT, torch.rand(12, x.shape[1])).unflatten(2, (3, 4)).transpose(1, 2)


def windows(x: Tensor) -> Tensor:
    return F.conv2d(x, torch.rand(4, 3, 1, 1)).unflatten(3, (2, 4)).unflatten(2, (2, 3)).transpose(3, 4)


def lost(x: Tensor) -> Tensor:
    tokens = F.conv2d(x, torch.rand(4, 3, 1, 1)).flatten(2).mT
    return F.layer_norm(torch.fft.fft(tokens, dim=1).real, (4,))


REFUSED = {
    r"gives \(6, 4, 4, 6\), 6 maps for 2 examples: they belong to views, windows or frames": lambda x: F.conv2d(
        torch.stack((x, x, x), 1).flatten(0, 1), torch.rand(4, 3, 3, 3)
    ),
    r"gives \(48, 2, 5\), in which dimension 1 is that of the 2 examples": lambda x: F.linear(
        x.flatten(2).permute(2, 0, 1), torch.rand(5, 3)
    ),
    r"gives \(2, 3, 48, 4\), in which dimensions 1 and 3 are channels": heads,
    r"positions are those of windows, or in another order than in the image": windows,
    r"gives \(2, 3, 6, 8\), and it is not known which dimension is that of the channels": lambda x: x + 1,
    r"gives tokens \(2, 48, 4\), of which the grid is not known; declare it, as in "
    r"layout=FeatureLayout\(channels_last=True, prefix_tokens=0, grid=\(6, 8\)\)": lost,
    r"gives tokens \(2, 4, 12\), of which the grid is not known": lambda x: F.batch_norm(
        F.avg_pool1d(conv(x).flatten(2), 4), torch.zeros(4), torch.ones(4)
    ),
    r"gives \(2, 6, 4, 8\), in which the channels are dimension 2": lambda x: (
        F.conv2d(x, torch.rand(4, 3, 1, 1)).mT.transpose(1, 3).transpose(2, 3)
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_uncertain_layouts_are_refused(message):
    with pytest.raises(ValueError, match=message):
        layout_of(REFUSED[message], torch.rand(2, 3, 6, 8))


def test_views_in_the_batch_are_refused_and_not_suggested():
    model, views = Folded().eval(), torch.rand(2, 3, 3, 6, 8)
    for method in (LayerReciproCam, LayerScoreCam):
        with pytest.raises(ValueError, match="6 maps for 2 examples"):
            method(model, model.features).attribute(views, target=1)
    assert suggest_layers(model, views) == []


def test_attributes_of_a_model_do_not_override_the_data():
    model = Patches()
    model.num_prefix_tokens, model.patch_embed = 2, nn.Identity()
    model.patch_embed.grid_size = (5, 3)  # the sides that it was built for
    recipro_cam = LayerReciproCam(model.eval(), model.norm)
    assert recipro_cam.attribute(torch.rand(1, 1, 12, 20), target=1).shape == (1, 1, 3, 5)


# ---- functions, one by one


def conv(x: Tensor, sides: int = 2) -> Tensor:
    kernel = torch.rand(4, x.shape[1], *[1] * sides)
    return (F.conv1d, F.conv2d, F.conv3d)[sides - 1](x, kernel)


GRID = FeatureLayout(channels_last=True, grid=(6, 8))
FUNCTIONS = {
    "a convolution": (lambda x: conv(x), FeatureLayout()),
    "what a convolution reads": (lambda x: (conv(x), x)[1], FeatureLayout()),
    "what a linear layer reads": (lambda x: (F.linear(x.permute(0, 2, 3, 1), torch.rand(5, 3)), x)[1], FeatureLayout()),
    "tokens, channels first": (lambda x: conv(x).flatten(2), FeatureLayout(grid=(6, 8))),
    "a transposed convolution": (lambda x: F.conv_transpose2d(x, torch.rand(3, 4, 2, 2), stride=2), FeatureLayout()),
    "attention over channels": (
        lambda x: conv(x) * F.conv1d(x.mean((2, 3)).unsqueeze(1), torch.ones(1, 1, 1)).mT[:, :1, None].sigmoid(),
        FeatureLayout(),
    ),
    "windows, there and back": (
        lambda x: windows(x).transpose(3, 4).flatten(4, 5).flatten(2, 3),
        FeatureLayout(),
    ),
    "heads, there and back": (lambda x: heads(x).transpose(1, 2).flatten(2), GRID),
    "rolled, there and back": (lambda x: conv(x).roll((2, -1), (2, 3)).roll((-2, 1), (2, 3)), FeatureLayout()),
    "flipped, there and back": (lambda x: conv(x).flatten(2).flip(2).relu().flip(-1).mT, GRID),
    "a token-mixing layer": (
        lambda x: conv(x).flatten(2).mT + F.linear(conv(x).flatten(2), torch.rand(48, 48)).mT,
        GRID,
    ),
    "a class token, there and back": (
        lambda x: torch.cat((nn.Parameter(torch.rand(1, 1, 4)).expand(2, -1, -1), conv(x).flatten(2).mT), 1)[:, 1:],
        GRID,
    ),
    "einsum": (lambda x: torch.einsum("nchw,kc->nkhw", conv(x), torch.rand(5, 4)), FeatureLayout()),
    "a weight": (lambda x: conv(x).permute(0, 2, 3, 1) @ torch.rand(4, 5), LAST),
    "attention": (
        lambda x: F.scaled_dot_product_attention(*[conv(x).flatten(2).mT] * 3),
        GRID,
    ),
    "attention, step by step": (
        lambda x: (conv(x).flatten(2).mT @ conv(x).flatten(2)).softmax(-1) @ conv(x).flatten(2).mT,
        GRID,
    ),
    "a stride": (lambda x: conv(x).permute(0, 2, 3, 1)[:, ::2, 1::2], LAST),
    "an index": (lambda x: conv(x)[..., None, :, :][:, :, 0], FeatureLayout()),
    "patches by reshaping": (
        lambda x: F.linear(
            x.unflatten(3, (4, 2)).unflatten(2, (3, 2)).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2), torch.rand(5, 12)
        ),
        FeatureLayout(channels_last=True, grid=(3, 4)),
    ),
    "patches as columns": (lambda x: F.unfold(x, 2, stride=2).mT, FeatureLayout(channels_last=True, grid=(3, 4))),
    "a pooled half": (lambda x: F.max_pool2d(x, 2), FeatureLayout()),
    "copies": (lambda x: (conv(x).repeat(2, 1, 1, 1) + 1).unflatten(0, (2, 2))[1], FeatureLayout()),
    "interleaved copies": (lambda x: conv(x).repeat_interleave(3, 0).unflatten(0, (2, 3))[:, 2], FeatureLayout()),
    "a side of one": (lambda x: conv(x)[:, :, :1].flatten(2).unflatten(2, (1, 8)), FeatureLayout()),
    "columns of one": (lambda x: conv(x)[..., :1].flatten(2).view(2, 4, 6, 1), FeatureLayout()),
    "two halves": (lambda x: torch.cat(conv(x).chunk(2, 1)[::-1], 1), FeatureLayout()),
    "padded and cut": (lambda x: F.pad(conv(x), (1, 2, 0, 1))[:, :, :6, 1:-2], FeatureLayout()),
    "written in place": (lambda x: conv(x).mul_(2).relu_().transpose_(1, 3).transpose(1, 2), LAST),
    "a batch norm": (lambda x: F.batch_norm(x, torch.zeros(3), torch.ones(3)), FeatureLayout()),
    "resized": (lambda x: F.interpolate(conv(x), scale_factor=2), FeatureLayout()),
    "movedim": (lambda x: conv(x).movedim(1, -1), LAST),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_followed(name):
    function, wanted = FUNCTIONS[name]
    assert layout_of(function, torch.rand(2, 3, 6, 8)) == wanted


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_any_batch_and_precision(count, dtype):
    model = Patches().to(dtype).eval()
    maps = LayerReciproCam(model, model.norm).attribute(torch.rand(count, 1, 12, 20, dtype=dtype), target=1)
    assert maps.shape == (count, 1, 3, 5)


def test_autocast():
    model = Patches().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert LayerReciproCam(model, model.norm).attribute(torch.rand(1, 1, 12, 20), target=1).shape == (1, 1, 3, 5)


# ---- the tracker itself


def test_no_tensor_is_kept_alive():
    with AxisTracker((torch.rand(1, 3, 6, 8),)) as tracker:
        features = conv(torch.rand(1, 3, 6, 8))
        seen = weakref.ref(features)
        del features
        assert seen() is None
    assert tracker.random is None


def test_other_threads_are_not_watched():
    seen: list[Tensor] = []
    with AxisTracker((torch.rand(1, 3, 6, 8),)) as tracker:
        thread = threading.Thread(target=lambda: seen.append(conv(torch.rand(1, 3, 6, 8))))
        thread.start()
        thread.join()
    assert tracker.find(seen[0]) is None


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: F.dropout(x, 0.25), "dropout(p=0.25, training=True)"),
        (lambda x: F.dropout2d(conv(x)), "dropout2d(p=0.5, training=True)"),
        (lambda x: F.dropout(x, 0.0), None),
        (lambda x: F.dropout(x, 0.5, training=False), None),
        (lambda x: torch.dropout(x, 0.5, True), "dropout(p=0.5, training=True)"),
        (lambda x: F.rrelu(x, training=True), "rrelu(training=True)"),
        (lambda x: F.rrelu(x), None),
        (lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.1), "scaled_dot_product_attention(dropout_p=0.1)"),
    ],
)
def test_functions_that_drop_at_random(function, words):
    inputs = (torch.rand(2, 3, 6, 8),)
    with AxisTracker(inputs) as tracker:
        function(*inputs)
    assert tracker.random == words


# ---- the algebra of dimensions


def test_parts_that_turned_out_to_be_the_same_do_not_recurse():
    """Two unknown dimensions are one, and a part of the first meets the other: nothing is known, without an endless loop."""
    first, other, half = Atom(6), Atom(6), Atom(2)
    _, inner = first.part(2)
    merge((first,), (other,))
    merge((half, inner), (other,))
    assert size_of(resolve((other,))) == 6


def test_scattered_examples_are_not_mistaken_for_examples():
    dims = regroup(((Atom(2, "n"),), (Atom(5),)), (5, 2))
    assert all("n" in kinds(dim) and any(atom.turned for atom in dim) for dim in dims)


def test_parts_of_a_mixed_dimension_stay_mixed():
    atom = Atom(8, mixed=True)
    assert atom.part(2)[0].mixed
    assert atom.turn(3).mixed
    assert cut((atom,), 0, 4)[0].mixed
