"""Custom optimizers: any class in a file of this folder can be named as `optimizer.name`.

It is built with the model's parameters, `lr`, `weight_decay` and `optimizer.args`.
"""
