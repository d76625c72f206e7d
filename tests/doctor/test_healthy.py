"""On machines where nothing is wrong, the doctor says so, in every form and both languages."""
import json
import re
from functools import cache

import pytest

from forno_doctor import diagnose, page, report
from forno_doctor.words import LANGUAGES, Words

from . import healthy

BARE = {healthy.no_torch}
GPUS = {healthy.cpu: 0, healthy.macos: 0, healthy.rocm: 0, healthy.login_node: 0, healthy.distribution: 0, healthy.two_gpus: 2, healthy.job: 2}
LIBRARY = {healthy.windows: "torch_cuda.dll"}
UNSAID = re.compile(r"\{\w+\}|\b(?:None(?! of)|\[\]|\{\})\b|<[a-z_.]+ object")                   # places that got no value, values that got no words


@pytest.fixture(scope="module")
def examined(tmp_path_factory):
    """Each machine is made and examined once."""
    return cache(lambda machine: diagnose(machine(tmp_path_factory.mktemp(machine.__name__)).host()))


everywhere = pytest.mark.parametrize("machine", healthy.MACHINES, ids=lambda m: m.__name__)


@everywhere
def test_nothing_is_wrong(machine, examined):
    found = examined(machine)
    wrong = [(f.id, f.severity, f.data, f.evidence) for f in found.findings if f.severity != "note"]
    assert not wrong and found.code == 0, wrong


@everywhere
def test_the_machine_is_what_it_says(machine, examined):
    """A fixture that the doctor can't read would be healthy, too."""
    m = examined(machine).machine
    assert (m.torch is None) is (machine in BARE) and len(m.gpus) == GPUS.get(machine, 1)
    if m.torch and m.torch.cuda:
        assert m.gpu_code and m.gpu_code.source.endswith(LIBRARY.get(machine, "libtorch_cuda.so"))
        assert m.host.system == "windows" or m.examiner and all(f.path for f in m.loaded.values()), [f.name for f in m.loaded.values() if not f.path]


@everywhere
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_is_there(machine, language, examined):
    words = Words(language)
    told = report.told(examined(machine), words)
    text, wide, html = report.text(told, words), report.text(told, words, verbose=True), page.html(told, words)
    healthy_verdict = words("report.healthy")
    assert all(healthy_verdict in said for said in (text, wide, html)) and not told["counts"]["error"] + told["counts"]["warning"]
    for said in (text, wide, re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)): assert not UNSAID.search(said), UNSAID.findall(said)
    assert json.loads(json.dumps(told)) == json.loads(json.dumps(told, ensure_ascii=False)) and told["forno"]["told"]
    assert all(f["title"] and f["cause"] for f in told["findings"])
    if language == "zh": assert all(re.search("[\u4e00-\u9fff]", f[part]) for f in told["findings"] for part in ("title", "cause"))


def test_there_are_enough_of_them():
    assert len(healthy.MACHINES) >= 25
