"""Builds, compresses, evaluates, signs and publishes SqueezeNet as ONNX releases."""
