// Modulated deformable 3x3 convolutions of stride 1, on features whose channels lie together (channels_last).
//
// A block of places is read bilinearly into columns that stay in the second cache, and multiplied by the kernels at
// once, so that the columns of a whole picture (nine times the feature) never exist. Channels of a group share their
// place, and are read side by side.
#include <cmath>
#include <cstdint>
#include <vector>

#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 12 };
#elif defined(__AVX__)
enum { LANES = 8, ROWS = 6 };
#else
enum { LANES = 4, ROWS = 3 };
#endif
enum { WIDTH = 16, VECS = WIDTH / LANES, TAPS = 9, BLOCK = 48, DEPTH = 256 };

typedef float vec __attribute__((vector_size(LANES * 4), aligned(4)));

static inline vec load(const float *at) { return *(const vec *)at; }
static inline void store(float *at, vec value) { *(vec *)at = value; }

struct Grid {
    const float *at;
    int64_t row, pixel;  // strides in floats; channels lie together
    const float *operator()(int64_t y, int64_t x) const { return at + y * row + x * pixel; }
};

// where the four neighbours of a place are, and what they are multiplied by
struct Neighbours {
    const float *at[4];
    float share[4];
};

// the neighbours of every tap and group for one place of the answer; zeros: as many as a place has channels
static void find(const Grid &feature, int64_t height, int64_t width, const float *offsets, const float *mask,
                 int64_t groups, int64_t members, int64_t y, int64_t x, const float *zeros, Neighbours *into) {
    for (int64_t i = 0; i < groups * TAPS; ++i) {
        const int64_t tap = i % TAPS, first = i / TAPS * members;
        float down = offsets[2 * i] + float(y + tap / 3 - 1), right = offsets[2 * i + 1] + float(x + tap % 3 - 1);
        // far outside is as good as just outside, and fits an integer; what is no number stays none
        down = down < -2.0f ? -2.0f : (down > float(height + 1) ? float(height + 1) : down);
        right = right < -2.0f ? -2.0f : (right > float(width + 1) ? float(width + 1) : right);
        const float above = std::floor(down), before = std::floor(right);
        const int64_t top = above == above ? int64_t(above) : -2, left = before == before ? int64_t(before) : -2;
        const float low = down - above, far = right - before, times = mask[i];
        const bool rows[2] = {top >= 0 && top < height, top >= -1 && top + 1 < height};
        const bool columns[2] = {left >= 0 && left < width, left >= -1 && left + 1 < width};
        const int64_t corner = first + top * feature.row + left * feature.pixel;
        into[i].at[0] = rows[0] && columns[0] ? feature.at + corner : zeros;
        into[i].at[1] = rows[0] && columns[1] ? feature.at + corner + feature.pixel : zeros;
        into[i].at[2] = rows[1] && columns[0] ? feature.at + corner + feature.row : zeros;
        into[i].at[3] = rows[1] && columns[1] ? feature.at + corner + feature.row + feature.pixel : zeros;
        into[i].share[0] = (1 - low) * (1 - far) * times;
        into[i].share[1] = (1 - low) * far * times;
        into[i].share[2] = low * (1 - far) * times;
        into[i].share[3] = low * far * times;
    }
}

static inline void read(const Neighbours &from, int64_t members, float *into) {
    const float *const a = from.at[0], *const b = from.at[1], *const d = from.at[2], *const e = from.at[3];
    int64_t c = 0;
    for (; c + LANES <= members; c += LANES)
        store(into + c, load(a + c) * from.share[0] + load(b + c) * from.share[1] + load(d + c) * from.share[2] +
                            load(e + c) * from.share[3]);
    for (; c < members; ++c)
        into[c] = a[c] * from.share[0] + b[c] * from.share[1] + d[c] * from.share[2] + e[c] * from.share[3];
}

// adds to ROWS places of WIDTH outputs; sums of at most DEPTH products, or of one tap, keep the rounding small
static inline void multiply(const float *columns, int64_t depth, const float *weights, float *into,
                            int64_t pitch) {
    vec sum[ROWS][VECS] = {};
    for (int64_t k = 0; k < depth; ++k) {
        vec weight[VECS];
        for (int v = 0; v < VECS; ++v) weight[v] = load(weights + k * WIDTH + v * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; ++r)
            for (int v = 0; v < VECS; ++v) sum[r][v] += columns[r * depth + k] * weight[v];
    }
    for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < VECS; ++v) {
            float *at = into + r * pitch + v * LANES;
            store(at, load(at) + sum[r][v]);
        }
}

extern "C" {

// one image, places first..last of the answer in rows; weights: (outs / WIDTH, tap, channels, WIDTH), padded by zeros;
// out: (place, outs)
void convolve(const float *feature, int64_t height, int64_t width, int64_t channels, int64_t row, int64_t pixel,
              const float *offsets, int64_t offsets_row, int64_t offsets_pixel, const float *mask, int64_t mask_row,
              int64_t mask_pixel, int64_t groups, const float *weights, const float *bias, float *out, int64_t outs,
              int64_t first, int64_t last) {
    const Grid from{feature, row, pixel}, shifts{offsets, offsets_row, offsets_pixel};
    const Grid masks{mask, mask_row, mask_pixel};
    const int64_t members = channels / groups, full = (outs + WIDTH - 1) / WIDTH * WIDTH;
    const int64_t most = DEPTH / channels < 1 ? 1 : (DEPTH / channels < TAPS ? DEPTH / channels : TAPS);
    std::vector<float> zeros(channels), columns(BLOCK * most * channels), sums(BLOCK * full);
    std::vector<Neighbours> found(BLOCK * groups * TAPS);
    for (int64_t start = first; start < last; start += BLOCK) {
        const int64_t count = last - start < BLOCK ? last - start : BLOCK, padded = (count + ROWS - 1) / ROWS * ROWS;
        for (int64_t place = 0; place < count; ++place) {
            const int64_t y = (start + place) / width, x = (start + place) % width;
            find(from, height, width, shifts(y, x), masks(y, x), groups, members, y, x, zeros.data(),
                 found.data() + place * groups * TAPS);
            for (int64_t o = 0; o < full; ++o) sums[place * full + o] = bias && o < outs ? bias[o] : 0;
        }
        for (int64_t tap = 0; tap < TAPS; tap += most) {
            const int64_t taps = TAPS - tap < most ? TAPS - tap : most, depth = taps * channels;
            for (int64_t place = 0; place < count; ++place)
                for (int64_t group = 0; group < groups; ++group)
                    for (int64_t t = 0; t < taps; ++t)
                        read(found[(place * groups + group) * TAPS + tap + t], members,
                             columns.data() + place * depth + t * channels + group * members);
            for (int64_t part = 0; part < full; part += WIDTH)
                for (int64_t place = 0; place < padded; place += ROWS)
                    multiply(columns.data() + place * depth, depth,
                             weights + (part * TAPS + tap * WIDTH) * channels, sums.data() + place * full + part, full);
        }
        for (int64_t place = 0; place < count; ++place)
            for (int64_t o = 0; o < outs; ++o) out[(start + place) * outs + o] = sums[place * full + o];
    }
}
}
