// What both attention kernels derive from their Params.
#pragma once

#include "kernels.h"
#include "query_rows.h"
#include "score_shape.h"

namespace masked_attn::cuda {

// The masks of a row as the device sees them: with a position on the device, the keys end behind
// the new ones.
MASKED_ATTN_INLINE MaskView visible_mask(const AttentionParams& p, int64_t row) {
  MaskParams mask = p.mask;
  if (p.device_position != nullptr) {
    mask.keys = first_slot(0, p.device_position, p.mask.keys, p.mask.queries) + p.mask.queries;
  }
  return MaskView(mask, row);
}

// A partial result in the workspace: maximum, sum, weighted values, and those with smaller weights
// if the first overflowed.
MASKED_ATTN_DEVICE inline int64_t part_elements(const AttentionParams& p) {
  return 2 + 2 * p.value_dim;
}

// Only rows of one query have more than one chunk.
template <class T>
MASKED_ATTN_INLINE T* part_of(const AttentionParams& p, int64_t batch, int64_t head,
                              int64_t chunk) {
  const int64_t unit = chunk_slot(p.mask, batch, chunk) * p.heads + head;
  return reinterpret_cast<T*>(p.workspace.shared) + unit * part_elements(p);
}

// One query's parts, added in the caller's order by one warp; a lane holds some columns.
template <class T, int kColumns>
class Merged {
 public:
  MASKED_ATTN_METHOD Merged() {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) values_[c] = T{0};
  }

  MASKED_ATTN_METHOD void add(SoftmaxPart<T> part, const T (&values)[kColumns]) {
    const T top = part.max > total_.max ? part.max : total_.max;
    const T factor = rescale_factor(total_.max, top);
    const T part_factor = rescale_factor(part.max, top);
    total_ = {top, total_.sum * factor + part.sum * part_factor};
#pragma unroll
    for (int c = 0; c < kColumns; ++c) values_[c] = values_[c] * factor + values[c] * part_factor;
  }

  MASKED_ATTN_METHOD void add(const T* part, int64_t value_dim, bool small) {
    T values[kColumns];
    load(part + 2, value_dim, values);
    const SoftmaxPart<T> state{part[0], part[1]};
    if (small) {
      const bool has_small = overflowed(state.sum, values);
      if (has_small) load(part + 2 + value_dim, value_dim, values);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        if (!has_small) values[c] = values[c] * static_cast<T>(kSmaller);
      }
    }
    add(state, values);
  }

  MASKED_ATTN_METHOD void keep(T* part, int64_t value_dim, bool small) const {
    if (lane_index() == 0) {
      part[0] = total_.max;
      part[1] = total_.sum;
    }
    T* values = part + 2 + (small ? value_dim : 0);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int64_t column = c * kWarp + lane_index();
      if (column < value_dim) values[column] = values_[c];
    }
  }

  // Whether values need to be added up again with smaller weights. All lanes get the same answer.
  MASKED_ATTN_METHOD bool overflowed() const { return overflowed(total_.sum, values_); }

  // Queries that saw nothing get 0, and a log-sum-exp of -inf. `small`: only mends what is stored.
  MASKED_ATTN_METHOD void store(const AttentionParams& p, int64_t batch, int64_t head,
                                int64_t query, bool small) const {
    const T sink = head_value(p.sinks, negative_infinity(T{}), batch, head);
    const T normalizer = normalizer_of(total_, sink);
    const int64_t to = row_offset(p.out, batch, head, query);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int64_t column = c * kWarp + lane_index();
      if (column >= p.value_dim) continue;
      T value = values_[c] * normalizer;
      if (small) value = mended(load_element<T>(p.out, to + column), value);
      store_element(p.out, to + column, value);
    }
    if (small || p.logsumexp.data == nullptr || lane_index() != 0) return;
    const int64_t index = row_offset(p.logsumexp, batch, head, query);
    static_cast<T*>(p.logsumexp.data)[index] = logsumexp_of(total_);
  }

 private:
  MASKED_ATTN_METHOD static bool overflowed(T weight_sum, const T (&values)[kColumns]) {
    bool finite = true;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) finite = finite && is_finite(values[c]);
    return ballot(!finite) != 0 && is_finite(weight_sum);
  }

  MASKED_ATTN_METHOD static void load(const T* from, int64_t count, T (&values)[kColumns]) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int64_t column = c * kWarp + lane_index();
      values[c] = column < count ? from[column] : T{0};
    }
  }

  SoftmaxPart<T> total_{negative_infinity(T{}), T{0}};
  T values_[kColumns];
};

// Calls `body` with the number of columns of values that a lane holds.
template <class Body>
inline Status with_columns(int64_t value_dim, const Body& body) {
  if (value_dim <= 32) return body.template operator()<1>();
  if (value_dim <= 64) return body.template operator()<2>();
  if (value_dim <= 128) return body.template operator()<4>();
  return body.template operator()<8>();
}

// The two paths; each leaves the rows of the other alone.
Status attention_tiled(const AttentionParams& params, Stream stream);
Status attention_few(const AttentionParams& params, Stream stream);

}  // namespace masked_attn::cuda
