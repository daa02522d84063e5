"""``mnistnet train`` through real processes."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnistnet.formats.checkpoint import load_checkpoint

from .conftest import Mnistnet, Result


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def assert_refused(result: Result, code: int, message: str) -> None:
    assert result.code == code
    assert result.err == f"mnistnet: {message}\n"
    assert result.out == ""


def test_a_run_leaves_checkpoints_a_csv_and_says_where(
    mnistnet: Mnistnet, small_data: Path, tmp_path: Path
) -> None:
    result = mnistnet("train", "--model", "mlp", "--nb-epochs", 3, "--train-data-dir", small_data)
    assert result.code == 0
    assert result.err == ""
    lines = result.out.splitlines()
    assert lines[0] == "Training mlp (101770 parameters) on 640 images: 3 epochs, batch 64, seed 0"
    assert [line.split()[1] for line in lines[1:4]] == ["1/3", "2/3", "3/3"]
    (folder,) = (tmp_path / "ckpt").iterdir()
    assert files_in(folder) == [
        "checkpoint_1.json",
        "checkpoint_2.json",
        "checkpoint_3.json",
        "latest.json",
        "loss.csv",
        "run.toml",
    ]
    digits = [re.fullmatch(r"Digit (\d): (\d+) of (\d+)", line) for line in lines[4:14]]
    counts = [tuple(map(int, digit.groups())) for digit in digits if digit]
    assert [count[0] for count in counts] == list(range(10))
    assert sum(count[2] for count in counts) == 200
    result_line = re.fullmatch(
        r"Test accuracy: ([\d.]+) % \((\d+) of 200\); ([\d.]+) % before training", lines[14]
    )
    assert result_line
    assert int(result_line[2]) == sum(count[1] for count in counts)
    assert float(result_line[1]) == pytest.approx(int(result_line[2]) / 2)
    assert float(result_line[3]) < 30
    assert lines[15:] == [
        f"Checkpoint:    {folder / 'checkpoint_3.json'}",
        f"Loss CSV:      {folder / 'loss.csv'}",
    ]
    assert (folder / "latest.json").read_bytes() == (folder / "checkpoint_3.json").read_bytes()

    rows = rows_of(folder / "loss.csv")
    assert (folder / "loss.csv").read_text().startswith("epoch,loss,accuracy,")
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert all(0 <= float(row["accuracy"]) <= 1 for row in rows)
    assert {row["accuracy_of"] for row in rows} == {"training"}


def test_training_learns(mnistnet: Mnistnet, small_data: Path, trained: Path) -> None:
    """Ten classes, 640 images, three epochs: far above chance, on images never trained on."""
    untrained = mnistnet(
        *("train", "--model", "mlp", "--nb-epochs", 0, "--train-data-dir", small_data),
        *("--checkpoint-folder", "none"),
    )
    share = float(untrained.out.split("Test accuracy: ")[1].split()[0])
    assert share < 30
    assert load_checkpoint(trained / "latest.json").training["training_accuracy"] > 0.75


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(
    mnistnet: Mnistnet, small_data: Path, tmp_path: Path
) -> None:
    contents = []
    for name, workers, seed in (("a", 1, 4), ("b", 2, 4), ("c", 1, 4), ("d", 1, 5)):
        options = ("--model", "lenet", "--nb-epochs", 1, "--train-data-dir", small_data)
        result = mnistnet(
            *("train", *options, "--checkpoint-folder", name, "--seed", seed, "--workers", workers)
        )
        assert result.code == 0
        contents.append((tmp_path / name / "checkpoint_1.json").read_bytes())
    assert contents[0] == contents[1] == contents[2]
    assert contents[0] != contents[3]


def test_a_validation_split_is_measured_and_named(
    mnistnet: Mnistnet, small_data: Path, tmp_path: Path
) -> None:
    options = ("--model", "mlp", "--nb-epochs", 2, "--train-data-dir", small_data)
    result = mnistnet("train", *options, "--validation-split", 0.25, "--checkpoint-folder", "run")
    assert "on 480 images, validating on 160" in result.out
    rows = rows_of(tmp_path / "run" / "loss.csv")
    assert {row["accuracy_of"] for row in rows} == {"validation"}
    assert all(float(row["validation_loss"]) > 0 for row in rows)
    assert all(float(row["accuracy"]) * 160 % 1 == 0 for row in rows)


def test_the_stride_leaves_out_checkpoints_but_never_the_last(
    mnistnet: Mnistnet, small_data: Path, tmp_path: Path
) -> None:
    options = ("--model", "mlp", "--nb-epochs", 5, "--train-data-dir", small_data)
    mnistnet("train", *options, "--checkpoint-stride", 2, "--checkpoint-folder", "run")
    assert files_in(tmp_path / "run") == [
        "checkpoint_2.json",
        "checkpoint_4.json",
        "checkpoint_5.json",
        "latest.json",
        "loss.csv",
        "run.toml",
    ]


def test_nothing_to_train_saves_the_untrained_network(
    mnistnet: Mnistnet, small_data: Path, tmp_path: Path
) -> None:
    options = ("--model", "rsnet", "--nb-epochs", 0, "--train-data-dir", small_data)
    result = mnistnet("train", *options, "--checkpoint-folder", "run", "--loss-csv-path", "l.csv")
    assert result.code == 0
    assert files_in(tmp_path / "run") == ["checkpoint_0.json", "latest.json", "run.toml"]
    assert len((tmp_path / "l.csv").read_text().splitlines()) == 1


def test_a_limit_trains_on_the_first_images_only(mnistnet: Mnistnet, small_data: Path) -> None:
    options = ("--model", "mlp", "--nb-epochs", 1, "--train-data-dir", small_data)
    assert "on 100 images" in mnistnet("train", *options, "--limit", 100).out


def test_an_architecture_file_is_trained(mnistnet: Mnistnet, small_data: Path, tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text(
        """{"format": "mnistnet-checkpoint", "version": 1,
            "input": {"channels": 1, "height": 28, "width": 28, "scale": 0.00392156862745098, "shift": 0.0},
            "classes": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
            "layers": [{"kind": "conv2d", "out_channels": 4, "kernel_size": 3, "stride": 2, "padding": 1},
                       {"kind": "relu"}, {"kind": "flatten"},
                       {"kind": "dense", "out_features": 10}, {"kind": "softmax"}]}"""
    )
    options = ("--nb-epochs", 1, "--train-data-dir", small_data, "--checkpoint-folder", "run")
    result = mnistnet("train", "--model", "net.json", *options)
    assert result.code == 0, result.err
    assert "Training custom (7890 parameters)" in result.out  # 4 x 9 + 4, 4 x 14 x 14 x 10 + 10
    classifier = load_checkpoint(tmp_path / "run" / "latest.json").classifier
    assert [layer.kind for layer in classifier.network.layers] == [
        *("conv2d", "relu", "flatten", "dense", "softmax")
    ]


@pytest.mark.catalogue(1, 2, 3, 4, 5, 6, 7)
@pytest.mark.parametrize(
    ("flag", "value", "code", "message"),
    [
        ("--learning-rate", "0", 2, "--learning-rate: must be finite and > 0, found 0.0"),
        ("--learning-rate", "-1", 2, "--learning-rate: must be finite and > 0, found -1.0"),
        ("--learning-rate", "nan", 2, "--learning-rate: must be finite and > 0, found nan"),
        ("--learning-rate", "inf", 2, "--learning-rate: must be finite and > 0, found inf"),
        ("--batch-size", "0", 2, "--batch-size: must be >= 1, found 0"),
        ("--batch-size", "-1", 2, "--batch-size: must be >= 1, found -1"),
        ("--batch-size", "641", 3, "--batch-size: 641 exceeds the 640 training images"),
        ("--nb-epochs", "-1", 2, "--nb-epochs: must be >= 0, found -1"),
        (
            *("--optimizer", "momentun", 2),
            (
                "--optimizer: expected one of sgd, momentum, nesterov, adam, adamw, found 'momentun'; "
                "did you mean momentum?"
            ),
        ),
        ("--momentum", "1.5", 2, "--momentum: must be >= 0 and < 1, found 1.5"),
        ("--weight-decay", "-1", 2, "--weight-decay: must be finite and >= 0, found -1.0"),
        (
            *("--lr-schedule", "cosin", 2),
            (
                "--lr-schedule: expected one of constant, step, cosine, one-cycle, found 'cosin'; "
                "did you mean cosine?"
            ),
        ),
        ("--checkpoint-stride", "0", 2, "--checkpoint-stride: must be >= 1, found 0"),
        ("--seed", "-1", 2, "--seed: must be >= 0 and < 2**63, found -1"),
        ("--validation-split", "1", 2, "--validation-split: must be >= 0 and < 1, found 1.0"),
        ("--limit", "0", 2, "--limit: must be >= 1, found 0"),
        ("--limit", "1000000", 2, "--limit: 1000000 exceeds the 640 training images"),
        (
            *("--loss", "binary_cross_entropy", 2),
            (
                "--loss: binary_cross_entropy goes with a network that ends in sigmoid, found softmax; "
                "auto chooses what suits it"
            ),
        ),
        ("--workers", "0", 2, "--workers: must be >= 1, found 0"),
        ("--workers", "many", 2, "--workers: expected a number >= 1 or auto, found 'many'"),
        (
            *("--model", "lent", 2),
            (
                "--model: expected one of lenet, rsnet, mlp, leaky, sigmoid, wide, deep, deeper, "
                "found 'lent'; did you mean lenet?"
            ),
        ),
    ],
)
def test_a_wrong_value_is_one_line_and_leaves_nothing(
    mnistnet: Mnistnet, small_data: Path, tmp_path: Path, flag: str, value: str, code: int, message: str
) -> None:
    result = mnistnet("train", "--train-data-dir", small_data, flag, value)
    assert_refused(result, code, message)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_has_learned_nothing_is_said(mnistnet: Mnistnet, small_data: Path) -> None:
    options = ("--train-data-dir", small_data, "--model", "mlp", "--nb-epochs", 1, "--optimizer", "sgd")
    result = mnistnet("train", *options, "--learning-rate", 1e-9)
    assert result.code == 0
    assert result.err.startswith("mnistnet: nothing learned: after 10 steps ")
    assert result.err.endswith("; try --learning-rate auto, or more epochs\n")
    assert mnistnet("train", *options, "--learning-rate", 0.1).err == ""


def test_the_limit_of_a_models_size_can_be_raised(
    mnistnet: Mnistnet, small_data: Path, tmp_path: Path
) -> None:
    head = '{"format": "mnistnet-architecture", "version": 1, "input": {"channels": 1, "height": 28,'
    tail = '"width": 28, "scale": 1.0, "shift": 0.0}, "layers": [{"kind": "flatten"},'
    layers = '{"kind": "dense", "out_features": 10}, {"kind": "softmax"}]}'
    (tmp_path / "a.json").write_text(f"{head}{' ' * 2**20}{tail}{layers}")
    options = ("train", "--train-data-dir", small_data, "--nb-epochs", 0, "--model", "a.json", "--size-limit")
    refused = mnistnet(*options, 1)
    assert refused.code == 4
    assert refused.err.endswith(" bytes, more than the limit of 1048576 bytes: raise it with --size-limit\n")
    assert mnistnet(*options, 2).code == 0


def test_strength_goes_with_an_augmentation(mnistnet: Mnistnet, small_data: Path) -> None:
    options = ("train", "--train-data-dir", small_data, "--augment-strength")
    message = "--augment-strength: goes with --augment shift, affine or elastic, found --augment none"
    assert_refused(mnistnet(*options, 0.5), 2, message)
    message = "--augment-strength: must be 0 to 5, found 5.5"
    assert_refused(mnistnet(*options, 5.5, "--augment", "affine"), 2, message)


def test_momentum_goes_with_its_optimizer(mnistnet: Mnistnet, small_data: Path) -> None:
    result = mnistnet("train", "--train-data-dir", small_data, "--optimizer", "sgd", "--momentum", 0.5)
    assert_refused(result, 2, "--momentum: goes with --optimizer momentum or nesterov, found --optimizer sgd")


def test_a_missing_data_folder_is_named(mnistnet: Mnistnet, tmp_path: Path) -> None:
    result = mnistnet("train", "--train-data-dir", "nowhere")
    assert result.code == 3
    assert result.err.startswith("mnistnet: nowhere: ")
    assert result.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_parser_error_is_one_line_too(mnistnet: Mnistnet) -> None:
    result = mnistnet("train", "--batch-size", "abc")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "--batch-size" in result.err


@pytest.mark.catalogue(12)
def test_a_folder_that_holds_a_run_is_refused_without_overwrite(
    mnistnet: Mnistnet, small_data: Path, tmp_path: Path
) -> None:
    options = ("--model", "mlp", "--train-data-dir", small_data, "--checkpoint-folder", "run")
    assert mnistnet("train", *options, "--nb-epochs", 2).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    result = mnistnet("train", *options, "--nb-epochs", 1, "--seed", 1)
    folder = tmp_path / "run"
    assert_refused(
        result.__class__(result.code, "", result.err),
        2,
        f"{folder}: already holds checkpoint_1.json; use --resume, --overwrite or another folder",
    )
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert mnistnet("train", *options, "--nb-epochs", 1, "--seed", 1, "--overwrite").code == 0
    assert files_in(folder) == ["checkpoint_1.json", "latest.json", "loss.csv", "run.toml"]


@pytest.mark.catalogue(8, 10)
@pytest.mark.parametrize(
    ("make", "flag", "path", "code", "message"),
    [
        ("file", "--checkpoint-folder", "x", 8, "x: not a directory: give the name of a folder"),
        (
            *("file", "--checkpoint-folder", "x/y", 8),
            "x/y: cannot make this folder: {tmp_path}/x is not a directory: choose another folder",
        ),
        ("folder", "--loss-csv-path", "x", 8, "x: is a directory: give the name of a file"),
        ("file", "--loss-csv-path", "x", 2, "x: already exists; use --overwrite or another path"),
        (
            *("file", "--loss-csv-path", "no/l.csv", 8),
            "no/l.csv: the folder {tmp_path}/no does not exist: create it first",
        ),
    ],
)
def test_a_path_that_cannot_be_written_is_said_before_the_first_step(
    mnistnet: Mnistnet,
    small_data: Path,
    tmp_path: Path,
    make: str,
    flag: str,
    path: str,
    code: int,
    message: str,
) -> None:
    x = tmp_path / "x"
    if make == "file":
        x.write_text("mine")
    else:
        x.mkdir()
    result = mnistnet("train", "--model", "mlp", "--train-data-dir", small_data, flag, path)
    assert_refused(result, code, f"{tmp_path}/{message.format(tmp_path=tmp_path)}")
    assert files_in(tmp_path) in (["x"], ["ckpt", "x"])
    assert not (tmp_path / "ckpt").exists() or list((tmp_path / "ckpt").iterdir()) == []
    if make == "file":
        assert x.read_text() == "mine"


@pytest.mark.catalogue(11)
def test_the_csv_never_goes_over_the_data(mnistnet: Mnistnet, small_data: Path) -> None:
    target = small_data / "train-labels-idx1-ubyte"
    before = target.read_bytes()
    result = mnistnet("train", "--train-data-dir", small_data, "--loss-csv-path", target, "--overwrite")
    assert_refused(result, 2, f"--loss-csv-path: {target} would overwrite data that is read")
    assert target.read_bytes() == before


def test_divergence_names_step_and_layer_and_keeps_what_is_saved(
    mnistnet: Mnistnet, small_data: Path, tmp_path: Path
) -> None:
    options = ("--model", "mlp", "--train-data-dir", small_data, "--checkpoint-folder", "run")
    result = mnistnet("train", *options, "--learning-rate", 1e30, "--nb-epochs", 3)
    assert result.code == 9
    assert result.err.startswith("mnistnet: training diverged at step ")
    assert "layer 3 (dense)" in result.err  # the first whose output overflows
    assert "try a lower --learning-rate than 1e+30" in result.err
    assert result.err.count("\n") == 1


def test_a_divergence_in_the_very_last_step_is_one_too(
    mnistnet: Mnistnet, small_data: Path, tmp_path: Path
) -> None:
    options = ("--model", "mlp", "--train-data-dir", small_data, "--checkpoint-folder", "run")
    result = mnistnet("train", *options, "--learning-rate", 3e38, "--nb-epochs", 1, "--limit", 64)
    assert result.code == 9
    assert result.err == (
        "mnistnet: the network's outputs are not finite: its training diverged; try a lower learning rate\n"
    )


def test_an_architecture_without_softmax_is_refused(
    mnistnet: Mnistnet, small_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "net.json").write_text(
        """{"format": "mnistnet-architecture", "version": 1,
            "input": {"channels": 1, "height": 28, "width": 28, "scale": 0.004, "shift": 0.0},
            "layers": [{"kind": "flatten"}, {"kind": "dense", "out_features": 10}]}"""
    )
    result = mnistnet("train", "--model", "net.json", "--train-data-dir", small_data)
    assert_refused(result, 4, "net.json: the last layer should be softmax or sigmoid, found dense")


posix = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")


@posix
@pytest.mark.catalogue(45)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_training_with_the_work_saved(
    small_data: Path, tmp_path: Path, number: int, code: int
) -> None:
    folder = tmp_path / "run"
    arguments = ["--model", "mlp", "--nb-epochs", "100000", "--checkpoint-folder", str(folder)]
    with subprocess.Popen(
        [sys.executable, "-m", "mnistnet", "train", "--train-data-dir", str(small_data), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not (folder / "checkpoint_3.json").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == code
    name = signal.Signals(number).name
    assert err.startswith(f"mnistnet: {name}: stopped after ")
    assert err.endswith(f"saved as {folder / 'latest.json'}\n")
    training = load_checkpoint(folder / "latest.json").training
    assert training["epoch"] >= 3
    assert f"stopped after {training['epoch']} epochs and {training['step']} steps" in err
    # every epoch that was announced is in the CSV, on a line of its own
    epochs = [line for line in out.splitlines() if line.startswith("epoch ")]
    assert len(rows_of(folder / "loss.csv")) == len(epochs) == training["epoch"]
    assert not (folder / ".lock").exists()


@posix
@pytest.mark.catalogue(13)
def test_a_second_trainer_is_kept_out(mnistnet: Mnistnet, small_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ("--model", "mlp", "--train-data-dir", str(small_data), "--checkpoint-folder", str(folder))
    with subprocess.Popen(
        [sys.executable, "-m", "mnistnet", "train", *options, "--nb-epochs", "100000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as first:
        while not (folder / "latest.json").exists():
            assert first.poll() is None
            time.sleep(0.01)
        second = mnistnet("train", *options, "--overwrite")
        first.kill()
    assert_refused(second, 8, f"{folder}: locked by process {first.pid}, which trains in it")
    assert (folder / "latest.json").exists()
    # the lock of a killed process is free at once
    assert mnistnet("train", *options, "--nb-epochs", 1, "--overwrite").code == 0


@posix
@pytest.mark.catalogue(42)
def test_a_full_disk_keeps_the_last_checkpoint(small_data: Path, tmp_path: Path) -> None:
    """A file-size limit of the operating system stands for the full disk: the second write fails."""
    import resource

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    folder = tmp_path / "run"
    arguments = ("--model", "mlp", "--nb-epochs", "2", "--workers", "1")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mnistnet", "train", *arguments, "--train-data-dir", str(small_data)),
            *("--checkpoint-folder", str(folder)),
        ],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        # a measurement of coverage would complain of the full disk too
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
    )
    assert done.returncode == 8
    assert done.stderr.count("\n") == 1
    assert str(folder / "checkpoint_1.json") in done.stderr
    assert files_in(folder) == ["loss.csv", "run.toml"]
    assert len(rows_of(folder / "loss.csv")) == 1


def test_a_report_is_one_page_in_the_runs_folder(
    mnistnet: Mnistnet, small_data: Path, tmp_path: Path
) -> None:
    result = mnistnet(
        *("train", "--model", "mlp", "--nb-epochs", "1", "--train-data-dir", small_data),
        *("--checkpoint-folder", "run", "--report"),
    )
    assert (result.code, result.err) == (0, "")
    page = tmp_path / "run" / "report.html"
    assert result.out.splitlines()[-1] == f"Report:        {page}"
    text = page.read_text(encoding="utf-8")
    accuracy = re.search(r"Test accuracy: (\S+ %)", result.out)
    assert accuracy
    assert f'<p class="accuracy">{accuracy[1]}</p>' in text
    assert text.count("<figure>") == 5
