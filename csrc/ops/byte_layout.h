// Which bytes a tensor lies on. Storage objects don't tell: two of them may name one memory, and
// one of them may hold tensors that are apart.
#pragma once

#include <ATen/ATen.h>
#include <c10/util/SmallVector.h>

namespace masked_attn {

// One dimension of a tensor, in bytes.
struct ByteDim {
  int64_t size;
  int64_t stride;
};

struct ByteLayout {
  const char* begin = nullptr;
  // Largest stride first; dimensions that follow each other are one. The last is a run of bytes.
  // None at all: the tensor has no elements.
  c10::SmallVector<ByteDim, 5> dims;
  bool repeats = false;  // a dimension of more than one element has a stride of 0

  explicit ByteLayout(const at::Tensor& tensor);
};

// Whether two elements lie on one byte.
bool overlaps_itself(const ByteLayout& layout);

// Whether the tensors, which are on one device, have a byte in common. Almost always the ranges
// from the first to the last byte, or one common stride, tell; else it looks at every run of bytes.
bool share_memory(const ByteLayout& a, const ByteLayout& b);

}  // namespace masked_attn
