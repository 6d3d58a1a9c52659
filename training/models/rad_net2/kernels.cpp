// The steps of a frame of RaD-Net 2 on one thread: `program.py` writes them down, `run` takes them one after another.
//
// Each step reads and writes matrices whose rows lie a fixed distance apart, so overlapping windows, columns beside
// others and entries of a ring need no copies. Vectors have 64 bytes, which the compiler makes out of what the processor
// has. NUMBER is float or double.

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr int WIDE = 64 / sizeof(NUMBER);  // numbers of a vector

template <class T>
struct Vectors;
template <>
struct Vectors<float> {
    typedef float V __attribute__((vector_size(WIDE * sizeof(float))));
    typedef int32_t I __attribute__((vector_size(WIDE * sizeof(int32_t))));
    static constexpr int DEGREE = 6, FRACTION = 23, BIAS = 127;
};
template <>
struct Vectors<double> {
    typedef double V __attribute__((vector_size(WIDE * sizeof(double))));
    typedef int64_t I __attribute__((vector_size(WIDE * sizeof(int64_t))));
    static constexpr int DEGREE = 12, FRACTION = 52, BIAS = 1023;
};
typedef double Wide __attribute__((vector_size(WIDE * sizeof(double))));

// A matrix: in which memory, where, how far apart its rows are; entry `frame - age` of a ring of `ring` such.
struct Place {
    int64_t first;
    int32_t memory, row, ring, slot, age, unused;
};

struct Step {
    int32_t kind, rows, columns, inner, option, more;
    double value;
    int64_t weight, bias, slope, statistics;  // places in their memories; -1: none
    Place x, y, out;
};

template <class T>
struct Memories {
    T* memory[3];  // weights, scratch, what the stream keeps
    double* statistics;
    int64_t frame;

    T* at(const Place& place, int64_t older = 0) const {
        int64_t entry = place.ring > 1 ? (frame + (int64_t)place.ring * 64 - place.age - older) % place.ring : 0;
        return memory[place.memory] + place.first + entry * place.slot;
    }
    const T* weights(int64_t first) const { return first < 0 ? nullptr : memory[0] + first; }
};

template <class V, class T>
V load(const T* from) {  // from anywhere: rows need not begin where a vector would
    V whole;
    std::memcpy(&whole, from, sizeof(whole));
    return whole;
}

template <class V, class T>
V load(const T* from, int count) {
    if (count >= WIDE) return load<V>(from);
    V whole = {};
    std::memcpy(&whole, from, count * sizeof(T));
    return whole;
}

template <class V, class T>
void store(T* to, V v) {
    std::memcpy(to, &v, sizeof(v));
}

template <class V, class T>
void store(T* to, V v, int count) {
    if (count >= WIDE)
        std::memcpy(to, &v, sizeof(v));
    else
        std::memcpy(to, &v, count * sizeof(T));
}

template <class V>
V sloped(V v, V slope) {
    return v > 0 ? v : v * slope;
}

// Powers of ln 2 over factorials: the series of powers of two.
template <class T>
struct Series {
    T of[Vectors<T>::DEGREE + 1] = {};
    constexpr Series() {
        double term = 1;
        for (int degree = 0; degree <= Vectors<T>::DEGREE; ++degree) {
            of[degree] = term;
            term *= 0.693147180559945309417232121458 / (degree + 1);
        }
    }
};

// Powers of two of numbers up to zero.
template <class T, class V = typename Vectors<T>::V>
V power(V x) {
    using I = typename Vectors<T>::I;
    constexpr Series<T> SERIES;
    const V least = V{} + T(1 - Vectors<T>::BIAS);
    x = x > least ? x : least;
    I whole = __builtin_convertvector(x - T(0.5), I);
    V rest = x - __builtin_convertvector(whole, V), sum = V{} + SERIES.of[Vectors<T>::DEGREE];
#pragma GCC unroll 12
    for (int degree = Vectors<T>::DEGREE - 1; degree >= 0; --degree) sum = sum * rest + SERIES.of[degree];
    I bits = (whole + Vectors<T>::BIAS) << Vectors<T>::FRACTION;
    V scale;
    std::memcpy(&scale, &bits, sizeof(scale));
    return sum * scale;
}

constexpr double LOG2_E = 1.44269504088896340735992468100;

template <class T, class V = typename Vectors<T>::V>
V sigmoid(V x) {
    V small = power<T>((x > 0 ? -x : x) * T(LOG2_E));
    return (x > 0 ? V{} + T(1) : small) / (small + T(1));
}

// tanh(x) / x of positive numbers.
template <class T, class V = typename Vectors<T>::V>
V bounding(V x) {
    V small = power<T>(x * T(-2 * LOG2_E)), square = x * x;
    V near = square * T(-1382.0 / 155925) + T(62.0 / 2835);
    near = near * square - T(17.0 / 315);
    near = near * square + T(2.0 / 15);
    near = near * square - T(1.0 / 3);
    near = near * square + T(1);
    return x < T(0.1) ? near : (T(1) - small) / ((T(1) + small) * x);
}

// ---- matrix products

constexpr int MOST_TAPS = 32;

// Of several matrices, `taps`, with as many weights, summed.
template <class T>
struct Product {
    const T* x[MOST_TAPS];
    const T *weight, *bias, *slope, *y;
    T* out;
    int64_t x_row, y_row, out_row;
    int taps, inner, columns;
};

// What follows the sums of a tile whose last vector is not full.
template <class T>
__attribute__((noinline)) void finish(const Product<T>& p, const T* sums, int row, int rows, int column, int wide) {
    for (int m = 0; m < rows; ++m)
        for (int c = 0; column + c < p.columns && c < wide; ++c) {
            T v = sums[m * wide + c] + (p.y ? p.y[(row + m) * p.y_row + column + c] : T(0));
            p.out[(row + m) * p.out_row + column + c] = v > 0 || !p.slope ? v : v * p.slope[column + c];
        }
}

// `M` rows from `row`, `N` vectors of columns from `panel`.
template <class T, int M, int N>
__attribute__((noinline)) void tile(const Product<T>& p, int row, int panel) {
    using V = typename Vectors<T>::V;
    V sum[M][N];
    const int64_t next = (int64_t)p.taps * p.inner * WIDE;
    const T* weight = p.weight + panel * next;
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
        V first = p.bias ? load<V>(p.bias + (panel + n) * WIDE) : V{};
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) sum[m][n] = first;
    }
    for (int tap = 0; tap < p.taps; ++tap) {
        const T* x = p.x[tap] + row * p.x_row;
        for (int k = 0; k < p.inner; ++k, weight += WIDE) {
            V w[N];
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) w[n] = load<V>(weight + n * next);
#pragma GCC unroll 8
            for (int m = 0; m < M; ++m) {
                T each = x[m * p.x_row + k];
#pragma GCC unroll 8
                for (int n = 0; n < N; ++n) sum[m][n] += w[n] * each;
            }
        }
    }
    if (p.columns < (panel + N) * WIDE) {  // apart, so that the sums stay in registers everywhere else
        T numbers[M * N * WIDE];
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
            for (int m = 0; m < M; ++m) store<V>(numbers + (m * N + n) * WIDE, sum[m][n]);
        finish<T>(p, numbers, row, M, panel * WIDE, N * WIDE);
        return;
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
        const int column = (panel + n) * WIDE;
        const V slope = p.slope ? load<V>(p.slope + column) : V{} + T(1);
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) {
            V v = sum[m][n];
            if (p.y) v += load<V>(p.y + (row + m) * p.y_row + column);
            store<V>(p.out + (row + m) * p.out_row + column, sloped<V>(v, slope));
        }
    }
}

template <class T, int M, int N>
void columns_of(const Product<T>& p, int rows, int panel) {
    int row = 0;
    for (; row + M <= rows; row += M) tile<T, M, N>(p, row, panel);
    if constexpr (M > 4)
        for (; row + 4 <= rows; row += 4) tile<T, 4, N>(p, row, panel);
    if constexpr (M > 2)
        for (; row + 2 <= rows; row += 2) tile<T, 2, N>(p, row, panel);
    for (; row < rows; ++row) tile<T, 1, N>(p, row, panel);
}

// x of this frame, of `option` frames ago, ...: `more` such, each through its own weights; bias, y, slope.
template <class T>
void linear(const Step& s, const Memories<T>& m) {
    Product<T> p{{}, m.weights(s.weight), m.weights(s.bias), m.weights(s.slope),
                 s.y.memory < 0 ? nullptr : m.at(s.y), m.at(s.out), s.x.row, s.y.row, s.out.row,
                 s.more, s.inner, s.columns};
    for (int tap = 0; tap < s.more; ++tap) p.x[tap] = m.at(s.x, (int64_t)tap * s.option);
    int panels = (s.columns + WIDE - 1) / WIDE;
    for (int panel = 0; panel < panels;) {
        int left = panels - panel;
        if (left % 5 == 0) {
            columns_of<T, 5, 5>(p, s.rows, panel);
            panel += 5;
        } else if (left >= 4) {
            columns_of<T, 6, 4>(p, s.rows, panel);
            panel += 4;
        } else if (left == 3) {
            columns_of<T, 8, 3>(p, s.rows, panel);
            panel += 3;
        } else if (left == 2) {
            columns_of<T, 8, 2>(p, s.rows, panel);
            panel += 2;
        } else {
            columns_of<T, 8, 1>(p, s.rows, panel);
            panel += 1;
        }
    }
}

// ---- the other steps

// Each column by itself, over three frames `option` apart and three bins; weights [3 frames, oldest first, 3 bins].
template <class T, bool FULL>
void depthwise_columns(const Step& s, const Memories<T>& m, int c) {
    using V = typename Vectors<T>::V;
    const int wide = (s.columns + WIDE - 1) / WIDE * WIDE, count = FULL ? WIDE : s.columns - c;
    const T* weight = m.weights(s.weight) + c;
    const T* frame[3];
    V w[9];
    for (int tap = 0; tap < 3; ++tap) frame[tap] = m.at(s.x, (int64_t)(2 - tap) * s.option) + c;
    for (int tap = 0; tap < 9; ++tap) w[tap] = load<V>(weight + tap * wide);
    const V first = load<V>(m.weights(s.bias) + c), slope = load<V>(m.weights(s.slope) + c);
    T* out = m.at(s.out) + c;
    for (int row = 0; row < s.rows; ++row) {
        V sum = first;
#pragma GCC unroll 9
        for (int tap = 0; tap < 9; ++tap)
            sum += w[tap] * load<V>(frame[tap / 3] + (row + tap % 3) * (int64_t)s.x.row, count);
        store<V>(out + row * (int64_t)s.out.row, sloped<V>(sum, slope), count);
    }
}

template <class T>
void depthwise(const Step& s, const Memories<T>& m) {
    int c = 0;
    for (; c + WIDE <= s.columns; c += WIDE) depthwise_columns<T, true>(s, m, c);
    if (c < s.columns) depthwise_columns<T, false>(s, m, c);
}

// The same for complex columns, imaginary parts behind real ones: a second set of weights is for the other part.
template <class T>
void complex_depthwise(const Step& s, const Memories<T>& m) {
    using V = typename Vectors<T>::V;
    const T* frame[3];
    for (int tap = 0; tap < 3; ++tap) frame[tap] = m.at(s.x, (int64_t)(2 - tap) * s.option);
    const T *weight = m.weights(s.weight), *bias = m.weights(s.bias), *slope = m.weights(s.slope);
    T* out = m.at(s.out);
    const int wide = (s.columns + WIDE - 1) / WIDE * WIDE, half = s.columns / 2;
    if (s.columns == WIDE) {
        typename Vectors<T>::I turned;
        for (int lane = 0; lane < WIDE; ++lane) turned[lane] = (lane + WIDE / 2) % WIDE;
        V own[9], other[9];
        for (int tap = 0; tap < 9; ++tap) {
            own[tap] = load<V>(weight + tap * WIDE);
            other[tap] = load<V>(weight + (9 + tap) * WIDE);
        }
        for (int row = 0; row < s.rows; ++row) {
            V sum = load<V>(bias), swapped = {};
#pragma GCC unroll 9
            for (int tap = 0; tap < 9; ++tap) {
                V x = load<V>(frame[tap / 3] + (row + tap % 3) * (int64_t)s.x.row);
                sum += own[tap] * x;
                swapped += other[tap] * x;  // in the columns of the part that it is taken from
            }
            sum += __builtin_shuffle(swapped, turned);
            store<V>(out + row * (int64_t)s.out.row, sloped<V>(sum, load<V>(slope)), WIDE);
        }
        return;
    }
    for (int row = 0; row < s.rows; ++row)
        for (int c = 0; c < s.columns; ++c) {
            const int from = c < half ? c + half : c - half;
            T sum = bias[c];
            for (int tap = 0; tap < 9; ++tap) {
                const T* x = frame[tap / 3] + (row + tap % 3) * (int64_t)s.x.row;
                sum += weight[tap * wide + c] * x[c] + weight[(9 + tap) * wide + from] * x[from];
            }
            out[row * (int64_t)s.out.row + c] = sum > 0 ? sum : sum * slope[c];
        }
}

// Running norm over all of x; a slope before it (`option` 1) or behind it (0); gains and biases may be absent.
template <class T>
void norm(const Step& s, const Memories<T>& m) {
    using V = typename Vectors<T>::V;
    const T *x = m.at(s.x), *gain = m.weights(s.weight), *bias = m.weights(s.bias), *slope = m.weights(s.slope);
    T* out = m.at(s.out);
    Wide sums = {};
    for (int row = 0; row < s.rows; ++row)
        for (int c = 0; c < s.columns; c += WIDE) {
            int count = s.columns - c;
            V v = load<V>(x + row * (int64_t)s.x.row + c, count);
            if (slope && s.option) v = sloped<V>(v, load<V>(slope + c));
            store<V>(out + row * (int64_t)s.out.row + c, v, count);
            sums += __builtin_convertvector(v, Wide);
        }
    double total = 0, numbers = (double)s.rows * s.columns;
    for (int lane = 0; lane < WIDE; ++lane) total += sums[lane];
    const double here = total / numbers;
    Wide squares = {};
    for (int row = 0; row < s.rows; ++row)
        for (int c = 0; c < s.columns; c += WIDE) {
            int count = s.columns - c;
            Wide away = __builtin_convertvector(load<V>(out + row * (int64_t)s.out.row + c, count), Wide) - here;
            if (count < WIDE)
                for (int lane = count; lane < WIDE; ++lane) away[lane] = 0;
            squares += away * away;
        }
    double spread = 0;
    for (int lane = 0; lane < WIDE; ++lane) spread += squares[lane];
    double *mean = m.statistics + s.statistics, *square = mean + 1;
    *mean += (here - *mean) / (m.frame + 1);
    *square += (spread / numbers + here * here - *square) / (m.frame + 1);
    const double variance = *square - *mean * *mean;
    const T rate = 1 / std::sqrt((variance > 0 ? variance : 0) + s.value), middle = *mean;
    for (int row = 0; row < s.rows; ++row)
        for (int c = 0; c < s.columns; c += WIDE) {
            int count = s.columns - c;
            T* to = out + row * (int64_t)s.out.row + c;
            V v = (load<V>(to, count) - middle) * rate;
            if (gain) v = v * load<V>(gain + c) + load<V>(bias + c);
            if (slope && !s.option) v = sloped<V>(v, load<V>(slope + c));
            store<V>(to, v, count);
        }
}

// x times the sigmoid of y.
template <class T>
void gate(const Step& s, const Memories<T>& m) {
    using V = typename Vectors<T>::V;
    const T *x = m.at(s.x), *y = m.at(s.y);
    T* out = m.at(s.out);
    for (int row = 0; row < s.rows; ++row)
        for (int c = 0; c < s.columns; c += WIDE) {
            int count = s.columns - c;
            V gates = sigmoid<T>(load<V>(y + row * (int64_t)s.y.row + c, count));
            store<V>(out + row * (int64_t)s.out.row + c, load<V>(x + row * (int64_t)s.x.row + c, count) * gates, count);
        }
}

// x plus `value` times y, or x alone.
template <class T>
void add(const Step& s, const Memories<T>& m) {
    using V = typename Vectors<T>::V;
    const T *x = m.at(s.x), *y = s.y.memory < 0 ? nullptr : m.at(s.y);
    T* out = m.at(s.out);
    for (int row = 0; row < s.rows; ++row)
        for (int c = 0; c < s.columns; c += WIDE) {
            int count = s.columns - c;
            V v = load<V>(x + row * (int64_t)s.x.row + c, count);
            if (y) v += load<V>(y + row * (int64_t)s.y.row + c, count) * T(s.value);
            store<V>(out + row * (int64_t)s.out.row + c, v, count);
        }
}

// Complex x times complex y, whose moduli pass a hyperbolic tangent first (`option`); imaginary parts lie `columns`
// behind real ones. `value` is added to squared moduli.
template <class T>
void mask(const Step& s, const Memories<T>& m) {
    using V = typename Vectors<T>::V;
    const T *x = m.at(s.x), *y = m.at(s.y);
    T* out = m.at(s.out);
    for (int row = 0; row < s.rows; ++row)
        for (int c = 0; c < s.columns; c += WIDE) {
            int count = s.columns - c;
            const T *xs = x + row * (int64_t)s.x.row + c, *ys = y + row * (int64_t)s.y.row + c;
            T* to = out + row * (int64_t)s.out.row + c;
            V a = load<V>(xs, count), b = load<V>(xs + s.columns, count);
            V r = load<V>(ys, count), i = load<V>(ys + s.columns, count);
            if (s.option) {
                V modulus = r * r + i * i + T(s.value);
                for (int lane = 0; lane < WIDE; ++lane) modulus[lane] = std::sqrt(modulus[lane]);
                V scale = bounding<T>(modulus);
                r *= scale;
                i *= scale;
            }
            store<V>(to, a * r - b * i, count);
            store<V>(to + s.inner, a * i + b * r, count);  // `inner`: how far behind in the output
        }
}

// Map `map` of several, each `width` wide.
template <class T, int width>
void attended(const Step& s, const T* x, T* out, int map) {
    using V = typename Vectors<T>::V;
    const int kind = s.more * width;
    x += map * width;
    out += map * width;
    for (int first = 0; first < s.rows; first += WIDE) {
        int count = s.rows - first < WIDE ? s.rows - first : WIDE;
        T numbers[width][WIDE] = {};
        for (int d = 0; d < width; ++d)
            for (int lane = 0; lane < count; ++lane) numbers[d][lane] = x[(first + lane) * (int64_t)s.x.row + d];
        V query[width], seen[width];
        for (int d = 0; d < width; ++d) query[d] = load<V>(numbers[d]), seen[d] = V{};
        V most = V{} - T(INFINITY), sum = {};
        const T* row = x + kind;
        for (int key = 0; key < s.rows; ++key, row += s.x.row) {
            V score = query[0] * row[0];
            for (int d = 1; d < width; ++d) score += query[d] * row[d];
            most = score > most ? score : most;
        }
        row = x + kind;
        for (int key = 0; key < s.rows; ++key, row += s.x.row) {
            V score = query[0] * row[0];
            for (int d = 1; d < width; ++d) score += query[d] * row[d];
            V weight = power<T>(score - most);
            sum += weight;
            for (int d = 0; d < width; ++d) seen[d] += weight * row[kind + d];
        }
        for (int d = 0; d < width; ++d) store<V>(numbers[d], seen[d] / sum, WIDE);
        for (int d = 0; d < width; ++d)
            for (int lane = 0; lane < count; ++lane) out[(first + lane) * (int64_t)s.out.row + d] = numbers[d][lane];
    }
}

// Rows are queries, keys and values of `more` maps, `inner` wide each; the softmax is of powers of two.
template <class T>
void attention(const Step& s, const Memories<T>& m) {
    for (int map = 0; map < s.more; ++map) switch (s.inner) {
            case 1: attended<T, 1>(s, m.at(s.x), m.at(s.out), map); break;
            case 2: attended<T, 2>(s, m.at(s.x), m.at(s.out), map); break;
            case 3: attended<T, 3>(s, m.at(s.x), m.at(s.out), map); break;
            default: attended<T, 4>(s, m.at(s.x), m.at(s.out), map);
        }
}

// Complex numbers, parts side by side, times a power of their squared moduli; an exponent for each row.
template <class T>
void raised(const Step& s, const Memories<T>& m) {
    const T *x = m.at(s.x), *exponent = m.weights(s.weight);
    T* out = m.at(s.out);
    for (int row = 0; row < s.rows; ++row) {
        const T a = x[row * (int64_t)s.x.row], b = x[row * (int64_t)s.x.row + 1];
        const T scale = std::pow(a * a + b * b + T(s.value), exponent[row]);
        out[row * (int64_t)s.out.row] = a * scale;
        out[row * (int64_t)s.out.row + 1] = b * scale;
    }
}

// One number: RMS of x over itself and `value`.
template <class T>
void loudness(const Step& s, const Memories<T>& m) {
    const T* x = m.at(s.x);
    double squares = 0;
    for (int row = 0; row < s.rows; ++row)
        for (int c = 0; c < s.columns; ++c) squares += (double)x[row * (int64_t)s.x.row + c] * x[row * (int64_t)s.x.row + c];
    const double rms = std::sqrt(squares / ((double)s.rows * s.columns));
    *m.at(s.out) = rms / (rms + s.value);
}

// x times the number at y.
template <class T>
void scaled(const Step& s, const Memories<T>& m) {
    const T *x = m.at(s.x), factor = *m.at(s.y);
    T* out = m.at(s.out);
    for (int row = 0; row < s.rows; ++row)
        for (int c = 0; c < s.columns; ++c) out[row * (int64_t)s.out.row + c] = x[row * (int64_t)s.x.row + c] * factor;
}

template <class T>
void run(const Step* steps, int64_t count, const Memories<T>& m) {
    static void (*const kinds[])(const Step&, const Memories<T>&) = {
        linear<T>, depthwise<T>, complex_depthwise<T>, norm<T>, gate<T>,
        add<T>,    mask<T>,      attention<T>,         raised<T>, loudness<T>, scaled<T>};
    for (int64_t place = 0; place < count; ++place) kinds[steps[place].kind](steps[place], m);
}

}  // namespace

extern "C" void run_steps(const Step* steps, int64_t count, NUMBER* weights, NUMBER* scratch, NUMBER* kept,
                          double* statistics, int64_t frame) {
    run<NUMBER>(steps, count, {{weights, scratch, kept}, statistics, frame});
}
