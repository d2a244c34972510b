// linear: its value in double, and the bits of its definition, for both layouts of the weight.
#include "kernels/cpu/plan.h"
#include "support/linear.h"

using namespace masked_attn_test;
namespace cpu = masked_attn::cpu;

namespace {

void check(int64_t rows, int64_t inputs, int64_t outputs, int64_t turn) {
  for (bool transposed : {false, true}) {
    const LinearCase c = linear_case(rows, inputs, outputs, transposed, turn);
    INFO(c.name());
    for_each_isa([&](const Kernels& kernels, const char* isa) {
      const RunOptions options{kAllWorkers[turn % kWorkersCount],
                               turn % 3 ? Layout::kGaps : Layout::kHeadMajor};
      const Tensor out = run_linear(kernels, c, options);
      REQUIRE(differs_from_double(out, c) == "");
      if (has_its_own_definition(isa, c)) return;
      REQUIRE(bits_differ(out, defined_result(kernels, isa, c)) == "");
    });
  }
}

}  // namespace

TEST_CASE("linear at sizes around vectors, strips and register blocks") {
  constexpr int64_t kSizes[] = {1, 2, 7, 16, 31, 33, 63, 65, 95, 96, 97, 130, 193};
  constexpr int64_t kRows[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 17, 24, 25, 31, 32};
  int64_t turn = 0;
  for (int64_t inputs : kSizes) {
    for (int64_t outputs : kSizes) check(kRows[turn / 5 % 16], inputs, outputs, turn++);
    turn += 3;  // else an output size would meet the same dtypes again
  }
}

TEST_CASE("linear over several panels of inputs") {
  int64_t turn = 3;
  for (int64_t inputs : {255, 256, 257, 511, 513, 767, 769, 1537}) {
    for (int64_t i = 0; i < kLinearDTypeCount; ++i, ++turn) {
      check(1 + (turn * 5 + inputs) % 32, inputs, 37, turn);
    }
  }
}

TEST_CASE("linear with rows around what is kept and packed at a time") {
  int64_t turn = 1;
  for (int64_t limit : {cpu::kStreamRows, cpu::kSquareRows, int64_t{12}, int64_t{24}, cpu::kFewRows,
                        cpu::kPackedRows, cpu::kLinearRows}) {
    for (int64_t rows : {limit - 1, limit, limit + 1, 2 * limit + 1}) check(rows, 520, 19, turn++);
  }
}

TEST_CASE("linear with outputs around what is kept and read at a time") {
  int64_t turn = 2;
  for (int64_t limit : {cpu::kLinearOutputs, cpu::kStreamOutputs}) {
    for (int64_t outputs : {limit - 1, limit, limit + 1, 2 * limit + 9}) {
      for (int64_t rows : {cpu::kStreamRows, cpu::kStreamRows + 1}) {
        check(rows, 260, outputs, turn++);
      }
    }
  }
}

TEST_CASE("linear in every dtype with every activation, bias and multiplier") {
  for (int64_t turn = 0; turn < 60; ++turn) {
    for (int64_t rows : {2, 23}) {
      for (bool transposed : {false, true}) {
        LinearCase c = linear_case(rows, 270, 41, transposed, turn);
        c.activation = kActivations[turn / kLinearDTypeCount % kActivationCount];
        Random random(turn);
        c.multiplier = Tensor(c.input.dtype(), 1, 1, rows, 41, Layout::kGaps).randomize(&random);
        if (turn < 30) c.bias.reset();
        INFO(c.name());
        for_each_isa([&](const Kernels& kernels, const char* isa) {
          const Tensor out = run_linear(kernels, c);
          REQUIRE(differs_from_double(out, c) == "");
          if (has_its_own_definition(isa, c)) return;
          REQUIRE(bits_differ(out, defined_result(kernels, isa, c)) == "");
        });
      }
    }
  }
}

TEST_CASE("linear without inputs is its bias") {
  int64_t turn = 0;
  for (int64_t outputs : {1, 8, 33, 1100}) {
    for (int64_t rows : {1, 5, 100}) {
      for (int64_t i = 0; i < kLinearDTypeCount; ++i) check(rows, 0, outputs, turn++);
    }
  }
}

TEST_CASE("linear: an error of the caller's threads comes back") {
  for (int64_t rows : {int64_t{2}, cpu::kStreamRows + 1}) {
    const LinearCase c = linear_case(rows, 64, 512, true, 0);
    for_each_isa([&](const Kernels& kernels, const char*) {
      Tensor out(c.input.dtype(), 1, 1, rows, 512);
      masked_attn::LinearParams p = linear_params(c, out);
      const auto size = cpu::linear_workspace(p);
      const GuardedMemory shared(1, size.shared_bytes, 0xff);
      const GuardedMemory workers(2, size.worker_bytes, 0xff);
      p.workspace = {shared.data(), workers.data(), workers.stride()};
      p.threads = {[](int64_t, int64_t, int64_t, masked_attn::ParallelFunc, void*) { return 7; },
                   2};
      REQUIRE(kernels.linear(p) == 7);
    });
  }
}
