// The one rule of which query sees which key, for every kernel on every device. The surprise: the
// answer comes as a word of 64 bits, one tile of keys at a time, so that "nothing visible" and "all
// visible" are one comparison and masked lanes are one vector select.
#pragma once

#include <stdint.h>
#include <string.h>

#include "half.h"
#include "params.h"
#include "rows.h"
#include "target.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// The lowest `count` bits set, for 0 <= count <= 64.
MASKED_ATTN_DEVICE inline uint64_t low_bits(int64_t count) {
  if (count <= 0) return 0;
  return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
}

// Bit j set iff byte j of the eight bytes at `bytes` is nonzero.
MASKED_ATTN_DEVICE inline uint64_t nonzero_bytes(const uint8_t* bytes) {
  uint64_t word;
  memcpy(&word, bytes, sizeof(word));
  constexpr uint64_t kLow7 = 0x7f7f7f7f7f7f7f7full;
  const uint64_t high = (((word & kLow7) + kLow7) | word) & ~kLow7;
  return ((high >> 7) * 0x0102040810204080ull) >> 56;
}

MASKED_ATTN_DEVICE inline uint64_t nonzero_bits(const uint8_t* bytes, int64_t stride,
                                                int64_t count) {
  uint64_t bits = 0;
  int64_t j = 0;
  if (stride == 1) {
    for (; j + 8 <= count; j += 8) bits |= nonzero_bytes(bytes + j) << j;
  }
  for (; j < count; ++j) bits |= static_cast<uint64_t>(bytes[j * stride] != 0) << j;
  return bits;
}

// Additive masks: values at or below half the dtype's lowest finite value mean "not seen".
MASKED_ATTN_DEVICE inline double lowest_seen(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return -32752.0;
    case DType::kBFloat16:
      return -1.6947656946257676e38;
    case DType::kFloat32:
      return -1.7014117331926443e38;
    default:
      return -8.988465674311579e307;
  }
}

class MaskView {
 public:
  // Of any row of a padded batch.
  MASKED_ATTN_DEVICE explicit MaskView(const MaskParams& params)
      : MaskView(params, {0, params.queries}, {0, params.keys}) {}

  // Of one row, which matters to a packed batch.
  MASKED_ATTN_DEVICE MaskView(const MaskParams& params, int64_t row)
      : MaskView(params, queries_of(params, row), keys_of(params, row)) {}

  MASKED_ATTN_DEVICE int64_t queries() const { return length(queries_); }
  MASKED_ATTN_DEVICE int64_t keys() const { return length(keys_); }
  MASKED_ATTN_DEVICE Range all_queries() const { return queries_; }
  MASKED_ATTN_DEVICE Range all_keys() const { return keys_; }
  MASKED_ATTN_DEVICE bool has_bias() const {
    return p_.attn_mask != nullptr && p_.attn_mask_dtype != DType::kBool;
  }

  MASKED_ATTN_DEVICE bool has_key_mask() const { return p_.key_mask != nullptr; }

  // The key at which a query stands: the last query stands at the last key.
  MASKED_ATTN_DEVICE int64_t position(int64_t query) const { return query + shift_; }

  // From the first to the last key of the row that the key mask shows.
  MASKED_ATTN_DEVICE Range row_range(int64_t row) const {
    Range range = keys_;
    if (p_.key_mask == nullptr) return range;
    while (range.begin < range.end && !key_visible(row, range.begin)) ++range.begin;
    while (range.end > range.begin && !key_visible(row, range.end - 1)) --range.end;
    return range;
  }

  // The keys that causality and the window leave to a query; empty when begin >= end.
  MASKED_ATTN_DEVICE Range position_range(int64_t query) const {
    const int64_t position = this->position(query);
    Range range = keys_;
    if (window_ > 0) {
      range.begin = max_of(range.begin, position - window_ + 1);
      range.end = min_of(range.end, position + window_);
    }
    if (p_.causal) range.end = min_of(range.end, position + 1);
    return range;
  }

  // The queries to which causality and the window leave some key of `keys`.
  MASKED_ATTN_DEVICE Range seeing_queries(Range keys) const {
    Range range = queries_;
    const Range none{queries_.begin, queries_.begin};
    if (length(keys) == 0) return none;
    if (p_.causal) {
      range.begin = max_of(range.begin, keys.begin - shift_);
    } else if (window_ > 0) {
      range.begin = max_of(range.begin, keys.begin - shift_ - window_ + 1);
    }
    if (window_ > 0) range.end = min_of(range.end, keys.end - 1 - shift_ + window_);
    return length(range) == 0 ? none : range;
  }

  // Bits of the `count` keys from `key` on: what the key mask shows.
  MASKED_ATTN_DEVICE uint64_t key_bits(int64_t row, int64_t key, int64_t count) const {
    if (p_.key_mask == nullptr) return low_bits(count);
    const int64_t stride = p_.key_mask_strides[1];
    return nonzero_bits(p_.key_mask + row * p_.key_mask_strides[0] + key * stride, stride, count);
  }

  // Bits of the `count` keys from `key` on: what causality and the window leave to a query.
  MASKED_ATTN_DEVICE uint64_t position_bits(int64_t query, int64_t key, int64_t count) const {
    const Range range = intersect(position_range(query), {key, key + count});
    return low_bits(range.end - key) & ~low_bits(range.begin - key);
  }

  // Whether every query of `queries` sees the same keys, those of the key mask, among `keys`.
  MASKED_ATTN_DEVICE bool only_key_mask(Range queries, Range keys) const {
    return p_.attn_mask == nullptr && position_range(queries.begin).end >= keys.end &&
           position_range(queries.end - 1).begin <= keys.begin;
  }

  // Whether causality and the window hide all of `keys` from every query of `queries`.
  MASKED_ATTN_DEVICE bool out_of_reach(Range queries, Range keys) const {
    return position_range(queries.end - 1).end <= keys.begin ||
           position_range(queries.begin).begin >= keys.end;
  }

  // Bits of the `count` keys from `key` on: what the attention mask leaves to a query.
  MASKED_ATTN_DEVICE uint64_t attn_bits(int64_t row, int64_t head, int64_t query, int64_t key,
                                        int64_t count) const {
    if (p_.attn_mask == nullptr) return low_bits(count);
    const int64_t offset = attn_offset(row, head, query, key);
    const int64_t stride = p_.attn_mask_strides[3];
    switch (p_.attn_mask_dtype) {
      case DType::kBool:
        return nonzero_bits(static_cast<const uint8_t*>(p_.attn_mask) + offset, stride, count);
      case DType::kFloat16:
        return bias_bits(static_cast<const Half*>(p_.attn_mask) + offset, stride, count);
      case DType::kBFloat16:
        return bias_bits(static_cast<const BFloat16*>(p_.attn_mask) + offset, stride, count);
      case DType::kFloat32:
        return bias_bits(static_cast<const float*>(p_.attn_mask) + offset, stride, count);
      default:
        return bias_bits(static_cast<const double*>(p_.attn_mask) + offset, stride, count);
    }
  }

  // Adds the float mask to `count` scores; only values of visible keys are meaningful afterwards.
  template <class T>
  MASKED_ATTN_DEVICE void add_bias(int64_t row, int64_t head, int64_t query, int64_t key,
                                   int64_t count, T* scores) const {
    const int64_t offset = attn_offset(row, head, query, key);
    const int64_t stride = p_.attn_mask_strides[3];
    switch (p_.attn_mask_dtype) {
      case DType::kFloat16:
        return add_values(static_cast<const Half*>(p_.attn_mask) + offset, stride, count, scores);
      case DType::kBFloat16:
        return add_values(static_cast<const BFloat16*>(p_.attn_mask) + offset, stride, count,
                          scores);
      case DType::kFloat32:
        return add_values(static_cast<const float*>(p_.attn_mask) + offset, stride, count, scores);
      case DType::kFloat64:
        return add_values(static_cast<const double*>(p_.attn_mask) + offset, stride, count, scores);
      case DType::kBool:
        return;
    }
  }

 private:
  // The last query sees the last key.
  MASKED_ATTN_DEVICE MaskView(const MaskParams& params, Range queries, Range keys)
      : p_(params),
        queries_(queries),
        keys_(keys),
        shift_(keys.end - queries.end),
        window_(min_of(params.window, length(keys) + length(queries))),
        threshold_(lowest_seen(params.attn_mask_dtype)) {}

  MASKED_ATTN_DEVICE bool key_visible(int64_t row, int64_t key) const {
    return p_.key_mask[row * p_.key_mask_strides[0] + key * p_.key_mask_strides[1]] != 0;
  }

  MASKED_ATTN_DEVICE int64_t attn_offset(int64_t row, int64_t head, int64_t query,
                                         int64_t key) const {
    const int64_t* strides = p_.attn_mask_strides;
    return row * strides[0] + head * strides[1] + query * strides[2] + key * strides[3];
  }

  template <class S>
  MASKED_ATTN_DEVICE uint64_t bias_bits(const S* values, int64_t stride, int64_t count) const {
    uint64_t bits = 0;
    for (int64_t j = 0; j < count; ++j) {
      // Written so that NaN counts as seen: a NaN bias must show in the result.
      const bool seen = !(to_float(values[j * stride]) <= threshold_);
      bits |= static_cast<uint64_t>(seen) << j;
    }
    return bits;
  }

  template <class S, class T>
  MASKED_ATTN_DEVICE static void add_values(const S* values, int64_t stride, int64_t count,
                                            T* scores) {
    for (int64_t j = 0; j < count; ++j) scores[j] += static_cast<T>(to_float(values[j * stride]));
  }

  MaskParams p_;
  Range queries_;  // of the row
  Range keys_;
  int64_t shift_;
  int64_t window_;
  double threshold_;
};

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
