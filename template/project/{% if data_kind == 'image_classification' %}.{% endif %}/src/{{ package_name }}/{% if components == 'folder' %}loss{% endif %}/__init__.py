"""Custom losses: any class or function in a file of this folder can be named as `loss.name`.

A class is built with `loss.args`; called with logits (N, C) and targets (N,), it returns a scalar.
A function is called with `loss.args` too.
"""
