"""The app's addresses, and what they answer.

Answers are JSON; an error is `{"error": TEXT}`. Nothing of an address becomes a path: jobs, photos and zip files are
looked up, and the files of the page are in a table.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from neuropbr_core.app.guard import Guard
from neuropbr_core.app.jobs import Job, Jobs, Photo, Refused, as_refusal
from neuropbr_core.app.limits import Limits
from neuropbr_core.app.making import Offer, make_maps, make_zip, order_zip, start
from neuropbr_core.app.page import ASSETS, write_gone_page, write_page
from neuropbr_core.app.photos import discard, examine, refuse, store_upload
from neuropbr_core.app.queues import WorkQueue
from neuropbr_core.files import remove
from neuropbr_core.inference.effort import Effort
from neuropbr_core.inference.predict import ExportedGenerator, LoadedGenerator
from neuropbr_core.outputs import material_name

_LOOK_SECONDS = 0.2
"""Between two looks at a job for its page: a bar that moves more often cannot be read."""
_SILENCE_SECONDS = 15.0
"""After which a line without content is sent, by which both sides notice a connection that is gone."""
_SWEEP_SECONDS = 20.0
_DECODERS = 2
"""Photos that are decoded at a time: each takes as much memory as it has pixels."""

Handler = Callable[[Request], Awaitable[Response]]


class Site:
    """The app without a port.

    Args:
        model: The model that all jobs use.
        effort: How maps are predicted.
        folder: An empty folder for the jobs; it is removed at the end.
        offered: Packages that can be chosen.
        port: The port that the app is reached at.
        limits: How much is accepted.
        network: Whether other machines may use the app.
    """

    def __init__(
        self,
        model: LoadedGenerator | ExportedGenerator,
        effort: Effort,
        folder: Path,
        offered: list[Offer],
        *,
        port: int,
        limits: Limits | None = None,
        network: bool = False,
    ) -> None:
        self.jobs = Jobs(folder)
        self.limits = limits or Limits()
        self._model = model
        self._effort = effort
        self._folder = folder
        self._offered = offered
        # Two queues: a zip file does not wait for the maps of other people, which take much longer.
        self._predictions = WorkQueue("predictions")
        self._packages = WorkQueue("packages")
        self._decoding = asyncio.Semaphore(_DECODERS)
        self._ends = False
        self._page = write_page(model, offered, self.limits)
        routes = [
            Route("/", self._answer(self._show)),
            Route("/assets/{name}", self._answer(self._asset)),
            Route("/jobs", self._answer(self._create), methods=["POST"]),
            Route("/jobs/{job}", self._answer(self._show)),
            Route("/jobs/{job}", self._answer(self._remove), methods=["DELETE"]),
            Route("/jobs/{job}/state", self._answer(self._state)),
            Route("/jobs/{job}/events", self._answer(self._events)),
            Route("/jobs/{job}/photos", self._answer(self._upload), methods=["POST"]),
            Route("/jobs/{job}/photos/{number:int}", self._answer(self._thumbnail)),
            Route("/jobs/{job}/photos/{number:int}", self._answer(self._leave_out), methods=["DELETE"]),
            Route("/jobs/{job}/start", self._answer(self._start), methods=["POST"]),
            Route("/jobs/{job}/preview", self._answer(self._preview)),
            Route("/jobs/{job}/zips", self._answer(self._order), methods=["POST"]),
            Route("/jobs/{job}/zips/{key}", self._answer(self._download)),
        ]
        guard = Middleware(Guard, port=port, network=network)
        self.application = Starlette(routes=routes, middleware=[guard], lifespan=self._lifespan)

    def end(self) -> None:
        """Let open streams and uploads end soon; may be called from a signal handler, which must wait for no lock."""
        self._ends = True

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        def close() -> None:
            self._predictions.close()
            self._packages.close()
            remove(self._folder)

        sweeper = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            sweeper.cancel()
            self.end()
            for job in self.jobs:
                job.stopped = True
            # Here and not after the server: a signal that ends the process is raised again when the server is through.
            await run_in_threadpool(close)

    async def _sweep(self) -> None:
        """Remove jobs that nobody has looked at for some time."""
        while True:
            await asyncio.sleep(min(_SWEEP_SECONDS, self.limits.kept_seconds))
            # An app of another host that shares the disk sees by the time that the folder is not abandoned.
            with suppress(OSError):
                os.utime(self._folder)
            for job in self.jobs.expired(self.limits.kept_seconds):
                await run_in_threadpool(self.jobs.remove, job)

    def _answer(self, handler: Handler) -> Handler:
        """The handler, whose errors become answers."""

        @wraps(handler)
        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except ClientDisconnect:
                return Response(status_code=400)  # nobody reads it
            except Exception as error:  # Starlette's own answer would be no JSON, and without the guard's headers
                refusal = self._refusal(request, error)
                return JSONResponse({"error": str(refusal)}, refusal.status)

        return answer

    def _refusal(self, request: Request, error: Exception) -> Refused:
        if not isinstance(error, Refused) and "job" in request.path_params:
            # A job that was removed meanwhile has taken its files with it.
            try:
                self._job(request)
            except Refused as gone:
                return gone
        return as_refusal(error)

    def _job(self, request: Request) -> Job:
        return self.jobs.find(request.path_params["job"])

    async def _show(self, request: Request) -> Response:
        if "job" in request.path_params:
            try:
                self._job(request)
            except Refused as refusal:
                return HTMLResponse(write_gone_page(str(refusal)), refusal.status)
        return HTMLResponse(self._page)

    async def _asset(self, request: Request) -> Response:
        path = ASSETS.get(request.path_params["name"])
        if path is None:
            raise Refused(404, "The page has no such file.")
        return FileResponse(path)

    async def _create(self, request: Request) -> Response:  # noqa: ARG002 - the signature is Starlette's
        job = self.jobs.create(self.limits.jobs)
        return JSONResponse(self._snapshot(job), 201)

    async def _remove(self, request: Request) -> Response:
        await run_in_threadpool(self.jobs.remove, self._job(request))
        return Response(status_code=204)

    async def _state(self, request: Request) -> Response:
        return JSONResponse(self._snapshot(self._job(request)))

    async def _events(self, request: Request) -> Response:
        return StreamingResponse(self._stream(self._job(request), request), media_type="text/event-stream")

    async def _stream(self, job: Job, request: Request) -> AsyncIterator[str]:
        """Send the job's state whenever it changed, until nothing is done for it any more."""
        shown: dict[str, Any] = {}
        silence = 0.0
        while not (self._ends or job.stopped):
            # Before the snapshot: work that ends between the two is then shown once more, and not missed.
            is_busy = job.is_busy
            snapshot = self._snapshot(job)
            if snapshot != shown:
                yield f"data: {json.dumps(snapshot)}\n\n"
                shown = snapshot
                silence = 0.0
            if not is_busy:
                yield "event: rest\ndata: \n\n"
                return
            if silence >= _SILENCE_SECONDS:
                yield ": still here\n\n"
                silence = 0.0
            if await request.is_disconnected():
                return
            await asyncio.sleep(_LOOK_SECONDS)
            silence += _LOOK_SECONDS

    def _snapshot(self, job: Job) -> dict[str, Any]:
        """A job's state with its places in the queues."""
        snapshot = job.snapshot()
        snapshot["before"] = self._predictions.before(job.id)
        for archive in snapshot["zips"]:
            archive["before"] = self._packages.before(f"{job.id}/{archive['key']}")
        return snapshot

    async def _upload(self, request: Request) -> Response:
        job = self._job(request)
        name = request.query_params.get("name", "")
        try:
            photo, path = await store_upload(job, name, self._chunks(request), self.limits)
            if path is not None:
                await self._examine(job, photo, path)
        finally:
            # Once more, since the upload may have written after the job was removed.
            if job.stopped:
                remove(job.folder)
        # A refused photo is a part of the job too: the page shows it with its reason.
        return JSONResponse(photo.snapshot(), 201)

    async def _examine(self, job: Job, photo: Photo, path: Path) -> None:
        """Look at a photo that was stored, and refuse it whatever goes wrong: until then, the job cannot be started."""
        size = path.stat().st_size
        problem = "was not looked at; add it again"  # the request was cancelled
        try:
            async with self._decoding:
                await run_in_threadpool(examine, job, photo, path, self.limits, self._model.signature.photo_size)
        except Exception as error:  # decoders raise whatever they like
            if isinstance(error, Refused) or job.stopped:
                raise
            problem = str(as_refusal(error)).replace(str(path), photo.name)
        finally:
            if photo.state == "uploading":
                discard(job, path, size)
                refuse(job, photo, problem)

    async def _chunks(self, request: Request) -> AsyncIterator[bytes]:
        """The content of a request, as long as more of it arrives and the app does not end.

        Raises:
            ClientDisconnect: The browser is gone, or says nothing any more.
        """
        stream = request.stream()
        while True:
            chunk = asyncio.ensure_future(anext(stream, None))
            silence = 0.0
            while not chunk.done():
                # A phone that leaves the network does not close its connection.
                if self._ends or silence >= self.limits.silence_seconds:
                    chunk.cancel()
                    raise ClientDisconnect
                await asyncio.wait([chunk], timeout=_LOOK_SECONDS)
                silence += _LOOK_SECONDS
            content = chunk.result()
            if content is None:
                return
            yield content

    async def _thumbnail(self, request: Request) -> Response:
        photo = self._job(request).photos.get(request.path_params["number"])
        if photo is None or not photo.thumbnail:
            raise Refused(404, "There is no such photo.")
        return Response(photo.thumbnail, media_type="image/jpeg")

    async def _leave_out(self, request: Request) -> Response:
        job = self._job(request)
        with job.lock:
            if not job.is_open:
                raise Refused(409, "These photos are being worked on already.")
            photo = job.photos.pop(request.path_params["number"], None)
            if photo is None:
                raise Refused(404, "There is no such photo.")
            if photo.path is not None:
                discard(job, photo.path, photo.path.stat().st_size)
            job.change()
        return JSONResponse(self._snapshot(job))

    async def _start(self, request: Request) -> Response:
        job = self._job(request)
        values = await self._read(request)
        name = values.get("name", "")
        first = values.get("first")
        # A truth value is a number for Python.
        if not isinstance(name, str) or not isinstance(first, int | None) or isinstance(first, bool):
            raise Refused(400, "A start has a name, which is text, and the number of the first photo.")
        start(job, name, first)
        self._predictions.put(job.id, lambda: make_maps(job, self._model, self._effort, self.limits))
        return JSONResponse(self._snapshot(job), 202)

    async def _preview(self, request: Request) -> Response:
        job = self._job(request)
        if job.state != "done":
            raise Refused(409, "There are no maps yet.")
        return FileResponse(job.preview_file, media_type="text/html; charset=utf-8")

    async def _order(self, request: Request) -> Response:
        job = self._job(request)
        values = await self._read(request)
        targets = values.get("targets")
        tileable = values.get("tileable", False)
        is_list = isinstance(targets, list) and all(isinstance(name, str) for name in targets)
        if not is_list or not isinstance(tileable, bool):
            raise Refused(400, "An order has targets, which is a list of names, and tileable, which is true or false.")
        archive, is_new = order_zip(job, targets or [], self._offered, tileable, self.limits)
        if is_new:
            self._packages.put(f"{job.id}/{archive.key}", lambda: make_zip(job, archive))
        return JSONResponse(self._snapshot(job), 202)

    async def _download(self, request: Request) -> Response:
        job = self._job(request)
        archive = job.zips.get(request.path_params["key"])
        if archive is None or archive.state != "done":
            raise Refused(404, "There is no such zip file, or it is not complete yet.")
        name = f"{material_name(job.name)}_{'_'.join(archive.targets)}.zip"
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}
        return FileResponse(archive.path, media_type="application/zip", headers=headers)

    async def _read(self, request: Request) -> dict[str, Any]:
        """The JSON object that a request holds."""
        body = b""
        async for chunk in self._chunks(request):
            body += chunk
            if len(body) > self.limits.body_bytes:
                raise Refused(413, f"The request is larger than {self.limits.body_bytes} bytes.")
        with suppress(ValueError, RecursionError):
            values = json.loads(body)
            if isinstance(values, dict):
                return values
        raise Refused(400, "The request is no JSON object.")
