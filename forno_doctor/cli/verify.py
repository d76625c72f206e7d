"""`forno doctor verify`: proves on every GPU that it computes, through the driver alone."""
from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from ..host import Host
from ..machine import Machine
from ..verify import Proof, torch, verify


def add(commands):
    c = commands.add_parser("verify", help="prove that each GPU computes: take memory, run a kernel, read back, measure bandwidth",
                            description="Proves on every GPU that it computes, through the driver alone: no torch, no toolkit. Each device gets its own process and a time limit.")
    c.add_argument("--device", type=int, action="append", metavar="K", help="only this one (again for more; default: all)")
    c.add_argument("--size", type=_megabytes, default=256, metavar="MB", help="size of the copies that are measured (default: 256)")
    c.add_argument("--torch", action="store_true", help="let the examined Python's torch compute on every device, too (this imports it)")
    c.add_argument("--python", metavar="PATH", default=sys.executable, help="the Python that runs the proof (default: this one)")
    c.add_argument("--json", action="store_true", help="print the result as JSON")
    c.set_defaults(run=run)


def _megabytes(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65536: raise argparse.ArgumentTypeError(f"{text} is not between 1 and 65536")
    return int(text)


def run(options) -> int: return tell(Host(python=options.python), options)


def tell(host: Host, options) -> int:
    """0: all devices compute; 1: there is none, or one is slow; 2: one doesn't compute."""
    say, machine = options.words, Machine(host)
    devices = list(range(len(machine.gpus))) if options.device is None else options.device
    proofs = verify(host, devices, options.size)
    by_torch = torch(host) if options.torch else None
    if options.json:
        data = {"schema": 1, "devices": [{**asdict(p), "ok": p.ok} for p in proofs], "torch": {**asdict(by_torch), "ok": by_torch.ok} if by_torch else None}
        print(json.dumps(data, indent=1))
    else:
        if not devices: print(say("verify.no-device"))
        for p in proofs: print("\n".join(lines(p, say)))
        if by_torch is not None:
            print(say("verify.torch-ok" if by_torch.ok else "verify.torch-failed", version=by_torch.version or "?", error=by_torch.error or say("verify.torch-none")))
    if any([not p.ok for p in proofs]) or by_torch is not None and not by_torch.ok: return 2
    return int(not devices or any([p.slow for p in proofs]))


def lines(p: Proof, say) -> list[str]:
    title = f"GPU {p.device}" + (f" ({p.name})" if p.name else "")
    if p.ok:
        rates = {k: v / 1e9 for k, v in p.bandwidth.items()}
        out = [say("verify.ok", title=title, seconds=f"{p.seconds:.1f}")]
        if rates: out.append("  " + say("verify.bandwidth", device=f"{rates['device']:.0f}", into=f"{rates['in']:.1f}", out=f"{rates['out']:.1f}"))
        share = 100 * p.bandwidth.get("device", 0) / p.theory if p.theory else 0
        if p.theory: out.append("  " + say("verify.slow" if p.slow else "verify.theory", theory=f"{p.theory / 1e9:.0f}", share=f"{share:.0f}"))
        return out
    if p.wrong: return [say("verify.wrong", title=title, wrong=p.wrong)]
    out = [say("verify.failed", title=title, step=say(f"verify.step-{p.step}"))]
    known = f"verify.code-{p.code}"
    if p.function: out.append("  " + say("verify.returned", function=p.function, code=p.code) + (" " + say(known) if say.has(known) else ""))
    if p.error: out.append(f"  {p.error}")
    return out
