#include "byte_layout.h"

#include <algorithm>
#include <vector>

namespace masked_attn {
namespace {

// From the first to behind the last byte of one period of `period` bytes, that is, of the
// dimensions that do not step over whole periods. A period of 0: of all dimensions.
int64_t extent(const ByteLayout& layout, int64_t period) {
  int64_t bytes = 1;
  for (const ByteDim& dim : layout.dims) {
    if (period == 0 || dim.stride % period != 0) bytes += (dim.size - 1) * dim.stride;
  }
  return bytes;
}

bool ranges_are_apart(const ByteLayout& a, const ByteLayout& b) {
  return a.begin + extent(a, 0) <= b.begin || b.begin + extent(b, 0) <= a.begin;
}

// Rows of one buffer that take turns: within each period, the tensors have places of their own.
bool apart_in_each_period(const ByteLayout& a, const ByteLayout& b, int64_t period) {
  const int64_t first = extent(a, period);
  const int64_t second = extent(b, period);
  const int64_t distance = ((b.begin - a.begin) % period + period) % period;
  return first <= distance && distance + second <= period;
}

bool some_stride_parts(const ByteLayout& a, const ByteLayout& b) {
  for (const ByteLayout* layout : {&a, &b}) {
    for (const ByteDim& dim : layout->dims) {
      if (apart_in_each_period(a, b, dim.stride)) return true;
    }
  }
  return false;
}

// Where the runs of bytes begin, in the order of memory.
std::vector<const char*> runs_of(const ByteLayout& layout) {
  std::vector<const char*> runs{layout.begin};
  for (size_t d = 0; d + 1 < layout.dims.size(); ++d) {
    const size_t count = runs.size();
    for (int64_t i = 1; i < layout.dims[d].size; ++i) {
      for (size_t r = 0; r < count; ++r) runs.push_back(runs[r] + i * layout.dims[d].stride);
    }
  }
  std::sort(runs.begin(), runs.end());
  return runs;
}

bool runs_meet(const ByteLayout& a, const ByteLayout& b) {
  const std::vector<const char*> first = runs_of(a);
  const std::vector<const char*> second = runs_of(b);
  size_t i = 0;
  size_t j = 0;
  while (i < first.size() && j < second.size()) {
    if (first[i] + a.dims.back().size <= second[j]) {
      ++i;
    } else if (second[j] + b.dims.back().size <= first[i]) {
      ++j;
    } else {
      return true;
    }
  }
  return false;
}

// Every step of a dimension goes past all that lies within it.
bool is_nested(const ByteLayout& layout) {
  int64_t inside = 1;
  for (size_t d = layout.dims.size(); d-- > 0;) {
    const ByteDim& dim = layout.dims[d];
    if (dim.stride < inside) return false;
    inside += (dim.size - 1) * dim.stride;
  }
  return true;
}

}  // namespace

ByteLayout::ByteLayout(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return;
  begin = static_cast<const char*>(tensor.const_data_ptr());
  const int64_t element = static_cast<int64_t>(tensor.element_size());
  for (int64_t d = 0; d < tensor.dim(); ++d) {
    const ByteDim dim{tensor.size(d), tensor.stride(d) * element};
    if (dim.size == 1) continue;
    if (dim.stride == 0) {
      repeats = true;
    } else {
      dims.push_back(dim);
    }
  }
  dims.push_back({element, 1});
  std::sort(dims.begin(), dims.end(),
            [](const ByteDim& x, const ByteDim& y) { return x.stride > y.stride; });
  for (size_t d = dims.size() - 1; d-- > 0;) {
    if (dims[d].stride != dims[d + 1].size * dims[d + 1].stride) continue;
    dims[d] = {dims[d].size * dims[d + 1].size, dims[d + 1].stride};
    dims.erase(dims.begin() + static_cast<int64_t>(d) + 1);
  }
}

bool overlaps_itself(const ByteLayout& layout) {
  if (layout.repeats) return true;
  if (is_nested(layout)) return false;
  const std::vector<const char*> runs = runs_of(layout);
  for (size_t r = 1; r < runs.size(); ++r) {
    if (runs[r] < runs[r - 1] + layout.dims.back().size) return true;
  }
  return false;
}

bool share_memory(const ByteLayout& a, const ByteLayout& b) {
  if (a.dims.empty() || b.dims.empty() || ranges_are_apart(a, b)) return false;
  return !some_stride_parts(a, b) && runs_meet(a, b);
}

}  // namespace masked_attn
