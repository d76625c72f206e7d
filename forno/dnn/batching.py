"""Batching rules: what a row becomes when its operands get one more leading axis. They belong to the kinds of rows; the tables below name the exceptions.

Comes in: a row, its attr, the result's type and shape per example, and operands as `Part`s: tensors with or without the new axis, or Python numbers. Goes
out: the result for all examples at once, with the new axis in front. Rules are written with the same operators and `row` as gradient rules.

  elementwise   operands with the axis are given as many axes as the widest has; broadcasting does the rest
  all others    operands get the axis (expanded, no copy) and attr names axes one further on: `DEEPER`
  exceptions    rows whose operands mean something by position, such as an index vector or a weight: `RULES`
  composite     without an entry here a composite row is expanded first, and its parts are batched

Rows that have no rule are run once per example by the caller, who says so.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ..core.op import dtype_of
from ..core.shape import View, broadcast, contiguous
from ..core.state import state
from . import attention, contract, elementwise, factor, fft, gather, linalg, movement as mv, norm, pool, recipes, reduce, sort


class Part(NamedTuple):
    """An operand: its value, whether it has the new axis, and its type and shape per example (numbers: their type)."""
    x: Any
    batched: bool
    line: Any

    @property
    def shape(self): return self.line.shape


class Job(NamedTuple):
    """One row to be batched. `apply(row, *operands, attr=)` records a row on tensors and numbers."""
    apply: Callable
    op: Any
    attr: Any
    size: int
    parts: tuple[Part, ...]
    shape: tuple[int, ...]                     # of the result, per example
    dtype: object


def lifted(job: Job, p: Part):
    """An operand with the new axis, by expansion where it has none."""
    if p.batched or isinstance(p.line, type): return p.x
    return p.x.row(mv.view, attr=View((job.size, *p.shape), (0, *contiguous(p.shape)), 0))


def widened(job: Job, p: Part, rank: int):
    """A batched operand with at least `rank` axes per example: (B, 1…, *shape)."""
    if not p.batched or len(p.shape) >= rank: return p.x
    return p.x.reshape((job.size, *(1,) * (rank - len(p.shape)), *p.shape))


def tensors(job: Job): return [p for p in job.parts if not isinstance(p.line, type)]


# ---------------------------------------------------------------- by kind
def pointwise(job: Job):
    """Elementwise rows. A number per example weighs less in type promotion than it would as a vector, so it is converted first."""
    rank = max(len(p.shape) for p in tensors(job))
    xs = [widened(job, p, rank) for p in job.parts]
    if job.op.kind == "elementwise" and job.op is not mv.cast:
        kinds = job.op.compute([dtype_of(p.line) for p in job.parts], state.default_dtype)
        kinds = kinds if isinstance(kinds, tuple) else (kinds,) * len(xs)
        xs = [x.to(k) if p.batched and not p.shape and p.line.dtype is not k else x for x, p, k in zip(xs, job.parts, kinds)]
    return job.apply(job.op, *xs, attr=job.attr)


def deeper(job: Job):
    """Any row whose attr only names axes."""
    return job.apply(job.op, *(lifted(job, p) for p in job.parts), attr=DEEPER[job.op.name](job.attr, job))


def along(job: Job):
    """Rows along one axis, which a number has, too: it counts as a vector of one."""
    xs = [lifted(job, p) for p in job.parts]
    if job.parts[0].shape: return job.apply(job.op, *xs, attr=DEEPER[job.op.name](job.attr, job))
    return job.apply(job.op, *(x.reshape((job.size, math.prod(p.shape))) for x, p in zip(xs, job.parts)), attr=DEEPER[job.op.name](job.attr, job)).reshape((job.size, *job.shape))


def inner(view: View, p: Part, job: Job) -> View:
    """A view of each example's own memory."""
    return View((job.size, *view.shape), (math.prod(p.shape), *view.strides), view.offset)


def same(attr, job): return attr
def axes_on(attr, job): return tuple(d + 1 for d in attr)
def first_on(attr, job): return (attr[0] + 1, *attr[1:])
def axes_first(attr, job): return (tuple(d + 1 for d in attr[0]), *attr[1:])
def spec_on(attr, job): return attr._replace(axes=axes_on(attr.axes, job))
def axis_on(attr, job): return attr + 1


# ---------------------------------------------------------------- matrices, convolutions, pools
def matrices(job: Job):
    """Rows over the last two axes, whose leading axes broadcast."""
    rank = max(len(p.shape) for p in job.parts)
    return job.apply(job.op, *(widened(job, p, rank) for p in job.parts), attr=job.attr)


def folded(job: Job, p: Part, axis: int):
    """The new axis joined with `axis` of each example: (…, B·n, …)."""
    x = lifted(job, p)
    order = (*range(1, axis + 1), 0, *range(axis + 1, len(p.shape) + 1))
    return x.permute(order).reshape((*p.shape[:axis], job.size * p.shape[axis], *p.shape[axis + 1:]))


def unfolded(job: Job, y, axis: int):
    """The new axis taken out of `axis` again, to the front."""
    s = job.shape
    y = y.reshape((*s[:axis], job.size, *s[axis:]))
    return y.permute((axis, *(d for d in range(len(s) + 1) if d != axis)))


def convolution(job: Job):
    """Examples are images more when only the images differ, groups more when weights do."""
    x, w, *bias = job.parts
    samples, attr = job.op is not contract.conv_weight and not w.batched, job.attr
    if samples and not any(b.batched for b in bias): return unfolded(job, job.apply(job.op, folded(job, x, 0), w.x, *(b.x for b in bias), attr=attr), 0)
    attr = attr._replace(groups=attr.groups * job.size)
    out = 0 if job.op is contract.conv_weight else 1
    second = folded(job, w, 1 if job.op is contract.conv_weight else 0)
    return unfolded(job, job.apply(job.op, folded(job, x, 1), second, *(folded(job, b, 0) for b in bias), attr=attr), out)


def images(job: Job): return unfolded(job, job.apply(job.op, folded(job, job.parts[0], 0), attr=job.attr), 0)


# ---------------------------------------------------------------- indexing
def counted(job: Job): return job.parts[0].x.ramp(job.size) if job.parts[0].batched else next(p for p in tensors(job) if p.batched).x.ramp(job.size)


def index_parts(job: Job, axes, indices):
    """(axes, index tensors, order) with the examples' own number as the first index. order: how the result's axes must be permuted afterwards, or None."""
    picked = broadcast(*(i.shape for i in indices))
    together = axes[-1] - axes[0] == len(axes) - 1
    own = counted(job).reshape((job.size, *(1,) * len(picked)))
    xs = [widened(job, i, len(picked)) for i in indices]
    before, n = (axes[0] if together else 0), len(picked)
    order = (0, *range(1 + n, 1 + n + before), *range(1, 1 + n)) if before else None
    return (0, *(a + 1 for a in axes)), (own, *xs), order


def completed(order, rank): return (*order, *range(len(order), rank))
def inverse(order): return tuple(sorted(range(len(order)), key=lambda d: order[d]))


def index_read(job: Job):
    x, *indices = job.parts
    axes = job.attr
    if not any(i.batched for i in indices) and axes[-1] - axes[0] == len(axes) - 1:
        return job.apply(job.op, x.x, *(i.x for i in indices), attr=axes_on(axes, job))
    axes, xs, order = index_parts(job, axes, indices)
    out = job.apply(job.op, lifted(job, x), *xs, attr=axes)
    return out if order is None else out.permute(completed(order, len(job.shape) + 1))


def index_values(job: Job, order, v: Part, shape):
    """Values of a write, laid out as the places of the batched write are."""
    x = widened(job, v, len(shape)) if v.batched else v.x
    if order is None: return x
    x = x.expand((job.size, *shape))
    return x.permute(inverse(completed(order, len(shape) + 1)))


def index_write(job: Job):
    base, *indices, v = job.parts
    at, *rest = job.attr
    shape = gather.at_index(at, base.shape, [i.line for i in indices]).shape
    axes, xs, order = index_parts(job, at, indices)
    return job.apply(job.op, lifted(job, base), *xs, index_values(job, order, v, shape), attr=(axes, *rest))


def index_back(job: Job):
    v, *indices = job.parts
    at, shape = job.attr
    places = gather.at_index(at, shape, [i.line for i in indices]).shape
    axes, xs, order = index_parts(job, at, indices)
    return job.apply(job.op, index_values(job, order, v._replace(x=lifted(job, v), batched=True), places), *xs, attr=(axes, (job.size, *shape)))


class Shape(NamedTuple):
    """What a line says of a value that is a vector of one, where the row was given a number."""
    dtype: object
    shape: tuple[int, ...] = (1,)


def vectors(job: Job) -> Job:
    """Rows along one axis of a number: it counts as a vector of one, and so do the values beside it."""
    if job.parts[0].shape: return job
    return job._replace(parts=tuple(p if k == 1 or p.shape else Part(lifted(job, p).reshape((job.size, 1)), True, Shape(p.line.dtype)) for k, p in enumerate(job.parts)))


def full(job: Job, index: Part, dim: int, shape):
    """An index vector repeated over all other axes of `shape`, as gather wants it: (B, *shape)."""
    n = math.prod(index.shape)
    lead = tuple(n if d == dim else 1 for d in range(len(shape)))
    return lifted(job, index).reshape((job.size, *lead)).expand((job.size, *(n if d == dim else m for d, m in enumerate(shape))))


def select_read(job: Job):
    x, index = vectors(job).parts
    if not index.batched: return job.apply(job.op, x.x, index.x, attr=job.attr + 1).reshape((job.size, *job.shape))
    return lifted(job, x).row(gather.gather, full(job, index, job.attr, x.shape), attr=job.attr + 1).reshape((job.size, *job.shape))


def select_write(job: Job):
    base, index, v = vectors(job).parts
    dim, *rest = job.attr
    if not index.batched: return job.apply(job.op, lifted(job, base), index.x, lifted(job, v), attr=(dim + 1, *rest)).reshape((job.size, *job.shape))
    row = gather.scatter_reduce if job.op is gather.index_reduce else gather.scatter
    at = full(job, index, dim, base.shape)
    return lifted(job, base).row(row, at, lifted(job, v).expand(tuple(at.shape)), attr=(dim + 1, *rest)).reshape((job.size, *job.shape))


def select_back(job: Job):
    v, index = job.parts
    dim, shape = job.attr
    if not index.batched: return lifted(job, v).row(job.op, index.x, attr=(dim + 1, (job.size, *shape)))
    at = full(job, index, dim, shape)
    return lifted(job, v).reshape(tuple(at.shape)).row(gather.gather_back, at, attr=(dim + 1, (job.size, *shape)))


def flat_index(job: Job, index: Part, n: int):
    """Positions in an example's elements, counted from its own first: (B, m)."""
    i = lifted(job, index).reshape((job.size, math.prod(index.shape)))
    return elementwise.select(i < 0, i + n, i)


def take_read(job: Job):
    x, index = job.parts
    n = math.prod(x.shape)
    return lifted(job, x).reshape((job.size, n)).row(gather.gather, flat_index(job, index, n), attr=1).reshape((job.size, *job.shape))


def take_write(job: Job):
    base, index, v = job.parts
    n = math.prod(base.shape)
    at = flat_index(job, index, n)
    values = lifted(job, v).reshape((job.size, math.prod(v.shape))).expand(tuple(at.shape))
    return lifted(job, base).reshape((job.size, n)).row(gather.scatter, at, values, attr=(1, *job.attr[1:])).reshape((job.size, *base.shape))


def take_back(job: Job):
    v, index = job.parts
    n = math.prod(job.attr[1])
    at = flat_index(job, index, n)
    return lifted(job, v).reshape(tuple(at.shape)).row(gather.gather_back, at, attr=(1, (job.size, n))).reshape((job.size, *job.attr[1]))


def lookup(job: Job):
    """Embedding: one weight for all examples takes any shape of indices."""
    w, index = job.parts
    if not w.batched: return job.apply(job.op, w.x, index.x, attr=job.attr)
    at = lifted(job, index).reshape((job.size, math.prod(index.shape), 1)).expand((job.size, math.prod(index.shape), w.shape[1]))
    return w.x.row(gather.gather, at, attr=1).reshape((job.size, *job.shape))


def lookup_back(job: Job):
    v, index = job.parts
    rows, width = job.attr[1]
    n = math.prod(index.shape)
    at = lifted(job, index).reshape((job.size, n, 1)).expand((job.size, n, width))
    return lifted(job, v).reshape((job.size, n, width)).row(gather.gather_back, at, attr=(1, (job.size, rows, width)))


def scattered(job: Job):
    """scatter: one number may stand for all values."""
    base, index, v = job.parts
    if v.shape or not index.shape: return along(job)
    x = lifted(job, v).reshape((job.size, *(1,) * len(index.shape))).expand((job.size, *index.shape))
    return along(job._replace(parts=(base, index, Part(x, True, index.line))))


def searched(job: Job):
    """searchsorted: bounds that all share stay a vector; else each example has lines of its own."""
    bounds, values, *sorter = job.parts
    if not bounds.batched and not any(s.batched for s in sorter) and len(bounds.shape) == 1: return job.apply(job.op, bounds.x, values.x, *(s.x for s in sorter), attr=job.attr)
    if len(bounds.shape) > 1: return job.apply(job.op, *(lifted(job, p) for p in job.parts), attr=job.attr)
    flat = lifted(job, values).reshape((job.size, math.prod(values.shape)))
    return job.apply(job.op, lifted(job, bounds), flat, *(lifted(job, s) for s in sorter), attr=job.attr).reshape((job.size, *job.shape))


def normalized(job: Job):
    """Layer and RMS norm take more leading axes as they are, when their parameters are shared."""
    x, *more = job.parts
    if any(p.batched for p in more): return None
    return job.apply(job.op, x.x, *(p.x for p in more), attr=spec_on(job.attr, job))


def attended(job: Job):
    """Examples are one more batch axis in front. A mask broadcasts."""
    n = len(job.parts) - (1 if job.attr.lse and job.op is attention.attention else 0)
    at = (n - 1 if job.attr.mask else None)
    rank = len(next(p for p in job.parts[:3]).shape)
    return job.apply(job.op, *(widened(job, p, rank) if i == at else lifted(job, p) for i, p in enumerate(job.parts)), attr=job.attr)


def recast(job: Job):
    """The bytes of one example after the other, where each example's fill whole elements."""
    p = job.parts[0]
    if math.prod(p.shape) * p.line.dtype.size % job.dtype.size: return None
    return job.apply(job.op, p.x, attr=job.attr).reshape((job.size, *job.shape))


# ---------------------------------------------------------------- the tables
DEEPER = {
    "view": lambda attr, job: inner(attr, job.parts[0], job), "put": lambda attr, job: inner(attr, job.parts[0], job),
    "addput": lambda attr, job: inner(attr, job.parts[0], job),
    **dict.fromkeys(("reflection_pad", "replication_pad", "circular_pad"), lambda attr, job: ((0, 0), *attr)),
    "cat": axis_on, "copy": lambda attr, job: (math.prod(job.shape), *attr) if attr.__class__ is tuple else attr,
    **dict.fromkeys(("transfer", "straight", "overwrite", "detach"), same),
    **dict.fromkeys((o.name for o in (reduce.sum_, reduce.prod, reduce.amax, reduce.amin, reduce.argmax, reduce.argmin, reduce.any_, reduce.all_, recipes.mean,
                                      recipes.logsumexp)), axes_on),
    "var": spec_on, "std": spec_on, "norm": spec_on, "softmax": axis_on, "log_softmax": axis_on,
    **dict.fromkeys(("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "argsort", "topk", "kthvalue", "median", "nanmedian", "mode", "scatter",
                     "scatter_reduce", "scatter_reduce_mean"), first_on),
    "gather": axis_on, "gather_back": lambda attr, job: (attr[0] + 1, (job.size, *(attr[1] or (1,)))),
    **dict.fromkeys((o.name for o in (linalg.svd, linalg.svdvals, linalg.inv, linalg.qr, factor.cofactor, factor.det, factor.slogdet, factor.cholesky, factor.eigh,
                                      factor.eigvalsh, factor.eig, factor.eigvals, factor.lu, factor.cholesky_inverse, factor.geqrf, factor.ldl_factor)), same),
    **dict.fromkeys((fft.c2c.name, fft.r2c.name, fft.c2r.name), axes_first),
}
ALONG = frozenset(("softmax", "log_softmax", "gather", "gather_back", "cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "argsort", "topk", "kthvalue", "median",
                   "nanmedian", "mode", "scatter_reduce", "scatter_reduce_mean"))
RULES = {
    **dict.fromkeys((contract.matmul, linalg.solve, linalg.pseudo_inverse, factor.triangular, factor.cholesky_solve), matrices),
    **dict.fromkeys((contract.conv, contract.conv_input, contract.conv_weight), convolution),
    **dict.fromkeys((pool.max_pool, pool.max_pool_indices, pool.avg_pool, pool.adaptive_avg_pool, pool.adaptive_max_pool, pool.adaptive_max_pool_indices), images),
    gather.index: index_read, gather.index_put: index_write, gather.index_back: index_back,
    gather.index_select: select_read, gather.index_write: select_write, gather.index_reduce: select_write, gather.index_select_back: select_back,
    gather.take: take_read, gather.put_at: take_write, gather.take_back: take_back,
    gather.embedding: lookup, gather.embedding_back: lookup_back, gather.scatter: scattered, sort.searchsorted: searched,
    **dict.fromkeys((attention.attention, attention.attention_lse, attention.attention_q, attention.attention_k, attention.attention_v), attended),
    mv.bitcast: recast, norm.layer_norm: normalized, norm.rms_norm: normalized, recipes.power: pointwise,
}


def rule(op) -> Callable | None:
    """How a row is batched; None: expand it (composite) or run it once per example."""
    found = RULES.get(op)
    if found is not None: return found
    if op.kind == "elementwise": return pointwise
    if op.name in ALONG: return along
    return deeper if op.name in DEEPER else None
