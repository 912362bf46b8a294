"""Layer selections and sizes, for adapter methods of other packages."""

from upstream_elp.adapters.selection import resolve_layers, resolve_size, resolve_sizes

__all__ = ["resolve_layers", "resolve_size", "resolve_sizes"]
