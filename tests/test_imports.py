"""Who may import whom: the house has one direction, and every heavy guest has a room.

    errors <- files, engine <- models <- data, formats <- reports <- training <- cli

The syntax trees are walked, so an import inside a function or under TYPE_CHECKING counts too. What is
really loaded at the start of the program is asked of real processes.
"""

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

import mnistnet

PACKAGE = Path(mnistnet.__file__).parent
TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}
every_module = pytest.mark.parametrize("module", TREES)

FLOORS = {
    "errors": 0,
    "files": 1,
    "engine": 1,
    "recipes": 1,
    "models": 2,
    "data": 3,
    "formats": 3,
    "reports": 4,
    "training": 5,
    # the command line, and the doors for other people's conventions beside it
    "cli": 6,
    "onnx_backend": 6,
    "sklearn": 6,
    "__init__": 6,
    "__main__": 7,
}

GUESTS = {
    "numpy": ["*"],
    "onnx": ["formats/onnx_*", "onnx_backend.py"],
    "typer": ["cli/*"],
    "tqdm": ["cli/*"],
    "PIL": ["data/pictures*.py"],
    "pooch": ["data/catalog_download.py"],
    "requests": ["data/catalog_download.py"],
    "threadpoolctl": ["engine/blas.py"],
    "orjson": ["formats/*", "training/*"],
    "pydantic": ["formats/*", "training/*"],
    "matplotlib": ["reports/*"],
    "sklearn": ["sklearn.py"],
    "torch": ["reports/benchmark.py", "reports/torch_twin.py"],
    "onnxruntime": ["formats/onnx_verify.py", "reports/benchmark.py"],
    # the only concurrency in the package, and the lock that settings of the process take
    "concurrent": ["engine/workers.py"],
    "mmap": ["engine/crew.py"],
    "multiprocessing": ["engine/workers.py"],
    "subprocess": ["engine/crew.py"],
    "threading": ["engine/workers.py", "engine/held.py"],
    # code in data's clothes
    "dill": [],
    "joblib": [],
    "marshal": [],
    "pickle": [],
    "shelve": [],
}
"""Where a package may be imported: every third-party one, and those of the standard library that matter."""


def imports_of(module: str) -> Iterator[str]:
    """Dotted names: ``from a.b import c`` is ``a.b.c`` where that is a module of ours, else ``a.b``."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: imports here are absolute"
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                yield longer if file_of(longer) else str(node.module)


def file_of(name: str) -> str | None:
    """The file of one of our modules, ``engine/arrays.py`` of ``mnistnet.engine.arrays``; else None."""
    inside = name.split(".")[1:]
    if name.split(".")[0] != "mnistnet" or not inside:
        return None
    stem = "/".join(inside)
    return next((file for file in (f"{stem}.py", f"{stem}/__init__.py") if file in TREES), None)


def floor_of(module: str) -> int:
    return FLOORS[room_of(module)]


def room_of(module: str) -> str:
    return Path(module).parts[0].removesuffix(".py")


def test_the_walk_finds_the_package():
    assert {"errors.py", "engine/plan.py", "engine/layers/conv.py", "models.py"} <= set(TREES)
    assert set(imports_of("models.py")) >= {"mnistnet.engine.layers", "mnistnet.errors", "dataclasses"}
    assert file_of("mnistnet.engine.layers") == "engine/layers/__init__.py"
    assert file_of("mnistnet.engine.layers.Dense") is None


@every_module
def test_every_module_has_a_floor(module):
    assert room_of(module) in FLOORS


@every_module
def test_imports_go_downwards(module):
    """To a lower floor or within the room; neighbours on one floor do not know each other."""
    for name in imports_of(module):
        if name.split(".")[0] == "mnistnet" and name != "mnistnet":
            target = file_of(name)
            assert target, f"{module} imports {name}, which is not there"
            below = floor_of(target) < floor_of(module)
            assert below or room_of(target) == room_of(module), f"{module} must not import {name}"


@every_module
def test_of_the_package_itself_only_the_version_is_taken(module):
    """Its ``__init__`` is for others: it re-exports what is above."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            assert "mnistnet" not in {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "mnistnet" and module != "__init__.py":
            names = {alias.name for alias in node.names}
            assert names <= {"__version__"} | {Path(file).stem for file in TREES}, f"{module} takes {names}"


@every_module
def test_guests_stay_in_their_rooms(module):
    ours = {"mnistnet", "__future__"}
    for name in imports_of(module):
        top = name.split(".")[0]
        if top in GUESTS:
            assert any(fnmatch(module, pattern) for pattern in GUESTS[top]), (
                f"{module} must not import {name}"
            )
        else:
            assert top in ours | sys.stdlib_module_names, f"{name} has no room: see GUESTS"


@pytest.mark.parametrize("module", [module for module in TREES if room_of(module) == "engine"])
def test_the_engine_needs_numpy_and_the_standard_library(module):
    third_party = {name.split(".")[0] for name in imports_of(module)} - sys.stdlib_module_names
    assert third_party <= {"mnistnet", "numpy", "threadpoolctl"}


@pytest.mark.parametrize("module", [module for module in TREES if module.startswith("engine/layers/")])
def test_layers_know_neither_network_nor_optimizers_nor_files(module):
    known = ("arrays", "blas", "workspace", "streams", "layers")
    allowed = tuple(f"mnistnet.engine.{name}" for name in known)
    for name in imports_of(module):
        if name.startswith("mnistnet."):
            assert name == "mnistnet.errors" or name.startswith(allowed), f"{module} must not import {name}"
        assert name.split(".")[0] != "json"


CALLS_NOBODY_MAKES = {"eval", "exec", "compile", "__import__", "input", "breakpoint", "exit", "quit"}


@every_module
def test_no_code_from_data_and_no_questions(module):
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in CALLS_NOBODY_MAKES, f"{module}:{node.lineno}: {node.func.id}"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert ast.unparse(node.value) == "False", f"{module}:{node.value.lineno}: allow_pickle"


@every_module
def test_only_the_command_line_prints_and_exits(module):
    if module.startswith("cli/"):
        return
    for node in ast.walk(TREES[module]):
        where = f"{module}:{getattr(node, 'lineno', '')}"
        if isinstance(node, ast.Name):
            assert node.id not in ("print", "SystemExit"), f"{where}: {node.id}"
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            assert name not in ("sys.exit", "sys.stdout", "sys.stderr"), f"{where}: {name}"
            # a worker process ends without running what its parent registered
            assert name not in ("os._exit", "os.abort") or module == "engine/workers.py", f"{where}: {name}"


def test_there_is_no_isinstance_ladder_over_layers():
    """Files go by the registry of kinds, ONNX by ``singledispatch``."""
    layers = {
        node.name
        for module, tree in TREES.items()
        if module.startswith("engine/layers/")
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any(keyword.arg == "kind" for keyword in node.keywords)
    }
    assert {"Dense", "Conv2d"} <= layers
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                tested = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
                assert not tested & layers, f"{module}:{node.lineno}: isinstance over {tested & layers}"


def test_every_guest_is_declared():
    project = Path(__file__).parents[1] / "pyproject.toml"
    text = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    extras = [needed for extra in text.get("optional-dependencies", {}).values() for needed in extra]
    declared = {re.split(r"[^\w-]", needed)[0].lower() for needed in text["dependencies"] + extras}
    distributions = {"PIL": "pillow", "sklearn": "scikit-learn"}
    used = {name.split(".")[0] for module in TREES for name in imports_of(module)}
    used -= {"mnistnet", *sys.stdlib_module_names}
    # PyTorch is measured against where somebody has it: no dependency, not even an optional one
    assert {distributions.get(name, name) for name in used} - declared <= {"torch"}


def test_the_public_names_are_where_type_checkers_are_told():
    """``mnistnet.X`` is loaded on first use; the imports under TYPE_CHECKING say the same."""
    told = {
        alias.name: node.module
        for node in ast.walk(TREES["__init__.py"])
        if isinstance(node, ast.ImportFrom) and node.module.startswith("mnistnet.")
        for alias in node.names
    }
    assert sorted(told) == sorted(set(mnistnet.__all__) - {"__version__"})
    for name, module in told.items():
        assert getattr(mnistnet, name) is getattr(importlib.import_module(module), name)
    assert dir(mnistnet) == sorted(mnistnet.__all__)
    with pytest.raises(AttributeError, match="module 'mnistnet' has no attribute 'nothing'"):
        _ = mnistnet.nothing


def test_a_type_checker_does_not_see_the_names_that_come_later():
    """With a module's ``__getattr__`` in sight it would take any name for one that is there."""
    tree = TREES["__init__.py"]
    guarded = [
        function
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "not TYPE_CHECKING"
        for function in node.body
    ]
    found = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "__getattr__"]
    assert len(found) == 1
    assert found[0] in guarded


# what is really loaded

# not pydantic, which Typer itself loads
HEAVY = {"numpy", "onnx", "PIL", "orjson", "threadpoolctl", "matplotlib", "sklearn", "pooch", "requests"}


def loaded_by(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after running ``code``."""
    report = f"{code}\nimport sys\nsys.stderr.write('loaded ' + ' '.join({HEAVY!r} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", report],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    _, said, found = done.stderr.rpartition("loaded ")
    assert said
    return set(found.split())


def test_the_probe_sees_what_is_loaded():
    assert loaded_by("import numpy") == {"numpy"}


@pytest.mark.parametrize("module", ["mnistnet", "mnistnet.errors", "mnistnet.cli"])
def test_importing_is_light(module):
    assert loaded_by(f"import {module}") == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["run", "--help"],
        ["evaluate", "--help"],
        ["info", "--help"],
        ["bench", "--help"],
        ["export", "--help"],
        ["reconstruct", "--help"],
        ["trian"],
    ],
    ids=" ".join,
)
def test_help_is_light(arguments):
    """Help, the version and a wrong command load nothing heavy."""
    code = f"""
import sys
from mnistnet.cli import main
sys.argv = ["mnistnet", *{arguments!r}]
try:
    main()
except SystemExit:
    pass
"""
    assert loaded_by(code) == set()


def test_the_engine_loads_numpy_and_nothing_larger():
    assert loaded_by("import mnistnet.models") <= {"numpy", "threadpoolctl"}
