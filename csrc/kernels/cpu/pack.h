// Copies one tile of keys or values out of a tensor into the order in which the products read it.
#pragma once

#include "vec.h"

// Clang, and GCC from 12 on; an older GCC moves one value at a time.
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define MASKED_ATTN_HAS_SHUFFLE 1
#endif
#endif

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// Asks for a row of `columns` stored values that is needed soon, into the first-level cache (3) or
// the second (2).
template <int kLocality, class S>
inline void prefetch_row(const S* row, int64_t columns) {
  const char* begin = reinterpret_cast<const char*>(row);
  for (int64_t i = 0; i < columns * static_cast<int64_t>(sizeof(S)); i += 64) {
    __builtin_prefetch(begin + i, 0, kLocality);
  }
}

// Rows that are needed soon, asked for a few at a time, between other work.
class RowsAhead {
 public:
  RowsAhead() = default;
  // Rows [rows.begin, rows.end) of one head of `view`.
  RowsAhead(const TensorView& view, int64_t batch, int64_t head, Range rows, int64_t columns)
      : count_(length(rows)) {
    const int64_t element = view.dtype == DType::kFloat64   ? 8
                            : view.dtype == DType::kFloat32 ? 4
                                                            : 2;
    next_ =
        static_cast<const char*>(view.data) + row_offset(view, batch, head, rows.begin) * element;
    stride_ = view.row_stride * element;
    bytes_ = columns * element;
  }

  void prefetch(int64_t rows) {
    for (; rows > 0 && count_ > 0; --rows, --count_) {
      prefetch_row<3>(next_, bytes_);
      next_ += stride_;
    }
  }

 private:
  const char* next_ = nullptr;
  int64_t stride_ = 0;
  int64_t bytes_ = 0;
  int64_t count_ = 0;
};

// out[d * stride + j] = rows[j][d] for four rows; `out` has room for four columns.
template <class T>
inline void transpose_four(const T* const (&rows)[4], int64_t columns, T* out, int64_t stride) {
  int64_t d = 0;
#if MASKED_ATTN_HAS_SHUFFLE
  typedef T Quad __attribute__((vector_size(4 * sizeof(T))));
  for (; d + 4 <= columns; d += 4) {
    Quad a, b, c, e;
    memcpy(&a, rows[0] + d, sizeof(a));
    memcpy(&b, rows[1] + d, sizeof(b));
    memcpy(&c, rows[2] + d, sizeof(c));
    memcpy(&e, rows[3] + d, sizeof(e));
    const Quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    const Quad ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const Quad ce_low = __builtin_shufflevector(c, e, 0, 4, 1, 5);
    const Quad ce_high = __builtin_shufflevector(c, e, 2, 6, 3, 7);
    const Quad columns_of_four[4] = {__builtin_shufflevector(ab_low, ce_low, 0, 1, 4, 5),
                                     __builtin_shufflevector(ab_low, ce_low, 2, 3, 6, 7),
                                     __builtin_shufflevector(ab_high, ce_high, 0, 1, 4, 5),
                                     __builtin_shufflevector(ab_high, ce_high, 2, 3, 6, 7)};
    for (int64_t i = 0; i < 4; ++i) {
      memcpy(out + (d + i) * stride, &columns_of_four[i], sizeof(Quad));
    }
  }
#endif
  for (; d < columns; ++d) {
    for (int64_t j = 0; j < 4; ++j) out[d * stride + j] = rows[j][d];
  }
}

// Transposes `rows` rows of `columns` stored values to [columns, stride]. `scratch` holds four
// rows. Columns of `out` behind the rows, up to the next multiple of four, get copies of the last
// row. `raw`: whatever their type, rows are moved as elements of the size of T.
template <class T, class S>
inline void pack_transposed(const S* source, int64_t source_stride, int64_t rows, int64_t columns,
                            bool raw, T* scratch, T* out, int64_t stride) {
  for (int64_t j = 0; j < rows; j += 4) {
    const T* four[4];
    for (int64_t i = 0; i < 4; ++i) {
      const S* row = source + min_of(j + i, rows - 1) * source_stride;
      four[i] = scratch + i * columns;
      if constexpr (sizeof(S) == sizeof(T)) {
        four[i] = row;
      } else if (raw) {
        memcpy(scratch + i * columns, row, columns * sizeof(T));
      } else {
        load_values(row, columns, scratch + i * columns);
      }
    }
    transpose_four(four, columns, out + j, stride);
  }
}

// Copies `rows` rows of `columns` stored values to [rows, stride].
template <class T, class S>
inline void pack_rows(const S* source, int64_t source_stride, int64_t rows, int64_t columns, T* out,
                      int64_t stride) {
  for (int64_t j = 0; j < rows; ++j) {
    load_values(source + j * source_stride, columns, out + j * stride);
  }
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
