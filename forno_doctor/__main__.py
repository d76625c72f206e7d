"""python -m forno_doctor: the doctor's command line."""
import sys

from .cli import main

sys.exit(main())
