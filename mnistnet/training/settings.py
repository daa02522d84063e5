"""A run's settings as people write them: flags, TOML files, recipes. Light to import."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from mnistnet.errors import UsageError, any_of, choose, explain

if TYPE_CHECKING:
    from mnistnet.data.augmentation import Augmentation
    from mnistnet.training.config import TrainingConfig

_T = TypeVar("_T")

AUTO = "auto"
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class _Choice:
    """What a name on the command line stands for in one of the engine's registries."""

    kind: str
    takes: Mapping[str, str] = field(default_factory=dict)
    """The engine's argument for each setting that goes with this choice."""
    presets: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that are not the engine's defaults."""
    learning_rate: float = 0.05


_DECAY = {"weight_decay": "weight_decay"}
_BETAS = {"beta1": "beta1", "beta2": "beta2", **_DECAY}
OPTIMIZERS = {
    "sgd": _Choice("sgd", _DECAY, {"weight_decay": 5e-4}),
    "momentum": _Choice("sgd", {"momentum": "momentum", **_DECAY}, {"momentum": 0.9, "weight_decay": 5e-4}),
    "nesterov": _Choice(
        "sgd",
        {"momentum": "momentum", **_DECAY},
        {"momentum": 0.9, "weight_decay": 5e-4, "nesterov": True},
    ),
    "adam": _Choice("adam", _BETAS, learning_rate=0.001),
    "adamw": _Choice("adamw", _BETAS, learning_rate=0.001),
}
"""What ``--optimizer`` takes, with the learning rate unless one is given."""

_WARMUP = {"warmup": "warmup"}
SCHEDULES = {
    "constant": _Choice("constant", _WARMUP),
    "step": _Choice("step", {"lr_gamma": "gamma", "lr_steps": "at", **_WARMUP}),
    "cosine": _Choice("cosine", _WARMUP),
    "one-cycle": _Choice("one-cycle", {"lr_peak": "peak", **_WARMUP}),
}
"""What ``--lr-schedule`` takes."""

LOSSES = {
    "auto": _Choice("cross_entropy", {"label_smoothing": "label_smoothing"}),
    "cross_entropy": _Choice("cross_entropy", {"label_smoothing": "label_smoothing"}),
    "binary_cross_entropy": _Choice("binary_cross_entropy"),
    "mean_squared_error": _Choice("mean_squared_error"),
}
"""What ``--loss`` takes; auto, when labels are not to be smoothed, is what suits the network's last layer."""

_STRENGTH = {"augment_strength": "strength"}
AUGMENTATIONS = {
    "none": _Choice("none"),
    "shift": _Choice("shift", _STRENGTH),
    "affine": _Choice("affine", _STRENGTH),
    "elastic": _Choice("elastic", _STRENGTH),
}
"""What ``--augment`` takes."""

_CHOICES = {"optimizer": OPTIMIZERS, "lr_schedule": SCHEDULES, "loss": LOSSES, "augment": AUGMENTATIONS}

RECIPES = ("fast", "accurate", "best")
"""What ``--recipe`` takes: the settings files that come with the package."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run computes: from these and the data follow all bits.

    None stands for what the other settings imply.

    Raises:
        UsageError: a choice that there is not; other values are checked where they are used.
    """

    model: str = "lenet"
    start_from: str | None = None
    """A model file whose network, with its weights, is trained further instead."""
    learning_rate: float | str | None = None
    """A number, or "auto"."""
    batch_size: int = 64
    nb_epochs: int = 5
    budget: float | None = None
    """Seconds."""
    optimizer: str = "momentum"
    momentum: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    weight_decay: float | None = None
    lr_schedule: str = "cosine"
    lr_gamma: float | None = None
    lr_steps: tuple[float, ...] | None = None
    lr_peak: float | None = None
    warmup: float | None = None
    loss: str = AUTO
    label_smoothing: float | None = None
    clip_norm: float | None = None
    average_decay: float | None = None
    augment: str = "none"
    augment_strength: float | None = None
    seed: int = 0
    members: int = 1
    """How many networks to train, with one seed after the other, whose mean probabilities count."""
    validation_split: float = 0.0
    patience: int | None = None
    train_data_dir: str | None = None
    data: str | None = None
    limit: int | None = None
    replay_steps: int | None = None
    """Of a run with a budget that is gone through once more: how many steps it took."""
    replay_legs: tuple[float, ...] | None = None
    """The legs of its pace, flat: step, progress, rate, step, progress, rate."""

    def __post_init__(self) -> None:
        choose("--optimizer", self.optimizer, tuple(OPTIMIZERS))
        choose("--lr-schedule", self.lr_schedule, tuple(SCHEDULES))
        choose("--loss", self.loss, tuple(LOSSES))
        choose("--augment", self.augment, tuple(AUGMENTATIONS))

    def without_strangers(self, said: Collection[str]) -> Settings:
        """The same, but that a setting which does not go with its optimizer, schedule and the like is let go.

        Args:
            said: settings that a person said just now: these are kept, and refused where they are used.
        """
        strangers: dict[str, Any] = dict.fromkeys(_strangers({name: getattr(self, name) for name in said}))
        return replace(self, **strangers)

    def given(self) -> dict[str, Any]:
        """The settings that are not None, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def augmentation(self) -> Augmentation | None:
        """What is done to the images of every step, if anything.

        Raises:
            UsageError: its strength is out of range, or there is nothing that could be stronger.
        """
        from mnistnet.data.augmentation import AUGMENTATIONS as KINDS

        kinds: dict[str, Callable[..., Augmentation | None]] = {"none": lambda: None}
        kinds |= {name: kind.of_strength for name, kind in KINDS.items()}
        return self._choose("augment", AUGMENTATIONS, kinds)

    def config(self, workers: int | None = None) -> TrainingConfig:
        """What the Trainer is told; the learning rate must be settled.

        Raises:
            UsageError: a value is out of range, or does not go with the optimizer or the schedule.
        """
        from mnistnet.engine import losses, optimizers, schedules
        from mnistnet.training.config import TrainingConfig
        from mnistnet.training.pace import Leg

        rate = self.learning_rate
        if rate is None:
            rate = OPTIMIZERS[self.optimizer].learning_rate
        assert not isinstance(rate, str), "a learning rate to be found out"
        by_network = self.loss == AUTO and self.label_smoothing is None
        loss = None if by_network else self._choose("loss", LOSSES, losses.LOSSES)
        replay = None
        if self.replay_steps is not None:
            flat = self.replay_legs or ()
            if self.replay_steps < 1 or not flat or len(flat) % 3:
                raise UsageError(
                    "replay-steps, replay-legs: expected a number of steps and legs of three numbers"
                )
            starts = range(0, len(flat) - 2, 3)
            replay = (tuple(Leg(int(flat[i]), *flat[i + 1 : i + 3]) for i in starts), self.replay_steps)
        return TrainingConfig(
            learning_rate=rate,
            batch_size=self.batch_size,
            nb_epochs=self.nb_epochs,
            budget=self.budget,
            replay=replay,
            optimizer=self._choose("optimizer", OPTIMIZERS, optimizers.OPTIMIZERS),
            lr_schedule=self._choose("lr_schedule", SCHEDULES, schedules.SCHEDULES),
            loss=loss,
            seed=self.seed,
            transform=self.augmentation,
            clip_norm=self.clip_norm,
            average_decay=self.average_decay,
            patience=self.patience,
            workers=workers,
        )

    def _choose(
        self, setting: str, choices: Mapping[str, _Choice], registry: Mapping[str, Callable[..., _T]]
    ) -> _T:
        """What the engine has for a choice, with the settings that go with it."""
        chosen = getattr(self, setting)
        choice = choices[chosen]
        arguments = dict(choice.presets)
        for name in sorted({name for other in choices.values() for name in other.takes}):
            value = getattr(self, name)
            if value is None:
                continue
            if name not in choice.takes:
                users = [other for other, c in choices.items() if name in c.takes]
                raise UsageError(
                    f"{flag(name)}: goes with {flag(setting)} {any_of(users)}, found {flag(setting)} {chosen}"
                )
            arguments[choice.takes[name]] = value
        return registry[choice.kind](**arguments)


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """What two files of settings say together: the second counts more, and its choices are its own.

    What the first says beside another choice, such as the peak of another schedule, is let go.
    """
    gone = _strangers(above)
    return {name: value for name, value in below.items() if name not in gone} | dict(above)


def _strangers(said: Mapping[str, Any]) -> set[str]:
    """The settings, but for those that are said, which do not go with the choices that are."""
    strangers = set()
    for setting, choices in _CHOICES.items():
        if said.get(setting) in choices:
            known = {name for choice in choices.values() for name in choice.takes}
            strangers |= known - set(choices[said[setting]].takes)
    return strangers - set(said)


KEPT_ON_RESUME = frozenset(
    {
        *("model", "start_from", "loss", "label_smoothing", "batch_size", "optimizer", "average_decay"),
        *("augment", "augment_strength", "seed", "members", "validation_split", "limit"),
    }
)
"""What a training that is taken up again cannot change: what it has done so far would be of no use."""


def flag(setting: str) -> str:
    """The command line's flag for a setting."""
    return f"--{setting.replace('_', '-')}"


def seconds(text: str | float) -> float:
    """A duration: a number of seconds, or one with a unit behind: ``60s``, ``5m``, ``1.5h``.

    Raises:
        UsageError: it is neither.
    """
    number, unit = str(text), "s"
    if number[-1:] in UNITS:
        number, unit = number[:-1], number[-1]
    try:
        return float(number) * UNITS[unit]
    except ValueError as error:
        raise UsageError(f"--budget: expected a duration such as 60s or 5m, found {text!r:.60}") from error


def rate(text: str | float) -> float | str:
    """A learning rate: a number or "auto".

    Raises:
        UsageError: it is neither.
    """
    if text == AUTO:
        return AUTO
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"--learning-rate: expected a number or auto, found {text!r:.60}") from error


PARSERS = {"budget": seconds, "learning_rate": rate}


def check_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their flag's name or their own, from a file, with the types that `Settings` has.

    Raises:
        UsageError: ``name: expected ..., found ...``.
    """
    hints = get_type_hints(Settings)
    checked = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in hints:
            choose("setting", key, tuple(n.replace("_", "-") for n in hints))
        try:
            checked[name] = PARSERS[name](value) if name in PARSERS else _typed(value, hints[name])
        except TypeError as error:
            raise UsageError(f"{key}: expected {error}, found {value!r:.60}") from error
    return checked


def _typed(value: object, hint: Any) -> object:
    """``value`` as ``hint`` has it; a whole number may be a float. A TypeError says what was expected."""
    kind = next((t for t in get_args(hint) if NoneType in get_args(hint) and t is not NoneType), hint)
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError("a list of numbers")
        return tuple(_typed(item, get_args(kind)[0]) for item in value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError({int: "a whole number", float: "a number", str: "a text"}[kind])
    return value


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a TOML file, by name; an architecture file is looked for beside it.

    Raises:
        UsageError: ``path: ...``: it cannot be read, is no TOML, or has a setting that there is not.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({explain(error)})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected TOML: {error}") from error
    try:
        checked = check_settings(values)
    except UsageError as error:
        raise error.at(path) from error
    beside = path.parent / str(checked.get("model", ""))
    if beside.suffix == ".json" and beside.is_file():
        checked["model"] = str(beside)
    return checked


def recipe_settings(name: str) -> dict[str, Any]:
    """The settings of a recipe that comes with the package.

    Raises:
        UsageError: there is no such recipe.
    """
    choose("--recipe", name, RECIPES)
    from importlib.resources import files

    text = files("mnistnet.recipes").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return check_settings(tomllib.loads(text))


def settings_text(settings: Settings) -> str:
    """The settings as TOML, which `read_settings` gives back."""
    # a JSON text, number or list is TOML too
    return "".join(
        f"{name.replace('_', '-')} = {json.dumps(value, ensure_ascii=False)}\n"
        for name, value in settings.given().items()
    )
