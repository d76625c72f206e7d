"""Elementwise rows of Bessel's and Airy's functions that PyTorch has without gradients; I0 and I1 with theirs are in special.py.

Coefficients: Cephes (Moshier): minimax fractions for J, Y and Ai, Chebyshev series for K, with the leading 1 of a denominator where Cephes means one.
They compute in float64 whatever the type; half types are refused, as in PyTorch.
"""
from __future__ import annotations

import math

import numpy as np

from ..core import dtype as dt
from .elementwise import TITLES, inexact, row
from .special import INF, NAN, _bessel, double, f64

PI_4, SQRT_2_PI = math.pi / 4, math.sqrt(2 / math.pi)


def full_size(name):
    """The rule of types: integers and bools compute in the default float, half types don't."""
    def rule(kinds, default):
        t = inexact(kinds, default)
        if t.category == dt.FLOAT and t.size < 4: raise NotImplementedError(f"\"{name}_cpu\" not implemented for '{TITLES[t.name]}'")
        return t
    return rule


def bare(name, emit, oracle): return row(name, double(emit), f64(oracle), rule=full_size(name), types="f", names=f"special.{name}")


def horner(b, x, coefficients):
    out = b.const(coefficients[0], x, x.n)
    for c in coefficients[1:]: out = b.fma(out, x, b.const(c, x))
    return out


def fraction(b, x, top, bottom): return b.div(horner(b, x, top), horner(b, x, bottom))
def np_horner(x, coefficients): return float(np.polyval(coefficients, x))
def np_fraction(x, top, bottom): return np_horner(x, top) / np_horner(x, bottom)


def clenshaw(b, x, coefficients):
    """Σ c T(x / 2), highest order first, half of the last."""
    p = q = b.const(0.0, x, x.n)
    a = b.const(coefficients[0], x, x.n)
    for c in coefficients[1:]: p, q, a = q, a, b.add(b.sub(b.mul(x, a), q), c)
    return b.mul(b.sub(a, p), 0.5)


# ---- J and Y: a fraction in x² up to 5 with its zeros taken out, amplitude and phase of a damped wave from there
J0_FAR = ((7.96936729297347051624e-4, 8.28352392107440799803e-2, 1.23953371646414299388, 5.44725003058768775090, 8.74716500199817011941,
           5.30324038235394892183, 9.99999999999999997821e-1),
          (9.24408810558863637013e-4, 8.56288474354474431428e-2, 1.25352743901058953537, 5.47097740330417105182, 8.76190883237069594232,
           5.30605288235394617618, 1.00000000000000000218),
          (-1.13663838898469149931e-2, -1.28252718670509318512, -1.95539544257735972385e1, -9.32060152123768231369e1, -1.77681167980488050595e2,
           -1.47077505154951170175e2, -5.14105326766599330220e1, -6.05014350600728481186),
          (1.0, 6.43178256118178023184e1, 8.56430025976980587198e2, 3.88240183605401609683e3, 7.24046774195652478189e3, 5.93072701187316984827e3,
           2.06209331660327847417e3, 2.42005740240291393179e2))
J0_NEAR = ((-4.79443220978201773821e9, 1.95617491946556577543e12, -2.49248344360967716204e14, 9.70862251047306323952e15),
           (1.0, 4.99563147152651017219e2, 1.73785401676374683123e5, 4.84409658339962045305e7, 1.11855537045356834862e10, 2.11277520115489217587e12,
            3.10518229857422583814e14, 3.18121955943204943306e16, 1.71086294081043136091e18))
J0_ZEROS = 5.78318596294678452118, 3.04712623436620863991e1
Y0_NEAR = ((1.55924367855235737965e4, -1.46639295903971606143e7, 5.43526477051876500413e9, -9.82136065717911466409e11, 8.75906394395366999549e13,
            -3.46628303384729719441e15, 4.42733268572569800351e16, -1.84950800436986690637e16),
           (1.0, 1.04128353664259848412e3, 6.26107330137134956842e5, 2.68919633393814121987e8, 8.64002487103935000337e10, 2.02979612750105546709e13,
            3.17157752842975028269e15, 2.50596256172653059228e17))
J1_FAR = ((7.62125616208173112003e-4, 7.31397056940917570436e-2, 1.12719608129684925192, 5.11207951146807644818, 8.42404590141772420927,
           5.21451598682361504063, 1.00000000000000000254),
          (5.71323128072548699714e-4, 6.88455908754495404082e-2, 1.10514232634061696926, 5.07386386128601488557, 8.39985554327604159757,
           5.20982848682361821619, 9.99999999999999997461e-1),
          (5.10862594750176621635e-2, 4.98213872951233449420, 7.58238284132545283818e1, 3.66779609360150777800e2, 7.10856304998926107277e2,
           5.97489612400613639965e2, 2.11688757100572135698e2, 2.52070205858023719784e1),
          (1.0, 7.42373277035675149943e1, 1.05644886038262816351e3, 4.98641058337653607651e3, 9.56231892404756170795e3, 7.99704160447350683650e3,
           2.82619278517639096600e3, 3.36093607810698293419e2))
J1_NEAR = ((-8.99971225705559398224e8, 4.52228297998194034323e11, -7.27494245221818276015e13, 3.68295732863852883286e15),
           (1.0, 6.20836478118054335476e2, 2.56987256757748830383e5, 8.35146791431949253037e7, 2.21511595479792499675e10, 4.74914122079991414898e12,
            7.84369607876235854894e14, 8.95222336184627338078e16, 5.32278620332680085395e18))
J1_ZEROS = 1.46819706421238932572e1, 4.92184563216946036703e1
Y1_NEAR = ((1.26320474790178026440e9, -6.47355876379160291031e11, 1.14509511541823727583e14, -8.12770255501325109621e15, 2.02439475713594898196e17,
            -7.78877196265950026825e17),
           (1.0, 5.94301592346128195359e2, 2.35564092943068577943e5, 7.34811944459721705660e7, 1.87601316108706159478e10, 3.88231277496238566008e12,
            6.20557727146953693363e14, 6.87141087355300489866e16, 3.97270608116560655612e18))
FAR, NEAR, ZEROS, Y_NEAR = (J0_FAR, J1_FAR), (J0_NEAR, J1_NEAR), (J0_ZEROS, J1_ZEROS), (Y0_NEAR, Y1_NEAR)


def _wave(b, x, order):
    """(J, Y) for x > 5."""
    w = b.div(5.0, x)
    z = b.mul(w, w)
    p, q = fraction(b, z, *FAR[order][:2]), b.mul(w, fraction(b, z, *FAR[order][2:]))
    angle = b.sub(x, (2 * order + 1) * PI_4)
    cos, sin, size = b.cos(angle), b.sin(angle), b.div(SQRT_2_PI, b.sqrt(x))
    return b.mul(b.sub(b.mul(p, cos), b.mul(q, sin)), size), b.mul(b.add(b.mul(p, sin), b.mul(q, cos)), size)


def _j_near(b, x, order):
    z = b.mul(x, x)
    out = b.mul(b.mul(b.sub(z, ZEROS[order][0]), b.sub(z, ZEROS[order][1])), fraction(b, z, *NEAR[order]))
    return b.mul(out, x) if order else out


def _j(order):
    def emit(b, x):
        a = b.abs(x)
        far, _ = _wave(b, b.max(a, 5.0), order)
        out = b.select(b.le(a, 5.0), _j_near(b, b.min(a, 5.0), order), far)
        return b.select(b.signbit(x), b.neg(out), out) if order else out

    def oracle(x):
        a = abs(x)
        if a <= 5:
            out = (a * a - ZEROS[order][0]) * (a * a - ZEROS[order][1]) * np_fraction(a * a, *NEAR[order]) * (a if order else 1)
        else: out = _np_wave(a, order)[0]
        return math.copysign(1, x) * out if order else out
    return emit, oracle


def _np_wave(x, order):
    z, angle, size = 25 / (x * x), x - (2 * order + 1) * PI_4, SQRT_2_PI / math.sqrt(x)
    p, q = np_fraction(z, *FAR[order][:2]), 5 / x * np_fraction(z, *FAR[order][2:])
    return (p * math.cos(angle) - q * math.sin(angle)) * size, (p * math.sin(angle) + q * math.cos(angle)) * size


def _y(order):
    def emit(b, x):
        low = b.min(b.max(x, 1e-310), 5.0)
        rest = fraction(b, b.mul(low, low), *Y_NEAR[order])
        near = b.mul(_j_near(b, low, order), b.log(low))
        near = b.add(b.mul(low, rest), b.mul(b.sub(near, b.div(1.0, low)), 2 / math.pi)) if order else b.add(rest, b.mul(near, 2 / math.pi))
        _, far = _wave(b, b.max(x, 5.0), order)
        out = b.select(b.le(x, 5.0), near, far)
        return b.select(b.gt(x, 0.0), out, b.select(b.eq(x, 0.0), b.const(-INF, x), b.const(NAN, x)))

    def oracle(x):
        if not x > 0: return -INF if x == 0 else NAN
        if x > 5: return _np_wave(x, order)[1]
        rest, slope = np_fraction(x * x, *Y_NEAR[order]), _j(order)[1](x) * math.log(x)
        return x * rest + 2 / math.pi * (slope - 1 / x) if order else rest + 2 / math.pi * slope
    return emit, oracle


bessel_j0, bessel_j1 = bare("bessel_j0", *_j(0)), bare("bessel_j1", *_j(1))
bessel_y0, bessel_y1 = bare("bessel_y0", *_y(0)), bare("bessel_y1", *_y(1))


# ---- modified ones
K0_NEAR = (1.37446543561352307156e-16, 4.25981614279661018399e-14, 1.03496952576338420167e-11, 1.90451637722020886025e-9, 2.53479107902614945675e-7,
           2.28621210311945178607e-5, 1.26461541144692592338e-3, 3.59799365153615016266e-2, 3.44289899924628486886e-1, -5.35327393233902768720e-1)
K0_FAR = (5.30043377268626276149e-18, -1.64758043015242134646e-17, 5.21039150503902756861e-17, -1.67823109680541210385e-16, 5.51205597852431940784e-16,
          -1.84859337734377901440e-15, 6.34007647740507060557e-15, -2.22751332699166985548e-14, 8.03289077536357521100e-14, -2.98009692317273043925e-13,
          1.14034058820847496303e-12, -4.51459788337394416547e-12, 1.85594911495471785253e-11, -7.95748924447710747776e-11, 3.57739728140030116597e-10,
          -1.69753450938905987466e-9, 8.57403401741422608519e-9, -4.66048989768794782956e-8, 2.76681363944501510342e-7, -1.83175552271911948767e-6,
          1.39498137188764993662e-5, -1.28495495816278026384e-4, 1.56988388573005337491e-3, -3.14481013119645005427e-2, 2.44030308206595545468)
K1_NEAR = (-7.02386347938628759343e-18, -2.42744985051936593393e-15, -6.66690169419932900609e-13, -1.41148839263352776110e-10, -2.21338763073472585583e-8,
           -2.43340614156596823496e-6, -1.73028895751305206302e-4, -6.97572385963986435018e-3, -1.22611180822657148235e-1, -3.53155960776544875667e-1,
           1.52530022733894777053)
K1_FAR = (-5.75674448366501715755e-18, 1.79405087314755922667e-17, -5.68946255844285935196e-17, 1.83809354436663880070e-16, -6.05704724837331885336e-16,
          2.03870316562433424052e-15, -7.01983709041831346144e-15, 2.47715442448130437068e-14, -8.97670518232499435011e-14, 3.34841966607842919884e-13,
          -1.28917396095102890680e-12, 5.13963967348173025100e-12, -2.12996783842756842877e-11, 9.21831518760500529508e-11, -4.19035475934189648750e-10,
          2.01504975519703286596e-9, -1.03457624656780970260e-8, 5.74108412545004946722e-8, -3.50196060308781257119e-7, 2.40648494783721712015e-6,
          -1.93619797416608296024e-5, 1.95215518471351631108e-4, -2.85781685962277938680e-3, 1.03923736576817238437e-1, 2.72062619048444266945)
K_NEAR, K_FAR = (K0_NEAR, K1_NEAR), (K0_FAR, K1_FAR)


def _k(order, scaled):
    i_emit, i_oracle = _bessel(order, False)

    def emit(b, x):
        low, high = b.min(b.max(x, 1e-310), 2.0), b.max(x, 2.0)
        near = clenshaw(b, b.sub(b.mul(low, low), 2.0), K_NEAR[order])
        wave = b.mul(b.log(b.mul(low, 0.5)), i_emit(b, low))
        near = b.add(wave, b.div(near, low)) if order else b.sub(near, wave)
        far = b.div(clenshaw(b, b.sub(b.div(8.0, high), 2.0), K_FAR[order]), b.sqrt(high))
        if scaled: near = b.mul(near, b.exp(low))
        else: far = b.mul(far, b.exp(b.neg(high)))
        out = b.select(b.le(x, 2.0), near, far)
        return b.select(b.gt(x, 0.0), out, b.select(b.eq(x, 0.0), b.const(INF, x), b.const(NAN, x)))

    def oracle(x):
        if not x > 0: return INF if x == 0 else NAN
        if x <= 2:
            near, wave = _np_clenshaw(x * x - 2, K_NEAR[order]), math.log(x / 2) * float(i_oracle(x))
            return (wave + near / x if order else near - wave) * (math.exp(x) if scaled else 1)
        return _np_clenshaw(8 / x - 2, K_FAR[order]) / math.sqrt(x) * (1 if scaled else math.exp(-x))
    return emit, oracle


def _np_clenshaw(x, coefficients):
    p = q = 0.0
    a = coefficients[0]
    for c in coefficients[1:]: p, q, a = q, a, x * a - q + c
    return (a - p) / 2


modified_bessel_i0, modified_bessel_i1 = bare("modified_bessel_i0", *_bessel(0, False)), bare("modified_bessel_i1", *_bessel(1, False))
modified_bessel_k0, modified_bessel_k1 = bare("modified_bessel_k0", *_k(0, False)), bare("modified_bessel_k1", *_k(1, False))
scaled_modified_bessel_k0, scaled_modified_bessel_k1 = bare("scaled_modified_bessel_k0", *_k(0, True)), bare("scaled_modified_bessel_k1", *_k(1, True))


def _spherical(b, x):
    z = b.mul(x, x)
    series = horner(b, z, [(-1) ** k / math.factorial(2 * k + 1) for k in range(6, -1, -1)])
    out = b.select(b.lt(b.abs(x), 0.5), series, b.div(b.sin(x), x))
    return b.select(b.isinf(x), b.const(0.0, x), out)


spherical_bessel_j0 = bare("spherical_bessel_j0", _spherical, lambda x: 0.0 if math.isinf(x) else math.sin(x) / x if x else 1.0)

# ---- Ai: power series around 0, a damped wave to the left, exponential decay to the right
AI_RIGHT = ((3.46538101525629032477e-1, 1.20075952739645805542e1, 7.62796053615234516538e1, 1.68089224934630576269e2, 1.59756391350164413639e2,
             7.05360906840444183113e1, 1.40264691163389668864e1, 9.99999999999999995305e-1),
            (5.67594532638770212846e-1, 1.47562562584847203173e1, 8.45138970141474626562e1, 1.77318088145400459522e2, 1.64234692871529701831e2,
             7.14778400825575695274e1, 1.40959135607834029598e1, 1.00000000000000000470))
AI_SINE = ((-1.31696323418331795333e-1, -6.26456544431912369773e-1, -6.93158036036933542233e-1, -2.79779981545119124951e-1, -4.91900132609500318020e-2,
            -4.06265923594885404393e-3, -1.59276496239262096340e-4, -2.77649108155232920844e-6, -1.67787698489114633780e-8),
           (1.0, 1.33560420706553243746e1, 3.26825032795224613948e1, 2.67367040941499554804e1, 9.18707402907259625840, 1.47529146771666414581,
            1.15687173795188044134e-1, 4.40291641615211203805e-3, 7.54720348287414296618e-5, 4.51850092970580378464e-7))
AI_COSINE = ((1.97339932091685679179e-2, 3.91103029615688277255e-1, 1.06579897599595591108, 9.39169229816650230044e-1, 3.51465656105547619242e-1,
              6.33888919628925490927e-2, 5.85804113048388458567e-3, 2.82851600836737019778e-4, 6.98793669997260967291e-6, 8.11789239554389293311e-8,
              3.41551784765923618484e-10),
             (1.0, 9.30892908077441974853, 1.98352928718312140417e1, 1.55646628932864612953e1, 5.47686069422975497931, 9.54293611618961883998e-1,
              8.64580826352392193095e-2, 4.12656523824222607191e-3, 1.01259085116509135510e-4, 1.17166733214413521882e-6, 4.91834570062930015649e-9))
AI_0, AI_SLOPE, INVERSE_ROOT_PI = 0.355028053887817239260, 0.258819403792806798405, 5.64189583547756286948e-1
AI_SERIES = [AI_0 / math.prod((3 * i - 1) * 3 * i for i in range(1, k + 1)) for k in range(15, -1, -1)]
AI_SERIES_1 = [AI_SLOPE / math.prod(3 * i * (3 * i + 1) for i in range(1, k + 1)) for k in range(15, -1, -1)]
LEFT, RIGHT, LAST = -2.09, 2.09, 103.892


def _airy(b, x):
    middle = b.max(b.min(x, RIGHT), LEFT)
    cube = b.mul(b.mul(middle, middle), middle)
    near = b.sub(horner(b, cube, AI_SERIES), b.mul(middle, horner(b, cube, AI_SERIES_1)))
    size = b.max(b.abs(x), RIGHT)
    root = b.sqrt(size)
    zeta = b.mul(b.mul(size, root), 2 / 3)
    w, amplitude = b.div(1.0, zeta), b.div(INVERSE_ROOT_PI, b.sqrt(root))
    right = b.mul(b.mul(b.mul(fraction(b, w, *AI_RIGHT), amplitude), 0.5), b.exp(b.neg(zeta)))
    z, angle = b.mul(w, w), b.add(zeta, PI_4)
    wave = b.sub(b.mul(b.sin(angle), b.add(b.mul(z, fraction(b, z, *AI_SINE)), 1.0)), b.mul(b.cos(angle), b.mul(w, fraction(b, z, *AI_COSINE))))
    out = b.select(b.lt(x, LEFT), b.mul(amplitude, wave), b.select(b.lt(x, RIGHT), near, right))
    out = b.select(b.gt(x, LAST), b.const(0.0, x), out)
    return b.select(b.isfinite(x), out, b.const(NAN, x))


def _np_airy(x):
    if not math.isfinite(x): return NAN
    if LEFT <= x < RIGHT: return np_horner(x ** 3, AI_SERIES) - x * np_horner(x ** 3, AI_SERIES_1)
    zeta, amplitude = 2 / 3 * abs(x) ** 1.5, INVERSE_ROOT_PI / abs(x) ** 0.25
    if x > 0: return amplitude / 2 * np_fraction(1 / zeta, *AI_RIGHT) * math.exp(-zeta) if x <= LAST else 0.0
    z, angle = zeta ** -2, zeta + PI_4
    return amplitude * (math.sin(angle) * (1 + z * np_fraction(z, *AI_SINE)) - math.cos(angle) / zeta * np_fraction(z, *AI_COSINE))


airy_ai = bare("airy_ai", _airy, _np_airy)
