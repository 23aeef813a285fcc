"""Serving the page: on this machine alone, telling nobody, writing nothing."""

import gc
import logging
import os
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace
from cifar_pipeline.serving.photographs import STRICT

EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104  # known, not chosen
PAGES = "pages"
"""Where the pages of reports, leaderboard and ledger are served."""
LARGEST = -(-STRICT.bytes // 2**20)
"""Uploads of more MiB are refused before they are read; those above STRICT get a sentence."""
SETTINGS = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    # Another filter leads back to the first page.
    "global.disableWidgetStateDuplicationWarning": True,
    # It asks an address of Amazon's for this machine's own.
    "logger.hideWelcomeMessage": True,
    "runner.magicEnabled": False,
    "server.fileWatcherType": "none",
    "server.headless": True,
    "server.maxUploadSize": LARGEST,
    "theme.headingFontSizes": ["1.9rem", "1.5rem", "1.25rem", "1rem", "1rem", "1rem"],
    "theme.light.primaryColor": "#2a6fc9",
    "theme.dark.primaryColor": "#6da8f0",
}
WENT_WRONG = "Something went wrong here, and not with your file. The server's log has the details."


def serve(host: str, port: int, *, open_browser: bool = False) -> None:
    """Serve the page until the process is stopped.

    Raises: PipelineError when Streamlit is not installed.
    """
    # Arrow's own pool keeps twice the table's memory for good.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    try:
        import streamlit as st  # noqa: PLC0415  # an extra
        from starlette.formparsers import MultiPartParser  # noqa: PLC0415
    except ModuleNotFoundError:
        raise PipelineError(
            "the page needs Streamlit, which is not installed; install it with "
            "`pip install 'cifar-pipeline[app]'`, or in a checkout with `make setup`"
        ) from None
    # The first visitor should not wait for what these import.
    from cifar_pipeline.reports import browsing, standings  # noqa: F401, PLC0415
    from cifar_pipeline.serving import predictor  # noqa: F401, PLC0415

    # Streamlit has Python look for garbage after every run; among the modules there is none, but
    # looking there took most of the time that a visitor waited.
    gc.collect()
    gc.freeze()
    # Larger uploads would be spooled to a temporary file on their way into memory.
    MultiPartParser.spool_max_size = (LARGEST + 1) * 2**20

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        address = f"http://{'localhost' if host in EVERY_ADDRESS else host}:{port}"
        print(f"The page is at {address}; Ctrl+C ends it.", flush=True)
        if open_browser:
            webbrowser.open(address)
        yield

    app = st.App(
        Path(__file__).with_name("page.py"),
        lifespan=lifespan,
        routes=_reports(Workspace.current()),
        on_script_error=_told,
    )
    app.run(config={**SETTINGS, "server.address": host, "server.port": port})


def _reports(home: Workspace) -> list[Any]:
    """What the leaderboard links to."""
    from starlette.routing import Mount  # noqa: PLC0415  # comes with Streamlit
    from starlette.staticfiles import StaticFiles  # noqa: PLC0415

    folders = {"reports": home.reports, "leaderboard": home.leaderboard, "ledger": home.ledger}
    return [
        Mount(f"/{PAGES}/{name}", StaticFiles(directory=folder, html=True, check_dir=False))
        for name, folder in folders.items()
    ]


def _told(error: Exception) -> bool:
    import streamlit as st  # noqa: PLC0415

    logging.getLogger(__name__).error("the page failed", exc_info=error)
    st.error(WENT_WRONG)
    return True
