"""Layers that take the place of stock ones: linear, MLP, activation."""
