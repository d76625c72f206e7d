"""ctc_loss against torch: lengths, equal neighbours, impossible alignments, both types; its rows against NumPy."""
import numpy as np
import pytest
import torch

import forno
from forno.dnn import ctc as rows

CASES = {                                      # steps, items, classes, labels, blank, input lengths, target lengths
    "ragged": (30, 5, 12, 9, 0, (30, 22, 29, 25, 30), (9, 3, 7, 1, 0)),
    "blank in the middle": (12, 3, 5, 4, 2, (12, 12, 9), (4, 2, 3)),
    "more than one vector": (90, 3, 40, 37, 0, (90, 88, 80), (37, 20, 36)),
    "many items": (14, 23, 7, 4, 0, (14,) * 23, (4,) * 23),
    "no labels": (6, 2, 4, 0, 0, (6, 3), (0, 0)),
    "no steps": (5, 3, 4, 2, 0, (0, 5, 0), (0, 2, 1)),
}


def problem(name, dtype=torch.float32, few=False):
    """`few`: labels repeat, so that blanks between them can't be skipped."""
    steps, n, classes, most, blank, inputs, targets = CASES[name]
    g = torch.Generator().manual_seed(len(name))
    scores = torch.randn(steps, n, classes, generator=g, dtype=dtype).log_softmax(2)
    symbols = torch.tensor([i for i in range(classes) if i != blank])
    labels = symbols[torch.randint(0, 2 if few else len(symbols), (n, most), generator=g)]
    return scores, labels, torch.tensor(inputs), torch.tensor(targets), blank


def losses(m, scores, labels, inputs, targets, blank, **more):
    """Losses, and the gradient for the scores with each item's loss weighted."""
    scores = scores.detach().clone().requires_grad_()
    loss = m.nn.functional.ctc_loss(scores, labels, inputs, targets, blank, **more)
    (loss * m.arange(1, loss.numel() + 1).reshape(loss.shape)).sum().backward()
    return loss, scores.grad


def compare(*args, **more):
    loss, grad = losses(torch, *args, **more)
    ours, ours_grad = losses(forno, *(forno.tensor(a.numpy()) if isinstance(a, torch.Tensor) else a for a in args), **more)
    size = 1e-5 if loss.dtype is torch.float32 else 1e-12
    np.testing.assert_allclose(ours.detach().numpy(), loss.detach().numpy(), rtol=size)
    np.testing.assert_allclose(ours_grad.numpy(), grad.numpy(), atol=size * 10 * loss.numel())


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_like_torch(name, dtype, few):
    problem_ = problem(name, dtype, few)
    for reduction in ("none", "mean", "sum"): compare(*problem_, reduction=reduction, zero_infinity=True)


def test_concatenated_targets_and_one_item():
    scores, labels, inputs, targets, blank = problem("ragged")
    compare(scores, torch.cat([row[:n] for row, n in zip(labels, targets)]), inputs, targets, blank, reduction="none")
    compare(scores[:, 0], labels[0], inputs[:1], targets[:1], blank, reduction="none")


def test_impossible_alignments():
    """Too few steps: infinite, its gradient NaN up to the item's last step; or nothing at all. A probability of zero gives NaN at its place."""
    scores, labels, _, targets, blank = problem("ragged")
    short = torch.tensor([3, 22, 29, 25, 30])
    for zero_infinity in (False, True): compare(scores, labels, short, targets, blank, reduction="none", zero_infinity=zero_infinity)
    scores = scores.clone()
    scores[4, 1, 11] = -torch.inf
    labels[labels == 11] = 10
    compare(scores, labels, torch.tensor([30, 22, 29, 25, 30]), targets, blank, reduction="none")


def test_labels_that_are_no_class():
    with pytest.raises((IndexError, RuntimeError), match="5"):
        forno.nn.functional.ctc_loss(forno.zeros(4, 1, 5).log_softmax(2), forno.tensor([[1, 5]]), [4], [2]).item()


def test_no_second_derivative():
    scores = forno.randn(4, 1, 3).log_softmax(2).requires_grad_()
    grad, = forno.autograd.grad(forno.nn.functional.ctc_loss(scores, forno.tensor([[1, 2]]), [4], [2]), scores, create_graph=True)
    with pytest.raises(RuntimeError, match="_ctc_loss_backward"): forno.autograd.grad(grad.sum(), scores)


@pytest.mark.parametrize("row", [rows.ctc, rows.ctc_gradient], ids=str)
def test_oracle(row):
    """The rows' NumPy definitions agree with PyTorch's numbers, too."""
    scores, labels, inputs, targets, blank = problem("ragged", torch.float64, few=True)
    loss, grad = losses(torch, scores, labels, inputs, targets, blank, reduction="none")
    want = loss if row is rows.ctc else grad / torch.arange(1, 6)[:, None]
    np.testing.assert_allclose(row.oracle(rows.CtcSpec(blank, False), *(x.numpy() for x in (scores, labels, inputs, targets))), want.detach().numpy(), atol=1e-9)


def test_threads():
    """Items are shared out: the same bits for any number of threads."""
    args = [forno.tensor(a.numpy()) if isinstance(a, torch.Tensor) else a for a in problem("many items")]
    before, results = forno.get_num_threads(), []
    for threads in (1, 2):
        forno.set_num_threads(threads)
        results.append(losses(forno, *args, reduction="none"))
    forno.set_num_threads(before)
    for a, b in zip(*results): assert (a.detach().numpy() == b.detach().numpy()).all()
