"""Random tensors as users draw them: PyTorch's numbers and the same place in the stream afterwards, for new tensors, in place and in every layout."""
import numpy as np
import pytest
import torch

import forno

LAYOUTS = {
    "contiguous": lambda t: t.zeros(3, 5), "large": lambda t: t.zeros(40, 20), "scalar": lambda t: t.zeros(()), "empty": lambda t: t.zeros(0, 3),
    "every other": lambda t: t.zeros(4, 6)[:, ::2], "rows of a transpose": lambda t: t.zeros(6, 4).t()[::2], "permuted": lambda t: t.zeros(2, 3, 4).permute(1, 2, 0),
    "transposed": lambda t: t.zeros(5, 4).t(), "swapped": lambda t: t.zeros(3, 1, 4).transpose(0, 1), "vector": lambda t: t.zeros(30)[::2],
    "part": lambda t: t.zeros(2, 3, 4, 5)[:, 1].permute(2, 0, 1), "window": lambda t: t.zeros(4, 4)[1:3].t(), "channels last": lambda t: t.zeros(1, 8, 4, 4).to(memory_format=t.channels_last),
}
FILLS = {
    "normal_": lambda x, t: x.normal_(), "uniform_": lambda x, t: x.uniform_(-1, 2), "bernoulli_": lambda x, t: x.bernoulli_(.4), "exponential_": lambda x, t: x.exponential_(),
    "random_": lambda x, t: x.random_(100), "bernoulli_ of a tensor": lambda x, t: x.bernoulli_(t.linspace(0, 1, x.shape[-1]) if x.dim() else t.tensor(.5)),
    "cauchy_": lambda x, t: x.cauchy_(), "geometric_": lambda x, t: x.geometric_(.3), "log_normal_": lambda x, t: x.log_normal_(),
    "trunc_normal_": lambda x, t: t.nn.init.trunc_normal_(x), "randn_like": lambda x, t: t.randn_like(x), "rand_like": lambda x, t: t.rand_like(x),
    "randint_like": lambda x, t: t.randint_like(x, 50), "bernoulli": lambda x, t: t.bernoulli(x + .5), "dropout": lambda x, t: t.nn.functional.dropout(x + 1, .5),
    "normal of means": lambda x, t: t.normal(x, 1.), "normal of deviations": lambda x, t: t.normal(0., x + 1), "poisson": lambda x, t: t.poisson(x + 3),
}


def drawn(t, call):
    """The numbers, and what comes next from the generator."""
    t.manual_seed(0)
    return call(t).tolist(), t.rand(3).tolist()


def same(call):
    want, got = drawn(torch, call), drawn(forno, call)
    assert got[1] == want[1], "the generators stand at different places"
    np.testing.assert_allclose(got[0], want[0], rtol=1e-6)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, fill):
    same(lambda t: FILLS[fill](LAYOUTS[layout](t), t))


CALLS = """t.rand(5) t.rand(2,3,dtype=t.float64) t.randn(17) t.randn((3,4)) t.randn(3,dtype=t.float16) t.randint(7,(20,)) t.randint(-3,9,(2,3),dtype=t.float32) t.randperm(50)
t.randint(2**40,(9,)) t.normal(1.,2.,(3,)) t.bernoulli(t.full((9,),.3)) t.multinomial(t.arange(6.),4) t.multinomial(t.ones(3,5),2) t.multinomial(t.ones(2,5),9,replacement=True)
t.multinomial(t.tensor([.1,.9]),1) t.empty(20).random_() t.empty(20,dtype=t.int64).random_(3,9) t.randint(low=1,high=4,size=(5,)) t.randperm(9,dtype=t.int32)
t.rand(4,generator=t.Generator().manual_seed(3)) t.randperm(9,generator=t.Generator().manual_seed(3)) t.empty(9).normal_(generator=t.Generator().manual_seed(3))
t.nn.init.kaiming_uniform_(t.empty(3,4),generator=t.Generator().manual_seed(3)) t.nn.functional.gumbel_softmax(t.ones(2,3)) t.nn.functional.rrelu(-t.ones(9),training=True)
t.nn.functional.dropout2d(t.ones(2,5,2,2)) t.nn.functional.alpha_dropout(t.ones(9),.5,True) t.nn.functional.feature_alpha_dropout(t.ones(2,4,3),.5,True)""".split()


@pytest.mark.parametrize("call", CALLS)
def test_calls(call): same(lambda t: eval(call, {"t": t}))


def test_states_come_back():
    for t in (torch, forno):
        t.manual_seed(5)
        t.randn(3)                             # leaves half a pair
        state, first = t.get_rng_state(), t.randn(5).tolist()
        t.set_rng_state(state)
        assert t.randn(5).tolist() == first
        g = t.Generator().manual_seed(9)
        t.rand(3, generator=g)
        other = g.clone_state()
        assert t.rand(3, generator=g).tolist() == t.rand(3, generator=other).tolist()
        with t.random.fork_rng(): inside = t.rand(2).tolist()
        assert t.rand(2).tolist() == inside
    torch.manual_seed(5)
    torch.randn(7)
    forno.set_rng_state(forno.from_numpy(torch.get_rng_state().numpy()))
    assert forno.randn(9).tolist() == torch.randn(9).tolist() and forno.initial_seed() == torch.initial_seed()


ERRORS = """t.manual_seed(2**64) t.Generator().manual_seed(-2**63-1) t.manual_seed('x') t.ones(3).normal_(0,-1) t.ones(1,3).expand(2,3).normal_() t.nn.Parameter(t.ones(3)).normal_()
t.randint(5,5,(2,)) t.rand(2,dtype=t.int64) t.bernoulli(t.ones(2)*2) t.multinomial(t.ones(3),4) t.multinomial(t.zeros(3),1) t.multinomial(-t.ones(3),1) t.multinomial(t.ones(3),0)
t.ones(3).bernoulli_(t.ones(4)) t.set_rng_state(t.ones(3)) t.set_rng_state(t.ones(3,dtype=t.uint8)) t.randn_like(t.ones(3).long()) t.normal(0.,-1.,(2,)) t.ones(2).uniform_(2,1)
t.randperm(-1) t.randint_like(t.ones(3),5,5) t.rand(-1) t.ones(2).geometric_(0) t.ones(2).exponential_(0) t.Generator('nowhere')""".split()


@pytest.mark.parametrize("call", ERRORS)
def test_errors(call):
    kinds = []
    for t in (torch, forno):
        with pytest.raises(Exception) as raised: eval(call, {"t": t})
        kinds.append(raised.type)
    assert kinds[0] is kinds[1], raised.value
