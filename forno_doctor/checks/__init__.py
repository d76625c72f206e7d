"""One function per thing that may be wrong: it looks at a Machine and yields findings. What it can't know, it passes over."""
from . import builds, dlls, driver, extensions, libraries, mixed, python

ALL = [*driver.CHECKS, *python.CHECKS, *builds.CHECKS, *extensions.CHECKS, *libraries.CHECKS, *dlls.CHECKS, *mixed.CHECKS]
