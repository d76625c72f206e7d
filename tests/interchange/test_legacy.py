"""Old constructors, new_*, questions about tensors and types, finfo and iinfo: the same expressions on torch."""
import itertools

import numpy as np
import pytest
import torch

import forno

from .test_protocols import outcome

CONSTRUCTORS = [lambda t: t.Tensor(), lambda t: t.Tensor(3).shape, lambda t: t.Tensor(2, 3).shape, lambda t: t.Tensor(t.Size([2, 3])).shape, lambda t: t.Tensor([1, 2]),
                lambda t: t.Tensor([[1, 2], [3, 4.5]]), lambda t: t.Tensor((1, 2)), lambda t: t.Tensor(np.array([1, 2])), lambda t: t.Tensor(2.5), lambda t: t.Tensor(2, 2.5),
                lambda t: t.Tensor("a"), lambda t: t.Tensor(True), lambda t: t.Tensor(None), lambda t: t.Tensor(t.ones(2)), lambda t: t.Tensor([1], device="cpu"),
                lambda t: t.LongTensor([1, 2]), lambda t: t.LongTensor([1.5, 2]), lambda t: t.FloatTensor(t.ones(2)), lambda t: t.BoolTensor([1, 0]),
                lambda t: t.HalfTensor([1, 0]), lambda t: t.DoubleTensor([1]), lambda t: t.ByteTensor([1, 255]), lambda t: t.IntTensor(2, 0), lambda t: t.FloatTensor,
                lambda t: isinstance(t.ones(1), t.FloatTensor), lambda t: isinstance(t.ones(1), t.LongTensor), lambda t: isinstance(t.arange(3), t.LongTensor),
                lambda t: isinstance(3, t.FloatTensor), lambda t: t.FloatTensor.dtype, lambda t: issubclass(t.FloatTensor, t.Tensor), lambda t: t.ones(1).type(),
                lambda t: t.ones(2).type(t.LongTensor), lambda t: t.ones(2).type("torch.IntTensor"), lambda t: t.BFloat16Tensor([1.5])]
NEW = [lambda t: t.ones(1).new_tensor([1, 2]), lambda t: t.ones(1, dtype=t.int32).new_tensor([1.5]), lambda t: t.ones(2).new(3).shape, lambda t: t.ones(2).new([1, 2]),
       lambda t: t.ones(2).new_full((2,), 3, dtype=t.int64), lambda t: t.ones(2, dtype=t.int32).new_full((2,), 3.5), lambda t: t.ones(2).new_zeros(2, 3, requires_grad=True),
       lambda t: t.ones(2, dtype=t.float64).new_ones((2, 2)), lambda t: t.ones(2).new_empty((2, 0)), lambda t: t.ones(2).new_zeros(size=(2,)), lambda t: t.ones(2).new().shape,
       lambda t: t.ones(2, dtype=t.bool).new_zeros(1), lambda t: t.ones(1).new_empty_strided((2, 2), (1, 2)).stride()]
QUESTIONS = [lambda t: t.is_tensor(3), lambda t: t.is_tensor(t.ones(1)), lambda t: t.numel(t.ones(2, 3)), lambda t: t.numel(3), lambda t: t.is_floating_point(t.ones(1)),
             lambda t: t.is_complex(t.ones(1)), lambda t: t.is_nonzero(t.ones(1)), lambda t: t.is_nonzero(t.ones(2)), lambda t: t.is_nonzero(t.ones(0)),
             lambda t: t.typename(t.ones(1)), lambda t: t.typename(3), lambda t: t.typename(t.nn.Linear(1, 1)), lambda t: t.is_same_size(t.ones(2), t.ones(3)),
             lambda t: t.can_cast(t.float, t.int), lambda t: t.broadcast_shapes((2, 1), (3,)), lambda t: t.broadcast_shapes((2, 1), (3, 2)),
             lambda t: t.broadcast_shapes(2, (3, 1)),
             lambda t: t.broadcast_shapes(), lambda t: t.broadcast_shapes((0, 1), (1, 4)), lambda t: t.set_default_tensor_type(t.float32), lambda t: t.ones(1).is_conj()]
TYPES = ["uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64", "complex128", "bool"]


@pytest.mark.parametrize("family", [CONSTRUCTORS, NEW, QUESTIONS])
@pytest.mark.filterwarnings("ignore")
def test_like_torch(family):
    for k, f in enumerate(family): assert outcome(f, forno) == outcome(f, torch), k


@pytest.mark.parametrize("name", [*TYPES, "uint16", "uint32", "uint64"])
def test_limits(name):
    for kind in ("finfo", "iinfo"):
        theirs = outcome(lambda t: getattr(t, kind)(getattr(t, name)), torch)
        assert outcome(lambda t: getattr(t, kind)(getattr(t, name)), forno) == theirs
        if isinstance(theirs, tuple): continue
        a, b = getattr(forno, kind)(getattr(forno, name)), getattr(torch, kind)(getattr(torch, name))
        for field in ("bits", "max", "min", "dtype") + (("eps", "tiny", "smallest_normal", "resolution") if kind == "finfo" else ()):
            assert getattr(a, field) == getattr(b, field), field
        assert a == getattr(forno, kind)(getattr(forno, name)) and hash(a) == hash(getattr(forno, kind)(getattr(forno, name)))
    assert forno.finfo() == forno.finfo(forno.float32) != forno.finfo(forno.float64)


def test_promotion():
    for a, b in itertools.product(TYPES, TYPES):
        if {a, b} & {"float16"} and "complex" in a + b: continue      # complex32 is a storage type here
        for f in (lambda t: t.promote_types(getattr(t, a), getattr(t, b)), lambda t: t.can_cast(getattr(t, a), getattr(t, b)),
                  lambda t: t.result_type(t.ones(2, dtype=getattr(t, a)), t.ones((), dtype=getattr(t, b)))): assert outcome(f, forno) == outcome(f, torch)
        for number in (1, 1.5, 1j, True):
            def f(t, a=a, number=number): return t.result_type(t.ones(1, dtype=getattr(t, a)), number)
            assert outcome(f, forno) == outcome(f, torch)


def test_default_tensor_type():
    for lib in (torch, forno):
        try:
            lib.set_default_tensor_type(lib.DoubleTensor)
            assert lib.ones(1).dtype is lib.float64 and lib.Tensor(2).dtype is lib.float64
        finally: lib.set_default_tensor_type("torch.FloatTensor")
        assert lib.ones(1).dtype is lib.float32


def test_threads():
    had = forno.get_num_threads()
    try:
        forno.set_num_threads(1)
        assert forno.get_num_threads() == 1 and (forno.ones(10) + 1).sum().item() == 20
        with pytest.raises(RuntimeError): forno.set_num_threads(0)
    finally: forno.set_num_threads(had)


def test_subclasses_are_constructed():
    for lib in (torch, forno):
        class Mine(lib.Tensor):
            def double_sum(self): return (self * 2).sum()
        m = Mine([1, 2])
        assert isinstance(m, Mine) and isinstance(m, lib.Tensor) and m.double_sum().item() == 6 and type(lib.ones(2).as_subclass(Mine)) is Mine
