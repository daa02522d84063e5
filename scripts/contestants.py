"""The contestants: for each library, how somebody who knows it trains and runs the same network.

A team lives in a process of its own (see ``hosts``) and brings one or more variants. All start from the
same weights and see the same batches in the same order. A step's time comes in two parts: taking the batch
(rows of a table of bytes, scaled to [0, 1]) and the step itself (forward, backward, SGD with momentum).
mnistnet's steps always contain both, in the one number; the others' second part alone is what they are
compared by.
"""

from __future__ import annotations

import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from cases import CLASSES, LEARNING_RATE, MOMENTUM, Case, order, test_set, training_set
from measure import descendants

from mnistnet.engine.arrays import FloatArray
from mnistnet.engine.workers import usable_cores
from mnistnet.reports.timing import repeat

EVALUATION_BATCHES = (100, 250, 500, 1000, 2500)
"""Batch sizes of which the others may choose their best for an evaluation."""
LATENCY_CALLS = 20
"""One image is so quick that this many in a row are timed."""


class Training(ABC):
    """One variant in training on one case."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.count = len(training_set()[0])
        self.steps_done = 0

    @abstractmethod
    def one(self, first: int) -> tuple[float, float]:
        """One step on the batch at this position; seconds of loading, and of the step itself."""

    @abstractmethod
    def losses(self) -> list[float]:
        """Mean loss of every step so far."""

    def wake(self) -> None:  # noqa: B027 (most need nothing)
        """Before a round."""

    def rest(self) -> None:  # noqa: B027
        """After a round."""

    def close(self) -> None:  # noqa: B027
        """When it is over."""

    def round(self, warm: int, steps: int) -> list[tuple[float, float]]:
        """Seconds (loading, step) of ``steps`` steps, after ``warm`` that are not timed."""
        self.wake()
        times = []
        for _ in range(warm + steps):
            times.append(self.one(self.case.position(self.steps_done, self.count)))
            self.steps_done += 1
        self.rest()
        return times[warm:]

    def epoch(self) -> float:
        """Seconds of one pass through all images, loading included."""
        self.wake()
        started = time.perf_counter()
        for step in range(self.count // self.case.batch):
            self.one(self.case.position(step, self.count))
            self.steps_done += 1
        seconds = time.perf_counter() - started
        self.rest()
        return seconds


class Team(ABC):
    """All variants of one library."""

    variants: tuple[str, ...]

    def __init__(self) -> None:
        self._trainings: dict[str, Training] = {}

    @abstractmethod
    def training(self, variant: str, case: Case) -> Training | None:
        """The variant, ready to train; None if it cannot do that network."""

    def prepare(self, case: Case, variants: tuple[str, ...] | None = None) -> list[str]:
        """Make the variants ready for a case; those that can do it."""
        self.release()
        for variant in self.variants if variants is None else variants:
            training = self.training(variant, case)
            if training is not None:
                training.rest()
                self._trainings[variant] = training
        return list(self._trainings)

    def round(self, variant: str, warm: int, steps: int) -> list[tuple[float, float]]:
        """Seconds (loading, step) of the variant's next steps."""
        return self._trainings[variant].round(warm, steps)

    def epoch(self, variant: str) -> float:
        """Seconds of one pass through all images."""
        return self._trainings[variant].epoch()

    def losses(self, variant: str) -> list[float]:
        """The variant's mean loss of every step so far."""
        return self._trainings[variant].losses()

    def release(self) -> None:
        """Give up what was prepared."""
        for training in self._trainings.values():
            training.close()
        self._trainings.clear()

    def close(self) -> None:
        """Give up everything."""
        self.release()

    def version(self) -> str:
        """The library's."""
        return ""


class Mnistnet(Team):
    """This package, with all workers it would take by itself, with a given number, and with one."""

    variants = ("mnistnet", "mnistnet, 1 worker")

    def training(self, variant: str, case: Case) -> Training:
        """The variant, ready to train."""
        workers = int(variant.split()[1]) if "worker" in variant else None
        return _MnistnetTraining(case, workers)

    def evaluation(self, network: str, seconds: float) -> dict[str, list[float]]:
        """Seconds of predicting the test set from bytes, by number of threads."""
        images = test_set()[0]
        model = Case(network, 1).build()
        found = {}
        for threads in sorted({1, usable_cores()}):
            found[f"mnistnet, {threads} thread{'s' * (threads > 1)}"] = repeat(
                lambda threads=threads: model.predict(images, threads=threads), seconds
            )
        return found

    def latency(self, network: str, seconds: float) -> dict[str, list[float]]:
        """Seconds of one image, through ``Network.predict`` and through a plan kept bound."""
        from mnistnet.engine.blas import one_thread
        from mnistnet.engine.plan import Plan

        model = Case(network, 1).build()
        image = test_set()[0][:1]
        plan = Plan(model.blueprint(), 1)
        rows = image.reshape(1, -1)

        def bound() -> FloatArray:
            plan.load(rows, slice(0, 1))
            plan.run()
            return plan.outputs.copy()

        plan.prepare()
        found = {"mnistnet": _calls(lambda: model.predict(image), seconds)}
        with one_thread():
            found["mnistnet, plan kept"] = _calls(bound, seconds)
        return found

    def predictions(self, network: str) -> FloatArray:
        """(10000, K) probabilities of the test images."""
        return Case(network, 1).build().predict(test_set()[0])

    def convolution(self, shape: tuple[int, ...], kernel: tuple[int, ...], seconds: float) -> list[float]:
        """Seconds of one convolution without bias, forward and both gradients, on one core."""
        from convolutions import bind_alone

        from mnistnet.engine.blas import one_thread

        x, weight, dy = convolution_data(shape, kernel)
        alone = bind_alone(x, weight, dy)
        with one_thread():
            return repeat(alone.run, seconds)


class _MnistnetTraining(Training):
    def __init__(self, case: Case, workers: int | None) -> None:
        from mnistnet.engine.division import choose_workers
        from mnistnet.engine.losses import SoftmaxCrossEntropy
        from mnistnet.engine.minibatch import Minibatches
        from mnistnet.engine.optimizers import SGD

        super().__init__(case)
        network = case.build()
        before = set(descendants(os.getpid()))
        self._minibatches = Minibatches(
            network,
            case.images(),
            training_set()[1],
            loss=SoftmaxCrossEntropy(),
            optimizer=SGD(MOMENTUM),
            batch_size=case.batch,
            workers=choose_workers(network, case.batch, workers),
        )
        self._others = set(descendants(os.getpid())) - before
        self._minibatches.set_order(order(self.count))
        self._losses: list[float] = []

    def one(self, first: int) -> tuple[float, float]:
        started = time.perf_counter()
        outcome = self._minibatches.step(self.steps_done + 1, first, self.case.batch, LEARNING_RATE)
        seconds = time.perf_counter() - started
        self._losses.append(outcome.loss / self.case.batch)
        return 0.0, seconds

    def losses(self) -> list[float]:
        """The variant's mean loss of every step so far."""
        return self._losses

    # out of turn the workers are stopped: they look for work now and then, which would cost the next
    # contestant
    def wake(self) -> None:
        for pid in self._others:
            os.kill(pid, signal.SIGCONT)

    def rest(self) -> None:
        for pid in self._others:
            os.kill(pid, signal.SIGSTOP)

    def close(self) -> None:
        """Give up everything."""
        self.wake()
        self._minibatches.close()


@dataclass(frozen=True)
class TorchVariant:
    """How PyTorch is used; the first is what one gets without thinking about it."""

    channels_last: bool = False
    fused: bool = False
    foreach: bool = False
    one_thread: bool = False
    compiled: bool = False
    flushed: bool = False
    """Subnormal numbers count as zero, which has to be said before PyTorch starts its threads."""


class Torch(Team):
    """PyTorch: eager, and what may make it faster."""

    all_variants: ClassVar[dict[str, TorchVariant]] = {
        "PyTorch eager": TorchVariant(),
        "PyTorch channels_last": TorchVariant(channels_last=True),
        "PyTorch fused": TorchVariant(fused=True),
        "PyTorch channels_last, fused": TorchVariant(channels_last=True, fused=True),
        "PyTorch foreach": TorchVariant(foreach=True),
        "PyTorch fused, 1 thread": TorchVariant(fused=True, one_thread=True),
        "PyTorch compile": TorchVariant(compiled=True),
        "PyTorch compile, fused": TorchVariant(compiled=True, fused=True),
        "PyTorch fused, flush_denormal": TorchVariant(fused=True, flushed=True),
    }
    variants = tuple(
        name for name, variant in all_variants.items() if not (variant.compiled or variant.flushed)
    )

    def __init__(self) -> None:
        import torch

        super().__init__()
        self.torch = torch
        torch.set_num_threads(usable_cores())

    def version(self) -> str:
        """The library's."""
        return str(self.torch.__version__)

    def training(self, variant: str, case: Case) -> Training | None:
        """The variant, ready to train."""
        chosen = self.all_variants[variant]
        if chosen.channels_last and case.network == "mlp":
            return None
        return _TorchTraining(case, chosen)

    def evaluation(self, network: str, seconds: float) -> dict[str, list[float]]:
        """Seconds of predicting the test set, from floats that are ready, by layout and batch size."""
        torch = self.torch
        ready = torch.from_numpy(test_set()[0]).to(torch.float32).div_(255)
        found = {}
        for layout in ("contiguous_format", "channels_last"):
            model = self._model(network).to(memory_format=getattr(torch, layout))
            images = ready.contiguous(memory_format=getattr(torch, layout))
            for size in EVALUATION_BATCHES:

                def whole(model: Any = model, images: Any = images, size: int = size) -> object:
                    with torch.inference_mode():
                        return torch.cat([torch.softmax(model(x), dim=1) for x in images.split(size)])

                found[f"PyTorch {layout}, batch {size}"] = repeat(whole, seconds)
        return found

    def latency(self, network: str, seconds: float) -> dict[str, list[float]]:
        """Seconds of one image that is ready as floats."""
        torch = self.torch
        image = torch.from_numpy(test_set()[0][:1]).to(torch.float32).div_(255)
        model = self._model(network)

        def one() -> object:
            with torch.inference_mode():
                return torch.softmax(model(image), dim=1)

        found = {f"PyTorch, {usable_cores()} threads": _calls(one, seconds)}
        torch.set_num_threads(1)
        found["PyTorch, 1 thread"] = _calls(one, seconds)
        torch.set_num_threads(usable_cores())
        return found

    def predictions(self, network: str) -> FloatArray:
        """(10000, K) probabilities of the test images."""
        torch = self.torch
        with torch.inference_mode():
            images = torch.from_numpy(test_set()[0]).to(torch.float32).div_(255)
            return np.asarray(torch.softmax(self._model(network)(images), dim=1).numpy())

    def convolution(
        self, shape: tuple[int, ...], kernel: tuple[int, ...], seconds: float
    ) -> dict[str, list[float]]:
        """Seconds of one convolution without bias, forward and both gradients, on one core, by layout."""
        torch = self.torch
        torch.set_num_threads(1)
        found = {}
        for layout in ("contiguous_format", "channels_last"):
            x, weight, dy = (
                torch.from_numpy(array).contiguous(memory_format=getattr(torch, layout))
                for array in convolution_data(shape, kernel)
            )
            # the operators themselves: no tape, no allocation of gradients beyond their own results
            forward, backward = torch.ops.aten.convolution, torch.ops.aten.convolution_backward
            setting = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)

            def both(x: Any = x, weight: Any = weight, dy: Any = dy) -> None:
                forward(x, weight, None, *setting)  # noqa: B023 (the same every time)
                backward(dy, x, weight, None, *setting, [True, True, False])  # noqa: B023

            found[f"PyTorch {layout}"] = repeat(both, seconds)
        torch.set_num_threads(usable_cores())
        return found

    def _model(self, network: str) -> Any:
        from mnistnet.reports.torch_twin import twin

        return twin(Case(network, 1).build()).eval()


class TorchFlushed(Torch):
    """PyTorch with subnormal numbers as zero, apart because it holds for the whole process."""

    variants = ("PyTorch fused, flush_denormal",)

    def __init__(self) -> None:
        super().__init__()
        self.torch.set_flush_denormal(True)


class TorchCompile(Torch):
    """PyTorch's compiler apart, for it may take minutes, or fail."""

    variants = ("PyTorch compile", "PyTorch compile, fused")

    def prepare(self, case: Case, variants: tuple[str, ...] | None = None) -> list[str]:
        """As for every team, and compile, which happens at the first call."""
        self.torch.compiler.reset()
        names = super().prepare(case, variants)
        for name in names:
            self.round(name, 2, 0)  # it compiles at the first call
        return names


class _TorchTraining(Training):
    def __init__(self, case: Case, variant: TorchVariant) -> None:
        import torch
        from torch.nn import functional

        from mnistnet.reports.torch_twin import twin

        super().__init__(case)
        self.torch = torch
        self.threads = 1 if variant.one_thread else usable_cores()
        self.layout = torch.channels_last if variant.channels_last else torch.contiguous_format
        self.images = torch.from_numpy(case.images())
        self.labels = torch.from_numpy(training_set()[1])
        self.order = torch.from_numpy(order(self.count))
        self.model = twin(case.build()).to(memory_format=self.layout)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=LEARNING_RATE,
            momentum=MOMENTUM,
            fused=variant.fused or None,
            foreach=variant.foreach or None,
        )

        def loss_of(x: Any, y: Any) -> Any:
            return functional.cross_entropy(self.model(x), y)

        self.loss_of = torch.compile(loss_of, dynamic=False) if variant.compiled else loss_of
        self._losses: list[Any] = []

    def wake(self) -> None:
        self.torch.set_num_threads(self.threads)

    def one(self, first: int) -> tuple[float, float]:
        started = time.perf_counter()
        index = self.order[first : first + self.case.batch]
        chosen = self.images.index_select(0, index)  # takes half as long as images[index]
        x = chosen.to(self.torch.float32).div_(255).contiguous(memory_format=self.layout)
        y = self.labels.index_select(0, index)
        ready = time.perf_counter()
        self.optimizer.zero_grad()
        loss = self.loss_of(x, y)
        loss.backward()
        self.optimizer.step()
        done = time.perf_counter()
        self._losses.append(loss.detach())
        return ready - started, done - ready

    def losses(self) -> list[float]:
        """The variant's mean loss of every step so far."""
        return [float(loss) for loss in self._losses]


class Sklearn(Team):
    """scikit-learn's MLPClassifier, which is our mlp."""

    variants = ("scikit-learn",)

    def __init__(self) -> None:
        import sklearn

        super().__init__()
        self._version = str(sklearn.__version__)

    def version(self) -> str:
        """The library's."""
        return self._version

    def training(self, variant: str, case: Case) -> Training | None:  # noqa: ARG002
        """The variant, ready to train."""
        return _SklearnTraining(case) if case.network == "mlp" else None


class _SklearnTraining(Training):
    def __init__(self, case: Case) -> None:
        from sklearn.neural_network import MLPClassifier

        super().__init__(case)
        self.images = case.images().reshape(self.count, -1)
        self.labels = training_set()[1]
        self.order = order(self.count)
        network = case.build()
        hidden = network.shapes[2][0]
        self.model = MLPClassifier(
            (hidden,),
            solver="sgd",
            alpha=0.0,
            batch_size=case.batch,
            learning_rate_init=LEARNING_RATE,
            momentum=MOMENTUM,
            nesterovs_momentum=False,
            shuffle=False,
        )
        self.model.partial_fit(*self._ready(0, case.batch), classes=np.arange(CLASSES))
        weights = list(network.parameters().values())
        for target, weight in zip(self.model.coefs_, weights[::2], strict=True):
            target[...] = weight.T
        for target, bias in zip(self.model.intercepts_, weights[1::2], strict=True):
            target[...] = bias
        for velocity in self.model._optimizer.velocities:  # noqa: SLF001 (there is no public way to begin anew)
            velocity[...] = 0
        self._losses: list[float] = []

    def _ready(self, first: int, count: int) -> tuple[FloatArray, npt.NDArray[np.intp]]:
        index = self.order[first : first + count]
        return self.images[index].astype(np.float32) / np.float32(255), self.labels[index]

    def one(self, first: int) -> tuple[float, float]:
        started = time.perf_counter()
        x, y = self._ready(first, self.case.batch)
        ready = time.perf_counter()
        self.model.partial_fit(x, y)
        done = time.perf_counter()
        self._losses.append(self.model.loss_)
        return ready - started, done - ready

    def round(self, warm: int, steps: int) -> list[tuple[float, float]]:
        """As many batches in one call as lie together, so that what a call itself costs hardly counts."""
        for _ in range(warm):
            self.one(self.case.position(self.steps_done, self.count))
            self.steps_done += 1
        times: list[tuple[float, float]] = []
        size = self.case.batch
        while len(times) < steps:
            first = self.case.position(self.steps_done, self.count)
            together = min(steps - len(times), self.count // size - first // size)
            started = time.perf_counter()
            x, y = self._ready(first, together * size)
            ready = time.perf_counter()
            self.model.partial_fit(x, y)
            done = time.perf_counter()
            times += [((ready - started) / together, (done - ready) / together)] * together
            self._losses += [self.model.loss_] * together
            self.steps_done += together
        return times

    def epoch(self) -> float:
        """Seconds of one pass through all images."""
        started = time.perf_counter()
        self.model.partial_fit(*self._ready(0, self.count))
        return time.perf_counter() - started

    def losses(self) -> list[float]:
        """The variant's mean loss of every step so far."""
        return self._losses


class Jax(Team):
    """JAX: the whole step in one jitted function, channels innermost, old values given away."""

    variants = ("JAX jit",)

    def __init__(self) -> None:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        import jax

        super().__init__()
        self._version = str(jax.__version__)

    def version(self) -> str:
        """The library's."""
        return self._version

    def training(self, variant: str, case: Case) -> Training:  # noqa: ARG002
        """The variant, ready to train."""
        return _JaxTraining(case)


class _JaxTraining(Training):
    def __init__(self, case: Case) -> None:
        import jax
        from jax import numpy as jnp
        from jax_models import logits_of, parameters_of

        super().__init__(case)
        self.jax = jax
        self.images = case.images()[:, 0, :, :, None]
        self.labels = training_set()[1].astype(np.int32)
        self.order = order(self.count)
        network = case.build()
        layers = network.layers[:-1]
        self.values = parameters_of(network)
        self.velocities = jax.tree.map(jnp.zeros_like, self.values)

        def loss_of(values: Any, x: Any, y: Any) -> Any:
            logs = jax.nn.log_softmax(logits_of(layers, values, x))
            return -jnp.take_along_axis(logs, y[:, None], axis=1).mean()

        def step(values: Any, velocities: Any, x: Any, y: Any) -> Any:
            loss, gradients = jax.value_and_grad(loss_of)(values, x, y)
            velocities = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocities, gradients)
            values = jax.tree.map(lambda w, v: w - LEARNING_RATE * v, values, velocities)
            return values, velocities, loss

        self.step = jax.jit(step, donate_argnums=(0, 1))
        self._losses: list[Any] = []

    def one(self, first: int) -> tuple[float, float]:
        started = time.perf_counter()
        index = self.order[first : first + self.case.batch]
        x = self.jax.device_put(self.images[index].astype(np.float32) / np.float32(255))
        y = self.jax.device_put(self.labels[index])
        self.jax.block_until_ready((x, y))
        ready = time.perf_counter()
        self.values, self.velocities, loss = self.step(self.values, self.velocities, x, y)
        self.jax.block_until_ready((self.values, loss))
        done = time.perf_counter()
        self._losses.append(loss)
        return ready - started, done - ready

    def losses(self) -> list[float]:
        """The variant's mean loss of every step so far."""
        return [float(loss) for loss in self._losses]


class OnnxRuntime(Team):
    """onnxruntime on the file that mnistnet exports: it only predicts."""

    variants = ()

    def __init__(self) -> None:
        import onnxruntime

        super().__init__()
        self.runtime = onnxruntime

    def version(self) -> str:
        """The library's."""
        return str(self.runtime.__version__)

    def training(self, variant: str, case: Case) -> None:
        """It does not train."""

    def evaluation(self, network: str, seconds: float) -> dict[str, list[float]]:
        """Seconds of predicting the test set, from floats that are ready, by batch size."""
        session = self._session(network, usable_cores())
        images = test_set()[0].astype(np.float32) / np.float32(255)
        found = {}
        for size in EVALUATION_BATCHES:
            batches = [images[i : i + size] for i in range(0, len(images), size)]

            def whole(batches: list[FloatArray] = batches) -> object:
                return np.concatenate([session.run(None, {"images": x})[0] for x in batches])

            found[f"onnxruntime, batch {size}"] = repeat(whole, seconds)
        return found

    def latency(self, network: str, seconds: float) -> dict[str, list[float]]:
        """Seconds of one image that is ready as floats."""
        image = test_set()[0][:1].astype(np.float32) / np.float32(255)
        found = {}
        for threads in sorted({1, usable_cores()}):
            session = self._session(network, threads)
            found[f"onnxruntime, {threads} thread{'s' * (threads > 1)}"] = _calls(
                lambda session=session: session.run(None, {"images": image}), seconds
            )
        return found

    def predictions(self, network: str) -> FloatArray:
        """(10000, K) probabilities of the test images."""
        images = test_set()[0].astype(np.float32) / np.float32(255)
        return np.asarray(self._session(network, usable_cores()).run(None, {"images": images})[0])

    def _session(self, network: str, threads: int) -> Any:
        from mnistnet.data import DIGITS
        from mnistnet.formats.onnx_export import to_onnx
        from mnistnet.models import Classifier

        model = to_onnx(Classifier(Case(network, 1).build(), DIGITS, name=network))
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = threads
        return self.runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )


def _calls(action: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of one call, from several in a row at a time."""

    def several() -> None:
        for _ in range(LATENCY_CALLS):
            action()

    return [time / LATENCY_CALLS for time in repeat(several, seconds)]


def convolution_data(
    shape: tuple[int, ...], kernel: tuple[int, ...]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Standard normal x (N, C, H, W), W (K, C, R, S), dY (N, K, P, Q); stride 1, no padding."""
    rng = np.random.default_rng(0)
    n, _, h, w = shape
    k, _, r, s = kernel
    sizes = shape, kernel, (n, k, h - r + 1, w - s + 1)
    x, weight, dy = (rng.standard_normal(size, np.float32) for size in sizes)
    return x, weight, dy
