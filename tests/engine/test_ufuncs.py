"""How NumPy's operators are set while plans run."""

import threading
import warnings

import numpy as np

from mnistnet.engine.network import Network
from mnistnet.engine.ufuncs import BUFFER_SIZE, calculate
from mnistnet.models import MODELS


def test_settings_hold_inside_and_nowhere_else() -> None:
    before = np.getbufsize(), np.geterr()
    assert before[0] != BUFFER_SIZE
    inside = calculate(lambda: (np.getbufsize(), np.geterr()))
    assert inside == (BUFFER_SIZE, dict.fromkeys(("divide", "over", "under", "invalid"), "ignore"))
    assert (np.getbufsize(), np.geterr()) == before


def test_settings_that_a_function_makes_stay_inside() -> None:
    calculate(np.setbufsize, 4096)
    assert calculate(np.getbufsize) == BUFFER_SIZE


def test_settings_hold_in_threads_and_in_calls_within_calls() -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(calculate(calculate, np.getbufsize)))
    thread.start()
    thread.join()
    assert found == [BUFFER_SIZE]


def test_a_prediction_that_overflows_is_quiet_on_every_thread() -> None:
    network = Network(MODELS["rsnet"](10), (1, 28, 28)).initialize(0)
    network.vector *= np.float32(1e30)
    images = np.full((1024, 1, 28, 28), 255, np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not np.isfinite(network.predict(images, threads=2)).all()
