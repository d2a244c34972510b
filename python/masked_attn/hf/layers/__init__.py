"""Layers that take the place of stock ones: linear layers, MLPs, activations, means over tokens."""
