"""The proof of an exported model, repeated: the picture in its metadata must give the output beside it."""

from __future__ import annotations

import base64
import binascii
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx

from mnistnet import __version__
from mnistnet.engine.arrays import AnyArray, FloatArray
from mnistnet.errors import CheckpointError, ExportError
from mnistnet.files import read_limited
from mnistnet.formats.checkpoint import SIZE_LIMIT, SIZE_LIMIT_FLAG
from mnistnet.formats.onnx_executor import run_graph
from mnistnet.formats.onnx_export import (
    FEATURES,
    GOLDEN_INPUT,
    GOLDEN_OUTPUT,
    INPUT_SCALE,
    INPUT_SHIFT,
    largest_difference,
    tolerance_for,
)
from mnistnet.formats.onnx_graph import Graph, read_graph
from mnistnet.formats.onnx_operators import limits
from mnistnet.formats.onnx_reference import run_reference


@dataclass(frozen=True)
class Agreement:
    """What one runtime made of the golden input."""

    runtime: str
    """Its name and version."""
    largest_difference: float
    """From the golden output."""


@dataclass(frozen=True)
class _Golden:
    """One batch as the graph takes it, and the output for each of its images."""

    inputs: AnyArray
    output: FloatArray


def verify_onnx(path: Path, *, limit: int = SIZE_LIMIT) -> tuple[Agreement, ...]:
    """Let every runtime at hand compute a model's golden input.

    These are this package's operators, onnx's reference evaluator and, where it is installed, onnxruntime.

    Args:
        path: an ONNX file that this package exported.
        limit: the largest size in bytes that is read.

    Raises:
        CheckpointError: ``path: ...`` it cannot be read, or has no golden input and output.
        ExportError: ``path: ...`` it is not valid ONNX, or a runtime gives something else.
    """
    data = read_limited(path, limit, CheckpointError, advice=f"raise it with {SIZE_LIMIT_FLAG}")
    try:
        graph = read_graph(data)
        golden = _golden(graph)
        model = onnx.load_model_from_string(data)
        _check(model)
        runtimes: dict[str, Callable[[], FloatArray]] = {
            f"mnistnet {__version__}": lambda: run_graph(graph, {graph.inputs[0].name: golden.inputs})[0],
            f"onnx {onnx.__version__}": lambda: run_reference(model, golden.inputs),
        }
        if find_spec("onnxruntime"):
            runtimes["onnxruntime"] = lambda: _run_onnxruntime(data, golden.inputs)
        return tuple(_agreement(name, run, golden) for name, run in runtimes.items())
    except (CheckpointError, ExportError) as error:
        raise error.at(path) from error


def _check(model: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # a checker's or an inference's own, of several classes
        raise ExportError(f"not valid ONNX: {' '.join(str(error).split())[:200]}") from error


def _agreement(name: str, run: Callable[[], FloatArray], golden: _Golden) -> Agreement:
    """Run and compare; any fault of a runtime is one of the model."""
    try:
        found = run()
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(f"{name} cannot run it: {reason or type(error).__name__}") from error
    if found.shape != golden.output.shape:
        raise ExportError(f"{name} gives {found.shape}: expected the golden output's {golden.output.shape}")
    difference = largest_difference(found, golden.output)
    most = tolerance_for(golden.output)
    if not difference <= most:
        raise ExportError(
            f"{name} differs from the golden output by {difference:.1e}: expected at most {most:.0e}"
        )
    return Agreement(name, difference)


def _golden(graph: Graph) -> _Golden:
    """The golden input and output of a graph's metadata."""
    if GOLDEN_INPUT not in graph.metadata or GOLDEN_OUTPUT not in graph.metadata or len(graph.inputs) != 1:
        raise CheckpointError(
            "no golden input and output in its metadata: only what mnistnet export wrote can be verified"
        )
    source = graph.inputs[0]
    sizes = (source.shape or ())[1:]
    batch = (source.shape or (None,))[0] or 1
    try:
        data = base64.b64decode(graph.metadata[GOLDEN_INPUT], validate=True)
        picture = np.frombuffer(data, "<f4" if source.name == FEATURES else np.uint8)
        picture = picture.reshape([size or 0 for size in sizes])
        row = np.array(json.loads(graph.metadata[GOLDEN_OUTPUT]), np.float64)
        scale, shift = (np.float32(graph.metadata[key]) for key in (INPUT_SCALE, INPUT_SHIFT))
    except (KeyError, ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise CheckpointError(f"its golden input or output is damaged: {error!s:.200}") from error
    if batch * max(picture.size, row.size) > limits.MOST_PIXELS:
        raise CheckpointError(f"a batch of {batch}: expected at most {limits.MOST_PIXELS} values")
    as_it_is = source.dtype == np.uint8 or source.name == FEATURES
    with np.errstate(all="ignore"):
        values = picture if as_it_is else picture.astype(np.float32) * scale + shift
    if not np.isfinite(values).all():
        raise CheckpointError("its golden input is damaged: expected finite numbers")
    return _Golden(np.repeat(values[None], batch, axis=0), np.repeat(row[None], batch, axis=0))


def _run_onnxruntime(data: bytes, inputs: AnyArray) -> FloatArray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4  # what is wrong is said by the exception, on one line
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        found: FloatArray = session.run(None, {session.get_inputs()[0].name: inputs})[0]
    return found
