"""ONNX's own reference evaluator, by which exported models are proven: it shares no code with the engine."""

from __future__ import annotations

import warnings
from typing import Any, cast

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from mnistnet.engine.arrays import AnyArray, FloatArray
from mnistnet.formats.onnx_operators.windows import max_pool


class MaxPool(OpRun):  # the name is how the evaluator finds it
    """In the place of the evaluator's own, which forgets the padding of a pool with stride 1.

    ONNX's test-suite holds this one, see `mnistnet.onnx_backend`.
    """

    op_domain = ""

    def _run(self, x: AnyArray, **attributes: Any) -> tuple[AnyArray, ...]:
        given = {name: value for name, value in attributes.items() if value is not None}
        return max_pool(x, **given)[: len(self.onnx_node.output)]


def run_reference(model: onnx.ModelProto, inputs: AnyArray) -> FloatArray:
    """The first output of a model for its only input, whatever NumPy thinks of the numbers on the way."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = ReferenceEvaluator(model, new_ops=[MaxPool])
        outputs = cast("list[FloatArray]", evaluator.run(None, {model.graph.input[0].name: inputs}))
    return outputs[0]
