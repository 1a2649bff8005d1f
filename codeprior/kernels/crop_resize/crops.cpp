// Boxes of an image (channels_last) as squares of one size, bilinear, antialiased where they shrink: the sums of
// PyTorch's interpolate(antialias=True), rows first, because a row of a box lies together in memory.
#include <cmath>
#include <cstdint>
#include <vector>

struct Taps {
    int64_t first;
    std::vector<float> weights;
};

static void taps(int64_t length, int64_t size, std::vector<Taps> &into) {
    const float scale = float(length) / float(size), support = scale > 1 ? scale : 1, inverse = 1 / support;
    into.resize(size);
    for (int64_t place = 0; place < size; ++place) {
        const float middle = scale * (place + 0.5f);
        int64_t first = int64_t(middle - support + 0.5f), last = int64_t(middle + support + 0.5f);
        first = first > 0 ? first : 0, last = last < length ? last : length;
        into[place].first = first;
        std::vector<float> &weights = into[place].weights;
        weights.resize(last - first);
        float total = 0;
        for (int64_t i = 0; i < last - first; ++i) {
            const float off = std::fabs((i + first - middle + 0.5f) * inverse);
            weights[i] = off < 1 ? 1 - off : 0, total += weights[i];
        }
        if (total != 0)
            for (float &weight : weights) weight /= total;
    }
}

static void add(const float *from, float weight, int64_t count, float *__restrict into) {
    for (int64_t i = 0; i < count; ++i) into[i] += weight * from[i];
}

extern "C" void crops(const float *image, int64_t height, int64_t width, int64_t channels, int64_t row,
                      const int64_t *boxes, int64_t count, int64_t size, float outside, float *out) {
    std::vector<Taps> down, across;
    std::vector<float> line;
    for (int64_t number = 0; number < count; ++number, boxes += 4, out += size * size * channels) {
        const int64_t left = boxes[0], top = boxes[1], right = boxes[2] + 1, bottom = boxes[3] + 1;
        const int64_t from = left > 0 ? left : 0, to = right < width ? right : width;
        const int64_t above = top > 0 ? top : 0, below = bottom < height ? bottom : height;
        if (from >= to || above >= below) {
            for (int64_t i = 0; i < size * size * channels; ++i) out[i] = outside;
            continue;
        }
        taps(bottom - top, size, down), taps(right - left, size, across);
        line.resize((right - left) * channels);
        for (int64_t y = 0; y < size; ++y) {
            for (float &value : line) value = outside;
            float *inside = line.data() + (from - left) * channels;
            float base = 0;
            for (size_t i = 0; i < down[y].weights.size(); ++i) {
                const int64_t at = top + down[y].first + int64_t(i);
                if (at < 0 || at >= height) base += down[y].weights[i] * outside;
            }
            for (int64_t i = 0; i < (to - from) * channels; ++i) inside[i] = base;
            for (size_t i = 0; i < down[y].weights.size(); ++i) {
                const int64_t at = top + down[y].first + int64_t(i);
                if (at >= 0 && at < height)
                    add(image + at * row + from * channels, down[y].weights[i], (to - from) * channels, inside);
            }
            float *into = out + y * size * channels;
            for (int64_t x = 0; x < size; ++x, into += channels) {
                for (int64_t c = 0; c < channels; ++c) into[c] = 0;
                const float *at = line.data() + across[x].first * channels;
                for (float weight : across[x].weights)
                    for (int64_t c = 0; c < channels; ++c) into[c] += weight * *at++;
            }
        }
    }
}
