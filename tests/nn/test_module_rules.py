"""Rules of Module, containers and hooks: each scenario runs once with torch and once with forno and must tell the same story."""
import copy
import pickle
import re
from collections import OrderedDict

import pytest
import torch as oracle

import forno.nn

from .support import candidate, close, from_torch, to_torch

SCENARIOS = []


def scenario(f):
    SCENARIOS.append(f)
    return f


def outcome(f):
    """What a call does: its value, or its exception's type and text."""
    try:
        return f()
    except Exception as e:
        return type(e).__name__, re.sub(r"\b(torch|forno)(\.\w+)*\.", "", str(e).strip("'\"")).replace("FloatTensor", "Tensor")


def parts(torch, nn):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(3, 3)
            self.register_buffer("count", torch.zeros(2))
            self.register_buffer("scratch", torch.ones(1), persistent=False)
            self.scale = nn.Parameter(torch.ones(3))
            self.none = None

        def forward(self, x, gain=1.0):
            return self.lin(x) * self.scale * gain
    return Block, nn.Sequential(Block(), nn.ReLU(), nn.ModuleDict({"a": Block(), "b": nn.Identity()}), nn.ModuleList([nn.Linear(3, 1)] * 2))


def tidy(text): return re.sub(r"\b(torch|forno)(\.\w+)*\.", "", text)


@scenario
def naming(torch, nn):
    _, net = parts(torch, nn)
    return ([n for n, _ in net.named_parameters()], [n for n, _ in net.named_parameters(remove_duplicate=False)], [n for n, _ in net.named_buffers()],
            [n for n, _ in net.named_modules()], [n for n, _ in net.named_modules(remove_duplicate=False)], [n for n, _ in net.named_children()],
            len(list(net.parameters())), len(list(net[0].parameters(recurse=False))), [n for n, _ in net[0].named_parameters("p", recurse=False)],
            list(net.state_dict()), list(net.state_dict(prefix="x.")), dict(net.state_dict()._metadata), repr(net))


@scenario
def registering_errors(torch, nn):
    m = nn.Module()
    m.x = 1
    p = nn.Parameter(torch.ones(1))
    class Early(nn.Module):
        def __init__(self): self.w = p
    class EarlyModule(nn.Module):
        def __init__(self): self.w = nn.ReLU()
    class EarlyBuffer(nn.Module):
        def __init__(self): self.register_buffer("b", None)
    class Options(nn.Module):
        pass
    m.p, m.child = p, nn.ReLU()
    m.register_buffer("buf", None)
    calls = [lambda: m.register_parameter("a.b", None), lambda: m.register_parameter("", None), lambda: m.register_parameter(3, None),
             lambda: m.register_parameter("x", None), lambda: m.register_parameter("q", 3), lambda: m.register_parameter("q", p * 2),
             lambda: m.register_buffer("a.b", None), lambda: m.register_buffer("", None), lambda: m.register_buffer(3, None),
             lambda: m.register_buffer("x", None), lambda: m.register_buffer("q", 3), lambda: m.add_module("a.b", None), lambda: m.add_module("",
             None),
             lambda: m.add_module("x", nn.ReLU()), lambda: m.add_module("q", 3), lambda: m.add_module(3, None), Early, EarlyModule, EarlyBuffer,
             lambda: setattr(m, "p", 3), lambda: setattr(m, "child", 3), lambda: setattr(m, "buf", 3), lambda: m.missing, lambda: delattr(m,
             "missing"),
             lambda: Options(1), lambda: Options(a=1), lambda: m(1), lambda: m.get_submodule("nope"), lambda: m.get_submodule("x"),
             lambda: m.get_parameter("child"), lambda: m.get_parameter("nope"), lambda: m.get_buffer("p"), lambda: m.train(1),
             lambda: m.set_submodule("", nn.ReLU()), lambda: m.set_submodule("child.z", nn.ReLU(), strict=True), lambda: m.load_state_dict(3),
             lambda: m.to(torch.int32)]
    return [outcome(call) for call in calls]


@scenario
def weights_that_are_properties(torch, nn):
    """Layers' weights and buffers are read as Python reads attributes: properties of subclasses, parametrizations and plain attributes come first."""
    class Doubled(nn.Conv2d): pass
    class Shifted(nn.BatchNorm2d): pass

    class Two(nn.Module):
        def forward(self, w): return 2 * w
    x = torch.arange(32.0).view(1, 2, 4, 4)
    plain, parametrized, attribute, deleted = (nn.Linear(4, 2) for _ in range(4))
    conv, norm = Doubled(2, 1, 2), Shifted(2).eval()
    Doubled.weight = property(lambda self: self._parameters["weight"] * 2)
    Shifted.running_mean = property(lambda self: self._buffers["running_mean"] + 1)
    for m in (plain, parametrized, attribute, deleted, conv):
        for p in m.parameters(): torch.nn.init.constant_(p, 0.5)
    nn.utils.parametrize.register_parametrization(parametrized, "weight", Two())
    del attribute.weight, deleted.weight
    attribute.weight = torch.ones(2, 4)
    return [m(x).tolist() for m in (conv, norm, plain, parametrized, attribute)], outcome(lambda: deleted(x)), outcome(lambda: plain.nothing)


@scenario
def attributes_move_between_tables(torch, nn):
    m, told = nn.Module(), []
    def tell(): told.append((sorted(m._parameters), sorted(m._buffers), sorted(m._modules), "v" in m.__dict__, sorted(m._non_persistent_buffers_set)))
    for value in (3, nn.Parameter(torch.ones(2)), None):
        m.v = value
        tell()
    del m.v
    for value in (nn.ReLU(), None):
        m.v = value
        tell()
    m.v = nn.Tanh()
    m.v = nn.Parameter(torch.ones(1))
    tell()
    del m.v
    m.b = nn.Buffer(torch.ones(2), persistent=False)
    tell()
    m.b = torch.zeros(3)
    tell()
    m.b = nn.Parameter(torch.ones(1))
    tell()
    m.w = nn.Buffer(torch.ones(1))
    del m.w
    tell()
    return told, isinstance(nn.Buffer(torch.ones(1)), nn.Buffer), isinstance(torch.ones(1), nn.Buffer), isinstance(nn.Parameter(torch.ones(1)),
             torch.Tensor)


@scenario
def moving(torch, nn):
    _, net = parts(torch, nn)
    net[0].register_buffer("steps", torch.tensor(3))
    before = [id(p) for p in net.parameters()]
    kinds = []
    for change in (lambda: net.double(), lambda: net.half(), lambda: net.bfloat16(), lambda: net.float(), lambda: net.to(torch.float64),
                   lambda: net.to("cpu"), lambda: net.to(dtype=torch.float32), lambda: net.to("cpu", torch.float64, non_blocking=True),
                   lambda: net.to(torch.ones(1)), lambda: net.cpu(), lambda: net.type(torch.float64), lambda: net.to(device="cpu")):
        assert change() is net
        kinds.append(sorted({str(t.dtype)[6:] for t in net.state_dict().values()}))
    kinds = [[k.replace("torch.", "").lstrip(".") for k in ks] for ks in kinds]
    return kinds, before == [id(p) for p in net.parameters()], outcome(lambda: net.to(3, 4, 5))[0], outcome(lambda: net.to() is net)


@scenario
def modes_and_gradients(torch, nn):
    _, net = parts(torch, nn)
    told = [[m.training for m in net.eval().modules()], [m.training for m in net.train().modules()]]
    net[2]["a"].eval()
    told.append([m.training for m in net.modules()])
    x = torch.ones(2, 3)
    net[0](x).sum().backward()
    told.append([p.grad is not None for p in net.parameters()])
    net.zero_grad(set_to_none=False)
    told.append([None if p.grad is None else p.grad.abs().sum().item() for p in net.parameters()])
    net.zero_grad()
    told.append([p.grad is None for p in net.parameters()])
    net[0].requires_grad_(False)
    told.append([p.requires_grad for p in net.parameters()])
    seen = []
    net.apply(lambda m: seen.append(type(m).__name__))
    return told, seen


@scenario
def state_dicts(torch, nn):
    Block, net = parts(torch, nn)
    _, other = parts(torch, nn)
    state = net.state_dict()
    told = [repr(other.load_state_dict(state)), all((a == b).all().item() for a, b in zip(net.state_dict().values(), other.state_dict().values()))]
    told.append(state["0.scale"].requires_grad)
    told.append(net.state_dict(keep_vars=True)["0.scale"] is net[0].scale)
    broken = OrderedDict((k, v) for k, v in state.items() if "scale" not in k)
    broken["0.extra"], broken["nope.deep"] = torch.ones(1), torch.ones(1)
    told.append(outcome(lambda: other.load_state_dict(broken)))
    told.append(other.load_state_dict(broken, strict=False))
    wrong = dict(state, **{"0.scale": torch.ones(7), "0.count": 3})
    told.append(outcome(lambda: other.load_state_dict(wrong)))
    assigned = other.load_state_dict({k: v.double() for k, v in state.items()}, assign=True)
    told += [repr(assigned), {str(p.dtype).split(".")[-1] for p in other.parameters()}, all(p.requires_grad for p in other.parameters())]

    class Extra(nn.Module):
        def get_extra_state(self): return {"n": 3}
        def set_extra_state(self, state): told.append(state)
    e = Extra()
    told += [dict(e.state_dict()), repr(e.load_state_dict(e.state_dict())), outcome(lambda: e.load_state_dict({}))]
    told.append(outcome(lambda: nn.Linear(1, 1).load_state_dict({**nn.Linear(1, 1).state_dict(), "_extra_state": 3})))
    return told


@scenario
def state_dict_hooks(torch, nn):
    m, told = nn.Sequential(nn.Linear(1, 1)), []
    m.register_state_dict_pre_hook(lambda module, prefix, keep: told.append(("pre", prefix, keep)))
    m.register_state_dict_post_hook(lambda module, state, prefix, meta: told.append(("post", list(state), prefix, dict(meta))))
    m._register_state_dict_hook(lambda module, state, prefix, meta: OrderedDict(state, added=1))
    m.register_load_state_dict_pre_hook(lambda module, state, prefix, *rest: told.append(("load", type(module).__name__, prefix, state.pop("added",
             None))))
    handle = m.register_load_state_dict_post_hook(lambda module, keys: keys.missing_keys.clear())
    state = m.state_dict()
    told.append(list(state))
    told.append(repr(m.load_state_dict({"0.weight": torch.ones(1, 1), "added": 1})))
    handle.remove()
    told.append(outcome(lambda: m.load_state_dict({"0.weight": torch.ones(1, 1)})))
    m.register_load_state_dict_post_hook(lambda module, keys: 3)
    told.append(outcome(lambda: m.load_state_dict({"0.weight": torch.ones(1, 1), "0.bias": torch.ones(1)}))[0])
    return told


@scenario
def forward_hooks(torch, nn):
    Block, _ = parts(torch, nn)
    m, told, x = Block(), [], torch.ones(1, 3)
    handles = [m.register_forward_pre_hook(lambda mod, args: told.append(("pre", len(args)))),
               m.register_forward_pre_hook(lambda mod, args: (args[0] * 2,)),
               m.register_forward_pre_hook(lambda mod, args, kwargs: (args, {**kwargs, "gain": 3.0}), with_kwargs=True, prepend=True),
               m.register_forward_hook(lambda mod, args, out: told.append(("post", args[0][0, 0].item()))),
               m.register_forward_hook(lambda mod, args, kwargs, out: told.append(("kw", kwargs)), with_kwargs=True, prepend=True),
               m.register_forward_hook(lambda mod, args, out: out * 0 + 5)]
    told.append(m(x).tolist())
    for h in handles: h.remove()
    told.append([len(t) for t in (m._forward_hooks, m._forward_pre_hooks, m._forward_hooks_with_kwargs, m._forward_pre_hooks_with_kwargs)])
    with m.register_forward_hook(lambda mod, args, out: out * 0):
        told.append(m(x).abs().sum().item())
    told.append(m(x).abs().sum().item() > 0)
    m.register_forward_hook(lambda mod, args, out: told.append(("always", out)), always_call=True)
    told.append(outcome(lambda: m(torch.ones(1, 7)))[0])
    m.register_forward_pre_hook(lambda mod, args, kwargs: 3, with_kwargs=True)
    told.append(outcome(lambda: m(x)))
    handle = nn.modules.module.register_module_forward_hook(lambda mod, args, out: told.append(type(mod).__name__))
    nn.Sequential(nn.ReLU(), nn.Tanh())(x)
    handle.remove()
    nn.ReLU()(x)
    return told


@scenario
def backward_hooks(torch, nn):
    told = []
    def shapes(grads): return [None if g is None else (tuple(g.shape), round(g.sum().item(), 4)) for g in grads]
    class Two(nn.Module):
        def forward(self, a, b, flag=True): return a * 2, b * 3
    m = Two()
    m.register_full_backward_pre_hook(lambda mod, out: told.append(("pre", shapes(out))))
    m.register_full_backward_hook(lambda mod, inp, out: told.append(("full", shapes(inp), shapes(out))))
    m.register_full_backward_hook(lambda mod, inp, out: tuple(None if g is None else g * 10 for g in inp))
    a, b = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    y, z = m(a, b, False)
    (y.sum() + z.sum()).backward()
    told += [a.grad.tolist(), b.grad.tolist()]
    told.append(outcome(lambda: m.register_backward_hook(lambda *x: None)))
    lin = nn.Linear(2, 2)
    lin.register_full_backward_pre_hook(lambda mod, out: (out[0] * 0 + 1,))
    lin.register_full_backward_hook(lambda mod, inp, out: told.append(("leaf", shapes(inp), shapes(out))))
    (lin(torch.ones(1, 2)) * 7).sum().backward()
    told.append(lin.bias.grad.tolist())
    bad = nn.Identity()
    bad.register_full_backward_hook(lambda mod, inp, out: (1, 2, 3))
    told.append(outcome(lambda: bad(torch.ones(1, requires_grad=True)).sum().backward()))
    return told


@scenario
def copies_and_pickles(torch, nn):
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.LSTM(2, 2), nn.Embedding(3, 2, padding_idx=0), nn.MultiheadAttention(2, 1),
                        nn.Conv2d(1, 1, 1))
    told = []
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), copy.copy(net)):
        told.append((repr(other), list(other.state_dict()), other[0].weight is net[0].weight,
                     all((a == b).all().item() for a, b in zip(net.state_dict().values(), other.state_dict().values())),
                     type(other[0].weight).__name__, [p.requires_grad for p in other.parameters()]))
    p = nn.Parameter(torch.ones(2), requires_grad=False)
    q = pickle.loads(pickle.dumps(p))
    return told, type(q).__name__, q.requires_grad, tidy(repr(p)).replace("Parameter(",
           "tensor("), copy.deepcopy(p).requires_grad, type(p + 1).__name__


@scenario
def sequential(torch, nn):
    a, b, c = nn.ReLU(), nn.Tanh(), nn.Sigmoid()
    s = nn.Sequential(a, b)
    told = [len(s), s[0] is a, s[-1] is b, type(s[0:1]).__name__, len(s[1:]), [type(m).__name__ for m in s + nn.Sequential(c)]]
    s.append(c)
    s.insert(1, nn.GELU())
    s.insert(-1, nn.ELU())
    told.append(repr(s))
    s[0] = nn.SELU()
    del s[1]
    told += [repr(s), type(s.pop(-1)).__name__, repr(s * 2), repr(2 * s), len(s.extend([a, b]))]
    s *= 2
    s += nn.Sequential(c)
    del s[0:2]
    told += [repr(s), [n for n, _ in s.named_children()]]
    told += [outcome(f) for f in (lambda: s[99], lambda: s + 3, lambda: s * 0, lambda: s * 1.5, lambda: s.insert(99, a), lambda: s.insert(0, 3),
                                  lambda: nn.Sequential(3))]
    named = nn.Sequential(OrderedDict(first=a, second=b))
    return told, repr(named), named.first is a, "first" in dir(named), "0" in dir(s)


@scenario
def lists_and_dicts(torch, nn):
    a, b = nn.Linear(1, 1), nn.Tanh()
    m = nn.ModuleList([a, a, b])
    told = [repr(m), len(m), m[-1] is b, repr(m[1:]), repr(m + [a]), repr(nn.ModuleList())]
    m.insert(0, b)
    m.append(nn.ReLU()).extend([b])
    m[1] = nn.GELU()
    del m[0]
    told += [repr(m), type(m.pop(-1)).__name__, [n for n, _ in m.named_children()], outcome(lambda: m[99]), outcome(lambda: m.extend(3)),
             outcome(lambda: m(1))]
    d = nn.ModuleDict({"x": a, "y": b})
    d.update([("z", nn.ReLU())])
    d["w"] = nn.GELU()
    told += [list(d), list(d.keys()), "x" in d, len(d), repr(d), type(d.pop("x")).__name__, outcome(lambda: d["x"]), outcome(lambda: d.update(3)),
             outcome(lambda: d.update([3])), outcome(lambda: d.update([(1, 2, 3)]))]
    d.clear()
    told.append(len(d))
    return told


@scenario
def parameter_lists_and_dicts(torch, nn):
    l = nn.ParameterList([torch.ones(2), nn.Parameter(torch.ones(1, 3)), 5])
    l.append(torch.zeros(1)).extend([torch.zeros(2)])
    l[0] = torch.zeros(7)
    told = [tidy(repr(l)), len(l), [n for n, _ in l.named_parameters()], len(l[1:3]), outcome(lambda: l[99]), outcome(lambda: l.extend(3)),
            outcome(lambda: l())]
    d = nn.ParameterDict({"b": torch.ones(2), "a": 3})
    d["c"] = torch.ones(1)
    told += [list(d), [n for n, _ in d.named_parameters()], "a" in d, d.get("zz", 7), d.pop("a"), d.popitem()[0], len(d), list(reversed(d)),
             d.setdefault("k", torch.ones(1)).shape[0], list(d | {"n": torch.ones(1)}), outcome(lambda: d[3])[0], outcome(lambda: d.update(3)),
             outcome(lambda: d(1)),
             list(nn.ParameterDict().fromkeys("ab", 1)), list(d.copy())]
    return told


@scenario
def old_backward_hooks(torch, nn):
    """PyTorch ties them to the last operation of forward: where that has the module's inputs, both see the same."""
    told, m = [], nn.Tanh()
    handle = m.register_backward_hook(lambda mod, inp, out: told.append((type(mod).__name__, inp[0].tolist(), out[0].tolist())))
    x = torch.ones(2, requires_grad=True)
    (m(x) * 0).sum().backward()
    m.register_backward_hook(lambda mod, inp, out: (inp[0] + 3,))
    (m(x) * 0).sum().backward()
    told += [x.grad.tolist(), outcome(lambda: m.register_full_backward_hook(lambda *a: None))]
    handle.remove()
    with torch.no_grad(): m(x)
    return told


@scenario
def constructor_errors(torch, nn):
    calls = ["nn.Conv2d(3, 4, 1, groups=2)", "nn.Conv2d(4, 3, 1, groups=2)", "nn.Conv2d(1, 1, 1, groups=0)", "nn.Conv2d(1, 1, 3, stride=2,"
             " padding='same')",
             "nn.ConvTranspose2d(1, 1, 1, padding_mode='reflect')", "nn.Dropout(1.5)", "nn.GroupNorm(2, 3)", "nn.Embedding(3, 2, padding_idx=3)",
             "nn.LSTM(0, 1)", "nn.LSTM(1, 0)", "nn.LSTM(1, 2, num_layers=0)", "nn.LSTM(1, 2, dropout=2)", "nn.LSTM(1, 2, proj_size=2)",
             "nn.LSTM(1, 2, proj_size=-1)", "nn.LSTM(1.0, 2)", "nn.GRU(1, 2, proj_size=1)", "nn.RNN(1, 2, nonlinearity='x')", "nn.LSTM(1, 2, bias=1)",
             "nn.MultiheadAttention(3, 2)", "nn.MultiheadAttention(0, 2)", "nn.TransformerEncoderLayer(4, 2, activation='x')",
             "nn.HuberLoss(delta='x')",
             "nn.TripletMarginLoss(margin=0)", "nn.MultiMarginLoss(p=3)", "nn.FractionalMaxPool2d(2)", "nn.FractionalMaxPool2d(2, 3, 0.5)",
             "nn.FractionalMaxPool2d(2, output_ratio=2)", "nn.AdaptiveLogSoftmaxWithLoss(4, 5, [])", "nn.AdaptiveLogSoftmaxWithLoss(4, 5, [3, 2])",
             "nn.Hardtanh(1, 0)", "nn.Unflatten(1, 3)", "nn.Unflatten(1, (2.5,))", "nn.Bilinear(0, 1, 1)", "nn.Linear()"]
    return [(call, outcome(lambda: eval(call, {"nn": nn}))) for call in calls]


@scenario
def forward_errors(torch, nn):
    one = torch.ones
    calls = [lambda: nn.BatchNorm1d(2)(one(2)), lambda: nn.BatchNorm2d(2)(one(2, 2)), lambda: nn.BatchNorm1d(2)(one(1, 2)),
             lambda: nn.InstanceNorm2d(2)(one(1, 2, 1, 1)), lambda: nn.InstanceNorm1d(2, affine=True)(one(1, 3, 4)), lambda: nn.GroupNorm(1,
             2)(one(2)),
             lambda: nn.Softmax2d()(one(2)), lambda: nn.LSTM(2, 2)(one(2)), lambda: nn.LSTM(2, 2)(one(3, 1, 3)), lambda: nn.GRU(2, 2)(one(3, 1, 2),
             one(1, 1)),
             lambda: nn.GRU(2, 2)(one(3, 1, 2), one(1, 2, 2)), lambda: nn.LSTM(2, 2)(one(3, 2), (one(1, 1, 2), one(1, 1, 2))),
             lambda: nn.LSTM(2, 2)(one(3, 1, 2).double()), lambda: nn.GRUCell(2, 2)(one(1, 1, 1)), lambda: nn.LSTMCell(2, 2)(one(2, 2), (one(1, 1,
             1),) * 2),
             lambda: nn.RNNCell(2, 2, nonlinearity="x")(one(2)), lambda: nn.MSELoss(reduction="x")(one(1), one(1)),
             lambda: nn.BCELoss()(one(2), one(3)), lambda: nn.BCEWithLogitsLoss()(one(2), one(3)), lambda: nn.NLLLoss()(one(3, 2), one(2).long()),
             lambda: nn.CrossEntropyLoss(label_smoothing=2.0)(one(1, 2), one(1).long()), lambda: nn.CircularPad1d(1)(one(1)),
             lambda: nn.MultiheadAttention(2, 1)(one(1), one(1), one(1)), lambda: nn.Transformer(2, 1, 1, 1, 2)(one(1, 2, 2), one(1, 3, 2)),
             lambda: nn.Transformer(2, 1, 1, 1, 2)(one(1, 2, 3), one(1, 2, 2)), lambda: nn.Module()(1), lambda: nn.ModuleList()(1),
             lambda: nn.functional.one_hot(one(1)), lambda: nn.functional.pad(one(2), (1,)), lambda: nn.functional.pad(one(2), (1, 1, 1, 1)),
             lambda: nn.functional.dropout(one(1), 2.0), lambda: nn.functional.interpolate(one(1, 1, 2)),
             lambda: nn.functional.glu(torch.tensor(1.0)),
             lambda: nn.functional.interpolate(one(1, 1, 2), 3, mode="bilinear"), lambda: nn.functional.grid_sample(one(1), one(1), mode="x"),
             lambda: nn.functional.embedding_bag(one(1, 1, 1).long(), one(2, 2)), lambda: nn.functional.kl_div(one(1), one(1), reduction="x"),
             lambda: nn.functional.huber_loss(one(1), one(1), delta=0.0), lambda: nn.functional.cosine_embedding_loss(one(2), one(2), one(2))]
    return [outcome(call)[0] for call in calls]


@scenario
def lazy(torch, nn):
    told = []
    for make, shape in ((lambda: nn.LazyLinear(3), (2, 4)), (lambda: nn.LazyConv2d(3, 2), (1, 2, 4, 4)), (lambda: nn.LazyBatchNorm1d(), (2, 5)),
                        (lambda: nn.LazyConvTranspose1d(3, 2), (1, 2, 4)), (lambda: nn.LazyInstanceNorm2d(affine=True), (1, 2, 3, 3))):
        m = make()
        told += [repr(m), m.has_uninitialized_params(), [type(p).__name__ for p in m.parameters()], outcome(lambda: m.weight.shape)[0],
                 repr(m.weight)]
        y = m(torch.ones(shape))
        told += [repr(m), type(m).__name__, tuple(y.shape), [tuple(p.shape) for p in m.parameters()], list(m.state_dict()), hasattr(m, "_load_hook")]
    m, full = nn.LazyLinear(3), nn.Linear(4, 3)
    m.load_state_dict(full.state_dict())
    told += [tuple(m.weight.shape), m(torch.ones(1, 4)).shape[1], repr(m)]
    return told


@scenario
def parameter_rules(torch, nn):
    p = nn.Parameter()
    t = torch.ones(2)
    q = nn.Parameter(t)
    with torch.no_grad():
        q.mul_(3)
    q.note = "kept"
    return p.shape[0], p.requires_grad, q.is_leaf, t.tolist(), isinstance(q, nn.Parameter), isinstance(t,
           nn.Parameter), copy.copy(q).is_leaf, q.data is q, q.note


@pytest.mark.parametrize("tell", SCENARIOS, ids=lambda f: f.__name__)
def test_same_story(tell):
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want, got = tell(oracle, oracle.nn), tell(candidate, forno.nn)
    if isinstance(want, (list, tuple)):
        for i, (g, w) in enumerate(zip(got, want)):
            assert g == w, f"part {i}: {g!r} instead of {w!r}"
    assert got == want


@pytest.mark.parametrize("make", ["Linear(5, 3)", "Conv1d(4, 6, 3, groups=2)", "Conv2d(3, 8, (3, 5), bias=False)", "Conv3d(2, 2, 3)",
                                  "ConvTranspose2d(4, 2, 3)",
                                  "Bilinear(2, 3, 4)", "Embedding(7, 3, padding_idx=2)", "EmbeddingBag(7, 3)", "RNN(3, 4, 2)",
                                  "LSTM(3, 4, 2, proj_size=2)",
                                  "GRU(3, 4, bidirectional=True)", "LSTMCell(3, 4)", "MultiheadAttention(4, 2, add_bias_kv=True)", "PReLU(3)",
                                  "MultiheadAttention(4, 2, kdim=3, vdim=5)", "TransformerDecoderLayer(4, 2, 8)", "Transformer(4, 2, 1, 1, 8)",
                                  "LayerNorm(4)",
                                  "AdaptiveLogSoftmaxWithLoss(8, 10, [2, 5])", "BatchNorm2d(3)"])
def test_equal_seeds_give_equal_parameters(make):
    """Also after the constructor: the generators stand at the same place."""
    oracle.manual_seed(5)
    want, want_next = eval(f"nn.{make}", {"nn": oracle.nn}), oracle.randn(3)
    candidate.manual_seed(5)
    got, got_next = eval(f"nn.{make}", {"nn": forno.nn}), candidate.randn(3)
    close(got.state_dict(), want.state_dict(), make)
    close(got_next, want_next)
    assert [p.requires_grad for p in got.parameters()] == [p.requires_grad for p in want.parameters()]
    assert {k: v for k, v in got.__dict__.items() if isinstance(v, (int, float, str, tuple))} == \
        {k: v for k, v in want.__dict__.items() if isinstance(v, (int, float, str, tuple)) and k in got.__dict__}


INITS = ["uniform_(t, -1, 2)", "normal_(t, 1, 2)", "trunc_normal_(t)", "trunc_normal_(t, std=0.5, a=1, b=2)", "constant_(t, 3)", "ones_(t)",
         "zeros_(t)", "eye_(t)",
         "xavier_uniform_(t, 2)", "xavier_normal_(t)", "kaiming_uniform_(t, mode='fan_out', nonlinearity='relu')", "kaiming_normal_(t)",
         "orthogonal_(t, 2)",
         "sparse_(t, 0.3)", "dirac_(t.reshape(2, 3, 2))"]


@pytest.mark.parametrize("call", INITS)
@pytest.mark.parametrize("shape", [(4, 3), (3, 4)])
def test_init(call, shape):
    results = []
    for torch, nn in ((oracle, oracle.nn), (candidate, forno.nn)):
        torch.manual_seed(3)
        t = torch.zeros(shape, requires_grad=False)
        returned = eval(f"init.{call}", {"init": nn.init, "t": t})
        results.append((returned.detach(), t))
    (want, want_t), (got, got_t) = results
    close(got, want, call)
    close(got_t, want_t, call)


def test_init_errors():
    for call in ("calculate_gain('x')", "calculate_gain('leaky_relu', True)", "eye_(t)", "dirac_(t)", "xavier_uniform_(t)",
                 "kaiming_uniform_(m, mode='x')", "sparse_(t, 0.1)",
                 "orthogonal_(t)", "dirac_(c, 3)"):
        stories = [outcome(lambda: eval(f"init.{call}", {"init": nn.init, "t": torch.zeros(3), "m": torch.zeros(2, 2), "c": torch.zeros(4, 2, 3)}))
                   for torch, nn in ((oracle, oracle.nn), (candidate, forno.nn))]
        assert stories[0] == stories[1], call
    for gain in ("linear", "conv2d", "sigmoid", "tanh", "relu", "selu", "leaky_relu"):
        assert forno.nn.init.calculate_gain(gain) == oracle.nn.init.calculate_gain(gain)


@pytest.mark.parametrize("norm_type", [2.0, 1.0, float("inf")])
def test_clip_grad(norm_type):
    grads = [oracle.randn(3, 2), oracle.randn(4)]
    results = []
    for torch, nn, convert in ((oracle, oracle.nn, lambda t: t.clone()), (candidate, forno.nn, from_torch)):
        ps = [nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(1))]
        for p, g in zip(ps, grads):
            p.grad = convert(g)
        total = nn.utils.clip_grad_norm_(ps, 0.5, norm_type)
        clipped = [to_torch(p.grad) for p in ps if p.grad is not None]
        nn.utils.clip_grad_value_(ps, 0.05)
        vector = nn.utils.parameters_to_vector(ps)
        nn.utils.vector_to_parameters(vector * 2, ps)
        results.append([to_torch(total), clipped, [to_torch(p.grad) for p in ps[:2]], to_torch(vector), [to_torch(p) for p in ps]])
    close(results[1], results[0], "clip")
