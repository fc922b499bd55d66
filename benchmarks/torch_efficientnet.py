"""EfficientNet-Lite in plain PyTorch, for comparison, and the process that times it.

Needs torch and NumPy alone, so it may run under another interpreter than the project;
`benchmarks.efficientnet` starts it. Parameters have the names of the published files.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]
from torch.nn.utils.fusion import fuse_conv_bn_eval  # pyright: ignore[reportMissingImports]

from benchmarks.torch_requests import answer

# Of each stage: blocks, side of the depthwise kernel, stride of its first block, expansion, width.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_CLASSES = 1000


class Conv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding for whatever size comes."""

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size, side, stride in zip(x.shape[2:], self.kernel_size, self.stride, strict=True):
            total = max((math.ceil(size / stride) - 1) * stride + side - size, 0)
            pads.append((total // 2, total - total // 2))
        (top, bottom), (left, right) = pads
        if top == bottom and left == right:
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), 1, self.groups)
        x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)


def _conv(inputs: int, outputs: int, side: int = 1, stride: int = 1, groups: int = 1) -> Conv:
    return Conv(inputs, outputs, side, stride, groups=groups, bias=False)


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, side: int, stride: int, expansion: int):
        super().__init__()
        hidden = inputs * expansion
        self.expands = expansion > 1
        self.adds = stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv, self._bn0 = _conv(inputs, hidden), _norm(hidden)
        self._depthwise_conv = _conv(hidden, hidden, side, stride, groups=hidden)
        self._bn1 = _norm(hidden)
        self._project_conv, self._bn2 = _conv(hidden, outputs), _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class TorchEfficientNetLite0(nn.Module):
    """Normalised images [B, 3, H, W] -> logits [B, 1000]."""

    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = _conv(3, 32, 3, 2), _norm(32)
        blocks, inputs = [], 32
        for count, side, stride, expansion, outputs in _STAGES:
            for i in range(count):
                blocks.append(Block(inputs, outputs, side, 1 if i else stride, expansion))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = _conv(inputs, 1280), _norm(1280)
        self._fc = nn.Linear(1280, _CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """[B, 1280]."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self._fc(self.features(x))


def fold(network: nn.Module) -> None:
    """Puts every batch norm into the convolution before it."""
    for module in network.modules():
        pairs = (
            ("_conv_stem", "_bn0"), ("_conv_head", "_bn1"), ("_expand_conv", "_bn0"),
            ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"),
        )  # fmt: skip
        for conv, norm in pairs:
            if hasattr(module, conv):
                fused = fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm))
                setattr(module, conv, fused)
                setattr(module, norm, nn.Identity())


def main() -> None:
    torch.set_num_threads(1)
    answer(check, prepare)


def check(golden: Path, weights: str) -> float:
    """Largest difference to the golden numbers, relative to the largest of them; as it is, folded."""
    network = TorchEfficientNetLite0().eval()
    network.load_state_dict(torch.load(weights, weights_only=True), strict=True)
    expected = np.load(golden / "efficientnet_lite0.npz")
    repeat = int(expected["repeat"])
    pixels = expected["images_small"].repeat(repeat, 1).repeat(repeat, 2)
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128
    worst = 0.0
    for folded in (False, True):
        if folded:
            fold(network)
        with torch.inference_mode():
            found = {"features": network.features(images), "logits": network(images)}
        for name, own in found.items():
            difference = np.abs(own.numpy() - expected[name]).max() / np.abs(expected[name]).max()
            worst = max(worst, float(difference))
    return worst


def prepare(
    *, size: int, batch_size: int, work: str, folded: bool, channels_last: bool
) -> Callable[[], tuple[float, float]]:
    """Builds the network; what it returns does the work once and tells seconds (clock, processor).

    `work` is "encode" (forward) or "gradient" (of every weight, by running statistics).
    """
    torch.manual_seed(0)
    network = TorchEfficientNetLite0().eval()
    images = torch.randn(batch_size, 3, size, size)
    if folded:
        fold(network)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)

    def once() -> None:
        if work == "encode":
            with torch.inference_mode():
                network(images)
        else:
            network.zero_grad()
            network(images).square().mean().backward()

    def timed() -> tuple[float, float]:
        start = time.perf_counter(), time.process_time()
        once()
        return time.perf_counter() - start[0], time.process_time() - start[1]

    timed()
    return timed


if __name__ == "__main__":
    main()
