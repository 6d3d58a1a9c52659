// Pictures of sound, and sound as the bytes of a WAV file. Nothing here knows the page.

const FFT_SIZE = 1024;
const FLOOR_DB = -85;
const WINDOW = Float32Array.from({ length: FFT_SIZE }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / FFT_SIZE));
const TOPS_HZ = [4000, 8000, 12000, 16000, 24000];
const COLOURS = [[0, 0, 4], [40, 17, 89], [114, 31, 129], [183, 55, 121], [241, 96, 93], [254, 176, 120], [252, 253, 191]];

/** Colours of levels from the floor (0) to full scale (255), as RGB. */
const PALETTE = Array.from({ length: 256 }, (_, level) => {
  const place = (level / 255) * (COLOURS.length - 1);
  const low = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[low].map((from, channel) => from + (COLOURS[low + 1][channel] - from) * (place - low));
});

/** In-place radix-2 FFT. */
function transform(real, imaginary) {
  const size = real.length;
  for (let i = 1, j = 0; i < size; i++) {
    let bit = size >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [real[i], real[j]] = [real[j], real[i]];
      [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
    }
  }
  for (let length = 2; length <= size; length <<= 1) {
    const angle = (-2 * Math.PI) / length;
    for (let start = 0; start < size; start += length) {
      for (let k = 0; k < length / 2; k++) {
        const cos = Math.cos(angle * k), sin = Math.sin(angle * k);
        const a = start + k, b = a + length / 2;
        const re = real[b] * cos - imaginary[b] * sin, im = real[b] * sin + imaginary[b] * cos;
        real[b] = real[a] - re; imaginary[b] = imaginary[a] - im;
        real[a] += re; imaginary[a] += im;
      }
    }
  }
}

/** Levels in dB of the bins around a sample; a full-scale tone has 0 dB. */
export function levels(samples, centre) {
  const real = new Float32Array(FFT_SIZE), imaginary = new Float32Array(FFT_SIZE);
  const start = Math.round(centre) - FFT_SIZE / 2;
  for (let n = 0; n < FFT_SIZE; n++) real[n] = (samples[start + n] ?? 0) * WINDOW[n];
  transform(real, imaginary);
  return Float32Array.from({ length: FFT_SIZE / 2 }, (_, bin) =>
    10 * Math.log10((real[bin] ** 2 + imaginary[bin] ** 2) / (FFT_SIZE / 4) ** 2 + 1e-12));
}

/** Columns of levels, evenly over the whole. */
export function columns(samples, count) {
  return Array.from({ length: count }, (_, column) => levels(samples, ((column + 0.5) / count) * samples.length));
}

/** The lowest usual limit in Hz above which these columns hold next to nothing. */
export function top(found, rate) {
  const mean = new Float64Array(FFT_SIZE / 2);
  for (const column of found) column.forEach((level, bin) => { mean[bin] += 10 ** (level / 10) / found.length; });
  const loudest = Math.max(...mean), perBin = rate / FFT_SIZE;
  const highest = mean.findLastIndex((power) => power > loudest * 1e-5) * perBin;
  return Math.min(TOPS_HZ.find((limit) => limit >= highest * 0.94) ?? rate / 2, rate / 2);
}

/** One column of colours at x, low frequencies at the bottom. */
function paintColumn(image, x, column, topHz, rate) {
  const { width, height, data } = image;
  for (let y = 0; y < height; y++) {
    const bin = Math.min(Math.floor((((height - 1 - y) / height) * topHz * FFT_SIZE) / rate), column.length - 1);
    const level = Math.max(0, Math.min(255, Math.round(255 * (1 - column[bin] / FLOOR_DB))));
    data.set(PALETTE[level], 4 * (y * width + x));
    data[4 * (y * width + x) + 3] = 255;
  }
}

/** A spectrogram over the whole canvas. */
export function paint(canvas, found, topHz, rate) {
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  found.forEach((column, x) => paintColumn(image, x, column, topHz, rate));
  context.putImageData(image, 0, 0);
  return image;
}

/** Push the picture to the left and paint one more column at its right edge. */
export function scroll(canvas, column, topHz, rate, wide = 2) {
  const context = canvas.getContext("2d"), image = context.createImageData(wide, canvas.height);
  for (let x = 0; x < wide; x++) paintColumn(image, x, column, topHz, rate);
  context.drawImage(canvas, -wide, 0);
  context.putImageData(image, canvas.width - wide, 0);
}

/** 16-bit integers of samples within [-1, 1]. */
export function integers(samples) {
  return Int16Array.from(samples, (sample) => Math.round(Math.max(-1, Math.min(1, sample)) * 32767));
}

/** The bytes of a mono WAV file. */
export function wav(samples, rate) {
  const bytes = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, word) => [...word].forEach((letter, n) => bytes.setUint8(at + n, letter.charCodeAt(0)));
  text(0, "RIFF"); bytes.setUint32(4, 36 + 2 * samples.length, true); text(8, "WAVEfmt ");
  bytes.setUint32(16, 16, true); bytes.setUint16(20, 1, true); bytes.setUint16(22, 1, true);
  bytes.setUint32(24, rate, true); bytes.setUint32(28, 2 * rate, true);
  bytes.setUint16(32, 2, true); bytes.setUint16(34, 16, true);
  text(36, "data"); bytes.setUint32(40, 2 * samples.length, true);
  integers(samples).forEach((value, n) => bytes.setInt16(44 + 2 * n, value, true));
  return new Blob([bytes], { type: "audio/wav" });
}
