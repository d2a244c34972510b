"""One forward of a patched model: its arguments, and the plan that is made of them."""
