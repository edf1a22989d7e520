/* Leaky integrate-and-fire over a whole sequence: one pass forward, one backward. Built and called by native.py.
 *
 * Arrays are (T, n): `T` steps of `n` neurons, the neurons of a step side by side. The input's steps are `stride`
 * elements apart (0: the same one T times). `beta` and `theta` are one number (`each` = 0) or n of them.
 *
 * A block of neurons is taken through all steps before the next, so that everything but input and output stays in
 * registers and the first cache. Each operation rounds to the array's type, in the order of snntorch.Leaky: the
 * spikes are its own bit for bit. That needs a compiler that neither contracts a·b + c into one rounding nor
 * re-orders (-ffp-contract=off, no -ffast-math).
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 64
enum { ZERO, SUBTRACT, NONE };
enum { SIGMOID, ATAN, FAST_SIGMOID };

#define INLINE static inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline)) /* inlined into a parallel region it would not be vectorised */

/* Gradients may round once for a product and a sum, where the machine can; membranes may not. */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define FUSED(a, b, c) __builtin_choose_expr(sizeof(a) == 4, __builtin_fmaf(a, b, c), __builtin_fma(a, b, c))
#else
#define FUSED(a, b, c) ((a) * (b) + (c))
#endif

/* e^x for x <= 0, to two units in the last place: 2^k times a polynomial on |r| <= ln 2 / 2. Written out, because
 * the library's is not vectorised. */
INLINE float exp_float(float x) {
  x = x < -87.0f ? -87.0f : x;
  float shifted = FUSED(x, 1.44269504f, 12582912.0f), k = shifted - 12582912.0f; /* nearest integer */
  float r = FUSED(k, 2.12194440e-4f, FUSED(k, -0.693359375f, x));
  float p = 1.0f / 720;
  p = FUSED(p, r, 1.0f / 120);
  p = FUSED(p, r, 1.0f / 24);
  p = FUSED(p, r, 1.0f / 6);
  p = FUSED(p, r, 0.5f);
  p = FUSED(p, r, 1.0f);
  p = FUSED(p, r, 1.0f);
  uint32_t bits;
  memcpy(&bits, &shifted, 4);
  bits = (bits + 127) << 23; /* its last bits are k */
  float scale;
  memcpy(&scale, &bits, 4);
  return p * scale;
}

INLINE float from_bfloat16(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

/* to the nearest, halves to even; NaN stays one */
INLINE uint16_t to_bfloat16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return (uint16_t)(x != x ? 0x7fc0 : rounded);
}

/* where the k-th of `parts` parts of n neurons starts: at a block */
INLINE long part(long n, int k, int parts) {
  long blocks = (n + BLOCK - 1) / BLOCK, start = blocks * k / parts * BLOCK;
  return start < n ? start : n;
}

/* For each type: S is stored, R computed with; LOAD and STORE convert, ROUND(x) is an R that S can hold. */
#define KERNELS(NAME, S, R, LOAD, STORE, ROUND, EXP, FABS)                                                            \
  /* membranes of one block, `width` neurons, and their spikes if asked for */                                        \
  INLINE void NAME##_integrate(const S *restrict x, R *restrict h, S *restrict s, long n, long stride, long T,        \
                               const R *beta, const R *theta, int reset, int width) {                                 \
    R v[BLOCK], f[BLOCK];                                                                                             \
    for (int j = 0; j < width; j++) {                                                                                 \
      v[j] = LOAD(x[j]);                                                                                              \
      f[j] = v[j] >= theta[j] ? (R)1 : (R)0;                                                                          \
      if (h) h[j] = v[j];                                                                                             \
      if (s) s[j] = STORE(f[j]);                                                                                      \
    }                                                                                                                 \
    for (long t = 1; t < T; t++) {                                                                                    \
      const S *now = x + t * stride;                                                                                  \
      R *membrane = h ? h + t * BLOCK : h;                                                                            \
      S *spikes = s ? s + t * n : s;                                                                                  \
      for (int j = 0; j < width; j++) {                                                                               \
        R a = reset == ZERO ? ROUND(((R)1 - f[j]) * v[j]) : v[j];                                                     \
        a = ROUND(a * beta[j]);                                                                                       \
        a = ROUND(a + LOAD(now[j]));                                                                                  \
        if (reset == SUBTRACT) a = ROUND(a - f[j] * theta[j]);                                                        \
        v[j] = a;                                                                                                     \
        f[j] = a >= theta[j] ? (R)1 : (R)0;                                                                           \
        if (membrane) membrane[j] = a;                                                                                \
        if (spikes) spikes[j] = STORE(f[j]);                                                                          \
      }                                                                                                               \
    }                                                                                                                 \
  }                                                                                                                   \
                                                                                                                      \
  INLINE void NAME##_constants(R *b, R *th, const S *beta, const S *theta, int each, long i, int width) {             \
    for (int j = 0; j < width; j++) {                                                                                 \
      b[j] = LOAD(beta[each ? i + j : 0]);                                                                            \
      th[j] = LOAD(theta[each ? i + j : 0]);                                                                          \
    }                                                                                                                 \
  }                                                                                                                   \
                                                                                                                      \
  INLINE void NAME##_forward_as(const S *restrict x, S *restrict s, long from, long to, long n, long stride, long T,  \
                                const S *beta, const S *theta, int each, int reset) {                                 \
    R b[BLOCK], th[BLOCK];                                                                                            \
    for (long i = from; i < to; i += BLOCK) {                                                                         \
      int width = to - i < BLOCK ? (int)(to - i) : BLOCK;                                                             \
      if (i == from || each) NAME##_constants(b, th, beta, theta, each, i, width);                                    \
      if (width == BLOCK)                                                                                             \
        NAME##_integrate(x + i, 0, s + i, n, stride, T, b, th, reset, BLOCK);                                         \
      else                                                                                                            \
        NAME##_integrate(x + i, 0, s + i, n, stride, T, b, th, reset, width);                                         \
    }                                                                                                                 \
  }                                                                                                                   \
                                                                                                                      \
  static NOINLINE void NAME##_forward_some(const S *restrict x, S *restrict s, long from, long to, long n,            \
                                           long stride, long T, const S *beta, const S *theta, int each,              \
                                           int reset) {                                                               \
    if (reset == ZERO)                                                                                                \
      NAME##_forward_as(x, s, from, to, n, stride, T, beta, theta, each, ZERO);                                       \
    else if (reset == SUBTRACT)                                                                                       \
      NAME##_forward_as(x, s, from, to, n, stride, T, beta, theta, each, SUBTRACT);                                   \
    else                                                                                                              \
      NAME##_forward_as(x, s, from, to, n, stride, T, beta, theta, each, NONE);                                       \
  }                                                                                                                   \
                                                                                                                      \
  void NAME##_forward(const S *x, S *s, long n, long stride, long T, const S *beta, const S *theta, int each,         \
                      int reset, int threads) {                                                                       \
    _Pragma("omp parallel for num_threads(threads) schedule(static)")                                                 \
    for (int k = 0; k < threads; k++)                                                                                 \
      NAME##_forward_some(x, s, part(n, k, threads), part(n, k + 1, threads), n, stride, T, beta, theta, each, reset);\
  }                                                                                                                   \
                                                                                                                      \
  INLINE R NAME##_slope(R distance, R alpha, int surrogate) {                                                         \
    if (surrogate == SIGMOID) {                                                                                       \
      R e = EXP(-FABS(alpha * distance));                                                                             \
      return alpha * e / ((1 + e) * (1 + e));                                                                         \
    }                                                                                                                 \
    if (surrogate == ATAN) {                                                                                          \
      R a = (R)1.57079632679489662 * alpha * distance;                                                                \
      return alpha / 2 / (1 + a * a);                                                                                 \
    }                                                                                                                 \
    R a = 1 + alpha * FABS(distance);                                                                                 \
    return 1 / (a * a);                                                                                               \
  }                                                                                                                   \
                                                                                                                      \
  /* the recursions stand at _LeakySpikes.backward in kernels.py */                                                   \
  INLINE void NAME##_differentiate(const S *restrict g, S *restrict out, R *restrict to_beta, R *restrict to_theta,   \
                                   const R *restrict h, long n, long T, const R *beta, const R *theta, R alpha,       \
                                   int reset, int surrogate, int detach, int width) {                                 \
    R later[BLOCK], db[BLOCK], dt[BLOCK];                                                                             \
    for (int j = 0; j < width; j++) later[j] = db[j] = dt[j] = 0;                                                     \
    for (long t = T - 1; t >= 0; t--) {                                                                               \
      const R *membrane = h + t * BLOCK;                                                                              \
      const S *arriving = g + t * n;                                                                                  \
      S *leaving = out + t * n;                                                                                       \
      for (int j = 0; j < width; j++) {                                                                               \
        R v = t < T - 1 ? membrane[j] : (R)0; /* nothing to carry yet, and 0 times infinity is not 0 */               \
        R carried = later[j] * beta[j], e = LOAD(arriving[j]);                                                        \
        R silent = membrane[j] >= theta[j] ? (R)0 : (R)1;                                                             \
        R kept = reset == ZERO ? silent : (R)1;                                                                       \
        if (!detach && reset == ZERO) e = FUSED(-carried, v, e);                                                      \
        if (!detach && reset == SUBTRACT) e = FUSED(-later[j], theta[j], e);                                          \
        R fired = e * NAME##_slope(membrane[j] - theta[j], alpha, surrogate);                                         \
        if (to_theta) dt[j] -= fired;                                                                                 \
        if (to_theta && reset == SUBTRACT) dt[j] -= later[j] * (1 - silent);                                          \
        if (to_beta) db[j] = FUSED(later[j], kept * v, db[j]);                                                        \
        later[j] = FUSED(carried, kept, fired);                                                                       \
        leaving[j] = STORE(later[j]);                                                                                 \
      }                                                                                                               \
    }                                                                                                                 \
    if (to_beta)                                                                                                      \
      for (int j = 0; j < width; j++) to_beta[j] = db[j];                                                             \
    if (to_theta)                                                                                                     \
      for (int j = 0; j < width; j++) to_theta[j] = dt[j];                                                            \
  }                                                                                                                   \
                                                                                                                      \
  INLINE void NAME##_backward_as(const S *restrict x, const S *restrict g, S *restrict out, R *to_beta, R *to_theta,  \
                                 R *restrict h, long from, long to, long n, long stride, long T, const S *beta,       \
                                 const S *theta, int each, R alpha, int reset, int surrogate, int detach) {           \
    R b[BLOCK], th[BLOCK];                                                                                            \
    for (long i = from; i < to; i += BLOCK) {                                                                         \
      int width = to - i < BLOCK ? (int)(to - i) : BLOCK;                                                             \
      R *db = to_beta ? to_beta + i : 0, *dt = to_theta ? to_theta + i : 0;                                           \
      if (i == from || each) NAME##_constants(b, th, beta, theta, each, i, width);                                    \
      if (width == BLOCK) {                                                                                           \
        NAME##_integrate(x + i, h, 0, n, stride, T, b, th, reset, BLOCK);                                             \
        NAME##_differentiate(g + i, out + i, db, dt, h, n, T, b, th, alpha, reset, surrogate, detach, BLOCK);         \
      } else {                                                                                                        \
        NAME##_integrate(x + i, h, 0, n, stride, T, b, th, reset, width);                                             \
        NAME##_differentiate(g + i, out + i, db, dt, h, n, T, b, th, alpha, reset, surrogate, detach, width);         \
      }                                                                                                               \
    }                                                                                                                 \
  }                                                                                                                   \
                                                                                                                      \
  static NOINLINE int NAME##_backward_some(const S *restrict x, const S *restrict g, S *restrict out, R *to_beta,     \
                                           R *to_theta, long from, long to, long n, long stride, long T,              \
                                           const S *beta, const S *theta, int each, R alpha, int reset,               \
                                           int surrogate, int detach) {                                               \
    R *h = malloc(sizeof(R) * BLOCK * (size_t)T);                                                                     \
    if (!h) return 1;                                                                                                 \
    if (reset == ZERO && surrogate == SIGMOID && !detach && !to_beta && !to_theta) /* ESDNet's, a case of its own */  \
      NAME##_backward_as(x, g, out, 0, 0, h, from, to, n, stride, T, beta, theta, each, alpha, ZERO, SIGMOID, 0);     \
    else                                                                                                              \
      NAME##_backward_as(x, g, out, to_beta, to_theta, h, from, to, n, stride, T, beta, theta, each, alpha, reset,    \
                         surrogate, detach);                                                                          \
    free(h);                                                                                                          \
    return 0;                                                                                                         \
  }                                                                                                                   \
                                                                                                                      \
  /* 1: no memory for the membranes of a block */                                                                     \
  int NAME##_backward(const S *x, const S *g, S *out, R *to_beta, R *to_theta, long n, long stride, long T,           \
                      const S *beta, const S *theta, int each, double alpha, int reset, int surrogate, int detach,    \
                      int threads) {                                                                                  \
    int failed = 0;                                                                                                   \
    _Pragma("omp parallel for num_threads(threads) schedule(static) reduction(| : failed)")                           \
    for (int k = 0; k < threads; k++)                                                                                 \
      failed |= NAME##_backward_some(x, g, out, to_beta, to_theta, part(n, k, threads), part(n, k + 1, threads), n,   \
                                     stride, T, beta, theta, each, (R)alpha, reset, surrogate, detach);               \
    return failed;                                                                                                    \
  }

#define SAME(x) (x)
#ifdef FLOAT32
KERNELS(float32, float, float, SAME, SAME, SAME, exp_float, fabsf)
#endif
#ifdef FLOAT64
KERNELS(float64, double, double, SAME, SAME, SAME, exp, fabs)
#endif
#ifdef BFLOAT16
#define ROUND_BFLOAT16(x) from_bfloat16(to_bfloat16(x))
KERNELS(bfloat16, uint16_t, float, from_bfloat16, to_bfloat16, ROUND_BFLOAT16, exp_float, fabsf)
#endif
#ifdef FLOAT16
#define WIDEN(x) ((float)(x))
#define NARROW(x) ((_Float16)(x))
#define ROUND_HALF(x) ((float)(_Float16)(x))
KERNELS(float16, _Float16, float, WIDEN, NARROW, ROUND_HALF, exp_float, fabsf)
#endif
