"""Decoders: the bytes of an image file become pixels, each way with the same picture."""
