"""How much of a kernel's work each thread gets.

Comes in: how long each thread was busy with the part of a kernel that it had, as the pool's dispatch and barrier note it. Goes out: every thread's range of
[0, WHOLE), in its context, by which kernels cut their work (`Kernel.share`, `Program.mine`). All parts are equal at first. But cores aren't: other programs
run on them, two share what one has, some are built slower; then who is early waits for who is late at the end of every kernel. So a thread's weight follows
its share of all speed, with a time constant of `TIME` of parallel work, whichever kernels that work is in: a plan's kernels keep cutting alike, and what a
thread wrote stays in its own cache.

Results don't depend on cuts, no more than on the number of threads. Sums that do depend on them are cut evenly (`Program.share`).
"""
from __future__ import annotations

BITS = 20
WHOLE = 1 << BITS                              # a total of 2^43 things can be cut
TIME = 16e6                                    # nanoseconds
ALIKE = 0.06                                   # weights that differ from even ones by less are noise: then cuts are even, and lie where they lay
MOST = 0.0625                                  # of the way to what one kernel says: it may have met an interruption
LEAST = 0.25                                   # of an even part: a thread that gets nothing could never show that it is quick again
WORTH = 10_000                                 # nanoseconds per thread; shorter kernels aren't looked at: their notes lie in other cores' caches


def even(part: int, parts: int) -> int:
    """Where part `part` of `parts` begins."""
    return (WHOLE * part + parts // 2) // parts


# Words of a context, written by its thread: done (how much of the work that the cut is about it had, in WHOLEs; 0: the kernel doesn't say), waited (at
# barriers), busy. Written by the caller between kernels: weight (float64; all add up to 1), from and to.
TEXT = """
declare double @llvm.maxnum.f64(double, double)
declare double @llvm.minnum.f64(double, double)
declare double @llvm.fabs.f64(double)
declare i64 @llvm.smin.i64(i64, i64)

; One thread's part of a kernel, and how long it was busy with it.
define internal void @work(ptr %ctx, ptr %kernel, ptr %vals, ptr %words, i64 %begin) #0 {
  %done.p = getelementptr i64, ptr %ctx, i64 $DONE
  store i64 0, ptr %done.p
  %waited.p = getelementptr i64, ptr %ctx, i64 $WAITED
  store i64 0, ptr %waited.p
  call void %kernel(ptr %ctx, ptr %vals, ptr %words)
  %end = call i64 @now()
  %waited = load i64, ptr %waited.p
  %all = sub i64 %end, %begin
  %busy = sub i64 %all, %waited
  %busy.p = getelementptr i64, ptr %ctx, i64 $BUSY
  store i64 %busy, ptr %busy.p
  ret void
}

; How far from even a weight is, as a part of an even one.
define internal double @apart(double %weight, double %nt) #0 {
  %times = fmul double %weight, %nt
  %more = fsub double %times, 1.0
  %far = call double @llvm.fabs.f64(double %more)
  ret double %far
}

; After a kernel that kept the caller busy for `span` nanoseconds: weights move towards the threads' shares of all speed.
define internal void @balance(ptr %pool, i64 %nt, i64 %span) #0 {
entry:
  %contexts = getelementptr i8, ptr %pool, i64 $contexts
  %nt.f = sitofp i64 %nt to double
  %least = fdiv double $least, %nt.f
  %span.f = sitofp i64 %span to double
  %part = fdiv double %span.f, $time
  %rate = call double @llvm.minnum.f64(double %part, double $most)
  br label %look
look:
  %i = phi i64 [ 0, %entry ], [ %i1, %said ]
  %sum = phi double [ 0.0, %entry ], [ %sum1, %said ]
  %at = mul i64 %i, $CONTEXT
  %ctx = getelementptr i8, ptr %contexts, i64 %at
  %done.p = getelementptr i64, ptr %ctx, i64 $DONE
  %done = load i64, ptr %done.p
  %busy.p = getelementptr i64, ptr %ctx, i64 $BUSY
  %busy = load i64, ptr %busy.p
  %some = icmp sgt i64 %done, 0
  %long = icmp sgt i64 %busy, 0
  %known = and i1 %some, %long
  br i1 %known, label %said, label %out
said:
  %done.f = sitofp i64 %done to double
  %busy.f = sitofp i64 %busy to double
  %speed = fdiv double %done.f, %busy.f
  store double %speed, ptr %busy.p
  %sum1 = fadd double %sum, %speed
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %nt
  br i1 %more, label %look, label %move
move:
  %k = phi i64 [ 0, %said ], [ %k1, %move ]
  %most = phi double [ 0.0, %said ], [ %most1, %move ]
  %kat = mul i64 %k, $CONTEXT
  %kctx = getelementptr i8, ptr %contexts, i64 %kat
  %speed.p = getelementptr i64, ptr %kctx, i64 $BUSY
  %mine = load double, ptr %speed.p
  %share = fdiv double %mine, %sum1
  %fair = call double @llvm.maxnum.f64(double %share, double %least)
  %weight.p = getelementptr i64, ptr %kctx, i64 $WEIGHT
  %old = load double, ptr %weight.p
  %way = fsub double %fair, %old
  %step = fmul double %way, %rate
  %new = fadd double %old, %step
  store double %new, ptr %weight.p
  %far = call double @apart(double %new, double %nt.f)
  %most1 = call double @llvm.maxnum.f64(double %most, double %far)
  %k1 = add i64 %k, 1
  %again = icmp slt i64 %k1, %nt
  br i1 %again, label %move, label %settle
settle:
  %alike = fcmp olt double %most1, $alike
  %even = fdiv double 1.0, %nt.f
  br label %cut
cut:
  %j = phi i64 [ 0, %settle ], [ %j1, %cut ]
  %from = phi i64 [ 0, %settle ], [ %to, %cut ]
  %below = phi double [ 0.0, %settle ], [ %upto, %cut ]
  %jat = mul i64 %j, $CONTEXT
  %jctx = getelementptr i8, ptr %contexts, i64 %jat
  %chosen.p = getelementptr i64, ptr %jctx, i64 $WEIGHT
  %chosen = load double, ptr %chosen.p
  %weight = select i1 %alike, double %even, double %chosen
  %upto = fadd double %below, %weight
  %j1 = add i64 %j, 1
  %last = icmp eq i64 %j1, %nt
  %scaled = fmul double %upto, $whole.0
  %rounded = fptosi double %scaled to i64
  %inside = call i64 @llvm.smin.i64(i64 %rounded, i64 $whole)
  %to = select i1 %last, i64 $whole, i64 %inside
  %from.p = getelementptr i64, ptr %jctx, i64 $FROM
  store i64 %from, ptr %from.p
  %to.p = getelementptr i64, ptr %jctx, i64 $TO
  store i64 %to, ptr %to.p
  br i1 %last, label %out, label %cut
out:
  ret void
}
"""
