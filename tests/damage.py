"""Ways to change what is in an adapter folder: an adapter's two files, or a head's."""

from dataclasses import dataclass

import yaml
from safetensors.torch import load_file, save_file

from upstream_elp.base.files import sha256_of


@dataclass(frozen=True)
class Files:
    """Names of a configuration and of the tensors that belong to it."""

    config: str
    tensors: str

    def change_config(self, change):
        """Change the configuration's content."""

        def damage(folder):
            raw = yaml.safe_load((folder / self.config).read_text())
            change(raw)
            (folder / self.config).write_text(yaml.safe_dump(raw))

        return damage

    def change_tensors(self, change):
        """Change the tensors and the checksum in the configuration, as an attacker would."""

        def damage(folder):
            save_file(change(load_file(folder / self.tensors)), folder / self.tensors)
            self.change_config(lambda raw: raw.update(tensors_sha256=sha256_of(folder / self.tensors)))(folder)

        return damage

    def change_bytes(self, change):
        """Change the bytes of the tensor file and nothing else."""

        def damage(folder):
            (folder / self.tensors).write_bytes(change((folder / self.tensors).read_bytes()))

        return damage
