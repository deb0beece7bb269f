"""`neuropbr data`: render, import and check datasets."""

import click

from neuropbr_core.cli.data_align import align
from neuropbr_core.cli.data_check import check, restore
from neuropbr_core.cli.data_import import import_
from neuropbr_core.cli.data_merge import merge
from neuropbr_core.cli.data_pack import pack
from neuropbr_core.cli.data_procedural import procedural
from neuropbr_core.cli.data_synthesize import synthesize
from neuropbr_core.cli.lazy import Group


@click.group(cls=Group)
def data() -> None:
    """Render, import and check datasets."""


data.add_command(synthesize)
data.add_command(merge)
data.add_command(align)
data.add_command(check)
data.add_command(restore)
data.add_command(import_)
data.add_command(procedural)
data.add_command(pack)
