"""The doctor under forno's name: `python -m forno.doctor`, `from forno.doctor import diagnose, plan`. It is a package of its own, forno_doctor, which needs neither forno nor its
dependencies."""
import sys

from forno_doctor import *
from forno_doctor.cli import main

if __name__ == "__main__": sys.exit(main())
