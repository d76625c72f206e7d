"""Random tensors, and the Generator that draws them. Same seed, same numbers as PyTorch's CPU generator (docs/random.md lists what differs).

Numbers are drawn when the call is made, in program order, into memory of their own; what is computed from them waits in the window as usual. On GPUs they
wait, too: they are rows (device_random.py).
"""
from __future__ import annotations

import functools
import math

from ..core import dtype as dt
from ..core.shape import contiguous, whole
from ..core.state import state
from ..cpu import memory as mem
from ..cudart import devices, random as device_states
from ..dnn import movement as mv
from ..gpu.names import NAMES
from ..graph.line import LOCAL
from . import creation, data, device_random, functions as fn, gathering, random_core, views
from .modes import no_grad
from .bind import apply
from .effects import refused
from .size import CPU, DEVICES, on_cpu, place
from .tensor import Tensor, check_write, device_name, is_meta, memory, on_device, read, touched, whole_write, without_data, wrap, write
from .views import shape_of


class Generator:
    """torch.Generator. `engine`: whose numbers it gives; None: a new one."""

    def __init__(self, device="cpu", engine=None):
        where = place(device)
        if not where.startswith("cuda"): on_cpu(device)
        self.device = DEVICES[where]
        self.engine = engine or (random_core.Engine() if where == "cpu" else device_random.DeviceEngine(device_states.Philox()))

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

    def get_offset(self) -> int: return self.offset_of().offset

    def set_offset(self, offset: int):
        refused("it sets the state of a generator of random numbers")
        self.offset_of().offset = int(offset)

    def offset_of(self):
        if self.device is CPU: raise RuntimeError("CPU Generator does not use offset")
        return self.engine.state

    def of_gpu(self):
        """Its engine, which draws from a state that other generators may draw from, too."""
        if self.device is CPU: raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        return self.engine

    def clone_state(self):
        """A generator that goes on from here by itself."""
        if self.device is not CPU: return Generator(self.device, device_random.DeviceEngine(self.engine.state.clone()))
        g = Generator(self.device)
        g.engine.set_state(self.engine.get_state())
        return g

    def graphsafe_get_state(self):
        """A generator of the same state: what one draws, the other doesn't draw again."""
        if self.device is CPU: raise NotImplementedError("graphsafe_get_state is not supported in this Generator")
        return Generator(self.device, device_random.DeviceEngine(self.engine.state))

    def graphsafe_set_state(self, state):
        """From now on it draws from another generator's state, also while a graph is captured that knows that state."""
        if not isinstance(state, Generator): raise TypeError(f"expected a Generator, but got {type(state).__name__}")
        if self.device is CPU: raise NotImplementedError("graphsafe_set_state is not supported in this Generator")
        refused("it sets the state of a generator of random numbers")
        index = devices.number_of(str(self.device))
        self.engine.state = state.of_gpu().state
        if self is default_of(index): device_states.DEFAULTS[index] = self.engine.state
        return self

    def __getstate__(self): return str(self.device), self.engine.get_state()

    def __setstate__(self, state):
        device, raw = state
        self.__init__(device)
        self.engine.set_state(raw)


default_generator = Generator()


@functools.cache
def default_of(index: int) -> Generator:
    """The generator that a GPU's numbers come from where a call names none."""
    return Generator(NAMES[index], device_random.DeviceEngine(device_states.default(index)))


def engine(generator=None, where: str = "cpu"):
    """What draws for a tensor on a device."""
    if generator is None: generator = default_generator if where == "cpu" else default_of(devices.number_of(where))
    kind = where.partition(":")[0]
    if generator.device.type != kind: raise RuntimeError(f"Expected a '{kind}' device type for generator but found '{generator.device.type}'")
    return generator.engine


def manual_seed(seed):
    """Seed the default generators of all devices; returns the CPU's."""
    seed = int(seed)
    default_generator.manual_seed(seed)
    device_states.manual_seed_all(seed)
    return default_generator


def seed():
    out = default_generator.seed()
    device_states.manual_seed_all(out)
    return out


def initial_seed(): return default_generator.initial_seed()
def get_rng_state(): return default_generator.get_state()
def set_rng_state(new_state): default_generator.set_state(new_state)


def states(gpus=None) -> list:
    """(engine, state) of the default generators: the CPU's, and those of the GPUs with these numbers (None: all)."""
    engines = [default_generator.engine, *[default_of(i).engine for i in (range(devices.count()) if gpus is None else gpus)]]
    return [(e, e.get_state()) for e in engines]


def restore(states: list):
    refused("it sets the state of a generator of random numbers")
    for e, before in states: e.set_state(before)


def drawn(shape, dtype, fill, each: bool = False, room=None, where: str = "cpu") -> Tensor:
    """A tensor whose memory (`room`, or new) `fill(address, count)` has filled; `each`: one call fills one tensor, whatever the count."""
    level = LOCAL.run.level
    if where != "cpu":
        def make(shape): return device_random.drawn(shape, dtype, fill, where)
        return make(shape) if level is None else level.drawn_there(shape, make, each)
    if level is not None: return level.drawn(shape, dtype, fill, each)
    n = math.prod(shape)
    buffer = room or mem.empty(n * dtype.size)
    fill(buffer.address, n)
    node, journal = data.node_of(buffer, dtype, tuple(shape)), LOCAL.run.journal
    if journal is not None: journal.drawn.append((node, tuple(shape), dtype, n, fill))
    return wrap(node)


def on_host(generator, draw, *inputs: Tensor) -> Tensor:
    """What `draw(source of an engine, *inputs)` gives on the CPU, on the device of the inputs: variates that no GPU draws, from numbers that its generator decides."""
    where = device_name(inputs[0])
    if where == "cpu": return draw(lambda: engine(generator), *inputs)
    host = engine(generator, where).on_host()
    return on_device(draw(lambda: host, *[on_device(x, "cpu") for x in inputs]), where)


# ---------------------------------------------------------------- new tensors
def maker(fill):
    def make(*size, generator=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False, names=None, memory_format=None):
        where = place(device)
        absent = where == "meta"
        shape, dtype = creation.size_of(size, None, absent), dtype or state.default_dtype
        if dtype.category < dt.FLOAT: raise NotImplementedError(f"\"{fill.__name__}\" not implemented for '{fn.ew.TITLES[dtype.name]}'")
        if absent: return creation.finish(without_data(dtype, shape), requires_grad)
        return creation.finish(drawn(shape, dtype, lambda a, n: fill(engine(generator, where), a, n, dtype), where=where), requires_grad)
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
    where = place(device)
    absent = where == "meta"
    if size is None: low, high, size = 0, low, high
    shape = creation.size_of((size,), None, absent)
    dtype = dtype or dt.int64
    if absent: return creation.finish(without_data(dtype, shape), requires_grad)
    return creation.finish(drawn(shape, dtype, lambda a, n: engine(generator, where).integers(a, n, dtype, int(low), int(high)), where=where), requires_grad)


def randint_like(input, low, high=None, *, requires_grad=False, **kw):
    return creation.finish(random_(creation.empty_like(input, **kw), *((0, low) if high is None else (low, high))), requires_grad)


def randperm(n, *, generator=None, dtype=dt.int64, layout=None, device=None, requires_grad=False, pin_memory=False):
    where = place(device)
    if n < 0: raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    if where == "meta": return creation.finish(without_data(dtype, (n,)), requires_grad)
    return creation.finish(drawn((n,), dtype, lambda a, _: engine(generator, where).permutation(a, n, dtype), each=True, where=where), requires_grad)


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
        where = device_name(like)
        out = drawn(shape, like.dtype, lambda a, n: engine(generator, where).normal(a, n, like.dtype), where=where) * std + mean
    return constant_of(out, mean, std)


def bernoulli_mask(shape, p, like: Tensor) -> Tensor:
    """0 and 1 with P(1) = p, as dropout draws them for a tensor."""
    dtype, where = like.dtype, device_name(like)
    return without_data(dtype, shape) if where == "meta" else drawn(shape, dtype, lambda a, n: engine(None, where).bernoulli(a, n, dtype, p), where=where)


def bernoulli(input, p=None, *, generator=None):
    if is_meta(input): return without_data(input.dtype, shape_of(input)) if p is not None else constant_of(without_data(input.dtype, shape_of(input)), input)
    dtype, where = input.dtype, device_name(input)
    if p is not None: return drawn(shape_of(input), dtype, lambda a, n: engine(generator, where).bernoulli(a, n, dtype, float(p)), where=where)
    with no_grad(): out = probable(shape_of(input), dtype, input, generator)
    return constant_of(out, input)


def probable(shape, dtype, p: Tensor, generator):
    p, where = views.expand(p, shape), device_name(p)
    if where != "cpu":
        each = read(views.reshape(gathering.claimed(p, 0.0, 1.0, RuntimeError, "Expected p_in >= 0 && p_in <= 1 to be true, but got false."), (-1,)))
        return drawn(shape, dtype, lambda a, k: engine(generator, where).bernoulli_each(a, k, dtype, each, p.dtype), where=where)
    low, high = (data.item(fn.reduce(r, p)) if p.numel() else 0.0 for r in (fn.rd.amin, fn.rd.amax))
    if not 0 <= low <= high <= 1: raise RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false.  (Could this error message be improved?  If so, "
                                                  "please report an enhancement request to PyTorch.)")
    n = data.realize(views.contiguous_(p))
    data.settle(n)
    return drawn(shape, dtype, lambda a, k: engine(generator).bernoulli_each(a, k, dtype, n.buf.address, p.dtype))


def poisson(input, generator=None):
    if is_meta(input): return without_data(input.dtype, shape_of(input))
    return on_host(generator, _poisson, input)


def _poisson(source, input):
    n = data.realize(views.contiguous_(input))
    data.settle(n)
    return drawn(shape_of(input), input.dtype, lambda a, k: source().poisson(a, k, input.dtype, n.buf.address))


def multinomial(input, num_samples, replacement=False, *, generator=None):
    """Positions drawn with the given weights: (rows, samples) or (samples,)."""
    shape = shape_of(input)
    if len(shape) not in (1, 2): raise RuntimeError("prob_dist must be 1 or 2 dim")
    if input.dtype.category != dt.FLOAT: raise RuntimeError(f"multinomial only supports floating-point dtypes for input, got: {fn.ew.TITLES[input.dtype.name]}")
    if num_samples <= 0: raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > shape[-1]: raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    if is_meta(input): return without_data(dt.int64, (*shape[:-1], num_samples))
    where = device_name(input)
    if not replacement or num_samples == 1:
        weights = data.values(input)
        if not (weights >= 0).all() or not math.isfinite(weights.sum()): raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
        if (weights.sum(-1) == 0).any(): raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
        q = drawn(shape, input.dtype, lambda a, n: engine(generator, where).exponential(a, n, input.dtype), where=where)
        ratio = fn.div(input, q)
        if num_samples == 1: return fn.argmax(ratio, -1, True)
        return gathering.topk(ratio, num_samples)[1]
    return on_host(generator, lambda source, weights: _replaced(source, weights, num_samples), input)


def _replaced(source, weights, num_samples: int):
    """Positions drawn with replacement."""
    shape = shape_of(weights)
    n = data.realize(views.contiguous_(weights))
    data.settle(n)
    rows = shape[0] if len(shape) == 2 else 1
    return drawn((*shape[:-1], num_samples), dt.int64, lambda a, _: source().multinomial(a, n.buf.address, rows, shape[-1], num_samples, weights.dtype), each=True)


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
        whole_memory, dtype, where = straight(self), self.dtype, device_name(self)     # a draw that is remembered keeps no tensor
        return filled(self, lambda shape, _: drawn(shape, dtype, lambda a, n: draw(engine(generator, where), a, n, dtype, whole_memory, *args, **kw),
                                                   room=data.spare(self), where=where))
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
    dtype, where = self.dtype, device_name(self)
    if not isinstance(p, Tensor):
        return filled(self, lambda shape, _: drawn(shape, dtype, lambda a, n: engine(generator, where).bernoulli(a, n, dtype, float(p)), where=where))
    each = views.expand(p, shape_of(self))
    return filled(self, lambda shape, order: probable(shape, dtype, views.permute(each, order), generator))


uniform_, normal_, exponential_, geometric_ = inplace(_uniform), inplace(_normal), inplace(_exponential), inplace(_geometric)
cauchy_, log_normal_, random_ = inplace(_cauchy), inplace(_log_normal), inplace(_random)
