"""Models: any function in a file of this folder can be named as `model.name`."""
