// Attention cases: sizes that straddle tiles and vectors, dtypes, and random inputs for them.
#pragma once

#include <string>

#include "support/naive.h"

namespace masked_attn_test {

// Around the tiles of 64 keys and 48 queries, the blocks of 6 rows, the chunks of 256 keys, the few
// queries (8) and the vectors of 4, 8 and 16 lanes.
constexpr int64_t kLengths[] = {1,  2,  7,   8,   9,   17,  31,  47,  48,  49,  63,
                                64, 65, 127, 128, 129, 255, 256, 257, 267, 513, 514};
constexpr int64_t kHeadSizes[] = {1, 8, 15, 16, 17, 32, 64, 80, 128, 256};
constexpr int kHeadSizeCount = sizeof(kHeadSizes) / sizeof(kHeadSizes[0]);

struct DTypePair {
  DType query;
  DType cache;  // of keys and values
};
constexpr DTypePair kDTypePairs[] = {
    {DType::kFloat32, DType::kFloat32}, {DType::kFloat64, DType::kFloat64},
    {DType::kFloat16, DType::kFloat16}, {DType::kBFloat16, DType::kBFloat16},
    {DType::kFloat32, DType::kFloat16}, {DType::kFloat32, DType::kBFloat16},
};
constexpr int kDTypePairCount = sizeof(kDTypePairs) / sizeof(kDTypePairs[0]);

struct AttentionShape {
  int64_t batch = 1;
  int64_t heads = 1;
  int64_t kv_heads = 1;
  int64_t queries = 1;
  int64_t keys = 1;
  int64_t head_dim = 16;
  int64_t value_dim = 16;
  DTypePair dtypes = kDTypePairs[0];
  Layout layout = Layout::kHeadMajor;
};

// Random inputs with no mask. Queries of up to 2 give score differences that matter.
inline AttentionInputs make_inputs(const AttentionShape& s, Random* random) {
  AttentionInputs in;
  in.query = Tensor(s.dtypes.query, s.batch, s.heads, s.queries, s.head_dim, s.layout)
                 .randomize(random, -2, 2);
  in.key = Tensor(s.dtypes.cache, s.batch, s.kv_heads, s.keys, s.head_dim, s.layout)
               .randomize(random, -2, 2);
  in.value =
      Tensor(s.dtypes.cache, s.batch, s.kv_heads, s.keys, s.value_dim, s.layout).randomize(random);
  in.masks.batch = s.batch;
  in.masks.heads = s.heads;
  in.masks.queries = s.queries;
  in.masks.keys = s.keys;
  in.scale = 1 / std::sqrt(static_cast<double>(s.head_dim));
  return in;
}

// The mask number `index` of all combinations, in an order in which neighbours differ in every
// part.
inline void set_masks(Masks* m, int64_t index, Random* random) {
  const PositionForm& position = kPositionForms[index % kPositionFormCount];
  m->causal = position.causal;
  m->window = position.window;
  set_key_mask(m, static_cast<KeyForm>(index % kKeyForms), random);
  const int64_t turn = index / (kPositionFormCount * kKeyForms);
  set_attn_mask(m, kAttnForms[(index + turn) % kAttnFormCount], random);
}
// 6 positions, 7 key masks and 9 attention masks: gcd(6, 7) = 1, and each turn shifts the third.
constexpr int64_t kMaskCount = kPositionFormCount * kKeyForms * kAttnFormCount;

inline std::string describe(const AttentionInputs& in) {
  return describe(in.masks) + ", batch " + std::to_string(in.query.batch()) + ", heads " +
         std::to_string(in.query.heads()) + "/" + std::to_string(in.key.heads()) + ", head_dim " +
         std::to_string(in.query.columns()) + ", value_dim " + std::to_string(in.value.columns()) +
         ", " + dtype_name(in.query.dtype()) + "/" + dtype_name(in.key.dtype());
}

}  // namespace masked_attn_test
