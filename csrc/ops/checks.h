// The checks that operators share. Each names the operator, the argument and the value found.
// Order inside an operator: dtype, device, rank, shape, layout.
#pragma once

#include <ATen/ATen.h>

#include "attention_options.h"

namespace masked_attn::checks {

using OptionalTensor = std::optional<at::Tensor>;

// What a score matrix of an operator measures.
struct Sizes {
  c10::SymInt batch;
  c10::SymInt heads;
  c10::SymInt queries;
  c10::SymInt keys;
};

// One argument of one operator, for messages. It names a tensor that lives longer: a temporary
// does not compile.
struct Argument {
  Argument(const char* op, const char* name, const at::Tensor& tensor)
      : op(op), name(name), tensor(tensor) {}
  Argument(const char* op, const char* name, const at::Tensor&& tensor) = delete;

  const char* op;
  const char* name;
  const at::Tensor& tensor;
};

// Whether sizes are equal, or in order; a symbolic size gets a guard.
bool same_size(const c10::SymInt& a, const c10::SymInt& b);
bool at_most(const c10::SymInt& a, const c10::SymInt& b);

// "int64", as in Python.
std::string dtype_name(at::ScalarType dtype);

// float32, float64, float16 or bfloat16.
bool is_supported(at::ScalarType dtype);
void is_supported_float(const Argument& argument);
void has_dtype_of(const Argument& argument, const Argument& other);
// The dtype of `other`, or float16/bfloat16 beside a float32 `other`.
void has_storage_dtype_for(const Argument& argument, const Argument& other);
void is_on_device_of(const Argument& argument, const Argument& other);
void has_rank(const Argument& argument, int64_t rank);
// `names` describes `sizes`, as "[batch, keys]".
void has_shape(const Argument& argument, const char* names, c10::SymIntArrayRef sizes);

// The number of query heads is a multiple of the number of key heads.
void heads_are_grouped(const Argument& query, const Argument& key);

// All that attention may be told besides its tensors, but for dropout. `batch_name` is what
// messages call the rows.
void options_fit(const Argument& query, const AttentionOptions& options, const Sizes& sizes,
                 const char* batch_name = "batch");

// What only a C++ caller can ask for, where the operator does not have the argument.
void has_no_masks(const char* op, const AttentionOptions& options);
void has_no_dropout(const char* op, const AttentionOptions& options);

// Both masks against the sizes of the scores, and the window.
void masks_fit(const Argument& query, const OptionalTensor& key_mask,
               const OptionalTensor& attn_mask, std::optional<int64_t> window, const Sizes& sizes);

void window_is_positive(const char* op, std::optional<int64_t> window);

// float32, or float64 for float64.
at::ScalarType dtype_of_sums(const at::Tensor& tensor);

// In the dtype of the sums.
void scale_is_finite(const Argument& query, std::optional<double> scale);

}  // namespace masked_attn::checks
