"""Nothing in a file is executed, nothing outside of it is read, nothing is sent: seen in the syntax trees.

What a test here cannot see, tests/test_limits.py measures and scripts/fuzz.py tries.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import mnistnet
from mnistnet.errors import CheckpointError, DataError
from mnistnet.formats.onnx_graph import graph_of
from mnistnet.formats.onnx_verify import verify_onnx

PACKAGE = Path(mnistnet.__file__).parent
TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}

NO_MODULES = {
    # they execute what they read
    *("pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"),
    *("yaml", "ruamel", "code", "codeop", "runpy", "imp", "h5py", "pandas"),
    # they open connections
    *("socket", "socketserver", "ssl", "http", "urllib", "urllib3", "httpx", "aiohttp", "ftplib", "smtplib"),
    *("xmlrpc", "asyncio", "webbrowser"),
    # their parsers follow what a document points to
    "xml",
}
NO_CALLS = {
    *("eval", "exec", "compile", "__import__", "globals", "vars().update"),
    *("os.system", "os.popen", "os.startfile", "pty.spawn", "tempfile.mktemp"),
    *("np.load", "numpy.load", "np.lib.format.read_array", "np.lib.format.open_memmap"),
    *("np.memmap", "np.genfromtxt", "np.loadtxt", "np.fromregex", "np.lib.npyio.NpzFile"),
    *("torch.load", "torch.jit.load", "torch.hub.load", "importlib.import_module", "importlib.reload"),
    # these read files, and what the files point to; a model here comes from bytes
    *("onnx.load", "onnx.load_model", "onnx.load_tensor", "onnx.hub.load"),
    *("onnx.external_data_helper.load_external_data_for_model", "external_data_helper.load_external_data"),
    *("shutil.unpack_archive", "tarfile.open", "zipfile.ZipFile.extractall", "archive.extractall"),
}
NO_ATTRIBUTES = {"extractall", "extract", "unpack_archive", "set_sharing_strategy"}
IMPORTERS = {"__init__.py", "engine/rebuild.py", "engine/workers.py"}
"""They import by a name that the program itself has said: a public one, or what a worker is to run."""
IMPORT = "importlib.import_module"
CONNECTIONS = {"data/catalog.py", "data/catalog_download.py"}
"""Where addresses are known, and where they are used."""


def complaints(tree: ast.AST, module: str) -> Iterator[str]:
    """Whatever in a module could execute, reach or send what it should not."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (f"import {n.name}" for n in names if n.name.split(".")[0] in NO_MODULES)
            case ast.ImportFrom(module=str(name), names=names):
                if name.split(".")[0] in NO_MODULES:
                    yield f"from {name} import"
                taken = {f"{name}.{n.name}" for n in names} & NO_CALLS
                if module in IMPORTERS:
                    taken -= {IMPORT}
                yield from (f"from {name} import {each}" for each in taken)
            case ast.Call(func=func, keywords=keywords):
                called = ast.unparse(func)
                if called == IMPORT and module in IMPORTERS:
                    continue
                if called in NO_CALLS or called.split(".")[-1] in NO_ATTRIBUTES:
                    yield f"{called}()"
                if called.startswith(("os.exec", "os.spawn")):
                    yield f"{called}()"
                for keyword in keywords:
                    said = ast.unparse(keyword.value)
                    if keyword.arg == "shell" and said != "False":
                        yield f"{called}(shell={said})"
                    if keyword.arg in ("allow_pickle", "load_external_data") and said != "False":
                        yield f"{called}({keyword.arg}={said})"
            case ast.Constant(value=str(text)) if module not in CONNECTIONS:
                # in a message or a docstring an address is for people
                if text.startswith(("http:", "https:", "ftp:")) and " " not in text:
                    yield f"the address {text}"


@pytest.mark.parametrize("module", TREES)
def test_nothing_executes_reaches_or_sends(module: str) -> None:
    assert list(complaints(TREES[module], module)) == []


@pytest.mark.parametrize(
    "code",
    [
        *(
            "import pickle",
            "from marshal import loads",
            "import yaml",
            "import urllib.request",
            "import socket",
        ),
        *("eval('1')", "exec(code)", "os.system('ls')", "os.execv(a, b)", "subprocess.run(a, shell=True)"),
        *("np.load(f)", "np.savez(f, allow_pickle=True)", "torch.load(f)", "tempfile.mktemp()"),
        *("onnx.load(path)", "from onnx import load_model", "f(load_external_data=True)"),
        *("archive.extractall()", "x = 'https://example.org/model'", "from tempfile import mktemp"),
    ],
)
def test_the_walk_finds_what_it_looks_for(code: str) -> None:
    assert len(list(complaints(ast.parse(code), "cli/new.py"))) == 1


def test_connections_are_opened_in_one_module() -> None:
    users = {
        module
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Import) and any(n.name in ("pooch", "requests") for n in node.names))
        or (isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in ("pooch", "requests"))
    }
    assert users == {"data/catalog_download.py"}


# external data ---------------------------------------------------------------------------------------------


def external(name: str) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


def plain() -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1, 4, 4]) for name in ("x", "y"))
    return helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y]))


def in_training_info() -> onnx.ModelProto:
    model = plain()
    model.training_info.add().initialization.initializer.append(external("hidden"))
    return model


def in_an_attribute_list() -> onnx.ModelProto:
    model = plain()
    attribute = model.graph.node[0].attribute.add(name="tensors", type=onnx.AttributeProto.TENSORS)
    attribute.tensors.append(external("hidden"))
    return model


def in_a_subgraph() -> onnx.ModelProto:
    model = plain()
    attribute = model.graph.node[0].attribute.add(name="body", type=onnx.AttributeProto.GRAPH)
    attribute.g.initializer.append(external("hidden"))
    return model


def in_a_sparse_attribute() -> onnx.ModelProto:
    model = plain()
    attribute = model.graph.node[0].attribute.add(name="s", type=onnx.AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.values.CopyFrom(external("hidden"))
    return model


@pytest.mark.parametrize(
    "hide", [in_training_info, in_an_attribute_list, in_a_subgraph, in_a_sparse_attribute]
)
def test_external_data_is_refused_wherever_it_is(hide, tmp_path: Path) -> None:
    message = "tensor 'hidden': external data refused: only what is in the file itself is read"
    with pytest.raises(CheckpointError, match=message):
        graph_of(hide())
    path = tmp_path / "m.onnx"
    path.write_bytes(hide().SerializeToString())
    with pytest.raises(CheckpointError, match=message):
        verify_onnx(path)


def test_links_do_not_lead_out_of_a_folder(tmp_path: Path) -> None:
    from PIL import Image

    from mnistnet.data.sources import load_data

    (tmp_path / "secret").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "secret" / "a.png")
    inside = tmp_path / "set"
    inside.mkdir()
    try:
        (inside / "link").symlink_to(tmp_path / "secret")
    except OSError:
        pytest.skip("links need a privilege here")
    (inside / "metadata.json").write_text('{"train": {"1": ["link/a.png"]}}', encoding="utf-8")
    with pytest.raises(DataError, match="path leaves the folder"):
        load_data(inside)
