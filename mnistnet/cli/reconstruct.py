"""``mnistnet reconstruct``."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnistnet.cli.console import DEFAULT_SIZE_LIMIT, SizeLimit, process_count, warn
from mnistnet.cli.easel import Easel, likeness, say
from mnistnet.cli.resume import (
    Resumed,
    ensemble_settings,
    find_resumed,
    run_folder,
    said_now,
    settings_on_resume,
)
from mnistnet.cli.signals import PIPE_CLOSED
from mnistnet.errors import CheckpointError, DataError, DivergedError, PictureError, UsageError, choose
from mnistnet.training.settings import AUTO, Settings, flag, seconds, settings_text

if TYPE_CHECKING:
    from mnistnet.cli.recorder import Recorder
    from mnistnet.data.pictures.raster import Raster
    from mnistnet.data.points import Points
    from mnistnet.engine.network import Network
    from mnistnet.models import Classifier
    from mnistnet.training.trainer import Trainer

DEFAULT_RUNS = Path("drawings")
"""Apart from the runs of classifiers, so that ``mnistnet run ckpt`` does not find them."""
MODELS = ("sine", "fourier", "tanh")
MOST_LEARNED = 256 * 256
"""Pixels of a picture that are learned unless ``--learn-size`` says otherwise."""
MOST_POINTS = 1 << 20
MOST_DRAWN = 50_000_000
_MOST_BYTES = 1 << 29
BATCH_SIZE = 512
STEPS, INK_STEPS, TANH_STEPS = 2000, 1000, 10_000
"""So many steps a training takes at least unless told otherwise: of grey and colour, of black and white, and
of the original network, whose steps are slow to lead anywhere."""
LEAST_EPOCHS = 40
"""So often it goes at least through all pixels."""
AUTOSAVE = 10.0
"""Seconds between two saves of ``latest.json``."""
FACTS = "picture"
"""Of a checkpoint's ``training``: what picture its network has learned."""

LEARNING, OUTPUT, RUN = "Learning", "Output", "Run"


def _option(panel: str, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


def reconstruct(
    context: typer.Context,
    image: Annotated[
        str | None, typer.Argument(help="The picture to learn: PNG, JPEG, PBM, PGM, ...", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        _option(OUTPUT, "Where the drawn picture goes: .png, .jpg, .pgm, .pbm, ...", "--output", "-o"),
    ] = None,
    size: Annotated[
        str | None,
        _option(OUTPUT, "Its size: N pixels for the longer side, or WIDTHxHEIGHT; the picture's own."),
    ] = None,
    preview: Annotated[
        Path | None, _option(OUTPUT, "A picture that is overwritten while the network learns.")
    ] = None,
    preview_interval: Annotated[float, _option(OUTPUT, "Seconds between two previews.")] = 2.0,
    gif: Annotated[Path | None, _option(OUTPUT, "A film of the learning.")] = None,
    model: Annotated[str, _option(LEARNING, "sine, fourier or tanh.")] = MODELS[0],
    learn_size: Annotated[
        str | None,
        _option(LEARNING, "Learn the picture at this size, as --size; larger ones are shrunk to 256x256."),
    ] = None,
    learning_rate: Annotated[
        float | None, _option(LEARNING, "Step size at the schedule's height; 0.001 for sine.")
    ] = None,
    batch_size: Annotated[
        int | None, _option(LEARNING, "Pixels in a step; 512, all of them for tanh.")
    ] = None,
    nb_epochs: Annotated[
        int | None,
        _option(
            LEARNING,
            "Times to go through the pixels; 40, or what 2,000 steps take (black and white: 1,000).",
        ),
    ] = None,
    budget: Annotated[
        Any,
        _option(LEARNING, "Learn for this long instead: 20s, 5m.", parser=seconds, metavar="TIME"),
    ] = None,
    optimizer: Annotated[
        str | None, _option(LEARNING, "sgd, momentum, nesterov, adam or adamw; adam, sgd for tanh.")
    ] = None,
    momentum: Annotated[float | None, _option(LEARNING, "Of momentum and nesterov, in [0, 1).")] = None,
    weight_decay: Annotated[float | None, _option(LEARNING, "0 unless given.")] = None,
    lr_schedule: Annotated[
        str | None, _option(LEARNING, "constant, step, cosine or one-cycle; cosine, constant for tanh.")
    ] = None,
    loss: Annotated[
        str | None,
        _option(LEARNING, "binary_cross_entropy, which black and white gets, or mean_squared_error."),
    ] = None,
    clip_norm: Annotated[float | None, _option(LEARNING, "Longest gradient (Euclidean norm).")] = None,
    seed: Annotated[int, _option(LEARNING, "Same seed, same bits: with any number of workers.")] = 0,
    workers: Annotated[str, _option(LEARNING, "Processes to use: a number, or auto.")] = AUTO,
    checkpoint_folder: Annotated[
        Path | None, _option(RUN, "Where this run is kept; a new folder below drawings/ unless given.")
    ] = None,
    checkpoint_stride: Annotated[
        int | None, _option(RUN, "Keep a checkpoint every so many epochs, not only the last.")
    ] = None,
    overwrite: Annotated[bool, _option(RUN, "Replace a run that is there already.", "--overwrite")] = False,
    resume: Annotated[
        Path | None, _option(RUN, "Go on with a run: its folder, or one of its checkpoints.")
    ] = None,
    source: Annotated[
        Path | None, _option(RUN, "Only draw, with the network of this checkpoint.", "--from")
    ] = None,
    size_limit: SizeLimit = DEFAULT_SIZE_LIMIT,
) -> None:
    """Let a network learn one picture, pixel by pixel, and draw it again at any size.

    Examples:
        mnistnet reconstruct data/samples/spiral.pbm --size 200 -o spiral.png

        mnistnet reconstruct photo.jpg -o drawn.png --preview now.png --gif learning.gif

        mnistnet reconstruct --from drawings/spiral-sine-20261121-120000 --size 1000 -o large.png
    """
    if output is None:
        raise UsageError("--output: missing: say where the drawn picture goes, as in -o out.png")
    wanted = None if size is None else _parse_size("--size", size)
    if source is not None:
        _refuse_beside_from(context)
        _draw_only(source, image, wanted, output, size_limit)
        return
    outputs = _Outputs(
        output, preview, preview_interval, gif, checkpoint_folder, checkpoint_stride, overwrite
    )
    outputs.check()
    resumed = None if resume is None else _find_drawing(resume)
    path = _image_path(image, resumed)
    raster = _read(path, None if learn_size is None else _parse_size("--learn-size", learn_size), resumed)
    said = {name: context.params[name] for name in said_now(context)}
    if resumed is None:
        settings = _first_settings(raster, said)
    else:
        settings = settings_on_resume(context, Settings(**said), resumed.settings)
    settings = replace(settings, train_data_dir=str(path))
    _check_settings(settings, raster)
    _check_outputs(outputs.pictures, raster.tone, [path, *([] if resume is None else [resume])])
    full = _full_size(wanted, raster.size)
    _check_drawn_size(output, full)
    asked = _Asked(settings, path, raster, full, process_count(workers))
    try:
        _learn_and_draw(asked, outputs, resumed)
    except BrokenPipeError:  # as of a training: saved, but not done
        sys.exit(PIPE_CLOSED)


@dataclass(frozen=True)
class _Outputs:
    """What is written, and when."""

    drawing: Path
    preview: Path | None
    interval: float
    """Seconds between two previews."""
    gif: Path | None
    folder: Path | None
    stride: int | None
    overwrite: bool

    def check(self) -> None:
        """Refuse numbers that make no sense."""
        if self.stride is not None and self.stride < 1:
            raise UsageError(f"--checkpoint-stride: must be >= 1, found {self.stride}")
        if not self.interval > 0:
            raise UsageError(f"--preview-interval: must be > 0 seconds, found {self.interval}")

    @property
    def pictures(self) -> dict[str, Path | None]:
        """Every picture by its flag."""
        return {"--output": self.drawing, "--preview": self.preview, "--gif": self.gif}


@dataclass(frozen=True)
class _Asked:
    """All that was asked for."""

    settings: Settings
    path: Path
    """Of the picture."""
    raster: Raster
    size: tuple[int, int]
    """(width, height) of the drawing."""
    workers: int | None

    @property
    def points(self) -> Points:
        """The picture's pixels: where they are, and what is there."""
        from mnistnet.data.points import Points, pixel_centres

        values = self.raster.values
        frame = self.raster.size
        return Points(pixel_centres(frame, frame), values.reshape(-1, values.shape[2]))

    @property
    def facts(self) -> dict[str, Any]:
        """What a checkpoint says of the picture."""
        width, height = self.raster.size
        picture = {"width": width, "height": height, "tone": self.raster.tone}
        return {FACTS: picture, "data": self.points.fingerprint}


# what was said ---------------------------------------------------------------------------------------------


def _parse_size(name: str, text: str) -> tuple[int, int] | int:
    """A longer side, or (width, height)."""
    if not re.fullmatch(r"\d{1,9}(x\d{1,9})?", text, re.ASCII):
        raise UsageError(
            f"{name}: expected pixels such as 200, or WIDTHxHEIGHT such as 320x200, found {text!r}"
        )
    numbers = [int(number) for number in text.split("x")]
    if min(numbers) < 1:
        raise UsageError(f"{name}: must be >= 1 pixel, found {text}")
    most = MOST_DRAWN if name == "--size" else MOST_POINTS
    if len(numbers) == 2:
        width, height = numbers
        if width * height > most:
            raise UsageError(f"{name}: must be at most {most} pixels, found {text}")
        return width, height
    return numbers[0]


def _full_size(
    wanted: tuple[int, int] | int | None, own: tuple[int, int], name: str = "--size", most: int = MOST_DRAWN
) -> tuple[int, int]:
    """(width, height) of a picture whose own size is ``own``: of a single number, with the same shape."""
    if wanted is None:
        return own
    if isinstance(wanted, tuple):
        return wanted
    width, height = (max(1, round(side * wanted / max(own))) for side in own)
    if width * height > most:
        raise UsageError(f"{name}: must be at most {most} pixels, found {width}x{height}")
    return width, height


def _refuse_beside_from(context: typer.Context) -> None:
    """``--from`` learns nothing, so nothing about learning may be said."""
    drawing = ("image", "output", "size", "source", "size_limit")
    for name in context.params:
        given = context.get_parameter_source(name)
        if name not in drawing and given is not None and given.name == "COMMANDLINE":
            raise UsageError(f"--from: only draws: leave {flag(name)} away, or go on learning with --resume")


def _image_path(image: str | None, resumed: Resumed | None) -> Path:
    if image is not None:
        return Path(image)
    if resumed is None:
        raise UsageError("IMAGE: missing: give a picture to learn, --resume to go on or --from to draw only")
    if resumed.settings.train_data_dir is None:
        raise UsageError(f"--resume: {resumed.path} does not say where its picture is: give it too")
    return Path(resumed.settings.train_data_dir)


def _first_settings(raster: Raster, said: Mapping[str, Any]) -> Settings:
    """What does well for a network and a picture, and instead what was said."""
    from mnistnet.data.pictures.raster import INK

    model = choose("--model", said.get("model", MODELS[0]), MODELS)
    width, height = raster.size
    count = width * height
    if model == "tanh":  # in its original form
        settings = Settings(optimizer="sgd", learning_rate=0.3, lr_schedule="constant", batch_size=count)
    else:
        settings = Settings(optimizer="adam", learning_rate=0.001, batch_size=min(BATCH_SIZE, count))
    if "optimizer" in said:  # whose own rate is meant
        settings = replace(settings, learning_rate=None)
    settings = replace(settings, **{"model": model, "weight_decay": 0.0, **said})
    if "nb_epochs" not in said and settings.batch_size > 0:
        steps = TANH_STEPS if model == "tanh" else INK_STEPS if raster.tone == INK else STEPS
        by_steps = -(-steps // -(-count // settings.batch_size))
        settings = replace(settings, nb_epochs=max(LEAST_EPOCHS, by_steps))
    if settings.loss == AUTO:
        loss = "binary_cross_entropy" if raster.tone == INK else "mean_squared_error"
        settings = replace(settings, loss=loss)
    return settings


def _check_settings(settings: Settings, raster: Raster) -> None:
    settings.config()
    choose("--loss", settings.loss, ("binary_cross_entropy", "mean_squared_error"))
    width, height = raster.size
    if settings.batch_size > width * height:
        raise UsageError(f"--batch-size: {settings.batch_size} exceeds the {width * height} pixels to learn")
    try:
        settings_text(settings).encode()
    except UnicodeEncodeError as error:
        raise UsageError("IMAGE: expected Unicode text as its path, found other bytes") from error


def _check_outputs(outputs: Mapping[str, Path | None], tone: str, inputs: Sequence[Path]) -> None:
    """Refuse what could not be written in the end, or would replace what is read."""
    from mnistnet.data.pictures.raster import check_format
    from mnistnet.files import check_target, remove_leftovers, same_file

    seen: list[tuple[str, Path]] = []
    for name, path in outputs.items():
        if path is None:
            continue
        try:
            check_format(path.suffix.lower(), tone)
        except PictureError as error:
            raise UsageError(f"{name}: {path}: {error}") from error
        if name == "--gif" and path.suffix.lower() != ".gif":
            raise UsageError(f"--gif: {path}: expected a name that ends in .gif")
        check_target(path)
        for read in inputs:
            if same_file(path, read):
                raise UsageError(f"{name}: {path} is read: choose another path")
        for other, taken in seen:
            if same_file(path, taken):
                raise UsageError(f"{name}: {path} is {other} too: choose another path")
        seen.append((name, path))
        remove_leftovers(path.parent, of=path.name)


def _check_drawn_size(output: Path, size: tuple[int, int]) -> None:
    """Refuse a size (width, height) that the output's format cannot hold."""
    from mnistnet.data.pictures.raster import check_size

    try:
        check_size(output.suffix.lower(), size)
    except PictureError as error:
        raise UsageError(f"--size: {output}: {error}") from error


# what is there ---------------------------------------------------------------------------------------------


def _read(path: Path, learned: tuple[int, int] | int | None, resumed: Resumed | None) -> Raster:
    """The picture as it is to be learned: in a training that goes on at the size it has there."""
    from mnistnet.data.pictures.raster import read_raster, resized, shrunk
    from mnistnet.files import read_limited

    notes: list[str] = []
    content = read_limited(path, _MOST_BYTES, PictureError)
    try:
        whole = read_raster(content, notes)
    except PictureError as error:
        raise error.at(path) from error
    if learned is not None:
        raster = resized(whole, _full_size(learned, whole.size, "--learn-size", MOST_POINTS))
    elif resumed is not None:
        raster = resized(whole, _frame_of(resumed.path, resumed.checkpoint.training))
    else:
        raster = shrunk(whole, MOST_LEARNED)
    if raster.size != whole.size:
        (width, height), (w, h) = raster.size, whole.size
        notes.append(f"learned at {width}x{height}, not at its {w}x{h} pixels: see --learn-size")
    for note in notes:
        warn(f"{path}: {note}")
    return raster


def _find_drawing(path: Path) -> Resumed:
    """The training of a picture that goes on."""
    if ensemble_settings(path) is not None:
        raise CheckpointError(f"{path}: holds an ensemble: go on with mnistnet train --resume")
    resumed = find_resumed(path)
    _frame_of(resumed.path, resumed.checkpoint.training)
    return resumed


def _frame_of(path: Path, training: Mapping[str, Any]) -> tuple[int, int]:
    """(width, height) of the picture that a checkpoint's network has learned."""
    found = training.get(FACTS)
    if found is None:
        raise CheckpointError(
            f"{path}: expected a network that has learned a picture, which mnistnet reconstruct makes; "
            "found another, which mnistnet train goes on with and mnistnet run uses"
        )
    sides = [found.get(name) for name in ("width", "height")] if isinstance(found, dict) else []
    width, height = sides if len(sides) == 2 else (None, None)
    for side in (width, height):
        if type(side) is not int or not 1 <= side <= MOST_POINTS:
            raise CheckpointError(f"{path}: training.{FACTS}: expected width and height, found {found!r}")
    assert isinstance(width, int)
    assert isinstance(height, int)
    return width, height


def _classifier(asked: _Asked, resumed: Resumed | None) -> Classifier:
    """A new network, or the one whose training goes on."""
    from mnistnet.data.pictures.raster import INK, TONES
    from mnistnet.models import Classifier, build_drawing

    names = TONES[asked.raster.tone]
    if resumed is None:
        model, seed = asked.settings.model, asked.settings.seed
        detail = max(asked.raster.size) * (0.5 if asked.raster.tone == INK else 1.0)
        network = build_drawing(model, len(names), detail).initialize(seed)
        return Classifier(network, names, name=model)
    saved = resumed.checkpoint
    facts = asked.facts
    different = [
        f"{name} {saved.training.get(name)}, found {facts[name]}"
        for name in facts
        if saved.training.get(name) != facts[name]
    ]
    if different:
        raise DataError(f"--resume: the run learned another picture: expected {'; '.join(different)}")
    return saved.classifier


def _new_folder(path: Path, model: str) -> AbstractContextManager[Path]:
    from mnistnet.training.runs import new_folder

    return new_folder(DEFAULT_RUNS, f"{path.stem}-{model}")


# learning --------------------------------------------------------------------------------------------------


def _learn_and_draw(asked: _Asked, outputs: _Outputs, resumed: Resumed | None) -> None:
    """Train in a folder, then draw and say how close that comes."""
    from mnistnet.cli.recorder import Recorder
    from mnistnet.training.trainer import Trainer

    settings, raster = asked.settings, asked.raster
    classifier = _classifier(asked, resumed)
    network = classifier.network
    length = f"{settings.nb_epochs}" if settings.budget is None else f"{settings.budget:g} s"
    easel = Easel(network, raster, asked.size, length, outputs.preview, outputs.interval, outputs.gif)
    with run_folder(
        outputs.folder,
        resumed,
        lambda: _new_folder(asked.path, settings.model),
        csv_path=None,
        overwrite=outputs.overwrite,
        inputs=[asked.path],
    ) as run:
        state = None if resumed is None else resumed.state
        trainer = Trainer(classifier, settings.config(asked.workers), state)
        facts = asked.facts  # a checksum of all pixels: found once, not at every save
        recorder = Recorder(run, trainer, settings, lambda: facts)
        _announce(trainer, asked, resumed)
        saved = _learn(trainer, recorder, easel, asked.points, outputs.stride)
    _write_drawing(network, raster.size, asked.size, outputs.drawing)
    say(likeness(network, raster))
    typer.echo(f"Checkpoint:   {saved if saved is not None or resumed is None else resumed.path}")


def _announce(trainer: Trainer, asked: _Asked, resumed: Resumed | None) -> None:
    config, (width, height) = trainer.config, asked.raster.size
    network = trainer.classifier.network
    typer.echo(
        f"Learning {width}x{height} pixels, {asked.raster.tone}, with {trainer.classifier.name} "
        f"({network.size} parameters): {config.length}, batch {config.batch_size}, seed {config.seed}"
    )
    if resumed is not None:
        typer.echo(f"Going on with {resumed.path} after {trainer.epoch} epochs and {trainer.step} steps")


def _learn(
    trainer: Trainer, recorder: Recorder, easel: Easel, points: Points, stride: int | None
) -> Path | None:
    """Train, save and show; leaves with 128 and the number of a signal that stops it.

    Returns:
        The last checkpoint; None if there was nothing left to learn.
    """
    from mnistnet.cli.signals import stop_signals
    from mnistnet.training.trainer import EpochResult

    if trainer.config.nb_epochs == 0 and trainer.config.budget is None and not trainer.steps:
        return recorder.untrained()
    saved: Path | None = None
    due = _every(AUTOSAVE)
    with stop_signals() as received, easel, contextlib.closing(trainer.run(points)) as results:
        try:
            for event in results:
                over = isinstance(event, EpochResult) and event.is_last
                if isinstance(event, EpochResult):
                    keep = over or (stride is not None and event.epoch % stride == 0)
                    saved = recorder.epoch(event, save=keep) or saved
                else:
                    easel.step(event)
                    if next(due):
                        recorder.stopped()
                if (number := received()) and not over:
                    _stop(number, trainer, recorder, easel)
        except BrokenPipeError:
            recorder.stopped()
            raise
        except DivergedError as error:
            raise recorder.diverged(error, points) from error
    if saved is None:
        typer.echo(f"Nothing left to learn: its {trainer.config.length} are over")
    else:
        easel.finish()
    return saved


def _stop(number: int, trainer: Trainer, recorder: Recorder, easel: Easel) -> None:
    """Save the work, then the pictures of it, and leave."""
    easel.close()
    path = recorder.stopped()
    easel.finish()
    warn(
        f"{signal.Signals(number).name}: stopped after {trainer.epoch} epochs and {trainer.step} steps; "
        f"saved as {path}; go on with --resume {path.parent}"
    )
    sys.exit(128 + number)


def _every(interval: float) -> Iterator[bool]:
    """Whether an interval has gone by since it was last so."""
    from time import monotonic

    began = monotonic()
    while True:
        due = monotonic() - began >= interval
        if due:
            began = monotonic()
        yield due


# drawing ---------------------------------------------------------------------------------------------------


def _draw_only(
    source: Path, image: str | None, wanted: tuple[int, int] | int | None, output: Path, size_limit: int
) -> None:
    """Draw with the network of a checkpoint; if its picture is given, say how close that comes."""
    from mnistnet.data.pictures.raster import GREY, TONES
    from mnistnet.formats.checkpoint import find_checkpoint, load_checkpoint

    path = find_checkpoint(source)
    checkpoint = load_checkpoint(path, limit=size_limit * 2**20)
    frame = _frame_of(path, checkpoint.training)
    network = checkpoint.classifier.network
    tones = {len(names): tone for tone, names in TONES.items() if tone != GREY}
    found = (network.input_shape, network.output_shape)
    if network.input_shape != (2,) or network.output_shape[0] not in tones:
        raise CheckpointError(f"{path}: expected a network from (2,) to (1,) or (3,), found {found}")
    facts = checkpoint.training[FACTS]
    tone = facts.get("tone") if isinstance(facts, dict) else None
    if tone not in TONES or len(TONES[tone]) != network.output_shape[0]:
        raise CheckpointError(
            f"{path}: training.{FACTS}.tone: expected one of {', '.join(TONES)}, found {tone!r}"
        )
    inputs = [path, *([] if image is None else [Path(image)])]
    _check_outputs({"--output": output}, tone, inputs)
    raster = None if image is None else _read(Path(image), frame, None)
    if raster is not None and raster.tone != tone:
        raise DataError(f"{image}: expected a picture in {tone}, as the network learned, found {raster.tone}")
    full = _full_size(wanted, frame)
    _check_drawn_size(output, full)
    _write_drawing(network, frame, full, output)
    if raster is not None:
        say(likeness(network, raster))


def _write_drawing(network: Network, frame: tuple[int, int], size: tuple[int, int], output: Path) -> None:
    from mnistnet.data.pictures.raster import encode_raster
    from mnistnet.files import write_atomically
    from mnistnet.reports.reconstruction import draw

    write_atomically(output, encode_raster(draw(network, size, frame), output.suffix.lower()))
    width, height = size
    typer.echo(f"Drawn:        {output} ({width}x{height})")
