// Where the rows of a batch lie. Padded tensors have all rows from 0 on; packed ones have them one
// behind the other, and then "query" and "key" mean an index among all of them. Kernels ask here
// and are otherwise the same for both.
#pragma once

#include <stdint.h>

#include "params.h"
#include "target.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

MASKED_ATTN_DEVICE constexpr int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
MASKED_ATTN_DEVICE inline int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
MASKED_ATTN_DEVICE inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

MASKED_ATTN_DEVICE inline int64_t length(Range range) {
  return range.end > range.begin ? range.end - range.begin : 0;
}

MASKED_ATTN_DEVICE inline Range intersect(Range a, Range b) {
  return {max_of(a.begin, b.begin), min_of(a.end, b.end)};
}

// Offsets may be known to the device only, where nobody could be told of a wrong one, so they are
// moved into the tensors.
MASKED_ATTN_DEVICE inline Range sequence_at(const int64_t* offsets, int64_t row, int64_t all,
                                            int64_t longest) {
  const int64_t begin = max_of(0, min_of(offsets[row], all));
  const int64_t end = begin + min_of(longest, all - begin);
  return {begin, max_of(begin, min_of(offsets[row + 1], end))};
}

MASKED_ATTN_DEVICE inline bool is_packed(const MaskParams& p) {
  return p.packed.query_offsets != nullptr;
}

MASKED_ATTN_DEVICE inline Range queries_of(const MaskParams& p, int64_t row) {
  if (!is_packed(p)) return {0, p.queries};
  return sequence_at(p.packed.query_offsets, row, p.packed.all_queries, p.queries);
}

MASKED_ATTN_DEVICE inline Range keys_of(const MaskParams& p, int64_t row) {
  if (!is_packed(p)) return {0, p.keys};
  return sequence_at(p.packed.key_offsets, row, p.packed.all_keys, p.keys);
}

// The path of a row of the batch, by its queries and its range of visible keys. How many queries
// are padding can't be known here, so their number must not count, or a row alone and the same row
// padded would take two paths. One query is the exception, because a token step lives on it.
MASKED_ATTN_DEVICE inline bool takes_few(int64_t queries, Range keys) {
  return queries == 1 || length(keys) <= kFewKeys;
}

// Chunks of keys that a row may have. One of several queries has few keys, or is not split.
MASKED_ATTN_DEVICE inline int64_t max_chunks(const MaskParams& p) {
  const bool may_be_split = p.queries == 1 || is_packed(p);
  return may_be_split ? max_of(1, ceil_div(p.keys, kKeyChunk)) : 1;
}

// Partial results lie in slots, one for each chunk, row after row. Where a packed row's slots begin
// follows from its keys, so a long row makes no room for itself in others.
MASKED_ATTN_DEVICE inline int64_t chunk_slots(const MaskParams& p, int64_t batch) {
  return is_packed(p) ? p.packed.all_keys / kKeyChunk + batch : batch * max_chunks(p);
}

MASKED_ATTN_DEVICE inline int64_t chunk_slot(const MaskParams& p, int64_t row, int64_t chunk) {
  const int64_t first =
      is_packed(p) ? keys_of(p, row).begin / kKeyChunk + row : row * max_chunks(p);
  return first + chunk;
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
