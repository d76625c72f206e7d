"""The machinery under a running kernel, written in native.py's language: memory checks, number formats, warp collectives, the scheduler."""
