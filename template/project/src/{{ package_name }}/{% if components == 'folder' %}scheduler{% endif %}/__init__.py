"""Custom schedulers: any function or class in a file here can be named as `scheduler.name`.

It is called with `optimizer`, `total_steps` if it takes that, and `scheduler.args`.
"""
