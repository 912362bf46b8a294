"""The parts that tasks share: surveys, loaders, light heads, metrics, files and the base class."""
