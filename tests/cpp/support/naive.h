// The slow truth, in double and plain loops. Shares no code with the kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "support/masks.h"

namespace masked_attn_test {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

inline bool position_visible(const Masks& m, int64_t query, int64_t key) {
  const int64_t position = query + (m.keys - m.queries);
  if (m.causal && key > position) return false;
  if (m.window == 0) return true;
  if (key <= position - m.window) return false;
  return m.causal || key < position + m.window;
}

// The one rule: query i of head h sees key j in batch row b.
inline bool visible(const Masks& m, int64_t b, int64_t h, int64_t i, int64_t j) {
  if (!position_visible(m, i, j)) return false;
  if (m.has_key_mask && m.key(b, j) == 0) return false;
  if (m.attn.empty()) return true;
  const AttnMask& attn = m.attn[0];
  const double value = attn.get(b, h, i, j);
  if (attn.dtype == DType::kBool) return value != 0;
  return !(value <= 0.5 * lowest_finite(attn.dtype));
}

// What a float mask adds to a score.
inline double bias(const Masks& m, int64_t b, int64_t h, int64_t i, int64_t j) {
  if (m.attn.empty() || m.attn[0].dtype == DType::kBool) return 0;
  return m.attn[0].get(b, h, i, j);
}

struct NaiveRow {
  std::vector<double> weights;  // [keys], 0 where masked; less than 1 together beside a sink
  double logsumexp = -kInfinity;
  double score_size = 0;  // the largest sum of magnitudes in a visible score
};

// `score(j)` gives a score and, through its second argument, the sum of magnitudes in it.
template <class Score>
NaiveRow naive_row(const Masks& m, int64_t b, int64_t h, int64_t i, const Score& score,
                   double sink = -kInfinity) {
  NaiveRow row;
  row.weights.assign(m.keys, 0.0);
  double largest = -kInfinity;
  for (int64_t j = 0; j < m.keys; ++j) {
    if (!visible(m, b, h, i, j)) continue;
    double size = 0;
    const double added = bias(m, b, h, i, j);
    row.weights[j] = score(j, &size) + added;
    row.score_size = std::max(row.score_size, size + std::fabs(added));
    largest = std::max(largest, row.weights[j]);
  }
  double sum = 0;
  for (int64_t j = 0; j < m.keys; ++j) {
    if (!visible(m, b, h, i, j)) continue;
    row.weights[j] = std::exp(row.weights[j] - largest);
    sum += row.weights[j];
  }
  if (sum == 0) return row;
  row.logsumexp = largest + std::log(sum);
  const double top = std::max(largest, sink);
  const double all = sum * std::exp(largest - top) + std::exp(sink - top);
  // A sink far below has no weight, so its size is no error.
  if (sink > largest - 100) row.score_size = std::max(row.score_size, std::fabs(sink));
  for (double& weight : row.weights) weight *= std::exp(largest - top) / all;
  return row;
}

struct AttentionInputs {
  Tensor query;  // [batch, heads, queries, head_dim]
  Tensor key;    // [batch, kv_heads, keys, head_dim]
  Tensor value;  // [batch, kv_heads, keys, value_dim]
  Masks masks;
  double scale = 1;
  double softcap = 0;     // 0: none
  Tensor alibi_slopes{};  // [1 or batch, heads, 1, 1] in the dtype of sums; a batch of 0: none
  Tensor sinks{};         // the same
};

// That of one head of one row.
inline double head_value(const Tensor& values, double none, int64_t b, int64_t h) {
  return values.batch() == 0 ? none : values.get(b % values.batch(), h, 0, 0);
}

inline NaiveRow naive_attention_row(const AttentionInputs& in, int64_t b, int64_t h, int64_t i) {
  const int64_t kv_head = h / (in.query.heads() / in.key.heads());
  const double slope = head_value(in.alibi_slopes, 0, b, h);
  const auto score = [&](int64_t j, double* size) {
    double sum = 0;
    for (int64_t d = 0; d < in.query.columns(); ++d) {
      const double product = in.query.get(b, h, i, d) * in.key.get(b, kv_head, j, d) * in.scale;
      sum += product;
      *size += std::fabs(product);
    }
    if (in.softcap != 0) {
      sum = in.softcap * std::tanh(sum / in.softcap);
      *size += 2 * std::fabs(sum);
    }
    const double lean =
        slope * static_cast<double>(std::abs(i + in.masks.keys - in.masks.queries - j));
    *size += std::fabs(lean);
    return sum - lean;
  };
  return naive_row(in.masks, b, h, i, score, head_value(in.sinks, -kInfinity, b, h));
}

inline NaiveRow naive_softmax_row(const Tensor& scores, const Masks& m, double scale, int64_t b,
                                  int64_t h, int64_t i) {
  return naive_row(m, b, h, i, [&](int64_t j, double* size) {
    const double score = scores.get(b, h, i, j) * scale;
    *size = std::fabs(score);
    return score;
  });
}

}  // namespace masked_attn_test
