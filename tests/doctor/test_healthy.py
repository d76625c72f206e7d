"""On machines where nothing is wrong, the doctor says so."""
import pytest

from forno_doctor import diagnose

from . import healthy


@pytest.mark.parametrize("machine", healthy.MACHINES, ids=lambda m: m.__name__)
def test_nothing_is_wrong(machine, tmp_path):
    report = diagnose(machine(tmp_path).host())
    wrong = [(f.id, f.severity, f.data, f.evidence) for f in report.findings if f.severity != "note"]
    assert not wrong and report.code == 0, wrong


@pytest.mark.parametrize("machine", healthy.MACHINES, ids=lambda m: m.__name__)
def test_the_machine_is_what_it_says(machine, tmp_path):
    """A fixture that the doctor can't read would be healthy, too."""
    m = diagnose(machine(tmp_path).host()).machine
    assert (m.torch is None) is (machine is healthy.no_torch) and len(m.gpus) == {healthy.cpu: 0, healthy.two_gpus: 2}.get(machine, 1)
    if m.torch and m.torch.cuda:
        assert m.gpu_code and m.gpu_code.source.endswith("libtorch_cuda.so") and m.examiner
        assert all(f.path for f in m.loaded.values()), [f.name for f in m.loaded.values() if not f.path]
