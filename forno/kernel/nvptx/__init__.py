"""Kernels of NVIDIA GPUs: the same nouns as the CPU's, written for many threads, as PTX.

One source of meaning: rows' `emit`, loops' accesses and the mathematics are those of the kernel floor; what differs is who does which part of the work.
"""
