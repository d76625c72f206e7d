"""The example and the demo learn the digits; the demo's weights are the example's."""
import importlib.util
import io
import os
import pathlib
import subprocess
import sys

import pytest
import torch

from forno import cli, demo

ROOT = pathlib.Path(__file__).parents[2]


def test_demo(tmp_path, capsys):
    path = tmp_path / "w.pt"
    assert cli.main(["demo", "--epochs", "4", "--seed", "1", "--save", str(path)]) == 0
    text = capsys.readouterr().out
    assert "CPU " in text and "GPU " in text and text.count("samples/s") == 4 and "\r" not in text and "plan " in text
    assert float(text.split("the network reads ")[1].split("%")[0]) > 95
    weights = torch.load(path)
    spec = importlib.util.spec_from_loader("example", loader=None)
    example = importlib.util.module_from_spec(spec)
    source = (ROOT / "examples" / "digits.py").read_text()
    source = source.replace("import forno as torch", "import torch").replace("from forno import nn",
                                                                             "from torch import nn").replace("from forno.utils", "from torch.utils")
    exec(source, example.__dict__)
    model = example.Net()
    model.load_state_dict(weights)
    assert example.accuracy(model, *example.tensors(train=False)) > 0.95      # PyTorch reads forno's weights and agrees


def test_progress_on_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self): return True
    out = Terminal()
    line = demo.Line(out)
    line.show("half")
    line.end("done")
    assert out.getvalue() == "\rhalf\x1b[K\rdone\x1b[K\n"
    assert demo.bar(0.5) == "█" * 12 + "░" * 12


def test_command_line_errors(capsys):
    for wrong in (["demo", "--epochs", "0"], ["demo", "--epochs", "x"], ["bake"], []):
        with pytest.raises(SystemExit): cli.main(wrong)
    assert "not a positive number" in capsys.readouterr().err
    for wrong, said in ((["--device", "cuda"], "cpu"), (["--device", "toaster"], "toaster"), (["--save", "no/such/folder/w.pt"], "there is no folder"), (["--save", "."], "can't be written")):
        with pytest.raises(SystemExit): cli.main(["demo", *wrong])
        assert said in capsys.readouterr().err


def test_example_as_a_program():
    done = subprocess.run([sys.executable, str(ROOT / "examples" / "digits.py")], capture_output=True, text=True, timeout=300,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1].split("test accuracy ")[1].split("%")[0]) >= 97
