/* An int8 network in plain C99: the arithmetic of docs/quantization.md on an exported header.
 *
 * NETWORK_H is that header; steps.h calls one macro a layer, in order, with the layer's shapes.
 * Reads the pixels of one image as decimals, prints the logits.
 */
#include <stdio.h>
#include NETWORK_H

typedef struct { int channels, rows, cols; } shape;

static int64_t x[4096], y[4096];

static int64_t requantize(int64_t acc, int64_t m, int n, int zero_point, int low, int high) {
    int64_t q = zero_point + ((acc * m + ((int64_t)1 << (n - 1))) >> n); /* (3) */
    return q < low ? low : q > high ? high : q;
}

/* qx - zx, and 0 in the padding. */
static int64_t centred(shape in, int channel, int row, int col, int zero_point) {
    if (row < 0 || col < 0 || row >= in.rows || col >= in.cols) return 0;
    return x[(channel * in.rows + row) * in.cols + col] - zero_point;
}

typedef struct {
    shape in, out;
    int filter, stride, padding, pool, relu, input_zero_point, output_zero_point, qmin, multipliers;
    const int8_t *weight, *weight_zero_point, *right_shift;
    const int32_t *bias, *multiplier;
} convolution;

static int64_t accumulator(const convolution *l, int o, int row, int col) {
    int64_t acc = l->bias[o]; /* (2) */
    for (int k = 0; k < l->in.channels; k++)
        for (int u = 0; u < l->filter; u++)
            for (int v = 0; v < l->filter; v++) {
                int r = row * l->stride + u - l->padding, c = col * l->stride + v - l->padding;
                int tap = ((o * l->in.channels + k) * l->filter + u) * l->filter + v;
                int64_t w = l->weight[tap] - l->weight_zero_point[o];
                acc += w * centred(l->in, k, r, c, l->input_zero_point);
            }
    return acc;
}

static void conv2d(const convolution *l) {
    int i = 0;
    for (int o = 0; o < l->out.channels; o++)
        for (int r = 0; r < l->out.rows; r++)
            for (int c = 0; c < l->out.cols; c++) {
                int64_t sum = 0; /* (4) */
                for (int p = 0; p < l->pool * l->pool; p++) {
                    int row = r * l->pool + p / l->pool, col = c * l->pool + p % l->pool;
                    int64_t acc = accumulator(l, o, row, col);
                    sum += l->relu && acc < 0 ? 0 : acc;
                }
                int m = l->multipliers > 1 ? o : 0, low = l->relu ? l->output_zero_point : l->qmin;
                y[i++] = requantize(sum, l->multiplier[m], l->right_shift[m], l->output_zero_point,
                                    low, l->qmin + 255);
            }
}

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))
#define COPY(size) for (int j = 0; j < (size); j++) x[j] = y[j];

#define CONV2D(p, P, IN, OUT, filter, qmin) { \
    const convolution l = {IN, OUT, filter, P##_STRIDE, P##_PADDING, P##_POOL, P##_RELU, \
        P##_INPUT_ZERO_POINT, P##_OUTPUT_ZERO_POINT, qmin, COUNT(p##_multiplier), p##_weight, \
        p##_weight_zero_point, p##_right_shift, p##_bias, p##_multiplier}; \
    conv2d(&l); \
    COPY(l.out.channels * l.out.rows * l.out.cols) }

#define AVGPOOL2D(p, P, IN, OUT, qmin) { \
    const shape before = IN, after = OUT; \
    int i = 0, w = P##_WINDOW; \
    for (int o = 0; o < after.channels; o++) \
        for (int r = 0; r < after.rows; r++) \
            for (int c = 0; c < after.cols; c++) { \
                int64_t sum = 0; /* (8) */ \
                for (int t = 0; t < w * w; t++) \
                    sum += centred(before, o, r * w + t / w, c * w + t % w, P##_INPUT_ZERO_POINT); \
                y[i++] = requantize(sum, p##_multiplier[0], p##_right_shift[0], \
                                    P##_OUTPUT_ZERO_POINT, qmin, qmin + 255); \
            } \
    COPY(i) }

/* (9) */
#define TABLE(p, size, qmin) for (int i = 0; i < (size); i++) x[i] = p##_table[x[i] - (qmin)];

#define LOGITS(p, P, features) for (int o = 0; o < COUNT(p##_bias); o++) { \
    int64_t acc = p##_bias[o]; \
    for (int i = 0; i < (features); i++) \
        acc += (x[i] - P##_INPUT_ZERO_POINT) \
            * (p##_weight[o * (features) + i] - p##_weight_zero_point[o]); \
    printf("%lld\n", (long long)acc); }

#define SHAPE(channels, rows, cols) {channels, rows, cols}

int main(void) {
    int pixel, count = 0;
    while (scanf("%d", &pixel) == 1) x[count++] = input_table[pixel];
#include "steps.h"
    return 0;
}
