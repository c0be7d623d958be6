"""The life of a rank: build, step, evaluate, save, go on."""
