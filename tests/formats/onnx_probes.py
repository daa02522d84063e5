"""Small ONNX models, and what runtimes that share nothing with this package make of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

MODELS = Path(__file__).parent / "models"
"""Made by scripts/make_onnx_models.py."""
Array = np.ndarray[Any, Any]


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, Array] | None = None,
    *,
    shape: Sequence[int | str | None] = ("N", 1, 4, 4),
    opset: int = 13,
    element_type: int = TensorProto.FLOAT,
    metadata: dict[str, str] | None = None,
) -> onnx.ModelProto:
    """A model from ``x`` to ``y``, floats of whatever shape."""
    x = helper.make_tensor_value_info("x", element_type, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    initializers = [
        numpy_helper.from_array(np.asarray(v, np.float32 if np.asarray(v).dtype.kind == "f" else np.int64), k)
        for k, v in (constants or {}).items()
    ]
    graph = helper.make_graph(nodes, "g", [x], [y], initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    for key, value in (metadata or {}).items():
        made.metadata_props.add(key=key, value=value)
    return made


def runtime(made: onnx.ModelProto, inputs: Array) -> Array:
    """By onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=providers)
    found: Array = session.run(None, {session.get_inputs()[0].name: inputs})[0]
    return found


def digits(count: int) -> Array:
    """(count, 1, 28, 28) uint8: MNIST test images that come with the package."""
    from mnistnet.data.proof import proof_images

    return proof_images((1, 28, 28), count)[0]
