"""Operations inside compiled functions: a few dozen here, all of them behind the marker `slow`."""
import pytest

from .compiled import NAMES, differences


@pytest.mark.parametrize("name", NAMES[::16])
def test_some(name): assert differences(name)[0] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_all(name): assert differences(name)[0] == []
