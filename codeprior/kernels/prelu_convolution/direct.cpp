// Convolutions of few channels without padding, on features whose channels lie together (channels_last), as direct sums.
//
// Sixteen outputs of ROWS places are held in registers while all taps are summed. Bias and PReLU are applied when they
// are given out, and where a maximum follows, only a stripe of rows that fits the second cache is ever kept of what it
// is taken of.
#include <cstdint>
#include <vector>

#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 12 };
#elif defined(__AVX__)
enum { LANES = 8, ROWS = 6 };
#else
enum { LANES = 4, ROWS = 3 };
#endif
enum { WIDTH = 16, VECS = WIDTH / LANES, STRIPE = 40960 };

typedef float vec __attribute__((vector_size(LANES * 4), aligned(4)));

static inline vec load(const float *at) { return *(const vec *)at; }
static inline void store(float *at, vec value) { *(vec *)at = value; }
// a value that is no number stays one
static inline vec larger(vec a, vec b) { return a != a ? a : (b > a ? b : (b != b ? b : a)); }

struct Layer {
    int64_t channels, row, pixel, kernel, outs;  // strides in floats
    const float *weights, *bias, *slope;         // weights: (outs / WIDTH, kernel, kernel, channels, WIDTH)
};

// PLACES neighbours of one row, one group of outputs
template <int PLACES>
static inline void sum(const Layer &layer, const float *from, int64_t part, float *into) {
    vec total[PLACES][VECS];
    for (int v = 0; v < VECS; ++v) {
        const vec least = load(layer.bias + part + v * LANES);
        for (int place = 0; place < PLACES; ++place) total[place][v] = least;
    }
    const float *weights = layer.weights + part * layer.kernel * layer.kernel * layer.channels;
    // where nothing lies between the pixels, a row of taps is one run
    const bool dense = layer.pixel == layer.channels;
    const int64_t runs = dense ? 1 : layer.kernel, taps = dense ? layer.kernel * layer.channels : layer.channels;
    for (int64_t y = 0; y < layer.kernel; ++y)
        for (int64_t x = 0; x < runs; ++x) {
            const float *at = from + y * layer.row + x * layer.pixel;
            for (int64_t tap = 0; tap < taps; ++tap, weights += WIDTH) {
                vec weight[VECS];
                for (int v = 0; v < VECS; ++v) weight[v] = load(weights + v * LANES);
                for (int place = 0; place < PLACES; ++place)
                    for (int v = 0; v < VECS; ++v) total[place][v] += at[place * layer.pixel + tap] * weight[v];
            }
        }
    for (int v = 0; v < VECS; ++v)
        for (int place = 0; place < PLACES; ++place) {
            vec value = total[place][v];
            if (layer.slope) {
                const vec leaning = value * load(layer.slope + part + v * LANES);
                value = value < 0 ? leaning : value;
            }
            store(into + place * layer.outs + part + v * LANES, value);
        }
}

static void sum_rest(const Layer &layer, const float *from, int64_t part, float *into, int64_t places) {
    for (; places >= 3; places -= 3, from += 3 * layer.pixel, into += 3 * layer.outs) sum<3>(layer, from, part, into);
    for (; places; --places, from += layer.pixel, into += layer.outs) sum<1>(layer, from, part, into);
}

static void sum_row(const Layer &layer, const float *from, int64_t width, float *into) {
    for (int64_t part = 0; part < layer.outs; part += WIDTH) {
        int64_t x = 0;
        for (; x + ROWS <= width; x += ROWS) sum<ROWS>(layer, from + x * layer.pixel, part, into + x * layer.outs);
        sum_rest(layer, from + x * layer.pixel, part, into + x * layer.outs, width - x);
    }
}

static std::vector<float> padded(const float *from, int64_t count, int64_t room) {
    std::vector<float> into(room, 0.0f);
    for (int64_t i = 0; from && i < count; ++i) into[i] = from[i];
    return into;
}

extern "C" {

// images of `height` times `width` answers before the maximum over `pool` times `pool` with stride 2 (0: none is taken);
// weight: (outs, channels, kernel, kernel); out: (images, tall, wide, outs to the next multiple of WIDTH)
void convolve(const float *feature, int64_t images, int64_t image, int64_t row, int64_t pixel, int64_t channels,
              const float *weight, const float *bias, const float *slope, int64_t kernel, int64_t outs,
              int64_t height, int64_t width, int64_t pool, float *out, int64_t tall, int64_t wide) {
    const int64_t full = (outs + WIDTH - 1) / WIDTH * WIDTH, taps = kernel * kernel * channels;
    std::vector<float> weights(full * taps, 0.0f), biases = padded(bias, outs, full), slopes = padded(slope, outs, full);
    for (int64_t o = 0; o < outs; ++o)
        for (int64_t c = 0; c < channels; ++c)
            for (int64_t place = 0; place < kernel * kernel; ++place)
                weights[o / WIDTH * WIDTH * taps + (place * channels + c) * WIDTH + o % WIDTH] = *weight++;
    const Layer layer{channels, row, pixel, kernel, full, weights.data(), biases.data(), slope ? slopes.data() : nullptr};
    const int64_t line = width * full, lines = STRIPE / line + 1;
    std::vector<float> scratch(pool ? (lines * 2 + pool) * line : 0);
    for (int64_t number = 0; number < images; ++number, feature += image, out += tall * wide * full) {
        if (!pool) {
            for (int64_t y = 0; y < height; ++y) sum_row(layer, feature + y * row, width, out + y * line);
            continue;
        }
        for (int64_t first = 0; first < tall; first += lines) {
            const int64_t last = first + lines < tall ? first + lines : tall;
            const int64_t top = 2 * first, end = 2 * (last - 1) + pool < height ? 2 * (last - 1) + pool : height;
            for (int64_t y = top; y < end; ++y)
                sum_row(layer, feature + y * row, width, scratch.data() + (y - top) * line);
            for (int64_t y = first; y < last; ++y)
                for (int64_t x = 0; x < wide; ++x) {
                    const int64_t below = 2 * y + pool < height ? 2 * y + pool : height;
                    const int64_t right = 2 * x + pool < width ? 2 * x + pool : width;
                    for (int64_t c = 0; c < full; c += LANES) {
                        const float *at = scratch.data() + (2 * y - top) * line + 2 * x * full + c;
                        vec most = load(at);
                        for (int64_t v = 0; v < below - 2 * y; ++v)
                            for (int64_t u = 0; u < right - 2 * x; ++u)
                                most = larger(most, load(at + v * line + u * full));
                        store(out + (y * wide + x) * full + c, most);
                    }
                }
        }
    }
}
}
