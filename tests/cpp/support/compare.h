// Comparisons that say where two results differ first; an empty text means that they agree.
#pragma once

#include <sstream>
#include <string>

#include "support/accuracy.h"
#include "support/run.h"

namespace masked_attn_test {

inline std::string place_text(int64_t b, int64_t h, int64_t i, int64_t d) {
  std::ostringstream text;
  text << "[" << b << ", " << h << ", " << i << ", " << d << "]";
  return text.str();
}

inline std::string difference_text(const char* what, const std::string& place, double found,
                                   double expected, double bound) {
  std::ostringstream text;
  text.precision(17);
  text << what << place << " is " << found << ", expected " << expected << " within " << bound;
  return text.str();
}

// Bits, element by element, whatever the layouts.
inline std::string bits_differ(const Tensor& a, const Tensor& b) {
  std::string text;
  a.for_each([&](int64_t n, int64_t h, int64_t i, int64_t d) {
    if (!text.empty() || a.bits(n, h, i, d) == b.bits(n, h, i, d)) return;
    text = difference_text("", place_text(n, h, i, d), a.get(n, h, i, d), b.get(n, h, i, d), 0);
  });
  return text;
}

inline std::string bits_differ(const AttentionResult& a, const AttentionResult& b) {
  const std::string out = bits_differ(a.out, b.out);
  if (!out.empty()) return "out" + out;
  const std::string logsumexp = bits_differ(a.logsumexp, b.logsumexp);
  return logsumexp.empty() ? "" : "logsumexp" + logsumexp;
}

// False for NaN, so that a NaN is never taken for a match.
inline bool within(double found, double truth, double bound) {
  return std::fabs(found - truth) <= bound;
}

// The naive answer to a whole case, computed once and compared with every instruction set.
class AttentionTruth {
 public:
  explicit AttentionTruth(const AttentionInputs& in) : in_(in) {
    for (int64_t b = 0; b < in.query.batch(); ++b) {
      for (int64_t h = 0; h < in.query.heads(); ++h) {
        for (int64_t i = 0; i < in.query.rows(); ++i) add_row(b, h, i);
      }
    }
  }

  std::string differs(const AttentionResult& result) const {
    size_t n = 0;
    for (int64_t b = 0; b < in_.query.batch(); ++b) {
      for (int64_t h = 0; h < in_.query.heads(); ++h) {
        for (int64_t i = 0; i < in_.query.rows(); ++i, ++n) {
          const std::string text = row_differs(result, rows_[n], b, h, i);
          if (!text.empty()) return text;
        }
      }
    }
    return "";
  }

 private:
  struct Row {
    double logsumexp;
    double score_size;
    std::vector<double> out;
    double value_size;
  };

  void add_row(int64_t b, int64_t h, int64_t i) {
    const NaiveRow naive = naive_attention_row(in_, b, h, i);
    Row row{naive.logsumexp, naive.score_size, std::vector<double>(in_.value.columns()), 0};
    const int64_t kv_head = h / (in_.query.heads() / in_.key.heads());
    for (int64_t j = 0; j < in_.masks.keys; ++j) {
      if (naive.weights[j] == 0) continue;
      for (int64_t d = 0; d < in_.value.columns(); ++d) {
        const double value = in_.value.get(b, kv_head, j, d);
        row.out[d] += naive.weights[j] * value;
        row.value_size = std::max(row.value_size, std::fabs(value));
      }
    }
    rows_.push_back(row);
  }

  std::string row_differs(const AttentionResult& result, const Row& row, int64_t b, int64_t h,
                          int64_t i) const {
    const DType dtype = in_.query.dtype();
    for (int64_t d = 0; d < in_.value.columns(); ++d) {
      const double found = result.out.get(b, h, i, d);
      const double bound = output_bound(dtype, row.out[d], row.score_size, row.value_size);
      if (within(found, row.out[d], bound)) continue;
      return difference_text("out", place_text(b, h, i, d), found, row.out[d], bound);
    }
    const double found = result.logsumexp.get(b, h, i, 0);
    const double bound = logsumexp_bound(dtype, row.logsumexp, row.score_size);
    if (found == row.logsumexp || within(found, row.logsumexp, bound)) return "";
    return difference_text("logsumexp", place_text(b, h, i, 0), found, row.logsumexp, bound);
  }

  const AttentionInputs& in_;
  std::vector<Row> rows_;
};

}  // namespace masked_attn_test
