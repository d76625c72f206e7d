"""Lines of Requires-Dist and their markers."""
import pytest

from forno_doctor.requirements import applies, requirement
from forno_doctor.versions import parse

LINUX = {"platform_system": "Linux", "platform_machine": "x86_64", "sys_platform": "linux", "os_name": "posix", "python_version": "3.12", "python_full_version": "3.12.4", "extra": ""}


@pytest.mark.parametrize("text, name, spec, extras", [("torch==2.6.0", "torch", "==2.6.0", ()), ("torch (==2.6.0)", "torch", "==2.6.0", ()), ("NumPy >=1.22, <2", "numpy", ">=1.22,<2", ()),
                                                     ("cuda-toolkit[cublas,cudart]==13.0.3; platform_system == 'Linux'", "cuda-toolkit", "==13.0.3", ("cublas", "cudart")), ("typing_extensions", "typing-extensions", "", ())])
def test_lines(text, name, spec, extras):
    r = requirement(text)
    assert (r.name, r.spec, r.extras) == (name, spec, extras)


@pytest.mark.parametrize("text", ["torch @ file:///a/b.whl", "", "==2", "a b c", "x" * 6000])
def test_lines_that_are_not_judged(text): assert requirement(text) is None


@pytest.mark.parametrize("marker, answer", [
    ("", True), ("platform_system == 'Linux'", True), ('platform_system == "Linux" and platform_machine == "aarch64"', False), ("python_version < '3.15'", True), ("python_version < '3.9'", False),
    ("python_version >= '3.9' and (sys_platform == 'win32' or sys_platform == 'linux')", True), ("extra == 'dev'", False), ("extra == 'dev' or python_version >= '3'", True),
    ("platform_machine not in 'arm64 aarch64'", True), ("'linux' in sys_platform", True), ("platform_release > '5'", None), ("platform_release > '5' and extra == 'x'", False),
    ("platform_release > '5' or sys_platform == 'linux'", True), ("python_version", None), ("(python_version > '3'", None), ("python_version ~= 'x'", None), ("a ? b", None), ("(" * 60 + "extra == 'x'" + ")" * 60, None)])
def test_markers(marker, answer): assert applies(marker, LINUX) is answer


def test_what_meets_a_requirement():
    r = requirement("torch>=2.5,<2.7")
    assert r.met_by(parse("2.6.0+cu126")) and r.met_by(parse("2.7.0")) is False and r.met_by(None) is None and requirement("torch==2.x").met_by(parse("2.6.0")) is None
