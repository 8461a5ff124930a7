"""Custom data augmentation: any function in a file of this folder can be named in
`data.transforms`.

A transform takes a sample, its target and a random generator, and returns both: what moves an
image must move its target along, be it a mask or boxes (a class stays). Images are float32 tensors
(channels, height, width) from 0 to 1. Draw all that is random from `rng`, or runs do not repeat.
"""
