// Cuts a worker's slice of the workspace into arrays.
#pragma once

#include "../mask.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

class Arena {
 public:
  explicit Arena(char* begin) : next_(begin) {}

  // `count` elements, aligned to a cache line.
  template <class T>
  T* take(int64_t count) {
    T* taken = reinterpret_cast<T*>(next_);
    next_ += ceil_div(count * static_cast<int64_t>(sizeof(T)), 64) * 64;
    return taken;
  }

 private:
  char* next_;
};

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
