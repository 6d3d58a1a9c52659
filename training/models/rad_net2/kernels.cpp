// The steps of a frame of RaD-Net 2 on one thread: `program.py` writes them down, `run` takes them one after another.
//
// Each step reads and writes matrices whose rows lie a fixed distance apart, so overlapping windows, columns beside
// others and entries of a ring need no copies. Vectors have sixteen numbers, which the compiler makes out of what the
// processor has. Single and double precision come from the same text.

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr int WIDE = 16;  // numbers of a vector

template <class T>
struct Vectors;
template <>
struct Vectors<float> {
    typedef float V __attribute__((vector_size(WIDE * sizeof(float)), aligned(sizeof(float)), may_alias));
    typedef int32_t I __attribute__((vector_size(WIDE * sizeof(int32_t))));
    static constexpr int DEGREE = 6, FRACTION = 23, BIAS = 127;
};
template <>
struct Vectors<double> {
    typedef double V __attribute__((vector_size(WIDE * sizeof(double)), aligned(sizeof(double)), may_alias));
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

    T* at(const Place& place) const {
        int64_t entry = place.ring > 1 ? (frame + (int64_t)place.ring * 64 - place.age) % place.ring : 0;
        return memory[place.memory] + place.first + entry * place.slot;
    }
    const T* weights(int64_t first) const { return first < 0 ? nullptr : memory[0] + first; }
};

template <class V, class T>
V load(const T* from) {
    return *reinterpret_cast<const V*>(from);
}

template <class V, class T>
V load(const T* from, int count) {
    if (count >= WIDE) return load<V>(from);
    V whole = {};
    std::memcpy(&whole, from, count * sizeof(T));
    return whole;
}

template <class V, class T>
void store(T* to, const V& v, int count) {
    if (count >= WIDE)
        *reinterpret_cast<V*>(to) = v;
    else
        std::memcpy(to, &v, count * sizeof(T));
}

template <class V>
V sloped(V v, V slope) {
    return v > 0 ? v : v * slope;
}

// Powers of two of numbers up to zero.
template <class T, class V = typename Vectors<T>::V>
V power(V x) {
    using I = typename Vectors<T>::I;
    constexpr T LN2 = 0.693147180559945309417232121458;
    const T least = 1 - Vectors<T>::BIAS;
    x = x < least ? V{} + least : x;
    I whole = __builtin_convertvector(x - T(0.5), I);
    V rest = (x - __builtin_convertvector(whole, V)) * LN2;
    V sum = V{} + T(1);
#pragma GCC unroll 12
    for (int degree = Vectors<T>::DEGREE; degree > 0; --degree) sum = sum * rest * (T(1) / degree) + T(1);
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

template <class T>
struct Product {
    const T *x, *weight, *bias, *slope, *y;
    T* out;
    int64_t x_row, y_row, out_row;
    int inner, columns;
};

// `M` rows from `row`, `N` vectors of columns from `panel`.
template <class T, int M, int N>
void tile(const Product<T>& p, int row, int panel) {
    using V = typename Vectors<T>::V;
    V sum[M][N];
    const T* weight = p.weight + (int64_t)panel * p.inner * WIDE;
    const int64_t next = (int64_t)p.inner * WIDE;
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
        V first = p.bias ? load<V>(p.bias + (panel + n) * WIDE) : V{};
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) sum[m][n] = first;
    }
    const T* x = p.x + row * p.x_row;
    for (int k = 0; k < p.inner; ++k) {
        V w[N];
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) w[n] = load<V>(weight + n * next + k * WIDE);
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) {
            T each = x[m * p.x_row + k];
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) sum[m][n] += w[n] * each;
        }
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
        int column = (panel + n) * WIDE, count = p.columns - column;
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) {
            V v = sum[m][n];
            if (p.y) v += load<V>(p.y + (row + m) * p.y_row + column, count);
            if (p.slope) v = sloped<V>(v, load<V>(p.slope + column));
            store<V>(p.out + (row + m) * p.out_row + column, v, count);
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

template <class T>
void linear(const Step& s, const Memories<T>& m) {
    Product<T> p{m.at(s.x), m.weights(s.weight), m.weights(s.bias), m.weights(s.slope),
                 s.y.memory < 0 ? nullptr : m.at(s.y), m.at(s.out), s.x.row, s.y.row, s.out.row, s.inner, s.columns};
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
template <class T>
void depthwise(const Step& s, const Memories<T>& m) {
    using V = typename Vectors<T>::V;
    Place place = s.x;
    const T* frame[3];
    for (int tap = 0; tap < 3; ++tap) {
        place.age = (2 - tap) * s.option;
        frame[tap] = m.at(place);
    }
    const T *weight = m.weights(s.weight), *bias = m.weights(s.bias), *slope = m.weights(s.slope);
    T* out = m.at(s.out);
    const int wide = (s.columns + WIDE - 1) / WIDE * WIDE;
    for (int c = 0; c < s.columns; c += WIDE) {
        V w[9];
        for (int tap = 0; tap < 9; ++tap) w[tap] = load<V>(weight + tap * wide + c);
        V first = load<V>(bias + c), below = load<V>(slope + c);
        int count = s.columns - c;
        for (int row = 0; row < s.rows; ++row) {
            V sum = first;
#pragma GCC unroll 9
            for (int tap = 0; tap < 9; ++tap)
                sum += w[tap] * load<V>(frame[tap / 3] + (row + tap % 3) * (int64_t)s.x.row + c, count);
            store<V>(out + row * (int64_t)s.out.row + c, sloped<V>(sum, below), count);
        }
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

// Rows are queries, keys and values of `more` maps, `inner` wide each; the softmax is of powers of two.
template <class T>
void attention(const Step& s, const Memories<T>& m) {
    using V = typename Vectors<T>::V;
    const int maps = s.more, width = s.inner, kind = maps * width;
    const T* x = m.at(s.x);
    T* out = m.at(s.out);
    for (int map = 0; map < maps; ++map)
        for (int first = 0; first < s.rows; first += WIDE) {
            int count = s.rows - first < WIDE ? s.rows - first : WIDE;
            V query[8] = {}, seen[8] = {};
            for (int d = 0; d < width; ++d)
                for (int lane = 0; lane < count; ++lane)
                    query[d][lane] = x[(first + lane) * (int64_t)s.x.row + map * width + d];
            V most = V{} - T(1e30), sum = {};
            const T* row = x + map * width;
            for (int key = 0; key < s.rows; ++key, row += s.x.row) {
                V score = query[0] * row[kind];
                for (int d = 1; d < width; ++d) score += query[d] * row[kind + d];
                most = score > most ? score : most;
            }
            row = x + map * width;
            for (int key = 0; key < s.rows; ++key, row += s.x.row) {
                V score = query[0] * row[kind] - most;
                for (int d = 1; d < width; ++d) score += query[d] * row[kind + d];
                V weight = power<T>(score);
                sum += weight;
                for (int d = 0; d < width; ++d) seen[d] += weight * row[2 * kind + d];
            }
            for (int d = 0; d < width; ++d)
                for (int lane = 0; lane < count; ++lane)
                    out[(first + lane) * (int64_t)s.out.row + map * width + d] = seen[d][lane] / sum[lane];
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
        linear<T>, depthwise<T>, norm<T>, gate<T>, add<T>, mask<T>, attention<T>, raised<T>, loudness<T>, scaled<T>};
    for (int64_t place = 0; place < count; ++place) kinds[steps[place].kind](steps[place], m);
}

}  // namespace

extern "C" {
void run_single(const Step* steps, int64_t count, float* weights, float* scratch, float* kept, double* statistics,
                int64_t frame) {
    run<float>(steps, count, {{weights, scratch, kept}, statistics, frame});
}
void run_double(const Step* steps, int64_t count, double* weights, double* scratch, double* kept, double* statistics,
                int64_t frame) {
    run<double>(steps, count, {{weights, scratch, kept}, statistics, frame});
}
}
