"""All that is known of a machine and one of its Pythons, as plain data: what checks look at, and what --json prints."""
from __future__ import annotations

import re
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property

from . import dlls, facts, libraries, nvidia, system
from .extensions import Examiner, Extension
from .host import Host
from .libraries import Copy, Process
from .loader import Found, Loader
from .nvidia import Card, Driver, Gpu, Toolkit
from .packages import Environment, Package
from .requirements import Requirement, applies
from .system import Python, System


# Packages with compiled parts for torch that don't always say that they require it
EXTENDING = ("torchaudio", "torchvision", "torchtext", "torchcodec", "torchao", "torch-scatter", "torch-sparse", "torch-cluster", "torch-spline-conv", "pyg-lib", "flash-attn",
             "flash-attn-3", "xformers", "apex", "detectron2", "mmcv", "pytorch3d", "causal-conv1d", "mamba-ssm", "natten", "gsplat", "sageattention", "exllamav2", "nvdiffrast")


@dataclass
class Torch:
    """What an installed torch says of itself. `folder`: where it lies; `cuda`: the version it was built with, None: a CPU build; `tag`: "cu126", "cpu", "rocm6.2" or ""."""
    version: str
    folder: str
    cuda: str | None
    tag: str
    source: str

    @property
    def release(self): return facts.release(self.version)


@dataclass
class GpuCode:
    """Compute capabilities that torch was built for; `source`: the library that they were read from, or "table"."""
    architectures: list[str]
    source: str


class Machine:
    """Found out when it is asked for, once."""

    def __init__(self, host: Host):
        self.host = host
        self._asked: dict[tuple, list[Requirement]] = {}

    def ask(self):
        """The driver and the Python, side by side: each is a program that takes its time."""
        def driver():
            with suppress(Exception): _ = self._nvidia                 # who asks for it again gets the same, and says so
        asking = threading.Thread(target=driver)
        asking.start()
        _ = self.python
        asking.join()

    @cached_property
    def system(self) -> System: return system.system(self.host, self.python)
    @cached_property
    def python(self) -> Python: return system.python(self.host)
    @cached_property
    def environment(self) -> Environment:
        """A folder that Python looks in by two names (lib64 is a link to lib) is one."""
        found: dict[str, str] = {}
        for p in self.python.path: found.setdefault(self.host.real(p) or p, p)
        return Environment(self.host, list(found.values()))

    @cached_property
    def _nvidia(self) -> tuple[Driver, list[Gpu]]: return nvidia.driver_and_gpus(self.host)
    @property
    def driver(self) -> Driver: return self._nvidia[0]
    @property
    def gpus(self) -> list[Gpu]: return self._nvidia[1]
    @cached_property
    def bus(self) -> list[Card]: return nvidia.bus(self.host)
    @property
    def cards(self) -> list[str]: return [c.address for c in self.bus if c.maker == "nvidia"]
    @cached_property
    def toolkits(self) -> list[Toolkit]: return nvidia.toolkits(self.host)
    @cached_property
    def loader(self) -> Loader: return Loader(self.host)

    @cached_property
    def torch(self) -> Torch | None:
        build, package = self.environment.torch_build(), self.environment.get("torch")
        if build is None and package is None: return None
        build = build or {}
        version = str(build.get("__version__") or package.version)
        cuda, hip = build.get("cuda"), build.get("hip")
        tag = version.partition("+")[2] or (f"cu{cuda.replace('.', '')}" if cuda else "cpu" if build else "")
        folder = next((f"{s}/torch" for s in self.environment.sites if self.host.is_folder(f"{s}/torch")), "")
        return Torch(version, folder, cuda, f"rocm{hip}" if hip and not tag.startswith("rocm") else tag, package.installer if package else "")

    @cached_property
    def gpu_code(self) -> GpuCode | None:
        """What is really inside torch's library of kernels; where that can't be read, what the tables say of this build."""
        if not (self.torch and self.torch.cuda): return None
        for name in ("torch_cuda.dll", "torch_cuda_cu.dll") if self.host.system == "windows" else ("libtorch_cuda.so", "libtorch_cuda_cu.so"):
            path = f"{self.torch.folder}/lib/{name}"
            found = self.host.gpu_code(path)
            if found: return GpuCode(found, path)
        build = self.torch.release.build(self.torch.tag) if self.torch.release and self.torch.source != "conda" else None     # conda's are built by others
        told = build.architectures(self.host.platform) if build else None
        return GpuCode(told, "table") if told else None

    @cached_property
    def process(self) -> Process | None:
        """A process that imported torch; None: no torch, or not on Linux."""
        return libraries.process(self.host, self.torch.folder, self.python.executable, self.environment.sites) if self.torch and self.host.system == "linux" else None

    @cached_property
    def dlls(self) -> dlls.Process | None:
        """The same on Windows."""
        return dlls.process(self.host, self.torch.folder, self.python.executable, self.python.prefix, self.torch.cuda) if self.torch and self.host.system == "windows" else None

    @cached_property
    def loaded(self) -> dict[str, Found]:
        """What `import torch` would load, by name."""
        return self.process.loader.loaded if self.process else self.dlls.loaded if self.dlls else {}

    @cached_property
    def copies(self) -> list[Copy]:
        return libraries.copies(self.host, self.environment, [t.path for t in self.toolkits], self.torch.folder if self.torch else None, self.loaded)

    @cached_property
    def marker_values(self) -> dict[str, str]:
        """What markers of requirements ask for (packaging.python.org, "Dependency specifiers"), of the examined Python."""
        system, platform, name = {"windows": ("Windows", "win32", "nt"), "macos": ("Darwin", "darwin", "posix")}.get(self.host.system, ("Linux", "linux", "posix"))
        machine = "AMD64" if (self.host.system, self.host.machine) == ("windows", "x86_64") else self.host.machine
        version = self.python.version
        out = {"platform_system": system, "sys_platform": platform, "os_name": name, "platform_machine": machine, "extra": ""}
        return out | ({"python_version": ".".join(version.split(".")[:2]), "python_full_version": version} if version else {})

    def asked(self, package: Package, extras: tuple[str, ...] | None = ()) -> list[Requirement]:
        """What a package requires here, surely; with those of its extras (None: of all of them)."""
        key, out = (package.folder, extras), []
        if key in self._asked: return self._asked[key]
        for r in package.asks:
            named = set(re.findall(r"extra\s*==\s*['\"]([\w.-]+)", r.marker)) if r.marker else set()
            taken = ("", *(named if extras is None else named & set(extras)))
            if any(applies(r.marker, self.marker_values | {"extra": e}) for e in taken): out.append(r)
        self._asked[key] = out
        return out

    @cached_property
    def examiner(self) -> Examiner | None:
        """Of extensions, where torch's own libraries are found: in its folder, or with conda beside Python's."""
        if self.torch is None or not self.torch.folder: return None
        found = Examiner(self.host, [f"{self.torch.folder}/lib", f"{self.python.prefix}/lib"], self.python.tag)
        return found if found.able else None

    @cached_property
    def extensions(self) -> list[Extension]:
        """Compiled parts of packages that need torch."""
        if self.examiner is None: return []
        return [x for p in self.environment.by_name.values() if p.name != "torch" and (p.name in EXTENDING or any(r.name == "torch" for r in self.asked(p)))
                for x in self.examiner.examine(p)]

    @property
    def capabilities(self) -> list[str]: return [c for c in (g.capability or facts.capability(g.name) for g in self.gpus) if c]

    def related(self) -> list[Package]:
        """Packages that have a part in this."""
        wanted = ("torch", "triton", "nvidia-", "numpy", "forno", "flash-attn", "xformers", "jax", "cupy", "onnxruntime", "tensorrt", "ctranslate2", "vllm", "pytorch")
        return [p for p in self.environment.all if p.name.startswith(wanted)]

    def as_data(self, broken: list[tuple[str, Exception]] | None = None) -> dict:
        """`broken`: takes the parts on which the doctor itself broke, which are empty then; without it that raises."""
        out = {}
        for name, (part, otherwise) in PARTS.items():
            try: out[name] = part(self)
            except Exception as error:
                if broken is None: raise
                broken.append((name, error))
                out[name] = otherwise(self.host)
        return out


# What as_data says, part by part, and what it says where a part can't be had.
def _none(host): return None
def _empty(host): return []


PARTS = {
    "system": (lambda m: asdict(m.system), lambda host: asdict(System(host.platform))),
    "python": (lambda m: asdict(m.python) | {"tag": m.python.tag}, lambda host: asdict(Python(host.python)) | {"tag": ""}),
    "driver": (lambda m: asdict(m.driver), lambda host: asdict(Driver())),
    "gpus": (lambda m: [asdict(g) for g in m.gpus], _empty),
    "cards": (lambda m: m.cards, _empty),
    "bus": (lambda m: [asdict(c) for c in m.bus], _empty),
    "forno": (lambda m: nvidia.forno(m.driver), _none),
    "toolkits": (lambda m: [asdict(t) for t in m.toolkits], _empty),
    "libraries": (lambda m: [asdict(c) for c in m.copies], _empty),
    "torch": (lambda m: asdict(m.torch) if m.torch else None, _none),
    "gpu_code": (lambda m: asdict(m.gpu_code) if m.gpu_code else None, _none),
    "packages": (lambda m: [{k: getattr(p, k) for k in ("name", "version", "site", "installer")} for p in m.related()], _empty),
}
