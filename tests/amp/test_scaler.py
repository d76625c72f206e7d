"""GradScaler on the CPU, step by step as PyTorch's."""
import numpy as np
import pytest
import torch

import forno


def follow(lib, script):
    """What a scaler and one parameter are after each statement, errors included."""
    p = lib.ones(3, requires_grad=True)
    names = dict(t=lib, p=p, opt=lib.optim.SGD([p], lr=0.5), s=lib.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2), inf=float("inf"))
    out = []
    for line in script.split(";"):
        error = None
        try: exec(line.strip(), names)
        except (RuntimeError, AssertionError, ValueError) as e: error = type(e).__name__, str(e)[:60]
        out.append((line, error, names["s"].get_scale(), p.detach().numpy().tolist(), None if p.grad is None else p.grad.numpy().tolist(), dict(names["s"].state_dict())))
    return out


BACK = "s.scale((p * p).sum()).backward()"
SCRIPTS = {
    "grow": f"{BACK}; s.step(opt); s.update(); opt.zero_grad(); {BACK}; s.step(opt); s.update(); opt.zero_grad(); {BACK}; s.step(opt); s.update()",
    "overflow": f"{BACK}; p.grad[1] = inf; s.step(opt); s.update(); opt.zero_grad(); {BACK}; s.unscale_(opt); s.step(opt); s.update()",
    "order": f"s.step(opt); s.update(); {BACK}; s.update(); s.unscale_(opt); s.unscale_(opt); s.step(opt); s.step(opt); s.unscale_(opt); s.update(); s.update(4.0); s.update(t.tensor(2.0))",
    "nothing": "s.scale(p.detach()); s.step(opt)",
    "closure": f"{BACK}; s.step(opt, closure=print)",
    "state": f"d = s.state_dict(); {BACK}; s.step(opt); s.update(); s.load_state_dict(d); s.load_state_dict({{}})",
    "many": "a, (b, c) = s.scale([p, (p, p)]); (a + b + c).sum().backward(); s.scale(3)",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_as_pytorch(name): assert follow(forno, SCRIPTS[name]) == follow(torch, SCRIPTS[name])


def test_half_gradients_are_refused_and_disabled_does_nothing():
    for lib in (torch, forno):
        p = lib.ones(3, dtype=lib.float16, requires_grad=True)
        s, opt = lib.amp.GradScaler("cpu"), lib.optim.SGD([p], lr=0.5)
        s.scale(p.sum()).backward()
        with pytest.raises(ValueError, match="FP16"): s.unscale_(opt)
        off = lib.amp.GradScaler("cpu", enabled=False)
        assert off.scale(p) is p and off.get_scale() == 1.0 and off.state_dict() == {} and off.update() is None
        off.step(opt)
        assert np.isinf(p.detach().numpy()).all() or (p.detach().numpy() != 1).all()
