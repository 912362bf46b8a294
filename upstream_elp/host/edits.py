"""Changes to S3PRL's modules in memory while they are imported; no file is ever edited.

There are two kinds: a *source edit* replaces text on one line before the module is compiled, and an *after hook* gets
the finished module. Both are bound to a module's name, so they also apply to a user's own clone of S3PRL.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType, ModuleType
from typing import Any

from upstream_elp.base.errors import ElpError


@dataclass(frozen=True)
class Edit:
    """One replacement in a module's source.

    Args:
        old: the text to find; it must stay on one line, so that line numbers in tracebacks remain correct.
        new: the replacement.
        names: objects that ``new`` uses, put into the module's namespace before it runs.
        required: whether a source without ``old`` is refused; otherwise it is left unchanged.
    """

    old: str
    new: str
    names: Mapping[str, Any] = field(default_factory=dict)
    required: bool = True


_EDITS: dict[str, list[Edit]] = {}
_AFTER: dict[str, list[Callable[[ModuleType], None]]] = {}


class EditedLoader(importlib.machinery.SourceFileLoader):
    """Compile a module from its edited source, without reading or writing byte code files of it."""

    def get_code(self, fullname: str) -> CodeType:
        if not _EDITS.get(fullname):
            return super().get_code(fullname)
        text = self.get_source(fullname) or ""
        for edit in _EDITS.get(fullname, []):
            text = _replace(text, edit, module=fullname, path=self.path)
        return compile(text, self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        for edit in _EDITS.get(module.__name__, []):
            vars(module).update(edit.names)
        super().exec_module(module)
        for hook in _AFTER.get(module.__name__, []):
            hook(module)


class EditedFinder(importlib.abc.MetaPathFinder):
    """Find the modules that have an edit or a hook, and leave all others to Python."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _EDITS and fullname not in _AFTER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = EditedLoader(fullname, spec.loader.path)
        return spec


def edit(module: str, *edits: Edit) -> None:
    """Register source edits for a module that has not been imported yet.

    Raises:
        ElpError: if the module has already been imported and one of the edits is required.
    """
    if module in sys.modules:
        if any(one.required for one in edits):
            raise ElpError(f"{module} was imported before upstream_elp.register(); call register() first")
        return
    known = _EDITS.setdefault(module, [])
    known.extend(one for one in edits if one not in known)
    _watch()


def after(module: str, hook: Callable[[ModuleType], None]) -> None:
    """Call ``hook`` with a module as soon as it is imported, or now if it already is."""
    if module in sys.modules:
        hook(sys.modules[module])
        return
    _AFTER.setdefault(module, []).append(hook)
    _watch()


def same(module: str, original: str) -> None:
    """Give a module, such as a user's variant of a script, the edits and hooks of another module."""
    if module not in sys.modules:
        _EDITS[module] = _EDITS.get(original, [])
        _AFTER[module] = _AFTER.get(original, [])


def _watch() -> None:
    if not any(isinstance(finder, EditedFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, EditedFinder())


def _replace(text: str, edit: Edit, *, module: str, path: str) -> str:
    if edit.old in text:
        return text.replace(edit.old, edit.new)
    if edit.required:
        raise ElpError(
            f"{path} is not the {module} of s3prl 0.4.18: the line {edit.old!r}, which needs a patch, is missing; "
            "use s3prl==0.4.18 unchanged"
        )
    return text
