"""Times the PyTorch network on request: JSON lines on standard input, one answer a line.

Needs torch, NumPy and safetensors only, so it may run under another interpreter than the project.
`benchmarks.torch_baseline` starts it.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch  # pyright: ignore[reportMissingImports]

from benchmarks.torch_network import TorchHybridHash, pairwise_loss
from benchmarks.torch_requests import answer

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLASSES, _BANK_ROWS = 10, 10_000


def main() -> None:
    answer(check, prepare)


def load_weights(network: TorchHybridHash, path: Path) -> None:
    """Loads .safetensors in the authors' names, but for a layer that their code never uses."""
    kept = safetensors.torch.load_file(path)
    used = {name: x for name, x in kept.items() if not name.startswith("FcLayer.")}
    network.load_state_dict(used, strict=True)


def normalized(images: torch.Tensor) -> torch.Tensor:
    """uint8 [B, H, W, 3] as the network takes them, float32 [B, 3, H, W]."""
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (_MEAN, _STD))
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std


def check(golden: Path) -> float:
    """Largest difference to the golden stages and codes, relative to each one's largest value."""
    worst = 0.0
    for layout in ("reference", "spatial"):
        sizes = json.loads((golden / f"tiny16_{layout}.json").read_text())
        names = ("embed_dims", "num_heads", "depths", "bits")
        network = TorchHybridHash({n: sizes[n] for n in names} | {"token_layout": layout}).eval()
        load_weights(network, golden / f"tiny16_{layout}.safetensors")
        expected = np.load(golden / f"tiny16_{layout}.npz")
        images = normalized(torch.from_numpy(expected["images"]))
        with torch.inference_mode():
            stages = network.stages(images)
        found = {n: x.permute(0, 2, 3, 1)[:1].numpy() for n, x in stages.items() if x.ndim == 4}
        found["codes"] = stages["embeddings"].numpy()
        for name, own in found.items():
            theirs = expected[name]
            worst = max(worst, float(np.abs(own - theirs).max() / np.abs(theirs).max()))
    return worst


def prepare(
    *,
    sizes: dict[str, Any],
    attention: str,
    batch_size: int,
    bfloat16: bool,
    compiled: bool,
    work: str,
    threads: int | None,
) -> Callable[[], float]:
    """Builds the network; what it returns does the work once and tells the seconds.

    Args:
      sizes, attention: see `TorchHybridHash`.
      work: "encode" (forward), "gradient" (forward and backward) or "train_step".
      threads: of PyTorch on CPU; None leaves them.
    """
    if threads:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    network = TorchHybridHash(sizes, attention).to(device)
    run: Any = torch.compile(network) if compiled else network
    side = sizes["image_size"]
    images = torch.randn(batch_size, 3, side, side, device=device)
    index = torch.arange(batch_size, device=device)
    labels = torch.eye(_CLASSES, device=device)[index % _CLASSES]
    bank = torch.zeros(_BANK_ROWS, sizes["bits"], device=device)
    bank_labels = torch.zeros(_BANK_ROWS, _CLASSES, device=device)
    optimizer = torch.optim.RMSprop(
        network.parameters(), lr=2.5e-5, alpha=0.99, eps=1e-8, weight_decay=1e-5
    )

    def embed() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            return run(images)

    def once() -> None:
        if work == "encode":
            network.eval()
            with torch.inference_mode():
                embed()
            return
        network.train()
        optimizer.zero_grad()
        pairwise_loss(embed(), labels, bank, bank_labels, index).backward()
        if work == "train_step":
            optimizer.step()

    def timed() -> float:
        start = time.perf_counter()
        once()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    timed()  # compiles, and allocates the optimizer's state
    return timed


if __name__ == "__main__":
    main()
