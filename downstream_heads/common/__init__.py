"""What the tasks share: corpus roots, options, loaders, light heads, metrics, files and the base class."""
