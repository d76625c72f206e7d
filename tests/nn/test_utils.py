"""Packed sequences, parametrizations, fusion and functional_call: the same story with torch and with forno."""
import copy
import warnings

import pytest
import torch as oracle

import forno.nn

from .support import candidate, close, from_torch, to_torch
from .test_module_rules import outcome

SCENARIOS = []


def scenario(f):
    SCENARIOS.append(f)
    return f


def numbers(x):
    if isinstance(x, (list, tuple)):
        return [numbers(v) for v in x]
    return x if x is None or isinstance(x, (int, float, str, bool, dict)) else to_torch(x.detach())


@scenario
def padding(torch, nn):
    rnn = nn.utils.rnn
    a, b, c = torch.arange(6.0).reshape(3, 2), torch.ones(1, 2), torch.zeros(2, 2) + 7
    padded = rnn.pad_sequence([a, b, c])
    told = [padded, rnn.pad_sequence([a, b], batch_first=True, padding_value=-1.0), rnn.pad_sequence([a, b], padding_side="left")]
    told += [rnn.unpad_sequence(padded.clone(), torch.tensor([3, 1, 2])), outcome(lambda: rnn.pad_sequence([]))[0],
             outcome(lambda: rnn.pad_sequence(3))]
    return told


@scenario
def packing(torch, nn):
    rnn = nn.utils.rnn
    x = torch.arange(24.0).reshape(4, 3, 2)
    p = rnn.pack_padded_sequence(x, [4, 2, 1])
    q = rnn.pack_padded_sequence(x.transpose(0, 1), torch.tensor([1, 4, 2]), batch_first=True, enforce_sorted=False)
    told = [list(p), list(q), list(rnn.pad_packed_sequence(p)), list(rnn.pad_packed_sequence(q, batch_first=True, padding_value=-3.0,
                                                                 total_length=6))]
    told += [rnn.unpack_sequence(q), list(rnn.pack_sequence([x[:3, 0], x[:1, 1]])), str(q.double().data.dtype).split(".")[-1], q.is_cuda]
    told += [outcome(lambda: rnn.pack_padded_sequence(x, [1, 2, 4]))[0], outcome(lambda: rnn.pack_padded_sequence(x, [4, 2]))[0],
             outcome(lambda: rnn.pack_padded_sequence(x, [4, 2, 0]))[0], outcome(lambda: rnn.pad_packed_sequence(p, total_length=2)),
             rnn.invert_permutation(torch.tensor([2, 0, 1]))]
    return told


@scenario
def packed_networks(torch, nn):
    told = []
    for kind in ("RNN", "LSTM", "GRU"):
        torch.manual_seed(1)
        net = getattr(nn, kind)(2, 3, num_layers=2, bidirectional=True)
        x = torch.randn(4, 3, 2)
        x.requires_grad_()
        out, state = net(nn.utils.rnn.pack_padded_sequence(x, [2, 4, 1], enforce_sorted=False))
        out.data.sum().backward()
        told += [out.data, list(state), x.grad, [p.grad for p in net.parameters()]]
    return told


@scenario
def weight_norms(torch, nn):
    torch.manual_seed(2)
    told = []
    for make in (lambda m, **k: nn.utils.weight_norm(m, **k), lambda m, **k: nn.utils.parametrizations.weight_norm(m, **k)):
        for dim in (0, 1, None):
            m = make(nn.Linear(3, 4), dim=dim)
            y = m(torch.ones(2, 3) * 2)
            y.square().sum().backward()
            told += [list(m.state_dict()), y, m.weight, [p.grad for p in m.parameters()]]
    m = nn.utils.weight_norm(nn.Linear(3, 4))
    other = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
    other.load_state_dict(m.state_dict())
    told += [other.weight, outcome(lambda: nn.utils.weight_norm(m))]
    nn.utils.remove_weight_norm(m)
    told += [list(m.state_dict()), m.weight, outcome(lambda: nn.utils.remove_weight_norm(nn.Linear(1, 1)))]
    return told


@scenario
def spectral_norms(torch, nn):
    told = []
    for make in (nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm):
        for layer in (lambda: nn.Linear(3, 4), lambda: nn.ConvTranspose2d(2, 3, 2)):
            torch.manual_seed(2)
            m = make(layer(), n_power_iterations=2)
            x = torch.ones(1, 3) if layer().weight.dim() == 2 else torch.ones(1, 2, 3, 3)
            for _ in range(2):
                y = m(x)
            y.square().sum().backward()
            told += [list(m.state_dict()), y, list(m.state_dict().values()), [p.grad for p in m.parameters()], m.eval()(x)]
    m = nn.utils.spectral_norm(nn.Linear(3, 4))
    told += [list(nn.utils.remove_spectral_norm(m).state_dict()), outcome(lambda: nn.utils.spectral_norm(nn.Linear(1, 1), n_power_iterations=0))]
    return told


@scenario
def parametrized(torch, nn):
    P = nn.utils.parametrize
    class Symmetric(nn.Module):
        def forward(self, x): return x.triu() + x.triu(1).t()
        def right_inverse(self, x): return x.triu()
    class Double(nn.Module):
        def forward(self, x): return 2 * x
    class Wrong(nn.Module):
        def forward(self, x): return x[:1]
    torch.manual_seed(3)
    m = P.register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    P.register_parametrization(m, "weight", Double())
    told = [repr(m), list(m.state_dict()), m.weight, P.is_parametrized(m), P.is_parametrized(m, "bias"), type(m).__name__, m(torch.ones(1, 3)),
            P.type_before_parametrizations(m).__name__]
    m(torch.ones(1, 3)).sum().backward()
    told += [m.parametrizations.weight.original.grad, copy.deepcopy(m).weight]
    with P.cached():
        told.append(m.weight is m.weight)
    told += [outcome(lambda: setattr(m, "weight", torch.ones(3, 3))), outcome(lambda: P.register_parametrization(m, "weight", Wrong()))[0],
             outcome(lambda: P.register_parametrization(nn.Linear(3, 3), "weight", Wrong()))[0], outcome(lambda: m.__getstate__())[0],
             outcome(lambda: P.register_parametrization(m, "nope", Double()))[0], outcome(lambda: P.remove_parametrizations(m, "bias"))[0]]
    P.remove_parametrizations(m, "weight")
    told += [repr(m), m.weight, list(m.state_dict()), type(m).__name__]
    single = P.register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    single.weight = torch.arange(9.0).reshape(3, 3)
    told += [single.weight, P.remove_parametrizations(single, "weight", leave_parametrized=False).weight]
    return told


@scenario
def fused(torch, nn):
    torch.manual_seed(4)
    conv, bn = nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3)
    lin, flat = nn.Linear(2, 3), nn.BatchNorm1d(3)
    bn(torch.randn(2, 3, 2, 2))
    flat(torch.randn(4, 3))
    x, y = torch.randn(1, 2, 3, 3), torch.randn(2, 2)
    told = [outcome(lambda: nn.utils.fuse_conv_bn_eval(conv, bn))]
    for m in (conv, bn, lin, flat): m.eval()
    told += [nn.utils.fuse_conv_bn_eval(conv, bn)(x), bn(conv(x)), nn.utils.fuse_linear_bn_eval(lin, flat)(y)]
    return told


@scenario
def functional_calls(torch, nn):
    call = nn.utils.stateless.functional_call
    torch.manual_seed(4)
    m = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    new = {"0.weight": torch.ones(2, 2) * 2, "1.running_mean": torch.ones(2)}
    told = [call(m, new, torch.arange(4.0).reshape(2, 2)), dict(m.named_buffers())["1.running_mean"], m[0].weight]
    told += [outcome(lambda: call(m, {"0.weight": torch.ones(2, 2)}, torch.ones(2, 2), strict=True))[0],
             outcome(lambda: call(m, {"nope": torch.ones(2, 2)}, torch.ones(2, 2)))[0]]
    return told


@pytest.mark.parametrize("tell", SCENARIOS, ids=lambda f: f.__name__)
def test_same_story(tell):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want, got = numbers(tell(oracle, oracle.nn)), numbers(tell(candidate, forno.nn))
    close(got, want, tell.__name__, loose=5)


@pytest.mark.parametrize("orthogonal_map", ["matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4)])
@pytest.mark.parametrize("trivial", [True, False])
def test_orthogonal(orthogonal_map, shape, trivial):
    torch, nn = candidate, forno.nn
    torch.manual_seed(0)
    m = nn.Linear(shape[1], shape[0])
    start = m.weight.detach().clone()
    nn.utils.parametrizations.orthogonal(m, orthogonal_map=orthogonal_map, use_trivialization=trivial)
    w = m.weight if shape[0] >= shape[1] else m.weight.t()
    close(torch.matmul(w.t(), w), oracle.eye(min(shape)), loose=10)
    m(torch.ones(1, shape[1])).sum().backward()
    assert m.parametrizations.weight.original.grad is not None and start.shape == m.weight.shape
    reference = oracle.nn.Linear(shape[1], shape[0])
    with oracle.no_grad():
        reference.weight.copy_(to_torch(start))
    oracle.nn.utils.parametrizations.orthogonal(reference, orthogonal_map=orthogonal_map, use_trivialization=False)
    if not trivial and orthogonal_map != "householder":                      # torch's householder starts from an orthogonalized weight
        close(m.weight, reference.weight, loose=10)


def test_from_torch_round_trip():
    x = oracle.randn(2, 3)
    assert oracle.equal(to_torch(from_torch(x)), x)
