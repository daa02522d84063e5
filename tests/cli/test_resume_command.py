"""``mnistnet train --resume``, ``--config``, ``--budget`` and their friends, through real processes."""

import os
import random
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnistnet.cli.app import command_line
from mnistnet.data.idx import read_idx
from mnistnet.formats.checkpoint import load_checkpoint
from mnistnet.training.runs import lock
from mnistnet.training.settings import RECIPES, Settings, recipe_settings

from .conftest import Mnistnet, Result
from .test_train_command import assert_refused, files_in, posix, rows_of

RUN = ("--model", "mlp", "--nb-epochs", "4", "--optimizer", "adam", "--validation-split", "0.1")
EXTRAS = (
    *("--augment", "shift", "--augment-strength", "0.5", "--average-decay", "0.9", "--clip-norm", "1"),
    *("--label-smoothing", "0.1"),
)


def assert_same_run(expected: Path, found: Path) -> None:
    """Every file has the same bytes, but for the seconds in the CSV."""
    assert files_in(found) == files_in(expected)
    for path in expected.iterdir():
        if path.suffix != ".csv":
            assert (found / path.name).read_bytes() == path.read_bytes(), path.name
    rows, others = (
        [{**row, "seconds": ""} for row in rows_of(folder / "loss.csv")] for folder in (expected, found)
    )
    assert rows == others


@pytest.fixture(scope="module")
def whole(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run(
        [
            *(sys.executable, "-m", "mnistnet", "train", "--train-data-dir", str(small_data), *RUN, *EXTRAS),
            *("--checkpoint-folder", str(folder)),
        ],
        check=True,
        capture_output=True,
    )
    return folder


@posix
def test_killed_at_any_moment_and_resumed_it_ends_as_if_nothing_had_been(
    mnistnet: Mnistnet, small_data: Path, whole: Path, tmp_path: Path
) -> None:
    """SIGKILL at a few random moments, again and again, until the run comes to its end."""
    folder = tmp_path / "run"
    start = ["--train-data-dir", str(small_data), *RUN, *EXTRAS, "--checkpoint-folder", str(folder)]
    chance = random.Random(4)
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-m", "mnistnet", "train", *start],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            while not (folder / "latest.json").exists() and process.poll() is None:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.3))
            process.kill()
        start = ["--resume", str(folder)]
    last = mnistnet("train", "--resume", folder)
    assert last.code in (0, 2), last.err  # 2: there was nothing left to do
    assert_same_run(whole, folder)


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_of_an_epoch_and_resumed(
    mnistnet: Mnistnet, small_data: Path, tmp_path: Path, number: int
) -> None:
    options = ("--train-data-dir", small_data, "--model", "lenet", "--nb-epochs", 6)
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-m", "mnistnet", "train", *map(str, options), "--checkpoint-folder", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not (folder / "latest.json").exists():
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number
    resumed = mnistnet("train", "--resume", folder)
    assert resumed.code == 0, resumed.err
    assert "Going on with" in resumed.out
    assert mnistnet("train", *options, "--checkpoint-folder", "whole").code == 0
    assert_same_run(tmp_path / "whole", folder)


def test_a_run_is_done_again_from_its_settings(mnistnet: Mnistnet, whole: Path, tmp_path: Path) -> None:
    result = mnistnet("train", "--config", whole / "run.toml", "--checkpoint-folder", "again")
    assert result.code == 0, result.err
    assert_same_run(whole, tmp_path / "again")


def test_an_architecture_comes_along_with_the_settings(
    mnistnet: Mnistnet, small_data: Path, whole: Path, tmp_path: Path
) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "a.json").write_bytes((whole / "latest.json").read_bytes())
    options = ("--train-data-dir", small_data, "--nb-epochs", 1, "--checkpoint-folder", "run")
    assert mnistnet("train", "--model", tmp_path / "nets" / "a.json", *options).code == 0
    (tmp_path / "nets" / "a.json").unlink()
    again = mnistnet("train", "--config", "run/run.toml", "--checkpoint-folder", "again")
    assert again.code == 0, again.err
    assert_same_run(tmp_path / "run", tmp_path / "again")


def test_a_budget_ends_on_time_and_is_done_again_without_a_clock(
    mnistnet: Mnistnet, small_data: Path, tmp_path: Path
) -> None:
    options = ("--model", "mlp", "--train-data-dir", small_data, "--checkpoint-folder")
    result = mnistnet("train", "--budget", "1s", *options, "run")
    assert result.code == 0, result.err
    settings = tomllib.loads((tmp_path / "run" / "run.toml").read_text())
    assert settings["budget"] == 1.0
    # the last measurement, about every hundredth of the time, foretells the end or finds it
    assert 0.9 < settings["replay-legs"][-2] <= 1.0
    assert (
        load_checkpoint(tmp_path / "run" / "latest.json").state.position["steps"] == settings["replay-steps"]
    )
    again = mnistnet("train", "--config", "run/run.toml", "--checkpoint-folder", "again")
    assert again.code == 0, again.err
    assert_same_run(tmp_path / "run", tmp_path / "again")
    assert_refused(
        without_output(mnistnet("train", "--resume", "run")),
        2,
        "--resume: nothing to do: its 1 s are over; raise --budget",
    )
    assert mnistnet("train", "--resume", "run", "--budget", "1.2").code == 0


def without_output(result: Result) -> Result:
    return Result(result.code, "", result.err)


def test_more_epochs_go_on_from_a_finished_run(
    mnistnet: Mnistnet, small_data: Path, whole: Path, tmp_path: Path
) -> None:
    options = ("--model", "mlp", "--train-data-dir", small_data, "--lr-schedule", "constant")
    assert mnistnet("train", *options, "--nb-epochs", 2, "--checkpoint-folder", "two").code == 0
    assert_refused(
        without_output(mnistnet("train", "--resume", "two")),
        2,
        "--resume: nothing to do: its 2 epochs are over; raise --nb-epochs",
    )
    assert mnistnet("train", "--resume", "two", "--nb-epochs", 3).code == 0
    assert mnistnet("train", *options, "--nb-epochs", 3, "--checkpoint-folder", "three").code == 0
    # the constant schedule does not know how long it will be
    one, other = (load_checkpoint(tmp_path / name / "latest.json") for name in ("two", "three"))
    assert one.classifier.network.vector.tobytes() == other.classifier.network.vector.tobytes()
    assert [row["epoch"] for row in rows_of(tmp_path / "two" / "loss.csv")] == ["1", "2", "3"]


def test_an_earlier_checkpoint_needs_overwrite_in_its_own_folder(
    mnistnet: Mnistnet, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for path in whole.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    refused = mnistnet("train", "--resume", folder / "checkpoint_2.json")
    message = f"{folder}: already holds a later latest.json; use --overwrite or another folder"
    assert_refused(without_output(refused), 2, message)
    assert_same_run(whole, folder)
    assert mnistnet("train", "--resume", folder / "checkpoint_2.json", "--overwrite").code == 0
    assert_same_run(whole, folder)
    elsewhere = mnistnet("train", "--resume", folder / "checkpoint_3.json", "--checkpoint-folder", "new")
    assert elsewhere.code == 0, elsewhere.err
    name = "checkpoint_4.json"
    assert (tmp_path / "new" / name).read_bytes() == (whole / name).read_bytes()


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    mnistnet: Mnistnet, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for path in whole.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for name in ("latest.json", "checkpoint_4.json"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-100])
    with (folder / "loss.csv").open("a") as file:
        file.write("5,0.1,0.")  # ahead of the checkpoint, and half a line
    result = mnistnet("train", "--resume", folder, "--overwrite")
    assert result.code == 0, result.err
    assert [line.split(": ")[1] for line in result.err.splitlines()] == [
        str(folder / name) for name in ("latest.json", "checkpoint_4.json")
    ]
    assert "going on with the one before" in result.err
    assert_same_run(whole, folder)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--seed", "1"), 2, "--seed: cannot change on --resume: the run has 0, found 1; start a new run"),
        (
            ("--batch-size", "32"),
            2,
            "--batch-size: cannot change on --resume: the run has 64, found 32; start a new run",
        ),
        (
            ("--augment-strength", "0.8"),
            2,
            "--augment-strength: cannot change on --resume: the run has 0.5, found 0.8; start a new run",
        ),
        (
            ("--start-from", "a.json"),
            2,
            "--start-from: cannot change on --resume: the run has its default, found a.json; start a new run",
        ),
        (
            ("--recipe", "fast"),
            2,
            "--resume: takes the run's own settings: leave --config and --recipe away",
        ),
    ],
)
def test_what_cannot_change_is_refused(
    mnistnet: Mnistnet, whole: Path, options: tuple, code: int, message: str
) -> None:
    before = {path: path.read_bytes() for path in whole.iterdir()}
    assert_refused(mnistnet("train", "--resume", whole, *options), code, message)
    assert {path: path.read_bytes() for path in whole.iterdir()} == before


def test_what_a_variable_says_is_refused_by_its_name(
    mnistnet: Mnistnet, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNISTNET_BATCH_SIZE", "32")
    assert_refused(
        mnistnet("train", "--resume", whole),
        2,
        "MNISTNET_BATCH_SIZE: cannot change on --resume: the run has 64, found 32; start a new run",
    )


def test_other_data_are_refused_with_what_differs(mnistnet: Mnistnet, small_data: Path, whole: Path) -> None:
    other = small_data.parent / "other"
    other.mkdir(exist_ok=True)
    for path in small_data.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    labels = (other / "train-labels-idx1-ubyte").read_bytes()
    (other / "train-labels-idx1-ubyte").write_bytes(labels[:-1] + bytes([(labels[-1] + 1) % 10]))
    result = mnistnet("train", "--resume", whole, "--train-data-dir", other, "--nb-epochs", 5)
    assert result.code == 3
    assert result.err.startswith("mnistnet: --resume: the run's data were others: expected data sha256:")


def test_weights_alone_are_no_training(mnistnet: Mnistnet, whole: Path, tmp_path: Path) -> None:
    result = mnistnet("train", "--resume", whole / "best.json")
    assert result.code == 4
    assert result.err.startswith(f"mnistnet: {whole / 'best.json'}: has weights only")
    nothing = mnistnet("train", "--resume", tmp_path)
    message = f"{tmp_path}: no run to go on with: expected latest.json or checkpoint_<epoch>.json"
    assert_refused(nothing, 4, message)


def test_flags_count_more_than_environment_more_than_files(mnistnet: Mnistnet, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("seed = 5\nbatch-size = 16\nlearning_rate = 1\n")

    def shown(*arguments: object, **variables: str) -> dict:
        done = subprocess.run(
            [sys.executable, "-m", "mnistnet", "train", "--print-config", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=True,
        )
        return tomllib.loads(done.stdout)

    default = Settings()
    assert shown() == {k.replace("_", "-"): v for k, v in default.given().items()}
    by_file = shown("--config", "a.toml")
    assert (by_file["seed"], by_file["batch-size"], by_file["learning-rate"]) == (5, 16, 1.0)
    by_variable = shown("--config", "a.toml", MNISTNET_SEED="6", MNISTNET_BATCH_SIZE="8")
    assert (by_variable["seed"], by_variable["batch-size"]) == (6, 8)
    by_flag = shown("--seed", 7, "--config", "a.toml", MNISTNET_SEED="6")
    assert (by_flag["seed"], by_flag["batch-size"]) == (7, 16)
    with_recipe = shown("--config", "a.toml", "--recipe", "fast")
    assert with_recipe["seed"] == 5
    assert with_recipe["nb-epochs"] == recipe_settings("fast")["nb_epochs"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch-sise = 3", "setting: expected one of model, "),
        ('batch-size = "x"', "batch-size: expected a whole number, found 'x'"),
        ("seed = true", "seed: expected a whole number, found True"),
        ("lr-steps = 0.5", "lr-steps: expected a list of numbers, found 0.5"),
        ('budget = "soon"', "--budget: expected a duration such as 60s or 5m, found 'soon'"),
        ("batch-size = ", "expected TOML: "),
    ],
)
def test_a_bad_settings_file_is_named(mnistnet: Mnistnet, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    result = mnistnet("train", "--config", "a.toml")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"mnistnet: a.toml: {message}")
    assert result.err.count("\n") == 1


def test_the_recipes_are_files_with_good_settings() -> None:
    for name in RECIPES:
        Settings(**recipe_settings(name)).config()


def test_a_range_test_chooses_a_rate_and_shows_its_curve(
    mnistnet: Mnistnet, small_data: Path, tmp_path: Path
) -> None:
    options = ("--model", "mlp", "--train-data-dir", small_data, "--nb-epochs", 2)
    result = mnistnet("train", *options, "--learning-rate", "auto", "--checkpoint-folder", "run")
    assert result.code == 0, result.err
    chosen = tomllib.loads((tmp_path / "run" / "run.toml").read_text())["learning-rate"]
    assert 1e-3 < chosen < 0.5
    rates = [float(row["learning_rate"]) for row in rows_of(tmp_path / "run" / "learning_rates.csv")]
    assert rates == sorted(rates)
    assert f"Learning rate: {chosen:.3g}" in result.out
    again = mnistnet("train", "--config", "run/run.toml", "--checkpoint-folder", "again")
    assert again.code == 0, again.err
    name = "latest.json"
    assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


def test_the_batch_that_diverged_is_kept(mnistnet: Mnistnet, small_data: Path, tmp_path: Path) -> None:
    options = ("--model", "mlp", "--train-data-dir", small_data, "--checkpoint-folder", "run")
    result = mnistnet("train", *options, "--learning-rate", 1e30)
    assert result.code == 9
    assert result.err.endswith(f"the batch is in {tmp_path / 'run' / 'diverged.npz'}\n")
    with np.load(tmp_path / "run" / "diverged.npz", allow_pickle=False) as batch:
        images = read_idx(small_data / "train-images-idx3-ubyte")
        assert (batch["images"][:, 0] == images[batch["indices"]]).all()
        assert len(batch["labels"]) == 64


def test_patience_stops_and_says_so(mnistnet: Mnistnet, small_data: Path, tmp_path: Path) -> None:
    options = ("--model", "mlp", "--train-data-dir", small_data, "--checkpoint-folder", "run")
    settings = ("--validation-split", 0.2, "--patience", 2, "--nb-epochs", 100, "--learning-rate", 1e-20)
    result = mnistnet("train", *options, *settings, "--optimizer", "sgd")
    assert "no better validation for 2 epochs; raise --patience to go on" in result.out
    assert len(rows_of(tmp_path / "run" / "loss.csv")) == 3
    assert f"Checkpoint:    {tmp_path / 'run' / 'best.json'}" in result.out
    assert "Best epoch:    1, " in result.out


def test_every_setting_has_a_flag_or_comes_from_files() -> None:
    from typer.main import get_command

    from mnistnet.cli.train import FROM_FILES

    names = {parameter.name for parameter in get_command(command_line()).commands["train"].params}
    assert set(Settings().__dataclass_fields__) - names == set(FROM_FILES)


def test_an_ensemble_is_members_and_their_mean(mnistnet: Mnistnet, small_data: Path, tmp_path: Path) -> None:
    options = ("--model", "mlp", "--train-data-dir", small_data, "--nb-epochs", 2)
    result = mnistnet("train", *options, "--members", 2, "--seed", 3, "--checkpoint-folder", "both")
    assert result.code == 0, result.err
    assert files_in(tmp_path / "both") == ["member_1", "member_2", "run.toml"]
    for number, seed in ((1, 3), (2, 4)):
        alone = mnistnet("train", *options, "--seed", seed, "--checkpoint-folder", f"alone_{number}")
        assert alone.code == 0, alone.err
        assert_same_run(tmp_path / f"alone_{number}", tmp_path / "both" / f"member_{number}")
    for path in (tmp_path / "both" / "member_2").iterdir():
        path.unlink()
    # as of a network that was ended before its first checkpoint
    (tmp_path / "both" / "member_2" / "best.json").write_bytes(
        (tmp_path / "alone_1/latest.json").read_bytes()
    )
    with lock(tmp_path / "both"):
        refused = mnistnet("train", "--resume", "both")
        assert_refused(refused, 8, f"both: locked by process {os.getpid()}, which trains in it")
    resumed = mnistnet("train", "--resume", "both")
    assert resumed.code == 0, resumed.err
    assert_same_run(tmp_path / "alone_2", tmp_path / "both" / "member_2")
    assert resumed.out.splitlines()[-4:-1] == result.out.splitlines()[-4:-1]
    said = mnistnet("info", "both").err
    newest = Path("both/member_2/latest.json")
    # the newest below a folder may be an ensemble
    found = mnistnet("evaluate", tmp_path, "--data-dir", small_data, "--json")
    assert Path(found.json_lines[0]["model"]) == tmp_path / "both"
    os.utime(tmp_path / "alone_1" / "latest.json", (time.time() + 60,) * 2)
    found = mnistnet("evaluate", tmp_path, "--data-dir", small_data, "--json")
    assert Path(found.json_lines[0]["model"]).parent == tmp_path / "alone_1"
    assert said == f"mnistnet: both: an ensemble of 2 networks, of which this is {newest}\n"
    refused = mnistnet("train", *options, "--members", 2, "--checkpoint-folder", "both")
    assert_refused(refused, 2, "both: already holds an ensemble; use --resume, --overwrite or another folder")


def test_an_ensemble_that_replaces_another_is_never_mixed_with_it(
    mnistnet: Mnistnet, small_data: Path, tmp_path: Path
) -> None:
    options = ("--model", "mlp", "--train-data-dir", small_data, "--nb-epochs", 1)
    ensemble = (*options, "--members", 2, "--checkpoint-folder", "both")
    assert mnistnet("train", *ensemble, "--seed", 3).code == 0
    folders = [tmp_path / "both" / f"member_{number}" for number in (1, 2)]
    kept = [files_in(folder) for folder in folders]
    read = "both/member_2/latest.json"
    refused = mnistnet("train", *ensemble[2:], "--start-from", read, "--overwrite")
    why = "is read by this run, which would replace it; use another folder"
    assert_refused(refused, 2, f"{read}: {why}")
    assert [files_in(folder) for folder in folders] == kept
    diverged = mnistnet("train", *ensemble, "--seed", 10, "--overwrite", "--learning-rate", 1e30)
    assert diverged.code not in (0, 2)
    assert files_in(folders[1]) == []
    assert tomllib.loads((tmp_path / "both" / "run.toml").read_text())["seed"] == 10
    assert mnistnet("train", *ensemble, "--seed", 10, "--overwrite").code == 0
    for number, seed in ((1, 10), (2, 11)):
        alone = mnistnet("train", *options, "--seed", seed, "--checkpoint-folder", f"alone_{number}")
        assert alone.code == 0, alone.err
        assert_same_run(tmp_path / f"alone_{number}", tmp_path / "both" / f"member_{number}")


def test_the_networks_of_an_ensemble_share_a_budget(
    mnistnet: Mnistnet, small_data: Path, tmp_path: Path
) -> None:
    options = ("--model", "mlp", "--train-data-dir", small_data, "--checkpoint-folder", "both")
    result = mnistnet("train", *options, "--members", 2, "--budget", "1s")
    assert result.code == 0, result.err
    for folder, budget in (("both", 1.0), ("both/member_1", 0.5), ("both/member_2", 0.5)):
        assert tomllib.loads((tmp_path / folder / "run.toml").read_text())["budget"] == budget


def test_the_best_network_knows_when_to_be_sure(whole: Path) -> None:
    classifier = load_checkpoint(whole / "best.json").classifier
    assert classifier.confidence_threshold is not None
    assert 0 < classifier.confidence_threshold <= 1
    assert load_checkpoint(whole / "latest.json").classifier.confidence_threshold is None


def test_augmented_images_can_be_looked_at(mnistnet: Mnistnet, small_data: Path, tmp_path: Path) -> None:
    options = ("--model", "rsnet", "--train-data-dir", small_data, "--nb-epochs", 0, "--augment-picture")
    result = mnistnet("train", *options, "a.png", "--augment", "affine")
    assert result.code == 0, result.err
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > picture.height
    refused = mnistnet("train", *options, "b.png")
    assert_refused(refused, 2, "--augment-picture: needs --augment shift, affine or elastic")


def test_another_models_weights_are_trained_further(
    mnistnet: Mnistnet, small_data: Path, whole: Path, tmp_path: Path
) -> None:
    onnx = tmp_path / "best.onnx"
    assert mnistnet("export", "--checkpoint-path", whole / "best.json", "--onnx-path", onnx).code == 0
    options = ("--train-data-dir", small_data, "--nb-epochs", 1, "--learning-rate", 0.01)
    for source in (whole / "best.json", onnx):
        result = mnistnet("train", *options, "--start-from", source, "--checkpoint-folder", source.suffix)
        assert result.code == 0, result.err
        before = re.search(r"([\d.]+) % before training", result.out)
        assert before
        assert float(before[1]) > 60  # far from the chance of one in ten
    refused = mnistnet("train", *options, "--start-from", "nothing.json")
    assert refused.code == 4
    assert refused.err.startswith("mnistnet: nothing.json: no such file")


def test_a_run_of_epochs_goes_on_for_a_time(mnistnet: Mnistnet, small_data: Path, tmp_path: Path) -> None:
    options = ("--model", "mlp", "--train-data-dir", small_data, "--nb-epochs", 2)
    assert mnistnet("train", *options, "--checkpoint-folder", "run").code == 0
    resumed = mnistnet("train", "--resume", "run", "--budget", "1s", timeout=30)
    assert resumed.code == 0, resumed.err


def test_an_interrupted_replay_goes_on_as_a_replay(
    mnistnet: Mnistnet, small_data: Path, tmp_path: Path
) -> None:
    options = ("--model", "mlp", "--train-data-dir", small_data, "--checkpoint-folder", "first")
    for budget in ("1.5s", "6s", "24s"):  # a busy machine needs more time for an epoch or two
        assert mnistnet("train", "--budget", budget, *options, "--overwrite").code == 0
        epochs = len(list((tmp_path / "first").glob("checkpoint_*.json")))
        if epochs > 2:
            break
    assert mnistnet("train", "--config", "first/run.toml", "--checkpoint-folder", "second").code == 0
    for name in ("latest.json", *(f"checkpoint_{epoch}.json" for epoch in range(3, epochs + 1))):
        (tmp_path / "second" / name).unlink()
    assert mnistnet("train", "--resume", "second").code == 0
    assert_same_run(tmp_path / "first", tmp_path / "second")


def test_a_flag_counts_more_than_a_replay(mnistnet: Mnistnet, whole: Path, tmp_path: Path) -> None:
    text = "budget = 2.0\nreplay-steps = 5\nreplay-legs = [0.0, 0.0, 0.0]\n"
    (tmp_path / "a.toml").write_text(text)
    shown = tomllib.loads(mnistnet("train", "--config", "a.toml", "--print-config").out)
    assert (shown["replay-steps"], shown["budget"]) == (5, 2.0)
    for option in (("--budget", 3), ("--patience", 3, "--validation-split", 0.1)):
        shown = tomllib.loads(mnistnet("train", "--config", "a.toml", "--print-config", *option).out)
        assert "replay-steps" not in shown
    shown = tomllib.loads(mnistnet("train", "--config", "a.toml", "--print-config", "--nb-epochs", 3).out)
    assert "replay-steps" not in shown
    assert "budget" not in shown


def test_a_choice_lets_go_of_what_a_recipe_said_for_another(mnistnet: Mnistnet, tmp_path: Path) -> None:
    options = ("--recipe", "fast", "--print-config")
    shown = tomllib.loads(mnistnet("train", *options, "--lr-schedule", "cosine", "--optimizer", "adam").out)
    assert "lr-peak" not in shown
    best = tomllib.loads(mnistnet("train", "--recipe", "best", "--print-config", "--augment", "none").out)
    assert "augment-strength" not in best
    (tmp_path / "a.toml").write_text('lr-schedule = "cosine"\n')
    shown = tomllib.loads(mnistnet("train", *options, "--config", "a.toml").out)
    assert (shown["optimizer"], "lr-peak" in shown) == ("nesterov", False)
    refused = mnistnet("train", *options, "--lr-schedule", "cosine", "--lr-peak", 0.5)
    assert_refused(refused, 2, "--lr-peak: goes with --lr-schedule one-cycle, found --lr-schedule cosine")


@pytest.mark.parametrize("content", [b"my precious notes\n", b"\xff\x00"])
def test_a_file_that_is_no_loss_csv_is_kept_on_resume(
    mnistnet: Mnistnet, whole: Path, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "notes.txt").write_bytes(content)
    options = ("--checkpoint-folder", "new", "--loss-csv-path", "notes.txt", "--nb-epochs", 5)
    result = mnistnet("train", "--resume", whole / "checkpoint_3.json", *options)
    assert result.code == 2
    assert (tmp_path / "notes.txt").read_bytes() == content
