"""Leaky integrate-and-fire over a whole sequence in Triton: what gpu.py starts.

Arrays are (T, n): T steps of n neurons. The input's steps are `stride` elements apart (0: the same one T times). `beta`
and `theta` are one number (EACH = 0) or n of them. RESET: 0 zero, 1 subtract, 2 none; SURROGATE: 0 sigmoid, 1 atan,
2 fast sigmoid. R is the type of the arithmetic. Multiplications and additions must not be fused
(`enable_fp_fusion=False`): spikes are snntorch.Leaky's to the last bit.
"""

# mypy: disable-error-code="no-untyped-def"
import triton
import triton.language as tl


@triton.jit
def rounded(value, stored: tl.constexpr, R: tl.constexpr):
    """What remains of a value of R in the type that is stored: the nearest, halves to even."""
    kept = value
    if stored == tl.bfloat16:  # by its bits: Triton's interpreter cuts them off
        bits = value.to(tl.int32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536
        kept = tl.where(value == value, bits.to(tl.float32, bitcast=True), value)
    elif stored != R:
        kept = value.to(stored).to(R)
    return kept


@triton.jit
def next_membrane(
    before, fired, now, beta, theta, stored: tl.constexpr, R: tl.constexpr, RESET: tl.constexpr
):  # fmt: skip
    """Membrane after one step; each operation rounds to the type that is stored."""
    h = before
    if RESET == 0:
        h = rounded((1.0 - fired) * h, stored, R)
    h = rounded(h * beta, stored, R)
    h = rounded(h + now, stored, R)
    if RESET == 1:
        h = rounded(h - fired * theta, stored, R)
    return h


@triton.jit
def forward(
    x, s, beta, theta, n, stride,
    T: tl.constexpr, EACH: tl.constexpr, RESET: tl.constexpr, R: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Spikes s of the currents x."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mine = i < n
    b = tl.load(beta + i * EACH, mask=mine, other=0).to(R)
    th = tl.load(theta + i * EACH, mask=mine, other=0).to(R)
    stored = s.dtype.element_ty
    h = tl.load(x + i, mask=mine, other=0).to(R)
    fired = (h >= th).to(R)
    tl.store(s + i, fired.to(stored), mask=mine)
    for t in range(1, T):
        at = tl.cast(t, tl.int64)
        now = tl.load(x + at * stride + i, mask=mine, other=0).to(R)
        h = next_membrane(h, fired, now, b, th, stored, R, RESET)
        fired = (h >= th).to(R)
        tl.store(s + at * n + i, fired.to(stored), mask=mine)


@triton.jit
def backward(
    x, g, out, beta, theta, to_beta, to_theta, n, stride, alpha,
    T: tl.constexpr, EACH: tl.constexpr, RESET: tl.constexpr, SURROGATE: tl.constexpr, DETACH: tl.constexpr,
    BETA: tl.constexpr, THETA: tl.constexpr, R: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradient of x from g, that of s, and of beta and theta a neuron."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mine = i < n
    b = tl.load(beta + i * EACH, mask=mine, other=0).to(R)
    th = tl.load(theta + i * EACH, mask=mine, other=0).to(R)
    stored = out.dtype.element_ty
    # the membranes go where the gradient will be: what holds x holds them exactly
    h = tl.load(x + i, mask=mine, other=0).to(R)
    tl.store(out + i, h.to(stored), mask=mine)
    for t in range(1, T):
        at = tl.cast(t, tl.int64)
        now = tl.load(x + at * stride + i, mask=mine, other=0).to(R)
        h = next_membrane(h, (h >= th).to(R), now, b, th, stored, R, RESET)
        tl.store(out + at * n + i, h.to(stored), mask=mine)
    tl.debug_barrier()
    later = tl.zeros([BLOCK], R)
    d_beta = tl.zeros([BLOCK], R)
    d_theta = tl.zeros([BLOCK], R)
    # the recursions stand at _LeakySpikes.backward in kernels.py
    for k in range(0, T):
        at = tl.cast(T - 1 - k, tl.int64)
        h = tl.load(out + at * n + i, mask=mine, other=0).to(R)
        e = tl.load(g + at * n + i, mask=mine, other=0).to(R)
        carried = later * b
        fired = (h >= th).to(R)
        # nothing to carry at the last step, and 0 times infinity is not 0
        held = tl.where(k > 0, h, 0.0).to(R)
        if not DETACH:
            if RESET == 0:
                e = e - carried * held
            elif RESET == 1:
                e = e - later * th
        d = h - th
        if SURROGATE == 0:
            q = tl.exp(-tl.abs(alpha * d))
            slope = alpha * q / ((1.0 + q) * (1.0 + q))
        elif SURROGATE == 1:
            a = 1.5707963267948966 * alpha * d
            slope = 0.5 * alpha / (1.0 + a * a)
        else:
            a = 1.0 + alpha * tl.abs(d)
            slope = 1.0 / (a * a)
        from_spike = (e * slope).to(R)
        d_theta = (d_theta - from_spike).to(R)
        if RESET == 1:
            d_theta = d_theta - later * fired
        if RESET == 0:
            d_beta = d_beta + later * ((1.0 - fired) * held)
            later = (from_spike + carried * (1.0 - fired)).to(R)
        else:
            d_beta = d_beta + later * held
            later = (from_spike + carried).to(R)
        tl.store(out + at * n + i, rounded(later, stored, R).to(stored), mask=mine)
    if BETA:
        tl.store(to_beta + i, d_beta, mask=mine)
    if THETA:
        tl.store(to_theta + i, d_theta, mask=mine)
