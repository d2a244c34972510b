"""Attention of one layer, for the patch and for the attention interface."""
