"""The trainer's state in a checkpoint: what `formats.checkpoint.SavedState` means here."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mnistnet.errors import CheckpointError
from mnistnet.formats.checkpoint import SavedState
from mnistnet.training.pace import Leg
from mnistnet.training.trainer import Best, TrainerState

_Count = Annotated[int, Field(ge=0, lt=2**53)]


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class _BestForm(_Form):
    epoch: _Count
    accuracy: float
    loss: float
    threshold: float


class _LegForm(_Form):
    step: _Count
    progress: float
    rate: float


class _PositionForm(_Form):
    epoch: _Count
    step: _Count
    steps: _Count
    loss: float
    correct: _Count
    images: _Count
    best: _BestForm | None
    budget: float | None
    legs: list[_LegForm]


def saved_state(state: TrainerState) -> SavedState:
    """A trainer's state as a checkpoint holds it."""
    position = asdict(replace(state, vectors={}))  # it would copy them once more
    del position["vectors"]
    position["legs"] = list(position["legs"])
    return SavedState(position, state.vectors)


def trainer_state(saved: SavedState) -> TrainerState:
    """The state of a trainer that goes on.

    Raises:
        CheckpointError: a value is missing, unknown or of another type.
    """
    try:
        form = _PositionForm.model_validate(dict(saved.position))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(step) for step in ("state.position", *first["loc"]))
        raise CheckpointError(f"{where}: {first['msg'].lower()}, found {first['input']!r:.60}") from error
    return TrainerState(
        form.epoch,
        form.step,
        form.steps,
        form.loss,
        form.correct,
        form.images,
        None if form.best is None else Best(**form.best.model_dump()),
        form.budget,
        tuple(Leg(**leg.model_dump()) for leg in form.legs),
        saved.vectors,
    )
