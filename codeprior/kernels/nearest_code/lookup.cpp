// The lookup of compiled.py: packs the table, screens the rows, bounds the rounding, and settles near ties; several
// threads take blocks of rows from one counter. Memory beside the result: PACKED floats and CHUNK rows of a few words.
#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "screen.hpp"

enum : int64_t {
    PACKED = 1 << 21,  // floats of the table that are packed at a time
    CHUNK = 1 << 16,   // rows between two packings, where the table takes several
    GRAIN = 4 * BLOCK,
    CROWDED = 32,  // codes to compare in float64 per row, above which the table is rid of its duplicates in settle.py
};

static bool is_finite(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (bits & 0x7f800000) != 0x7f800000;
}

// calls function(start, stop, room) for all of [0, count), `grain` at a time, on several threads
template <class Function>
static void spread(int64_t threads, int64_t count, int64_t grain, int64_t floats, Function function) {
    threads = std::max<int64_t>(1, std::min(threads, (count + grain - 1) / grain));
    std::unique_ptr<float[]> rooms(new float[threads * floats]);
    std::atomic<int64_t> next{0};
    auto work = [&](int64_t number) {
        for (int64_t start; (start = next.fetch_add(grain)) < count;)
            function(start, std::min(start + grain, count), rooms.get() + number * floats);
    };
    std::vector<std::thread> helpers;
    try {
        helpers.reserve(threads);
        for (int64_t number = 1; number < threads; ++number) helpers.emplace_back(work, number);
    } catch (const std::system_error &) {
        // no more threads are to be had: those that are there do the work
    }
    work(0);
    for (auto &helper : helpers) helper.join();
}

// any point amid the codes will do; where their sum is not finite, zero
static std::vector<float> middle(const float *codes, int64_t k, int64_t d) {
    std::vector<float> sum(d);
    for (int64_t code = 0; code < k; ++code)
        for (int64_t i = 0; i < d; ++i) sum[i] += codes[code * d + i];
    for (float &value : sum) value = is_finite(value) ? value / k : 0;
    return sum;
}

// the gap of scores from which the float32 ranking is certain: settle.margin
static float margin(float norm, float longest, int64_t d) {
    float slack = 2 * 0x1p-24f * (d + 8) * (1 + 0x1p-10f);
    return slack * longest * (norm + longest) + (d + 8) * 0x1p-124f;
}

template <class Form>
static int64_t find(const Rows &rows, int64_t n, const float *codes, int64_t k, bool exact, int64_t threads,
                    int64_t *index, uint8_t *lost) {
    const int64_t d = rows.width, step = std::max<int64_t>(1, PACKED / (d * Form::WIDTH)) * Form::WIDTH;
    const int64_t tiles = (std::min(k, step) + Form::WIDTH - 1) / Form::WIDTH, chunk = std::min<int64_t>(n, CHUNK);
    const std::vector<float> centre = middle(codes, k, d);
    std::unique_ptr<float[]> memory(new float[tiles * Form::WIDTH * (d + 1) + LANES]);
    std::vector<float> low(chunk), next(chunk), norm(chunk);
    std::vector<Doubt> doubts;
    Table table{aligned(memory.get()), nullptr, 0, -1};
    table.half = table.packed + tiles * Form::WIDTH * d;
    float longest = 0;
    int64_t losses = 0;

    auto pack = [&](int64_t first) {
        if (table.first == first) return;
        int64_t size = std::min(step, k - first);
        table.first = first, table.tiles = (size + Form::WIDTH - 1) / Form::WIDTH;
        spread(threads, table.tiles, 16, 0, [&](int64_t start, int64_t stop, float *) {
            for (int64_t tile = start; tile < stop; ++tile)
                Form::pack(codes + first * d, centre.data(), size, d, tile, table.packed, table.half);
        });
        for (int64_t code = 0; code < size; ++code) {
            float norm_of_code = std::sqrt(2 * table.half[code]);
            // once it is not finite it stays so, and no row is certain
            if (is_finite(longest) && !(is_finite(norm_of_code) && norm_of_code <= longest)) longest = norm_of_code;
        }
    };
    for (int64_t start = 0; start < n; start += chunk) {
        const int64_t stop = std::min(n, start + chunk);
        std::fill(low.begin(), low.end(), FLT_MAX);
        std::fill(next.begin(), next.end(), FLT_MAX);
        for (int64_t first = 0; first < k; first += step) {
            pack(first);
            spread(threads, stop - start, GRAIN, Form::scratch(d), [&](int64_t from, int64_t to, float *room) {
                Found found{low.data() + from, next.data() + from, norm.data() + from, index + start + from};
                Form::screen(rows, start + from, start + to, centre.data(), table, found, room);
            });
        }
        doubts.clear();
        for (int64_t row = start; row < stop; ++row) {
            float reach = margin(norm[row - start], longest, d), least = low[row - start];
            bool certain = is_finite(reach);
            // what a sum that is not finite has chosen may be no code at all
            lost[row] = !certain;
            losses += !certain;
            if (exact && certain && next[row - start] - least <= reach) doubts.push_back({row, least + reach, DBL_MAX});
        }
        std::atomic<bool> crowded{false};
        for (int64_t first = 0; first < k && !doubts.empty(); first += step) {
            pack(first);
            const int64_t floats = Form::scratch_of_settle(d);
            spread(threads, doubts.size(), 24, floats, [&](int64_t from, int64_t to, float *room) {
                if (!crowded && !Form::settle(rows, doubts.data() + from, to - from, centre.data(), table, codes, k, index,
                                              CROWDED * (to - from), room))
                    crowded = true;
            });
        }
        if (crowded)
            for (const Doubt &doubt : doubts) lost[doubt.row] = 1, ++losses;
    }
    return losses;
}

extern "C" {
// indices of the nearest codes; rows that must be settled elsewhere are marked as lost and counted; -1: no memory
int64_t nearest(const void *data, int64_t kind, int64_t images, int64_t length, int64_t width, int64_t image,
                int64_t row, int64_t dim, const float *codes, int64_t k, int64_t exact, int64_t threads,
                int64_t *index, uint8_t *lost) {
    typedef Screen<TALL, 2, false> Long;
    typedef Screen<FLAT, 4, true> Brief;
    const Rows rows{data, kind, length, width, image, row, dim};
    try {
        return (width <= SHORT ? find<Brief> : find<Long>)(rows, images * length, codes, k, exact, threads, index, lost);
    } catch (const std::bad_alloc &) {
        return -1;
    }
}
// each row's code, in the row's own layout, and their squared distance
void exchange(const float *rows, int64_t n, int64_t d, int64_t row_stride, int64_t dim_stride, const float *codes,
              const int64_t *index, float *out, int64_t out_row, int64_t out_dim, float *distance) {
    for (int64_t start = 0; start < n; start += BLOCK) {
        int64_t count = n - start < BLOCK ? n - start : BLOCK;
        const float *from = rows + start * row_stride;
        float *to = out + start * out_row, sum[BLOCK] = {};
        if (row_stride < dim_stride)
            // rows of the table often lie a power of two apart, where few fit the innermost cache: a line at a time
            for (int64_t i = 0; i < d; i += LINE) {
                float line[LINE][BLOCK];
                int64_t wide = d - i < LINE ? d - i : LINE;
                for (int64_t r = 0; r < count; ++r)
                    for (int64_t j = 0; j < wide; ++j) line[j][r] = codes[index[start + r] * d + i + j];
                for (int64_t j = 0; j < wide; ++j)
                    for (int64_t r = 0; r < count; ++r) {
                        float off = from[r * row_stride + (i + j) * dim_stride] - line[j][r];
                        to[r * out_row + (i + j) * out_dim] = line[j][r];
                        sum[r] += off * off;
                    }
            }
        else
            for (int64_t r = 0; r < count; ++r) {
                float total = 0;
                for (int64_t i = 0; i < d; ++i) {
                    float code = codes[index[start + r] * d + i], off = from[r * row_stride + i * dim_stride] - code;
                    to[r * out_row + i * out_dim] = code;
                    total += off * off;
                }
                sum[r] = total;
            }
        for (int64_t r = 0; r < count; ++r) distance[start + r] = sum[r];
    }
}
}
