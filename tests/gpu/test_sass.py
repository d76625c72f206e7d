"""What ptxas makes of every template of kernels: no spills, no stack, registers for a whole block, wide loads where there are vectors, nothing that a chip lacks.
By default every third template is made for one generation of chips, another one each; `-m slow` makes all."""
import itertools

import pytest

from forno.gpu.ptx import Module, since

from . import sass
from .ptx_tools import ptxas

needs_ptxas = pytest.mark.skipif(ptxas() is None, reason="needs ptxas (pip install nvidia-cuda-nvcc)")
VECTORS = ("x * 2 + y", "gelu", "softmax", "layer norm", "sin(x)", "log(x)", "sum of 2^18")


def asserted(name: str, make, target: str):
    for kernel, text in make():
        f = sass.facts(text, target)
        assert (f.spilled, f.stack) == (0, 0), (name, kernel, target, f)
        assert -(-f.registers // 8) * 8 * f.threads <= sass.REGISTERS, (name, kernel, target, f)
        assert since.lacking(Module(text).source) == [], (name, kernel, target)
        if name.startswith(VECTORS) and "partial" not in name: assert 16 in f.loads or max(f.loads) == 8 or "2^18" in name, (name, kernel, target, f)


@needs_ptxas
@pytest.mark.parametrize("family", sass.USUAL)
def test_one_chip_each(family):
    """Of every third template."""
    for k, (name, makes) in enumerate(sass.templates(family).items()):
        target = list(makes)[k // 3 % len(makes)]
        if k % 3 == 2: asserted(name, makes[target], target)


@needs_ptxas
@pytest.mark.parametrize("target", ["sm_75", "sm_90"])
def test_parts_of_long_sums(target):
    """ptxas aims at more blocks per multiprocessor than these have registers for, if nobody says how many there are."""
    found = {name: makes[target] for name, makes in sass.templates("products", (target,)).items() if "in parts" in name}
    assert len(found) == 2
    for name, make in found.items(): asserted(name, make, target)


@needs_ptxas
@pytest.mark.slow
@pytest.mark.parametrize(("family", "target"), list(itertools.product(sass.FAMILIES, sass.TARGETS)))
def test_every_chip(family, target):
    for name, makes in sass.templates(family, (target,)).items(): asserted(name, makes[target], target)


@needs_ptxas
def test_a_spill_is_seen():
    """A kernel that keeps more numbers than it may have registers."""
    loads = "\n".join(f"ld.global.b32 %r{i}, [%p+{4 * i}];" for i in range(80))
    stores = "\n".join(f"st.global.b32 [%p+{4 * i}], %r{79 - i};" for i in range(80))
    text = f""".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .b64 p)\n.maxntid 1024\n{{\n.reg .b32 %r<80>;\n.reg .b64 %p;
        ld.param.b64 %p, [p];\n{loads}\nbar.sync 0;\n{stores}\nret;\n}}"""
    f = sass.facts(text, "sm_80")
    assert f.spilled > 0 and f.loads == {4: 80}
