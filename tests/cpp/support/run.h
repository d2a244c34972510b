// Runs a kernel of one instruction set the way `ops` does, but watched: workspaces are exactly as
// large as the plan says, filled with a poison byte and followed by guard bytes.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/plan.h"
#include "support/amx_stand_in.h"
#include "support/catch.h"
#include "support/emulated_kernels.h"
#include "support/naive.h"

namespace masked_attn_test {

using masked_attn::cpu::Isa;
using masked_attn::cpu::Kernels;

#if defined(MASKED_ATTN_EMULATE_CUDA)
// The same cases, with the CUDA kernels on an emulated GPU.
template <class Body>
void for_each_isa(const Body& body) {
  body(emulated_cuda_kernels(), "cuda, emulated");
}
#else
// Calls body(kernels, name) for each instruction set that this CPU has and for the stand-in of
// `amx`, and names the others.
template <class Body>
void for_each_isa(const Body& body) {
  for (int32_t i = 0; i < masked_attn::cpu::kIsaCount; ++i) {
    const Isa isa = static_cast<Isa>(i);
    const char* name = masked_attn::cpu::isa_name(isa);
    if (!masked_attn::cpu::isa_built(isa)) {
      note_skipped(std::string("instruction set ") + name, "not in this build");
    } else if (!masked_attn::cpu::isa_supported(isa)) {
      note_skipped(std::string("instruction set ") + name, "this CPU lacks it");
    } else {
      INFO("instruction set " << name);
      body(*masked_attn::cpu::kernels_of(isa), name);
    }
  }
  if (amx_stand_in() != nullptr) {
    INFO("amx, stand-in");
    body(*amx_stand_in(), "amx, stand-in");
  }
}

#endif

// A way to run workers, under the contract of torch_parallel_for.
struct Workers {
  const char* name;
  masked_attn::ParallelFor parallel_for;
  int64_t count;
};

inline int32_t in_order(int64_t begin, int64_t end, int64_t, masked_attn::ParallelFunc function,
                        void* context) {
  function(begin, end, context);
  return 0;
}

inline int32_t in_reverse(int64_t begin, int64_t end, int64_t, masked_attn::ParallelFunc function,
                          void* context) {
  for (int64_t i = end - 1; i >= begin; --i) function(i, i + 1, context);
  return 0;
}

inline int32_t in_threads(int64_t begin, int64_t end, int64_t, masked_attn::ParallelFunc function,
                          void* context) {
  std::vector<std::thread> threads;
  for (int64_t i = begin; i < end; ++i) threads.emplace_back(function, i, i + 1, context);
  for (std::thread& thread : threads) thread.join();
  return 0;
}

constexpr Workers kOneWorker = {"one worker", in_order, 1};
constexpr Workers kAllWorkers[] = {{"one worker", in_order, 1},
                                   {"three workers in turn", in_order, 3},
                                   {"five workers in reverse", in_reverse, 5},
                                   {"two threads", in_threads, 2},
                                   {"seven threads", in_threads, 7}};
constexpr int kWorkersCount = sizeof(kAllWorkers) / sizeof(kAllWorkers[0]);

// Memory aligned as torch aligns it, in slices with a guard behind each.
class GuardedMemory {
 public:
  GuardedMemory(int64_t slices, int64_t slice_bytes, uint8_t poison)
      : slices_(slices), slice_bytes_(slice_bytes), stride_((slice_bytes + 63) / 64 * 64 + 64) {
    data_.reset(static_cast<uint8_t*>(std::aligned_alloc(64, slices * stride_)));
    for (int64_t s = 0; s < slices; ++s) {
      std::memset(data_.get() + s * stride_, poison, slice_bytes);
      std::memset(data_.get() + s * stride_ + slice_bytes, kGuard, stride_ - slice_bytes);
    }
  }

  char* data() const { return reinterpret_cast<char*>(data_.get()); }
  int64_t stride() const { return stride_; }

  bool guards_untouched() const {
    for (int64_t s = 0; s < slices_; ++s) {
      for (int64_t k = slice_bytes_; k < stride_; ++k) {
        if (data_.get()[s * stride_ + k] != kGuard) return false;
      }
    }
    return true;
  }

 private:
  static constexpr uint8_t kGuard = 0xa5;
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  int64_t slices_;
  int64_t slice_bytes_;
  int64_t stride_;
  std::unique_ptr<uint8_t, Free> data_;
};

struct RunOptions {
  Workers workers = kOneWorker;
  Layout out_layout = Layout::kHeadMajor;
  uint8_t poison = 0xff;
};

// Runs `kernel` with the workspace that `size` asks for, and checks what it left behind.
template <class Params>
void run_guarded(int32_t (*kernel)(const Params&), Params params, masked_attn::WorkspaceSize size,
                 const RunOptions& options, const Tensor& out) {
  const GuardedMemory shared(1, size.shared_bytes, options.poison);
  const GuardedMemory workers(options.workers.count, size.worker_bytes, options.poison);
  params.workspace = {shared.data(), workers.data(), workers.stride()};
  params.threads = {options.workers.parallel_for, options.workers.count};
  INFO(options.workers.name);
  REQUIRE(kernel(params) == 0);
  REQUIRE(shared.guards_untouched());
  REQUIRE(workers.guards_untouched());
  REQUIRE(out.gaps_untouched());
}

struct AttentionResult {
  Tensor out;
  Tensor logsumexp;  // [batch, heads, queries, 1]
};

inline masked_attn::HeadValues head_values(const Tensor& values) {
  if (values.batch() == 0) return {};
  return {values.view().data, values.batch() == 1 ? 0 : values.heads()};
}

inline masked_attn::AttentionParams attention_params(const AttentionInputs& in) {
  masked_attn::AttentionParams p{};
  p.batch = in.query.batch();
  p.heads = in.query.heads();
  p.kv_heads = in.key.heads();
  p.head_dim = in.query.columns();
  p.value_dim = in.value.columns();
  p.query = in.query.view();
  p.key = in.key.view();
  p.value = in.value.view();
  p.mask = in.masks.params();
  p.scale = in.scale;
  p.softcap = in.softcap;
  p.alibi_slopes = head_values(in.alibi_slopes);
  p.sinks = head_values(in.sinks);
  return p;
}

inline AttentionResult run_attention(const Kernels& kernels, const AttentionInputs& in,
                                     const RunOptions& options = {}) {
  masked_attn::AttentionParams p = attention_params(in);
  const DType dtype = in.query.dtype();
  const DType wide = dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  AttentionResult result;
  result.out = Tensor(dtype, p.batch, p.heads, p.mask.queries, p.value_dim, options.out_layout);
  result.logsumexp = Tensor(wide, p.batch, p.heads, p.mask.queries, 1);
  p.out = result.out.view();
  p.logsumexp = result.logsumexp.view();
  run_guarded(kernels.attention, p, masked_attn::cpu::attention_workspace(p), options, result.out);
  return result;
}

inline Tensor run_softmax(const Kernels& kernels, const Tensor& scores, const Masks& masks,
                          double scale, const RunOptions& options = {}) {
  Tensor out(scores.dtype(), scores.batch(), scores.heads(), scores.rows(), scores.columns(),
             options.out_layout);
  masked_attn::SoftmaxParams p{};
  p.batch = scores.batch();
  p.heads = scores.heads();
  p.out = out.view();
  p.scores = scores.view();
  p.mask = masks.params();
  p.scale = scale;
  run_guarded(kernels.masked_softmax, p, masked_attn::cpu::softmax_workspace(p), options, out);
  return out;
}

// Writes `source` into rows [position, ...) of `cache`.
inline void run_append(const Kernels& kernels, const Tensor& source, int64_t position,
                       Tensor* cache, const Workers& workers = kOneWorker) {
  masked_attn::AppendParams p{};
  p.batch = source.batch();
  p.heads = source.heads();
  p.rows = source.rows();
  p.columns = source.columns();
  p.position = position;
  p.cache = cache->view();
  p.source = source.view();
  p.threads = {workers.parallel_for, workers.count};
  REQUIRE(kernels.append_cache(p) == 0);
  REQUIRE(cache->gaps_untouched());
}

}  // namespace masked_attn_test
