// Sequences of different lengths, each as a case of its own and all of them packed, one behind the
// other in tensors with a batch of 1.
#pragma once

#include <algorithm>
#include <vector>

#include "support/cases.h"
#include "support/run.h"

namespace masked_attn_test {

struct Lengths {
  int64_t queries;
  int64_t keys;
};

struct PackedInputs {
  std::vector<AttentionInputs> rows;
  AttentionInputs all;  // its masks hold causal and window only
  std::vector<int64_t> query_offsets{0};
  std::vector<int64_t> key_offsets{0};
  int64_t max_queries = 0;
  int64_t max_keys = 0;

  Range queries(size_t n) const { return {query_offsets[n], query_offsets[n + 1]}; }
  Range keys(size_t n) const { return {key_offsets[n], key_offsets[n + 1]}; }
};

// Copies the rows of `part` into `whole` from row `first` on.
inline void put_rows(const Tensor& part, int64_t first, Tensor* whole) {
  part.for_each(
      [&](auto, auto h, auto i, auto d) { whole->set(0, h, first + i, d, part.get(0, h, i, d)); });
}

// `shape` says everything but the lengths.
inline PackedInputs make_packed(AttentionShape shape, const std::vector<Lengths>& lengths,
                                bool causal, int64_t window, Random* random) {
  PackedInputs packed;
  const Layout layout = shape.layout;
  shape.layout = Layout::kHeadMajor;
  for (const Lengths& length : lengths) {
    shape.queries = length.queries;
    shape.keys = length.keys;
    packed.rows.push_back(make_inputs(shape, random));
    packed.rows.back().masks.causal = causal;
    packed.rows.back().masks.window = window;
    packed.query_offsets.push_back(packed.query_offsets.back() + length.queries);
    packed.key_offsets.push_back(packed.key_offsets.back() + length.keys);
    packed.max_queries = std::max(packed.max_queries, length.queries);
    packed.max_keys = std::max(packed.max_keys, length.keys);
  }
  shape.queries = packed.query_offsets.back();
  shape.keys = packed.key_offsets.back();
  shape.layout = layout;
  packed.all = make_inputs(shape, random);
  packed.all.masks.causal = causal;
  packed.all.masks.window = window;
  for (size_t n = 0; n < lengths.size(); ++n) {
    put_rows(packed.rows[n].query, packed.query_offsets[n], &packed.all.query);
    put_rows(packed.rows[n].key, packed.key_offsets[n], &packed.all.key);
    put_rows(packed.rows[n].value, packed.key_offsets[n], &packed.all.value);
  }
  return packed;
}

// Without places for results. `same` hands over one pointer for both offsets.
inline masked_attn::AttentionParams packed_params(const PackedInputs& in, bool same) {
  masked_attn::AttentionParams p = attention_params(in.all);
  p.batch = static_cast<int64_t>(in.query_offsets.size()) - 1;
  p.mask.packed = {in.query_offsets.data(), same ? in.query_offsets.data() : in.key_offsets.data(),
                   p.mask.queries, p.mask.keys};
  p.mask.queries = in.max_queries;
  p.mask.keys = in.max_keys;
  for (TensorView* view : {&p.query, &p.key, &p.value}) view->batch_stride = 0;
  return p;
}

inline AttentionResult run_packed(const Kernels& kernels, const PackedInputs& in, bool same,
                                  const RunOptions& options = {}) {
  masked_attn::AttentionParams p = packed_params(in, same);
  const DType dtype = in.all.query.dtype();
  const DType wide = dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  AttentionResult result;
  const int64_t tokens = in.all.query.rows();
  result.out = Tensor(dtype, 1, p.heads, tokens, p.value_dim, options.out_layout);
  result.logsumexp = Tensor(wide, 1, p.heads, tokens, 1);
  p.out = result.out.view();
  p.logsumexp = result.logsumexp.view();
  for (TensorView* view : {&p.out, &p.logsumexp}) view->batch_stride = 0;
  run_guarded(kernels.attention, p, masked_attn::cpu::attention_workspace(p), options, result.out);
  return result;
}

inline AttentionResult rows_of(const AttentionResult& result, Range queries) {
  return {result.out.slice(0, queries), result.logsumexp.slice(0, queries)};
}

}  // namespace masked_attn_test
