"""CUDA_VISIBLE_DEVICES as the driver reads it: which GPUs a process sees, in which order.

Comes in: the variable's text and the GPUs' UUIDs ("GPU-…", in the order of CUDA_DEVICE_ORDER). Goes out: their numbers, and in one sentence what is wrong with the text.
The driver reads numbers, or UUIDs and prefixes of them; what follows the first that isn't there is hidden, and one that is named twice hides all.
"""
from __future__ import annotations

import re

ORDERS = ("FASTEST_FIRST", "PCI_BUS_ID")
_NUMBER = re.compile(r"\s*[+-]?\d+")


def entries(text: str) -> list[str]:
    """What is named, up to the first that names nothing. Numbers as C reads them: "1gpu" is 1."""
    found = []
    for part in text.split(","):
        if text.startswith(("GPU-", "MIG-")):
            if not part.startswith(text[:4]): break
            found.append(part.strip())
        else:
            number = _NUMBER.match(part)
            if number is None or int(number.group()) < 0: break
            found.append(str(int(number.group())))
    return found


def numbers(text: str | None, uuids: list[str]) -> list[int]:
    """The GPUs that are seen."""
    if text is None: return list(range(len(uuids)))
    found = []
    for name in entries(text):
        if name.isdigit(): hits = [int(name)] if int(name) < len(uuids) else []
        else: hits = [k for k, uuid in enumerate(uuids) if uuid.lower().startswith(name.lower())]
        if len(hits) != 1: break
        if hits[0] in found: return []
        found.append(hits[0])
    return found


def complaint(text: str) -> str:
    """Why a text may show no GPU at all, as far as it can be told without asking the driver."""
    shown, first, named = f"CUDA_VISIBLE_DEVICES={text!r}", text.split(",")[0].strip(), entries(text)
    if not first: return f"{shown} hides every GPU: unset it"
    if first.startswith("-"): return f"{shown} hides every GPU, as the first number is negative: unset it, or list the GPUs to use"
    twice = next((n for k, n in enumerate(named) if n in named[:k]), None)
    if twice is not None: return f"{shown} names {twice} twice, which hides every GPU: name each once"
    if first.startswith("MIG-"): return f"{shown} names a MIG instance that is not on this machine (any more): `nvidia-smi -L` lists them"
    if first.startswith("GPU-"): return f"{shown} names a GPU that is not on this machine, or is ambiguous: `nvidia-smi -L` lists them"
    if not named: return f"{shown} is neither a list of numbers nor of UUIDs: `nvidia-smi -L` lists both"
    return f"{shown}: there may be no GPU {first} on this machine (what follows a wrong number is hidden, too): `nvidia-smi -L` lists them"


def order_complaint(text: str | None) -> str:
    """What is wrong with CUDA_DEVICE_ORDER; empty: nothing."""
    if text is None or text in ORDERS: return ""
    return f"CUDA_DEVICE_ORDER={text!r} is none of {' and '.join(ORDERS)}"
