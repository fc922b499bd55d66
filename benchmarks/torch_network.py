"""The same network in plain PyTorch, for comparison; needs torch alone.

Parameters have the names that the authors' checkpoints use. Maps are [B, C, H, W], tokens
[B, T, N, C], as PyTorch users lay them out.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]


def _products(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    return scores.softmax(dim=-1) @ value


# What the authors wrote, and the fused operation that PyTorch has now.
ATTENTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "products": _products,
    "fused": F.scaled_dot_product_attention,
}


class Attention(nn.Module):
    """Self-attention among the N tokens of [..., N, C]; the head index runs fastest in its output."""

    def __init__(self, channels: int, heads: int, qkv_bias: bool, attention: str):
        super().__init__()
        self.heads, self.attention = heads, attention
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        *groups, tokens, channels = x.shape
        qkv = self.qkv(x).reshape(-1, tokens, 3, self.heads, channels // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [groups, heads, N, head_dim]
        out = ATTENTIONS[self.attention](query, key, value)
        return self.proj(out.permute(0, 2, 3, 1).reshape(*groups, tokens, channels))


class Mlp(nn.Module):
    def __init__(self, channels: int, hidden: int, gelu: str):
        super().__init__()
        self.approximate = {"exact": "none", "tanh": "tanh"}[gelu]
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate=self.approximate))


class TransformerLayer(nn.Module):
    """x + DropPath(Attention(LN(x))), then x + DropPath(MLP(LN(x))); drops while training."""

    def __init__(self, channels: int, heads: int, rate: float, options: dict[str, Any]):
        super().__init__()
        self.rate = rate
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = Attention(channels, heads, True, options["attention"])
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = Mlp(channels, int(channels * options["mlp_ratio"]), options["gelu"])

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._drop(self.attn(self.norm1(x)))
        return x + self._drop(self.mlp(self.norm2(x)))

    def _drop(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1 - self.rate
        mask = torch.rand(x.shape[0], 1, 1, 1, device=x.device) < keep
        return x * (mask / keep).to(x.dtype)


class GlobalAttention(nn.Module):
    """Attention among block tokens [B, C, h, w], laid out as `token_layout` says."""

    def __init__(self, channels: int, side: int, options: dict[str, Any]):
        super().__init__()
        self.layout = options["token_layout"]
        self.pos_embed_glo = nn.Parameter(torch.zeros(1, side * side, channels))
        inner = Attention(channels, options["token_heads"], False, options["attention"])
        self.qkv, self.proj = inner.qkv, inner.proj
        self.heads, self.attention = inner.heads, inner.attention

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        if self.layout == "reference":  # a token is a slice of channels
            tokens = x.reshape(batch, height * width, channels)
        else:
            tokens = x.flatten(2).transpose(1, 2)
        out = Attention.forward(self, tokens + self.pos_embed_glo)  # pyright: ignore
        return out.reshape(batch, height, width, channels).permute(0, 3, 1, 2)


class Pool(nn.Module):
    """The interaction module: 3x3 convolution plus the global branch, LayerNorm, max-pool."""

    def __init__(self, channels_in: int, channels: int, grid: int, options: dict[str, Any]):
        super().__init__()
        self.kernel, self.padding = options["pool_kernel"], options["pool_padding"]
        self.conv = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.full = options["interaction"] == "full"
        if self.full:
            self.conv_glo = nn.Conv2d(channels_in, channels, 1, bias=False)
            self.global_attention = GlobalAttention(channels, grid // self.kernel, options)
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.full:
            # Pooled before the 1x1 convolution, with which pooling commutes.
            tokens = self.global_attention(self.conv_glo(F.avg_pool2d(x, self.kernel)))
            y = y + F.interpolate(tokens, scale_factor=self.kernel, mode="bilinear")
        y = self.norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if self.padding == "symmetric":
            return F.max_pool2d(y, 3, 2, padding=1)
        return F.max_pool2d(F.pad(y, (0, 1, 0, 1), value=float("-inf")), 3, 2)


class Level(nn.Module):
    def __init__(
        self, channels: int, heads: int, rates: Sequence[float], grid: int, options: dict[str, Any]
    ):
        super().__init__()
        self.side = options["block_side"]
        blocks, tokens = (grid // self.side) ** 2, self.side**2
        self.pos_embed = nn.Parameter(torch.zeros(1, blocks, tokens, channels))
        layers = [TransformerLayer(channels, heads, rate, options) for rate in rates]
        self.transformer_encoder = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "pool"):
            x = self.pool(x)
        batch, channels, grid, _ = x.shape
        rows = grid // self.side
        x = x.permute(0, 2, 3, 1).reshape(batch, rows, self.side, rows, self.side, channels)
        x = x.transpose(2, 3).reshape(batch, rows**2, self.side**2, channels)
        x = self.transformer_encoder(x + self.pos_embed)
        x = x.reshape(batch, rows, rows, self.side, self.side, channels).transpose(2, 3)
        return x.reshape(batch, grid, grid, channels).permute(0, 3, 1, 2)


class HashLayer(nn.Module):
    """1x3 and 3x1 convolutions plus block tokens, max-pool, 1x1 convolution to the bits."""

    def __init__(self, channels: int, bits: int, grid: int, options: dict[str, Any]):
        super().__init__()
        self.kernel = options["pool_kernel"]
        self.convS1 = nn.Conv2d(channels, channels, (1, 3), padding=(0, 1))
        self.convS2 = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        self.global_attention = GlobalAttention(channels, grid // self.kernel, options)
        self.conv2 = nn.Conv2d(channels, bits, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.global_attention(F.avg_pool2d(x, self.kernel))
        y = self.convS2(self.convS1(x))
        y = y + F.interpolate(tokens, scale_factor=self.kernel, mode="bilinear")
        return self.conv2(F.max_pool2d(y, 3, 2, padding=1))


class PatchEmbed(nn.Module):
    def __init__(self, channels: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(3, channels, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class TorchHybridHash(nn.Module):
    """Normalised images [B, 3, H, W] -> embeddings [B, bits] in (-1, 1).

    Args:
      sizes: arguments of `hybridhash_jax.models.NestBackbone`, by the same names and with the same
        defaults where they are left out.
      attention: key of `ATTENTIONS`.
    """

    def __init__(self, sizes: dict[str, Any], attention: str = "products"):
        super().__init__()
        options: dict[str, Any] = _DEFAULTS | sizes | {"attention": attention}
        dims, depths = options["embed_dims"], options["depths"]
        grid = options["image_size"] // options["patch_size"]
        side = grid // 2 ** (len(dims) - 1)
        options["block_side"] = side
        options["pool_kernel"] = side if options["token_pooling"] == "block" else side // 2
        rates = torch.linspace(0, options["drop_path_rate"], sum(depths)).tolist()
        self.patch_embed = PatchEmbed(dims[0], options["patch_size"])
        self.levels = nn.ModuleList()
        for i, (channels, heads, depth) in enumerate(
            zip(dims, options["num_heads"], depths, strict=True)
        ):
            own, rates = rates[:depth], rates[depth:]
            level = Level(channels, heads, own, grid // 2**i, options)
            if i > 0:
                level.pool = Pool(dims[i - 1], channels, grid // 2 ** (i - 1), options)
            self.levels.append(level)
        self.norm = nn.LayerNorm(dims[-1], eps=1e-6)
        self.hashlayer_train = HashLayer(dims[-1], options["bits"], side, options)

    def forward(self, images: Tensor) -> Tensor:
        return self.stages(images)["embeddings"]

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs by the names of `HybridHash.stages`; maps as [B, C, H, W]."""
        x = self.patch_embed(images)
        out = {"patch_embed": x}
        for i, level in enumerate(self.levels):
            x = level(x)
            out[f"level{i}"] = x
        out["features"] = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        out["hash_conv"] = self.hashlayer_train(out["features"])
        return out | {"embeddings": out["hash_conv"].float().mean((2, 3)).tanh()}


_DEFAULTS: dict[str, Any] = {
    "image_size": 224,
    "patch_size": 4,
    "embed_dims": (128, 256, 512),
    "num_heads": (4, 8, 16),
    "depths": (2, 2, 15),
    "bits": 64,
    "mlp_ratio": 4.0,
    "token_heads": 8,
    "token_layout": "spatial",
    "token_pooling": "block",
    "interaction": "full",
    "pool_padding": "symmetric",
    "gelu": "exact",
    "drop_path_rate": 0.0,
}


def pairwise_loss(
    embeddings: Tensor, labels: Tensor, bank: Tensor, bank_labels: Tensor, index: Tensor
) -> Tensor:
    """HashNet's loss against a memory bank, as the authors compute it; writes into the bank.

    Args:
      embeddings: [B, K]. labels: [B, classes] multi-hot float. index: [B] rows of the bank.
      bank: [n, K] and bank_labels: [n, classes], overwritten at `index`. alpha is 0.5.
    """
    bank[index], bank_labels[index] = embeddings.detach().float(), labels
    similar = (labels @ bank_labels.T > 0).float()
    theta = 0.5 * embeddings @ bank.T
    loss = F.softplus(theta) - similar * theta
    positive = (loss * similar).sum() / similar.sum().clamp(min=1)
    return positive + (loss * (1 - similar)).sum() / (1 - similar).sum().clamp(min=1)
