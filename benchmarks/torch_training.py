"""Trains the PyTorch network on the batches that `benchmarks.torch_curves` wrote; one of a pair.

Needs torch, NumPy and safetensors alone, so it may run under another interpreter than the project;
`benchmarks.torch_curves` starts it, and tells it what to do in JSON lines on standard input.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import Tensor  # pyright: ignore[reportMissingImports]

from benchmarks.torch_network import TorchHybridHash
from benchmarks.torch_requests import answer
from benchmarks.torch_worker import check, load_weights, normalized


def main() -> None:
    answer(check, prepare)


def prepare(
    *, arrays: str, settings: str, weights: str, out: str, trains: bool, noise: float = 0.0
) -> Callable[[], float]:
    """What it returns trains (where it `trains`) and encodes once, writes `out`, tells seconds.

    Args:
      arrays: .npz with pixels uint8 [n, H, W, 3], labels [n, classes], places [steps, B] (of each
        batch in these), rows [steps, B] (of the bank), rates [steps], and query and database,
        uint8 images.
      settings: JSON, see `torch_curves`.
      weights: .safetensors in the authors' names.
      out: .npz for loss [steps], and the embeddings of query and database.
      noise: largest relative change of every weight before training, drawn from a fixed seed.
    """
    given = json.loads(Path(settings).read_text())

    if given["threads"]:
        torch.set_num_threads(given["threads"])

    def run() -> float:
        network = TorchHybridHash(given["sizes"])
        load_weights(network, Path(weights))
        _change(network, noise)
        with np.load(arrays) as file:
            data = {name: torch.from_numpy(file[name]) for name in file.files}
        started = time.perf_counter()
        losses = train(network, data, given) if trains else []
        seconds = time.perf_counter() - started
        sides: dict[str, Any] = {
            side: encode(network, data[side]) for side in ("query", "database")
        }
        np.savez(out, loss=np.asarray(losses), **sides)
        return seconds

    return run


def _change(network: TorchHybridHash, noise: float) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for own in network.parameters():
            own *= 1 + noise * (2 * torch.rand(own.shape, generator=generator) - 1)


def train(network: TorchHybridHash, data: dict[str, Tensor], given: dict[str, Any]) -> list[float]:
    """Takes the steps; returns the loss of each, before its update."""
    optimizer = make_optimizer(network, given["optimizer"])
    labels = data["labels"].float()
    rows = int(data["rows"].max()) + 1
    bank = torch.zeros(rows, given["sizes"]["bits"])
    bank_labels, seen = torch.zeros(rows, labels.shape[1]), torch.zeros(rows, dtype=torch.bool)
    network.train()
    losses = []
    for places, index, rate in zip(data["places"], data["rows"], data["rates"], strict=True):
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        optimizer.zero_grad()
        embeddings, own = network(normalized(data["pixels"][places])), labels[places]
        if given["loss"]["pairs"] == "batch":
            used = ~torch.eye(len(own), dtype=torch.bool)
            others, other_labels = embeddings, own
        else:
            bank[index], bank_labels[index], seen[index] = embeddings.detach(), own, True
            used = seen.expand(len(own), -1)
            others, other_labels = bank, bank_labels
        loss = pair_loss(embeddings, own, others, other_labels, used, given["loss"]["alpha"])
        loss.backward()
        if given["optimizer"]["clip_norm"] is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), given["optimizer"]["clip_norm"])
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def make_optimizer(network: TorchHybridHash, given: dict[str, Any]) -> Any:
    """PyTorch's own, with the decay on all but `given["no_decay"]`; rates are set step by step."""
    spared = set(given["no_decay"])
    named = list(network.named_parameters())
    unknown = spared - {name for name, _ in named}
    if unknown:
        raise ValueError(f"no parameters of the network: {sorted(unknown)}")
    groups = [
        {
            "params": [x for name, x in named if name not in spared],
            "weight_decay": given["weight_decay"],
        },
        {"params": [x for name, x in named if name in spared], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if given["name"] == "rmsprop":
        return torch.optim.RMSprop(groups, lr=0.0, alpha=0.99, eps=1e-8)
    if given["name"] == "adamw":
        betas = given["beta1"], given["beta2"]
        return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=1e-8)
    raise ValueError(f"optimizer {given['name']!r}; the twin has rmsprop and adamw")


def pair_loss(
    embeddings: Tensor,
    labels: Tensor,
    others: Tensor,
    other_labels: Tensor,
    used: Tensor,
    alpha: float,
) -> Tensor:
    """HybridHash's loss of the pairs that `used` [B, M] keeps: both means, of similar and others."""
    similar = labels @ other_labels.T > 0
    theta = alpha * embeddings @ others.T
    loss = F.softplus(theta) - similar * theta
    positive, negative = similar & used, ~similar & used
    return _mean(loss, positive) + _mean(loss, negative)


def _mean(loss: Tensor, kept: Tensor) -> Tensor:
    return (loss * kept).sum() / kept.sum().clamp(min=1)


def encode(network: TorchHybridHash, images: Tensor, batch_size: int = 250) -> np.ndarray:
    """The embeddings [N, bits] of uint8 images [N, H, W, 3]."""
    network.eval()
    with torch.inference_mode():
        parts = [network(normalized(part)).numpy() for part in images.split(batch_size)]
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
