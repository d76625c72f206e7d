"""Every module against torch's own samples of it: parameters for equal seeds, keys, text, forward, gradients, state after forward."""
import os
import warnings

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")
from torch.testing._internal.common_modules import module_db  # noqa: E402

import forno.nn  # noqa: E402

from .support import STAND_IN, close, fresh, from_torch, to_torch  # noqa: E402

EVERY = os.environ.get("FORNO_TEST_ALL") == "1"      # otherwise about six of a module's samples, so that the file takes seconds
DB = {info.name: info for info in module_db if info.name.startswith("nn.")}


def samples(name, training):
    info = DB[name]
    torch.manual_seed(0)
    made = info.module_inputs_func(info, device="cpu", dtype=torch.float32, requires_grad=True, training=training)
    return made if EVERY else made[::max(1, len(made) // 6)]


def call(module, args, kwargs, convert):
    args, kwargs = convert(args), convert(kwargs)
    leaves = [a for a in (*args, *kwargs.values()) if hasattr(a, "requires_grad") and a.requires_grad]
    return module(*args, **kwargs), leaves


def first_tensors(x):
    if isinstance(x, (tuple, list)):
        return [t for part in x for t in first_tensors(part)]
    return [x] if hasattr(x, "requires_grad") else []


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", sorted(DB))
def test_module(name, training):
    oracle_class = DB[name].module_cls
    ours = getattr(forno.nn, oracle_class.__name__)
    for i, sample in enumerate(samples(name, training)):
        args, kwargs = sample.constructor_input.args, sample.constructor_input.kwargs
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(7)
            oracle = oracle_class(*args, **kwargs).train(training)
            torch.manual_seed(7) if STAND_IN else __import__("forno").manual_seed(7)
            made = ours(*from_torch(args), **from_torch(kwargs)).train(training)
            where = f"{name} sample {i} {sample.desc}: {args} {kwargs}"
            assert repr(made) == repr(oracle), where
            if hasattr(oracle, "has_uninitialized_params"):
                assert list(made.state_dict()) == list(oracle.state_dict()), where
            else:
                close(made.state_dict(), oracle.state_dict(), where)
            if sample.forward_input is None:
                continue
            inputs, options = sample.forward_input.args, sample.forward_input.kwargs
            torch.manual_seed(8)
            try:
                want, want_leaves = call(oracle, inputs, options, fresh)
            except RuntimeError:                                  # a sample that torch itself refuses in this dtype
                continue
            torch.manual_seed(8) if STAND_IN else __import__("forno").manual_seed(8)
            got, leaves = call(made, inputs, options, from_torch)
            close(got, want, where)
            close(made.state_dict(), oracle.state_dict(), where + " after forward")
            assert repr(made) == repr(oracle), where
            assert list(made.__dict__) and made.training == training
            want_out = [t for t in first_tensors(want) if t.requires_grad]
            got_out = [t for t in first_tensors(got) if t.requires_grad]
            assert len(got_out) == len(want_out), where
            if not want_out:
                continue
            torch.manual_seed(9)
            seeds = [torch.randn(t.shape) for t in want_out]
            want_grads = torch.autograd.grad(want_out, want_leaves + list(oracle.parameters()), seeds, allow_unused=True)
            sum((t * from_torch(s)).sum() for t, s in zip(got_out, seeds)).backward()
            got_grads = [t.grad for t in leaves + list(made.parameters())]
            close([None if g is None else to_torch(g) for g in got_grads], list(want_grads), where + " gradients", loose=10)
