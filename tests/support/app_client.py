"""What tests of the app ask it for."""

import io
import time
from typing import Any

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

ADDRESS = "http://127.0.0.1:7272"


def picture(colour: tuple[int, int, int] = (150, 90, 60), size: tuple[int, int] = (48, 40)) -> bytes:
    """A PNG file with some noise."""
    noise = np.random.default_rng(0).integers(-20, 20, (size[1], size[0], 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    return encoded.getvalue()


def new_job(client: TestClient) -> str:
    answer = client.post("/jobs")
    assert answer.status_code == 201
    return f"/jobs/{answer.json()['id']}"


def upload(client: TestClient, job: str, name: str, content: bytes) -> dict[str, Any]:
    answer = client.post(f"{job}/photos", params={"name": name}, content=content)
    assert answer.status_code == 201, answer.text
    return answer.json()


def finished(client: TestClient, job: str) -> dict[str, Any]:
    """The job's state once nothing is done for it any more."""
    deadline = time.monotonic() + 60
    while True:
        state = client.get(f"{job}/state").json()
        waiting = [item["state"] for item in (state, *state["zips"]) if item["state"] in ("waiting", "working")]
        if not waiting:
            return state
        assert time.monotonic() < deadline, state
        time.sleep(0.02)
