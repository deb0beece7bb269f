"""`neuropbr list-models`: the trained models that ship with the package."""

import click

from neuropbr_core.cli.output import aligned, command, result, result_json
from neuropbr_core.shipped import CARD, DEFAULT_MODEL, model_names, shipped_model


@command("list-models", short_help="List the models that ship with neuropbr.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_models(as_json: bool) -> None:
    """List the models that ship with neuropbr.

    `neuropbr infer` uses the one with a star unless --model or --run names another. Each model's card says what it was
    trained on, how large its errors are, and what it cannot do.
    """
    models = [shipped_model(name) for name in model_names()]
    if as_json:
        rows = []
        for model in models:
            is_default = model.name == DEFAULT_MODEL
            card = str(model.folder / CARD)
            rows.append({**model._asdict(), "folder": str(model.folder), "card": card, "default": is_default})
        result_json(rows)
        return
    table = [("NAME", "LICENCE", "SUMMARY")]
    for model in models:
        star = ""
        if model.name == DEFAULT_MODEL:
            star = "*"
        table.append((model.name + star, model.license, model.summary))
    result(aligned(table))
    for model in models:
        result(f"{model.name}: {model.folder / CARD}")
