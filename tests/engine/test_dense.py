"""Dense layers whose products are cut for the small-matrix kernel, against the naive formula."""

import engine_naive as naive
import numpy as np
import pytest
from numpy.testing import assert_allclose

from mnistnet.engine import blas
from mnistnet.engine.layers import Dense, Flatten, Softmax
from mnistnet.engine.layers import dense as dense_module
from mnistnet.engine.losses import SoftmaxCrossEntropy
from mnistnet.engine.network import Network


@pytest.mark.parametrize("cuts", [True, False])
@pytest.mark.parametrize("n", [1, 7, 32])
def test_dense_layers_are_their_formula_however_the_products_are_cut(cuts, n, monkeypatch):
    """Images come to a first dense layer as rows, features to the second batch innermost."""
    pieces = []

    def noting(size: int, others: int) -> int:
        block = blas.block_of(size, others)
        pieces.append(size // block)
        return block

    monkeypatch.setattr(dense_module, "block_of", noting)
    monkeypatch.setattr(blas, "SMALL_PRODUCT", 8 * 30 * n)
    for module in (blas, dense_module):
        monkeypatch.setattr(module, "cuts_products", lambda: cuts)
    # both kinds of products whose factors lie along the sum are cut: 16 of 32 images, 8 of 16 features
    for name, value in {"GRADIENT_TILE": 240, "FEW_OUTPUTS": 24, "MANY_IMAGES": 1}.items():
        monkeypatch.setattr(dense_module, name, value)
    network = Network([Flatten(), Dense(16), Dense(24), Softmax()], (1, 5, 6), np.float64).initialize(3)
    rng = np.random.default_rng(n)
    x, labels = rng.random((n, 1, 5, 6)), rng.integers(0, 24, n)
    p = network.parameters()
    rows = x.reshape(n, 30)
    hidden = naive.dense(rows, p["1.weight"], p["1.bias"])
    logits = naive.dense(hidden, p["2.weight"], p["2.bias"])
    _, dz = naive.cross_entropy(logits, labels)
    dh, d_weight, _ = naive.dense_backward(hidden, p["2.weight"], dz)
    _, d_first, d_bias = naive.dense_backward(rows, p["1.weight"], dh)

    assert_allclose(network.predict(x), naive.softmax(logits), rtol=1e-12)
    _, gradients = network.loss_and_gradients(x, labels, SoftmaxCrossEntropy())
    assert_allclose(gradients["1.weight"], d_first, rtol=1e-9, atol=1e-14)
    assert_allclose(gradients["1.bias"], d_bias, rtol=1e-9, atol=1e-14)
    assert_allclose(gradients["2.weight"], d_weight, rtol=1e-9, atol=1e-14)
    assert (max(pieces) > 1) == cuts
