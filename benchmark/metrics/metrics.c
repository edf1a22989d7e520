/* The luma of 8-bit pictures and the mean of the structural similarity map of two lumas, in float64. Built by
 * esdnet/native.py, called by metrics.py.
 *
 * Lumas are those of torch's operations to the last bit, and two identical pictures have a similarity of exactly 1, as
 * long as no multiplication shares its rounding with an addition (-ffp-contract=off).
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

__attribute__((always_inline)) static inline void luma_of_row(const uint8_t *r, const uint8_t *g, const uint8_t *b,
                                                              long apart, double *restrict out, long width) {
  for (long x = 0; x < width; x++)
    out[x] = (r[x * apart] * 65.481 + g[x * apart] * 128.553 + b[x * apart] * 24.966) / 255 + 16;
}

/* Y of one picture, dense; its channels, rows and pixels are so many bytes apart */
void luma(const uint8_t *picture, long channel, long row, long pixel, double *out, long height, long width) {
  for (long y = 0; y < height; y++) {
    const uint8_t *r = picture + y * row, *g = r + channel, *b = g + channel;
    if (pixel == 3) /* as files hold it, a case of its own: only then is it vectorised */
      luma_of_row(r, g, b, 3, out + y * width, width);
    else
      luma_of_row(r, g, b, pixel, out + y * width, width);
  }
}

enum { WINDOW = 11, HALF = WINDOW / 2, MAPS = 4, LANES = 8 };

/* out[x] = the weighted mean of rows[0][x] … rows[10][x]; weights from the edge of the window to its centre */
static void weigh(const double *const *rows, double *restrict out, long n, const double *weights) {
  const double *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3], *r4 = rows[4], *r5 = rows[5];
  const double *r6 = rows[6], *r7 = rows[7], *r8 = rows[8], *r9 = rows[9], *r10 = rows[10];
  const double w0 = weights[0], w1 = weights[1], w2 = weights[2], w3 = weights[3], w4 = weights[4], w5 = weights[5];
  for (long x = 0; x < n; x++)
    out[x] = w5 * r5[x] + w0 * (r0[x] + r10[x]) + w1 * (r1[x] + r9[x]) + w2 * (r2[x] + r8[x]) +
             w3 * (r3[x] + r7[x]) + w4 * (r4[x] + r6[x]);
}

/* One row of the map after the other: the last 11 rows of a² + b² and ab are kept, the four maps that the formula needs
 * are filtered down, then across, and only their row's sum is left. The whole stays in the first caches.
 *
 * Pictures of height × width, both at least 11, rows `stride_a` and `stride_b` values apart. NaN: no memory.
 */
double mean_similarity(const double *a, const double *b, long stride_a, long stride_b, long height, long width,
                       const double *weights, double c1, double c2) {
  long wide = width - WINDOW + 1;
  double *work = malloc(sizeof(double) * width * (2 * WINDOW + 2 * MAPS));
  if (!work) return NAN;
  double *squares = work, *products = work + WINDOW * width, *down = products + WINDOW * width;
  double *across = down + MAPS * width;
  double total = 0;
  for (long y = 0; y < height; y++) {
    const double *now_a = a + y * stride_a, *now_b = b + y * stride_b;
    double *restrict square = squares + y % WINDOW * width, *restrict product = products + y % WINDOW * width;
    for (long x = 0; x < width; x++) {
      square[x] = now_a[x] * now_a[x] + now_b[x] * now_b[x];
      product[x] = now_a[x] * now_b[x];
    }
    if (y < WINDOW - 1) continue;
    const double *rows[MAPS][WINDOW];
    for (long k = 0; k < WINDOW; k++) {
      long row = y - WINDOW + 1 + k;
      rows[0][k] = a + row * stride_a;
      rows[1][k] = b + row * stride_b;
      rows[2][k] = squares + row % WINDOW * width;
      rows[3][k] = products + row % WINDOW * width;
    }
    for (int m = 0; m < MAPS; m++) {
      weigh(rows[m], down + m * width, width, weights);
      const double *shifted[WINDOW];
      for (int k = 0; k < WINDOW; k++) shifted[k] = down + m * width + k;
      weigh(shifted, across + m * width, wide, weights);
    }
    const double *mean_a = across, *mean_b = across + width, *mean_square = across + 2 * width;
    const double *mean_product = across + 3 * width;
    double *restrict similarity = down;
    for (long x = 0; x < wide; x++) {
      double both = mean_a[x] * mean_b[x], energy = mean_a[x] * mean_a[x] + mean_b[x] * mean_b[x];
      similarity[x] = (2 * both + c1) * (2 * (mean_product[x] - both) + c2) /
                      ((energy + c1) * (mean_square[x] - energy + c2));
    }
    double sums[LANES] = {0};
    long x = 0;
    for (; x + LANES <= wide; x += LANES)
      for (int lane = 0; lane < LANES; lane++) sums[lane] += similarity[x + lane];
    for (; x < wide; x++) sums[0] += similarity[x];
    for (int lane = 0; lane < LANES; lane++) total += sums[lane];
  }
  free(work);
  return total / ((double)wide * (double)(height - WINDOW + 1));
}
