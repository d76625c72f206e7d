"""A disk that fills up while something is saved: OSError, the old file whole, nothing left behind."""
import os
import subprocess
import sys

import pytest

import forno

SCRIPT = """
import os, resource, signal, sys
import forno as torch
from forno.utils.safetensors import load_file, save_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
os.chdir(sys.argv[1])
torch.save({"w": torch.ones(3)}, "a.pt")
save_file({"w": torch.ones(3)}, "b.safetensors")
resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
for save in (lambda: torch.save(torch.ones(100000), "a.pt"), lambda: save_file({"w": torch.ones(100000)}, "b.safetensors"),
             lambda: torch.save(torch.ones(100000), "new.pt"), lambda: torch.save(torch.nn.Linear(300, 300).state_dict(), "a.pt")):
    try: save()
    except OSError as e: print(e.errno)
print(sorted(os.listdir(".")), torch.load("a.pt")["w"].tolist(), load_file("b.safetensors")["w"].tolist())
torch.save(torch.ones(5), "small.pt")
print(torch.load("small.pt").sum().item())
"""


def test_a_file_that_may_not_grow(tmp_path):
    """RLIMIT_FSIZE makes writing fail half way, as a full disk does."""
    r = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert r.returncode == 0, r.stderr
    assert r.stdout.splitlines() == ["27"] * 4 + ["['a.pt', 'b.safetensors'] [1.0, 1.0, 1.0] [1.0, 1.0, 1.0]", "5.0"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_no_space_left():
    with pytest.raises(OSError) as e: forno.save(forno.ones(10), "/dev/full")
    assert e.value.errno == 28
