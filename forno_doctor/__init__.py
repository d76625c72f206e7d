"""forno's doctor: which PyTorch, torchvision, CUDA, cuDNN, driver, Python and GPU fit together, and what to type.

    from forno_doctor import diagnose, plan

It needs only Python's standard library and imports neither torch nor forno, so that it works where those don't. On the command line: `forno doctor`.
Files from the ground up: versions, facts (the tables), host (a machine's files and answers), readers of libraries (elf, pe, fatbin), loader (which file would be
loaded), system, nvidia, packages, libraries, machine (all of it), plan and commands, checks, diagnose, and then what shows it.
"""
from .diagnose import Report, diagnose
from .finding import Finding
from .host import Host
from .machine import Machine
from .plan import Plan, Refusal, Target, Wish, plan

__all__ = ["Finding", "Host", "Machine", "Plan", "Refusal", "Report", "Target", "Wish", "diagnose", "plan"]
