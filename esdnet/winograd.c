/* 3×3 convolutions, stride 1, padding 1, by Winograd's F(2×2, 3×3): 16 multiplications for 4 outputs and not 36 (Lavin
 * and Gray, CVPR 2016). Built and called by native.py.
 *
 * Images are (N, H, W, channels). Weights come transformed: u is (16, in, out). Both must be multiples of V. The
 * transforms that F(2×2, 3×3) needs have coefficients 0, ±1 and ½, so its rounding is no worse than that of the direct sum
 * (larger tiles would save more multiplications and round worse, which a spiking network shows).
 */
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define V 16
#define MR 8
#elif defined(__AVX2__)
#define V 8
#define MR 4
#else
#define V 4
#define MR 4
#endif

typedef float vec __attribute__((vector_size(4 * V), aligned(4)));
#define AT(p) (*(vec *)(p))
#define CONST_AT(p) (*(const vec *)(p))
#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline))

typedef struct {
  long N, H, W;
} shape;

/* c (rows, columns) = [c +] a (rows, depth) b (depth, columns), for MR rows and `wide` vectors of columns */
INLINE void tile_product(const float *a, long row, long step, const float *b, float *c, long depth, long columns,
                         int wide, int add) {
  vec sum[MR][3];
  for (int i = 0; i < MR; i++)
    for (int j = 0; j < wide; j++) sum[i][j] = add ? AT(c + i * columns + j * V) : (vec){0};
  for (long k = 0; k < depth; k++) {
    vec right[3];
    for (int j = 0; j < wide; j++) right[j] = CONST_AT(b + k * columns + j * V);
    for (int i = 0; i < MR; i++)
      for (int j = 0; j < wide; j++) sum[i][j] += right[j] * a[i * row + k * step];
  }
  for (int i = 0; i < MR; i++)
    for (int j = 0; j < wide; j++) AT(c + i * columns + j * V) = sum[i][j];
}

/* `rows` is a multiple of MR, `columns` of V */
INLINE void product(const float *a, long row, long step, const float *b, float *c, long rows, long depth,
                    long columns, int add) {
  for (long j = 0; j < columns; j += 3 * V) {
    int wide = columns - j < 3 * V ? (int)((columns - j) / V) : 3;
    for (long i = 0; i < rows; i += MR) {
      const float *left = a + i * row, *right = b + j;
      float *to = c + i * columns + j;
      if (wide == 3)
        tile_product(left, row, step, right, to, depth, columns, 3, add);
      else if (wide == 2)
        tile_product(left, row, step, right, to, depth, columns, 2, add);
      else
        tile_product(left, row, step, right, to, depth, columns, 1, add);
    }
  }
}

NOINLINE void times(const float *a, const float *b, float *c, long rows, long depth, long columns) {
  product(a, depth, 1, b, c, rows, depth, columns, 0);
}

NOINLINE void add_transposed_times(const float *a, const float *b, float *c, long rows, long depth, long columns) {
  product(a, 1, rows, b, c, rows, depth, columns, 1);
}

/* where tile `index` begins: its image, row and column */
INLINE void place(shape s, long index, long *n, long *top, long *left) {
  long across = (s.W + 1) / 2, down = (s.H + 1) / 2;
  *n = index / (across * down);
  *top = index / across % down * 2;
  *left = index % across * 2;
}

/* v (16, tiles, C) = Bᵀ d B of each 4×4 square d */
NOINLINE void transform_input(const float *restrict x, float *restrict v, shape s, long C, long first, long tiles,
                              long rows, const float *zeros) {
  for (long p = 0; p < tiles; p++) {
    const float *from[16];
    long n, top, left;
    place(s, first + p, &n, &top, &left);
    for (int i = 0; i < 16; i++) {
      long h = top - 1 + i / 4, w = left - 1 + i % 4;
      from[i] = h < 0 || w < 0 || h >= s.H || w >= s.W ? zeros : x + ((n * s.H + h) * s.W + w) * C;
    }
    for (long c = 0; c < C; c += V) {
      vec d[4][4], t[4][4];
      for (int i = 0; i < 16; i++) d[i / 4][i % 4] = CONST_AT(from[i] + c);
      for (int j = 0; j < 4; j++) {
        t[0][j] = d[0][j] - d[2][j];
        t[1][j] = d[1][j] + d[2][j];
        t[2][j] = d[2][j] - d[1][j];
        t[3][j] = d[1][j] - d[3][j];
      }
      float *to = v + p * C + c;
      for (int i = 0; i < 4; i++, to += 4 * rows * C) {
        AT(to) = t[i][0] - t[i][2];
        AT(to + rows * C) = t[i][1] + t[i][2];
        AT(to + 2 * rows * C) = t[i][2] - t[i][1];
        AT(to + 3 * rows * C) = t[i][1] - t[i][3];
      }
    }
  }
}

/* a product that has been rounded before anything is added to it, as torch rounds it */
#if defined(__x86_64__)
#define ROUNDED(a) __asm__("" : "+v"(a))
#elif defined(__aarch64__)
#define ROUNDED(a) __asm__("" : "+w"(a))
#else
#define ROUNDED(a) __asm__("" : "+m"(a))
#endif

/* y = Aᵀ m A of each square m (16, tiles, K), times scale and plus shift where they are given, on top of y if `add` */
NOINLINE void transform_output(const float *restrict m, float *restrict y, shape s, long K, long first, long tiles,
                               long rows, const float *scale, const float *shift, int add) {
  for (long p = 0; p < tiles; p++) {
    long n, top, left;
    place(s, first + p, &n, &top, &left);
    for (long k = 0; k < K; k += V) {
      const float *from = m + p * K + k;
      vec t[2][4];
      for (int j = 0; j < 4; j++) {
        vec a = CONST_AT(from + j * rows * K), b = CONST_AT(from + (4 + j) * rows * K);
        vec c = CONST_AT(from + (8 + j) * rows * K), d = CONST_AT(from + (12 + j) * rows * K);
        t[0][j] = a + b + c;
        t[1][j] = b - c - d;
      }
      for (int i = 0; i < 2 && top + i < s.H; i++) {
        vec out[2] = {t[i][0] + t[i][1] + t[i][2], t[i][1] - t[i][2] - t[i][3]};
        for (int j = 0; j < 2 && left + j < s.W; j++) {
          float *to = y + ((n * s.H + top + i) * s.W + left + j) * K + k;
          vec value = scale ? out[j] * CONST_AT(scale + k) : out[j];
          ROUNDED(value);
          if (shift) value += CONST_AT(shift + k);
          AT(to) = add ? AT(to) + value : value;
        }
      }
    }
  }
}

/* d (16, tiles, K) = A g Aᵀ of each square g of 2×2 */
NOINLINE void transform_gradient(const float *restrict g, float *restrict d, shape s, long K, long first, long tiles,
                                 long rows, const float *zeros) {
  for (long p = 0; p < tiles; p++) {
    long n, top, left;
    const float *from[4];
    place(s, first + p, &n, &top, &left);
    for (int i = 0; i < 4; i++) {
      long h = top + i / 2, w = left + i % 2;
      from[i] = h < s.H && w < s.W ? g + ((n * s.H + h) * s.W + w) * K : zeros;
    }
    for (long k = 0; k < K; k += V) {
      vec a = CONST_AT(from[0] + k), b = CONST_AT(from[1] + k), c = CONST_AT(from[2] + k), e = CONST_AT(from[3] + k);
      vec l[4] = {a, a + c, a - c, -c}, r[4] = {b, b + e, b - e, -e};
      float *to = d + p * K + k;
      for (int i = 0; i < 4; i++, to += 4 * rows * K) {
        AT(to) = l[i];
        AT(to + rows * K) = l[i] + r[i];
        AT(to + 2 * rows * K) = l[i] - r[i];
        AT(to + 3 * rows * K) = -r[i];
      }
    }
  }
}

/* tiles of a block: a multiple of MR, about 512 KiB of transforms */
INLINE long block_of(long C, long K) {
  long tiles = (1L << 19) / (64 * (C + K)) / MR * MR;
  return tiles < 2 * MR ? 2 * MR : tiles;
}

INLINE float *workspace(size_t floats) {
  void *memory = 0;
  return posix_memalign(&memory, 64, floats * sizeof(float)) ? 0 : memory;
}

/* what the numbers of channels must be multiples of */
int lanes(void) { return V; }

/* V columns of transform_weights */
NOINLINE void transform_columns(const float *restrict w, float *restrict u, long K, long C, int turned, long column) {
  long rows = turned ? K : C, columns = turned ? C : K;
  for (long row = 0; row < rows; row++) {
    float d[9][V];
    vec t[4][3];
    for (int j = 0; j < V; j++) {
      const float *kernel = w + 9 * (turned ? row * C + column + j : (column + j) * C + row);
      for (int i = 0; i < 9; i++) d[turned ? 8 - i : i][j] = kernel[i];
    }
    for (int j = 0; j < 3; j++) {
      vec a = AT(d[j]), b = AT(d[3 + j]), c = AT(d[6 + j]);
      t[0][j] = a;
      t[1][j] = (a + b + c) * 0.5f;
      t[2][j] = (a - b + c) * 0.5f;
      t[3][j] = c;
    }
    float *to = u + row * columns + column;
    for (int i = 0; i < 4; i++, to += 4 * rows * columns) {
      AT(to) = t[i][0];
      AT(to + rows * columns) = (t[i][0] + t[i][1] + t[i][2]) * 0.5f;
      AT(to + 2 * rows * columns) = (t[i][0] - t[i][1] + t[i][2]) * 0.5f;
      AT(to + 3 * rows * columns) = t[i][2];
    }
  }
}

/* u (16, C, K) = G w Gᵀ of each kernel of w (K, C, 3, 3); `turned`: (16, K, C), of the kernels turned by half a circle */
void transform_weights(const float *w, float *u, long K, long C, int turned, int threads) {
  long columns = turned ? C : K;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long column = 0; column < columns; column += V)
    transform_columns(w, u, K, C, turned, column);
}

/* y (N, H, W, K) from x (N, H, W, C) and u (16, C, K); 1: no memory */
int convolve(const float *x, const float *u, float *y, long N, long H, long W, long C, long K, const float *scale,
             const float *shift, int add, int threads) {
  shape s = {N, H, W};
  long tiles = N * ((H + 1) / 2) * ((W + 1) / 2), rows = block_of(C, K);
  int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
  {
    float *v = workspace(16 * rows * (C + K) + C);
    failed |= v == 0;
    if (v) {
      float *m = v + 16 * rows * C, *zeros = m + 16 * rows * K;
      memset(v, 0, sizeof(float) * 16 * rows * C);
      memset(zeros, 0, sizeof(float) * C);
#pragma omp for schedule(static)
      for (long first = 0; first < tiles; first += rows) {
        long here = tiles - first < rows ? tiles - first : rows;
        transform_input(x, v, s, C, first, here, rows, zeros);
        for (int i = 0; i < 16; i++)
          times(v + i * rows * C, u + i * C * K, m + i * rows * K, (here + MR - 1) / MR * MR, C, K);
        transform_output(m, y, s, K, first, here, rows, scale, shift, add);
      }
      free(v);
    }
  }
  return failed;
}

/* gradient of u for each thread, (threads, 16, C, K), which must come as zeros; 1: no memory */
int differentiate_weights(const float *x, const float *g, float *u, long N, long H, long W, long C, long K, int threads) {
  shape s = {N, H, W};
  long tiles = N * ((H + 1) / 2) * ((W + 1) / 2), rows = block_of(C, K), blocks = (tiles + rows - 1) / rows;
  int failed = 0;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(| : failed)
  for (int k = 0; k < threads; k++) {
    float *v = workspace(16 * rows * (C + K) + (C > K ? C : K)), *mine = u + (long)k * 16 * C * K;
    failed |= v == 0;
    if (!v) continue;
    float *d = v + 16 * rows * C, *zeros = d + 16 * rows * K;
    memset(zeros, 0, sizeof(float) * (C > K ? C : K));
    for (long block = blocks * k / threads; block < blocks * (k + 1) / threads; block++) {
      long first = block * rows, here = tiles - first < rows ? tiles - first : rows;
      transform_input(x, v, s, C, first, here, rows, zeros);
      transform_gradient(g, d, s, K, first, here, rows, zeros);
      for (int i = 0; i < 16; i++)
        add_transposed_times(v + i * rows * C, d + i * rows * K, mine + i * C * K, C, here, K);
    }
    free(v);
  }
  return failed;
}
