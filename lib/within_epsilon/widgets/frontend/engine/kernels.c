// What a network does to planes of numbers, and the adjoint of each operation: if `f` takes x to
// A x, its adjoint takes a gradient with respect to A x to A' times it, the gradient with respect
// to x. All numbers are float32, an image is a stack of planes (channel, row, column).
//
// kernels.js has the same operations in JavaScript. build.py compiles this file to kernels.wasm.

#define EXPORT(name) __attribute__((export_name(#name))) void name

// 32 neighbours of a row, handled together: eight SIMD registers.
enum { RUN = 32, BLOCK = 256, FEW = 8 };
typedef float Run __attribute__((vector_size(4 * RUN), aligned(4)));
typedef float Few __attribute__((vector_size(4 * FEW), aligned(4)));

// One weight of a convolution: how far away the number is that it multiplies.
typedef struct {
    int offset;
    float weight;
} Tap;

// Sort weights by the plane that they add to; the taps of plane p then run from starts[p] to
// starts[p + 1]. A weight is given by its position in the filters of all output planes, one
// after the other, and adds to plane targets[place in the filter], or without `targets` to the
// output plane. It reads at offsets[place], moved by `step` for every output plane.
EXPORT(make_taps)(const int *positions, const float *values, int length, int filter,
                  const int *targets, const int *offsets, int step, int planes, int *starts,
                  Tap *taps) {
    for (int plane = 0; plane < planes + 2; plane++) starts[plane] = 0;
    for (int i = 0; i < length; i++)
        starts[2 + (targets ? targets[positions[i] % filter] : positions[i] / filter)]++;
    for (int plane = 2; plane < planes + 2; plane++) starts[plane] += starts[plane - 1];
    for (int i = 0; i < length; i++) {
        int plane = positions[i] / filter, place = positions[i] % filter;
        // Each start moves up to the next plane's, which takes its place in the end.
        Tap *tap = taps + starts[1 + (targets ? targets[place] : plane)]++;
        tap->offset = offsets[place] + step * plane;
        tap->weight = values[i];
    }
}

// Convolution. Let every row of the input planes be `pitch` numbers long, then the number that
// a weight multiplies is at a fixed distance from where the product is to be added. So one loop
// over weights serves every kernel size, sparse or dense; and the adjoint is the same loop with
// the distances reversed. `starts[c]` is the first tap of output plane c.
EXPORT(convolve)(const float *in, const int *starts, const Tap *taps, const float *bias,
                 int planes, int positions, float *out) {
    for (int block = 0; block < positions; block += BLOCK) {
        int end = block + BLOCK < positions ? block + BLOCK : positions;
        for (int plane = 0; plane < planes; plane++) {
            for (int at = block; at < end; at += RUN) {
                Run sum = (Run){0} + (bias ? bias[plane] : 0);
                const Tap *last = taps + starts[plane + 1];
                for (const Tap *tap = taps + starts[plane]; tap < last; tap++)
                    sum += tap->weight * *(const Run *)(in + at + tap->offset);
                float *place = out + plane * positions + at;
                if (at + RUN <= end) *(Run *)place = sum;
                else for (int i = 0; i < end - at; i++) place[i] = sum[i];
            }
        }
    }
}

// A weight's gradient: what it multiplied, times the gradient of what it was added to, summed over
// all positions. That of plane p begins at gradient[p step]. Adds to what stands in the sums.
EXPORT(weight_adjoint)(const float *in, const int *offsets, int filter, const float *gradient,
                       int step, int planes, int positions, float *weights, float *bias) {
    for (int plane = 0; plane < planes; plane++, gradient += step) {
        for (int place = 0; place < filter; place++) {
            const float *seen = in + offsets[place];
            Few sum = {0};
            int at = positions % FEW; // these alone, then the others together
            for (int i = 0; i < at; i++) sum[0] += seen[i] * gradient[i];
            for (; at < positions; at += FEW)
                sum += *(const Few *)(seen + at) * *(const Few *)(gradient + at);
            for (int lane = 0; lane < FEW; lane++) *weights += sum[lane];
            weights++;
        }
        for (int i = 0; i < positions; i++) bias[plane] += gradient[i];
    }
}

// Lay planes out for a convolution: zeros around them, and of a strided one each phase apart
// (rows and columns 0, stride, 2 stride, ...; 1, stride + 1, ...), since its output sees each
// phase with stride 1. `guard` zeros stand before every plane and after the last.
EXPORT(spread)(const float *planes, int channels, int height, int width, int stride, int padding,
               int rows, int pitch, int guard, float *out) {
    for (int channel = 0; channel < channels; channel++, planes += height * width)
        for (int phase = 0; phase < stride * stride; phase++) {
            for (int i = 0; i < guard; i++) *out++ = 0;
            for (int row = 0; row < rows; row++, out += pitch) {
                int y = row * stride + phase / stride - padding, x = phase % stride - padding;
                if (y < 0 || y >= height) {
                    for (int i = 0; i < pitch; i++) out[i] = 0;
                } else if (stride == 1) {
                    for (int i = 0; i < padding; i++) out[i] = 0;
                    for (int i = 0; i < width; i++) out[padding + i] = planes[y * width + i];
                    for (int i = padding + width; i < pitch; i++) out[i] = 0;
                } else {
                    for (int i = 0; i < pitch; i++, x += stride)
                        out[i] = x < 0 || x >= width ? 0 : planes[y * width + x];
                }
            }
        }
    for (int i = 0; i < guard; i++) *out++ = 0;
}

// The way back, and the adjoint: numbers that no output saw get 0.
EXPORT(gather)(const float *spread, int channels, int height, int width, int stride, int padding,
               int rows, int pitch, float *planes) {
    for (int channel = 0; channel < channels; channel++)
        for (int y = padding; y < height + padding; y++)
            for (int x = padding; x < width + padding; x++) {
                int plane = (channel * stride + y % stride) * stride + x % stride;
                int row = y / stride, column = x / stride;
                *planes++ = row < rows && column < pitch
                                ? spread[(plane * rows + row) * pitch + column] : 0;
            }
}

// Take the numbers that belong to the picture out of rows `pitch` long.
EXPORT(crop)(const float *in, int planes, int height, int width, int pitch, float *out) {
    for (int row = 0; row < planes * height; row++, in += pitch, out += width)
        for (int x = 0; x < width; x++) out[x] = in[x];
}

EXPORT(relu)(float *x, int length) {
    for (int i = 0; i < length; i++) x[i] = x[i] > 0 ? x[i] : 0;
}

// `y` is what relu made.
EXPORT(relu_adjoint)(const float *y, int length, float *gradient) {
    for (int i = 0; i < length; i++) gradient[i] *= (float)(y[i] > 0);
}

// The greatest number of each window. `row`, kernel longer than a row, is scratch: first the
// greatest of each column of the windows, then of ever more columns to its right.
EXPORT(max_pool)(const float *in, int channels, int height, int width, int kernel, int stride,
                 int out_height, int out_width, float *row, float *out) {
    for (int channel = 0; channel < channels; channel++, in += height * width)
        for (int top = 0; top < out_height * stride; top += stride, out += out_width) {
            for (int x = 0; x < width + kernel; x++) row[x] = -__builtin_inff();
            for (int y = top; y < top + kernel && y < height; y++)
                for (int x = 0; x < width; x++) {
                    float now = in[y * width + x];
                    row[x] = now > row[x] ? now : row[x];
                }
            for (int more = 1; more < kernel; more++)
                for (int x = 0; x < width; x++)
                    row[x] = row[x + 1] > row[x] ? row[x + 1] : row[x];
            for (int x = 0; x < out_width; x++) out[x] = row[x * stride];
        }
}

// The gradient goes to where the greatest number was, the first of several.
EXPORT(max_pool_adjoint)(const float *in, int channels, int height, int width, int kernel,
                         int stride, int out_height, int out_width, const float *out,
                         const float *gradient, float *in_gradient) {
    for (int i = 0; i < channels * height * width; i++) in_gradient[i] = 0;
    for (int plane = 0; plane < channels * height * width; plane += height * width)
        for (int top = 0; top < out_height * stride; top += stride)
            for (int left = 0; left < out_width * stride; left += stride) {
                int bottom = top + kernel < height ? top + kernel : height;
                int right = left + kernel < width ? left + kernel : width;
                int where = plane + top * width + left;
                for (int y = bottom; y-- > top;)
                    for (int x = right; x-- > left;) {
                        int at = plane + y * width + x;
                        where = in[at] == *out ? at : where;
                    }
                in_gradient[where] += *gradient++;
                out++;
            }
}

EXPORT(mean)(const float *in, int channels, int area, float *out) {
    for (int channel = 0; channel < channels; channel++) {
        float sum = 0;
        for (int i = 0; i < area; i++) sum += *in++;
        out[channel] = sum / area;
    }
}

EXPORT(mean_adjoint)(const float *gradient, int channels, int area, float *in_gradient) {
    for (int channel = 0; channel < channels; channel++)
        for (int i = 0; i < area; i++) *in_gradient++ = gradient[channel] / area;
}

EXPORT(normalise)(const float *in, int channels, int area, const float *mean, const float *std,
                  float *out) {
    for (int channel = 0; channel < channels; channel++)
        for (int i = 0; i < area; i++) *out++ = (*in++ - mean[channel]) / std[channel];
}

EXPORT(normalise_adjoint)(const float *gradient, int channels, int area, const float *std,
                          float *in_gradient) {
    for (int channel = 0; channel < channels; channel++)
        for (int i = 0; i < area; i++) *in_gradient++ = *gradient++ / std[channel];
}

EXPORT(add)(const float *term, int length, float *sum) {
    for (int i = 0; i < length; i++) sum[i] += term[i];
}
