// The float32 screen of compiled.py: best score, runner-up and index of each row in one pass over a packed table.
//
// score(x, c) = |c|^2 / 2 - x . c, a matrix product whose tiles never leave the registers. A tile is ROWS rows by
// two vectors of codes; `best`, `second` and `found` are kept per lane, and reduced once a row.
// Compiled with -ffinite-math-only: rows and tables that are not finite are told by their norms, in compiled.py.
#include <cfloat>
#include <cmath>
#include <cstdint>

#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 12 };
#elif defined(__AVX__)
enum { LANES = 8, ROWS = 6 };
#else
enum { LANES = 4, ROWS = 8 };
#endif
enum { WIDTH = 2 * LANES, PANELS = 16 };

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4)));

extern "C" int64_t tile_width() { return WIDTH; }

extern "C" int64_t scratch_floats(int64_t d) { return PANELS * ROWS * (d + 3 * LANES) + LANES; }

// packed: (tile, d, WIDTH), centred; half: (tile, WIDTH), |c|^2 / 2, FLT_MAX where the table has ended
extern "C" void pack_codes(const float *codes, const float *centre, int64_t k, int64_t d, float *packed, float *half) {
    for (int64_t tile = 0; tile * WIDTH < k; ++tile)
        for (int64_t lane = 0; lane < WIDTH; ++lane) {
            int64_t code = tile * WIDTH + lane;
            float *to = packed + tile * d * WIDTH + lane;
            float sum = 0;
            for (int64_t i = 0; i < d; ++i) {
                float value = code < k ? codes[code * d + i] - centre[i] : 0;
                to[i * WIDTH] = value;
                sum += value * value;
            }
            half[code] = code < k ? sum / 2 : FLT_MAX;
        }
}

static inline void products(const float *rows, const float *codes, const float *half, int64_t d, vec (&sum)[ROWS][2]) {
    for (int r = 0; r < ROWS; ++r) sum[r][0] = *(const vec *)half, sum[r][1] = *(const vec *)(half + LANES);
    for (int64_t i = 0; i < d; ++i) {
        vec first = *(const vec *)(codes + i * WIDTH), second = *(const vec *)(codes + i * WIDTH + LANES);
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; ++r) {
            sum[r][0] -= rows[i * ROWS + r] * first;
            sum[r][1] -= rows[i * ROWS + r] * second;
        }
    }
}

static inline void reduce(const float *best, const float *second, const int32_t *found, int64_t first, float &low,
                          float &next, int64_t &index) {
    float least = best[0], after = FLT_MAX;
    int at = 0;
    for (int lane = 1; lane < LANES; ++lane) least = best[lane] < least ? best[lane] : least;
    for (int lane = LANES - 1; lane >= 0; --lane) at = best[lane] == least ? lane : at;
    for (int lane = 0; lane < LANES; ++lane) {
        float value = lane == at ? second[lane] : best[lane];
        after = value < after ? value : after;
    }
    int64_t code = first + (int64_t)found[at] * LANES + at;
    float loser = least < low ? low : least;
    index = least < low ? code : index;
    low = least < low ? least : low;
    after = loser < after ? loser : after;
    next = after < next ? after : next;
}

// rows: n x d with any strides; low, next, index: running results, to be started at FLT_MAX; norm: |x - centre|
extern "C" void screen(const float *rows, int64_t n, int64_t d, int64_t row_stride, int64_t dim_stride,
                       const float *centre, const float *packed, const float *half, int64_t tiles, int64_t first,
                       float *low, float *next, int64_t *index, float *norm, float *scratch) {
    scratch += (-(intptr_t)scratch / 4) & (LANES - 1);
    float *best = scratch, *second = best + PANELS * ROWS * LANES;
    int32_t *found = (int32_t *)(second + PANELS * ROWS * LANES);
    float *block = second + 2 * PANELS * ROWS * LANES;
    for (int64_t start = 0; start < n; start += PANELS * ROWS) {
        int64_t count = n - start < PANELS * ROWS ? n - start : PANELS * ROWS;
        int64_t panels = (count + ROWS - 1) / ROWS;
        for (int64_t r = 0; r < panels * ROWS; ++r) {
            const float *from = rows + (start + r) * row_stride;
            float *to = block + (r / ROWS) * ROWS * d + r % ROWS, sum = 0;
            for (int64_t i = 0; i < d; ++i) {
                float value = r < count ? from[i * dim_stride] - centre[i] : 0;
                to[i * ROWS] = value;
                sum += value * value;
            }
            if (r < count) norm[start + r] = std::sqrt(sum);
        }
        for (int64_t i = 0; i < panels * ROWS * LANES; ++i) best[i] = second[i] = FLT_MAX, found[i] = 0;
        for (int64_t tile = 0; tile < tiles; ++tile)
            for (int64_t panel = 0; panel < panels; ++panel) {
                vec sum[ROWS][2];
                products(block + panel * ROWS * d, packed + tile * d * WIDTH, half + tile * WIDTH, d, sum);
#pragma GCC unroll 16
                for (int r = 0; r < ROWS; ++r) {
                    int64_t at = (panel * ROWS + r) * LANES;
                    vec b = *(vec *)(best + at), s = *(vec *)(second + at);
                    ivec f = *(ivec *)(found + at);
#pragma GCC unroll 2
                    for (int v = 0; v < 2; ++v) {
                        vec score = sum[r][v];
                        ivec better = score < b;
                        vec worse = score > b ? score : b;
                        s = worse < s ? worse : s;
                        b = score < b ? score : b;
                        f = better ? ivec{} + (int32_t)(2 * tile + v) : f;
                    }
                    *(vec *)(best + at) = b;
                    *(vec *)(second + at) = s;
                    *(ivec *)(found + at) = f;
                }
            }
        for (int64_t r = 0; r < count; ++r)
            reduce(best + r * LANES, second + r * LANES, found + r * LANES, first, low[start + r], next[start + r],
                   index[start + r]);
    }
}
