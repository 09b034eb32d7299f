"""The delta: a short program over a base file that yields a result file, bit for bit.

`encode` makes one, `apply` runs one, `plan` chooses among what is offered. The applier knows no ONNX.
"""
