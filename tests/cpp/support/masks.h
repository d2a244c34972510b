// Masks of every form for tests, as values that can be copied, cut and handed to a kernel.
#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "support/tensors.h"

namespace masked_attn_test {

using masked_attn::MaskParams;

// The lowest finite value of a dtype (`torch.finfo(dtype).min`).
inline double lowest_finite(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return -std::numeric_limits<double>::max();
    case DType::kFloat32:
      return -std::numeric_limits<float>::max();
    case DType::kFloat16:
      return -65504.0;
    default:
      return -std::ldexp(2.0 - std::ldexp(1.0, -7), 127);
  }
}

// A bool or float mask that broadcasts along some of [batch, heads, queries, keys].
struct AttnMask {
  DType dtype = DType::kBool;
  int64_t strides[4] = {0, 0, 0, 0};  // in elements; 0 where it broadcasts
  std::vector<uint8_t> bytes;

  // `full[d]` says whether dimension d has its own values; `step` elements lie between two keys.
  AttnMask(DType type, const int64_t (&sizes)[4], const bool (&full)[4], int64_t step = 1)
      : dtype(type) {
    int64_t stride = step;
    for (int d = 3; d >= 0; --d) {
      if (!full[d]) continue;
      strides[d] = stride;
      stride *= sizes[d];
    }
    bytes.assign(stride * element_bytes(dtype), 0xff);
  }

  int64_t at(int64_t b, int64_t h, int64_t i, int64_t j) const {
    const int64_t element = b * strides[0] + h * strides[1] + i * strides[2] + j * strides[3];
    return element * element_bytes(dtype);
  }
  double get(int64_t b, int64_t h, int64_t i, int64_t j) const {
    return load_element(bytes.data() + at(b, h, i, j), dtype);
  }
  void set(int64_t b, int64_t h, int64_t i, int64_t j, double value) {
    store_element(value, bytes.data() + at(b, h, i, j), dtype);
  }
};

struct Masks {
  int64_t batch = 1;
  int64_t heads = 1;
  int64_t queries = 1;
  int64_t keys = 1;
  bool causal = false;
  int64_t window = 0;
  bool has_key_mask = false;
  int64_t key_step = 1;             // bytes between two keys of the key mask
  std::vector<uint8_t> key_mask{};  // [batch, keys]
  std::vector<AttnMask> attn{};     // none or one

  void add_key_mask(int64_t step = 1) {
    has_key_mask = true;
    key_step = step;
    key_mask.assign(batch * keys * step, 1);
  }
  uint8_t& key(int64_t b, int64_t j) { return key_mask[(b * keys + j) * key_step]; }
  uint8_t key(int64_t b, int64_t j) const { return key_mask[(b * keys + j) * key_step]; }

  AttnMask& add_attn(DType dtype, const bool (&full)[4], int64_t step = 1) {
    attn.assign(1, AttnMask(dtype, {batch, heads, queries, keys}, full, step));
    return attn[0];
  }

  MaskParams params() const {
    MaskParams p{};
    p.queries = queries;
    p.keys = keys;
    p.causal = causal;
    p.window = window;
    if (has_key_mask) {
      p.key_mask = key_mask.data();
      p.key_mask_strides[0] = keys * key_step;
      p.key_mask_strides[1] = key_step;
    }
    p.attn_mask_dtype = DType::kBool;
    if (!attn.empty()) {
      p.attn_mask = attn[0].bytes.data();
      p.attn_mask_dtype = attn[0].dtype;
      std::memcpy(p.attn_mask_strides, attn[0].strides, sizeof(p.attn_mask_strides));
    }
    return p;
  }

  // One row of the batch and, of it, some queries and keys.
  Masks slice(int64_t b, Range query_range, Range key_range) const {
    Masks out;
    out.heads = heads;
    out.queries = query_range.end - query_range.begin;
    out.keys = key_range.end - key_range.begin;
    out.causal = causal;
    out.window = window;
    if (has_key_mask) {
      out.add_key_mask();
      for (int64_t j = 0; j < out.keys; ++j) out.key(0, j) = key(b, key_range.begin + j);
    }
    if (!attn.empty()) {
      AttnMask& mask = out.add_attn(attn[0].dtype, {true, true, true, true});
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t i = 0; i < out.queries; ++i) {
          for (int64_t j = 0; j < out.keys; ++j) {
            const int64_t query = query_range.begin + i;
            mask.set(0, h, i, j, attn[0].get(b, h, query, key_range.begin + j));
          }
        }
      }
    }
    return out;
  }
};

enum class KeyForm { kNone, kLeft, kRight, kBoth, kHoles, kEmptyRow, kAllEmpty };
constexpr int kKeyForms = 7;

// Rows have different lengths, at least one key; `kEmptyRow` leaves the last row without any.
inline void set_key_mask(Masks* m, KeyForm form, Random* random) {
  if (form == KeyForm::kNone) return;
  m->add_key_mask(random->chance(0.3) ? 2 : 1);
  for (int64_t b = 0; b < m->batch; ++b) {
    const int64_t length = m->keys ? 1 + random->below(m->keys) : 0;
    const int64_t pad = m->keys - length;
    int64_t begin = pad;
    if (form == KeyForm::kRight) begin = 0;
    if (form == KeyForm::kBoth) begin = pad / 2;
    if (form == KeyForm::kHoles) begin = pad / 4;
    for (int64_t j = 0; j < m->keys; ++j) {
      bool seen = j >= begin && j < begin + length;
      if (form == KeyForm::kHoles) seen = j >= begin && random->chance(0.6);
      if (form == KeyForm::kEmptyRow && b == m->batch - 1) seen = false;
      if (form == KeyForm::kAllEmpty) seen = false;
      m->key(b, j) = seen;
    }
  }
}

struct AttnForm {
  const char* name;
  bool any;
  DType dtype;
  bool full[4];
  int64_t step;
};

constexpr AttnForm kAttnForms[] = {
    {"none", false, DType::kBool, {false, false, false, false}, 1},
    {"bool [B,H,Q,K]", true, DType::kBool, {true, true, true, true}, 1},
    {"bool [Q,K], every second element", true, DType::kBool, {false, false, true, true}, 2},
    {"bool [B,1,1,K]", true, DType::kBool, {true, false, false, true}, 1},
    {"float32 [B,H,Q,K]", true, DType::kFloat32, {true, true, true, true}, 1},
    {"float32 [1,H,Q,1]", true, DType::kFloat32, {false, true, true, false}, 1},
    {"float64 [B,1,Q,K], every second element",
     true,
     DType::kFloat64,
     {true, false, true, true},
     2},
    {"float16 [B,1,Q,K]", true, DType::kFloat16, {true, false, true, true}, 1},
    {"bfloat16 [1,1,1,K]", true, DType::kBFloat16, {false, false, false, true}, 1},
};
constexpr int kAttnFormCount = sizeof(kAttnForms) / sizeof(kAttnForms[0]);

// The values that a float mask of `dtype` may use for "not seen".
inline double not_seen(DType dtype, int64_t choice) {
  const double lowest = lowest_finite(dtype);
  const double values[] = {-std::numeric_limits<double>::infinity(), lowest, 0.5 * lowest,
                           0.75 * lowest};
  return values[choice];
}

inline void set_attn_mask(Masks* m, const AttnForm& form, Random* random) {
  if (!form.any) return;
  AttnMask& mask = m->add_attn(form.dtype, form.full, form.step);
  const int64_t sizes[4] = {form.full[0] ? m->batch : 1, form.full[1] ? m->heads : 1,
                            form.full[2] ? m->queries : 1, form.full[3] ? m->keys : 1};
  for (int64_t b = 0; b < sizes[0]; ++b) {
    for (int64_t h = 0; h < sizes[1]; ++h) {
      for (int64_t i = 0; i < sizes[2]; ++i) {
        for (int64_t j = 0; j < sizes[3]; ++j) {
          const bool seen = random->chance(0.7);
          double value = seen;
          if (form.dtype != DType::kBool) {
            value = seen ? random->uniform(-2, 2) : not_seen(form.dtype, random->below(4));
          }
          mask.set(b, h, i, j, value);
        }
      }
    }
  }
}

struct PositionForm {
  const char* name;
  bool causal;
  int64_t window;
};

constexpr PositionForm kPositionForms[] = {
    {"all", false, 0},
    {"causal", true, 0},
    {"window 5", false, 5},
    {"causal window 1", true, 1},
    {"causal window 70", true, 70},
    {"window 1000", false, 1000},
};
constexpr int kPositionFormCount = sizeof(kPositionForms) / sizeof(kPositionForms[0]);

inline std::string describe(const Masks& m) {
  std::string text = "queries " + std::to_string(m.queries) + ", keys " + std::to_string(m.keys);
  if (m.causal) text += ", causal";
  if (m.window) text += ", window " + std::to_string(m.window);
  if (m.has_key_mask) {
    for (int64_t b = 0; b < m.batch; ++b) {
      text += b ? " " : ", key mask ";
      for (int64_t j = 0; j < m.keys && j < 70; ++j) text += m.key(b, j) ? '1' : '0';
    }
  }
  if (!m.attn.empty()) text += std::string(", attn mask ") + dtype_name(m.attn[0].dtype);
  return text;
}

}  // namespace masked_attn_test
