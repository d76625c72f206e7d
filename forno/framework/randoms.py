"""Random tensors, and the Generator that draws them. Same seed, same numbers as PyTorch's CPU generator (docs/random.md lists what differs).

Numbers are drawn when the call is made, in program order, into memory of their own; what is computed from them waits in the window as usual.
"""
from __future__ import annotations

import math

from ..core import dtype as dt
from ..core.errors import unsupported
from ..core.shape import contiguous, whole
from ..core.state import state
from ..cpu import memory as mem
from ..dnn import movement as mv
from ..graph.line import LOCAL
from . import creation, data, functions as fn, gathering, random_core, views
from .modes import no_grad
from .bind import apply
from .effects import refused
from .size import CPU, on_cpu, place
from .tensor import Tensor, check_write, is_meta, memory, read, touched, whole_write, without_data, wrap, write
from .views import shape_of


class Generator:
    """torch.Generator on the CPU."""

    def __init__(self, device="cpu"):
        on_cpu(device)
        self.device, self.engine = CPU, random_core.Engine()

    def manual_seed(self, seed):
        refused("it sets the state of a generator of random numbers")
        self.engine.manual_seed(int(seed))
        return self

    def seed(self):
        refused("it sets the state of a generator of random numbers")
        return self.engine.seed()

    def initial_seed(self): return self.engine.initial_seed
    def get_state(self): return data.from_data(list(self.engine.get_state()), dt.uint8)

    def set_state(self, new_state):
        if not isinstance(new_state, Tensor) or new_state.dtype is not dt.uint8: raise TypeError("RNG state must be a torch.ByteTensor")
        refused("it sets the state of a generator of random numbers")
        self.engine.set_state(bytes(data.values(new_state)))
        return self

    def clone_state(self):
        g = Generator()
        g.engine.set_state(self.engine.get_state())
        return g

    def __getstate__(self): return self.engine.get_state()

    def __setstate__(self, raw):
        self.__init__()
        self.engine.set_state(raw)


default_generator = Generator()


def engine(generator=None): return (default_generator if generator is None else generator).engine


def manual_seed(seed):
    """Seed the default generator; returns it."""
    return default_generator.manual_seed(seed)


def seed(): return default_generator.seed()
def initial_seed(): return default_generator.initial_seed()
def get_rng_state(): return default_generator.get_state()
def set_rng_state(new_state): default_generator.set_state(new_state)


class fork_rng:
    """Restores the generator's state on leaving."""

    def __init__(self, devices=None, enabled=True, device_type="cpu"): self.enabled = enabled
    def __enter__(self): self.state = default_generator.engine.get_state()

    def __exit__(self, *error):
        refused("it sets the state of a generator of random numbers")
        if self.enabled: default_generator.engine.set_state(self.state)


def drawn(shape, dtype, fill, each: bool = False, room=None) -> Tensor:
    """A tensor whose memory (`room`, or new) `fill(address, count)` has filled; `each`: one call fills one tensor, whatever the count."""
    if LOCAL.run.level is not None: return LOCAL.run.level.drawn(shape, dtype, fill, each)
    n = math.prod(shape)
    buffer = room or mem.empty(n * dtype.size)
    fill(buffer.address, n)
    node, journal = data.node_of(buffer, dtype, tuple(shape)), LOCAL.run.journal
    if journal is not None: journal.drawn.append((node, tuple(shape), dtype, n, fill))
    return wrap(node)


def undrawn(device) -> bool:
    """Is a tensor to be made without values? Numbers are drawn on the CPU."""
    where = place(device)
    if where.startswith("cuda"): raise unsupported("random numbers", device=where, instead="draw them on the CPU and move them with .to(device)")
    return where == "meta"


# ---------------------------------------------------------------- new tensors
def maker(fill):
    def make(*size, generator=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False, names=None, memory_format=None):
        absent = undrawn(device)
        shape, dtype = creation.size_of(size, None, absent), dtype or state.default_dtype
        if dtype.category < dt.FLOAT: raise NotImplementedError(f"\"{fill.__name__}\" not implemented for '{fn.ew.TITLES[dtype.name]}'")
        if absent: return creation.finish(without_data(dtype, shape), requires_grad)
        return creation.finish(drawn(shape, dtype, lambda a, n: fill(engine(generator), a, n, dtype)), requires_grad)
    return make


def uniform_cpu(e, a, n, dtype): e.uniform(a, n, dtype)
def normal_cpu(e, a, n, dtype): e.normal(a, n, dtype)


rand, randn = maker(uniform_cpu), maker(normal_cpu)
rand_like = creation.like(rand)
_randn_like = creation.like(randn)


def straight(t) -> bool: return memory(t).strides == whole(shape_of(t)).strides


def randn_like(input, *, requires_grad=False, **kw):
    """Pairs are drawn, as everywhere, where the result is not contiguous."""
    if straight(input): return _randn_like(input, requires_grad=requires_grad, **kw)
    return creation.finish(normal_(creation.empty_like(input, **kw)), requires_grad)


def randint(low, high=None, size=None, *, generator=None, dtype=dt.int64, layout=None, device=None, requires_grad=False, pin_memory=False):
    absent = undrawn(device)
    if size is None: low, high, size = 0, low, high
    shape = creation.size_of((size,), None, absent)
    dtype = dtype or dt.int64
    if absent: return creation.finish(without_data(dtype, shape), requires_grad)
    return creation.finish(drawn(shape, dtype, lambda a, n: engine(generator).integers(a, n, dtype, int(low), int(high))), requires_grad)


def randint_like(input, low, high=None, *, requires_grad=False, **kw):
    return creation.finish(random_(creation.empty_like(input, **kw), *((0, low) if high is None else (low, high))), requires_grad)


def randperm(n, *, generator=None, dtype=dt.int64, layout=None, device=None, requires_grad=False, pin_memory=False):
    absent = undrawn(device)
    if n < 0: raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    if absent: return creation.finish(without_data(dtype, (n,)), requires_grad)
    return creation.finish(drawn((n,), dtype, lambda a, _: engine(generator).permutation(a, n, dtype), each=True), requires_grad)


def constant_of(value: Tensor, *sources) -> Tensor:
    """A drawn value whose gradient with respect to its parameters is zero, as PyTorch defines it."""
    for s in sources:
        if isinstance(s, Tensor) and s.requires_grad: value = apply(mv.overwrite, s, value)
    return value


def normal(mean=0.0, std=1.0, size=None, *, generator=None, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    if not isinstance(std, Tensor) and std < 0: raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    if size is not None: return creation.finish(randn(size, generator=generator, dtype=dtype, device=device) * std + mean, requires_grad)
    like = mean if isinstance(mean, Tensor) else std
    shape = fn.broadcast(*(shape_of(t) for t in (mean, std) if isinstance(t, Tensor)))
    if is_meta(like): return constant_of(without_data(like.dtype, shape), mean, std)
    with no_grad():
        if isinstance(std, Tensor) and std.numel() and not std.dtype.is_complex and float(data.item(fn.reduce(fn.rd.amin, std))) < 0: raise RuntimeError("normal expects all elements of std >= 0.0")
        out = drawn(shape, like.dtype, lambda a, n: engine(generator).normal(a, n, like.dtype)) * std + mean
    return constant_of(out, mean, std)


def bernoulli_mask(shape, p, like: Tensor) -> Tensor:
    """0 and 1 with P(1) = p, as dropout draws them for a tensor."""
    dtype = like.dtype
    return without_data(dtype, shape) if is_meta(like) else drawn(shape, dtype, lambda a, n: engine().bernoulli(a, n, dtype, p))


def bernoulli(input, p=None, *, generator=None):
    if is_meta(input): return without_data(input.dtype, shape_of(input)) if p is not None else constant_of(without_data(input.dtype, shape_of(input)), input)
    dtype = input.dtype
    if p is not None: return drawn(shape_of(input), dtype, lambda a, n: engine(generator).bernoulli(a, n, dtype, float(p)))
    with no_grad(): out = probable(shape_of(input), dtype, input, generator)
    return constant_of(out, input)


def probable(shape, dtype, p: Tensor, generator):
    p = views.expand(p, shape)
    low, high = (data.item(fn.reduce(r, p)) if p.numel() else 0.0 for r in (fn.rd.amin, fn.rd.amax))
    if not 0 <= low <= high <= 1: raise RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false.  (Could this error message be improved?  If so, "
                                                  "please report an enhancement request to PyTorch.)")
    n = data.realize(views.contiguous_(p))
    data.settle(n)
    return drawn(shape, dtype, lambda a, k: engine(generator).bernoulli_each(a, k, dtype, n.buf.address, p.dtype))


def poisson(input, generator=None):
    if is_meta(input): return without_data(input.dtype, shape_of(input))
    n = data.realize(views.contiguous_(input))
    data.settle(n)
    return drawn(shape_of(input), input.dtype, lambda a, k: engine(generator).poisson(a, k, input.dtype, n.buf.address))


def multinomial(input, num_samples, replacement=False, *, generator=None):
    """Positions drawn with the given weights: (rows, samples) or (samples,)."""
    shape = shape_of(input)
    if len(shape) not in (1, 2): raise RuntimeError("prob_dist must be 1 or 2 dim")
    if input.dtype.category != dt.FLOAT: raise RuntimeError(f"multinomial only supports floating-point dtypes for input, got: {fn.ew.TITLES[input.dtype.name]}")
    if num_samples <= 0: raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > shape[-1]: raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    if is_meta(input): return without_data(dt.int64, (*shape[:-1], num_samples))
    rows = shape[0] if len(shape) == 2 else 1
    if not replacement or num_samples == 1:
        weights = data.values(input)
        if not (weights >= 0).all() or not math.isfinite(weights.sum()): raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
        if (weights.sum(-1) == 0).any(): raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
        q = drawn(shape, input.dtype, lambda a, n: engine(generator).exponential(a, n, input.dtype))
        ratio = fn.div(input, q)
        if num_samples == 1: return fn.argmax(ratio, -1, True)
        return gathering.topk(ratio, num_samples)[1]
    n = data.realize(views.contiguous_(input))
    data.settle(n)
    return drawn((*shape[:-1], num_samples), dt.int64, lambda a, _: engine(generator).multinomial(a, n.buf.address, rows, shape[-1], num_samples, input.dtype), each=True)


# ---------------------------------------------------------------- in place
def filled(self, draw):
    """Writes numbers into self in the order of its memory, as PyTorch does; `draw(shape, order)` gives them with the axes in that order."""
    check_write(self)
    if is_meta(self): touched(self); return self
    shape, strides = shape_of(self), memory(self).strides
    if strides == contiguous(shape): t = draw(shape, list(range(len(shape))))
    else:
        order = sorted(range(len(shape)), key=lambda d: -strides[d])
        t = draw(tuple(shape[d] for d in order), order)
        t = views.permute(t, tuple(map(order.index, range(len(order)))))
    write(self, whole_write(self, read(t)))
    return self


def inplace(draw):
    """A method that fills self; `draw(engine, address, n, dtype, contiguous, *args)`."""
    def method(self, *args, generator=None, **kw):
        whole_memory, dtype = straight(self), self.dtype       # a draw that is remembered keeps no tensor
        return filled(self, lambda shape, _: drawn(shape, dtype, lambda a, n: draw(engine(generator), a, n, dtype, whole_memory, *args, **kw), room=data.spare(self)))
    return method


def _uniform(e, a, n, d, c, from_=0.0, to=1.0, **kw): e.uniform(a, n, d, kw.get("from", from_), to)
def _normal(e, a, n, d, c, mean=0.0, std=1.0): e.normal(a, n, d, mean, std, c)
def _exponential(e, a, n, d, c, lambd=1.0): e.exponential(a, n, d, lambd)
def _geometric(e, a, n, d, c, p): e.geometric(a, n, d, p)
def _cauchy(e, a, n, d, c, median=0.0, sigma=1.0): e.cauchy(a, n, d, median, sigma)
def _log_normal(e, a, n, d, c, mean=1.0, std=2.0): e.log_normal(a, n, d, mean, std)


def _random(e, a, n, d, c, from_=None, to=None, **kw):
    low = kw.get("from", from_)
    if low is None and to is None: e.integers_full(a, n, d)
    elif to is None and "from" not in kw: e.integers(a, n, d, 0, int(low))
    elif to is None: e.integers_from(a, n, d, int(low))
    else: e.integers(a, n, d, int(low or 0), int(to))


def bernoulli_(self, p=0.5, *, generator=None):
    dtype = self.dtype
    if not isinstance(p, Tensor): return filled(self, lambda shape, _: drawn(shape, dtype, lambda a, n: engine(generator).bernoulli(a, n, dtype, float(p))))
    each = views.expand(p, shape_of(self))
    return filled(self, lambda shape, order: probable(shape, dtype, views.permute(each, order), generator))


uniform_, normal_, exponential_, geometric_ = inplace(_uniform), inplace(_normal), inplace(_exponential), inplace(_geometric)
cauchy_, log_normal_, random_ = inplace(_cauchy), inplace(_log_normal), inplace(_random)
