// Boxes of an image (channels_last) at one size, bilinear, antialiased where they shrink: the sums of PyTorch's
// interpolate, rows first, because a row of a box lies together in memory. 8-bit levels are read as they are: the image
// then takes a quarter of the memory, which is what the time of many small boxes goes into.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

typedef float four __attribute__((vector_size(16), aligned(4)));

struct Taps {
    std::vector<int64_t> first, count;
    std::vector<float> weights;  // `most` for each place
    int64_t most;
};

static void taps(int64_t length, int64_t size, bool antialias, Taps &into) {
    const float scale = float(length) / float(size), support = antialias && scale > 1 ? scale : 1, inverse = 1 / support;
    into.most = 2 * int64_t(std::ceil(support)) + 2;
    into.first.resize(size), into.count.resize(size), into.weights.resize(size * into.most);
    for (int64_t place = 0; place < size; ++place) {
        const float middle = scale * (place + 0.5f);
        int64_t first = int64_t(middle - support + 0.5f), last = int64_t(middle + support + 0.5f);
        first = first > 0 ? first : 0, last = last < length ? last : length;
        into.first[place] = first, into.count[place] = last - first;
        float *weights = into.weights.data() + place * into.most, total = 0;
        for (int64_t i = 0; i < last - first; ++i) {
            const float off = std::fabs((i + first - middle + 0.5f) * inverse);
            weights[i] = off < 1 ? 1 - off : 0, total += weights[i];
        }
        if (total != 0)
            for (int64_t i = 0; i < last - first; ++i) weights[i] /= total;
    }
}

template <typename Level>
static void add(const Level *from, float weight, int64_t count, float *__restrict into) {
    for (int64_t i = 0; i < count; ++i) into[i] += weight * float(from[i]);
}

static void across_line(const float *line, const Taps &across, int64_t size, int64_t channels, float *into) {
    for (int64_t x = 0; x < size; ++x, into += channels) {
        const float *at = line + across.first[x] * channels, *weights = across.weights.data() + x * across.most;
        const int64_t count = across.count[x];
        if (channels == 3) {  // a pixel and the first value of the next; the line has one value more than its pixels
            four sum{};
            for (int64_t i = 0; i < count; ++i) sum += *(const four *)(at + 3 * i) * weights[i];
            std::memcpy(into, &sum, 3 * sizeof(float));
            continue;
        }
        for (int64_t c = 0; c < channels; ++c) {
            float sum = 0;
            for (int64_t i = 0; i < count; ++i) sum += weights[i] * at[i * channels + c];
            into[c] = sum;
        }
    }
}

template <typename Level>
static void crop(const Level *image, int64_t height, int64_t width, int64_t channels, int64_t row, const int64_t *boxes,
                 int64_t count, int64_t tall, int64_t wide, bool antialias, float outside, float *out) {
    Taps down, across;
    std::vector<float> line;
    for (int64_t number = 0; number < count; ++number, boxes += 4, out += tall * wide * channels) {
        const int64_t left = boxes[0], top = boxes[1], right = boxes[2] + 1, bottom = boxes[3] + 1;
        const int64_t from = left > 0 ? left : 0, to = right < width ? right : width;
        const int64_t above = top > 0 ? top : 0, below = bottom < height ? bottom : height;
        if (from >= to || above >= below) {
            for (int64_t i = 0; i < tall * wide * channels; ++i) out[i] = outside;
            continue;
        }
        taps(bottom - top, tall, antialias, down), taps(right - left, wide, antialias, across);
        line.assign((right - left) * channels + 1, outside);
        float *inside = line.data() + (from - left) * channels;
        for (int64_t y = 0; y < tall; ++y) {
            const float *weights = down.weights.data() + y * down.most;
            float base = 0;
            for (int64_t i = 0; i < down.count[y]; ++i) {
                const int64_t at = top + down.first[y] + i;
                if (at < 0 || at >= height) base += weights[i] * outside;
            }
            for (int64_t i = 0; i < (to - from) * channels; ++i) inside[i] = base;
            for (int64_t i = 0; i < down.count[y]; ++i) {
                const int64_t at = top + down.first[y] + i;
                if (at >= 0 && at < height && weights[i] != 0)
                    add(image + at * row + from * channels, weights[i], (to - from) * channels, inside);
            }
            across_line(line.data(), across, wide, channels, out + y * wide * channels);
        }
    }
}

extern "C" {

// boxes: (count, 4), left, top, right and bottom, which are inside; out: (count, tall, wide, channels)
void crops(const float *image, int64_t height, int64_t width, int64_t channels, int64_t row, const int64_t *boxes,
           int64_t count, int64_t tall, int64_t wide, int64_t antialias, float outside, float *out) {
    crop(image, height, width, channels, row, boxes, count, tall, wide, antialias != 0, outside, out);
}

void crops_of_levels(const uint8_t *image, int64_t height, int64_t width, int64_t channels, int64_t row,
                     const int64_t *boxes, int64_t count, int64_t tall, int64_t wide, int64_t antialias, float outside,
                     float *out) {
    crop(image, height, width, channels, row, boxes, count, tall, wide, antialias != 0, outside, out);
}
}
