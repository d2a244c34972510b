// A function with a stack of its own, which can be left in the middle and entered there again: a
// thread that costs a few nanoseconds to switch to, and runs only when it is told to.
#pragma once

#include <memory>

namespace masked_attn_test {

class Fiber {
 public:
  // `body` never returns: it switches to another fiber or leaves when there is nothing to do.
  explicit Fiber(void (*body)());
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Runs the body from where it was left, at first from its beginning, until some fiber calls
  // leave(). Not called by a fiber.
  void enter();
  // Called by the body only: goes on in another fiber, or behind enter().
  static void switch_to(Fiber& next);
  static void leave();
  // Forgets what the body was doing; nothing on its stack is destroyed.
  void restart();

 private:
  struct State;
  static void start();
  static State* running_;
  std::unique_ptr<State> state_;
};

}  // namespace masked_attn_test
