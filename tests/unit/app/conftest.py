"""The app without a port, with a small model that was never trained."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import small_run
from app_client import ADDRESS
from starlette.testclient import TestClient

from neuropbr_core.app.limits import Limits
from neuropbr_core.app.making import Offer, offers
from neuropbr_core.app.site import Site
from neuropbr_core.inference import Effort, LoadedGenerator, load_generator

MakeSite = Callable[..., Site]


@pytest.fixture(scope="session")
def plain_model(tmp_path_factory: pytest.TempPathFactory) -> LoadedGenerator:
    """A model that takes photos as they are, so that any picture will do."""
    return load_generator(
        small_run.save_run(tmp_path_factory.mktemp("plain"), small_run.small_recipe(*small_run.PLAIN))
    )


@pytest.fixture(scope="session")
def matching_model(tmp_path_factory: pytest.TempPathFactory) -> LoadedGenerator:
    """A model that takes aligned photos, which have to be registered."""
    recipe = small_run.small_recipe(*small_run.ALIGNED, "data.alignment=estimated")
    return load_generator(small_run.save_run(tmp_path_factory.mktemp("matching"), recipe))


@pytest.fixture(scope="session")
def offered() -> list[Offer]:
    """The installed packagers, which are built once to save time."""
    return offers()


@pytest.fixture
def make_site(tmp_path: Path, plain_model: LoadedGenerator, offered: list[Offer]) -> MakeSite:
    """A maker of sites whose files are in `tmp_path/app`."""

    def make(
        model: LoadedGenerator | None = None,
        limits: Limits | None = None,
        offers_of_site: list[Offer] | None = None,
        **options: Any,
    ) -> Site:
        folder = tmp_path / "app"
        folder.mkdir()
        return Site(
            model or plain_model, Effort(), folder, offers_of_site or offered, port=7272, limits=limits, **options
        )

    return make


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site()


@pytest.fixture
def client(site: Site) -> Iterator[TestClient]:
    with TestClient(site.application, base_url=ADDRESS) as opened:
        yield opened
