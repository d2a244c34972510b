// From the totals of some rows and outputs to what is stored: bias, activation, multiplier.
#pragma once

#include "activation.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// The first `count` values, the rest of the vector is 0 and nothing behind is read.
template <class T, class S>
inline Vec<T> load_part(const S* source, int64_t count) {
  return count >= Vec<T>::kLanes ? Vec<T>::load(source) : load_first<T>(source, count);
}

template <class T, class S>
inline void store_part(Vec<T> values, int64_t count, S* out) {
  if (count >= Vec<T>::kLanes) return values.store(out);
  T lanes[Vec<T>::kLanes];
  values.store(lanes);
  for (int64_t i = 0; i < count; ++i) from_float(lanes[i], out + i);
}

// `totals` [count], padded to whole vectors; `bias` likewise. `multiplier` may be null.
template <Activation kActivation, class T, class S>
inline void finish_row(const T* totals, const T* bias, const S* multiplier, int64_t count, S* out) {
  for (int64_t n = 0; n < count; n += Vec<T>::kLanes) {
    Vec<T> value = activate(kActivation, Vec<T>::load(totals + n) + Vec<T>::load(bias + n));
    if (multiplier != nullptr) value = value * load_part<T>(multiplier + n, count - n);
    store_part(value, count - n, out + n);
  }
}

// Finishes `rows` by `outputs`; `totals` [rows, stride] begins with their first, and so does
// `bias`.
template <Activation kActivation, class T>
inline void finish_block(const LinearParams& p, Range rows, Range outputs, const T* totals,
                         int64_t stride, const T* bias) {
  with_stored_type<T>(p.out, [&](auto* out) {
    const auto* factors = static_cast<decltype(out)>(p.multiplier.data);
    for (int64_t m = rows.begin; m < rows.end; ++m, totals += stride) {
      const auto* multiplier =
          factors != nullptr ? factors + m * p.multiplier.row_stride + outputs.begin : nullptr;
      finish_row<kActivation>(totals, bias, multiplier, length(outputs),
                              out + m * p.out.row_stride + outputs.begin);
    }
  });
}

template <class T>
inline void finish(const LinearParams& p, Range rows, Range outputs, const T* totals,
                   int64_t stride, const T* bias) {
  switch (p.activation) {
    case Activation::kNone:
      return finish_block<Activation::kNone>(p, rows, outputs, totals, stride, bias);
    case Activation::kGeluTanh:
      return finish_block<Activation::kGeluTanh>(p, rows, outputs, totals, stride, bias);
    case Activation::kGelu:
      return finish_block<Activation::kGelu>(p, rows, outputs, totals, stride, bias);
    case Activation::kSilu:
      return finish_block<Activation::kSilu>(p, rows, outputs, totals, stride, bias);
    case Activation::kRelu:
      return finish_block<Activation::kRelu>(p, rows, outputs, totals, stride, bias);
  }
}

// The bias of some outputs, 0 where there is none and up to `padded`.
template <class T>
inline void load_bias(const LinearParams& p, Range outputs, int64_t padded, T* bias) {
  fill(bias, T{0}, padded);
  if (p.bias.data == nullptr) return;
  with_stored_type<T>(
      p.bias, [&](const auto* data) { load_values(data + outputs.begin, length(outputs), bias); });
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
