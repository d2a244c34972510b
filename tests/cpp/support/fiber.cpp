// Fibers. The surprise: the switch is written for x86-64 by hand. The one of the C library calls
// the kernel each time, and makes an address sanitizer forget the stack's array bounds.
#include "support/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <new>

#include "support/asan.h"

#if defined(MASKED_ATTN_TEST_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define MASKED_ATTN_TEST_TELL_ASAN(call) call
#else
#define MASKED_ATTN_TEST_TELL_ASAN(call)
#endif

#if defined(__x86_64__) && defined(__linux__) && !defined(MASKED_ATTN_TEST_UCONTEXT)

// Keeps the registers that belong to the caller on its stack, and the stack's address in `from`.
extern "C" void masked_attn_test_switch(void** from, void* to);
asm(R"(
  .pushsection .text
  .type masked_attn_test_switch, @function
masked_attn_test_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size masked_attn_test_switch, . - masked_attn_test_switch
  .popsection
)");

namespace {

using Context = void*;

void prepare(Context* context, char* stack, size_t bytes, void (*body)()) {
  void** const top = reinterpret_cast<void**>(stack + bytes);
  // What the switch takes: six registers and the address of the body; then the body's own return
  // address, which ends the stack for debuggers.
  void** const first = top - 8;
  for (void** p = first; p < top; ++p) *p = nullptr;
  first[6] = reinterpret_cast<void*>(body);
  *context = first;
}

void switch_context(Context* from, Context* to) { masked_attn_test_switch(from, *to); }

}  // namespace

#else
#include <ucontext.h>

namespace {

using Context = ucontext_t;

void prepare(Context* context, char* stack, size_t bytes, void (*body)()) {
  getcontext(context);
  context->uc_stack.ss_sp = stack;
  context->uc_stack.ss_size = bytes;
  context->uc_link = nullptr;
  makecontext(context, body, 0);
}

void switch_context(Context* from, Context* to) { swapcontext(from, to); }

}  // namespace
#endif

namespace masked_attn_test {
namespace {

constexpr size_t kStackBytes = 320 * 1024;
constexpr size_t kGuardBytes = 64 * 1024;  // at least one page everywhere

// Stacks at equal distances would share few lines of the cache: each begins a little lower than the
// last one.
size_t next_stagger() {
  static size_t count = 0;
  return count++ % 64 * 1088;
}

struct Owner {
  Context context;
  // What an address sanitizer wants to know.
  const void* stack = nullptr;
  size_t stack_bytes = 0;
  void* notes = nullptr;
};
Owner owner;              // of all fibers: who called enter()
bool from_owner = false;  // whether the last switch was that of enter()

void before_switch([[maybe_unused]] void** notes, [[maybe_unused]] const void* stack,
                   [[maybe_unused]] size_t bytes) {
  MASKED_ATTN_TEST_TELL_ASAN(__sanitizer_start_switch_fiber(notes, stack, bytes));
}

void after_switch([[maybe_unused]] void* notes) {
#if defined(MASKED_ATTN_TEST_ASAN)
  const void* stack = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(notes, &stack, &bytes);
  if (!from_owner) return;
  owner.stack = stack;
  owner.stack_bytes = bytes;
#endif
}

}  // namespace

struct Fiber::State {
  void (*body)();
  char* memory;
  size_t stagger;
  Context context;
  void* notes = nullptr;  // of an address sanitizer
  bool dropped = false;

  // In the fiber, after each switch to it.
  void arrive(void* notes) {
    after_switch(notes);
    if (!dropped) return;
    from_owner = false;
    before_switch(nullptr, owner.stack, owner.stack_bytes);
    switch_context(&context, &owner.context);
  }
  char* stack() const { return memory + kGuardBytes; }
};

Fiber::State* Fiber::running_ = nullptr;

Fiber::Fiber(void (*body)()) : state_(new State{}) {
  void* const memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  // A stack that overflows must not reach other memory.
  if (mprotect(memory, kGuardBytes, PROT_NONE) != 0) throw std::bad_alloc();
  state_->body = body;
  state_->memory = static_cast<char*>(memory);
  state_->stagger = next_stagger();
  prepare(&state_->context, state_->stack(), kStackBytes - state_->stagger, start);
}

Fiber::~Fiber() {
  MASKED_ATTN_TEST_TELL_ASAN(__asan_unpoison_memory_region(state_->stack(), kStackBytes));
  munmap(state_->memory, kGuardBytes + kStackBytes);
}

void Fiber::restart() {
#if defined(MASKED_ATTN_TEST_ASAN)
  // The sanitizer frees what it keeps for a stack only when that leaves for good.
  state_->dropped = true;
  enter();
  state_->dropped = false;
#endif
  MASKED_ATTN_TEST_TELL_ASAN(__asan_unpoison_memory_region(state_->stack(), kStackBytes));
  prepare(&state_->context, state_->stack(), kStackBytes - state_->stagger, start);
}

void Fiber::start() {
  running_->arrive(nullptr);
  running_->body();
  std::abort();
}

void Fiber::enter() {
  running_ = state_.get();
  from_owner = true;
  before_switch(&owner.notes, running_->stack(), kStackBytes);
  switch_context(&owner.context, &running_->context);
  after_switch(owner.notes);
}

void Fiber::switch_to(Fiber& next) {
  State* const self = running_;
  running_ = next.state_.get();
  from_owner = false;
  before_switch(&self->notes, running_->stack(), kStackBytes);
  switch_context(&self->context, &running_->context);
  self->arrive(self->notes);
}

void Fiber::leave() {
  State* const self = running_;
  from_owner = false;
  before_switch(&self->notes, owner.stack, owner.stack_bytes);
  switch_context(&self->context, &owner.context);
  self->arrive(self->notes);
}

}  // namespace masked_attn_test
