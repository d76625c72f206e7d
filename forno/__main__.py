"""python -m forno: the command line, by the way that starts the doctor where the rest doesn't load."""
import sys

from forno_doctor.entry import main

sys.exit(main())
