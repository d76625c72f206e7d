"""On a machine of another kind: every kernel of a training step becomes an aarch64 object. Nothing is run."""
import subprocess
import sys

SCRIPT = """
import platform
import llvmlite.binding as llvm
platform.machine = lambda: "aarch64"
llvm.get_host_cpu_features = lambda: {"neon": True, "fp-armv8": True}
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()

from forno.cpu import code, isa, memory
assert isa.level == "neon"
machine = llvm.Target.from_triple("aarch64-unknown-linux-gnu").create_target_machine(cpu=isa.cpu, features=isa.features, opt=1, reloc="pic")
objects = []

def precompile(jobs, extra=(), besides=()):
    for build in besides: build()
    for text, name, opt in jobs:
        module = llvm.parse_assembly(str(text))
        module.triple, module.data_layout = "aarch64-unknown-linux-gnu", str(machine.target_data)
        module.verify()
        objects.append(machine.emit_object(module))
        assert objects[-1][18:20] == b"\\xb7\\x00", "not an aarch64 object"
    return [64 * (len(objects) + i) for i in range(len(jobs))]

code.precompile = precompile
code.load = lambda text, name, opt=1, extra=(): precompile([(text, name, opt)])[0]

import forno as torch
from forno.framework import native, random_core

def drawn(kind, *spec):
    code.load(random_core.native.text(kind, *spec), kind)
    return lambda *a: None

random_core._kernel = drawn
native.carry_out = lambda runner, buffers, scalars: [memory.empty(max(n, 1)) for n in runner.nbytes]
native.launch.Table.__init__ = lambda self, *a: None
model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.GELU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
                            torch.nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters())
x = torch.zeros(2, 1, 8, 8) + 1
loss = torch.nn.functional.cross_entropy(model(x), torch.tensor([1, 2]).to(torch.int64))
loss.backward()
optimizer.step()
half = (x.to(torch.bfloat16).exp() + x.half()).sum()
torch.sort(x.flatten())[0].cumsum(0)
from forno.framework.engine import flush
flush()
print(len(objects), "objects")
"""


def test_a_training_step_compiles_for_aarch64():
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr[-3000:]
    assert int(run.stdout.split()[0]) > 15
