"""Gradients against finite differences, first and second order (torch.autograd.gradcheck, gradgradcheck)."""
from __future__ import annotations

import numpy as np

from . import autograd, data
from .tensor import Tensor, read, wrap
from .tracking import Tracked
from .views import shape_of


class GradcheckError(RuntimeError):
    """An analytical gradient that finite differences contradict."""


def outputs_of(f, inputs):
    out = f(*inputs)
    outs = out if isinstance(out, (tuple, list)) else (out,)
    return [o for o in outs if isinstance(o, Tensor) and o.requires_grad]


def fresh(inputs, arrays):
    """Leaves with these values, and the other arguments as they are."""
    it = iter(arrays)
    return [data.copy_array(next(it), x.dtype).requires_grad_() if differentiable(x) else x for x in inputs]


def differentiable(x) -> bool: return isinstance(x, Tensor) and x.requires_grad


def gradcheck(func, inputs, *, eps=1e-6, atol=1e-5, rtol=1e-3, raise_exception=True, nondet_tol=0.0, check_undefined_grad=True, check_grad_dtypes=False,
              check_batched_grad=False, check_batched_forward_grad=False, check_forward_ad=False, check_backward_ad=True, fast_mode=False, masked=None) -> bool:
    """True when Jacobians agree; inputs should be float64 (or complex128, checked through real and imaginary steps)."""
    inputs = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    try: return _check(func, inputs, eps, atol, rtol, check_backward_ad, check_forward_ad)
    except GradcheckError:
        if raise_exception: raise
        return False


def _check(func, inputs, eps, atol, rtol, backward=True, forward=False) -> bool:
    checked = [x for x in inputs if differentiable(x)]
    if not checked: raise ValueError("gradcheck expects at least one input tensor to require gradient, but none of the them have requires_grad=True.")
    arrays = [data.values(x) for x in checked]
    outs = outputs_of(func, fresh(inputs, arrays))
    for k in range(len(outs)):
        for i, x in enumerate(arrays):
            numeric = slopes(func, inputs, arrays, i, k, eps)
            for how in (rows,) * backward + (columns,) * forward:
                exact = how(func, inputs, arrays, i, k)
                if not np.allclose(exact, numeric, rtol, atol, equal_nan=True):
                    mode = " computed with forward mode" if how is columns else ""
                    raise GradcheckError(f"Jacobian{mode} mismatch for output {k} with respect to input {i},\nnumerical:{numeric.T}\nanalytical:{exact.T}")
    return True


def steps(x):
    """Unit directions of one element: along the real axis, and the imaginary one."""
    return (1.0, 1j) if np.iscomplexobj(x) else (1.0,)


def slopes(func, inputs, arrays, i, k, eps):
    """∂out_k/∂x_i by central differences: (numel out, numel x · parts)."""
    columns = []
    for j in range(arrays[i].size):
        for unit in steps(arrays[i]):
            ends = []
            for sign in (1, -1):
                moved = [a.copy() for a in arrays]
                moved[i].reshape(-1)[j] += sign * eps * unit
                ends.append(data.values(outputs_of(func, fresh(inputs, moved))[k]).reshape(-1))
            columns.append((ends[0] - ends[1]) / (2 * eps))
    return np.stack(columns, 1) if columns else np.zeros((0, 0))


def rows(func, inputs, arrays, i, k):
    """The same by backward, one row of the Jacobian at a time. A complex gradient g means d(Re out) = Re(conj(g) dx)."""
    leaves = fresh(inputs, arrays)
    out = outputs_of(func, leaves)[k]
    x = [t for t in leaves if differentiable(t)][i]
    cotangents = np.zeros((out.numel(), *shape_of(out)), out.dtype.code)
    result = []
    for j in range(out.numel()):
        parts = []
        for unit in steps(cotangents):
            v = np.zeros(shape_of(out), cotangents.dtype)
            v.reshape(-1)[j] = unit
            g, = autograd.grad(out, x, data.copy_array(v, out.dtype), retain_graph=True, allow_unused=True)
            g = np.zeros(shape_of(x), x.dtype.code) if g is None else data.values(g)
            parts.append(np.stack([g.real, g.imag], -1).reshape(-1) if np.iscomplexobj(g) else g.reshape(-1))
        result.append(parts[0] if len(parts) == 1 else parts[0] + 1j * parts[1])
    return np.stack(result) if result else np.zeros((0, 0))


def columns(func, inputs, arrays, i, k):
    """The same by forward mode, one column of the Jacobian at a time."""
    result = []
    for j in range(arrays[i].size):
        for unit in steps(arrays[i]):
            t = np.zeros(arrays[i].shape, arrays[i].dtype)
            t.reshape(-1)[j] = unit
            with Tracked() as level:
                leaves = [level.copy(x) if differentiable(x) else x for x in fresh(inputs, arrays)]
                x = [t for t in leaves if differentiable(t)][i]
                mine = wrap(read(x))
                moved, = level.tangents([outputs_of(func, leaves)[k]], [mine], [data.copy_array(t, x.dtype)])
                result.append(data.values(moved).reshape(-1))
    return np.stack(result, 1) if result else np.zeros((0, 0))


def gradgradcheck(func, inputs, grad_outputs=None, *, eps=1e-6, atol=1e-5, rtol=1e-3, gen_non_contig_grad_outputs=False, raise_exception=True, nondet_tol=0.0,
                  check_undefined_grad=True, check_grad_dtypes=False, check_batched_grad=False, check_fwd_over_rev=False, check_rev_over_rev=True, fast_mode=False,
                  masked=False) -> bool:
    """gradcheck of the gradient itself."""
    inputs = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    outs = outputs_of(func, inputs)
    rng = np.random.default_rng(0)
    if grad_outputs is None: seeds = [data.copy_array(rng.standard_normal(shape_of(o)), o.dtype).requires_grad_() for o in outs]
    else: seeds = list(grad_outputs) if isinstance(grad_outputs, (tuple, list)) else [grad_outputs]
    n = len(inputs)

    def gradient(*args):
        made = outputs_of(func, args[:n])
        wanted = [x for x in args[:n] if differentiable(x)]
        return tuple(g for g in autograd.grad(made, wanted, args[n:], create_graph=True, allow_unused=True) if g is not None)
    return gradcheck(gradient, (*inputs, *seeds), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception)
