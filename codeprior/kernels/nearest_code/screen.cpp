// The float32 screen of compiled.py: best score, runner-up and index of each row in one pass over a packed table, and
// the float64 settling of the rows whose runner-up is too close.
//
// score(x, c) = |c|^2 / 2 - x . c, a matrix product whose tiles never leave the registers. A tile is ROWS rows by VECS
// vectors of codes; `best`, `second` and `found` are kept per lane, and reduced once a row. Where vectors are short the
// bookkeeping costs as much as the product: there a lane keeps the smallest of its VECS scores, the second is that of
// another group, and the members of the winning group are scored once more.
// Compiled with -ffinite-math-only: rows and tables that are not finite are told by their norms, in compiled.py.
#include <cfloat>
#include <cmath>
#include <cstdint>

#if defined(__AVX512F__)
enum { LANES = 16, TALL = 12, FLAT = 6 };
#elif defined(__AVX__)
enum { LANES = 8, TALL = 6, FLAT = 3 };
#else
enum { LANES = 4, TALL = 8, FLAT = 4 };
#endif
enum { BLOCK = 96, SHORT = 32, DEPTH = 256, TREE = 32, LINE = 16 };  // DEPTH: dims of a tile that fit the innermost cache

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4)));

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
static inline float *aligned(float *at) { return at + ((-(intptr_t)at / 4) & (LANES - 1)); }

template <int ROWS, int VECS, bool GROUPED> struct Screen {
    static constexpr int64_t WIDTH = VECS * LANES;

    // packed: (tile, d, WIDTH), centred; half: (tile, WIDTH), |c|^2 / 2, FLT_MAX where the table has ended
    static void pack(const float *codes, const float *centre, int64_t k, int64_t d, float *packed, float *half) {
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
                float *to = block + (r / ROWS) * ROWS * d + r % ROWS, total = 0;
                for (int64_t i = 0; i < d; ++i) {
                    float value = from[i * dim_stride] - centre[i];
                    to[i * ROWS] = value;
                    total += value * value;
                }
                sum[r] = total;
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

    static int64_t scratch(int64_t d) { return BLOCK * (d + (3 + VECS) * LANES) + LANES; }

    static void screen(const float *rows, int64_t n, int64_t d, int64_t row_stride, int64_t dim_stride,
                       const float *centre, const float *packed, const float *half, int64_t tiles, int64_t first,
                       float *low, float *next, int64_t *index, float *norm, float *room) {
        float *best = aligned(room), *second = best + BLOCK * LANES, *partial = second + BLOCK * LANES;
        int32_t *found = (int32_t *)(partial + BLOCK * VECS * LANES);
        float *block = (float *)(found + BLOCK * LANES);
        for (int64_t start = 0; start < n; start += BLOCK) {
            int64_t count = n - start < BLOCK ? n - start : BLOCK, panels = (count + ROWS - 1) / ROWS;
            gather(rows + start * row_stride, count, d, row_stride, dim_stride, centre, block, norm + start);
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
                int64_t code = first + (int64_t)found[r * LANES + at] * LANES + at;
                if (GROUPED) {
                    int winner = 0;
                    int64_t tile = found[r * LANES + at];
                    const float *row = block + (r / ROWS) * ROWS * d + r % ROWS;
                    least = members(row, packed, half, d, tile, at, winner, after);
                    code = first + tile * WIDTH + winner * LANES + at;
                }
                float &lowest = low[start + r], &runner = next[start + r];
                float loser = least < lowest ? lowest : least;
                index[start + r] = least < lowest ? code : index[start + r];
                lowest = least < lowest ? least : lowest;
                after = loser < after ? loser : after;
                runner = after < runner ? after : runner;
            }
        }
    }

    static int64_t settle(const float *rows, const int64_t *which, int64_t n, int64_t d, int64_t row_stride,
                          int64_t dim_stride, const float *centre, const float *packed, const float *half,
                          int64_t tiles, int64_t first, const float *codes, int64_t k, const float *reach,
                          double *nearest, int64_t *index, int64_t most, float *room);
};

// the order of reference.squared_distance, which decides between distances that differ by rounding alone
static double squared_distance(const float *row, int64_t stride, const float *code, int64_t d) {
    double total = 0, square[TREE];
    int block = 1;
    while (block < TREE && block < d) block *= 2;
    for (int64_t from = 0; from < d; from += block) {
        for (int i = 0; i < block; ++i) {
            double value = from + i < d ? (double)row[(from + i) * stride] - (double)code[from + i] : 0;
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

// scores the rows `which` again and compares in float64 every code whose score is at most `reach` of its row; gives the
// count of those codes, or gives up with -1 after `most` of them
template <int ROWS, int VECS, bool GROUPED>
int64_t Screen<ROWS, VECS, GROUPED>::settle(const float *rows, const int64_t *which, int64_t n, int64_t d,
                                            int64_t row_stride, int64_t dim_stride, const float *centre,
                                            const float *packed, const float *half, int64_t tiles, int64_t first,
                                            const float *codes, int64_t k, const float *reach, double *nearest,
                                            int64_t *index, int64_t most, float *room) {
    float *block = aligned(room);
    int64_t compared = 0;
    for (int64_t start = 0; start < n; start += ROWS) {
        for (int r = 0; r < ROWS; ++r) {
            const float *row = rows + which[start + r < n ? start + r : n - 1] * row_stride;
            for (int64_t i = 0; i < d; ++i) block[i * ROWS + r] = row[i * dim_stride] - centre[i];
        }
        for (int64_t tile = 0; tile < tiles; ++tile) {
            vec sum[ROWS][VECS];
            for (int r = 0; r < ROWS; ++r)
                for (int v = 0; v < VECS; ++v) sum[r][v] = ((const vec *)(half + tile * WIDTH))[v];
            products(block, packed + tile * d * WIDTH, d, sum);
            for (int r = 0; r < ROWS && start + r < n; ++r) {
                float limit = reach[start + r];
                int any = 0;
                for (int v = 0; v < VECS; ++v)
                    for (int lane = 0; lane < LANES; ++lane) any |= sum[r][v][lane] <= limit;
                if (!any) continue;
                int64_t row = which[start + r];
                for (int lane = 0; lane < WIDTH; ++lane) {
                    int64_t code = first + tile * WIDTH + lane;
                    if (code >= k || !(sum[r][lane / LANES][lane % LANES] <= limit)) continue;
                    if (++compared > most) return -1;
                    double distance = squared_distance(rows + row * row_stride, dim_stride, codes + code * d, d);
                    // codes come in the order of their numbers: the first of equal ones stays
                    if (distance < nearest[start + r]) nearest[start + r] = distance, index[row] = code;
                }
            }
        }
    }
    return compared;
}

typedef Screen<TALL, 2, false> Long;
typedef Screen<FLAT, 4, true> Brief;

extern "C" {
int64_t tile_width(int64_t d) { return d <= SHORT ? Brief::WIDTH : Long::WIDTH; }
int64_t scratch_floats(int64_t d) { return d <= SHORT ? Brief::scratch(d) : Long::scratch(d); }
void pack_codes(const float *codes, const float *centre, int64_t k, int64_t d, float *packed, float *half) {
    (d <= SHORT ? Brief::pack : Long::pack)(codes, centre, k, d, packed, half);
}
// rows whose runner-up is within `reach`: their numbers, and the score up to which a code may be the nearest; rows whose
// reach is not finite are marked in `lost` instead, and counted
int64_t near_ties(const float *low, const float *next, const float *reach, int64_t n, int64_t *which, float *limit,
                  uint8_t *lost, int64_t *losses) {
    int64_t count = 0;
    *losses = 0;
    for (int64_t row = 0; row < n; ++row) {
        uint32_t bits;
        __builtin_memcpy(&bits, reach + row, 4);
        lost[row] = (bits & 0x7f800000) == 0x7f800000;
        *losses += lost[row];
        which[count] = row;
        limit[count] = low[row] + reach[row];
        count += !lost[row] && next[row] - low[row] <= reach[row];
    }
    return count;
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
// rows: n x d with any strides; low, next, index: running results, to be started at FLT_MAX; norm: |x - centre|
void screen(const float *rows, int64_t n, int64_t d, int64_t row_stride, int64_t dim_stride, const float *centre,
            const float *packed, const float *half, int64_t tiles, int64_t first, float *low, float *next,
            int64_t *index, float *norm, float *room) {
    (d <= SHORT ? Brief::screen : Long::screen)(rows, n, d, row_stride, dim_stride, centre, packed, half, tiles, first,
                                                low, next, index, norm, room);
}
int64_t settle(const float *rows, const int64_t *which, int64_t n, int64_t d, int64_t row_stride, int64_t dim_stride,
               const float *centre, const float *packed, const float *half, int64_t tiles, int64_t first,
               const float *codes, int64_t k, const float *reach, double *nearest, int64_t *index, int64_t most,
               float *room) {
    return (d <= SHORT ? Brief::settle : Long::settle)(rows, which, n, d, row_stride, dim_stride, centre, packed, half,
                                                       tiles, first, codes, k, reach, nearest, index, most, room);
}
}
