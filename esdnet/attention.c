/* The passes over the frames that a mixed attention unit needs (MixedAttention in blocks.py): three forward, three
 * backward. Built and called by attention.py.
 *
 * Frames x are (T, N, P, C): P pixels with their C channels side by side, C a multiple of V. w (T, N, C) are the weights
 * of steps and channels, s (N, P) those of pixels. What is summed over pixels comes in `parts` parts, one a thread.
 */
#include <math.h>
#include <stdint.h>

#if defined(__AVX512F__)
#define V 16
#elif defined(__AVX2__)
#define V 8
#else
#define V 4
#endif

typedef float vec __attribute__((vector_size(4 * V), aligned(4)));
typedef int32_t mask __attribute__((vector_size(4 * V), aligned(4)));
#define AT(p) (*(vec *)(p))
#define CONST_AT(p) (*(const vec *)(p))
#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline)) /* inlined into a parallel region it would not be vectorised */
#define RUN 32                                    /* pixels summed before the sum joins the others: rounds less */

typedef struct {
  long T, N, P, C;
} shape;

INLINE vec where(mask m, vec a) { return (vec)(m & (mask)a); }
INLINE vec larger(vec a, vec b) {
  mask m = a > b;
  return (vec)((m & (mask)a) | (~m & (mask)b));
}
INLINE float total(vec a) {
  float sum = 0;
  for (int i = 0; i < V; i++) sum += a[i];
  return sum;
}
INLINE float largest(vec a) {
  float most = a[0];
  for (int i = 1; i < V; i++) most = a[i] > most ? a[i] : most;
  return most;
}

int lanes(void) { return V; }

/* sum and max (parts, T, N, C) over pixels */
NOINLINE void pool_part(const float *restrict x, float *restrict sum, float *restrict max, shape a, long from, long to) {
  for (long f = 0; f < a.T * a.N; f++) {
    const float *frame = x + f * a.P * a.C;
    for (long c = 0; c < a.C; c += V) {
      AT(sum + f * a.C + c) = (vec){0};
      AT(max + f * a.C + c) = (vec){0} - INFINITY;
    }
    for (long first = from; first < to; first += RUN) {
      long last = first + RUN < to ? first + RUN : to;
      for (long c = 0; c < a.C; c += V) {
        vec s = {0}, m = CONST_AT(max + f * a.C + c);
        for (long p = first; p < last; p++) {
          vec v = CONST_AT(frame + p * a.C + c);
          s += v;
          m = larger(v, m);
        }
        AT(sum + f * a.C + c) += s;
        AT(max + f * a.C + c) = m;
      }
    }
  }
}

void pool(const float *x, float *sum, float *max, long T, long N, long P, long C, int parts) {
  shape a = {T, N, P, C};
#pragma omp parallel for num_threads(parts) schedule(static)
  for (int k = 0; k < parts; k++)
    pool_part(x, sum + k * T * N * C, max + k * T * N * C, a, P * k / parts, P * (k + 1) / parts);
}

/* mean and max (N, P) of x w over steps and channels */
NOINLINE void map_part(const float *restrict x, const float *restrict w, float *restrict mean, float *restrict max,
                       shape a, long from, long to) {
  for (long n = 0; n < a.N; n++)
    for (long p = from; p < to; p++) {
      vec s = {0}, m = (vec){0} - INFINITY;
      for (long t = 0; t < a.T; t++) {
        long f = t * a.N + n;
        for (long c = 0; c < a.C; c += V) {
          vec v = CONST_AT(x + (f * a.P + p) * a.C + c) * CONST_AT(w + f * a.C + c);
          s += v;
          m = larger(v, m);
        }
      }
      mean[n * a.P + p] = total(s) / (float)(a.T * a.C);
      max[n * a.P + p] = largest(m);
    }
}

void map(const float *x, const float *w, float *mean, float *max, long T, long N, long P, long C, int parts) {
  shape a = {T, N, P, C};
#pragma omp parallel for num_threads(parts) schedule(static)
  for (int k = 0; k < parts; k++) map_part(x, w, mean, max, a, P * k / parts, P * (k + 1) / parts);
}

/* out = max(x w s, 0) [+ base] */
NOINLINE void gate_part(const float *restrict x, const float *restrict w, const float *restrict s, const float *base,
                        float *out, shape a, long from, long to) {
  for (long f = 0; f < a.T * a.N; f++)
    for (long p = from; p < to; p++) {
      float here = s[f % a.N * a.P + p];
      long at = (f * a.P + p) * a.C;
      for (long c = 0; c < a.C; c += V) {
        vec v = CONST_AT(x + at + c) * CONST_AT(w + f * a.C + c) * here;
        v = where(~(v <= 0), v); /* NaN stays */
        AT(out + at + c) = base ? v + CONST_AT(base + at + c) : v;
      }
    }
}

void gate(const float *x, const float *w, const float *s, const float *base, float *out, long T, long N, long P, long C,
          int parts) {
  shape a = {T, N, P, C};
#pragma omp parallel for num_threads(parts) schedule(static)
  for (int k = 0; k < parts; k++) gate_part(x, w, s, base, out, a, P * k / parts, P * (k + 1) / parts);
}

/* From g, the gradient of out: to_s (N, P) and to_w (parts, T, N, C). And ties (parts, T, N, C): pixels that are as large
 * as the largest, max (T, N, C). */
NOINLINE void gate_back_part(const float *restrict x, const float *restrict w, const float *restrict s,
                             const float *restrict g, const float *restrict max, float *restrict to_s,
                             float *restrict to_w, float *restrict ties, shape a, long from, long to) {
  for (long n = 0; n < a.N; n++)
    for (long p = from; p < to; p++) to_s[n * a.P + p] = 0;
  for (long f = 0; f < a.T * a.N; f++) {
    float *mine = to_w + f * a.C, *same = ties + f * a.C;
    for (long c = 0; c < a.C; c += V) AT(mine + c) = AT(same + c) = (vec){0};
    for (long p = from; p < to; p++) {
      long at = (f * a.P + p) * a.C, pixel = f % a.N * a.P + p;
      vec sum = {0}, here = (vec){0} + s[pixel];
      for (long c = 0; c < a.C; c += V) {
        vec v = CONST_AT(x + at + c), weighted = v * CONST_AT(w + f * a.C + c);
        vec passed = where(weighted * here > 0, CONST_AT(g + at + c));
        AT(mine + c) += passed * v * here;
        AT(same + c) += where(v == CONST_AT(max + f * a.C + c), (vec){0} + 1);
        sum += passed * weighted;
      }
      to_s[pixel] += total(sum);
    }
  }
}

void gate_back(const float *x, const float *w, const float *s, const float *g, const float *max, float *to_s, float *to_w,
               float *ties, long T, long N, long P, long C, int parts) {
  shape a = {T, N, P, C};
#pragma omp parallel for num_threads(parts) schedule(static)
  for (int k = 0; k < parts; k++)
    gate_back_part(x, w, s, g, max, to_s, to_w + k * T * N * C, ties + k * T * N * C, a, P * k / parts,
                   P * (k + 1) / parts);
}

/* From the gradients of mean and max (N, P): to_w (parts, T, N, C). That of the largest is shared among the equals: what
 * each of them has comes back in its place. */
NOINLINE void map_back_part(const float *restrict x, const float *restrict w, const float *restrict max,
                            const float *restrict to_mean, float *restrict to_max, float *restrict to_w, shape a,
                            long from, long to) {
  for (long i = 0; i < a.T * a.N * a.C; i++) to_w[i] = 0;
  for (long n = 0; n < a.N; n++)
    for (long p = from; p < to; p++) {
      long pixel = n * a.P + p;
      vec count = {0}, most = (vec){0} + max[pixel];
      for (long t = 0; t < a.T; t++)
        for (long c = 0; c < a.C; c += V) {
          long f = t * a.N + n;
          vec v = CONST_AT(x + (f * a.P + p) * a.C + c) * CONST_AT(w + f * a.C + c);
          count += where(v == most, (vec){0} + 1);
        }
      float equals = total(count);
      to_max[pixel] /= equals > 0 ? equals : 1;
      vec even = (vec){0} + to_mean[pixel] / (float)(a.T * a.C), share = (vec){0} + to_max[pixel];
      for (long t = 0; t < a.T; t++)
        for (long c = 0; c < a.C; c += V) {
          long f = t * a.N + n;
          vec value = CONST_AT(x + (f * a.P + p) * a.C + c), v = value * CONST_AT(w + f * a.C + c);
          AT(to_w + f * a.C + c) += value * (even + where(v == most, share));
        }
    }
}

void map_back(const float *x, const float *w, const float *max, const float *to_mean, float *to_max, float *to_w, long T,
              long N, long P, long C, int parts) {
  shape a = {T, N, P, C};
#pragma omp parallel for num_threads(parts) schedule(static)
  for (int k = 0; k < parts; k++)
    map_back_part(x, w, max, to_mean, to_max, to_w + k * T * N * C, a, P * k / parts, P * (k + 1) / parts);
}

/* Gradient of x from all: through the gate from g, through the maps from to_mean and to_map_max (N, P), through the pools
 * from `each` (T, N, C), what every pixel gets, and `top`, what the largest get. */
NOINLINE void finish_part(const float *restrict x, const float *restrict w, const float *restrict s,
                          const float *restrict g, const float *restrict map_max, const float *restrict to_mean,
                          const float *restrict to_map_max, const float *restrict max, const float *restrict each,
                          const float *restrict top, float *restrict out, shape a, long from, long to) {
  for (long f = 0; f < a.T * a.N; f++)
    for (long p = from; p < to; p++) {
      long at = (f * a.P + p) * a.C, pixel = f % a.N * a.P + p, here = f * a.C;
      float even = to_mean[pixel] / (float)(a.T * a.C);
      vec most = (vec){0} + map_max[pixel], share = (vec){0} + to_map_max[pixel];
      for (long c = 0; c < a.C; c += V) {
        vec value = CONST_AT(x + at + c), weight = CONST_AT(w + here + c), v = value * weight;
        vec sum = where(v * s[pixel] > 0, CONST_AT(g + at + c) * s[pixel]) + even + where(v == most, share);
        AT(out + at + c) =
            sum * weight + CONST_AT(each + here + c) + where(value == CONST_AT(max + here + c), CONST_AT(top + here + c));
      }
    }
}

void finish(const float *x, const float *w, const float *s, const float *g, const float *map_max, const float *to_mean,
            const float *to_map_max, const float *max, const float *each, const float *top, float *out, long T, long N,
            long P, long C, int parts) {
  shape a = {T, N, P, C};
#pragma omp parallel for num_threads(parts) schedule(static)
  for (int k = 0; k < parts; k++)
    finish_part(x, w, s, g, map_max, to_mean, to_map_max, max, each, top, out, a, P * k / parts, P * (k + 1) / parts);
}
