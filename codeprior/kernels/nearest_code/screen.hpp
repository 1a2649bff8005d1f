// The float32 screen of lookup.cpp: best score, runner-up and index of each row in one pass over a packed table, and the
// float64 settling of the rows whose runner-up is too close.
//
// score(x, c) = |c|^2 / 2 - x . c, a matrix product whose tiles never leave the registers. A tile is ROWS rows by VECS
// vectors of codes; `best`, `second` and `found` are kept per lane, and reduced once a row. Where vectors are short the
// bookkeeping costs as much as the product: there a lane keeps the smallest of its VECS scores, the second is that of
// another group, and the members of the winning group are scored once more.
// Compiled with -ffinite-math-only: what is not finite is told by the bits of its norm.
#pragma once
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX512F__)
enum { LANES = 16, TALL = 12, FLAT = 6 };
#elif defined(__AVX__)
enum { LANES = 8, TALL = 6, FLAT = 3 };
#else
enum { LANES = 4, TALL = 8, FLAT = 4 };
#endif
// DEPTH: dims of a tile that fit the innermost cache; LINE: floats of a line of it
enum : int64_t { BLOCK = 96, SHORT = 32, DEPTH = 256, TREE = 32, LINE = 16 };

typedef float vec __attribute__((vector_size(LANES * 4), may_alias));
typedef float loose __attribute__((vector_size(LANES * 4), may_alias, aligned(4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4), may_alias));

static inline vec lesser(vec a, vec b) { return a < b ? a : b; }
static inline vec greater(vec a, vec b) { return a > b ? a : b; }
// compilers read an operand from memory at each use, where it is used in several places
static inline void in_register(vec &v) {
#if defined(__AVX512F__)
    asm("" : "+v"(v));
#elif defined(__AVX__)
    asm("" : "+x"(v));
#endif
}
template <int STEP> static inline float least_of(vec v) {
    if constexpr (STEP == 0)
        return v[0];
    else {
        vec other;
#pragma GCC unroll 16
        for (int lane = 0; lane < LANES; ++lane) other[lane] = v[lane ^ STEP];
        return least_of<STEP / 2>(lesser(v, other));
    }
}
// a square of LANES vectors turned about its diagonal: each step exchanges lanes with their bit STEP set in one vector of a
// pair for those without it in the other
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define TURNS_IN_REGISTERS
template <int STEP, int... LANE> static inline void exchange_lanes(vec &a, vec &b, std::integer_sequence<int, LANE...>) {
    vec low = __builtin_shufflevector(a, b, (LANE & STEP ? LANES + (LANE ^ STEP) : LANE)...);
    b = __builtin_shufflevector(a, b, (LANE & STEP ? LANES + LANE : LANE ^ STEP)...);
    a = low;
}
template <int STEP> static inline void turn(vec (&square)[LANES]) {
    if constexpr (STEP > 0) {
#pragma GCC unroll 16
        for (int row = 0; row < LANES; ++row)
            if (!(row & STEP))
                exchange_lanes<STEP>(square[row], square[row | STEP], std::make_integer_sequence<int, LANES>());
        turn<STEP / 2>(square);
    }
}
#endif
#endif
static inline float *aligned(float *at) { return at + ((-(intptr_t)at / 4) & (LANES - 1)); }

// elements of rows are exact in float32
struct BFloat16 {
    uint16_t bits;
    operator float() const {
        uint32_t wide = (uint32_t)bits << 16;
        float value;
        memcpy(&value, &wide, 4);
        return value;
    }
};
struct Float16 {
    uint16_t bits;
    operator float() const {
        uint32_t sign = (uint32_t)(bits & 0x8000) << 16, rest = (uint32_t)(bits & 0x7fff) << 13, wide;
        float value;
        memcpy(&value, &rest, 4);
        value *= 0x1p112f;
        memcpy(&wide, &value, 4);
        // the largest exponent is that of infinity and NaN
        wide = (rest >= 0x0f800000 ? rest | 0x7f800000 : wide) | sign;
        memcpy(&value, &wide, 4);
        return value;
    }
};
enum Kind { FLOAT32, BFLOAT16, FLOAT16 };

// vectors n = image * length + place, with any strides
struct Rows {
    const void *data;
    int64_t kind, length, width, image, row, dim;

    int64_t place(int64_t number) const { return number / length * image + number % length * row; }
    // rows of one image as float32, next to each other
    void read(int64_t start, int64_t count, float *out) const {
        int64_t at = place(start);
        if (kind == BFLOAT16)
            copy((const BFloat16 *)data + at, count, out);
        else if (kind == FLOAT16)
            copy((const Float16 *)data + at, count, out);
        else
            copy((const float *)data + at, count, out);
    }
    template <class Element> void copy(const Element *from, int64_t count, float *out) const {
        if (row < dim)
            for (int64_t i = 0; i < width; ++i)
                for (int64_t r = 0; r < count; ++r) out[r * width + i] = from[r * row + i * dim];
        else
            for (int64_t r = 0; r < count; ++r)
                for (int64_t i = 0; i < width; ++i) out[r * width + i] = from[r * row + i * dim];
    }
    // how many rows from `start` to `stop` lie in the same image
    int64_t together(int64_t start, int64_t stop) const {
        int64_t rest = length - start % length;
        return stop - start < rest ? stop - start : rest;
    }
};
struct Table {
    float *packed, *half;
    int64_t tiles, first;
};
struct Found {
    float *low, *next, *norm;
    int64_t *index;
};
struct Doubt {
    int64_t row;
    float limit;
    double nearest;
};

template <int ROWS, int VECS, bool GROUPED> struct Screen {
    static constexpr int64_t WIDTH = VECS * LANES;

    // packed: (tile, d, WIDTH), centred; half: (tile, WIDTH), |c|^2 / 2, FLT_MAX where the table has ended
    static void pack(const float *codes, const float *centre, int64_t k, int64_t d, int64_t tile, float *packed,
                     float *half) {
        float sum[WIDTH] = {}, turned[LINE][WIDTH];
        int64_t start = 0;
#if defined(TURNS_IN_REGISTERS)
        for (; start + LANES <= d; start += LANES)
            for (int v = 0; v < VECS; ++v) {
                const int64_t first = tile * WIDTH + v * LANES;
                const vec about = *(const loose *)(centre + start);
                vec square[LANES], total = *(loose *)(sum + v * LANES);
#pragma GCC unroll 16
                for (int lane = 0; lane < LANES; ++lane)
                    square[lane] = first + lane < k ? *(const loose *)(codes + (first + lane) * d + start) - about : vec{};
                turn<LANES / 2>(square);
#pragma GCC unroll 16
                for (int j = 0; j < LANES; ++j) {
                    *(vec *)(packed + (tile * d + start + j) * WIDTH + v * LANES) = square[j];
                    total += square[j] * square[j];
                }
                *(loose *)(sum + v * LANES) = total;
            }
#endif
        for (int64_t i = start; i < d; i += LINE) {
            int64_t wide = d - i < LINE ? d - i : LINE;
            for (int64_t lane = 0; lane < WIDTH; ++lane) {
                int64_t code = tile * WIDTH + lane;
                for (int64_t j = 0; j < wide; ++j)
                    turned[j][lane] = code < k ? codes[code * d + i + j] - centre[i + j] : 0;
            }
            for (int64_t j = 0; j < wide; ++j)
                for (int64_t lane = 0; lane < WIDTH; ++lane) {
                    packed[(tile * d + i + j) * WIDTH + lane] = turned[j][lane];
                    sum[lane] += turned[j][lane] * turned[j][lane];
                }
        }
        for (int64_t lane = 0; lane < WIDTH; ++lane)
            half[tile * WIDTH + lane] = tile * WIDTH + lane < k ? sum[lane] / 2 : FLT_MAX;
    }

    // rows into panels of ROWS, dims outside; memory is read in its own order
    static void gather(const float *rows, int64_t count, int64_t d, int64_t row_stride, int64_t dim_stride,
                       const float *centre, float *block, float *norm) {
        float sum[BLOCK] = {};
        if (row_stride < dim_stride)
            for (int64_t i = 0; i < d; ++i)
                for (int64_t r = 0; r < count; ++r) {
                    float value = rows[r * row_stride + i * dim_stride] - centre[i];
                    block[(r / ROWS) * ROWS * d + i * ROWS + r % ROWS] = value;
                    sum[r] += value * value;
                }
        else
            for (int64_t r = 0; r < count; ++r) {
                const float *from = rows + r * row_stride;
                float *to = block + (r / ROWS) * ROWS * d + r % ROWS, part[LINE] = {};
                // several sums side by side: each addition to a single one would wait for the last
                for (int64_t start = 0; start < d; start += LINE)
                    for (int64_t i = start; i < d && i < start + LINE; ++i) {
                        float value = from[i * dim_stride] - centre[i];
                        to[i * ROWS] = value;
                        part[i - start] += value * value;
                    }
                for (float value : part) sum[r] += value;
            }
        for (int64_t r = 0; r < count; ++r) norm[r] = std::sqrt(sum[r]);
        for (int64_t r = count; r % ROWS; ++r)
            for (int64_t i = 0; i < d; ++i) block[(r / ROWS) * ROWS * d + i * ROWS + r % ROWS] = 0;
    }

    static inline void products(const float *rows, const float *codes, int64_t d, vec (&sum)[ROWS][VECS]) {
        for (int64_t i = 0; i < d; ++i) {
            // the fewer of rows and vectors stay in registers, the others pass by one at a time
            if (VECS > ROWS) {
                vec row[ROWS];
                for (int r = 0; r < ROWS; ++r) row[r] = vec{} + rows[i * ROWS + r];
#pragma GCC unroll 4
                for (int v = 0; v < VECS; ++v) {
                    vec code = *(const vec *)(codes + i * WIDTH + v * LANES);
                    in_register(code);
                    for (int r = 0; r < ROWS; ++r) sum[r][v] -= row[r] * code;
                }
            } else {
                vec code[VECS];
                for (int v = 0; v < VECS; ++v) code[v] = *(const vec *)(codes + i * WIDTH + v * LANES);
#pragma GCC unroll 16
                for (int r = 0; r < ROWS; ++r)
                    for (int v = 0; v < VECS; ++v) sum[r][v] -= rows[i * ROWS + r] * code[v];
            }
        }
    }

    static inline void keep(vec score, int32_t number, float *best, float *second, int32_t *found) {
        vec b = *(vec *)best, s = *(vec *)second;
        ivec f = *(ivec *)found, better = score < b;
        *(vec *)second = lesser(s, greater(score, b));
        *(vec *)best = lesser(b, score);
        *(ivec *)found = better ? ivec{} + number : f;
    }

    // the scores of a group's members, one after the other; the winner's number and the lowest of the others
    static float members(const float *row, const float *packed, const float *half, int64_t d, int64_t tile, int lane,
                         int &winner, float &others) {
        float sum[VECS], least = FLT_MAX;
        for (int v = 0; v < VECS; ++v) sum[v] = half[tile * WIDTH + v * LANES + lane];
        const float *codes = packed + tile * d * WIDTH + lane;
        for (int64_t i = 0; i < d; ++i)
            for (int v = 0; v < VECS; ++v) sum[v] -= row[i * ROWS] * codes[i * WIDTH + v * LANES];
        for (int v = 0; v < VECS; ++v) {
            float loser = sum[v] < least ? least : sum[v];
            winner = sum[v] < least ? v : winner;
            least = sum[v] < least ? sum[v] : least;
            others = loser < others ? loser : others;
        }
        return least;
    }

    static int64_t scratch_of_settle(int64_t d) { return 2 * ROWS * d + LANES; }
    static int64_t scratch(int64_t d) { return BLOCK * (2 * d + (3 + VECS) * LANES) + LANES; }

    // low, next, index: running results over the parts of a table, at the row's number less `start`
    static void screen(const Rows &rows, int64_t start, int64_t stop, const float *centre, const Table &table,
                       Found found_rows, float *room) {
        const int64_t d = rows.width;
        float *best = aligned(room), *second = best + BLOCK * LANES, *partial = second + BLOCK * LANES;
        int32_t *found = (int32_t *)(partial + BLOCK * VECS * LANES);
        float *block = (float *)(found + BLOCK * LANES), *plain = block + BLOCK * d;
        const float *packed = table.packed, *half = table.half;
        const int64_t tiles = table.tiles;
        for (int64_t count, at_row = start; at_row < stop; at_row += count) {
            count = rows.together(at_row, at_row + BLOCK < stop ? at_row + BLOCK : stop);
            int64_t panels = (count + ROWS - 1) / ROWS, here = at_row - start;
            float *low = found_rows.low + here, *next = found_rows.next + here;
            int64_t *index = found_rows.index + here;
            const float *from = (const float *)rows.data + rows.place(at_row);
            int64_t row_stride = rows.row, dim_stride = rows.dim;
            if (rows.kind != FLOAT32) {
                rows.read(at_row, count, plain);
                from = plain, row_stride = d, dim_stride = 1;
            }
            gather(from, count, d, row_stride, dim_stride, centre, block, found_rows.norm + here);
            for (int64_t i = 0; i < panels * ROWS * LANES; ++i) best[i] = second[i] = FLT_MAX, found[i] = 0;
            for (int64_t tile = 0; tile < tiles; ++tile)
                for (int64_t from = 0; from < d; from += DEPTH) {
                    int64_t deep = d - from < DEPTH ? d - from : DEPTH;
                    for (int64_t panel = 0; panel < panels; ++panel) {
                        vec sum[ROWS][VECS], *kept = (vec *)partial + panel * ROWS * VECS;
                        for (int r = 0; r < ROWS; ++r)
                            for (int v = 0; v < VECS; ++v)
                                sum[r][v] = from ? kept[r * VECS + v] : ((const vec *)(half + tile * WIDTH))[v];
                        products(block + (panel * d + from) * ROWS, packed + (tile * d + from) * WIDTH, deep, sum);
                        if (from + deep < d) {
                            for (int r = 0; r < ROWS; ++r)
                                for (int v = 0; v < VECS; ++v) kept[r * VECS + v] = sum[r][v];
                            continue;
                        }
#pragma GCC unroll 16
                        for (int r = 0; r < ROWS; ++r) {
                            int64_t at = (panel * ROWS + r) * LANES;
                            if (GROUPED) {
                                vec group = sum[r][0];
                                for (int v = 1; v < VECS; ++v) group = lesser(group, sum[r][v]);
                                keep(group, (int32_t)tile, best + at, second + at, found + at);
                            } else
#pragma GCC unroll 4
                                for (int v = 0; v < VECS; ++v)
                                    keep(sum[r][v], (int32_t)(tile * VECS + v), best + at, second + at, found + at);
                        }
                    }
                }
            for (int64_t r = 0; r < count; ++r) {
                vec b = *(vec *)(best + r * LANES), s = *(vec *)(second + r * LANES), lanes;
#pragma GCC unroll 16
                for (int lane = 0; lane < LANES; ++lane) lanes[lane] = lane;
                float least = least_of<LANES / 2>(b);
                float place = least_of<LANES / 2>(b == least ? lanes : vec{} + (float)LANES);
                float after = least_of<LANES / 2>(lanes == place ? s : b);
                int at = (int)place & (LANES - 1);
                int64_t code = table.first + (int64_t)found[r * LANES + at] * LANES + at;
                if (GROUPED) {
                    int winner = 0;
                    int64_t tile = found[r * LANES + at];
                    const float *row = block + (r / ROWS) * ROWS * d + r % ROWS;
                    least = members(row, packed, half, d, tile, at, winner, after);
                    code = table.first + tile * WIDTH + winner * LANES + at;
                }
                float &lowest = low[r], &runner = next[r];
                float loser = least < lowest ? lowest : least;
                index[r] = least < lowest ? code : index[r];
                lowest = least < lowest ? least : lowest;
                after = loser < after ? loser : after;
                runner = after < runner ? after : runner;
            }
        }
    }

    static bool settle(const Rows &rows, Doubt *doubts, int64_t count, const float *centre, const Table &table,
                          const float *codes, int64_t k, int64_t *index, int64_t most, float *room);
};

// the order of reference.squared_distance, which decides between distances that differ by rounding alone
static double squared_distance(const float *row, const float *code, int64_t d) {
    double total = 0, square[TREE];
    int block = 1;
    while (block < TREE && block < d) block *= 2;
    for (int64_t from = 0; from < d; from += block) {
        for (int i = 0; i < block; ++i) {
            double value = from + i < d ? (double)row[from + i] - (double)code[from + i] : 0;
            square[i] = value * value;
        }
        // squares are rounded before they are added: no fused multiply-add
        asm volatile("" : : "r"(square) : "memory");
        for (int left = block / 2; left; left /= 2)
            for (int i = 0; i < left; ++i) square[i] = square[2 * i] + square[2 * i + 1];
        total = from ? total + square[0] : square[0];
    }
    return total;
}

// scores doubtful rows again and compares in float64 every code whose score is at most their limit; gives up after `most`
// of those codes
template <int ROWS, int VECS, bool GROUPED>
bool Screen<ROWS, VECS, GROUPED>::settle(const Rows &rows, Doubt *doubts, int64_t count, const float *centre,
                                            const Table &table, const float *codes, int64_t k, int64_t *index,
                                            int64_t most, float *room) {
    float *block = aligned(room), *plain = block + ROWS * rows.width;
    const int64_t d = rows.width;
    int64_t compared = 0;
    for (int64_t start = 0; start < count; start += ROWS) {
        for (int r = 0; r < ROWS; ++r) {
            rows.read(doubts[start + r < count ? start + r : count - 1].row, 1, plain + r * d);
            for (int64_t i = 0; i < d; ++i) block[i * ROWS + r] = plain[r * d + i] - centre[i];
        }
        for (int64_t tile = 0; tile < table.tiles; ++tile) {
            vec sum[ROWS][VECS];
            for (int r = 0; r < ROWS; ++r)
                for (int v = 0; v < VECS; ++v) sum[r][v] = ((const vec *)(table.half + tile * WIDTH))[v];
            products(block, table.packed + tile * d * WIDTH, d, sum);
            for (int r = 0; r < ROWS && start + r < count; ++r) {
                Doubt &doubt = doubts[start + r];
                int any = 0;
                for (int v = 0; v < VECS; ++v)
                    for (int lane = 0; lane < LANES; ++lane) any |= sum[r][v][lane] <= doubt.limit;
                if (!any) continue;
                for (int lane = 0; lane < WIDTH; ++lane) {
                    int64_t code = table.first + tile * WIDTH + lane;
                    if (code >= k || !(sum[r][lane / LANES][lane % LANES] <= doubt.limit)) continue;
                    if (++compared > most) return false;
                    double distance = squared_distance(plain + r * d, codes + code * d, d);
                    // codes come in the order of their numbers: the first of equal ones stays
                    if (distance < doubt.nearest) doubt.nearest = distance, index[doubt.row] = code;
                }
            }
        }
    }
    return true;
}
