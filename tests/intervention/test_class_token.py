"""Maps of transformers whose last attention reads the positions: the short way against copies that are really masked."""

from __future__ import annotations

import random
import warnings

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_softcam import LayerReciproCam
from captum_softcam._intervention import masks, token_copies

GRID, WIDTH, HEADS = (2, 3), 8, 2
TOKENS = GRID[0] * GRID[1]


def grid_bias(tokens: int) -> Tensor:
    return torch.linspace(-1, 1, HEADS * tokens * tokens, dtype=torch.float64).view(HEADS, tokens, tokens)


class Attention(nn.Module):
    """Self-attention as libraries write it; ``extra`` names what some of them add."""

    def __init__(self, style: str, extra: frozenset[str], prefix: int) -> None:
        super().__init__()
        self.style, self.extra, self.prefix = style, extra, prefix
        if style == "torch":
            self.inner = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.q_norm, self.k_norm = nn.LayerNorm(WIDTH // HEADS), nn.LayerNorm(WIDTH // HEADS)
        self.mix, self.gate, self.drop = nn.Linear(HEADS, HEADS), nn.Linear(WIDTH, WIDTH), nn.Dropout(0.1)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (N, heads, L, d)."""
        count, length, _ = x.shape
        if self.style == "separate":  # as in transformers
            shape = (*x.shape[:-1], -1, WIDTH // HEADS)
            return tuple(layer(x).view(shape).transpose(1, 2) for layer in (self.query, self.key, self.value))
        if self.style == "chunks":
            return tuple(part.unflatten(-1, (HEADS, -1)).movedim(2, 1) for part in self.qkv(x).chunk(3, -1))
        return self.qkv(x).reshape(count, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4).unbind(0)

    def rotate(self, part: Tensor) -> Tensor:
        angles = torch.arange(part.shape[2] - self.prefix, dtype=part.dtype)[:, None] * torch.tensor([0.3, 0.7]).to(part)
        grid = part[:, :, self.prefix :]
        turned = torch.stack((-grid[..., 1::2], grid[..., ::2]), -1).reshape(grid.shape)
        cos, sin = angles.cos().repeat_interleave(2, -1), angles.sin().repeat_interleave(2, -1)
        return torch.cat((part[:, :, : self.prefix], grid * cos + turned * sin), 2).type_as(part)

    def forward(self, x: Tensor) -> Tensor:
        if self.style == "torch":
            return self.inner(x, x, x, need_weights=False)[0]
        query, key, value = self.parts(x)
        if "normed" in self.extra:
            query, key = self.q_norm(query), self.k_norm(key)
        if "rotated" in self.extra:
            query, key = self.rotate(query), self.rotate(key)
        bias = grid_bias(x.shape[1]) if "biased" in self.extra else None
        if self.style == "fused":
            read = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        else:
            scores = torch.matmul(query, key.transpose(2, 3)) * (WIDTH // HEADS) ** -0.5
            scores = scores if bias is None else scores + bias
            if "mixed" in self.extra:  # talking heads
                scores = self.mix(scores.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            weights = self.drop(F.softmax(scores, dim=-1, dtype=torch.float64).to(query.dtype))
            read = weights @ value
        read = read.transpose(1, 2).reshape(*x.shape[:-1], -1).contiguous()
        return self.proj(read * self.gate(x).sigmoid() if "gated" in self.extra else read)


class Block(nn.Module):
    def __init__(self, style: str, extra: frozenset[str], prefix: int) -> None:
        super().__init__()
        self.extra = extra
        self.norm1, self.attention = nn.LayerNorm(WIDTH), Attention(style, extra, prefix)
        self.norm2, self.mlp = nn.LayerNorm(WIDTH), nn.Sequential(nn.Linear(WIDTH, 12), nn.GELU(), nn.Linear(12, WIDTH))
        self.gamma = nn.Parameter(torch.rand(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        read = self.attention(normed)
        read = read.mul_(self.gamma) if "scaled" in self.extra else read
        if "parallel" in self.extra:
            return x + read + self.mlp(normed)
        x = x + read
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Two blocks behind a patch embedding, read in one of several ways.

    Args:
        style (str): of the attention.
        extra (iterable of str): what it adds.
        prefix (int): class tokens and registers.
        reads (str): the tokens that the head reads.
    """

    def __init__(self, style: str = "fused", extra: object = (), prefix: int = 1, reads: str = "class") -> None:
        super().__init__()
        self.reads, self.prefix = reads, prefix
        self.patch, self.tokens = nn.Conv2d(3, WIDTH, 4, 4), nn.Parameter(torch.randn(1, prefix, WIDTH))
        self.blocks = nn.Sequential(*(Block(style, frozenset(extra), prefix) for _ in range(2)))
        self.norm, self.head, self.other = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = self.norm(self.blocks(torch.cat((self.tokens.expand(len(x), -1, -1), x), 1)))
        if self.reads == "class and distillation":
            return (self.head(x[:, 0]) + self.other(x[:, 1])) / 2
        if self.reads == "all prefix tokens":
            return self.head(x[:, : self.prefix].mean(1))
        return self.head(x[:, self.prefix :].mean(1) if self.reads == "grid" else x[:, 0, :])


class ClassAttention(nn.Module):
    """As in CaiT: the class token joins behind the blocks, and two attentions have it as their only query."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, WIDTH, 4, 4), nn.Parameter(torch.randn(1, 1, WIDTH))
        self.last, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.maps = nn.ModuleList(nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4)) for _ in range(2))
        self.gamma = nn.Parameter(torch.rand(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.patch(x).flatten(2).transpose(1, 2))
        token = self.token.expand(len(x), -1, -1)
        for norm, (query, key, value, proj) in zip(self.norms, self.maps, strict=True):
            seen = norm(torch.cat((token, x), dim=1))
            shape = (len(x), seen.shape[1], HEADS, WIDTH // HEADS)
            q = query(seen[:, 0]).unsqueeze(1).reshape(len(x), 1, *shape[2:]).permute(0, 2, 1, 3)
            k, v = (layer(seen).reshape(shape).permute(0, 2, 1, 3) for layer in (key, value))
            read = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(len(x), 1, WIDTH)
            token = token + self.gamma * proj(read)
        return self.head(torch.cat((token, x), dim=1)[:, 0])


class Probed(nn.Module):
    """As in SigLIP: a learned query reads the tokens."""

    def __init__(self, inner: bool = True) -> None:
        super().__init__()
        self.patch, self.probe, self.last = (
            nn.Conv2d(3, WIDTH, 4, 4),
            nn.Parameter(torch.randn(1, 1, WIDTH)),
            nn.LayerNorm(WIDTH),
        )
        self.attention, self.kv = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True), nn.Linear(WIDTH, 2 * WIDTH)
        self.inner, self.head = inner, nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.patch(x).flatten(2).transpose(1, 2))
        probe = self.probe.repeat(len(x), 1, 1)
        if self.inner:
            return self.head(self.attention(probe, x, x)[0][:, 0])
        key, value = self.kv(x).chunk(2, -1)
        return self.head((torch.bmm(probe, key.mT).softmax(-1) @ value).squeeze(1))


def made(model: nn.Module, seed: int = 0, scale: float = 1.0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.double().eval().parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def images(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 4 * GRID[0], 4 * GRID[1], dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def by_hand(model: nn.Module, layer: nn.Module, inputs: Tensor, prefix: int, kernel=((1.0,),), spread=False) -> Tensor:
    """The maps of class 1, by masking the output of the layer in a hook."""
    return torch.stack([_of_one(model, layer, image[None], prefix, kernel, spread) for image in inputs])[:, None]


def _of_one(model: nn.Module, layer: nn.Module, image: Tensor, prefix: int, kernel, spread: bool) -> Tensor:
    seen: list[Tensor] = []
    with layer.register_forward_hook(lambda _module, _args, output: seen.append(output.clone())):
        model(image)
    tokens = seen[-1]

    def tail(masked: Tensor) -> Tensor:
        kept = torch.cat((tokens[:, :prefix], masked.flatten(2).mT), 1)
        with layer.register_forward_hook(lambda *_: kept):
            return model(image)

    return oracles.recipro_cam(tokens[0, prefix:].T.unflatten(1, GRID), tail, 1, kernel, spread)


@pytest.fixture
def slow(monkeypatch):
    """The calls that take the slow way."""
    calls: list[str] = []
    record = masks.record
    monkeypatch.setattr(masks, "record", lambda *args, **kwargs: calls.append("slow") or record(*args, **kwargs))
    return calls


def check(model: nn.Module, layer: nn.Module, prefix: int, inputs: Tensor, **options: object) -> None:
    kernel = {"gaussian": oracles.GAUSSIAN, "gaussian_spread": oracles.GAUSSIAN}.get(options.get("mask"), ((1.0,),))
    if isinstance(options.get("mask"), Tensor):
        kernel = options["mask"].tolist()
    want = by_hand(model, layer, inputs, prefix, kernel, options.get("mask") == "gaussian_spread")
    got = LayerReciproCam(model, layer).attribute(inputs, target=1, **options)
    assert float(want.flatten(1).std(1).max()) > 1e-6
    torch.testing.assert_close(got, want, atol=1e-9, rtol=1e-9)


SHORT = {
    "torch's": ("torch", (), 1, "class"),
    "timm's": ("fused", (), 1, "class"),
    "step by step": ("steps", (), 1, "class"),
    "Hugging Face's": ("separate", (), 1, "class"),
    "chunks": ("chunks", (), 1, "class"),
    "normalised queries and keys, layer scales": ("fused", ("normed", "scaled"), 1, "class"),
    "rotated, registers": ("fused", ("rotated",), 3, "class"),
    "a bias by relative position": ("separate", ("biased",), 1, "class"),
    "a bias in one function": ("fused", ("biased",), 1, "class"),
    "talking heads": ("steps", ("mixed",), 1, "class"),
    "gated, in parallel": ("steps", ("gated", "parallel"), 1, "class"),
    "distilled": ("separate", (), 2, "class and distillation"),
    "registers that are read": ("fused", (), 4, "all prefix tokens"),
}


@pytest.mark.parametrize("name", SHORT)
def test_attention_is_followed(name, slow):
    style, extra, prefix, reads = SHORT[name]
    model = made(Transformer(style, extra, prefix, reads))
    check(model, model.blocks[1].norm1, prefix, images())
    check(model, model.blocks[1].norm1, prefix, images(1))
    assert not slow, "the tail is followed in one forward"


@pytest.mark.parametrize("mask", ["gaussian", "gaussian_spread", torch.tensor([[0.5, 1.0, 0.0]]).double()], ids=str)
@pytest.mark.parametrize("style", ["torch", "fused", "separate"])
def test_masks_of_several_weights(style, mask, slow):
    model = made(Transformer(style, (), 2))
    check(model, model.blocks[1].norm1, 2, images(), mask=mask)
    assert not slow


@pytest.mark.parametrize("mask", ["one_hot", "gaussian", "gaussian_spread"])
@pytest.mark.parametrize("model", [ClassAttention(), Probed(), Probed(inner=False)], ids=lambda model: type(model).__name__)
def test_tokens_that_an_attention_pools(model, mask, slow):
    made(model)
    check(model, model.last, 0, images(), mask=mask)
    check(model, model.last, 0, images(1), mask=mask)
    assert not slow


def test_a_mean_over_the_grid_behind_prefix_tokens(slow):
    model = made(Transformer(prefix=2, reads="grid"))
    check(model, model.norm, 2, images(), mask="gaussian")
    check(model, model.norm, 2, images(), mask="gaussian_spread")
    assert not slow


SLOW = {
    "an earlier block": (("fused", (), 1, "class"), "blocks.0.norm1", "one_hot"),
    "positions that change what is spread": (("fused", ("rotated",), 1, "class"), "blocks.1.norm1", "gaussian_spread"),
    "all tokens are read behind the attention": (("steps", (), 1, "grid"), "blocks.1.norm1", "one_hot"),
}


@pytest.mark.parametrize("name", SLOW)
def test_the_rest_is_run_on_copies(name, slow):
    (style, extra, prefix, reads), layer, mask = SLOW[name]
    model = made(Transformer(style, extra, prefix, reads))
    check(model, model.get_submodule(layer), prefix, images(), mask=mask)
    assert slow


def test_too_many_copies_are_run_some_at_a_time(slow, monkeypatch):
    monkeypatch.setattr(token_copies, "_MANY", 10)
    model = made(Transformer())
    check(model, model.blocks[1].norm1, 1, images())
    assert slow


class OutOfSight(Transformer):
    """Its scores depend on the tokens in a way that no function of torch shows."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.scale = how, nn.Parameter(torch.ones(1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scripting is on its way out
            self.scripted = torch.jit.script(nn.Linear(WIDTH, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = self.blocks[0](torch.cat((self.tokens.expand(len(x), -1, -1), x), 1))
        normed = self.blocks[1].norm1(x)
        token = self.norm((x + self.blocks[1].attention(normed))[:, 0])
        if self.how == "a number":
            return self.head(token) * torch.tensor(normed.mean((1, 2)).tolist(), dtype=x.dtype)[:, None]
        if self.how == "a decision":
            return self.head(token) * (2 if normed[0, -1].sum() > 0 else 1)
        if self.how == "an alias":
            before = token.view(token.shape)
            token.mul_(2).add_(1)
            return self.head(before) + self.other(token)
        return self.head(token) + self.scripted(token)


@pytest.mark.parametrize("how", ["a number", "a decision", "an alias", "a script"])
def test_what_cannot_be_followed_is_never_wrong(how):
    model = made(OutOfSight(how))
    check(model, model.blocks[1].norm1, 1, images(1))


def test_a_wrong_rule_falls_back(monkeypatch, slow):
    """One masked copy of every example has to have the score that the model itself gives it."""
    right = token_copies.attend
    calls: list[int] = []

    def wrong(attention, values, given):
        calls.append(1)
        read = right(attention, values, given)
        rows = read.rows.clone()
        rows[torch.arange(len(rows)) % given.number != given.number - 1] *= 1.01  # all but the untouched copies
        return token_copies.Copies(read.roles, rows, {}, read.length)

    monkeypatch.setattr("captum_softcam._intervention.class_token.attend", wrong)
    model = made(Transformer())
    check(model, model.blocks[1].norm1, 1, images())
    assert calls
    assert slow


@pytest.mark.parametrize("seed", range(12))
def test_any_combination(seed):
    """At random: whichever way is taken, the map is that of copies that are really masked."""
    draw = random.Random(seed)
    style = draw.choice(("torch", "fused", "steps", "separate", "chunks"))
    known = ("normed", "rotated", "biased", "mixed", "gated", "scaled", "parallel")
    extra = () if style == "torch" else tuple(name for name in known if draw.random() < 0.4)
    prefix = draw.randint(1, 4)
    reads = draw.choice(("class", "all prefix tokens", "grid", "class and distillation")[: 4 if prefix > 1 else 3])
    model = made(Transformer(style, extra, prefix, reads), seed)
    layer = model.get_submodule(draw.choice(("blocks.1.norm1", "blocks.1.norm1", "norm", "blocks.0")))
    if layer is model.norm and reads != "grid":
        layer = model.blocks[1].norm1  # behind the attention, the other tokens say nothing
    mask = draw.choice(("one_hot", "gaussian", "gaussian_spread"))
    # As many examples as tokens, classes or channels: what is told apart by its place must not be told apart by its length
    check(model, layer, prefix, images(draw.choice((1, 2, 3, TOKENS))), mask=mask)


# ---- the libraries' own


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", {}),
        ("deit_tiny_distilled_patch16_224", {}),
        ("vit_small_patch14_reg4_dinov2", {}),
        ("eva02_tiny_patch14_224", {"global_pool": "token"}),
        ("vit_small_patch16_dinov3", {"global_pool": "token"}),
        ("beit_base_patch16_224", {"global_pool": "token"}),
        ("cait_xxs24_224", {}),
        ("vit_base_patch16_siglip_224", {}),
    ],
)
def test_timm(name, options, slow):
    timm = pytest.importorskip("timm")
    patch = 14 if "patch14" in name else 16
    sides = (patch * GRID[0], patch * GRID[1])
    model = timm.create_model(name, num_classes=3, img_size=sides, depth=2, embed_dim=32, num_heads=4, **options)
    model = made(model, scale=0.5)  # of larger weights, the softmax of CaiT ignores the patches
    layer = getattr(model, "blocks_token_only", model.blocks)[-1].norm1 if "siglip" not in name else model.norm
    prefix = 1 if "cait" in name else model.num_prefix_tokens
    inputs = torch.rand(2, 3, *sides, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    check(model, layer, prefix, inputs)
    assert not slow


TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "patch_size": 4}
HUGGING_FACE = {
    "ViT": ("ViT", {}, 1, "vit.layers.1.layernorm_before"),
    "ViT, eager": ("ViT", {"attn_implementation": "eager"}, 1, "vit.layers.1.layernorm_before"),
    "DeiT, distilled": ("DeiT", {}, 2, "deit.layers.1.layernorm_before"),
    "BEiT": ("Beit", {"use_mean_pooling": False, "use_relative_position_bias": True}, 1, "beit.layers.1.layernorm_before"),
}


@pytest.mark.parametrize("name", HUGGING_FACE)
def test_hugging_face(name, slow):
    transformers = pytest.importorskip("transformers")
    kind, options, prefix, layer = HUGGING_FACE[name]
    sides = [4 * side for side in GRID]
    config = getattr(transformers, f"{kind}Config")(image_size=sides, num_labels=3, **TINY, **options)
    suffix = "WithTeacher" if kind == "DeiT" else ""
    inner = made(getattr(transformers, f"{kind}ForImageClassification{suffix}")(config))

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.model(x).logits

    check(Logits().eval(), inner.get_submodule(layer), prefix, images())
    assert not slow
