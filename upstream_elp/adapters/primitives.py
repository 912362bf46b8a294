"""Two of the primitives that put an adapter into a backbone: output sites and replaced tensors."""

from torch import Tensor, nn
from torch.nn.utils import parametrize

from upstream_elp.errors import ElpError
from upstream_elp.injection import Switch


class OutputSite(Switch):
    """Stands where a parameter-free dropout stood: applies it, then the site's adapters in order.

    The dropout has no tensors, so the backbone's state-dict keys do not change.
    """

    def __init__(self, dropout: nn.Module) -> None:
        super().__init__()
        self.dropout = dropout
        self.adapters = nn.ModuleDict()

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(x)
        if self.enabled:
            for adapter in self.adapters.values():
                x = adapter(x)
        return x


class ReplacedTensor(Switch):
    """Parametrization that puts a trainable copy in place of a frozen tensor, and steps aside when switched off.

    Args:
        original: the frozen tensor, which is copied.
    """

    def __init__(self, original: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(original.detach().clone())

    def forward(self, original: Tensor) -> Tensor:
        return self.value if self.enabled else original


def output_site(layer: nn.Module, attribute: str) -> OutputSite:
    """The output site at ``layer.attribute``, made in place of the dropout there if it is the first adapter's.

    Raises:
        ElpError: if that module holds parameters, so that replacing it would change the backbone's keys.
    """
    module = getattr(layer, attribute)
    if isinstance(module, OutputSite):
        return module
    if next(module.parameters(), None) is not None:
        raise ElpError(f"the site {attribute} of {type(layer).__name__} holds parameters, so it cannot be replaced")
    site = OutputSite(module)
    setattr(layer, attribute, site)
    return site


def replace_tensor(module: nn.Module, name: str) -> str:
    """Put a trainable copy in place of ``module.name``.

    Returns:
        Path of the copy's module relative to ``module``; its tensor is called ``value``.
    """
    parametrize.register_parametrization(module, name, ReplacedTensor(getattr(module, name)))
    return f"parametrizations.{name}.0"
