"""Write tests/engine/pytorch_values.json: what PyTorch's optimizers and schedules do in 50 steps.

Needs PyTorch; the tests need only the file. Run from anywhere:

    python scripts/make_optimizer_values.py
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
)

OUTPUT = Path(__file__).resolve().parents[1] / "tests" / "engine" / "pytorch_values.json"
STEPS = 50
SHOWN = (1, 2, 10, 50)

START = [0.5, -1.0, 0.25, 2.0, -0.125, 1.0]
# integers by powers of two: the same in every precision
GRADIENTS = [
    [((37 * step + 23 * i + 11) % 64 - 29) / 2.0**power for i, power in enumerate((5, 8, 3, 20, 30))] + [0.0]
    for step in range(STEPS)
]
RATES = [0.125] * 20 + [0.03125] * (STEPS - 20)

# our name and settings, PyTorch's rule and settings
RULES: list[tuple[str, dict[str, Any], type[Optimizer], dict[str, Any]]] = [
    ("sgd", {}, SGD, {}),
    ("sgd", {"momentum": 0.9}, SGD, {"momentum": 0.9}),
    ("sgd", {"momentum": 0.9, "nesterov": True}, SGD, {"momentum": 0.9, "nesterov": True}),
    ("adam", {}, Adam, {}),
    ("adam", {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3}, Adam, {"betas": (0.8, 0.95), "eps": 1e-3}),
    ("adamw", {}, AdamW, {}),
]
DECAYS = (0.0, 0.0625)

# our name and settings, PyTorch's schedule of an optimizer
SCHEDULES: list[tuple[str, dict[str, Any], Callable[[Optimizer], LRScheduler]]] = [
    ("constant", {}, lambda o: ConstantLR(o, factor=1.0)),
    ("step", {}, lambda o: MultiStepLR(o, milestones=[17, 34])),
    ("step", {"gamma": 0.5, "at": [0.2, 0.5, 0.9]}, lambda o: MultiStepLR(o, [10, 25, 45], gamma=0.5)),
    ("cosine", {}, lambda o: CosineAnnealingLR(o, T_max=STEPS)),
    ("cosine", {"warmup": 0.2}, lambda o: SequentialLR(
        o, [LinearLR(o, start_factor=0.1, total_iters=10), CosineAnnealingLR(o, T_max=STEPS - 10)], [10])),
    # theirs counts from the first step to the last: the peak is at step pct_start total_steps - 1
    ("one-cycle", {}, lambda o: OneCycleLR(
        o, max_lr=1.0, total_steps=STEPS + 1, pct_start=16 / (STEPS + 1), cycle_momentum=False)),
]  # fmt: skip


def parameters(rule: type[Optimizer], settings: dict[str, Any], dtype: torch.dtype) -> list[list[float]]:
    """The parameters after the steps that are shown."""
    weights = torch.tensor(START, dtype=dtype, requires_grad=True)
    optimizer = rule([weights], foreach=False, **settings)  # type: ignore[call-arg]
    digits = 9 if dtype == torch.float32 else 17
    history = []
    for gradient, rate in zip(GRADIENTS, RATES, strict=True):
        weights.grad = torch.tensor(gradient, dtype=dtype)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        history.append([float(f"{value:.{digits}g}") for value in weights.tolist()])
    return [history[step - 1] for step in SHOWN]


def factors(schedule: Callable[[Optimizer], LRScheduler]) -> list[float]:
    """The learning rate, of 1, before every step and at the end."""
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    following = schedule(optimizer)
    found = [optimizer.param_groups[0]["lr"]]
    for _ in range(STEPS):
        optimizer.step()
        following.step()
        found.append(optimizer.param_groups[0]["lr"])
    return found


def main() -> None:
    warnings.simplefilter("ignore")  # SequentialLR warns of a call of its own
    rules = [
        {
            "name": name,
            "settings": {**ours, "weight_decay": decay},
            "float32": parameters(rule, {**theirs, "weight_decay": decay}, torch.float32),
            "float64": parameters(rule, {**theirs, "weight_decay": decay}, torch.float64),
        }
        for name, ours, rule, theirs in RULES
        for decay in DECAYS
    ]
    schedules = [
        {"name": name, "settings": settings, "factors": factors(schedule)}
        for name, settings, schedule in SCHEDULES
    ]
    inputs = {"start": START, "gradients": GRADIENTS, "rates": RATES, "shown": SHOWN}
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in inputs.items()]
    for key, rows in {"rules": rules, "schedules": schedules}.items():
        lines.append(f" {json.dumps(key)}: [\n  " + ",\n  ".join(json.dumps(row) for row in rows) + "\n ]")
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    OUTPUT.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
