// Cases of attention with a softcap, ALiBi slopes and sinks, alone and together.
#pragma once

#include "support/cases.h"
#include "support/compare.h"

namespace masked_attn_test {

struct ScoreParts {
  bool softcap;
  bool slopes;
  bool sinks;
};

// All combinations of at least one.
constexpr ScoreParts kScoreParts[] = {
    {true, false, false}, {false, true, false}, {false, false, true}, {true, true, false},
    {false, true, true},  {true, false, true},  {true, true, true}};
constexpr int kScorePartsCount = sizeof(kScoreParts) / sizeof(kScoreParts[0]);

// Queries and keys of every path: one query with one chunk of keys and with several, few keys,
// query tiles, more queries than keys.
constexpr int64_t kPathSizes[][2] = {{1, 7},  {1, 70},   {1, 256},  {1, 700}, {2, 8},
                                     {5, 16}, {60, 131}, {100, 64}, {9, 300}};
constexpr int kPathSizeCount = sizeof(kPathSizes) / sizeof(kPathSizes[0]);

// One number for each head, and for each row if `per_row`, in the dtype of sums.
inline Tensor head_numbers(const AttentionInputs& in, bool per_row, double low, double high,
                           Random* random) {
  const DType dtype = compute_dtype(in.query.dtype());
  return Tensor(dtype, per_row ? in.query.batch() : 1, in.query.heads(), 1, 1)
      .randomize(random, low, high);
}

// Scores are a few units large, so a cap of 2 bends them, and slopes matter over some keys.
inline void add_parts(const ScoreParts& parts, bool per_row, AttentionInputs* in, Random* random) {
  if (parts.softcap) in->softcap = 2;
  if (parts.slopes) in->alibi_slopes = head_numbers(*in, per_row, 0, 0.3, random);
  if (parts.sinks) in->sinks = head_numbers(*in, per_row, -2, 6, random);
}

// Two rows of four heads in two groups.
inline AttentionInputs inputs_of_path(int64_t size, int64_t turn, Random* random) {
  AttentionShape shape;
  shape.batch = 2;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.queries = kPathSizes[size % kPathSizeCount][0];
  shape.keys = kPathSizes[size % kPathSizeCount][1];
  shape.head_dim = turn % 2 ? 20 : 16;
  shape.value_dim = turn % 3 ? 19 : 32;
  shape.dtypes = kDTypePairs[turn % kDTypePairCount];
  shape.layout = kLayouts[turn % 3];
  return make_inputs(shape, random);
}

inline std::string describe(const ScoreParts& parts) {
  return std::string(parts.softcap ? "softcap " : "") + (parts.slopes ? "slopes " : "") +
         (parts.sinks ? "sinks" : "");
}

}  // namespace masked_attn_test
