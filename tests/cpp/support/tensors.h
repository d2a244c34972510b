// Numbers from a fixed seed, and [batch, heads, rows, columns] tensors of every storage type and
// layout. Bytes that no element owns are 0xff (NaN in every dtype) and are watched.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/half.h"
#include "kernels/params.h"

namespace masked_attn_test {

using masked_attn::BFloat16;
using masked_attn::DType;
using masked_attn::Half;
using masked_attn::Range;
using masked_attn::TensorView;

inline int64_t element_bytes(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 8;
    case DType::kFloat32:
      return 4;
    case DType::kBool:
      return 1;
    default:
      return 2;
  }
}

inline const char* dtype_name(DType dtype) {
  constexpr const char* kNames[] = {"float32", "float64", "float16", "bfloat16", "bool"};
  return kNames[static_cast<int>(dtype)];
}

template <class T>
T read_as(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

inline double load_element(const void* from, DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return read_as<double>(from);
    case DType::kFloat32:
      return read_as<float>(from);
    case DType::kFloat16:
      return masked_attn::to_float(read_as<Half>(from));
    case DType::kBFloat16:
      return masked_attn::to_float(read_as<BFloat16>(from));
    default:
      return read_as<uint8_t>(from);
  }
}

template <class T>
void store_rounded(double value, void* to) {
  T stored;
  masked_attn::from_float(static_cast<float>(value), &stored);
  std::memcpy(to, &stored, sizeof(stored));
}

inline void store_element(double value, void* to, DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      std::memcpy(to, &value, sizeof(value));
      return;
    case DType::kFloat32:
      return store_rounded<float>(value, to);
    case DType::kFloat16:
      return store_rounded<Half>(value, to);
    case DType::kBFloat16:
      return store_rounded<BFloat16>(value, to);
    default:
      *static_cast<uint8_t*>(to) = value != 0;
  }
}

// The same numbers on every machine and with every compiler (splitmix64).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t bits() {
    state_ += 0x9e3779b97f4a7c15ull;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  double uniform(double low, double high) {
    return low + (high - low) * static_cast<double>(bits() >> 11) * 0x1p-53;
  }
  int64_t below(int64_t count) { return static_cast<int64_t>(bits() % count); }
  bool chance(double probability) { return uniform(0, 1) < probability; }

 private:
  uint64_t state_;
};

enum class Layout {
  kHeadMajor,  // contiguous
  kFused,      // the middle third of a [batch, rows, 3 * heads * columns] buffer, as in GPT-2
  kGaps,       // odd strides, and a first element off any vector's alignment
};
constexpr Layout kLayouts[] = {Layout::kHeadMajor, Layout::kFused, Layout::kGaps};

class Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, int64_t batch, int64_t heads, int64_t rows, int64_t columns,
         Layout layout = Layout::kHeadMajor)
      : dtype_(dtype), batch_(batch), heads_(heads), rows_(rows), columns_(columns) {
    int64_t offset = 0;
    if (layout == Layout::kFused) {
      offset = heads * columns;
      strides_[2] = 3 * heads * columns;
      strides_[1] = columns;
      strides_[0] = rows * strides_[2];
    } else {
      const bool gaps = layout == Layout::kGaps;
      offset = gaps ? 1 : 0;
      strides_[2] = columns + (gaps ? 3 : 0);
      strides_[1] = rows * strides_[2] + (gaps ? 5 : 0);
      strides_[0] = heads * strides_[1] + (gaps ? 7 : 0);
    }
    first_ = offset * element_bytes(dtype);
    // Ends with the last element, so that an address sanitizer sees a read past it.
    const bool empty = batch * heads * rows * columns == 0;
    const int64_t last = empty ? 0 : at(batch - 1, heads - 1, rows - 1, columns);
    bytes_.assign(empty ? first_ : last, 0xff);
  }

  DType dtype() const { return dtype_; }
  int64_t batch() const { return batch_; }
  int64_t heads() const { return heads_; }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }

  double get(int64_t b, int64_t h, int64_t i, int64_t d) const {
    return load_element(bytes_.data() + at(b, h, i, d), dtype_);
  }
  void set(int64_t b, int64_t h, int64_t i, int64_t d, double value) {
    store_element(value, bytes_.data() + at(b, h, i, d), dtype_);
  }
  // The element as it lies in memory.
  uint64_t bits(int64_t b, int64_t h, int64_t i, int64_t d) const {
    uint64_t word = 0;
    std::memcpy(&word, bytes_.data() + at(b, h, i, d), element_bytes(dtype_));
    return word;
  }

  // Calls body(b, h, i, d) for every element.
  template <class Body>
  void for_each(const Body& body) const {
    for (int64_t b = 0; b < batch_; ++b) {
      for (int64_t h = 0; h < heads_; ++h) {
        for (int64_t i = 0; i < rows_; ++i) {
          for (int64_t d = 0; d < columns_; ++d) body(b, h, i, d);
        }
      }
    }
  }

  Tensor& randomize(Random* random, double low = -1, double high = 1) {
    for_each([&](auto... at) { set(at..., random->uniform(low, high)); });
    return *this;
  }

  Tensor copy(Layout layout) const {
    Tensor out(dtype_, batch_, heads_, rows_, columns_, layout);
    for_each([&](auto... at) { out.set(at..., get(at...)); });
    return out;
  }

  // One row of the batch, and of it only some rows of each head.
  Tensor slice(int64_t b, Range rows, Layout layout = Layout::kHeadMajor) const {
    Tensor out(dtype_, 1, heads_, rows.end - rows.begin, columns_, layout);
    out.for_each([&](int64_t, int64_t h, int64_t i, int64_t d) {
      out.set(0, h, i, d, get(b, h, rows.begin + i, d));
    });
    return out;
  }

  TensorView view() const {
    return {const_cast<uint8_t*>(bytes_.data()) + first_, dtype_, strides_[0], strides_[1],
            strides_[2]};
  }

  bool gaps_untouched() const {
    std::vector<bool> owned(bytes_.size(), false);
    for_each([&](auto... index) {
      for (int64_t k = 0; k < element_bytes(dtype_); ++k) owned[at(index...) + k] = true;
    });
    for (size_t k = 0; k < bytes_.size(); ++k) {
      if (!owned[k] && bytes_[k] != 0xff) return false;
    }
    return true;
  }

 private:
  int64_t at(int64_t b, int64_t h, int64_t i, int64_t d) const {
    const int64_t element = b * strides_[0] + h * strides_[1] + i * strides_[2] + d;
    return first_ + element * element_bytes(dtype_);
  }

  DType dtype_ = DType::kFloat32;
  int64_t batch_ = 0;
  int64_t heads_ = 0;
  int64_t rows_ = 0;
  int64_t columns_ = 0;
  int64_t strides_[3] = {0, 0, 0};
  int64_t first_ = 0;
  std::vector<uint8_t> bytes_;
};

}  // namespace masked_attn_test
