"""`neuropbr app`: photos in a browser, maps out."""

from importlib.util import find_spec

import click

from neuropbr_core.cli.chosen_model import load_chosen, model_options
from neuropbr_core.cli.output import command, result
from neuropbr_core.cli.refining import chosen_steps, refine_option
from neuropbr_core.errors import NeuroPBRError
from neuropbr_core.reporting import reporter

_NEEDED = ("starlette", "uvicorn")


@command()
@model_options
@refine_option
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="The port; 0 for any free one.  [default: 7272 or the next]",
)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="The address to listen at.")
@click.option("--allow-network", is_flag=True, help="Let other machines in, for a --host that they can reach.")
@click.option(
    "--keep",
    default=60.0,
    show_default=True,
    type=click.FloatRange(1),
    metavar="MINUTES",
    help="Remove materials that nobody has looked at for so long.",
)
@click.option("--open", "opens_browser", is_flag=True, help="Open the page in the browser.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps; for a run.")
def app(  # noqa: PLR0913 - one parameter an option
    *,
    run_folder: str | None,
    checkpoint: str,
    model: str | None,
    exporter: str | None,
    trust: bool,
    refine_steps: int | None,
    port: int | None,
    host: str,
    allow_network: bool,
    keep: float,
    opens_browser: bool,
    device: str,
) -> None:
    """Make materials in the browser.

    The page takes photos of one material, shows which of them could be matched, the progress and a preview, and offers
    packages as a zip file. All of it happens on this machine: the page asks nothing of others, and pages of others
    cannot use it. Photos and maps are in a temporary folder that is removed at the end. Ctrl-C ends the app.

    Several people, or several tabs, may use it at a time; their materials are predicted one after the other.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        verb = "is"
        if len(missing) > 1:
            verb = "are"
        raise NeuroPBRError(f"{' and '.join(missing)} {verb} not installed; pip install 'neuropbr[app]'")
    if run_folder and model:
        raise click.UsageError("give either --run DIR or --model NAME|FILE")
    from neuropbr_core.app.guard import is_loopback
    from neuropbr_core.app.limits import Limits
    from neuropbr_core.app.serving import open_port, serve
    from neuropbr_core.inference import Effort

    if not is_loopback(host) and not allow_network:
        raise click.UsageError(
            f"--host {host}: other machines could reach the app, which asks for no password; add --allow-network if "
            f"all of them may use it"
        )
    # The port before the model, which takes longer.
    opened = open_port(host, port)
    with opened:
        loaded = load_chosen(run_folder, checkpoint, model, exporter, device, trust=trust)
        effort = Effort(refine=chosen_steps(refine_steps, loaded, None, None))
        result(f"model {loaded.origin}")
        if not is_loopback(host):
            reporter().warning(
                "everybody in the network can use this app, see what is sent to it, and use this machine's processors"
            )
        serve(
            loaded,
            effort,
            opened,
            limits=Limits(kept_seconds=60 * keep),
            network=not is_loopback(host),
            opens_browser=opens_browser,
            tell=lambda address: result(f"open {address} in a browser; Ctrl-C ends"),
        )
