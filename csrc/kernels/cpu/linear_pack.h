// Copies a panel of a weight, and of x, into the order in which register blocks read it.
#pragma once

#include "linear_element.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// Part of a stored weight: `inputs` by `outputs`. A row is an input if `transposed`, else an
// output.
template <class S>
struct WeightPart {
  const S* data;
  int64_t row_stride;
  int64_t inputs;
  int64_t outputs;
  bool transposed;
};

// One value of the type of computation, or a pair in its place.
template <class Element, class T, class S>
inline T packed_value(const S* first, const S* second) {
  if constexpr (Element::kInputs == 1) {
    return static_cast<T>(to_float(*first));
  } else {
    const S pair[2] = {*first, second != nullptr ? *second : S{}};
    T packed;
    memcpy(&packed, pair, sizeof(packed));
    return packed;
  }
}

// A vector of steps of one output whose inputs lie behind each other.
template <class Element, class T, class S>
inline Vec<T> load_steps(const S* from) {
  if constexpr (Element::kInputs == 1) {
    return Vec<T>::load(from);
  } else {
    return Vec<T>::load(reinterpret_cast<const T*>(from));
  }
}

// What one element of a [steps, kStrip] strip holds, wherever it lies.
template <class Element, class T, class S>
inline T packed_weight(const WeightPart<S>& w, int64_t step, int64_t output) {
  if (output >= w.outputs || step * Element::kInputs >= w.inputs) return T{0};
  const int64_t input_stride = w.transposed ? w.row_stride : 1;
  const S* first =
      w.data + step * Element::kInputs * input_stride + output * (w.transposed ? 1 : w.row_stride);
  const bool has_second = step * Element::kInputs + 1 < w.inputs;
  return packed_value<Element, T>(first, has_second ? first + input_stride : nullptr);
}

// Steps [steps.begin, steps.end) of the strip that begins with `output`, value by value.
template <class Element, class T, class S>
inline void pack_edge(const WeightPart<S>& w, Range steps, int64_t output, T* strip) {
  for (int64_t step = steps.begin; step < steps.end; ++step) {
    for (int64_t j = 0; j < kStrip<T>; ++j) {
      strip[step * kStrip<T> + j] = packed_weight<Element, T>(w, step, output + j);
    }
  }
}

// Rows are inputs: they are read from end to end, each into every strip.
template <class Element, class T, class S>
inline void pack_columns(const WeightPart<S>& w, T* out, int64_t strip_stride) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  const int64_t whole_steps = w.inputs / Element::kInputs;
  const int64_t steps = steps_of<Element>(w.inputs);
  const int64_t whole = w.outputs / kStrip<T> * kStrip<T>;
  for (int64_t step = 0; step < whole_steps; ++step) {
    const S* row = w.data + step * Element::kInputs * w.row_stride;
    T* to = out + step * kStrip<T>;
    for (int64_t n = 0; n < whole; n += kStrip<T>, to += strip_stride) {
#pragma GCC unroll 4
      for (int j = 0; j < kStripVectors; ++j) {
        const S* from = row + n + j * kLanes;
        if constexpr (Element::kInputs == 1) {
          Vec<T>::load(from).store(to + j * kLanes);
        } else {
          load_pairs(from, from + w.row_stride).store(to + j * kLanes);
        }
      }
    }
  }
  for (int64_t n = 0; n < w.outputs; n += kStrip<T>, out += strip_stride) {
    pack_edge<Element, T>(w, {n < whole ? whole_steps : 0, steps}, n, out);
  }
}

// Rows are outputs: squares of as many inputs as outputs are transposed in registers.
template <class Element, class T, class S>
inline void pack_rows_of_outputs(const WeightPart<S>& w, T* out, int64_t strip_stride) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  const int64_t steps = steps_of<Element>(w.inputs);
  const int64_t whole_steps = w.inputs / Element::kInputs / kLanes * kLanes;
  for (int64_t n = 0; n < w.outputs; n += kStrip<T>, out += strip_stride) {
    const bool whole = n + kStrip<T> <= w.outputs;
    for (int64_t step = 0; whole && step < whole_steps; step += kLanes) {
      for (int j = 0; j < kStripVectors; ++j) {
        const S* corner = w.data + (n + j * kLanes) * w.row_stride + step * Element::kInputs;
        Vec<T> square[kLanes];
#pragma GCC unroll 16
        for (int64_t i = 0; i < kLanes; ++i) {
          square[i] = load_steps<Element, T>(corner + i * w.row_stride);
        }
        transpose(square);
#pragma GCC unroll 16
        for (int64_t i = 0; i < kLanes; ++i) {
          square[i].store(out + (step + i) * kStrip<T> + j * kLanes);
        }
      }
    }
    pack_edge<Element, T>(w, {whole ? whole_steps : 0, steps}, n, out);
  }
}

// Packs a panel as strips [outputs / kStrip][steps, kStrip]; behind the last output stand zeros.
template <class Element, class T, class S>
inline void pack_weight(const WeightPart<S>& w, T* out, int64_t strip_stride) {
  if (w.transposed) {
    pack_columns<Element>(w, out, strip_stride);
  } else {
    pack_rows_of_outputs<Element>(w, out, strip_stride);
  }
}

// Rows of x, [rows, out_stride] values or pairs.
template <class Element, class T, class S>
inline void pack_input(const S* source, int64_t row_stride, int64_t rows, int64_t inputs, T* out,
                       int64_t out_stride) {
  for (int64_t m = 0; m < rows; ++m, source += row_stride, out += out_stride) {
    if constexpr (Element::kInputs == 1) {
      load_values(source, inputs, out);
    } else {
      memcpy(out, source, inputs * sizeof(S));
      if (inputs % 2 != 0)
        out[inputs / 2] = packed_value<Element, T, S>(source + inputs - 1, nullptr);
      const int64_t filled = ceil_div(inputs, 2);
      fill(out + filled, T{0}, steps_of<Element>(inputs) - filled);
    }
  }
}

// The same for `rows` by `inputs` of a call. Pairs are of 16 bits, whatever else may be stored.
template <class Element, class T>
inline void pack_x(const LinearParams& p, Range rows, Range inputs, T* out, int64_t out_stride) {
  with_stored_type<T>(p.input, [&](const auto* source) {
    if constexpr (Element::kInputs == 1 || sizeof(*source) == 2) {
      pack_input<Element>(source + rows.begin * p.input.row_stride + inputs.begin,
                          p.input.row_stride, length(rows), length(inputs), out, out_stride);
    }
  });
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
