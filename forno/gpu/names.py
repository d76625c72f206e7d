"""Names of devices, as lines and buffers know them: one string each, so that identity tells them apart."""
import sys

MOST = 64                                      # devices of one machine
NAMES = tuple([sys.intern(f"cuda:{i}") for i in range(MOST)])
