/* An integer network in plain C99: the arithmetic of docs/quantization.md on an exported header.
 *
 * It runs chains of convolutions (two axes, one group), linear layers, tables and average pools;
 * a reshape moves nothing. NETWORK_H is the header; steps.h calls one macro a layer, in order.
 * Reads the integers of one input as decimals, prints the logits.
 */
#include <stdio.h>
#include NETWORK_H

typedef struct { int channels, rows, cols; } shape;

typedef struct { int size[2], strides[2], dilations[2], before[2]; } window;

/* A clamp of the accumulator and what is added behind it, or NULL. */
typedef struct { const int32_t *low, *high, *bias; } activation;

static int64_t x[65536], y[65536];

static int64_t clamp(int64_t q, int64_t low, int64_t high) {
    return q < low ? low : q > high ? high : q;
}

static int64_t requantize(int64_t acc, int64_t m, int n, int zero_point, int low, int high) {
    return clamp(zero_point + ((acc * m + ((int64_t)1 << (n - 1))) >> n), low, high); /* (3) */
}

static int64_t activate(int64_t acc, const activation *a, int o) {
    return a->low ? clamp(acc, a->low[o], a->high[o]) + a->bias[o] : acc;
}

/* qx - zx, and 0 in the padding, of tap (u, v) of the window at (row, col). */
static int64_t tap(shape in, const window *w, int channel, int row, int col, int u, int v,
                   int zero_point) {
    int r = row * w->strides[0] + u * w->dilations[0] - w->before[0];
    int c = col * w->strides[1] + v * w->dilations[1] - w->before[1];
    if (r < 0 || c < 0 || r >= in.rows || c >= in.cols) return 0;
    return x[(channel * in.rows + r) * in.cols + c] - zero_point;
}

typedef struct {
    shape in, out;
    window windows;
    activation activation;
    int pool, input_zero_point, output_zero_point, low, high, multipliers;
    const int8_t *weight, *weight_zero_point, *right_shift;
    const int32_t *bias, *multiplier;
} convolution;

static int64_t accumulator(const convolution *l, int o, int row, int col) {
    const window *w = &l->windows;
    int64_t acc = l->bias[o]; /* (2) */
    for (int k = 0; k < l->in.channels; k++)
        for (int u = 0; u < w->size[0]; u++)
            for (int v = 0; v < w->size[1]; v++) {
                int i = ((o * l->in.channels + k) * w->size[0] + u) * w->size[1] + v;
                acc += (int64_t)(l->weight[i] - l->weight_zero_point[o])
                    * tap(l->in, w, k, row, col, u, v, l->input_zero_point);
            }
    return activate(acc, &l->activation, o);
}

static int convolve(const convolution *l) {
    int i = 0;
    for (int o = 0; o < l->out.channels; o++)
        for (int r = 0; r < l->out.rows; r++)
            for (int c = 0; c < l->out.cols; c++) {
                int64_t sum = 0; /* (4) */
                for (int p = 0; p < l->pool * l->pool; p++)
                    sum += accumulator(l, o, r * l->pool + p / l->pool, c * l->pool + p % l->pool);
                int m = l->multipliers > 1 ? o : 0;
                y[i++] = requantize(sum, l->multiplier[m], l->right_shift[m], l->output_zero_point,
                                    l->low, l->high);
            }
    return i;
}

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))
#define COPY(count) for (int j = 0; j < (count); j++) x[j] = y[j];
#define WINDOW(P) {P##_WINDOWS_SIZE, P##_WINDOWS_STRIDES, P##_WINDOWS_DILATIONS, P##_WINDOWS_BEFORE}
#define ACTIVATION(p) {p##_activation_low, p##_activation_high, p##_activation_bias}
#define NO_ACTIVATION(p) {0, 0, 0}

/* p and P begin the layer's names, IN those of the layer that it reads. */
#define CONVOLUTION(p, P, IN, ACTIVATED) { \
    const convolution l = {IN##_SHAPE, P##_SHAPE, WINDOW(P), ACTIVATED(p), \
        P##_POOL, P##_INPUT_ZERO_POINT, P##_OUTPUT_ZERO_POINT, P##_LOW, P##_HIGH, \
        COUNT(p##_multiplier), p##_weight, p##_weight_zero_point, p##_right_shift, p##_bias, \
        p##_multiplier}; \
    int i = convolve(&l); \
    COPY(i) }

/* One multiplier, or one a position. */
#define AVERAGE_POOL(p, P, IN) { \
    const shape before = IN##_SHAPE, after = P##_SHAPE; \
    const window w = WINDOW(P); \
    int i = 0; \
    for (int o = 0; o < after.channels; o++) \
        for (int r = 0; r < after.rows; r++) \
            for (int c = 0; c < after.cols; c++) { \
                int64_t sum = 0; /* (8) */ \
                int m = COUNT(p##_multiplier) > 1 ? r * after.cols + c : 0; \
                for (int t = 0; t < w.size[0] * w.size[1]; t++) \
                    sum += tap(before, &w, o, r, c, t / w.size[1], t % w.size[1], \
                               P##_INPUT_ZERO_POINT); \
                y[i++] = requantize(sum, p##_multiplier[m], p##_right_shift[m], \
                                    P##_OUTPUT_ZERO_POINT, P##_OUTPUT_QMIN, P##_OUTPUT_QMAX); \
            } \
    COPY(i) }

/* (9) */
#define TABLE(p, P) for (int i = 0; i < P##_SIZE; i++) x[i] = p##_table[x[i] - P##_INPUT_QMIN];

/* (2) for every output neuron, into y. */
#define PRODUCTS(p, P, IN) for (int o = 0; o < COUNT(p##_bias); o++) { \
    y[o] = p##_bias[o]; \
    for (int i = 0; i < IN##_SIZE; i++) \
        y[o] += (x[i] - P##_INPUT_ZERO_POINT) \
            * (p##_weight[o * IN##_SIZE + i] - p##_weight_zero_point[o]); }

#define LINEAR(p, P, IN, ACTIVATED) { \
    const activation a = ACTIVATED(p); \
    PRODUCTS(p, P, IN) \
    for (int o = 0; o < P##_SIZE; o++) { \
        int m = COUNT(p##_multiplier) > 1 ? o : 0; \
        x[o] = requantize(activate(y[o], &a, o), p##_multiplier[m], p##_right_shift[m], \
                          P##_OUTPUT_ZERO_POINT, P##_LOW, P##_HIGH); } }

#define LOGITS(p, P, IN) { \
    PRODUCTS(p, P, IN) \
    for (int o = 0; o < P##_SIZE; o++) printf("%lld\n", (long long)y[o]); }

int main(void) {
    int word, count = 0;
    while (count < COUNT(x) && scanf("%d", &word) == 1) x[count++] = word;
#include "steps.h"
    return 0;
}
