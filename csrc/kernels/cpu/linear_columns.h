// skinny_linear with a weight [K, N], contiguous along the outputs, as Conv1D has it. A strip of
// columns is read from its first input to its last: a register block is some rows of x by the
// strip, adds up a panel of inputs and is then added to the sums of the strip. Rows of the weight
// lie far apart, so each is asked for long before it is needed, into the second-level cache: the
// first level can wait for too few lines at once.
#pragma once

#include "linear_element.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// A strip is two cache lines wide, which the memory delivers together, if registers allow.
template <class T, class S>
constexpr int kStripVectors = min_of(4, 128 / (sizeof(S) * Vec<T>::kLanes));

// Some rows of x against a strip, over one panel.
template <class T, class W>
struct StripPanel {
  const T* input;   // [rows, panel], as packed
  const W* weight;  // [inputs, stride]
  int64_t stride;
  int64_t steps;  // of one input, or of two
  bool first;     // the first panel starts the sums, the others are added
};

// The part of the weight that is asked for meanwhile, in some of the steps.
struct StripAhead {
  const char* rows;
  int64_t row_bytes;
  int64_t strip_bytes;
  Range steps;

  // Inlined by force: GCC drops the call of a function that does nothing but prefetch.
  template <class Element>
  __attribute__((always_inline)) void prefetch(int64_t step) const {
    if (step < steps.begin || step >= steps.end) return;
    for (int64_t i = 0; i < Element::kInputs; ++i) {
      const char* row = rows + (step * Element::kInputs + i) * row_bytes;
      for (int64_t j = 0; j < strip_bytes; j += 64) __builtin_prefetch(row + j, 0, 2);
    }
  }
};

// sums [kRows, kVectors].
template <class Element, class T, class W, int kRows, int kVectors>
inline void strip_block(const StripPanel<T, W>& p, const StripAhead& ahead, T* total) {
  constexpr int64_t kInputStride = cpu::kInputPanel / Element::kInputs;
  constexpr int64_t kLanes = Vec<T>::kLanes;
  SumBlock<T, kRows, kVectors> sums;
  for (int64_t step = 0; step < p.steps; ++step) {
    ahead.template prefetch<Element>(step);
    const W* row = p.weight + step * Element::kInputs * p.stride;
    sums.template add<Element>(
        [&](int j) { return Element::template load_column<T>(row + j * kLanes, p.stride); },
        [&](int i) { return Vec<T>::broadcast(p.input[i * kInputStride + step]); });
  }
  const bool first = p.first;
  sums.for_each([&](int i, int j, Vec<T> sum) {
    T* out = total + (i * kVectors + j) * kLanes;
    (first ? sum : Vec<T>::load(out) + sum).store(out);
  });
}

// Finds the block that has exactly `rows` rows.
template <class Element, int kRows, int kVectors, class T, class W>
inline void strip_rows(const StripPanel<T, W>& p, int64_t rows, const StripAhead& ahead, T* total) {
  if (rows == kRows) {
    strip_block<Element, T, W, kRows, kVectors>(p, ahead, total);
  } else if constexpr (kRows > 1) {
    strip_rows<Element, kRows - 1, kVectors>(p, rows, ahead, total);
  }
}

template <class Element, class T, class S>
class LinearColumns {
 public:
  static constexpr int64_t kPanel = cpu::kInputPanel;
  // Outputs per unit of work: a strip.
  static constexpr int64_t kUnit = kStripVectors<T, S> * Vec<T>::kLanes;
  static_assert(kUnit <= cpu::kOutputBlock);

  LinearColumns(const SkinnyLinearParams& p, const PackedInput<Element, T>& input, char* scratch)
      : p_(p),
        input_(input),
        weight_(static_cast<const S*>(p.weight.data)),
        blocks_(ceil_div(p.rows, kRows)) {
    Arena arena(scratch);
    sums_ = arena.take<T>(cpu::kOutputBlock * p.rows);
    bias_ = arena.take<T>(cpu::kOutputBlock);
    edge_ = arena.take<S>(kPanel * kUnit);
    packed_ = arena.take<T>(kPanel * kUnit);
  }

  void run(Range outputs) const {
    for (int64_t n = outputs.begin; n < outputs.end; n += kUnit) {
      const Range strip{n, min_of(n + kUnit, outputs.end)};
      for (int64_t k = 0; k < p_.inputs; k += kPanel) add_panel(strip, k, outputs.end);
      finish_outputs(p_, strip, sums_, kUnit, bias_);
    }
  }

 private:
  // Rows of x in a register block: sums and operands fill 32 or 16 registers.
  static constexpr int kRows = (Vec<T>::kBlockVectors == 4 ? 24 : 12) / kStripVectors<T, S>;
  // Short blocks come back to the panel so often that a converted copy of it, row beside row, is
  // worth its time. In place, strides like 12 KB send all rows to a few sets of the cache.
  static constexpr bool kPacks = kRows < 6;
  static_assert(!kPacks || Element::kInputs == 1);
  // From the row of the weight that is needed to the one that is asked for: 12 to 24 KB.
  static constexpr int64_t kAhead = 3 * kPanel;

  const S* weight(int64_t k, int64_t n) const { return weight_ + k * p_.weight.row_stride + n; }

  void add_panel(Range strip, int64_t k, int64_t end) const {
    const int64_t inputs = min_of(kPanel, p_.inputs - k);
    StripPanel<T, S> panel{};
    panel.weight = weight(k, strip.begin);
    panel.stride = p_.weight.row_stride;
    panel.steps = ceil_div(inputs, Element::kInputs);
    panel.first = k == 0;
    const S* ahead = ahead_of(k, strip.begin, end);
    if (length(strip) < kUnit || inputs % Element::kInputs != 0) {
      fill_edge(panel.weight, inputs, length(strip));
      panel.weight = edge_;
      panel.stride = kUnit;
    }
    if constexpr (kPacks) {
      if (blocks_ > 1) return add_rows(pack(panel), k, ahead);
    }
    add_rows(panel, k, ahead);
  }

  template <class W>
  void add_rows(StripPanel<T, W> panel, int64_t k, const S* weight_ahead) const {
    StripAhead ahead{reinterpret_cast<const char*>(weight_ahead),
                     p_.weight.row_stride * static_cast<int64_t>(sizeof(S)),
                     kUnit * sizeof(S),
                     {0, 0}};
    for (int64_t b = 0; b < blocks_; ++b) {
      const Range rows{b * p_.rows / blocks_, (b + 1) * p_.rows / blocks_};
      if (weight_ahead != nullptr) {
        ahead.steps = {b * panel.steps / blocks_, (b + 1) * panel.steps / blocks_};
      }
      panel.input = input_.row(k, rows.begin);
      strip_rows<Element, kRows, kStripVectors<T, S>>(panel, length(rows), ahead,
                                                      sums_ + rows.begin * kUnit);
    }
  }

  // The panel to ask for while the one at `k` is multiplied: further down, or at the top of the
  // next strip. Null: none.
  const S* ahead_of(int64_t k, int64_t n, int64_t end) const {
    k += kAhead;
    if (k >= p_.inputs) {
      k -= p_.inputs;
      n += kUnit;
    }
    return n + kUnit <= end && k + kPanel <= p_.inputs ? weight(k, n) : nullptr;
  }

  // A copy of part of the weight, with zeros where columns or the second row of a pair are missing.
  void fill_edge(const S* source, int64_t inputs, int64_t count) const {
    memset(edge_, 0, kPanel * kUnit * sizeof(S));
    for (int64_t i = 0; i < inputs; ++i) {
      memcpy(edge_ + i * kUnit, source + i * p_.weight.row_stride, count * sizeof(S));
    }
  }

  StripPanel<T, T> pack(const StripPanel<T, S>& panel) const {
    for (int64_t k = 0; k < panel.steps; ++k) {
      load_values(panel.weight + k * panel.stride, kUnit, packed_ + k * kUnit);
    }
    return {nullptr, packed_, kUnit, panel.steps, panel.first};
  }

  const SkinnyLinearParams& p_;
  const PackedInput<Element, T>& input_;
  const S* weight_;
  int64_t blocks_;  // register blocks, one below the other
  T* sums_;         // [M, kUnit]
  T* bias_;
  S* edge_;
  T* packed_;
};

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
