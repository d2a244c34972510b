#include "cache_memory.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace masked_attn {
namespace {

constexpr char kOp[] = "cached_attention";

// One argument with its name for messages.
struct Named {
  const char* name;
  const at::Tensor& tensor;
};

using Span = std::pair<const char*, const char*>;  // [begin, end)

// The contiguous pieces of a 4-dimensional tensor. Rows that follow each other are one piece, so a
// cache has few.
std::vector<Span> spans_of(const at::Tensor& tensor) {
  const at::IntArrayRef sizes = tensor.sizes();
  const at::IntArrayRef strides = tensor.strides();
  const int64_t row = sizes[3];
  const bool joined = strides[2] == row || sizes[2] <= 1;
  const int64_t rows = joined ? 1 : sizes[2];
  const int64_t length = joined ? sizes[2] * row : row;
  const char* data = static_cast<const char*>(tensor.const_data_ptr());
  const int64_t element = static_cast<int64_t>(tensor.element_size());
  std::vector<Span> spans;
  for (int64_t b = 0; b < sizes[0]; ++b) {
    for (int64_t h = 0; h < sizes[1]; ++h) {
      for (int64_t i = 0; i < rows; ++i) {
        const char* begin = data + (b * strides[0] + h * strides[1] + i * strides[2]) * element;
        spans.emplace_back(begin, begin + length * element);
      }
    }
  }
  return spans;
}

// A dense tensor can't; any other is looked at piece by piece.
bool overlaps_itself(const at::Tensor& tensor) {
  if (tensor.numel() == 0 || tensor.is_non_overlapping_and_dense()) return false;
  if (tensor.size(2) > 1 && tensor.stride(2) < tensor.size(3)) return true;
  std::vector<Span> spans = spans_of(tensor);
  std::sort(spans.begin(), spans.end());
  for (size_t i = 1; i < spans.size(); ++i) {
    if (spans[i].first < spans[i - 1].second) return true;
  }
  return false;
}

// torch's own check gives up on strided views, and views of one buffer are what caches often are.
bool share_memory(const at::Tensor& a, const at::Tensor& b) {
  if (a.numel() == 0 || b.numel() == 0 || !a.storage().is_alias_of(b.storage())) return false;
  std::vector<Span> first = spans_of(a);
  std::vector<Span> second = spans_of(b);
  std::sort(first.begin(), first.end());
  std::sort(second.begin(), second.end());
  auto other = second.begin();
  for (const Span& span : first) {
    while (other != second.end() && other->second <= span.first) ++other;
    if (other != second.end() && other->first < span.second) return true;
  }
  return false;
}

void check_cache(const Named& cache) {
  const at::Tensor& tensor = cache.tensor;
  TORCH_CHECK(!tensor.is_inference() || c10::InferenceMode::is_enabled(), kOp, ": ", cache.name,
              " was made in inference mode and can be written only there");
  TORCH_CHECK(tensor.size(-1) <= 1 || tensor.stride(-1) == 1, kOp, ": the last dimension of ",
              cache.name, " must be contiguous, got strides ", tensor.strides());
  TORCH_CHECK(!overlaps_itself(tensor), kOp, ": ", cache.name,
              " overlaps itself (it is an expanded or overlapping view) and can't be written, got "
              "sizes ",
              tensor.sizes(), " and strides ", tensor.strides());
}

void check_apart(const Named& cache, const Named& other) {
  TORCH_CHECK(!share_memory(cache.tensor, other.tensor), kOp, ": ", cache.name, " and ", other.name,
              " share memory; clone one of them");
}

}  // namespace

void check_cache_memory(const at::Tensor& query, const at::Tensor& new_key,
                        const at::Tensor& new_value, const at::Tensor& key_cache,
                        const at::Tensor& value_cache) {
  const Named keys{"key_cache", key_cache};
  const Named values{"value_cache", value_cache};
  check_cache(keys);
  check_cache(values);
  check_apart(keys, values);
  for (const Named& cache : {keys, values}) {
    check_apart(cache, {"query", query});
    check_apart(cache, {"new_key", new_key});
    check_apart(cache, {"new_value", new_value});
  }
}

}  // namespace masked_attn
