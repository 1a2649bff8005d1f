// The counts and sums of compiled.py in one pass over the rows, each added to the sum of its code as it comes: in float32
// and float64 the very additions of the reference, in the same order. Threads share out the columns, so that a sum has one
// owner. Sorting the rows by code first costs twice to ten times as much: it reads them from all over memory.
#include <algorithm>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

// LINE: columns that are cut at a time, a cache line or two of them; AHEAD: rows between the asking for a sum and its use
enum : int64_t { LINE = 16, BLOCK = 64, AHEAD = 4, ASKED = 1024 };

// images of rows, anyhow strided, counted in elements
template <class Number> struct Rows {
    const Number *data;
    int64_t images, length, image, row, dim;
};

template <class Number> static inline void add(const Number *from, int64_t width, Number *to) {
    for (; width >= LINE; width -= LINE, from += LINE, to += LINE)
        for (int i = 0; i < LINE; ++i) to[i] += from[i];
    for (int64_t i = 0; i < width; ++i) to[i] += from[i];
}

// a small table stays in the cache; lines of a large one are asked for before they are needed
template <class Number> static inline void ask(const Number *to, int64_t width) {
    const int64_t bytes = std::min<int64_t>(width * sizeof(Number), ASKED);
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch((const char *)to + at, 1);
}

template <class Number> static inline void begin(const Number *from, int64_t width, Number *to) {
    // zero is added, so that a sum is never -0
    for (; width >= LINE; width -= LINE, from += LINE, to += LINE)
        for (int i = 0; i < LINE; ++i) to[i] = from[i] + Number(0);
    for (int64_t i = 0; i < width; ++i) to[i] = from[i] + Number(0);
}

// a sum begins with its code's first row: zeros are written for the codes that have none
template <class Number>
static void whole(const Number *rows, int64_t count, int64_t row, const int64_t *index, int64_t width, Number *sums,
                  int64_t stride, std::vector<uint8_t> &begun) {
    for (int64_t r = 0; r < count; ++r) {
        if (r + AHEAD < count) ask(sums + index[r + AHEAD] * stride, width);
        if (begun[index[r]])
            add(rows + r * row, width, sums + index[r] * stride);
        else
            begin(rows + r * row, width, sums + index[r] * stride), begun[index[r]] = 1;
    }
}

// where the numbers of a row lie apart, they are brought together, as many as fill a line
template <class Number>
static void apart(const Number *rows, int64_t count, int64_t row, int64_t dim, const int64_t *index, int64_t width,
                  Number *sums, int64_t stride) {
    Number together[BLOCK][LINE];
    for (int64_t first = 0; first < count; first += BLOCK) {
        const int64_t tall = std::min<int64_t>(BLOCK, count - first);
        for (int64_t i = 0; i < width; i += LINE) {
            const int64_t wide = std::min<int64_t>(LINE, width - i);
            const Number *from = rows + first * row + i * dim;
            for (int64_t j = 0; j < wide; ++j)
                for (int64_t r = 0; r < tall; ++r) together[r][j] = from[r * row + j * dim];
            for (int64_t r = 0; r < tall; ++r) add(together[r], wide, sums + index[first + r] * stride + i);
        }
    }
}

// columns [start, stop) of every sum
template <class Number>
static void columns(const Rows<Number> &rows, const int64_t *index, int64_t start, int64_t stop, int64_t codes,
                    int64_t stride, Number *sums) {
    const int64_t width = stop - start;
    const bool together = rows.dim == 1;
    std::vector<uint8_t> begun(codes);
    auto clear = [&] {
        for (int64_t code = 0; code < codes; ++code)
            if (!begun[code]) std::fill_n(sums + code * stride + start, width, Number(0));
    };
    if (!together) clear();
    for (int64_t image = 0; image < rows.images; ++image) {
        const Number *from = rows.data + image * rows.image + start * rows.dim;
        const int64_t *at = index + image * rows.length;
        if (together)
            whole(from, rows.length, rows.row, at, width, sums + start, stride, begun);
        else
            apart(from, rows.length, rows.row, rows.dim, at, width, sums + start, stride);
    }
    if (together) clear();
}

template <class Number>
static void sum(const Rows<Number> &rows, const int64_t *index, int64_t width, int64_t codes, int64_t threads,
                Number *sums) {
    const int64_t lines = (width + LINE - 1) / LINE, shares = std::max<int64_t>(1, std::min(threads, lines));
    const int64_t share = (lines + shares - 1) / shares * LINE;
    auto work = [&](int64_t start) { columns(rows, index, start, std::min(start + share, width), codes, width, sums); };
    std::vector<std::thread> helpers;
    int64_t start = share;
    try {
        helpers.reserve(shares);
        for (; start < width; start += share) helpers.emplace_back(work, start);
    } catch (const std::system_error &) {
        // no more threads are to be had: this one does what is left
    }
    work(0);
    for (; start < width; start += share) work(start);
    for (auto &helper : helpers) helper.join();
}

extern "C" {
// counts (codes,) and sums (codes, width) of images of rows by code, double where `wide`, else float; gives the place of
// the first index that is no code, or -1
int64_t stats(const void *data, int64_t wide, int64_t images, int64_t length, int64_t width, int64_t image, int64_t row,
              int64_t dim, const int64_t *index, int64_t codes, int64_t threads, int64_t *counts, void *sums) {
    std::fill(counts, counts + codes, 0);
    for (int64_t at = 0; at < images * length; ++at) {
        if (index[at] < 0 || index[at] >= codes) return at;
        ++counts[index[at]];
    }
    if (wide)
        sum(Rows<double>{(const double *)data, images, length, image, row, dim}, index, width, codes, threads,
            (double *)sums);
    else
        sum(Rows<float>{(const float *)data, images, length, image, row, dim}, index, width, codes, threads,
            (float *)sums);
    return -1;
}
}
