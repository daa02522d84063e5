"""Train lenet on MNIST with PyTorch, the way somebody does who knows it: a whole process's yardstick.

The whole dataset is one tensor of bytes and a batch is taken from it by index, so there is no DataLoader;
channels_last and the fused optimizer are on, for they are faster here. The recipe is that of ``mnistnet
train``: the initial weights' spread (PyTorch's default), SGD with momentum and weight decay, a cosine from
the learning rate down to zero, the test set once at the end. With ``--fast`` it is the recipe fast.

    python scripts/train_pytorch.py --nb-epochs 3
"""

from __future__ import annotations

import argparse
import gzip
import math
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional


def read_idx(path: Path) -> torch.Tensor:
    raw = bytearray(gzip.decompress(path.read_bytes()))
    dimensions = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    return torch.frombuffer(raw, dtype=torch.uint8, offset=4 + 4 * dimensions).view(shape)


def lenet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def one_cycle(progress: float, peak: float = 0.2, start: float = 1 / 25) -> float:
    if progress < peak:
        return 1.0 + (start - 1.0) * cosine(progress / peak)
    return start / 1e4 + (1.0 - start / 1e4) * cosine((progress - peak) / (1.0 - peak))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train-data-dir", type=Path, default=Path("data"))
    parser.add_argument("--nb-epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="neither channels_last nor the fused optimizer")
    parser.add_argument("--fast", action="store_true", help="the recipe fast: Nesterov, one cycle, 2 epochs")
    args = parser.parse_args()
    if args.fast:
        args.nb_epochs, args.learning_rate = 2, 0.1

    torch.manual_seed(args.seed)
    layout = torch.contiguous_format if args.plain else torch.channels_last
    folder: Path = args.train_data_dir
    images = read_idx(folder / "train-images-idx3-ubyte.gz")[:, None]
    labels = read_idx(folder / "train-labels-idx1-ubyte.gz").long()
    model = lenet().to(memory_format=layout)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=args.learning_rate,
        momentum=args.momentum,
        weight_decay=args.weight_decay,
        nesterov=args.fast,
        fused=not args.plain,
    )

    count, size = len(labels), args.batch_size
    steps = math.ceil(count / size)
    done = 0
    for epoch in range(1, args.nb_epochs + 1):
        total = torch.zeros(())
        for index in torch.randperm(count).split(size):
            progress = done / (steps * args.nb_epochs)
            for group in optimizer.param_groups:
                group["lr"] = args.learning_rate * (one_cycle if args.fast else cosine)(progress)
            chosen = images.index_select(0, index)  # takes half as long as images[index]
            x = chosen.to(torch.float32).div_(255).contiguous(memory_format=layout)
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x), labels.index_select(0, index))
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(index)
            done += 1
        print(f"epoch {epoch}/{args.nb_epochs}: loss {total.item() / count:.4f}", flush=True)

    test_images = read_idx(folder / "t10k-images-idx3-ubyte.gz")[:, None]
    test_labels = read_idx(folder / "t10k-labels-idx1-ubyte.gz")
    correct = 0
    with torch.inference_mode():
        for x, y in zip(test_images.split(500), test_labels.split(500), strict=True):
            x = x.to(torch.float32).div_(255).contiguous(memory_format=layout)
            correct += int((model(x).argmax(dim=1) == y).sum())
    print(f"Test accuracy: {100 * correct / len(test_labels):.2f} % ({correct} of {len(test_labels)})")


if __name__ == "__main__":
    main()
