"""The page: its text, its JavaScript against the engine and `run`, and what a person can do with it."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnistnet.data import load_data, read_picture
from mnistnet.data.dataset import DIGITS
from mnistnet.data.proof import proof_images
from mnistnet.engine.arrays import PixelScale
from mnistnet.engine.layers import (
    GELU,
    LAYER_KINDS,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    FourierFeatures,
    GlobalAvgPool,
    Layer,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Sigmoid,
    Sine,
    Softmax,
    Tanh,
    ZeroPad2d,
)
from mnistnet.engine.network import Network
from mnistnet.errors import ExportError, OutputError, PictureError
from mnistnet.formats.checkpoint import load_checkpoint
from mnistnet.formats.html import KINDS, export_html, to_html
from mnistnet.models import Classifier, build

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, LocatorAssertions, Page

ROOT = Path(__file__).parents[2]
LENET = load_checkpoint(ROOT / "ckpt" / "lenet.json").classifier
PROOF = proof_images((1, 28, 28))[0]
THREE = [(0.32, 0.25), (0.45, 0.17), (0.6, 0.2), (0.66, 0.32), (0.58, 0.44), (0.45, 0.48)]
THREE += [(0.6, 0.52), (0.68, 0.65), (0.6, 0.8), (0.45, 0.84), (0.32, 0.76)]


def model_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="model">(.*?)</script>', page, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def expect(locator: Locator) -> LocatorAssertions:
    from playwright.sync_api import expect

    return expect(locator)


# --- the text ---------------------------------------------------------------------------------------------


def test_the_shipped_networks_page_is_one_small_file_that_loads_nothing(tmp_path: Path) -> None:
    report = export_html(LENET, tmp_path / "digit.html", images=PROOF)
    text = (tmp_path / "digit.html").read_text(encoding="utf-8")
    assert report.size == (tmp_path / "digit.html").stat().st_size < 1_000_000
    assert "{{" not in text
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!data:)|@import|url\(|fetch\(|XMLHttpRequest", text)
    assert "default-src &#x27;none&#x27;" in text
    assert len(model_of(text)["examples"]) == 10


def test_names_cannot_break_out_of_the_page() -> None:
    names = ("</script><script>alert(1)</script>", "<!--", *map(str, range(8)))
    text = to_html(Classifier(LENET.network, names, name="{{script}}</title>"), PROOF)
    assert text.count("</script>") == 3
    assert "<!--" not in text
    assert model_of(text)["classes"] == list(names)
    assert model_of(text)["name"] == "{{script}}</title>"


def test_every_kind_of_layer_has_javascript_or_is_refused_by_name() -> None:
    source = (ROOT / "mnistnet" / "formats" / "html" / "forward.js").read_text(encoding="utf-8")
    layers = source.split("const LAYERS = {")[1].split("\n};")[0]
    assert set(re.findall(r"^  (\w+)[(:]", layers, re.MULTILINE)) == KINDS
    assert set(LAYER_KINDS) <= KINDS


def test_a_layer_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnistnet.formats.html.KINDS", KINDS - {"relu"})
    with pytest.raises(ExportError, match=r"^layer 1 \(relu\): has no JavaScript form$"):
        to_html(LENET, PROOF)


def test_colour_and_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    colour = Classifier(build("mlp", (3, 8, 8)), DIGITS)
    with pytest.raises(ExportError, match=r"draws in grey: expected an input of \(1, H, W\), found \(3"):
        export_html(colour, tmp_path / "a.html", images=np.zeros((1, 3, 8, 8), np.uint8))
    broken = Classifier(build("mlp"), DIGITS)
    # finite weights, whose product is not
    broken.network.vector[:] = 3e38
    with pytest.raises(ExportError, match="not finite"):
        export_html(broken, tmp_path / "a.html", images=PROOF)
    with pytest.raises(OutputError, match="is a directory"):
        export_html(LENET, tmp_path, images=PROOF)
    assert not list(tmp_path.iterdir())


# --- in a real browser ------------------------------------------------------------------------------------


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Any]:
    """Open a classifier's page from the file system; whatever it complains about fails the test."""
    complaints: list[str] = []
    pages = []

    def open_page(classifier: Classifier = LENET, **options: Any) -> Page:
        images, _ = proof_images(classifier.network.input_shape)
        export_html(classifier, tmp_path / "page.html", images=images)
        page = browser.new_page(**options)
        pages.append(page)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text))
        page.on(
            "request", lambda asked: None if asked.url.startswith("file:") else complaints.append(asked.url)
        )
        page.goto((tmp_path / "page.html").as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []


def draw(page: Page, points: list[tuple[float, float]]) -> None:
    box = page.locator("#paper").bounding_box()
    assert box
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=2)
    page.mouse.up()


def answer(page: Page, expected: str) -> None:
    expect(page.locator("#answer")).to_have_text(expected)


def test_a_three_is_drawn_and_read(opened: Any) -> None:
    """The issue's words: real Chromium, from the file system, pointer events, 3."""
    page = opened()
    assert page.locator("#hint").is_visible()
    draw(page, THREE)
    answer(page, "3")
    assert not page.locator("#hint").is_visible()
    expect(page.locator("#spoken")).to_have_text(re.compile("^Reads 3, "))
    assert page.locator("#proof").inner_text().startswith("Checked just now on 10 pictures")
    page.click("#undo")
    answer(page, "?")


def test_five_hundred_test_images_have_the_engines_probabilities(opened: Any) -> None:
    images = load_data(ROOT / "data").test.images[:500]
    page = opened()
    found = page.evaluate(
        """text => { const bytes = bytesOf(text), found = [];
        for (let i = 0; i < bytes.length; i += 784)
          found.push(Array.from(forward(network, bytes.subarray(i, i + 784)).at(-1).data));
        return found; }""",
        base64.b64encode(images.tobytes()).decode(),
    )
    assert np.abs(np.array(found) - LENET.probabilities(images)).max() < 1e-4


NETWORKS: dict[str, list[Layer]] = {
    "strides": [
        Conv2d(3, (3, 5), (2, 1), (1, 2)),
        ReLU(),
        MaxPool2d((3, 2), (2, 3), (1, 1)),
        Conv2d(4, (2, 3), (1, 2), (0, 1)),
        Flatten(),
        Dense(10),
        Softmax(),
    ],
    "grouped": [
        Conv2d(4, (3, 2), (2, 1)),
        ZeroPad2d(0, 1, 2, 0),
        Conv2d(6, (2, 3), (1, 2), (1, 0), (2, 3), 2),
        Flatten(),
        Dense(10),
        Softmax(),
    ],
    "normalized": [
        Conv2d(3, (3, 3)),
        BatchNorm(epsilon=0.01),
        LeakyReLU(0.2),
        Dropout(0.3),
        Flatten(),
        Dense(12),
        BatchNorm(),
        Dense(10),
        Sigmoid(),
    ],
    "smooth": [
        Conv2d(6, (3, 3), padding=(1, 1)),
        GELU(),
        AvgPool2d((3, 2), (2, 2), (1, 1)),
        Conv2d(6, (3, 3)),
        GELU("tanh"),
        GlobalAvgPool(),
        Tanh(),
        FourierFeatures(7, 0.5),
        Dense(9, init_bound=0.1),
        Sine(4.0),
        Dense(10),
        Softmax(),
    ],
}


def test_every_kind_of_layer_is_among_them() -> None:
    assert {layer.kind for layers in NETWORKS.values() for layer in layers} == set(LAYER_KINDS)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_computes_what_the_engine_computes(opened: Any, name: str) -> None:
    """Odd sizes, strides and padding, a picture that is not square, bytes that are scaled and shifted."""
    network = Network(NETWORKS[name], (1, 19, 23)).initialize(seed=3)
    # positive, for there are variances among them
    network.vector += np.random.default_rng(0).uniform(0, 0.1, network.size).astype(np.float32)
    classifier = Classifier(network, DIGITS, PixelScale(1 / 127.5, -1.0))
    images = np.random.default_rng(1).integers(0, 256, (5, 1, 19, 23), np.uint8)
    page = opened(classifier)
    found = page.evaluate(
        "many => many.map(x => Array.from(forward(network, Uint8Array.from(x)).at(-1).data))",
        images.reshape(5, -1).tolist(),
    )
    np.testing.assert_allclose(found, classifier.probabilities(images), rtol=2e-4, atol=1e-6)


def pictures() -> Iterator[np.ndarray]:
    """Grey pictures of many sizes: digits bright and dark, photographed, grainy, drawn thin and thick."""
    rng = np.random.default_rng(0)
    for i, digit in enumerate(PROOF[:10, 0]):
        height, width = rng.integers(30, 700, 2) if i % 3 else (300, 220)
        ink = (
            np.asarray(Image.fromarray(digit).resize((int(width), int(height)), Image.Resampling.BICUBIC))
            / 255
        )
        y, x = np.mgrid[-1 : 1 : ink.shape[0] * 1j, -1 : 1 : ink.shape[1] * 1j]
        paper = 200 + 30 * x - 25 * y + 10 * x * y
        photo = paper * (1 - 0.7 * ink) + rng.normal(0, 6, ink.shape)
        forms = [255 * ink, 255 * (1 - ink), 255 * ink + rng.normal(0, 12, ink.shape), photo]
        yield np.clip(forms[i % 4], 0, 255).astype(np.uint8)
    for width in (2, 9, 40):
        image = Image.new("L", (1100, 280), 250)
        ImageDraw.Draw(image).line([(40, 60), (200, 50), (120, 240)], fill=20, width=width)
        yield np.asarray(image)
    for digit in PROOF[16:20, 0]:  # cropped to the ink, which then runs into all four sides
        rows, columns = (np.flatnonzero(digit.max(axis=axis) > 60) for axis in (1, 0))
        cropped = Image.fromarray(digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        ink = np.asarray(cropped.resize((160, 240), Image.Resampling.BICUBIC))
        yield ink
        yield 255 - ink // 2
    yield PROOF[3, 0]
    yield 255 - PROOF[5, 0]
    yield np.full((60, 50), 200, np.uint8)


def as_run_sees(picture: np.ndarray) -> dict[str, Any] | None:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    try:
        found = read_picture(stream.getvalue(), (1, 28, 28), name="-")
    except PictureError:
        return None
    return {"pixels": found.pixels.ravel().tolist(), "notes": list(found.notes)}


def test_the_page_sees_what_run_sees(opened: Any) -> None:
    page = opened()
    for picture in pictures():
        found = page.evaluate(
            """([height, width, text]) => {
              try { const {pixels, notes} = readPicture({height, width, data: bytesOf(text)}, [28, 28]);
                    return {pixels: Array.from(pixels), notes}; }
              catch (error) { if (error instanceof BlankPicture) return null; throw error; } }""",
            [*picture.shape, base64.b64encode(picture.tobytes()).decode()],
        )
        expected = as_run_sees(picture)
        assert (found is None) == (expected is None)
        if found and expected:
            assert found["notes"] == expected["notes"]
            # one grey level: the page rounds once where NumPy's float32 rounds at every step
            assert np.abs(np.subtract(found["pixels"], expected["pixels"])).max() <= 1


def test_a_picture_is_opened_and_a_broken_one_is_said_to_be(opened: Any, tmp_path: Path) -> None:
    page = opened()
    page.set_input_files("#file", ROOT / "data" / "samples" / "7.png")
    answer(page, "7")
    (tmp_path / "x.png").write_bytes(b"no picture")
    page.set_input_files("#file", tmp_path / "x.png")
    expect(page.locator("#certainty")).to_have_text("This file cannot be read as a picture.")
    page.set_input_files("#file", ROOT / "data" / "samples" / "4.bin")
    answer(page, "4")


def test_a_picture_is_dropped(opened: Any) -> None:
    page = opened()
    content = base64.b64encode((ROOT / "data" / "samples" / "2.png").read_bytes()).decode()
    page.evaluate(
        """text => { const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([bytesOf(text)], "2.png", {type: "image/png"}));
        dispatchEvent(new DragEvent("drop", {dataTransfer, cancelable: true})); }""",
        content,
    )
    answer(page, "2")


def test_a_finger_draws(opened: Any) -> None:
    page = opened(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.evaluate(
        """() => { const paper = byId("paper"), box = paper.getBoundingClientRect();
        paper.setPointerCapture = () => {};  // there is no finger on the glass
        for (let i = 0; i <= 10; i++)
          paper.dispatchEvent(new PointerEvent(i ? "pointermove" : "pointerdown", {pointerType: "touch",
            isPrimary: true, pointerId: 7, clientX: box.left + 0.5 * box.width,
            clientY: box.top + (0.15 + 0.07 * i) * box.height}));
        paper.dispatchEvent(new PointerEvent("pointerup", {pointerId: 7})); }"""
    )
    answer(page, "1")


def test_the_keyboard_draws_a_one(opened: Any) -> None:
    page = opened(color_scheme="dark", reduced_motion="reduce")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "paper"
    for _ in range(9):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    for _ in range(18):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    answer(page, "1")
    page.keyboard.press("Delete")
    answer(page, "?")


def test_a_page_that_differs_from_the_engine_says_so(browser: Browser, tmp_path: Path) -> None:
    text = to_html(LENET, PROOF)
    first = model_of(text)["examples"][0]["probabilities"]
    (tmp_path / "bad.html").write_text(text.replace(str(first[0]), "0.5", 1), encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "bad.html").as_uri())
    assert "do not trust it" in page.locator("#proof").inner_text()
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_nothing_sticks_out(opened: Any, width: int, scheme: str) -> None:
    page = opened(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.click("#example")
    expect(page.locator("#answer")).not_to_have_text("?")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_path_may_be_text(tmp_path: Path) -> None:
    report = export_html(LENET, str(tmp_path / "a.html"), images=PROOF)
    assert report.path == tmp_path / "a.html"
    assert report.size == report.path.stat().st_size
