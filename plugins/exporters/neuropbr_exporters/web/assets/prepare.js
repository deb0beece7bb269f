// Prepares photos as neuropbr_core does in training: fits them to a square, warps them into one frame, and finds the
// cameras. A test compares every function with its original in Python.

"use strict";

const LARGEST = 255;

// Pixels are {width, height, values}: interleaved red, green and blue, sRGB-encoded, 8 bits.

// `data.images.fit_photo`: stretches a photo to a square; areas are averaged, missing pixels interpolated.
function fitPhoto(pixels, size) {
  const width = Math.min(pixels.width, size);
  const height = Math.min(pixels.height, size);
  return enlarge(averageAreas(pixels, width, height), size, size);
}

// For each pixel of the result: which pixels of the source it covers, and how much of each.
// Source: the area interpolation of OpenCV, whose steps this function repeats so that results are equal to the bit.
function areaShares(source, target) {
  const scale = source / target;
  const shares = [];
  for (let index = 0; index < target; index += 1) {
    const start = index * scale;
    const end = start + scale;
    const extent = Math.min(scale, source - start);
    const last = Math.min(Math.floor(end), source - 1);
    const first = Math.min(Math.ceil(start), last);
    const row = [];
    // Shares below a thousandth of a pixel are rounding.
    if (first - start > 1e-3) row.push([first - 1, Math.fround((first - start) / extent)]);
    for (let whole = first; whole < last; whole += 1) row.push([whole, Math.fround(1 / extent)]);
    if (end - last > 1e-3) row.push([last, Math.fround(Math.min(end - last, 1, extent) / extent)]);
    shares.push(row);
  }
  return shares;
}

// The nearest whole number; halves go to the even one, as OpenCV rounds.
function roundEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

function averageAreas(pixels, width, height) {
  if (width === pixels.width && height === pixels.height) return pixels;
  const values = new Uint8Array(width * height * 3);
  const stride = pixels.width * 3;
  const across = pixels.width / width;
  const down = pixels.height / height;
  if (Number.isInteger(across) && Number.isInteger(down)) {
    // Whole numbers are added without rounding. Four pixels are a special case of OpenCV's, which rounds halves up.
    const round = across === 2 && down === 2 ? Math.round : roundEven;
    const share = Math.fround(1 / (across * down));
    for (let row = 0; row < height; row += 1) {
      for (let column = 0; column < width; column += 1) {
        for (let channel = 0; channel < 3; channel += 1) {
          let sum = 0;
          for (let y = 0; y < down; y += 1) {
            const start = (row * down + y) * stride + column * across * 3 + channel;
            for (let x = 0; x < across; x += 1) sum += pixels.values[start + 3 * x];
          }
          values[(row * width + column) * 3 + channel] = round(Math.fround(sum * share));
        }
      }
    }
    return { width, height, values };
  }
  const columns = areaShares(pixels.width, width);
  const rows = areaShares(pixels.height, height);
  // In single precision and in OpenCV's order, so that sums that end in a half round as they do there.
  const sums = new Float32Array(width * 3);
  const line = new Float32Array(width * 3);
  for (let row = 0; row < height; row += 1) {
    sums.fill(0);
    for (const [y, weight] of rows[row]) {
      line.fill(0);
      for (let column = 0; column < width; column += 1) {
        for (const [x, share] of columns[column]) {
          const from = y * stride + x * 3;
          for (let channel = 0; channel < 3; channel += 1) {
            line[column * 3 + channel] += Math.fround(pixels.values[from + channel] * share);
          }
        }
      }
      for (let index = 0; index < sums.length; index += 1) sums[index] += Math.fround(line[index] * weight);
    }
    for (let index = 0; index < sums.length; index += 1) values[row * width * 3 + index] = roundEven(sums[index]);
  }
  return { width, height, values };
}

// Keys' cubic with a = -0.5.
// Source: R. Keys, "Cubic convolution interpolation for digital image processing", 1981.
function cubic(distance) {
  const x = Math.abs(distance);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return 0;
}

// As Pillow enlarges: both directions one after the other, each rounded to 8 bits, with weights of 22 binary digits.
const WEIGHT_UNIT = 2 ** 22;

function cubicShares(source, target) {
  const scale = source / target;
  const shares = [];
  for (let index = 0; index < target; index += 1) {
    const centre = (index + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - 2 + 0.5), 0);
    const end = Math.min(Math.trunc(centre + 2 + 0.5), source);
    const weights = [];
    for (let place = first; place < end; place += 1) weights.push(cubic(place - centre + 0.5));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const whole = weights.map((weight) => {
      const scaled = (weight / total) * WEIGHT_UNIT;
      return Math.trunc(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    });
    shares.push([first, whole]);
  }
  return shares;
}

function enlarge(pixels, width, height) {
  let { values } = pixels;
  // Lines are rows or columns. Layouts are the distances of values: to the next line, and to the next pixel of a line.
  const interpolate = (shares, lines, source, target) => {
    const result = new Uint8Array(lines * shares.length * 3);
    for (let line = 0; line < lines; line += 1) {
      shares.forEach(([first, weights], index) => {
        for (let channel = 0; channel < 3; channel += 1) {
          let sum = WEIGHT_UNIT / 2;
          weights.forEach((weight, place) => {
            sum += weight * values[line * source.line + (first + place) * source.pixel + channel];
          });
          const rounded = Math.min(Math.max(Math.floor(sum / WEIGHT_UNIT), 0), LARGEST);
          result[line * target.line + index * target.pixel + channel] = rounded;
        }
      });
    }
    values = result;
  };
  if (width !== pixels.width) {
    const source = { line: pixels.width * 3, pixel: 3 };
    const target = { line: width * 3, pixel: 3 };
    interpolate(cubicShares(pixels.width, width), pixels.height, source, target);
  }
  if (height !== pixels.height) {
    // Columns: only their length changes, so source and target have the same layout.
    const layout = { line: 3, pixel: width * 3 };
    interpolate(cubicShares(pixels.height, height), width, layout, layout);
  }
  return { width, height, values };
}

// Matrices are arrays of rows.

function multiply(left, right) {
  return left.map((row) => right[0].map((_, column) => row.reduce((sum, value, k) => sum + value * right[k][column], 0)));
}

function apply(matrix, [x, y]) {
  const [column, row, w] = matrix.map((line) => line[0] * x + line[1] * y + line[2]);
  return [column / w, row / w, w];
}

function transpose(matrix) {
  return matrix[0].map((_, column) => matrix.map((row) => row[column]));
}

function cross(a, b) {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}

function determinant([a, b, c]) {
  const [x, y, z] = cross(b, c);
  return a[0] * x + a[1] * y + a[2] * z;
}

// The transposed inverse: its rows are the cross products of the others, over the determinant.
function inverseTransposed(matrix) {
  const size = determinant(matrix);
  const [a, b, c] = matrix;
  return [cross(b, c), cross(c, a), cross(a, b)].map((row) => row.map((value) => value / size));
}

const TEXTURE_CORNERS = [[0, 0], [1, 0], [1, 1], [0, 1]];

// The homography from the texture to a photo that takes the texture's corners, clockwise from the top left, to four
// points in [0, 1]². Null when they are no convex quadrilateral in this order.
// Source: P. Heckbert, "Fundamentals of Texture Mapping and Image Warping", 1989, section 2.2.3.
function homographyOfCorners(corners) {
  for (let index = 0; index < 4; index += 1) {
    const [a, b, c] = [0, 1, 2].map((step) => corners[(index + step) % 4]);
    // y points down, so corners that go round clockwise turn to the positive side.
    if ((b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0]) < 1e-6) return null;
  }
  const [[x0, y0], [x1, y1], [x2, y2], [x3, y3]] = corners;
  const [dx1, dy1, dx2, dy2] = [x1 - x2, y1 - y2, x3 - x2, y3 - y2];
  const [sx, sy] = [x0 - x1 + x2 - x3, y0 - y1 + y2 - y3];
  const area = dx1 * dy2 - dx2 * dy1;
  const g = (sx * dy2 - dx2 * sy) / area;
  const h = (dx1 * sy - sx * dy1) / area;
  const matrix = [
    [x1 - x0 + g * x1, x3 - x0 + h * x3, x0],
    [y1 - y0 + g * y1, y3 - y0 + h * y3, y0],
    [g, h, 1],
  ];
  // A homography has no scale of its own; the depth of the texture's centre becomes 1.
  const depth = (g + h) / 2 + 1;
  return matrix.map((row) => row.map((value) => value / depth));
}

// Numbers of `data.registration.register`, whose method the next three functions follow.
const NOMINAL_FOCAL = 1.4;
const FOCAL_RANGE = [0.5, 4];
const LEAST_SPREAD = 0.005;
const STEEPEST = (70 * Math.PI) / 180;

// From the world's plane to image coordinates with the origin in the photo's middle, in units of its shorter side.
function planeHomography(homography, width, height) {
  const shorter = Math.min(width, height);
  const centring = [
    [width / shorter, 0, -width / shorter / 2],
    [0, height / shorter, -height / shorter / 2],
    [0, 0, 1],
  ];
  const textureFromWorld = [[1, 0, 0.5], [0, -1, 0.5], [0, 0, 1]];
  const plane = multiply(multiply(centring, homography), textureFromWorld);
  return plane.map((row) => row.map((value) => value / plane[2][2]));
}

// The focal length that all photos share; null when they do not determine it.
// Source: Z. Zhang, "A Flexible New Technique for Camera Calibration", IEEE PAMI 22(11), 2000, section 2.3.
function focalLength(planes) {
  let spread = 0;
  let product = 0;
  for (const plane of planes) {
    const [[x1, x2], [y1, y2], [w1, w2]] = plane;
    const lengths = Math.hypot(x1, y1) * Math.hypot(x2, y2);
    for (const [slope, offset] of [
      [x1 * x2 + y1 * y2, w1 * w2],
      [x1 * x1 + y1 * y1 - x2 * x2 - y2 * y2, w1 * w1 - w2 * w2],
    ]) {
      spread += (slope / lengths) ** 2;
      product += (slope * offset) / lengths ** 2;
    }
  }
  if (spread < LEAST_SPREAD) return null;
  const inverseSquare = -product / spread;
  const [low, high] = FOCAL_RANGE;
  if (!(inverseSquare >= high ** -2 && inverseSquare <= low ** -2)) return null;
  return inverseSquare ** -0.5;
}

// Where a camera of known focal length is, in sides of the texture, and how much it is tilted, in radians.
// Source: Zhang 2000, section 3.1; N. Higham, "Computing the Polar Decomposition", 1986, for the nearest rotation.
function cameraPose(plane, focal) {
  let [right, up, translation] = transpose([plane[0].map((v) => v / focal), plane[1].map((v) => v / focal), plane[2]]);
  const scale = Math.sqrt(Math.hypot(...right) * Math.hypot(...up));
  [right, up, translation] = [right, up, translation].map((column) => column.map((value) => value / scale));
  let rotation = transpose([right, up, cross(right, up)]);
  // Newton's iteration converges quadratically, and the matrix is nearly a rotation from the start.
  for (let step = 0; step < 30; step += 1) {
    const inverse = inverseTransposed(rotation);
    rotation = rotation.map((row, i) => row.map((value, j) => (value + inverse[i][j]) / 2));
  }
  const position = transpose(rotation).map((row) => -row.reduce((sum, value, k) => sum + value * translation[k], 0));
  return { position, tilt: Math.acos(Math.min(Math.max(-rotation[2][2], -1), 1)) };
}

// Where photos were taken from; sizes are [width, height].
function findPositions(homographies, sizes) {
  const planes = homographies.map((homography, index) => planeHomography(homography, ...sizes[index]));
  const focal = focalLength(planes) ?? NOMINAL_FOCAL;
  return planes.map((plane) => cameraPose(plane, focal));
}

// `materials.alignment`: what follows resamples photos into the frame, and tells each pixel's direction to the camera.
const PIXEL_SLACK = 1e-3;
const MOST_TAPS = 8;
const LEEWAY = 0.15;

// Points along each side of a pixel that prevent aliasing where photos are finer than the frame.
function tapsNeeded(homographies, photoSize, size) {
  const step = 0.5 / size;
  let sum = 0;
  for (const homography of homographies) {
    const [corner, right, below] = [[0, 0], [step, 0], [0, step]].map(([x, y]) => {
      const [column, row] = apply(homography, [0.5 + x, 0.5 + y]);
      return [column * photoSize, row * photoSize];
    });
    const [a, c] = [(right[0] - corner[0]) * 2, (right[1] - corner[1]) * 2];
    const [b, d] = [(below[0] - corner[0]) * 2, (below[1] - corner[1]) * 2];
    sum += Math.sqrt(Math.abs(a * d - b * c)) || 0;
  }
  return Math.min(Math.max(1, Math.ceil(sum / homographies.length / 2 - LEEWAY)), MOST_TAPS);
}

// Writes one photo, warped into the frame, into `views` (3 planes) and `visible` (1 plane).
function warp(pixels, homography, size, taps, views, visible) {
  const side = pixels.width; // fitted photos are square
  const area = size * size;
  const clamp = (value) => Math.min(Math.max(value, 0), side - 1);
  const isInside = (place) => place >= -PIXEL_SLACK && place <= side - 1 + PIXEL_SLACK;
  for (let row = 0; row < size; row += 1) {
    for (let column = 0; column < size; column += 1) {
      const [u, v] = [(column + 0.5) / size, (row + 0.5) / size];
      const [x, y, w] = apply(homography, [u, v]);
      const index = row * size + column;
      const seen = w > 0 && isInside(x * side - 0.5) && isInside(y * side - 0.5);
      visible[index] = seen ? 1 : 0;
      if (!seen) continue;
      const sums = [0, 0, 0];
      for (let down = 0; down < taps; down += 1) {
        for (let across = 0; across < taps; across += 1) {
          const offset = (tap) => ((tap + 0.5) / taps - 0.5) / size;
          const point = apply(homography, [u + offset(across), v + offset(down)]);
          // A point beyond the border repeats the border's pixel.
          const [left, top] = [clamp(point[0] * side - 0.5), clamp(point[1] * side - 0.5)];
          const [x0, y0] = [Math.floor(left), Math.floor(top)];
          const [x1, y1] = [Math.min(x0 + 1, side - 1), Math.min(y0 + 1, side - 1)];
          const [fx, fy] = [left - x0, top - y0];
          for (let channel = 0; channel < 3; channel += 1) {
            const at = (px, py) => pixels.values[(py * side + px) * 3 + channel];
            const upper = at(x0, y0) * (1 - fx) + at(x1, y0) * fx;
            const lower = at(x0, y1) * (1 - fx) + at(x1, y1) * fx;
            sums[channel] += upper * (1 - fy) + lower * fy;
          }
        }
      }
      for (let channel = 0; channel < 3; channel += 1) {
        views[channel * area + index] = sums[channel] / taps ** 2 / LARGEST;
      }
    }
  }
}

// Writes unit vectors from the frame's pixels to a camera into 3 planes.
function writeDirections(position, size, planes) {
  const area = size * size;
  for (let row = 0; row < size; row += 1) {
    for (let column = 0; column < size; column += 1) {
      const x = position[0] - ((column + 0.5) / size - 0.5);
      const y = position[1] - (0.5 - (row + 0.5) / size);
      const length = Math.hypot(x, y, position[2]);
      const index = row * size + column;
      planes[index] = x / length;
      planes[area + index] = y / length;
      planes[2 * area + index] = position[2] / length;
    }
  }
}

// `exporting.subject.prepare_inputs`: photos, fitted to `facts.photoSize`, become the model's inputs by name.
// cameras: {homography, position} for each photo; without meaning for a model that takes photos as they are.
function prepareInputs(photos, cameras, facts) {
  const { size, aligned } = facts;
  const area = size * size;
  const views = new Float32Array(photos.length * 3 * area);
  const visible = new Float32Array(photos.length * area).fill(1);
  const directions = new Float32Array(photos.length * 3 * area);
  const taps = aligned ? tapsNeeded(cameras.map((camera) => camera.homography), facts.photoSize, size) : 1;
  photos.forEach((photo, index) => {
    const planes = views.subarray(index * 3 * area, (index + 1) * 3 * area);
    if (!aligned) {
      for (let pixel = 0; pixel < area; pixel += 1) {
        for (let channel = 0; channel < 3; channel += 1) {
          planes[channel * area + pixel] = photo.values[pixel * 3 + channel] / LARGEST;
        }
      }
      return;
    }
    const { homography, position } = cameras[index];
    warp(photo, homography, size, taps, planes, visible.subarray(index * area, (index + 1) * area));
    writeDirections(position, size, directions.subarray(index * 3 * area, (index + 1) * 3 * area));
  });
  if (aligned && !facts.inputs.includes("visible")) fillUnseen(views, visible, photos.length, area);
  const every = { views, visible, directions };
  const channels = { views: 3, visible: 1, directions: 3 };
  const inputs = {};
  for (const name of facts.inputs) {
    inputs[name] = { values: every[name], shape: [1, photos.length, channels[name], size, size] };
  }
  return inputs;
}

// A model that takes views alone cannot be told what a view does not see: it gets the mean of the views that do.
function fillUnseen(views, visible, count, area) {
  for (let pixel = 0; pixel < area; pixel += 1) {
    let weight = 0;
    const sums = [0, 0, 0];
    for (let view = 0; view < count; view += 1) {
      weight += visible[view * area + pixel];
      // Where a view sees nothing it holds zeros.
      for (let channel = 0; channel < 3; channel += 1) sums[channel] += views[(view * 3 + channel) * area + pixel];
    }
    for (let view = 0; view < count; view += 1) {
      if (visible[view * area + pixel]) continue;
      for (let channel = 0; channel < 3; channel += 1) {
        views[(view * 3 + channel) * area + pixel] = sums[channel] / Math.max(weight, 1e-6);
      }
    }
  }
}

// How much each view after the first looks like the first one: the correlation of what is left of their brightness
// without light and shade, from -1 to 1. Rendered photos in one frame have 0.28 to 1, other photos -0.14 to 0.19; a
// smooth metal shows nothing that could agree, whatever its frame.
const CELLS = 64;
const NEIGHBOURS = 3;

function agreements(views, count, size) {
  const pictures = [];
  for (let view = 0; view < count; view += 1) {
    const cells = new Float64Array(CELLS * CELLS);
    for (let row = 0; row < CELLS; row += 1) {
      for (let column = 0; column < CELLS; column += 1) {
        // At least one pixel: below 64 pixels, neighbouring cells share one.
        const bounds = (cell) => {
          const start = Math.floor((cell * size) / CELLS);
          return [start, Math.max(Math.floor(((cell + 1) * size) / CELLS), start + 1)];
        };
        const [[top, bottom], [left, right]] = [bounds(row), bounds(column)];
        let sum = 0;
        for (let y = top; y < bottom; y += 1) {
          for (let x = left; x < right; x += 1) {
            for (let channel = 0; channel < 3; channel += 1) {
              sum += [0.3, 0.6, 0.1][channel] * views[((view * 3 + channel) * size + y) * size + x];
            }
          }
        }
        cells[row * CELLS + column] = sum / ((bottom - top) * (right - left));
      }
    }
    pictures.push(withoutShade(cells));
  }
  return pictures.slice(1).map((picture) => picture.reduce((sum, value, cell) => sum + value * pictures[0][cell], 0));
}

// Differences from the mean around, over their spread around; as a vector of length 1 whose mean is 0.
function withoutShade(cells) {
  const around = (values) => values.map((_, cell) => {
    let sum = 0;
    const [row, column] = [Math.floor(cell / CELLS), cell % CELLS];
    for (let y = row - NEIGHBOURS; y <= row + NEIGHBOURS; y += 1) {
      for (let x = column - NEIGHBOURS; x <= column + NEIGHBOURS; x += 1) {
        const [inner, across] = [y, x].map((place) => Math.min(Math.max(place, 0), CELLS - 1));
        sum += values[inner * CELLS + across];
      }
    }
    return sum / (2 * NEIGHBOURS + 1) ** 2;
  });
  const means = around(cells);
  const differences = cells.map((value, cell) => value - means[cell]);
  const spreads = around(differences.map((value) => value ** 2));
  const even = differences.map((value, cell) => value / (Math.sqrt(spreads[cell]) + 0.01));
  const mean = even.reduce((sum, value) => sum + value, 0) / even.length;
  const length = Math.hypot(...even.map((value) => value - mean)) || 1;
  return even.map((value) => (value - mean) / length);
}
