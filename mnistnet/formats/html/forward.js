// The forward pass, one function for each kind of layer. A tensor is {shape, data}: float32 in C, H, W order.
// A layer is {kind, its configuration, output: the shape it gives, parameters: {name: Float32Array}}.

const LAYERS = {
  /** y[k, p, q] = b[k] + the sum over a group's c, r, s of w[k, c, r, s] x[c, stride p + dilation r - padding, ...] */
  conv2d(layer, {shape: [channels, height, width], data}) {
    const [maps, rows, columns] = layer.output;
    const [kernelHeight, kernelWidth] = layer.kernel_size;
    const {dilation = [1, 1], groups = 1} = layer;
    const {weight, bias} = layer.parameters;
    const out = new Float32Array(maps * rows * columns);
    const sums = new Float64Array(rows * columns);
    const seen = channels / groups;
    let w = 0;
    for (let k = 0; k < maps; k++) {
      sums.fill(bias[k]);
      const first = Math.floor((k * groups) / maps) * seen;
      for (let c = first; c < first + seen; c++) {
        for (let r = 0; r < kernelHeight; r++) {
          for (let s = 0; s < kernelWidth; s++, w++) {
            const left = s * dilation[1] - layer.padding[1];
            const across = range(columns, layer.stride[1], left, width);
            for (let p = 0; p < rows; p++) {
              const y = p * layer.stride[0] + r * dilation[0] - layer.padding[0];
              if (y < 0 || y >= height) continue;
              const row = (c * height + y) * width + left;
              for (let q = across.first; q < across.end; q++) {
                sums[p * columns + q] += weight[w] * data[row + q * layer.stride[1]];
              }
            }
          }
        }
      }
      out.set(sums, k * rows * columns);
    }
    return {shape: layer.output, data: out};
  },

  /** y[o] = b[o] + the sum over i of w[o, i] x[i] */
  dense(layer, {data}) {
    const {weight, bias} = layer.parameters;
    const out = Float32Array.from(bias, (start, o) => {
      let total = start;
      for (let i = 0; i < data.length; i++) total += weight[o * data.length + i] * data[i];
      return total;
    });
    return {shape: layer.output, data: out};
  },

  zero_pad2d(layer, {shape: [channels, height, width], data}) {
    const [, rows, columns] = layer.output;
    const out = new Float32Array(channels * rows * columns);
    for (let c = 0; c < channels; c++) {
      for (let y = 0; y < height; y++) {
        const start = (c * height + y) * width;
        out.set(data.subarray(start, start + width), (c * rows + layer.top + y) * columns + layer.left);
      }
    }
    return {shape: layer.output, data: out};
  },

  max_pool2d(layer, x) {
    return pool(layer, x, (values) => Math.max(...values));
  },

  avg_pool2d(layer, x) {
    return pool(layer, x, mean);
  },

  global_avg_pool(layer, {shape: [channels], data}) {
    const area = data.length / channels;
    const means = Float32Array.from({length: channels}, (_, c) => mean(data.subarray(c * area, (c + 1) * area)));
    return {shape: layer.output, data: means};
  },

  flatten(layer, {data}) {
    return {shape: layer.output, data};
  },

  relu: elementwise((v) => Math.max(v, 0)),

  leaky_relu: elementwise((v, {slope}) => Math.max(v, slope * v)),

  tanh: elementwise(Math.tanh),

  gelu: elementwise((v, {approximate}) =>
    approximate === "tanh"
      ? (v / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3)))
      : (v / 2) * (1 + errorFunction(v / Math.SQRT2))),

  sine: elementwise((v, {omega}) => Math.sin(omega * v)),

  /** The cosines of all sums over i of w[k, i] x[i], then their sines */
  fourier_features(layer, {data}) {
    const {frequencies} = layer.parameters;
    const angles = Array.from({length: layer.waves}, (_, k) =>
      data.reduce((total, v, i) => total + frequencies[k * data.length + i] * v, 0));
    return {shape: layer.output, data: Float32Array.from([...angles.map(Math.cos), ...angles.map(Math.sin)])};
  },

  sigmoid: elementwise((v) => 1 / (1 + Math.exp(-v))),

  /** In use it leaves everything as it is. */
  dropout: elementwise((v) => v),

  /** By channel or feature: w (x - mean) / sqrt(variance + epsilon) + b */
  batch_norm({parameters, epsilon}, {shape, data}) {
    const {weight, bias, running_mean: mean, running_var: variance} = parameters;
    const area = data.length / shape[0];
    const normalized = data.map((v, i) => {
      const k = Math.floor(i / area);
      return (weight[k] * (v - mean[k])) / Math.sqrt(variance[k] + epsilon) + bias[k];
    });
    return {shape, data: normalized};
  },

  softmax(layer, {shape, data}) {
    const largest = data.reduce((a, b) => Math.max(a, b));
    const powers = Float64Array.from(data, (v) => Math.exp(v - largest));
    const total = powers.reduce((a, b) => a + b);
    return {shape, data: Float32Array.from(powers, (v) => v / total)};
  },
};

/** What every layer makes of a picture (Uint8Array, 0 = background): tensors in order, the input first. */
function forward(network, pixels) {
  const {channels, height, width, scale, shift} = network.input;
  let x = {shape: [channels, height, width], data: Float32Array.from(pixels, (v) => v * scale + shift)};
  return [x, ...network.layers.map((layer) => (x = LAYERS[layer.kind](layer, x)))];
}

function elementwise(change) {
  return (layer, {shape, data}) => ({shape, data: data.map((v) => change(v, layer))});
}

/** erf(x), by its series with positive terms (Abramowitz and Stegun, 7.1.6); beyond 6 it is 1. */
function errorFunction(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * x;
  let total = 0;
  for (let n = 0; total + term !== total; n++) {
    total += term;
    term *= (2 * x * x) / (2 * n + 3);
  }
  return total;
}

function mean(values) {
  return values.reduce((a, b) => a + b) / values.length;
}

/** One number for each window, of the values in it that lie on the picture. */
function pool(layer, {shape: [channels, height, width], data}, reduce) {
  const [, rows, columns] = layer.output;
  const [kernelHeight, kernelWidth] = layer.kernel_size;
  const out = new Float32Array(channels * rows * columns);
  let next = 0;
  for (let c = 0; c < channels; c++) {
    for (let p = 0; p < rows; p++) {
      for (let q = 0; q < columns; q++) {
        const values = [];
        const [top, left] = [p * layer.stride[0] - layer.padding[0], q * layer.stride[1] - layer.padding[1]];
        for (let y = Math.max(top, 0); y < Math.min(top + kernelHeight, height); y++) {
          for (let x = Math.max(left, 0); x < Math.min(left + kernelWidth, width); x++) {
            values.push(data[(c * height + y) * width + x]);
          }
        }
        out[next++] = reduce(values);
      }
    }
  }
  return {shape: layer.output, data: out};
}

/** The outputs q in 0 to `count` for which stride q + offset lies on a picture of `size` pixels. */
function range(count, stride, offset, size) {
  const first = Math.max(Math.ceil(-offset / stride), 0);
  const end = Math.min(Math.floor((size - 1 - offset) / stride) + 1, count);
  return {first, end};
}
