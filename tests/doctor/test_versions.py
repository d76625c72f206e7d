"""Versions are ordered and chosen as PEP 440 says; `packaging`, which pip uses, is the oracle."""
import itertools

import pytest

from forno_doctor.versions import at_least, numbers, parse, satisfies

TEXTS = ("2.6.0", "2.6", "2.6.1", "2.10.0", "2.6.0a1", "2.6.0rc1", "2.6.0rc2", "2.6.0.dev20250101", "2.6.0rc1.dev2", "2.6.0.post1", "2.6.0.post1.dev3", "2.6.0+cu126", "2.6.0+cpu",
         "2.6.0+cu126.2", "1!1.0", "0.21.0", "v2.6", "2.6.0-1", "2.6.0.RC1", "2.6c1", "0", "1.10", "1.9", "2.6.0.0")
SPECS = ("==2.6", "==2.6.*", "!=2.6.*", "==2.6.0", "==2.6.0+cu126", "!=2.6.0", ">=2.6", "<=2.6", "<2.6", ">2.6", "~=2.6", "~=2.6.0", ">=2.5,<2.7", ">=2.6.0rc1", "<2.6.0rc2", ">2.6.0.post1", "==1!1.*", "==0.*",
         "!=2.6.1,>=2", "===2.6.0", "==2.6.0.*", "~=1!1.0", ">2.6.0a1")


def test_order_and_equality_are_packagings():
    known = pytest.importorskip("packaging.version").Version
    for a, b in itertools.product(TEXTS, TEXTS):
        assert (parse(a) < parse(b), parse(a) == parse(b), parse(a) >= parse(b)) == (known(a) < known(b), known(a) == known(b), known(a) >= known(b)), (a, b)


@pytest.mark.parametrize("spec", SPECS)
def test_specifiers_choose_what_packagings_do(spec):
    known = pytest.importorskip("packaging.specifiers").SpecifierSet
    for text in TEXTS: assert satisfies(parse(text), spec) == known(spec).contains(text, prereleases=True), text


@pytest.mark.parametrize("text", ["", "two", "2.6.", "2..6", "2.6+", "2.6.0+cu/126", None, 2.6, "2." * 200, "2.6.*"])
def test_what_is_no_version_is_none(text): assert parse(text) is None


@pytest.mark.parametrize("spec", ["2.6", "=2.6", "==", "==two", ">=2.6 <3", "~=2", ">=2.*"])
def test_what_is_no_specifier_says_so(spec):
    with pytest.raises(ValueError, match="is no version"): satisfies(parse("2.6.0"), spec)


def test_drivers_are_compared_number_by_number():
    assert at_least("525.60.13", "525.60.13") and not at_least("525.60.12", "525.60.13") and at_least("1000.1", "580") and not at_least("525", "525.60.13")
    assert numbers("R580 branch") == (580,) and numbers("") == numbers(None) == ()
