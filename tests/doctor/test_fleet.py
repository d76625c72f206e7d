"""Clusters: launchers are small programs that start the doctor several times; their lines come mixed and labelled."""
import json
import os
import random
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from forno_doctor import Host, diagnose
from forno_doctor.cli import fleet as command
from forno_doctor.fleet import Fleet, collect, from_files, gathered, launcher, lines
from forno_doctor.fleet import command as commands
from forno_doctor.words import Words

from .machines import Machine

ROOT = Path(__file__).parents[2]
GPU = "NVIDIA H200"


def node(folder, torch="2.6.0+cu124", driver="550.54.14"):
    return json.loads(json.dumps(diagnose(Machine(folder).gpu(GPU, "9.0", driver=driver).torch(torch, architectures=["9.0"]).host()).as_data()))


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nodes")
    return {"node1": node(folder / "1"), "node2": node(folder / "2"), "node3": node(folder / "3", "2.5.1+cu121", "535.104.05")}


def test_what_differs(reports):
    fleet = Fleet(reports)
    found = {d.fact: d.groups for d in fleet.differences()}
    assert found["driver.kernel"] == [("550.54.14", ["node1", "node2"]), ("535.104.05", ["node3"])]
    assert found["torch.version"][1] == ("2.5.1+cu121", ["node3"]) and "gpus" not in found and "system.name" not in found
    assert fleet.code == 1 and Fleet({"a": reports["node1"], "b": reports["node2"]}).code == reports["node1"]["code"] == 0


def test_something_broken_on_one_node(tmp_path, reports):
    fleet = Fleet(reports | {"node4": node(tmp_path, "2.6.0+cpu")})
    assert fleet.findings()[("cpu-build", "error")] == ["node4"] and fleet.code == 2
    assert "[cpu-build]  node4" in "\n".join(command.text(fleet, Words("en")))


def test_lines_survive_being_mixed_and_labelled(reports):
    mixed = [f"{k}: {line}" for k, (name, r) in enumerate(reports.items()) for line in lines(name, r)]
    assert all([len(line) < 512 for line in mixed])
    random.Random(3).shuffle(mixed)
    noise = "srun: job 7 queued\n" + "\n".join(mixed) + "\nforno-doctor:bad:0/1:####\nforno-doctor:half:0/2:eNo=\n"
    assert gathered(noise) == reports


def test_rubbish_is_left_out(reports):
    whole = "\n".join(lines("node1", reports["node1"]))
    rng = random.Random(5)
    for _ in range(200):
        text = list(whole)
        for _ in range(rng.randrange(1, 6)): text[rng.randrange(len(text))] = chr(rng.randrange(32, 127))
        for r in gathered("".join(text)).values(): Fleet({"x": r}).differences()
    assert Fleet({"x": {}, "y": {"machine": {"gpus": [{}], "packages": [], "libraries": []}}}).differences() is not None


@pytest.mark.parametrize("environment, programs, expected", [({"SLURM_JOB_ID": "7"}, ["srun", "mpiexec"], "srun"), ({"RAY_ADDRESS": "auto"}, ["ray", "srun"], "ray"), ({}, ["mpiexec", "ssh"], "mpiexec"),
                                                             ({}, ["ssh"], "ssh"), ({}, [], None), ({"SLURM_JOB_ID": "7"}, ["ssh"], "ssh")])
def test_which_launcher(tmp_path, environment, programs, expected):
    m = Machine(tmp_path, environment=environment)
    for p in programs: m.file(f"/usr/bin/{p}")
    assert launcher(m.host()) == expected


def test_what_is_started(tmp_path):
    m = Machine(tmp_path, environment={"SLURM_NNODES": "4"}).says("mpiexec --version", "mpiexec (OpenRTE) 4.1.4\nReport bugs to the Open MPI people")
    host, tail = m.host(), ["/opt/app/bin/python", "-m", "forno_doctor", "node"]
    assert commands(host, "srun", []) == [["srun", "--ntasks=4", "--ntasks-per-node=1", *tail]]
    assert commands(host, "srun", ["a", "b"])[0][1:4] == ["--nodelist=a,b", "--nodes=2", "--ntasks=2"]
    assert commands(host, "mpiexec", ["a", "b"]) == [["mpiexec", "--host", "a,b", "--map-by", "ppr:1:node", *tail]]
    assert commands(m.says("mpiexec --version", "HYDRA build details: Version: 4.2").host(), "mpiexec", ["a", "b"]) == [["mpiexec", "-hosts", "a,b", "-n", "2", "-ppn", "1", *tail]]
    assert [c[-5] for c in commands(host, "ssh", ["a", "b"])] == ["a", "b"]


def program(folder, name, text):
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return path


FAKE = """
import os, subprocess, sys
if "--version" in sys.argv: sys.exit(print("fake"))
at = sys.argv.index("-m")
for k in range({count}):
    done = subprocess.run([sys.executable, *sys.argv[at:], "--name", f"node{{k}}"], capture_output=True, text=True)
    for line in done.stdout.splitlines(): print(f"{{k}}: {{line}}")
"""


def test_through_a_launcher(tmp_path):
    """The real command line, every process a real one; the launcher alone is a stand-in."""
    program(tmp_path, "srun", FAKE.format(count=2))
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "SLURM_JOB_ID": "1", "SLURM_NNODES": "2"}
    done = subprocess.run([sys.executable, "-m", "forno_doctor", "--hosts", "--json"], env=environment, capture_output=True, text=True, timeout=120, check=False)
    said = json.loads(done.stdout)
    assert sorted(said["nodes"]) == ["node0", "node1"] and said["differences"] == [] and done.returncode == said["code"]


RAY = """
class Task:
    def __init__(self, f, node=None): self.f, self.node = f, node
    def options(self, scheduling_strategy): assert not scheduling_strategy.soft; return Task(self.f, scheduling_strategy.node)
    def remote(self): return self.node, self.f
def init(address, logging_level): assert address == "auto"
def nodes(): return [{"NodeID": "a", "Alive": True}, {"NodeID": "b", "Alive": False}, {"NodeID": "c", "Alive": True}]
def remote(num_cpus): return Task
def get(tasks, timeout): return [f().replace("forno-doctor:", f"forno-doctor:{node}-") for node, f in tasks]
"""
STRATEGIES = "class NodeAffinitySchedulingStrategy:\n    def __init__(self, node, soft): self.node, self.soft = node, soft\n"


def test_through_ray(tmp_path):
    """A stand-in for Ray with the calls that are used; every living node examines itself."""
    for name, text in (("ray/__init__.py", RAY), ("ray/util/__init__.py", ""), ("ray/util/scheduling_strategies.py", STRATEGIES)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    fleet = collect(Host(environment={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}), "ray", [])
    assert sorted(n[:2] for n in fleet.reports) == ["a-", "c-"] and not fleet.errors and not fleet.differences()


def test_hosts_that_are_silent(tmp_path):
    program(tmp_path, "ssh", "import sys\nsys.exit('ssh: connect to host b port 22: No route to host')\n")
    fleet = collect(Host(environment={"PATH": f"{tmp_path}:/usr/bin"}), "ssh", ["a", "user@b"])
    assert fleet.silent == ["a", "user@b"] and "No route" in fleet.errors and fleet.code == 2
    assert "user@b" in "\n".join(command.text(fleet, Words("zh")))


def test_a_host_is_no_option(capsys):
    with pytest.raises(Exception, match="is no host"): command.names("a,-oProxyCommand=x")


def test_files(tmp_path, reports, capsys):
    for name, r in reports.items(): (tmp_path / f"{name}.json").write_text(json.dumps(r))
    (tmp_path / "bad.json").write_text("[]")
    fleet = from_files([str(p) for p in sorted(tmp_path.glob("*.json"))])
    assert sorted(fleet.reports) == ["node1", "node2", "node3"] and fleet.silent == ["bad"] and "bad.json" in fleet.errors
    assert command.run(Namespace(python=sys.executable, files=[str(tmp_path / "node1.json"), str(tmp_path / "node3.json")], json=False, words=Words("en"))) == 1
    assert "535.104.05  (1: node3)" in capsys.readouterr().out


def test_a_real_mpiexec():
    if shutil.which("mpiexec") is None: pytest.skip("no mpiexec here: `pip install mpich` brings one")
    fleet = collect(Host(), "mpiexec", [])
    assert fleet.reports and not fleet.silent
