// The CPU kernels alone, without torch: for `perf`, and for one change at a time.
//
//   bench_kernels attention --queries 512 --keys 512 --ragged --causal --isa avx2 --threads 2
//
// Prints the best and the median time of a call, GFLOP/s of visible work and GB/s of visible keys
// and values. `bench_kernels --help` lists the options.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/plan.h"
#include "kernels/half.h"

namespace {

using namespace masked_attn;

struct Options {
  std::string kernel = "attention";
  std::map<std::string, int64_t> numbers = {
      {"batch", 8},   {"heads", 12},  {"kv-heads", 12}, {"queries", 512}, {"keys", 512},
      {"dim", 64},    {"layers", 12}, {"threads", 1},   {"window", 0},    {"milliseconds", 1000},
      {"softcap", 0},
  };
  bool ragged = false;
  bool causal = false;
  bool slopes = false;
  bool sinks = false;
  DType dtype = DType::kFloat32;
  std::string isa;

  int64_t operator[](const char* name) const { return numbers.at(name); }
};

[[noreturn]] void usage(const char* problem) {
  std::fprintf(stderr, "%s\n", problem);
  std::fprintf(
      stderr,
      "usage: bench_kernels [attention|softmax|expand] [--ragged] [--causal] [--slopes] [--sinks]\n"
      "  [--dtype float32|bfloat16|float16|float64] [--isa scalar|avx2|avx512|avx512_bf16|amx]\n"
      "  [--NAME NUMBER] with its default:");
  for (const auto& [name, value] : Options().numbers) {
    std::fprintf(stderr, " %s %ld", name.c_str(), static_cast<long>(value));
  }
  std::fprintf(stderr, "\n");
  std::exit(2);
}

DType parse_dtype(const std::string& name) {
  if (name == "float32") return DType::kFloat32;
  if (name == "bfloat16") return DType::kBFloat16;
  if (name == "float16") return DType::kFloat16;
  if (name == "float64") return DType::kFloat64;
  usage("--dtype: not a dtype");
}

Options parse(int count, char** arguments) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    const std::string name = argument.rfind("--", 0) == 0 ? argument.substr(2) : "";
    const auto value = [&]() -> std::string {
      if (i + 1 == count) usage((argument + ": no value").c_str());
      return arguments[++i];
    };
    if (name.empty()) {
      options.kernel = argument;
    } else if (name == "ragged") {
      options.ragged = true;
    } else if (name == "causal") {
      options.causal = true;
    } else if (name == "slopes") {
      options.slopes = true;
    } else if (name == "sinks") {
      options.sinks = true;
    } else if (name == "dtype") {
      options.dtype = parse_dtype(value());
    } else if (name == "isa") {
      options.isa = value();
    } else if (options.numbers.count(name)) {
      options.numbers[name] = std::atoll(value().c_str());
    } else {
      usage((argument + ": not an option").c_str());
    }
  }
  return options;
}

const cpu::Kernels& choose_kernels(const Options& options) {
  for (int32_t i = cpu::kIsaCount - 1; i >= 0; --i) {
    const cpu::Isa isa = static_cast<cpu::Isa>(i);
    if (!options.isa.empty() && options.isa != cpu::isa_name(isa)) continue;
    if (const cpu::Kernels* kernels = cpu::kernels_of(isa)) {
      std::printf("%s, ", cpu::isa_name(isa));
      return *kernels;
    }
  }
  usage("--isa: this CPU or this build lacks the set");
}

// Threads that wait for work without sleeping: starting a thread costs more than a small kernel.
class Pool {
 public:
  explicit Pool(int64_t count) {
    for (int64_t i = 1; i < count; ++i) threads_.emplace_back([this] { serve(); });
  }
  ~Pool() {
    stop_ = true;
    ++generation_;
    for (std::thread& thread : threads_) thread.join();
  }

  static int32_t run(int64_t begin, int64_t end, int64_t, ParallelFunc function, void* context) {
    Pool& pool = *current;
    pool.function_ = function;
    pool.context_ = context;
    pool.next_ = begin;
    pool.end_ = end;
    pool.waiting_ = static_cast<int64_t>(pool.threads_.size());
    ++pool.generation_;
    pool.take_turns();
    while (pool.waiting_ > 0) {
    }
    return 0;
  }

  static Pool* current;

 private:
  void serve() {
    for (int64_t seen = 0;;) {
      while (generation_ == seen) {
      }
      seen = generation_;
      if (stop_) return;
      take_turns();
      --waiting_;
    }
  }

  void take_turns() {
    for (int64_t i = next_++; i < end_; i = next_++) function_(i, i + 1, context_);
  }

  std::vector<std::thread> threads_;
  std::atomic<int64_t> generation_{0}, next_{0}, waiting_{0};
  std::atomic<bool> stop_{false};
  int64_t end_ = 0;
  ParallelFunc function_ = nullptr;
  void* context_ = nullptr;
};

Pool* Pool::current = nullptr;

int64_t element_bytes(DType dtype) {
  if (dtype == DType::kFloat64) return 8;
  return dtype == DType::kFloat32 ? 4 : 2;
}

// A [batch, heads, rows, columns] tensor of random values in the memory order of a transformer:
// tokens outside heads for a prompt, heads outside tokens for a cache.
class Buffer {
 public:
  Buffer(int64_t batch, int64_t heads, int64_t rows, int64_t columns, DType dtype, bool head_major)
      : data_(batch * heads * rows * columns * element_bytes(dtype) + 64) {
    const int64_t row = head_major ? columns : heads * columns;
    const int64_t head = head_major ? rows * columns : columns;
    view_ = {data_.data(), dtype, heads * rows * columns, head, row};
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> values(4099);
    for (float& value : values) value = normal(random);
    for (int64_t i = 0; i < batch * heads * rows * columns; ++i) set(i, values[i % 4099]);
  }

  const TensorView& view() const { return view_; }

 private:
  void set(int64_t i, float value) {
    switch (view_.dtype) {
      case DType::kFloat64:
        reinterpret_cast<double*>(data_.data())[i] = value;
        return;
      case DType::kFloat32:
        reinterpret_cast<float*>(data_.data())[i] = value;
        return;
      case DType::kFloat16:
        return from_float(value, reinterpret_cast<Half*>(data_.data()) + i);
      default:
        return from_float(value, reinterpret_cast<BFloat16*>(data_.data()) + i);
    }
  }

  std::vector<char> data_;
  TensorView view_;
};

// Left padding: row b has (b + 1) / batch of the keys.
std::vector<uint8_t> ragged_mask(const Options& o) {
  std::vector<uint8_t> mask(o["batch"] * o["keys"]);
  for (int64_t b = 0; b < o["batch"]; ++b) {
    const int64_t visible = o["keys"] * (b + 1) / o["batch"];
    for (int64_t k = 0; k < o["keys"]; ++k) mask[b * o["keys"] + k] = k >= o["keys"] - visible;
  }
  return mask;
}

MaskParams mask_params(const Options& o, const std::vector<uint8_t>& mask) {
  MaskParams p{};
  p.queries = o["queries"];
  p.keys = o["keys"];
  p.key_mask = o.ragged ? mask.data() : nullptr;
  p.key_mask_strides[0] = o["keys"];
  p.key_mask_strides[1] = 1;
  p.causal = o.causal;
  p.window = o["window"];
  return p;
}

// What a call of one head must compute and read, counted pair by pair.
struct Visible {
  double pairs = 0;
  double keys = 0;
};

Visible count_visible(const Options& o, const std::vector<uint8_t>& mask) {
  Visible visible;
  const int64_t shift = o["keys"] - o["queries"];
  for (int64_t b = 0; b < o["batch"]; ++b) {
    for (int64_t k = 0; k < o["keys"]; ++k) {
      if (o.ragged && !mask[b * o["keys"] + k]) continue;
      ++visible.keys;
      for (int64_t q = 0; q < o["queries"]; ++q) {
        const bool late = o.causal && k > q + shift;
        const bool far = o["window"] > 0 && std::abs(q + shift - k) >= o["window"];
        if (!late && !far) ++visible.pairs;
      }
    }
  }
  return visible;
}

template <class Params>
void report(int32_t (*kernel)(const Params&), std::vector<Params> layers, const WorkspaceSize& size,
            const Options& o, double flops, double bytes) {
  std::vector<char> shared(size.shared_bytes + 64);
  const int64_t worker_bytes = (size.worker_bytes + 63) / 64 * 64;
  const auto free_memory = [](char* p) { std::free(p); };
  const std::unique_ptr<char, decltype(free_memory)> workers(
      static_cast<char*>(std::aligned_alloc(64, o["threads"] * worker_bytes + 64)), free_memory);
  std::vector<double> times;
  double total = 0;
  for (size_t i = 0; total < o["milliseconds"] || times.size() <= 2 * layers.size(); ++i) {
    Params& params = layers[i % layers.size()];
    if constexpr (requires { params.workspace; }) {
      char* aligned = shared.data() + (64 - reinterpret_cast<uintptr_t>(shared.data()) % 64) % 64;
      params.workspace = {aligned, workers.get(), worker_bytes};
    }
    params.threads = {Pool::run, o["threads"]};
    const auto start = std::chrono::steady_clock::now();
    kernel(params);
    const std::chrono::duration<double, std::milli> elapsed =
        std::chrono::steady_clock::now() - start;
    times.push_back(elapsed.count());
    total += elapsed.count();
  }
  times.erase(times.begin(), times.begin() + layers.size());
  std::sort(times.begin(), times.end());
  std::printf("%s, %ld threads: best %.3f ms, median %.3f ms, %.1f GFLOP/s, %.1f GB/s\n",
              o.kernel.c_str(), static_cast<long>(o["threads"]), times[0], times[times.size() / 2],
              flops / times[0] / 1e6, bytes / times[0] / 1e6);
}

void bench_attention(const cpu::Kernels& kernels, const Options& o) {
  const std::vector<uint8_t> mask = ragged_mask(o);
  const Visible visible = count_visible(o, mask);
  const bool cache = o["queries"] <= 8;         // tokens of a step; a prompt is longer
  const std::vector<double> zeros(o["heads"]);  // cost as much as others
  std::vector<Buffer> buffers;
  buffers.reserve(4 * o["layers"]);
  std::vector<AttentionParams> layers(o["layers"]);
  for (AttentionParams& p : layers) {
    p = {};
    p.batch = o["batch"];
    p.heads = o["heads"];
    p.kv_heads = o["kv-heads"];
    p.head_dim = p.value_dim = o["dim"];
    const auto make = [&](int64_t heads, int64_t rows) {
      buffers.emplace_back(o["batch"], heads, rows, o["dim"], o.dtype, cache);
      return buffers.back().view();
    };
    p.query = make(p.heads, o["queries"]);
    p.key = make(p.kv_heads, o["keys"]);
    p.value = make(p.kv_heads, o["keys"]);
    p.out = make(p.heads, o["queries"]);
    p.mask = mask_params(o, mask);
    p.scale = 0.125;
    p.softcap = static_cast<double>(o["softcap"]);
    if (o.slopes) p.alibi_slopes.data = zeros.data();
    if (o.sinks) p.sinks.data = zeros.data();
  }
  report(kernels.attention, layers, cpu::attention_workspace(layers[0]), o,
         4.0 * o["dim"] * o["heads"] * visible.pairs,
         2.0 * o["dim"] * o["kv-heads"] * visible.keys * element_bytes(o.dtype));
}

void bench_softmax(const cpu::Kernels& kernels, const Options& o) {
  const std::vector<uint8_t> mask = ragged_mask(o);
  const Buffer scores(o["batch"], o["heads"], o["queries"], o["keys"], o.dtype, true);
  const Buffer out(o["batch"], o["heads"], o["queries"], o["keys"], o.dtype, true);
  SoftmaxParams p{};
  p.batch = o["batch"];
  p.heads = o["heads"];
  p.out = out.view();
  p.scores = scores.view();
  p.mask = mask_params(o, mask);
  p.scale = 1.0;
  const double elements = 1.0 * p.batch * p.heads * p.mask.queries * p.mask.keys;
  const double read = count_visible(o, mask).pairs * p.heads;
  report(kernels.masked_softmax, std::vector<SoftmaxParams>{p}, cpu::softmax_workspace(p), o, 0,
         (elements + read) * element_bytes(o.dtype));
}

void bench_expand(const cpu::Kernels& kernels, const Options& o) {
  const std::vector<uint8_t> mask = ragged_mask(o);
  const Buffer out(o["batch"], 1, o["queries"], o["keys"], o.dtype, true);
  ExpandParams p{};
  p.batch = o["batch"];
  p.out = out.view().data;
  p.element_bytes = element_bytes(o.dtype);
  p.fill_bits = 0xff7fffffu;
  p.mask = mask_params(o, mask);
  const double elements = 1.0 * p.batch * p.mask.queries * p.mask.keys;
  report(kernels.expand_mask, std::vector<ExpandParams>{p}, WorkspaceSize{}, o, 0,
         elements * element_bytes(o.dtype));
}

}  // namespace

int main(int count, char** arguments) {
  const Options options = parse(count, arguments);
  const bool attention = options.kernel == "attention";
  if (!attention && options.kernel != "softmax" && options.kernel != "expand") {
    usage("the kernel must be attention, softmax or expand");
  }
  const cpu::Kernels& kernels = choose_kernels(options);
  Pool pool(options["threads"]);
  Pool::current = &pool;
  if (attention) bench_attention(kernels, options);
  if (options.kernel == "softmax") bench_softmax(kernels, options);
  if (options.kernel == "expand") bench_expand(kernels, options);
  return 0;
}
