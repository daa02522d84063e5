"""The README is true to the letter: its Python runs, its architecture file trains, its flags exist."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mnistnet.engine.layers import LAYER_KINDS
from mnistnet.formats.checkpoint import load_architecture
from mnistnet.models import MODELS, build

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_two_commands_are_there_each_on_one_line() -> None:
    lines = "".join(blocks("sh")).splitlines()
    assert "pip install . && mnistnet train" in lines
    assert "pip install '.[test]' && pytest" in lines


@pytest.mark.parametrize(("number", "accuracy"), [(0, 0.94), (1, 0.9)], ids=["engine", "scikit-learn"])
def test_its_python_runs(number: int, accuracy: float) -> None:
    program = blocks("python")[number]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) > accuracy


def test_its_architecture_file_loads(tmp_path: Path) -> None:
    (text,) = blocks("json")
    (tmp_path / "net.json").write_text(text)
    kinds = [layer.kind for layer in load_architecture(tmp_path / "net.json").layers]
    assert kinds == [layer["kind"] for layer in json.loads(text)["layers"]]


def test_its_short_commands_run(tmp_path: Path) -> None:
    """Those that need no training, in a copy of what they read."""
    commands = [line for line in "".join(blocks("sh")).splitlines() if "ckpt/lenet.json" in line]
    assert len(commands) == 6
    outputs = {name: tmp_path / name for name in ("model.onnx", "digit.html")}
    for command in commands:
        words = [str(outputs.get(word, word)) for word in command.split()]
        assert words[0] == "mnistnet"
        subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, check=True)
    assert all(path.exists() for path in outputs.values())


def test_what_run_is_shown_to_print_is_what_it_prints() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mnistnet", "run", "ckpt/lenet.json", "data/samples/7.png"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
        env={"PYTHONIOENCODING": "utf-8", "PATH": ""},
    )
    shown = next(block for block in blocks("") if block.startswith("Prediction"))

    # the last digits of a probability depend on the machine's BLAS
    def rough(text: str) -> list[str]:
        return [re.sub(r"(\d+\.\d)\d %", r"\1 %", line) for line in text.strip().splitlines()]

    assert rough(shown) == rough(done.stdout)


@pytest.mark.parametrize(
    "command", ["train", "run", "evaluate", "info", "export", "import", "reconstruct", "bench"]
)
def test_its_flags_exist_and_train_has_no_other(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mnistnet", command, "--help"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    existing = set(re.findall(r"--[a-z][a-z-]+", done.stdout)) - {"--help"}
    section = README.split(f"## {command.capitalize()}\n")[1].split("\n## ")[0]
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", section))
    foreign = {"--start-from", "--no-sync", "--fast", "--seeds"}
    assert named - foreign <= existing
    if command in ("train", "reconstruct"):
        assert existing <= named


def test_every_model_and_kind_is_named_with_its_size() -> None:
    for name in MODELS:
        row = next(line for line in README.splitlines() if line.startswith(f"| `{name}` |"))
        assert f"{build(name).size:,}" in row
    kinds = README[README.index("The kinds are ") :].split("\n\n")[0]
    assert all(f"`{kind}`" in kinds for kind in LAYER_KINDS)


def test_its_exit_codes_are_the_errors() -> None:
    from mnistnet import errors

    section = README.split("## Errors")[1].split("\n## ")[0]
    codes = {
        cls.exit_code
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, errors.MnistnetError) and cls.exit_code > 1
    }
    assert codes <= {int(number) for number in re.findall(r"\d+", section)}


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
