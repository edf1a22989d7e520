/* Leaky integrate-and-fire over a whole sequence: one pass forward, one backward. Built and called by native.py.
 *
 * Arrays are (T, n): `T` steps of `n` neurons, the neurons of a step side by side. The input's steps are `stride`
 * elements apart (0: the same one T times). `beta` and `theta` are one number (`each` = 0) or n of them.
 *
 * Neurons are taken in blocks, so that everything but input and output stays in the first cache. Each operation
 * rounds to the array's type, in the order of snntorch.Leaky: the spikes are its own bit for bit. That needs a compiler
 * that neither contracts a·b + c into one rounding nor re-orders (-ffp-contract=off, no -ffast-math).
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 128   /* neurons */
#define BACKWARD 64 /* the same in the backward pass, which keeps T membranes of each */
#define ALIGNED 64  /* bytes of a vector */
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

/* The forward pass takes step t of one block together with step t - 1 of the next, and so on: all steps of one and the
 * same block would lie in the same few places of the first cache where a step is a power of two large. The backward
 * pass, where arithmetic takes the time, takes one block through all steps and back.
 *
 * For each type: S is stored, R computed with; LOAD and STORE convert, ROUND(x) is an R that S can hold.
 */
#define KERNELS(NAME, S, R, LOAD, STORE, ROUND, EXP, FABS)                                                            \
  /* one step of `width` neurons: their membranes, and their spikes if asked for; `now` may be `before` */            \
  INLINE void NAME##_step(const S *restrict x, S *restrict s, const R *before, R *now, const R *beta, const R *theta, \
                          int one, int first, int reset, int width) {                                                 \
    _Pragma("GCC ivdep")                                                                                              \
    for (int j = 0; j < width; j++) {                                                                                 \
      R a = LOAD(x[j]), threshold = theta[one ? 0 : j];                                                               \
      if (!first) {                                                                                                   \
        R fired = before[j] >= threshold ? (R)1 : (R)0;                                                               \
        R kept = reset == ZERO ? ROUND(((R)1 - fired) * before[j]) : before[j];                                       \
        a = ROUND(ROUND(kept * beta[one ? 0 : j]) + a);                                                               \
        if (reset == SUBTRACT) a = ROUND(a - fired * threshold);                                                      \
      }                                                                                                               \
      now[j] = a;                                                                                                     \
      if (s) s[j] = STORE(a >= threshold ? (R)1 : (R)0);                                                              \
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
  /* `v`: membranes of `ring` blocks, a power of two and no less than T */                                            \
  INLINE void NAME##_forward_as(const S *restrict x, S *restrict s, R *restrict v, long ring, long from, long to,     \
                                long n, long stride, long T, const S *beta, const S *theta, int each, int one,        \
                                int reset) {                                                                          \
    R b[BLOCK], th[BLOCK];                                                                                            \
    long blocks = (to - from + BLOCK - 1) / BLOCK;                                                                    \
    for (long wave = 0; wave < blocks + T - 1; wave++)                                                                \
      for (long t = wave < blocks ? 0 : wave - blocks + 1; t < T && t <= wave; t++) {                                 \
        long i = from + (wave - t) * BLOCK;                                                                           \
        int width = to - i < BLOCK ? (int)(to - i) : BLOCK;                                                           \
        const S *now = x + t * stride + i;                                                                            \
        S *spikes = s + t * n + i;                                                                                    \
        R *membrane = v + ((wave - t) & (ring - 1)) * BLOCK;                                                          \
        if (each || wave == 0) NAME##_constants(b, th, beta, theta, each, i, width);                                  \
        if (width < BLOCK)                                                                                            \
          NAME##_step(now, spikes, membrane, membrane, b, th, one, t == 0, reset, width);                             \
        else if (t == 0)                                                                                              \
          NAME##_step(now, spikes, membrane, membrane, b, th, one, 1, reset, BLOCK);                                  \
        else                                                                                                          \
          NAME##_step(now, spikes, membrane, membrane, b, th, one, 0, reset, BLOCK);                                  \
      }                                                                                                               \
  }                                                                                                                   \
                                                                                                                      \
  static NOINLINE int NAME##_forward_some(const S *restrict x, S *restrict s, long from, long to, long n,             \
                                          long stride, long T, const S *beta, const S *theta, int each,               \
                                          int reset) {                                                                \
    long ring = 1;                                                                                                    \
    while (ring < T) ring *= 2;                                                                                       \
    R *v = aligned_alloc(ALIGNED, sizeof(R) * BLOCK * (size_t)ring);                                                  \
    if (!v) return 1;                                                                                                 \
    if (reset == ZERO && !each) /* ESDNet's, a case of its own */                                                     \
      NAME##_forward_as(x, s, v, ring, from, to, n, stride, T, beta, theta, 0, 1, ZERO);                              \
    else if (reset == ZERO)                                                                                           \
      NAME##_forward_as(x, s, v, ring, from, to, n, stride, T, beta, theta, each, 0, ZERO);                           \
    else if (reset == SUBTRACT)                                                                                       \
      NAME##_forward_as(x, s, v, ring, from, to, n, stride, T, beta, theta, each, 0, SUBTRACT);                       \
    else                                                                                                              \
      NAME##_forward_as(x, s, v, ring, from, to, n, stride, T, beta, theta, each, 0, NONE);                           \
    free(v);                                                                                                          \
    return 0;                                                                                                         \
  }                                                                                                                   \
                                                                                                                      \
  /* 1: no memory for the membranes of T blocks */                                                                    \
  int NAME##_forward(const S *x, S *s, long n, long stride, long T, const S *beta, const S *theta, int each,          \
                     int reset, int threads) {                                                                        \
    int failed = 0;                                                                                                   \
    _Pragma("omp parallel for num_threads(threads) schedule(static) reduction(| : failed)")                           \
    for (int k = 0; k < threads; k++)                                                                                 \
      failed |= NAME##_forward_some(x, s, part(n, k, threads), part(n, k + 1, threads), n, stride, T, beta, theta,    \
                                    each, reset);                                                                     \
    return failed;                                                                                                    \
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
    R later[BACKWARD], db[BACKWARD], dt[BACKWARD];                                                                    \
    for (int j = 0; j < width; j++) later[j] = db[j] = dt[j] = 0;                                                     \
    for (long t = T - 1; t >= 0; t--) {                                                                               \
      const R *membrane = h + t * BACKWARD;                                                                           \
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
  INLINE void NAME##_backward_block(const S *restrict x, const S *restrict g, S *restrict out, R *to_beta,            \
                                    R *to_theta, R *restrict h, long n, long stride, long T, const R *beta,           \
                                    const R *theta, R alpha, int reset, int surrogate, int detach, int width) {       \
    NAME##_step(x, (S *)0, h, h, beta, theta, 0, 1, reset, width);                                                    \
    for (long t = 1; t < T; t++) {                                                                                    \
      R *before = h + (t - 1) * BACKWARD;                                                                             \
      NAME##_step(x + t * stride, (S *)0, before, before + BACKWARD, beta, theta, 0, 0, reset, width);                \
    }                                                                                                                 \
    NAME##_differentiate(g, out, to_beta, to_theta, h, n, T, beta, theta, alpha, reset, surrogate, detach, width);    \
  }                                                                                                                   \
                                                                                                                      \
  INLINE void NAME##_backward_as(const S *restrict x, const S *restrict g, S *restrict out, R *to_beta, R *to_theta,  \
                                 R *restrict h, long from, long to, long n, long stride, long T, const S *beta,       \
                                 const S *theta, int each, R alpha, int reset, int surrogate, int detach) {           \
    R b[BACKWARD], th[BACKWARD];                                                                                      \
    for (long i = from; i < to; i += BACKWARD) {                                                                      \
      int width = to - i < BACKWARD ? (int)(to - i) : BACKWARD;                                                       \
      R *db = to_beta ? to_beta + i : 0, *dt = to_theta ? to_theta + i : 0;                                           \
      if (i == from || each) NAME##_constants(b, th, beta, theta, each, i, width);                                    \
      if (width == BACKWARD)                                                                                          \
        NAME##_backward_block(x + i, g + i, out + i, db, dt, h, n, stride, T, b, th, alpha, reset, surrogate, detach, \
                              BACKWARD);                                                                              \
      else                                                                                                            \
        NAME##_backward_block(x + i, g + i, out + i, db, dt, h, n, stride, T, b, th, alpha, reset, surrogate, detach, \
                              width);                                                                                 \
    }                                                                                                                 \
  }                                                                                                                   \
                                                                                                                      \
  static NOINLINE int NAME##_backward_some(const S *restrict x, const S *restrict g, S *restrict out, R *to_beta,     \
                                           R *to_theta, long from, long to, long n, long stride, long T,              \
                                           const S *beta, const S *theta, int each, R alpha, int reset,               \
                                           int surrogate, int detach) {                                               \
    R *h = malloc(sizeof(R) * BACKWARD * (size_t)T);                                                                  \
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
