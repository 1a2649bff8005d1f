// 3x3 convolutions of stride 1 as Winograd's F(4x4, 3x3), on features whose channels lie together (channels_last).
//
// A tile is 4x4 outputs from 6x6 inputs: 36 products a pair of channels instead of 144. What comes before and after is
// done on the way, so that a feature is read once and written once: normalisation and SiLU while a tile is taken in,
// bias and residual while it is given out. A doubled feature (nearest neighbour) is read from the half grid; two equal
// neighbours make one of the six transformed lines vanish, which leaves 25 products of the 36.
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 12 };
#elif defined(__AVX__)
enum { LANES = 8, ROWS = 6 };
#else
enum { LANES = 4, ROWS = 3 };
#endif
enum { WIDTH = 16, VECS = WIDTH / LANES, SIDE = 6, PLACES = SIDE * SIDE, CHUNK = 4096, HUGE_PAGE = 1 << 21 };

typedef float vec __attribute__((vector_size(LANES * 4), aligned(4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4), aligned(4)));

static inline vec load(const float *at) { return *(const vec *)at; }
static inline void store(float *at, vec value) { *(vec *)at = value; }

// z / (1 + exp(-z)); exp as 2^n p(r), |r| <= ln 2 / 2, p of degree 6: relative error below 2e-7
static inline vec silu(vec z) {
    vec x = -z;
    x = x > 88.0f ? vec{} + 88.0f : x;
    x = x < -87.0f ? vec{} - 87.0f : x;
    vec shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to a whole number in the low bits
    vec n = shifted - 12582912.0f;
    vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = vec{} + 1.3888889e-3f;
    p = p * r + 8.3333333e-3f;
    p = p * r + 4.1666667e-2f;
    p = p * r + 1.6666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    ivec power = ((ivec)shifted - 0x4B400000 + 127) << 23;
    return z / (1.0f + p * (vec)power);
}

struct Feature {
    const float *at;
    int64_t height, width, channels, row, pixel;  // strides in floats; channels lie together
};

// the six lines of B^T d, for points 0, 1, -1, 2, -2 and infinity
static inline void taken_in(const vec (&d)[SIDE], vec (&v)[SIDE]) {
    vec even = d[4] - 4.0f * d[2], odd = d[3] - 4.0f * d[1], near = d[4] - d[2], far = 2.0f * (d[3] - d[1]);
    v[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
    v[1] = even + odd;
    v[2] = even - odd;
    v[3] = near + far;
    v[4] = near - far;
    v[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
}

// the four lines of A^T m
static inline void given_out(const vec (&m)[SIDE], vec (&y)[4]) {
    vec sum = m[1] + m[2], difference = m[1] - m[2], wide = m[3] + m[4], steep = m[3] - m[4];
    y[0] = m[0] + sum + wide;
    y[1] = difference + 2.0f * steep;
    y[2] = sum + 4.0f * wide;
    y[3] = difference + 8.0f * steep + m[5];
}

template <bool NORMED, bool DOUBLED, bool INSIDE>
static void take(const Feature &from, int64_t top, int64_t left, const float *scale, const float *shift, float *into,
                 int64_t step) {
    const int64_t tall = from.height << DOUBLED, wide = from.width << DOUBLED;
    for (int64_t c = 0; c < from.channels; c += LANES) {
        vec lines[SIDE][SIDE];  // transformed line, column
        vec times = NORMED ? load(scale + c) : vec{}, plus = NORMED ? load(shift + c) : vec{};
        for (int column = 0; column < SIDE; ++column) {
            vec d[SIDE], v[SIDE];
            int64_t x = left + column;
            for (int line = 0; line < SIDE; ++line) {
                int64_t y = top + line;
                if (!INSIDE && (x < 0 || y < 0 || x >= wide || y >= tall))
                    d[line] = vec{};
                else {
                    d[line] = load(from.at + (y >> DOUBLED) * from.row + (x >> DOUBLED) * from.pixel + c);
                    if (NORMED) d[line] = silu(d[line] * times + plus);
                }
            }
            taken_in(d, v);
            for (int line = 0; line < SIDE; ++line) lines[line][column] = v[line];
        }
        for (int line = 0; line < SIDE; ++line) {
            vec v[SIDE];
            taken_in(lines[line], v);
            for (int column = 0; column < SIDE; ++column) store(into + (line * SIDE + column) * step + c, v[column]);
        }
    }
}

static inline void multiply(const float *tiles, int64_t channels, const float *weights, float *into) {
    vec sum[ROWS][VECS] = {};
    for (int64_t c = 0; c < channels; ++c) {
        vec weight[VECS];
        for (int v = 0; v < VECS; ++v) weight[v] = load(weights + c * WIDTH + v * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; ++r)
            for (int v = 0; v < VECS; ++v) sum[r][v] += tiles[r * channels + c] * weight[v];
    }
    for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < VECS; ++v) store(into + r * WIDTH + v * LANES, sum[r][v]);
}

static void give(const float *products, int64_t step, const float *bias, const float *residual, int64_t residual_row,
                 int64_t residual_pixel, float *out, int64_t row, int64_t pixel, int tall, int wide) {
    for (int part = 0; part < WIDTH; part += LANES) {
        vec lines[4][SIDE];
        for (int column = 0; column < SIDE; ++column) {
            vec m[SIDE], y[4];
            for (int line = 0; line < SIDE; ++line) m[line] = load(products + (line * SIDE + column) * step + part);
            given_out(m, y);
            for (int line = 0; line < 4; ++line) lines[line][column] = y[line];
        }
        vec least = bias ? load(bias + part) : vec{};
        for (int line = 0; line < tall; ++line) {
            vec y[4];
            given_out(lines[line], y);
            for (int column = 0; column < wide; ++column) {
                vec value = y[column] + least;
                if (residual) value += load(residual + line * residual_row + column * residual_pixel + part);
                store(out + line * row + column * pixel + part, value);
            }
        }
    }
}

template <bool NORMED, bool DOUBLED>
static void convolve_tiles(const Feature &from, const float *scale, const float *shift, const float *weights,
                           const float *bias, const float *residual, int64_t residual_row, int64_t residual_pixel,
                           float *out, int64_t outs, int64_t first, int64_t last, int64_t block, float *scratch) {
    const int64_t tall = from.height << DOUBLED, wide = from.width << DOUBLED, across = (wide + 3) / 4;
    const int64_t step = block * from.channels;
    float *taken = scratch, *products = scratch + PLACES * step;
    for (int64_t start = first; start < last; start += block) {
        const int64_t count = last - start < block ? last - start : block, padded = (count + ROWS - 1) / ROWS * ROWS;
        for (int64_t tile = 0; tile < count; ++tile) {
            int64_t top = (start + tile) / across * 4 - 1, left = (start + tile) % across * 4 - 1;
            float *into = taken + tile * from.channels;
            if (top >= 0 && left >= 0 && top + SIDE <= tall && left + SIDE <= wide)
                take<NORMED, DOUBLED, true>(from, top, left, scale, shift, into, step);
            else
                take<NORMED, DOUBLED, false>(from, top, left, scale, shift, into, step);
        }
        for (int64_t part = 0; part < outs; part += WIDTH) {
            for (int place = 0; place < PLACES; ++place) {
                float *into = products + place * block * WIDTH;
                if (DOUBLED && (place / SIDE == 2 || place % SIDE == 2)) {
                    std::memset(into, 0, padded * WIDTH * sizeof(float));
                    continue;
                }
                const float *kernel = weights + (part / WIDTH * PLACES + place) * from.channels * WIDTH;
                for (int64_t tile = 0; tile < padded; tile += ROWS)
                    multiply(taken + place * step + tile * from.channels, from.channels, kernel, into + tile * WIDTH);
            }
            for (int64_t tile = 0; tile < count; ++tile) {
                int64_t y = (start + tile) / across * 4, x = (start + tile) % across * 4;
                give(products + tile * WIDTH, block * WIDTH, bias ? bias + part : nullptr,
                     residual ? residual + y * residual_row + x * residual_pixel + part : nullptr, residual_row,
                     residual_pixel, out + (y * wide + x) * outs + part, wide * outs, outs,
                     tall - y < 4 ? int(tall - y) : 4, wide - x < 4 ? int(wide - x) : 4);
            }
        }
    }
}

extern "C" {

int64_t tile_rows() { return ROWS; }

// weight: (outs, channels, 3, 3) -> (outs / WIDTH, place, channels, WIDTH)
void transform_weights(const float *weight, int64_t outs, int64_t channels, float *into) {
    static const float G[SIDE][3] = {{1.0f / 4, 0, 0},
                                     {-1.0f / 6, -1.0f / 6, -1.0f / 6},
                                     {-1.0f / 6, 1.0f / 6, -1.0f / 6},
                                     {1.0f / 24, 1.0f / 12, 1.0f / 6},
                                     {1.0f / 24, -1.0f / 12, 1.0f / 6},
                                     {0, 0, 1}};
    for (int64_t part = 0; part < outs; part += WIDTH)
        for (int64_t c = 0; c < channels; ++c) {
            float taps[9][WIDTH], half[SIDE][3][WIDTH];
            for (int lane = 0; lane < WIDTH; ++lane)
                for (int tap = 0; tap < 9; ++tap) taps[tap][lane] = weight[((part + lane) * channels + c) * 9 + tap];
            for (int line = 0; line < SIDE; ++line)
                for (int x = 0; x < 3; ++x)
                    for (int lane = 0; lane < WIDTH; ++lane)
                        half[line][x][lane] = G[line][0] * taps[x][lane] + G[line][1] * taps[3 + x][lane] +
                                              G[line][2] * taps[6 + x][lane];
            for (int line = 0; line < SIDE; ++line)
                for (int column = 0; column < SIDE; ++column) {
                    float *to = into + ((part / WIDTH * PLACES + line * SIDE + column) * channels + c) * WIDTH;
                    for (int lane = 0; lane < WIDTH; ++lane)
                        to[lane] = G[column][0] * half[line][0][lane] + G[column][1] * half[line][1][lane] +
                                   G[column][2] * half[line][2][lane];
                }
        }
}

// one image; tiles first..last; scratch: PLACES * block * (channels + WIDTH) floats
void convolve(const float *feature, int64_t height, int64_t width, int64_t channels, int64_t row, int64_t pixel,
              const float *scale, const float *shift, const float *weights, const float *bias, const float *residual,
              int64_t residual_row, int64_t residual_pixel, float *out, int64_t outs, int64_t doubled, int64_t first,
              int64_t last, int64_t block, float *scratch) {
    Feature from{feature, height, width, channels, row, pixel};
    auto run = scale ? (doubled ? convolve_tiles<true, true> : convolve_tiles<true, false>)
                     : (doubled ? convolve_tiles<false, true> : convolve_tiles<false, false>);
    run(from, scale, shift, weights, bias, residual, residual_row, residual_pixel, out, outs, first, last, block,
        scratch);
}

// GroupNorm of one image as a factor and a summand a channel. Means and squares are summed in parts that fit the
// innermost cache, twice each, and joined in double (Chan et al. 1979). scratch: 2 * channels doubles
void normalisation(const float *feature, int64_t height, int64_t width, int64_t channels, int64_t row, int64_t pixel,
                   int64_t groups, double epsilon, const float *weight, const float *bias, float *scale, float *shift,
                   double *scratch) {
    double *mean = scratch, *squares = scratch + channels, seen = 0;
    for (int64_t c = 0; c < 2 * channels; ++c) scratch[c] = 0;
    const int64_t span = CHUNK / channels > 0 ? CHUNK / channels : 1;
    for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < width; x += span) {
            const int64_t count = width - x < span ? width - x : span;
            const double share = count / (seen + count), joint = seen * share;
            const float *from = feature + y * row + x * pixel;
            for (int64_t c = 0; c < channels; c += LANES) {
                vec sum{}, spread{};
                for (int64_t i = 0; i < count; ++i) sum += load(from + i * pixel + c);
                sum /= (float)count;
                for (int64_t i = 0; i < count; ++i) {
                    vec off = load(from + i * pixel + c) - sum;
                    spread += off * off;
                }
                for (int lane = 0; lane < LANES; ++lane) {
                    double off = sum[lane] - mean[c + lane];
                    mean[c + lane] += off * share;
                    squares[c + lane] += spread[lane] + off * off * joint;
                }
            }
            seen += count;
        }
    const int64_t members = channels / groups;
    for (int64_t group = 0; group < channels; group += members) {
        double middle = 0, total = 0;
        for (int64_t c = group; c < group + members; ++c) middle += mean[c] / members;
        for (int64_t c = group; c < group + members; ++c)
            total += squares[c] + seen * (mean[c] - middle) * (mean[c] - middle);
        const double factor = 1 / std::sqrt(total / (seen * members) + epsilon);
        for (int64_t c = group; c < group + members; ++c) {
            scale[c] = float(weight[c] * factor);
            shift[c] = float(bias[c] - middle * weight[c] * factor);
        }
    }
}

// asks for large pages behind memory that is about to be written: the first touch of small ones costs more than the sums
void large_pages(float *at, int64_t bytes) {
#if defined(__linux__)
    uintptr_t first = ((uintptr_t)at + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1), end = (uintptr_t)at + bytes;
    if (first + HUGE_PAGE <= end) madvise((void *)first, (end - first) & ~(uintptr_t)(HUGE_PAGE - 1), MADV_HUGEPAGE);
#else
    (void)at, (void)bytes;
#endif
}
}
