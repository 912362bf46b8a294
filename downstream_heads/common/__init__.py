"""What the four tasks share: options, surveys, loaders, light heads, metrics, files and the base class."""
