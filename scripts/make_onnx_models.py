"""Make ONNX models as other tools export them: PyTorch's two exporters, and one like CNTK's zoo.

    python scripts/make_onnx_models.py FOLDER            trained for a while on the images in data/
    python scripts/make_onnx_models.py FOLDER --small    as in tests/formats/models/: untrained, few weights

PyTorch's need torch and onnxscript; without them only the others are made.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mnistnet.data import load_data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", action="store_true", help="few weights, no training")
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in {"cntk": cntk_like(), "keras": keras_like()}.items():
        onnx.checker.check_model(model, full_check=True)
        onnx.save_model(model, folder / f"{name}.onnx")
    try:
        import torch
    except ImportError:
        sys.stderr.write("PyTorch is not installed: its models are left out\n")
        return
    torch.manual_seed(0)
    for name, module in torch_modules(torch, hidden=16 if arguments.small else 128).items():
        if not arguments.small:
            fit(torch, module)
        export_old(torch, module.eval(), folder / f"{name}-old.onnx", folded=name != "batchnorm")
        export_new(torch, module.eval(), folder / f"{name}-new.onnx")


def export_old(torch: Any, module: Any, path: Path, *, folded: bool) -> None:
    """By TorchScript; unless ``folded``, batch normalization stays a node of its own."""
    mode = torch.onnx.TrainingMode
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(1, 1, 28, 28),),
            path,
            dynamo=False,
            opset_version=13,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
            do_constant_folding=folded,
            training=mode.EVAL if folded else mode.PRESERVE,
        )


def export_new(torch: Any, module: Any, path: Path) -> None:
    """By torch.export; without the notes on where in which file every node comes from."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(2, 1, 28, 28),),
            path,
            dynamo=True,
            external_data=False,
            verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    model = onnx.load(path)
    graph = model.graph
    for item in [*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph]:
        del item.metadata_props[:]
    onnx.save_model(model, path)


def torch_modules(torch: Any, hidden: int) -> dict[str, Any]:
    nn = torch.nn
    functional = torch.nn.functional

    class Viewed(nn.Module):  # type: ignore[misc,name-defined]
        """LeNet as it is mostly written: functions, and a view that asks for the batch's size."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 8, 5), nn.Conv2d(8, 16, 5)
            self.hidden, self.last = nn.Linear(256, hidden), nn.Linear(hidden, 10)

        def forward(self, x: Any) -> Any:
            x = functional.max_pool2d(functional.relu(self.first(x)), 2)
            x = functional.max_pool2d(functional.relu(self.second(x)), 2)
            x = functional.relu(self.hidden(x.view(x.size(0), -1)))
            return functional.log_softmax(self.last(x), dim=1)

    return {
        "lenet": Viewed(),
        "mlp": nn.Sequential(nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10)),
        "batchnorm": _used(
            torch,
            nn.Sequential(
                nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Conv2d(8, 16, 3, stride=2, padding=1),
                nn.BatchNorm2d(16),
                nn.LeakyReLU(0.1),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Dropout(0.25),
                nn.Linear(16, 10),
                nn.Softmax(dim=1),
            ),
        ),
        "groups": nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8),
            nn.Conv2d(8, 16, 1, groups=2),
            nn.ReLU(),
            nn.AvgPool2d(4),
            nn.Flatten(),
            nn.Linear(16 * 49, 10),
        ),
    }


def _used(torch: Any, module: Any) -> Any:
    """The module with running statistics that are not those of the first day."""
    for _ in range(10):
        module.train()(torch.rand(32, 1, 28, 28))
    return module


def fit(torch: Any, module: Any, steps: int = 400) -> None:
    """Train a while, so that the answers are worth comparing."""
    train = load_data(Path(__file__).parents[1] / "data").train
    images, labels = torch.tensor(train.images), torch.tensor(train.labels)
    optimizer = torch.optim.Adam(module.parameters(), 2e-3)
    ends_in_softmax = isinstance(list(module.modules())[-1], torch.nn.Softmax)
    module.train()
    for _ in range(steps):
        chosen = torch.randint(len(images), (64,))
        found = module(images[chosen].float() / 255)
        # cross-entropy takes logits; a log_softmax in front of it changes nothing
        loss = torch.nn.functional.cross_entropy(found.log() if ends_in_softmax else found, labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def cntk_like() -> onnx.ModelProto:
    """The form of the zoo's MNIST model: auto_pad, biases that are added, a reshaped weight, a batch of 1."""
    rng = np.random.default_rng(0)
    weights = {
        "conv1": rng.standard_normal((8, 1, 5, 5)) * 0.2,
        "bias1": rng.standard_normal((8, 1, 1)) * 0.1,
        "conv2": rng.standard_normal((16, 8, 5, 5)) * 0.1,
        "bias2": rng.standard_normal((16, 1, 1)) * 0.1,
        "dense": rng.standard_normal((16, 4, 4, 10)) * 0.1,
        "bias3": rng.standard_normal((1, 10)) * 0.1,
    }
    shapes = {"flat": [1, 256], "matrix": [256, 10]}
    same = {"auto_pad": "SAME_UPPER", "kernel_shape": [5, 5], "strides": [1, 1], "dilations": [1, 1]}
    node = helper.make_node
    nodes = [
        node("Conv", ["Input3", "conv1"], ["c1"], name="Convolution28", group=1, **same),
        node("Add", ["c1", "bias1"], ["a1"], name="Plus30"),
        node("Relu", ["a1"], ["r1"], name="ReLU32"),
        node("MaxPool", ["r1"], ["p1"], name="Pooling66", **_pool(2)),
        node("Conv", ["p1", "conv2"], ["c2"], name="Convolution110", group=1, **same),
        node("Add", ["c2", "bias2"], ["a2"], name="Plus112"),
        node("Relu", ["a2"], ["r2"], name="ReLU114"),
        node("MaxPool", ["r2"], ["p2"], name="Pooling160", **_pool(3)),
        node("Reshape", ["p2", "flat"], ["f"], name="Times212_reshape0"),
        node("Reshape", ["dense", "matrix"], ["w"], name="Times212_reshape1"),
        node("MatMul", ["f", "w"], ["m"], name="Times212"),
        node("Add", ["m", "bias3"], ["Plus214_Output_0"], name="Plus214"),
    ]
    initializers = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    initializers += [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in shapes.items()]
    inputs = [helper.make_tensor_value_info("Input3", TensorProto.FLOAT, [1, 1, 28, 28])]
    # in IR 3 every initializer is an input too
    inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in initializers]
    outputs = [helper.make_tensor_value_info("Plus214_Output_0", TensorProto.FLOAT, [1, 10])]
    graph = helper.make_graph(nodes, "CNTKGraph", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=3)


def _pool(size: int) -> dict[str, Any]:
    return {"auto_pad": "NOTSET", "kernel_shape": [size] * 2, "strides": [size] * 2, "pads": [0] * 4}


def keras_like() -> onnx.ModelProto:
    """The form in which tf2onnx writes Keras: (N, H, W, C) images, SAME padding, H, W, C features."""
    rng = np.random.default_rng(1)
    weights = {
        "conv": rng.standard_normal((6, 1, 3, 3)) * 0.3,
        "conv_bias": rng.standard_normal(6) * 0.1,
        "dense": rng.standard_normal((7 * 7 * 6, 10)) * 0.1,
        "dense_bias": rng.standard_normal(10) * 0.1,
    }
    node = helper.make_node
    nodes = [
        node("Transpose", ["images"], ["nchw"], perm=[0, 3, 1, 2]),
        node("Conv", ["nchw", "conv", "conv_bias"], ["c"], auto_pad="SAME_UPPER", strides=[2, 2]),
        node("Relu", ["c"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Transpose", ["p"], ["nhwc"], perm=[0, 2, 3, 1]),
        node("Reshape", ["nhwc", "shape"], ["f"]),
        node("MatMul", ["f", "dense"], ["m"]),
        node("Add", ["m", "dense_bias"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    initializers = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    initializers.append(numpy_helper.from_array(np.array([-1, 7 * 7 * 6], np.int64), "shape"))
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 28, 28, 1])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])]
    graph = helper.make_graph(nodes, "keras", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


if __name__ == "__main__":
    main()
