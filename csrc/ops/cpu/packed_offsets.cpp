#include "device.h"

namespace masked_attn::cpu {
namespace {

// What one pair of arguments says, for messages.
struct Names {
  const char* offsets;
  const char* max;
  const char* tokens;
};
constexpr Names kQueries{"cu_seqlens", "max_seqlen", "queries"};
constexpr Names kKeys{"cu_seqlens_k", "max_seqlen_k", "keys"};

void check(const char* op, const Names& names, const at::Tensor& offsets, int64_t max,
           int64_t tokens) {
  const int64_t* values = offsets.const_data_ptr<int64_t>();
  const int64_t last = offsets.size(0) - 1;
  TORCH_CHECK(values[0] == 0, op, ": ", names.offsets, "[0] must be 0, got ", values[0]);
  for (int64_t n = 0; n < last; ++n) {
    TORCH_CHECK(values[n + 1] >= values[n], op, ": ", names.offsets, " must never decrease, got ",
                names.offsets, "[", n + 1, "] = ", values[n + 1], " after ", values[n]);
    const int64_t length = values[n + 1] - values[n];
    TORCH_CHECK(length <= max, op, ": ", names.offsets, "[", n + 1, "] = ", values[n + 1],
                " gives sequence ", n, " ", length, " ", names.tokens, ", more than ", names.max,
                " = ", max);
  }
  TORCH_CHECK(values[last] == tokens, op, ": ", names.offsets, "[", last,
              "] must be the number of ", names.tokens, ", ", tokens, ", got ", values[last]);
}

}  // namespace

void Device::check_offsets(const char* op, const PackedLengths& lengths, int64_t queries,
                           int64_t keys) {
  check(op, kQueries, lengths.query_offsets, lengths.max_queries, queries);
  check(op, kKeys, lengths.key_offsets, lengths.max_keys, keys);
}

}  // namespace masked_attn::cpu
